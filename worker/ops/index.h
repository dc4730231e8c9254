/* Indices in a tensor, for the gathers and the scatters. */
#ifndef PTQ_WORKER_OPS_INDEX_H
#define PTQ_WORKER_OPS_INDEX_H

#include "worker/ops/walk.h"

struct index_attr {
    int64_t axis, batch_dims;
    const char *reduction;
};

int64_t index_at(const struct tensor *t, int64_t i);
/* The input must be int32 or int64. */
int index_type(const struct op_ctx *c, int input, struct err *e);
int index_bad(const struct op_ctx *c, int input, int64_t value, int64_t dim, struct err *e);
/* Steps `at` through dims in row-major order; how far an offset with these strides moves. */
int64_t index_step(const int64_t *dims, int rank, const int64_t *strides, int64_t *at);
/* The offset of the k-th index tuple of input 1 in dims with these strides; -1 = an error. */
int64_t index_tuple(const struct op_ctx *c, int64_t k, const int64_t *dims, const int64_t *strides,
                    struct err *e);

#endif
