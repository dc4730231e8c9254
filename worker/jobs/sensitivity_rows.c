/*
 * Rows of a sweep, as tasks: a row is one candidate on one sample with all metrics. A stage is a
 * sample, whose float pass one child makes for all; a lease is a block of candidates that follow
 * each other in the graph. The children stay as long as the samples have the same shapes.
 */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/exec/exec.h"
#include "worker/jobs/core.h"
#include "worker/jobs/peak.h"
#include "worker/jobs/sensitivity.h"

/* A lease is some seconds of work on one core, yet small enough to share out evenly. */
static const double lease_macs = 1e11;
enum { LEASE_ROWS = 16, LEASES_A_SAMPLE = 24 };

struct own {
    struct digest sample, candidate;
};

struct rows {
    struct sensitivity *s;
    int first, n_samples; /* of one shape */
    const int *which;
    int n_which;
    struct task *tasks;
    struct own *own;

    /* of this process */
    struct sweep *sweep;
    struct tensor *inputs;
    int at; /* the sample that `sweep` is ready for, or -1 */
    struct peak *peak;
};

/* ---- in the processes that compute ---- */

static void load_inputs(struct rows *r, int sample)
{
    for (int k = 0; k < r->s->graph->n_inputs; k++)
        dataset_sample(r->s->data, sample, k, &r->inputs[k]);
}

static void cut_leases(struct rows *r)
{
    double macs = (double)sweep_macs(r->sweep) / 2;
    int fits = macs * LEASE_ROWS < lease_macs ? LEASE_ROWS : (int)(lease_macs / macs);
    int even = r->n_which / LEASES_A_SAMPLE;
    int rows = fits < even ? fits : even;
    rows = rows < 1 ? 1 : rows;
    int a_sample = (r->n_which + rows - 1) / rows;
    for (int i = 0; i < r->n_samples * r->n_which; i++)
        r->tasks[i].lease = 1 + i / r->n_which * a_sample + i % r->n_which / rows;
}

static int make_sweep(void *ctx, struct err *e)
{
    struct rows *r = ctx;
    struct sensitivity *s = r->s;
    struct sweep_opts opts = {.backend = job_backend(s->job),
                              .plan = s->plan,
                              .outputs = s->all->outputs,
                              .n_outputs = s->all->n_outputs,
                              .keep_max = s->keep_max,
                              .budget = s->memory,
                              .memory_max = job_memory(s->job)};
    load_inputs(r, r->first);
    if (sweep_new(s->graph, r->inputs, &opts, &r->sweep, e))
        return *e->at == '/' ? -1 : err_in(e, s->data->sample_names[r->first]);
    cut_leases(r);
    peak_note(r->peak);
    return 0;
}

static int enter_sample(void *ctx, int sample, struct err *e)
{
    struct rows *r = ctx;
    if (!sweep_shares(r->sweep))
        return 0;
    load_inputs(r, sample);
    if (sweep_load(r->sweep, r->inputs, e))
        return err_in(e, r->s->data->sample_names[sample]);
    r->at = sample;
    return 0;
}

static int follow(struct rows *r, int sample, struct err *e)
{
    if (r->at == sample)
        return 0;
    load_inputs(r, sample);
    if (sweep_follow(r->sweep, r->inputs, e))
        return err_in(e, r->s->data->sample_names[sample]);
    r->at = sample;
    return 0;
}

static const struct candidate *candidate_of(const struct rows *r, int index)
{
    return &r->s->all->list[r->s->unique[r->which[index % r->n_which]]];
}

static int run_row(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct rows *r = ctx;
    const struct candidate *c = candidate_of(r, index);
    struct sweep_counts counts;
    size_t n = (size_t)r->s->all->n_outputs;
    if (follow(r, r->tasks[index].stage, e))
        return -1;
    struct metric_sums *sums = xcalloc(n + 1, sizeof *sums);
    int rc = (r->s->naive ? sweep_run_naive : sweep_run)(r->sweep, c->calibs, c->n_calibs, sums,
                                                         &counts, e);
    buf_add(ret, &counts, sizeof counts);
    buf_add(ret, sums, n * sizeof *sums);
    free(sums);
    peak_note(r->peak);
    return rc ? err_in(e, c->name) : 0;
}

/* ---- in the job's process ---- */

static void count_row(struct sensitivity *s, int unique, bool first,
                      const struct sweep_counts *counts)
{
    if (first) { /* the float pass */
        s->counts.executed += counts->whole;
        s->counts.whole += counts->whole;
    }
    s->counts.executed += counts->executed;
    for (int c = 0; c < s->all->n; c++)
        s->counts.whole += s->row[c] == unique ? counts->whole : 0;
}

