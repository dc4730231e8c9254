/*
 * sensitivity: what each candidate costs by itself (spec §5). The unit of reuse is a row, one
 * candidate on one sample with all metrics: a sweep that was interrupted, or is repeated with more
 * samples, other metrics or other candidates, computes the rows that the store does not have.
 * Sample after sample: the float pass is done before the children are forked, who share it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/exec/sweep.h"
#include "worker/jobs/calibration.h"
#include "worker/jobs/health.h"
#include "worker/load/model.h"
#include "worker/quant/candidates.h"

enum { PHASE_MAX = 64, KEEP_DEFAULT = 1 << 30 };

static const struct json_field options_fields[] = {
    {"metrics", JSON_K_ARRAY, 0, 1, METRIC_COUNT},
    {"node_type", JSON_K_STRING, 0, 1, 32},
    {"outputs", JSON_K_ARRAY, 0, 1, 4096},
    {"data_num", JSON_K_INT, 0, 1, 1e9},
    {"interested_nodes", JSON_K_ARRAY, 0, 1, 1e6},
    {"verbose", JSON_K_BOOL, 0, 0, 0},
    {"naive", JSON_K_BOOL, 0, 0, 0},
    {"keep_bytes", JSON_K_INT, 0, 1, 1e15},
    {0},
};

struct own {
    struct digest sample, candidate;
};

struct sensitivity {
    struct job *job;
    const struct graph *graph;
    const struct plan *plan;
    const struct dataset *data;
    struct candidates *all;
    enum node_type type;
    enum metric metrics[METRIC_COUNT];
    int n_metrics, n_samples;
    bool verbose, naive;
    uint64_t keep_max;

    int n_unique, *unique; /* candidates that are computed */
    int *row;              /* candidate → its place in `unique` */
    int sample;            /* under way */
    struct tensor *inputs;
    struct sweep *sweep;
    double *scores; /* sample × unique × output × METRIC_COUNT */
    struct sweep_counts counts;
};

/* ---- one row ---- */

static bool same_shapes(const struct sensitivity *s, const struct tensor *in)
{
    for (int k = 0; s->sweep && k < s->graph->n_inputs; k++)
        if (!tensor_same_shape(&s->inputs[k], &in[k]))
            return false;
    return s->sweep != NULL;
}

static int load_sample(void *ctx, struct err *e)
{
    struct sensitivity *s = ctx;
    struct tensor *in = xcalloc((size_t)s->graph->n_inputs + 1, sizeof *in);
    for (int k = 0; k < s->graph->n_inputs; k++)
        dataset_sample(s->data, s->sample, k, &in[k]);
    bool same = same_shapes(s, in);
    free(s->inputs);
    s->inputs = in;
    if (!same) {
        struct sweep_opts opts = {.backend = job_backend(s->job),
                                  .plan = s->plan,
                                  .outputs = s->all->outputs,
                                  .n_outputs = s->all->n_outputs,
                                  .keep_max = s->keep_max,
                                  .memory_max = job_memory(s->job)};
        sweep_free(s->sweep);
        s->sweep = NULL;
        if (sweep_new(s->graph, in, &opts, &s->sweep, e))
            return err_in(e, s->data->sample_names[s->sample]);
    }
    if (sweep_load(s->sweep, in, e))
        return err_in(e, s->data->sample_names[s->sample]);
    return 0;
}

static int run_row(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct sensitivity *s = ctx;
    const struct candidate *c = &s->all->list[s->unique[index]];
    struct sweep_counts counts;
    size_t n = (size_t)s->all->n_outputs;
    struct metric_sums *sums = xcalloc(n + 1, sizeof *sums);
    int rc = (s->naive ? sweep_run_naive : sweep_run)(s->sweep, c->calibs, c->n_calibs, sums,
                                                      &counts, e);
    buf_add(ret, &counts, sizeof counts);
    buf_add(ret, sums, n * sizeof *sums);
    free(sums);
    return rc ? err_in(e, c->name) : 0;
}

