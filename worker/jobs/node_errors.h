/*
 * How far the output of every node is from float, under plans: both graphs run side by side on a
 * sample. The float outputs are kept for that, as many at a time as fit a budget; a graph that
 * needs more is run again for the rest.
 */
#ifndef PTQ_WORKER_JOBS_NODE_ERRORS_H
#define PTQ_WORKER_JOBS_NODE_ERRORS_H

#include "worker/jobs/job.h"
#include "worker/load/dataset.h"
#include "worker/quant/metrics.h"
#include "worker/quant/plan.h"

struct node_errors {
    const struct graph *graph;
    const struct dataset *data;
    int n_plans, n_samples; /* tasks: every plan on the first n_samples, plan after plan */
    const struct plan *const *plans;
    /* Called in order; non-zero stops. sums[node] is about its first output; n 0: that is no
     * float32, or its shape depends on its values and differs. */
    int (*take)(void *ctx, int plan, int sample, const struct metric_sums *sums, struct err *e);
    void *ctx;
};

/* ERR_LIMIT for a graph of more nodes than a task's result can tell of. */
int node_errors_run(struct job *j, const struct node_errors *n, const char *phase, struct err *e);

#endif
