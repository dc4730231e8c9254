/* How far a ranking can be trusted: ties, saturation, agreement of metrics, outputs and halves of
 * the samples, and what to do about it in words. */
#ifndef PTQ_WORKER_JOBS_HEALTH_H
#define PTQ_WORKER_JOBS_HEALTH_H

#include <jansson.h>
#include <stdbool.h>

#include "worker/quant/metrics.h"

struct ranking {
    int n, n_outputs, n_samples;
    enum metric first;                   /* that it is sorted by */
    const char *const *names;            /* candidates */
    const char *const *outputs;          /* their names */
    const int *same;                     /* first candidate with the same calibrations */
    const bool *widest;                  /* no calibration of it is below int16 */
    const double (*means)[METRIC_COUNT]; /* candidate */
    const double *per_output;            /* candidate × outputs: of the first metric, NaN: none */
    const double *sqnr;                  /* candidate × outputs, NaN: none */
    const double (*halves[2])[METRIC_COUNT]; /* candidate: over even and odd samples */
};

/* New reference. *ret_worst_output: the output that loses most by sqnr, or -1: there is one only.
 */
json_t *health_json(const struct ranking *r, int *ret_worst_output);

/* Kendall's tau-b of two lists; pairs with a NaN are left out. NaN when a list is all one value. */
double kendall_tau(const double *a, const double *b, int n);

#endif