static double *scores_at(const struct sensitivity *s, int sample, int unique, int output)
{
    size_t row = (size_t)sample * (size_t)s->n_unique + (size_t)unique;
    return s->scores + (row * (size_t)s->all->n_outputs + (size_t)output) * METRIC_COUNT;
}

/* ---- means ---- */

/* +inf is no error at all; it is the mean only when nothing else was seen. */
struct mean {
    double sum;
    int n, n_exact;
};

static void mean_add(struct mean *m, double v)
{
    if (isinf(v) && v > 0)
        m->n_exact++;
    else if (!isnan(v)) {
        m->sum += v;
        m->n++;
    }
}

static double mean_of(const struct mean *m)
{
    return m->n ? m->sum / m->n : m->n_exact ? INFINITY : NAN;
}

/* Over the samples from `first` on, every `step`-th below `end`. */
static double output_mean(const struct sensitivity *s, int unique, int output, enum metric m,
                          int first, int step, int end)
{
    struct mean mean = {0};
    for (int i = first; i < end; i += step)
        mean_add(&mean, scores_at(s, i, unique, output)[m]);
    return mean_of(&mean);
}

static double total_mean(const struct sensitivity *s, int candidate, enum metric m, int first,
                         int step, int end)
{
    struct mean mean = {0};
    for (int o = 0; o < s->all->n_outputs; o++)
        if (s->all->list[candidate].reaches[o])
            mean_add(&mean, output_mean(s, s->row[candidate], o, m, first, step, end));
    return mean_of(&mean);
}

/* ---- rows as they come ---- */

static bool is_exact(const struct sensitivity *s, int candidate, int samples)
{
    return isinf(total_mean(s, candidate, M_SQNR, 0, 1, samples));
}

static json_t *row_json(const struct sensitivity *s, int candidate, int samples)
{
    json_t *row = json_pack("{s:s}", "node", s->all->list[candidate].name);
    for (int i = 0; i < s->n_metrics; i++)
        json_object_set_new(
            row, metric_rows[s->metrics[i]].name,
            json_real_or_null(total_mean(s, candidate, s->metrics[i], 0, 1, samples)));
    if (is_exact(s, candidate, samples))
        json_object_set_new(row, "exact", json_true());
    return row;
}

/* After the first sample and after the last. */
static void tell_rows(struct sensitivity *s, int unique)
{
    int samples = s->sample + 1;
    if (samples != 1 && samples != s->n_samples)
        return;
    for (int c = 0; c < s->all->n; c++) {
        if (s->row[c] != unique)
            continue;
        json_t *row = row_json(s, c, samples);
        json_object_set_new(row, "samples", json_integer(samples));
        json_object_set_new(row, "of", json_integer(s->n_samples));
        job_event(s->job, "node_result", row);
    }
}

static int take_row(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct sensitivity *s = ctx;
    struct sweep_counts counts;
    struct metric_sums sums;
    size_t n = (size_t)s->all->n_outputs;
    if (len != sizeof counts + n * sizeof sums)
        return err_set(e, ERR_INTERNAL, "", "A stored row is malformed.");
    memcpy(&counts, result, sizeof counts);
    for (size_t o = 0; o < n; o++) {
        memcpy(&sums, (const char *)result + sizeof counts + o * sizeof sums, sizeof sums);
        for (int m = 0; m < METRIC_COUNT; m++)
            scores_at(s, s->sample, index, (int)o)[m] = metric_of((enum metric)m, &sums);
    }
    if (index == 0) { /* the float pass */
        s->counts.executed += counts.whole;
        s->counts.whole += counts.whole;
    }
    s->counts.executed += counts.executed;
    for (int c = 0; c < s->all->n; c++)
        s->counts.whole += s->row[c] == index ? counts.whole : 0;
    tell_rows(s, index);
    return 0;
}

/* ---- the sweep ---- */

