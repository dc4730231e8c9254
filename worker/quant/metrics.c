#include "worker/quant/metrics.h"

#include <math.h>
#include <string.h>

const struct metric_row metric_rows[METRIC_COUNT] = {
    [M_COSINE] = {"cosine-similarity", true, "x·y / (max(‖x‖,1e-8)·max(‖y‖,1e-8))"},
    [M_MSE] = {"mse", false, "mean((x−y)²)"},
    [M_MAE] = {"mae", false, "mean|x−y|"},
    [M_MRE] = {"mre", false, "mean(|x−y|/|x|) over elements with |x| >= 1e-8"},
    [M_SQNR] = {"sqnr", true, "10·log10(‖x‖/‖x−y‖)"},
    [M_CHEBYSHEV] = {"chebyshev", false, "max|x−y|"},
};

int metric_parse(const char *name, enum metric *ret)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        if (!strcmp(metric_rows[i].name, name)) {
            *ret = (enum metric)i;
            return 0;
        }
    return -1;
}

bool metric_better(enum metric m, double a, double b)
{
    if (isnan(a) || isnan(b))
        return !isnan(a) && isnan(b);
    return metric_rows[m].higher_better ? a > b : a < b;
}

struct lanes {
    double xx[METRIC_LANES], yy[METRIC_LANES], xy[METRIC_LANES], dd[METRIC_LANES], ad[METRIC_LANES],
        rel[METRIC_LANES], n_rel[METRIC_LANES], largest[METRIC_LANES];
};

/* One element into lane l. Branch-free, so that the compiler may do eight lanes at once: adding
 * a zero for what does not count changes no bit of a sum that is never negative. */
static inline __attribute__((always_inline)) void add_element(struct lanes *s, int l, float fx,
                                                              float fy)
{
    double x = fx, y = fy, d = fabs(x - y), size = fabs(x);
    double counts = size >= 1e-8 ? 1.0 : 0.0;
    s->xx[l] += x * x;
    s->yy[l] += y * y;
    s->xy[l] += x * y;
    s->dd[l] += d * d;
    s->ad[l] += d;
    s->rel[l] += size >= 1e-8 ? d / size : 0.0;
    s->n_rel[l] += counts;
    s->largest[l] = d > s->largest[l] ? d : s->largest[l];
}

static inline __attribute__((always_inline)) void add_all(struct lanes *s, const float *x,
                                                          const float *y, int64_t n)
{
    int64_t i = 0;
    struct lanes t = *s;
    for (; i + METRIC_LANES <= n; i += METRIC_LANES)
        for (int l = 0; l < METRIC_LANES; l++)
            add_element(&t, l, x[i + l], y[i + l]);
    for (int l = 0; i < n; i++, l++)
        add_element(&t, l, x[i], y[i]);
    *s = t;
}

typedef void lanes_fn(struct lanes *s, const float *x, const float *y, int64_t n);

static void lanes_plain(struct lanes *s, const float *x, const float *y, int64_t n)
{
    add_all(s, x, y, n);
}

#if defined(__x86_64__)
__attribute__((target("avx2"), optimize("O3"))) static void lanes_avx2(struct lanes *s,
                                                                       const float *x,
                                                                       const float *y, int64_t n)
{
    add_all(s, x, y, n);
}

__attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"),
               optimize("O3"))) static void
lanes_avx512(struct lanes *s, const float *x, const float *y, int64_t n)
{
    add_all(s, x, y, n);
}

static lanes_fn *best_lanes(void)
{
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return lanes_avx512;
    return __builtin_cpu_supports("avx2") ? lanes_avx2 : lanes_plain;
}
#else
static lanes_fn *best_lanes(void)
{
    return lanes_plain;
}
#endif

static double add_lanes(const double v[METRIC_LANES])
{
    double sum = 0;
    for (int l = 0; l < METRIC_LANES; l++)
        sum += v[l];
    return sum;
}

static void sum_with(lanes_fn *fn, const float *x, const float *y, int64_t n,
                     struct metric_sums *ret)
{
    struct lanes s = {0};
    fn(&s, x, y, n);
    *ret = (struct metric_sums){
        .n = n,
        .n_rel = (int64_t)add_lanes(s.n_rel),
        .xx = add_lanes(s.xx),
        .yy = add_lanes(s.yy),
        .xy = add_lanes(s.xy),
        .dd = add_lanes(s.dd),
        .ad = add_lanes(s.ad),
        .rel = add_lanes(s.rel),
    };
    for (int l = 0; l < METRIC_LANES; l++)
        ret->largest = s.largest[l] > ret->largest ? s.largest[l] : ret->largest;
    if (isnan(ret->ad))
        ret->largest = NAN;
}

void metric_sum(const float *x, const float *y, int64_t n, struct metric_sums *ret)
{
    sum_with(best_lanes(), x, y, n, ret);
}

void metric_sum_plain(const float *x, const float *y, int64_t n, struct metric_sums *ret)
{
    sum_with(lanes_plain, x, y, n, ret);
}

static double cosine(const struct metric_sums *s)
{
    double nx = sqrt(s->xx), ny = sqrt(s->yy);
    return s->xy / ((nx > 1e-8 ? nx : 1e-8) * (ny > 1e-8 ? ny : 1e-8));
}

double metric_of(enum metric m, const struct metric_sums *s)
{
    if (s->n == 0 || isnan(s->ad))
        return NAN;
    switch (m) {
    case M_COSINE:
        return cosine(s);
    case M_MSE:
        return s->dd / (double)s->n;
    case M_MAE:
        return s->ad / (double)s->n;
    case M_MRE:
        return s->n_rel ? s->rel / (double)s->n_rel : NAN;
    case M_SQNR:
        return s->dd == 0 ? INFINITY : 10 * log10(sqrt(s->xx) / sqrt(s->dd));
    case M_CHEBYSHEV:
        return s->largest;
    case METRIC_COUNT:
        break;
    }
    return NAN;
}

void metric_stat_add(struct metric_stat *s, double v)
{
    if (isnan(v))
        return;
    s->min = s->n == 0 || v < s->min ? v : s->min;
    s->max = s->n == 0 || v > s->max ? v : s->max;
    s->sum += v;
    s->n++;
}

double metric_stat_mean(const struct metric_stat *s)
{
    return s->n ? s->sum / (double)s->n : NAN;
}
