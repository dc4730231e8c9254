/*
 * All values of a tensor over some samples, before and after quantization, in a child that makes
 * something small of them. A weight calibration: the constant; an activation calibration: its input
 * in the float model and what it makes of that; a node: its output in the float and in the
 * calibrated model.
 */
#ifndef PTQ_WORKER_JOBS_GATHER_H
#define PTQ_WORKER_JOBS_GATHER_H

#include "worker/jobs/debug.h"

struct gathered {
    int64_t n;             /* elements in all; at most 2^31 */
    float *before, *after; /* sample after sample, plain layout */
    struct tensor shape;   /* of each sample; data NULL */
    int samples;           /* 1 for a weight */
};

/*
 * Has one task done for each subject: `reduce` makes JSON of its values (in the child; at most
 * 1 MiB of text), and the results come as a list in the order of the subjects. `what` names the
 * reduction and its own numbers: it is part of the tasks' identity. ERR_MEMORY_LIMIT names a tensor
 * whose values do not fit; ERR_BAD_DATA one that is no float32 or has another shape in each sample.
 */
typedef json_t *gather_reduce(void *ctx, const struct subject *s, const struct gathered *g);
int gather_run(struct debugging *d, const struct subject *subjects, int n, int samples,
               const char *what, gather_reduce *reduce, void *ctx, json_t **ret, struct err *e);

#endif