static void find_unique(struct sensitivity *s)
{
    size_t n = (size_t)s->all->n + 1;
    s->unique = arena_array(job_arena(s->job), n, sizeof *s->unique);
    s->row = arena_array(job_arena(s->job), n, sizeof *s->row);
    for (int c = 0; c < s->all->n; c++) {
        int first = s->all->list[c].same;
        s->row[c] = first == c ? s->n_unique : s->row[first];
        if (first == c)
            s->unique[s->n_unique++] = c;
    }
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

static int sweep_sample(struct sensitivity *s, const struct buf *common, struct own *own,
                        struct task *tasks, struct err *e)
{
    static const struct task_kind kind = {
        .name = "sensitivity-1", .run = run_row, .before = load_sample};
    char phase[PHASE_MAX];
    struct digest sample;
    dataset_sample_digest(s->data, s->sample, &sample);
    for (int i = 0; i < s->n_unique; i++) {
        own[i].sample = sample;
        tasks[i] = (struct task){.own = &own[i], .own_len = sizeof own[i]};
    }
    snprintf(phase, sizeof phase, "sample %d of %d", s->sample + 1, s->n_samples);
    return job_map(s->job, &kind, phase, common->data, common->len, tasks, s->n_unique, take_row, s,
                   e);
}

static int sweep_all(struct sensitivity *s, struct err *e)
{
    struct arena *a = job_arena(s->job);
    struct own *own = arena_array(a, (size_t)s->n_unique + 1, sizeof *own);
    struct task *tasks = arena_array(a, (size_t)s->n_unique + 1, sizeof *tasks);
    struct buf common;
    int rc = 0;
    for (int i = 0; i < s->n_unique; i++)
        candidate_digest(s->plan, &s->all->list[s->unique[i]], &own[i].candidate);
    buf_init(&common, JSON_TEXT_MAX);
    describe_common(s, &common);
    for (s->sample = 0; s->sample < s->n_samples && !rc; s->sample++)
        rc = sweep_sample(s, &common, own, tasks, e);
    buf_done(&common);
    return rc;
}

/* ---- the result ---- */

struct ranked {
    int candidate;
    double score;
    enum metric metric;
};

static int worst_first(const void *a, const void *b)
{
    const struct ranked *p = a, *q = b;
    if (isnan(p->score) != isnan(q->score))
        return isnan(p->score) ? 1 : -1;
    if (p->score != q->score && !isnan(p->score))
        return metric_better(p->metric, p->score, q->score) ? 1 : -1;
    return p->candidate - q->candidate;
}

static json_t *scores_json(const struct sensitivity *s, const double *scores)
{
    json_t *o = json_object();
    for (int i = 0; i < s->n_metrics; i++)
        json_object_set_new(o, metric_rows[s->metrics[i]].name,
                            json_real_or_null(scores[s->metrics[i]]));
    return o;
}

static json_t *outputs_json(const struct sensitivity *s, int candidate)
{
    json_t *all = json_object();
    for (int o = 0; o < s->all->n_outputs; o++) {
        double v[METRIC_COUNT];
        if (!s->all->list[candidate].reaches[o])
            continue;
        for (int m = 0; m < METRIC_COUNT; m++)
            v[m] = output_mean(s, s->row[candidate], o, (enum metric)m, 0, 1, s->n_samples);
        json_object_set_new(all, s->all->output_names[o], scores_json(s, v));
    }
    return all;
}

static json_t *samples_json(const struct sensitivity *s, int candidate)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n_samples; i++) {
        json_t *outputs = json_object();
        for (int o = 0; o < s->all->n_outputs; o++)
            if (s->all->list[candidate].reaches[o])
                json_object_set_new(outputs, s->all->output_names[o],
                                    scores_json(s, scores_at(s, i, s->row[candidate], o)));
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "sample", s->data->sample_names[i], "outputs", outputs));
    }
    return list;
}

