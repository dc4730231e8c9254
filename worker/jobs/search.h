/* The choice among calibration methods: over the model (jobs/search.c), and then for single
 * activations (jobs/layers.c). All plans come from one survey: no further pass over the data. */
#ifndef PTQ_WORKER_JOBS_SEARCH_H
#define PTQ_WORKER_JOBS_SEARCH_H

#include "worker/jobs/calibration.h"
#include "worker/quant/survey.h"

/* The best of the configuration's candidates: those per tensor first, those with a scale a channel
 * only when none of them is enough. c->search tells the scores, null when there is one candidate.
 */
int search_model(struct job *j, struct calibration *c, const struct survey *survey,
                 const struct quant_config *q, int *ret_best, struct err *e);

/* What the search per layer decides. */
struct layers {
    struct resolved *resolved; /* with the types that were raised */
    int *own;                  /* per calibration of its plan: its candidate, or -1: the best */
};
/*
 * Each activation alone under candidate `best`, on the first sample; the worst get the type that
 * the configuration says and the method that scores best. Adds "layers" to c->search. The survey
 * goes on with ret->resolved, which lives in the job's arena.
 */
int search_layers(struct job *j, struct calibration *c, struct survey *survey,
                  struct quant_config *q, const struct march *march, const struct resolved *r,
                  int best, struct layers *ret, struct err *e);

#endif
