/*
 * Metrics in Prometheus' text format 0.0.4. One registry a process, used on the loop thread only.
 * A metric is declared by a static struct and enters the registry at its first use; label values
 * come from closed sets (route templates, states, codes): never from models, tokens or paths.
 */
#ifndef PTQ_SERVER_METRICS_H
#define PTQ_SERVER_METRICS_H

#include "common/buf.h"

enum { METRIC_LABELS_MAX = 3, METRIC_BUCKETS_MAX = 16 };

struct series;
struct metric {
    const char *name, *help;
    const char *labels[METRIC_LABELS_MAX]; /* names, NULL after the last */
    double buckets[METRIC_BUCKETS_MAX];    /* a histogram's upper bounds, 0 after the last; else
                                              all 0: a counter */
    struct series *series;                 /* metrics.c's */
    struct metric *next;
};

/* Adds v >= 0 to the counter with these label values (one a label name, in order). */
void metric_add(struct metric *m, double v, const char *const *values);
/* Puts v into the histogram's bucket. */
void metric_observe(struct metric *m, double v, const char *const *values);

/* A gauge is asked for its value when it is read: fn calls gauge_sample once a label set. */
struct gauge_out;
struct gauge {
    const char *name, *help;
    const char *labels[METRIC_LABELS_MAX];
    void (*fn)(struct gauge_out *out, void *ctx);
    void *ctx;
    const char *type; /* NULL: "gauge"; "counter" for a count that somebody else keeps */
    struct gauge *next;
};
void gauge_add(struct gauge *g);    /* g must live until gauge_remove */
void gauge_remove(struct gauge *g); /* one that is not there is no error */
void gauge_sample(struct gauge_out *out, double v, const char *const *values);

void metrics_text(struct buf *out);

#endif
