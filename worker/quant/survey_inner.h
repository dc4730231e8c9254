/* A survey's memory: survey.c fills it pass by pass, thresholds.c reads it. */
#ifndef PTQ_WORKER_QUANT_SURVEY_INNER_H
#define PTQ_WORKER_QUANT_SURVEY_INNER_H

#include "worker/quant/survey.h"

enum { PERCENTILES_MAX = 64, BIN_TARGETS = 8 };

/* What is known of one calibration's tensor after the passes. */
struct found {
    int upper;          /* its target of the first pass, or -1: constant, or another's thresholds */
    int upper_channels; /* the same per channel, or -1 */
    int n_bins;         /* targets of the last pass: one each num_bin */
    struct bins {
        int num_bin, max_num_bin;
        float width;
        int bins;
        int64_t *counts[SIDE_COUNT]; /* or NULL */
    } bins[BIN_TARGETS];
};

/* A percentile of one channel of a target, from the first pass to its value. */
struct quantile {
    int target, channel;
    enum side side;
    double p;
    int pick; /* of the second pass's target */
    int64_t within;
    uint32_t upper;
    float value;
};

enum pass { PASS_UPPER, PASS_UPPER_AGAIN, PASS_LOWER, PASS_BINS, PASS_DONE };

struct survey {
    struct arena arena;
    const struct resolved *r;
    const struct quant_config *c;
    const struct march *march;
    enum pass pass;
    struct observe_want want;
    int *lower_of, *bins_of, *bins_at; /* target of the pass → target of the first, calib, place */
    struct found *found;               /* n_calibs */
    struct seen_all *seen;             /* of the first pass */
    struct observe_want first;         /* its want */
    int n_percentiles, n_quantiles, quantiles_cap;
    double percentiles[PERCENTILES_MAX];
    struct quantile *quantiles;
};

/* May calibration k have a scale a channel: is it read by Convs' input 0 alone, each with a
 * constant weight of its own? */
bool survey_folds(const struct resolved *r, const struct march *m, int k);
/* The weight calibration that a Conv's port 1 has, for the readers of k. */

#endif
