#include "server/metrics.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"

enum { SERIES_MAX = 2000 }; /* of one metric: a guard against labels from open sets */

struct series {
    struct series *next;
    const char *values[METRIC_LABELS_MAX];
    double sum;
    uint64_t count;
    uint64_t in_bucket[METRIC_BUCKETS_MAX];
};

static struct metric *all_metrics;
static struct gauge *all_gauges;
static struct arena memory; /* series live as long as the process */

static bool is_histogram(const struct metric *m)
{
    return m->buckets[0] != 0;
}

static int label_count(const char *const *labels)
{
    int n = 0;
    while (n < METRIC_LABELS_MAX && labels[n])
        n++;
    return n;
}

static void registry_enter(struct metric *m)
{
    struct metric **at = &all_metrics;
    while (*at && *at != m)
        at = &(*at)->next;
    *at = m;
}

static bool same_values(const struct series *s, const char *const *values, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(s->values[i], values[i]) != 0)
            return false;
    return true;
}

/* The series used last is kept first: most requests come in runs of the same kind. */
static struct series *series_of(struct metric *m, const char *const *values)
{
    int n = label_count(m->labels), total = 0;
    if (!m->series)
        registry_enter(m);
    for (struct series **at = &m->series; *at; at = &(*at)->next, total++) {
        struct series *s = *at;
        if (!same_values(s, values, n))
            continue;
        *at = s->next;
        s->next = m->series;
        m->series = s;
        return s;
    }
    if (total >= SERIES_MAX)
        return NULL;
    struct series *s = arena_alloc(&memory, sizeof *s);
    for (int i = 0; i < n; i++)
        s->values[i] = arena_strdup(&memory, values[i]);
    s->next = m->series;
    m->series = s;
    return s;
}

void metric_add(struct metric *m, double v, const char *const *values)
{
    struct series *s = series_of(m, values);
    if (s)
        s->sum += v;
}

void metric_observe(struct metric *m, double v, const char *const *values)
{
    struct series *s = series_of(m, values);
    if (!s)
        return;
    s->sum += v;
    s->count++;
    for (int i = 0; i < METRIC_BUCKETS_MAX && m->buckets[i] != 0; i++)
        if (v <= m->buckets[i]) {
            s->in_bucket[i]++;
            break;
        }
}

void gauge_add(struct gauge *g)
{
    gauge_remove(g);
    g->next = all_gauges;
    all_gauges = g;
}

void gauge_remove(struct gauge *g)
{
    struct gauge **at = &all_gauges;
    while (*at && *at != g)
        at = &(*at)->next;
    if (*at)
        *at = g->next;
}

/* ---- the text ---- */

static void put_value(struct buf *out, const char *v)
{
    for (; *v; v++) {
        if (*v == '\\' || *v == '"')
            buf_addf(out, "\\%c", *v);
        else if (*v == '\n')
            buf_adds(out, "\\n");
        else
            buf_add(out, v, 1);
    }
}

/* {a="x",b="y",le="0.5"}; le may be NULL. */
static void put_labels(struct buf *out, const char *const *labels, const char *const *values,
                       const char *le)
{
    int n = label_count(labels);
    if (!n && !le)
        return;
    buf_adds(out, "{");
    for (int i = 0; i < n; i++) {
        buf_addf(out, "%s%s=\"", i ? "," : "", labels[i]);
        put_value(out, values[i]);
        buf_adds(out, "\"");
    }
    if (le)
        buf_addf(out, "%sle=\"%s\"", n ? "," : "", le);
    buf_adds(out, "}");
}

static void put_head(struct buf *out, const char *name, const char *help, const char *type)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_bucket(struct buf *out, const struct metric *m, const struct series *s,
                       const char *le, uint64_t count)
{
    buf_addf(out, "%s_bucket", m->name);
    put_labels(out, m->labels, s->values, le);
    buf_addf(out, " %llu\n", (unsigned long long)count);
}

static void put_histogram(struct buf *out, const struct metric *m, const struct series *s)
{
    uint64_t below = 0;
    for (int i = 0; i < METRIC_BUCKETS_MAX && m->buckets[i] != 0; i++) {
        char le[32];
        snprintf(le, sizeof le, "%g", m->buckets[i]);
        put_bucket(out, m, s, le, below += s->in_bucket[i]);
    }
    put_bucket(out, m, s, "+Inf", s->count);
    buf_addf(out, "%s_sum", m->name);
    put_labels(out, m->labels, s->values, NULL);
    buf_addf(out, " %.17g\n%s_count", s->sum, m->name);
    put_labels(out, m->labels, s->values, NULL);
    buf_addf(out, " %llu\n", (unsigned long long)s->count);
}

static void put_metric(struct buf *out, const struct metric *m)
{
    put_head(out, m->name, m->help, is_histogram(m) ? "histogram" : "counter");
    for (const struct series *s = m->series; s; s = s->next) {
        if (is_histogram(m)) {
            put_histogram(out, m, s);
            continue;
        }
        buf_adds(out, m->name);
        put_labels(out, m->labels, s->values, NULL);
        buf_addf(out, " %.17g\n", s->sum);
    }
}

struct gauge_out {
    struct buf *text;
    const struct gauge *gauge;
};

void gauge_sample(struct gauge_out *out, double v, const char *const *values)
{
    buf_adds(out->text, out->gauge->name);
    put_labels(out->text, out->gauge->labels, values, NULL);
    buf_addf(out->text, " %.17g\n", v);
}

void metrics_text(struct buf *out)
{
    for (const struct metric *m = all_metrics; m; m = m->next)
        put_metric(out, m);
    for (const struct gauge *g = all_gauges; g; g = g->next) {
        put_head(out, g->name, g->help, g->type ? g->type : "gauge");
        g->fn(&(struct gauge_out){out, g}, g->ctx);
    }
}
