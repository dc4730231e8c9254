/*
 * The fast mode, only when asked for: successive halving. All candidates see a few samples; then,
 * each time the number of samples doubles, those are left behind whose score lies on the harmless
 * side of the middle one at 95 % confidence. Each row tells how many samples it saw and between
 * what its score lies.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/jobs/sensitivity.h"

enum { FIRST_SAMPLES = 4, KEPT_MIN = 8, T_ROWS = 30 };

/* Student's t, two-sided 95 %, by degrees of freedom. */
static double t_quantile(int df)
{
    static const double t[T_ROWS + 1] = {
        NAN,    12.706, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
        2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796,
        2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423};
    return df <= T_ROWS ? t[df] : 1.96 + 2.4 / df;
}

struct interval sensitivity_interval(const double *scores, int n)
{
    double sum = 0, squares = 0;
    int known = 0;
    for (int i = 0; i < n; i++)
        if (isfinite(scores[i])) {
            sum += scores[i];
            known++;
        }
    double mean = sum / known;
    for (int i = 0; i < n; i++)
        if (isfinite(scores[i]))
            squares += (scores[i] - mean) * (scores[i] - mean);
    if (known < 2)
        return (struct interval){mean, -INFINITY, INFINITY};
    double half = t_quantile(known - 1) * sqrt(squares / (known - 1) / known);
    return (struct interval){mean, mean - half, mean + half};
}

struct standing {
    int unique;
    struct interval at; /* larger is worse */
};

static struct standing stand(const struct sensitivity *s, int unique)
{
    enum metric m = s->metrics[0];
    int n = s->seen[unique];
    double *v = xcalloc((size_t)n + 1, sizeof *v);
    for (int i = 0; i < n; i++) {
        v[i] = sensitivity_score(s, s->unique[unique], i, m);
        if (metric_rows[m].higher_better)
            v[i] = -v[i];
    }
    struct standing ret = {unique, sensitivity_interval(v, n)};
    free(v);
    return ret;
}

static int worst_first(const void *a, const void *b)
{
    const struct standing *p = a, *q = b;
    bool x = isnan(p->at.mean), y = isnan(q->at.mean);
    if (x != y)
        return x ? 1 : -1;
    if (!x && p->at.mean != q->at.mean)
        return p->at.mean > q->at.mean ? -1 : 1;
    return p->unique - q->unique;
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Leaves in `which` those that may still be among the worse half. */
static int survivors(const struct sensitivity *s, int *which, int n)
{
    int kept = 0, half = n / 2;
    struct standing *list = xcalloc((size_t)n + 1, sizeof *list);
    for (int i = 0; i < n; i++)
        list[i] = stand(s, which[i]);
    qsort(list, (size_t)n, sizeof *list, worst_first);
    double middle = list[half].at.mean;
    for (int i = 0; i < n; i++)
        if (i < half || i < KEPT_MIN || !(list[i].at.high < middle))
            which[kept++] = list[i].unique;
    free(list);
    qsort(which, (size_t)kept, sizeof *which, ascending); /* in the order of the graph */
    return kept;
}

int sensitivity_fast(struct sensitivity *s, struct err *e)
{
    int *which = xcalloc((size_t)s->n_unique + 1, sizeof *which), n = s->n_unique, rc = 0;
    for (int i = 0; i < n; i++)
        which[i] = i;
    s->rounds = json_array();
    for (int first = 0, end; first < s->n_samples && !rc; first = end) {
        end = first ? 2 * first : FIRST_SAMPLES;
        end = end < s->n_samples ? end : s->n_samples;
        json_array_append_new(s->rounds, json_pack("{s:i, s:i}", "samples", end, "rows", n));
        rc = sensitivity_rows(s, first, end, which, n, e);
        if (!rc && end < s->n_samples)
            n = survivors(s, which, n);
    }
    free(which);
    return rc;
}