static json_t *ranked_json(const struct sensitivity *s, int rank, int candidate)
{
    const struct candidate *c = &s->all->list[candidate];
    json_t *row = row_json(s, candidate, s->n_samples);
    json_object_set_new(row, "rank", json_integer(rank));
    if (c->same != candidate)
        json_object_set_new(row, "tied_with", json_string(s->all->list[c->same].name));
    json_object_set_new(row, "outputs", outputs_json(s, candidate));
    if (s->verbose)
        json_object_set_new(row, "samples", samples_json(s, candidate));
    return row;
}

static json_t *rows_json(const struct sensitivity *s)
{
    struct ranked *list = xcalloc((size_t)s->all->n + 1, sizeof *list);
    json_t *rows = json_array();
    for (int c = 0; c < s->all->n; c++)
        list[c] =
            (struct ranked){c, total_mean(s, c, s->metrics[0], 0, 1, s->n_samples), s->metrics[0]};
    qsort(list, (size_t)s->all->n, sizeof *list, worst_first);
    for (int i = 0; i < s->all->n; i++)
        json_array_append_new(rows, ranked_json(s, i + 1, list[i].candidate));
    free(list);
    return rows;
}

static bool is_widest(const struct sensitivity *s, const struct candidate *c)
{
    for (int i = 0; i < c->n_calibs; i++)
        if (s->plan->calibs[c->calibs[i]].qtype != Q_INT16)
            return false;
    return true;
}

static json_t *make_health(const struct sensitivity *s)
{
    struct arena a = ARENA_INIT;
    size_t n = (size_t)s->all->n + 1, outputs = (size_t)s->all->n_outputs;
    enum metric first = s->metrics[0];
    const char **names = arena_array(&a, n, sizeof *names);
    int *same = arena_array(&a, n, sizeof *same);
    bool *widest = arena_array(&a, n, sizeof *widest);
    double(*means)[METRIC_COUNT] = arena_array(&a, n, sizeof *means);
    double *per_output = arena_array(&a, n * outputs, sizeof *per_output);
    double *even = arena_array(&a, n, sizeof *even), *odd = arena_array(&a, n, sizeof *odd);
    for (int c = 0; c < s->all->n; c++) {
        const struct candidate *k = &s->all->list[c];
        names[c] = k->name;
        same[c] = k->same;
        widest[c] = is_widest(s, k);
        for (int m = 0; m < METRIC_COUNT; m++)
            means[c][m] = total_mean(s, c, (enum metric)m, 0, 1, s->n_samples);
        for (size_t o = 0; o < outputs; o++)
            per_output[(size_t)c * outputs + o] =
                k->reaches[o] ? output_mean(s, s->row[c], (int)o, first, 0, 1, s->n_samples) : NAN;
        even[c] = total_mean(s, c, first, 0, 2, s->n_samples);
        odd[c] = total_mean(s, c, first, 1, 2, s->n_samples);
    }
    struct ranking r = {s->all->n,
                        s->all->n_outputs,
                        s->n_samples,
                        first,
                        names,
                        s->all->output_names,
                        same,
                        widest,
                        (const double(*)[METRIC_COUNT])means,
                        per_output,
                        {even, odd}};
    json_t *ret = health_json(&r);
    arena_done(&a);
    return ret;
}

static json_t *result_json(const struct sensitivity *s)
{
    json_t *metrics = json_array(), *outputs = json_array();
    for (int i = 0; i < s->n_metrics; i++)
        json_array_append_new(metrics, json_string(metric_rows[s->metrics[i]].name));
    for (int o = 0; o < s->all->n_outputs; o++)
        json_array_append_new(outputs, json_string(s->all->output_names[o]));
    json_t *operations =
        json_pack("{s:I, s:I, s:o}", "executed", (json_int_t)s->counts.executed, "naive",
                  (json_int_t)s->counts.whole, "share",
                  json_real_or_null((double)s->counts.executed / (double)s->counts.whole));
    return json_pack("{s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "node_type", node_type_name(s->type),
                     "metrics", metrics, "outputs", outputs, "samples", s->n_samples, "rows",
                     rows_json(s), "operations", operations, "health", make_health(s));
}

