/*
 * A survey finds the thresholds of a plan's calibrations: it says, pass after pass over the data,
 * what to observe in the float graph, and turns what was seen into thresholds by any of its
 * candidates (spec §2). All candidates share the passes.
 */
#ifndef PTQ_WORKER_QUANT_SURVEY_H
#define PTQ_WORKER_QUANT_SURVEY_H

#include "worker/quant/observe.h"
#include "worker/quant/resolve.h"

struct survey;
/* r, c and m must outlive it. ERR_UNSUPPORTED for what is not built. */
struct survey *survey_new(const struct resolved *r, const struct quant_config *c,
                          const struct march *m, int n_samples);
void survey_free(struct survey *s);

/* What the next pass is to observe; NULL when everything is known. */
const struct observe_want *survey_next(struct survey *s);
/* The end of that pass; takes `seen`, which was made for the want. ERR_BAD_DATA names a tensor
 * that holds NaN. */
int survey_take(struct survey *s, struct seen_all *seen, struct err *e);

/* The plan with all thresholds, by one candidate; its graph is a copy with other constants where
 * weights are compensated. Thresholds that had to be repaired (infinite, or
 * not above zero) are told in warnings (an array of strings, or NULL). */
int survey_plan(const struct survey *s, const struct calib_method *method, struct arena *a,
                json_t *warnings, struct plan **ret, struct err *e);

/* The same with a method of its own for some calibrations: own[k] is a candidate's number, or -1
 * for `method`. What a Concat ties must have one. */
int survey_plan_each(const struct survey *s, const struct calib_method *method, const int *own,
                     struct arena *a, json_t *warnings, struct plan **ret, struct err *e);
/* When all passes are done: goes on with another resolution of the same graph and configuration,
 * which must outlive it too. */
void survey_resolved(struct survey *s, const struct resolved *r);

/* ---- kl.c: thresholds from a histogram of even bins; counts has `bins` elements ---- */
float kl_threshold(const int64_t *counts, int bins, float width, float max);
float mse_threshold(const int64_t *counts, int bins, float width, float max);

#endif
