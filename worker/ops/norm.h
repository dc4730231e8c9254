/*
 * What normalizations share: y = (x - mean) * factor * scale + bias, where mean and factor belong
 * to a group of elements. What a group is, is a matter of strides: the statistics are a walk over
 * the input and two sums, the result is a walk over the input, the statistics and the parameters.
 * Everything is summed and computed in double.
 */
#ifndef PTQ_WORKER_OPS_NORM_H
#define PTQ_WORKER_OPS_NORM_H

#include "worker/ops/walk.h"

/* The walk of a node: dims (channels may be split in two), and each part's strides in them. */
struct norm {
    int rank;
    int64_t dims[WALK_RANK_MAX], in[WALK_RANK_MAX], out[WALK_RANK_MAX];
    int64_t group[WALK_RANK_MAX], scale[WALK_RANK_MAX], bias[WALK_RANK_MAX];
    int64_t groups;
    double *mean, *factor; /* groups each */
    const double *scales, *biases;
};

enum deviation { BY_VARIANCE, BY_STD, BY_SQUARE };

/* Asks for the scratch that `groups` groups and all parameters need. */
int norm_room(struct op_ctx *c, int64_t groups, const void **ret_prep);
/* Dims and strides of the data; the strides of groups and parameters are 0 yet. */
void norm_init(struct norm *m, const struct op_ctx *c);
/* Places the groups' numbers in the scratch, all 0. */
void norm_groups(struct norm *m, const struct op_ctx *c, int64_t groups);
/* Input i as doubles, behind what was used of the parameters' room. */
const double *norm_param(const struct norm *m, const struct op_ctx *c, int i, int64_t *used);
/* mean: sums, factor: sums of squares. */
void norm_sums(struct norm *m, const struct op_ctx *c);
/* factor: sums of absolute values. */
void norm_absolutes(struct norm *m, const struct op_ctx *c);
/* Sums over `count` elements become means and factors: 1/sqrt(var + eps), 1/(std + eps), or
 * 1/sqrt(mean square + eps) with a mean of 0. */
void norm_moments(struct norm *m, double count, double eps, enum deviation by);
/* The result. Returns 0. */
int norm_apply(struct norm *m, const struct op_ctx *c);

#endif