/* ---- the program ---- */

static int read_metrics(struct sensitivity *s, const json_t *list, struct err *e)
{
    s->metrics[0] = M_COSINE;
    s->n_metrics = 1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        char at[48];
        snprintf(at, sizeof at, "/options/metrics/%zu", i);
        if (!name || metric_parse(name, &s->metrics[i]))
            return err_set(e, ERR_INVALID, at, "There is no metric \"%.60s\".", name ? name : "");
        for (size_t j = 0; j < i; j++)
            if (s->metrics[j] == s->metrics[i])
                return err_set(e, ERR_INVALID, at, "This metric is named twice.");
        s->n_metrics = (int)i + 1;
    }
    return 0;
}

static int read_options(struct sensitivity *s, const json_t *options, struct err *e)
{
    const char *type = json_str(options, "node_type", "node");
    if (node_type_parse(type, &s->type))
        return err_set(e, ERR_INVALID, "/options/node_type",
                       "This must be \"node\", \"weight\" or \"activation\", not \"%.60s\".", type);
    int64_t samples = json_int(options, "data_num", 1);
    s->n_samples = samples < s->data->n_samples ? (int)samples : s->data->n_samples;
    s->verbose = json_flag(options, "verbose", 0);
    s->naive = json_flag(options, "naive", 0);
    s->keep_max = (uint64_t)json_int(options, "keep_bytes", KEEP_DEFAULT);
    return read_metrics(s, json_object_get(options, "metrics"), e);
}

static int find_candidates(struct sensitivity *s, const json_t *options, struct err *e)
{
    if (candidates_find(s->plan, s->type, json_object_get(options, "outputs"),
                        json_object_get(options, "interested_nodes"), job_arena(s->job), &s->all,
                        e))
        return -1;
    for (int i = 0; i < s->all->n_unheard; i++)
        job_event(s->job, "warning",
                  json_pack("{s:o}", "message",
                            json_sprintf("\"%s\" reaches none of the outputs: it is not listed.",
                                         s->all->unheard[i])));
    if (s->all->n)
        return 0;
    return err_set(e, ERR_INVALID, "/options/outputs",
                   "No %s with a calibration reaches the outputs.", node_type_name(s->type));
}

static int sensitivity(struct sensitivity *s, json_t **ret, struct err *e)
{
    const json_t *options = json_object_get(job_spec(s->job), "options");
    if (read_options(s, options, e) || find_candidates(s, options, e))
        return -1;
    find_unique(s);
    size_t rows = (size_t)s->n_samples * (size_t)s->n_unique;
    s->scores = arena_array(job_arena(s->job), rows * (size_t)s->all->n_outputs,
                            METRIC_COUNT * sizeof *s->scores);
    if (sweep_all(s, e))
        return -1;
    *ret = result_json(s);
    return 0;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    const json_t *options = json_object_get(job_spec(j), "options");
    (void)ret_verdict;
    if ((options && json_check(options, options_fields, "/options", e)) || job_open_model(j, &m, e))
        return -1;
    int rc = m->plan ? job_open_data(j, "data", m->float_graph, &d, e)
                     : err_set(e, ERR_INVALID, "/model",
                               "The model has no calibrations: calibrate it first.");
    if (!rc) {
        struct sensitivity s = {.job = j, .graph = m->float_graph, .plan = m->plan, .data = d};
        rc = sensitivity(&s, ret_result, e);
        sweep_free(s.sweep);
        free(s.inputs);
    }
    dataset_free(d);
    model_free(m);
    return rc ? -1 : 0;
}

extern const struct job_kind job_sensitivity;
const struct job_kind job_sensitivity = {
    .name = "sensitivity",
    .run = run,
    .text = "Measures what each node, weight or activation costs when it alone is quantized.",
};
