/* Bias correction (spec §2): node by node, measured on a few samples. */
#ifndef PTQ_WORKER_JOBS_CORRECT_H
#define PTQ_WORKER_JOBS_CORRECT_H

#include "worker/jobs/calibration.h"
#include "worker/quant/config.h"

/*
 * For every Conv and ConvTranspose in topological order, under the whole plan and the corrections
 * so far: the mean over N, H, W of (float output − quantized output) is added to its bias if the
 * metric of its output becomes better by that; all corrections are kept only if the metric over the
 * graph's outputs does. Then c->plan is another on a graph of its own. c->bias tells it.
 */
int correct_biases(struct job *j, struct calibration *c, const struct quant_config *q,
                   struct err *e);

#endif