static int take_row(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct rows *r = ctx;
    struct sensitivity *s = r->s;
    struct sweep_counts counts;
    struct metric_sums sums;
    size_t n = (size_t)s->all->n_outputs;
    int unique = r->which[index % r->n_which], sample = r->tasks[index].stage;
    if (len != sizeof counts + n * sizeof sums)
        return err_set(e, ERR_INTERNAL, "", "A stored row is malformed.");
    memcpy(&counts, result, sizeof counts);
    for (size_t o = 0; o < n; o++) {
        memcpy(&sums, (const char *)result + sizeof counts + o * sizeof sums, sizeof sums);
        for (int m = 0; m < METRIC_COUNT; m++)
            sensitivity_scores(s, sample, unique, (int)o)[m] = metric_of((enum metric)m, &sums);
    }
    count_row(s, unique, index % r->n_which == 0, &counts);
    s->seen[unique] = sample + 1;
    sensitivity_tell(s, unique);
    return 0;
}

static void describe_common(const struct sensitivity *s, struct buf *common)
{
    struct digest graph;
    int32_t naive = s->naive;
    graph_digest(s->graph, &graph);
    buf_add(common, &graph, sizeof graph);
    buf_add(common, &naive, sizeof naive);
    buf_add(common, s->all->outputs, (size_t)s->all->n_outputs * sizeof *s->all->outputs);
}

static void describe_tasks(struct rows *r)
{
    struct sensitivity *s = r->s;
    for (int w = 0; w < r->n_which; w++)
        candidate_digest(s->plan, &s->all->list[s->unique[r->which[w]]], &r->own[w].candidate);
    for (int i = 0; i < r->n_samples; i++) {
        struct digest sample;
        dataset_sample_digest(s->data, r->first + i, &sample);
        for (int w = 0; w < r->n_which; w++) {
            int index = i * r->n_which + w;
            r->own[index] = (struct own){sample, r->own[w].candidate};
            r->tasks[index] = (struct task){
                .own = &r->own[index], .own_len = sizeof r->own[index], .stage = r->first + i};
        }
    }
}

/* How many samples from `first` on have its shapes. */
static int same_shapes(const struct sensitivity *s, int first, int end)
{
    int n = 1;
    for (; first + n < end; n++)
        for (int k = 0; k < s->graph->n_inputs; k++) {
            struct tensor a, b;
            dataset_sample(s->data, first, k, &a);
            dataset_sample(s->data, first + n, k, &b);
            if (!tensor_same_shape(&a, &b))
                return n;
        }
    return n;
}

static int tell_peak(const struct rows *r, struct err *e)
{
    int64_t peak = peak_bytes(r->peak);
    if (!r->sweep) /* all rows were known */
        return 0;
    return job_log(
        r->s->job,
        json_pack("{s:o, s:I, s:I}", "message",
                  json_sprintf("The sweep's processes held %lld MiB at most, of it "
                               "%lld MiB of float activations.",
                               (long long)(peak >> 20), (long long)(sweep_room(r->sweep) >> 20)),
                  "peak_bytes", (json_int_t)peak, "kept_bytes", (json_int_t)sweep_room(r->sweep)),
        e);
}

static int run_group(struct rows *r, struct err *e)
{
    static const struct task_kind kind = {
        .name = "sensitivity-1", .run = run_row, .before = make_sweep, .enter = enter_sample};
    int n = r->n_samples * r->n_which;
    struct buf common;
    r->tasks = xcalloc((size_t)n + 1, sizeof *r->tasks);
    r->own = xcalloc((size_t)n + 1, sizeof *r->own);
    r->inputs = xcalloc((size_t)r->s->graph->n_inputs + 1, sizeof *r->inputs);
    r->peak = peak_new();
    buf_init(&common, JSON_TEXT_MAX);
    describe_common(r->s, &common);
    describe_tasks(r);
    int rc =
        job_map(r->s->job, &kind, "sweep", common.data, common.len, r->tasks, n, take_row, r, e);
    if (!rc)
        rc = tell_peak(r, e);
    buf_done(&common);
    peak_free(r->peak);
    sweep_free(r->sweep);
    free(r->inputs);
    free(r->own);
    free(r->tasks);
    return rc;
}

int sensitivity_rows(struct sensitivity *s, int first, int end, const int *which, int n_which,
                     struct err *e)
{
    while (first < end) {
        struct rows r = {.s = s, .first = first, .which = which, .n_which = n_which, .at = -1};
        r.n_samples = same_shapes(s, first, end);
        if (run_group(&r, e))
            return -1;
        first += r.n_samples;
    }
    return 0;
}
