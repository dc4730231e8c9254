/*
 * A sample through the float graph and through a plan, output by output: the task that scores
 * calibration methods and evaluates models.
 */
#ifndef PTQ_WORKER_JOBS_COMPARE_H
#define PTQ_WORKER_JOBS_COMPARE_H

#include "worker/jobs/job.h"
#include "worker/jobs/labels.h"
#include "worker/jobs/runner.h"
#include "worker/quant/metrics.h"

/* What a sample shows. */
struct compared {
    const int32_t (*top)[LABELS_TOP];  /* of the labels' output in float, quantized */
    const struct area *const *areas;   /* the same of a map: classes each */
    const struct metric_sums *outputs; /* one a graph output */
};

struct compare {
    const struct graph *graph;
    const struct graph *exact; /* what it is compared with; NULL: the same graph in float */
    const struct dataset *data;
    int n_plans, n_samples; /* tasks: every plan on the first n_samples, plan after plan */
    const struct plan *const *plans;
    const struct labels *labels; /* what they say is told too; NULL: nothing */
    /* Called in order; non-zero stops. */
    int (*take)(void *ctx, int plan, int sample, const struct compared *c, struct err *e);
    void *ctx;
};

int compare_run(struct job *j, const struct compare *c, const char *phase, struct err *e);

#endif
