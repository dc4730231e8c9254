#include "worker/jobs/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"

enum { RUNS_MIN = 3, RUNS_MAX = 25, ENOUGH_US = 1000000 };

struct row {
    struct exec_cost cost; /* ns: the median */
    int64_t ns[RUNS_MAX];
};

struct profile {
    struct arena arena;
    struct row *rows;
    int n_rows, runs;
    int64_t total_ns[RUNS_MAX], forward_ns, macs;
};

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static int64_t median(int64_t *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_number);
    return v[n / 2];
}

static void note_run(struct profile *p, const struct exec *x)
{
    struct exec_cost c;
    for (int i = 0; i < p->n_rows && exec_cost(x, i, &c); i++) {
        p->rows[i].cost = c;
        p->rows[i].ns[p->runs] = c.ns;
        p->total_ns[p->runs] += c.ns;
    }
    p->runs++;
}

static int measure(struct profile *p, struct exec *x, const struct tensor *inputs, struct err *e)
{
    struct exec_cost c;
    exec_time(x);
    if (exec_run(x, inputs, NULL, NULL, e)) /* the first one maps memory */
        return -1;
    while (exec_cost(x, p->n_rows, &c))
        p->n_rows++;
    p->rows = arena_array(&p->arena, (size_t)p->n_rows + 1, sizeof *p->rows);
    int64_t from = clock_cpu_us();
    while (p->runs < RUNS_MIN || (p->runs < RUNS_MAX && clock_cpu_us() - from < ENOUGH_US)) {
        if (exec_run(x, inputs, NULL, NULL, e))
            return -1;
        note_run(p, x);
    }
    p->forward_ns = median(p->total_ns, p->runs);
    for (int i = 0; i < p->n_rows; i++) {
        p->rows[i].cost.ns = median(p->rows[i].ns, p->runs);
        p->macs += p->rows[i].cost.macs;
    }
    return 0;
}

/* ---- the trace ---- */

static double gflops(int64_t macs, int64_t ns)
{
    return ns ? 2.0 * (double)macs / (double)ns : 0;
}

static json_t *trace_event(const struct exec_cost *c, int64_t at_ns)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:{s:I, s:f, s:s?}}", "name", c->name,
                     "cat", c->type, "ph", "X", "pid", 1, "tid", 1, "ts", (double)at_ns / 1e3,
                     "dur", (double)c->ns / 1e3, "args", "bytes", (json_int_t)c->bytes,
                     "gflop_per_s", gflops(c->macs, c->ns), "backend", c->backend);
}

static int write_trace(const struct profile *p, const char *path, struct err *e)
{
    json_t *events = json_array();
    int64_t at = 0;
    for (int i = 0; i < p->n_rows; at += p->rows[i++].cost.ns)
        json_array_append_new(events, trace_event(&p->rows[i].cost, at));
    json_t *trace =
        json_pack("{s:o, s:s, s:{s:f, s:f, s:i}}", "traceEvents", events, "displayTimeUnit", "ms",
                  "otherData", "forward_ms", (double)p->forward_ns / 1e6, "gflop",
                  2e-9 * (double)p->macs, "runs", p->runs);
    int bad = json_dump_file(trace, path, JSON_COMPACT);
    json_decref(trace);
    return bad ? err_errno(e, path, "The profile cannot be written") : 0;
}

/* ---- the table ---- */

static int by_cost(const void *a, const void *b)
{
    return -by_number(&((const struct row *)a)->cost.ns, &((const struct row *)b)->cost.ns);
}

static int by_type(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->cost.type, ((const struct row *)b)->cost.type);
}

static void show_line(const struct profile *p, const struct exec_cost *c, const char *name)
{
    double ms = (double)c->ns / 1e6;
    printf("%9.3f %5.1f%% %9.2f %8.1f %8.1f  %-18s %-9s %s\n", ms,
           p->forward_ns ? 100.0 * (double)c->ns / (double)p->forward_ns : 0,
           (double)c->bytes / 1e6, c->ns ? (double)c->bytes / (double)c->ns : 0,
           gflops(c->macs, c->ns), c->type, c->backend ? c->backend : "", name);
}

/* One row for each operator, in place of its steps. */
static void sum_types(struct profile *p)
{
    int n = 0;
    qsort(p->rows, (size_t)p->n_rows, sizeof *p->rows, by_type);
    for (int i = 0; i < p->n_rows; i++) {
        struct exec_cost *to = n ? &p->rows[n - 1].cost : NULL, *c = &p->rows[i].cost;
        if (to && !strcmp(to->type, c->type)) {
            to->ns += c->ns, to->bytes += c->bytes, to->macs += c->macs;
            continue;
        }
        p->rows[n] = p->rows[i];
        p->rows[n++].cost.backend = NULL;
    }
    p->n_rows = n;
}

static void show(struct profile *p)
{
    printf("%9s %6s %9s %8s %8s  %-18s %-9s %s\n", "ms", "share", "MB", "GB/s", "GFLOP/s",
           "operator", "backend", "node");
    qsort(p->rows, (size_t)p->n_rows, sizeof *p->rows, by_cost);
    for (int i = 0; i < p->n_rows; i++)
        show_line(p, &p->rows[i].cost, p->rows[i].cost.name);
    sum_types(p);
    qsort(p->rows, (size_t)p->n_rows, sizeof *p->rows, by_cost);
    puts("\nby operator");
    for (int i = 0; i < p->n_rows; i++)
        show_line(p, &p->rows[i].cost, "");
    printf("\n%.3f ms of processor time a run, median of %d runs; %.1f GFLOP/s\n",
           (double)p->forward_ns / 1e6, p->runs, gflops(p->macs, p->forward_ns));
}

int profile_exec(struct exec *x, const struct tensor *inputs, const char *path, struct err *e)
{
    struct profile p = {0};
    int rc = measure(&p, x, inputs, e);
    if (!rc)
        rc = write_trace(&p, path, e);
    if (!rc)
        show(&p);
    arena_done(&p.arena);
    return rc;
}
