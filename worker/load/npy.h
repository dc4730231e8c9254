/*
 * numpy's .npy files, versions 1.0, 2.0 and 3.0, read strictly: the header is a Python dict with
 * exactly the keys descr, fortran_order and shape; the type is one of bool, int8 … int64, uint8 …
 * uint64, float16, float32, float64, little-endian; the order is C; the data has exactly the
 * bytes that the shape says. Nothing is ever evaluated, and object arrays (pickles) are refused.
 */
#ifndef PTQ_WORKER_LOAD_NPY_H
#define PTQ_WORKER_LOAD_NPY_H

#include "common/buf.h"
#include "worker/load/tensor.h"

enum { NPY_HEADER_MAX = 64 << 10, NPY_RANK_MAX = TENSOR_RANK_MAX };

/* The header in the first len bytes of a file: type and dims into *ret (data NULL), the offset of
 * the data into *ret_offset. ERR_BAD_DATA. */
int npy_header(const void *file, size_t len, struct tensor *ret, size_t *ret_offset, struct err *e);

/* A whole file in memory: ret->data points into it. Data that is not aligned for its type stays
 * where it is: ret_offset tells. */
int npy_parse(void *file, size_t len, struct tensor *ret, size_t *ret_offset, struct err *e);

/* Adds the one header that this tensor's type and dims have: version 1.0, a multiple of 64 bytes,
 * byte for byte what numpy writes. */
int npy_put_header(struct buf *ret, const struct tensor *t, struct err *e);

/* A plain tensor with data into a new file. */
int npy_write(const char *path, const struct tensor *t, struct err *e);

#endif
