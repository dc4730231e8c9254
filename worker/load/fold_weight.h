/*
 * A Conv's weight behind an activation with one scale a channel (spec §2): files hold w·r, graphs
 * hold w. r has one element per input channel, all groups together; weight[o, j] takes the r of
 * channel group(o)·Cin/groups + j.
 */
#ifndef PTQ_WORKER_LOAD_FOLD_WEIGHT_H
#define PTQ_WORKER_LOAD_FOLD_WEIGHT_H

#include "worker/load/tensor.h"

/* w·r in float32. ERR_BAD_MODEL if r does not fit the weight. */
int fold_weight(const struct tensor *w, const float *r, int n_r, struct arena *a,
                struct tensor *ret, struct err *e);
/* The w that gives `folded` when it is multiplied by r, bit for bit where there is one. */
int unfold_weight(const struct tensor *folded, const float *r, int n_r, struct arena *a,
                  struct tensor *ret, struct err *e);

#endif
