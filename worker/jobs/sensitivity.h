/*
 * Inside of the sensitivity job: sensitivity.c reads what is asked and is the program, rows.c has
 * rows computed, fast.c leaves out samples where they cannot matter, result.c makes means and JSON.
 */
#ifndef PTQ_WORKER_JOBS_SENSITIVITY_H
#define PTQ_WORKER_JOBS_SENSITIVITY_H

#include "worker/exec/sweep.h"
#include "worker/jobs/job.h"
#include "worker/load/dataset.h"
#include "worker/quant/candidates.h"

struct sensitivity {
    struct job *job;
    const struct graph *graph;
    const struct plan *plan;
    const struct dataset *data;
    struct candidates *all;
    enum node_type type;
    enum metric metrics[METRIC_COUNT];
    int n_metrics, n_samples;
    bool verbose, naive, fast;
    uint64_t keep_max, memory;

    int n_unique, *unique; /* candidates that are computed */
    int *row;              /* candidate → its place in `unique` */
    int *seen;             /* unique → samples, the first so many */
    double *scores;        /* sample × unique × output × METRIC_COUNT */
    struct sweep_counts counts;
    json_t *rounds; /* of the fast mode; NULL: none */
};

/* ---- sensitivity_rows.c ---- */

/* Has candidates `which` of `unique` measured on samples first to end - 1. */
int sensitivity_rows(struct sensitivity *s, int first, int end, const int *which, int n_which,
                     struct err *e);

/* ---- sensitivity_fast.c ---- */

int sensitivity_fast(struct sensitivity *s, struct err *e);

/* What is known of a mean after n samples: it lies within at 95 %, by Student's t. */
struct interval {
    double mean, low, high;
};
struct interval sensitivity_interval(const double *scores, int n);

/* ---- sensitivity_result.c ---- */

double *sensitivity_scores(const struct sensitivity *s, int sample, int unique, int output);
/* A candidate's score on one sample: the mean over the outputs that it reaches. */
double sensitivity_score(const struct sensitivity *s, int candidate, int sample, enum metric m);
/* Tells a row by an event, if its number of samples is one of those that are told. */
void sensitivity_tell(const struct sensitivity *s, int unique);
json_t *sensitivity_result(const struct sensitivity *s);

#endif
