/*
 * Metrics between a float and a quantized tensor (spec §5; L1, L2 and Chebyshev distance of §6 are
 * mae, mse and chebyshev). Sums are double and in one order, whatever the machine: eight lanes,
 * element i in lane i mod 8, added up from lane 0 to 7 at the end.
 */
#ifndef PTQ_WORKER_QUANT_METRICS_H
#define PTQ_WORKER_QUANT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

enum metric { M_COSINE, M_MSE, M_MAE, M_MRE, M_SQNR, M_CHEBYSHEV, METRIC_COUNT };

/* One row a metric: its name in options and results, and what is better. */
struct metric_row {
    const char *name;
    bool higher_better;
    const char *text;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

int metric_parse(const char *name, enum metric *ret); /* -1 if unknown */
/* Is a a better score than b? NaN is worse than everything. */
bool metric_better(enum metric m, double a, double b);

enum { METRIC_LANES = 8 };
struct metric_sums {
    int64_t n;      /* elements */
    int64_t n_rel;  /* those with |x| >= 1e-8 */
    double xx, yy;  /* Σx², Σy² */
    double xy;      /* Σxy */
    double dd, ad;  /* Σ(x−y)², Σ|x−y| */
    double rel;     /* Σ|x−y|/|x| over the n_rel */
    double largest; /* max |x−y|; NaN if one is */
};

/* Over n elements of both. The plain one is the reference for the other: the same bits. */
void metric_sum(const float *x, const float *y, int64_t n, struct metric_sums *ret);
void metric_sum_plain(const float *x, const float *y, int64_t n, struct metric_sums *ret);
/* NaN where the formula gives none: NaN in the data, no element, mre without an |x| >= 1e-8. sqnr
 * without any error is +inf. */
double metric_of(enum metric m, const struct metric_sums *s);

/* Minimum, maximum and mean of scores, in the order they come; NaN is left out. */
struct metric_stat {
    int64_t n;
    double min, max, sum;
};
void metric_stat_add(struct metric_stat *s, double v);
double metric_stat_mean(const struct metric_stat *s); /* NaN if there was none */

#endif
