/* Scores to means, rows and the result. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/health.h"
#include "worker/jobs/sensitivity.h"

double *sensitivity_scores(const struct sensitivity *s, int sample, int unique, int output)
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
        mean_add(&mean, sensitivity_scores(s, i, unique, output)[m]);
    return mean_of(&mean);
}

double sensitivity_score(const struct sensitivity *s, int candidate, int sample, enum metric m)
{
    struct mean mean = {0};
    for (int o = 0; o < s->all->n_outputs; o++)
        if (s->all->list[candidate].reaches[o])
            mean_add(&mean, sensitivity_scores(s, sample, s->row[candidate], o)[m]);
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

static int seen(const struct sensitivity *s, int candidate)
{
    return s->seen[s->row[candidate]];
}

static bool is_exact(const struct sensitivity *s, int candidate)
{
    return isinf(total_mean(s, candidate, M_SQNR, 0, 1, seen(s, candidate)));
}

static json_t *row_json(const struct sensitivity *s, int candidate)
{
    json_t *row = json_pack("{s:s}", "node", s->all->list[candidate].name);
    for (int i = 0; i < s->n_metrics; i++)
        json_object_set_new(
            row, metric_rows[s->metrics[i]].name,
            json_real_or_null(total_mean(s, candidate, s->metrics[i], 0, 1, seen(s, candidate))));
    if (is_exact(s, candidate))
        json_object_set_new(row, "exact", json_true());
    return row;
}

/* All at first, then eight times until their number has doubled, and the last. */
static bool is_told(const struct sensitivity *s, int samples)
{
    int step = 1;
    while (samples / step >= 16)
        step *= 2;
    return samples == s->n_samples || samples % step == 0;
}

void sensitivity_tell(const struct sensitivity *s, int unique)
{
    if (!is_told(s, s->seen[unique]))
        return;
    for (int c = 0; c < s->all->n; c++) {
        if (s->row[c] != unique)
            continue;
        json_t *row = row_json(s, c);
        json_object_set_new(row, "samples", json_integer(s->seen[unique]));
        json_object_set_new(row, "of", json_integer(s->n_samples));
        job_event(s->job, "node_result", row);
    }
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
            v[m] = output_mean(s, s->row[candidate], o, (enum metric)m, 0, 1, seen(s, candidate));
        json_object_set_new(all, s->all->output_names[o], scores_json(s, v));
    }
    return all;
}

static json_t *samples_json(const struct sensitivity *s, int candidate)
{
    json_t *list = json_array();
    for (int i = 0; i < seen(s, candidate); i++) {
        json_t *outputs = json_object();
        for (int o = 0; o < s->all->n_outputs; o++)
            if (s->all->list[candidate].reaches[o])
                json_object_set_new(outputs, s->all->output_names[o],
                                    scores_json(s, sensitivity_scores(s, i, s->row[candidate], o)));
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "sample", s->data->sample_names[i], "outputs", outputs));
    }
    return list;
}

/* Of the first metric, and how many samples it rests on. */
static void add_interval(const struct sensitivity *s, int candidate, json_t *row)
{
    int n = seen(s, candidate);
    double *v = xcalloc((size_t)n + 1, sizeof *v);
    for (int i = 0; i < n; i++)
        v[i] = sensitivity_score(s, candidate, i, s->metrics[0]);
    struct interval at = sensitivity_interval(v, n);
    free(v);
    json_object_set_new(row, "samples_seen", json_integer(n));
    json_object_set_new(row, "interval",
                        json_pack("[o,o]", json_real_or_null(at.low), json_real_or_null(at.high)));
}

static json_t *ranked_json(const struct sensitivity *s, int rank, int candidate)
{
    const struct candidate *c = &s->all->list[candidate];
    json_t *row = row_json(s, candidate);
    json_object_set_new(row, "rank", json_integer(rank));
    if (c->same != candidate)
        json_object_set_new(row, "tied_with", json_string(s->all->list[c->same].name));
    json_object_set_new(row, "outputs", outputs_json(s, candidate));
    if (s->fast)
        add_interval(s, candidate, row);
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
            (struct ranked){c, total_mean(s, c, s->metrics[0], 0, 1, seen(s, c)), s->metrics[0]};
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

static double reached_mean(const struct sensitivity *s, int candidate, int output, enum metric m)
{
    if (!s->all->list[candidate].reaches[output])
        return NAN;
    return output_mean(s, s->row[candidate], output, m, 0, 1, seen(s, candidate));
}

/* ---- the branch that one output needs alone ---- */

/* node → it is needed for the output; any other output is left out of `alone`. */
static bool *needed_for(const struct sensitivity *s, int output, bool others, struct arena *a)
{
    const struct graph *g = s->graph;
    bool *value = arena_array(a, (size_t)g->n_values + 1, sizeof *value);
    bool *node = arena_array(a, (size_t)g->n_nodes + 1, sizeof *node);
    for (int o = 0; o < s->all->n_outputs; o++)
        value[s->all->outputs[o]] = others ? o != output : o == output;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *n = &g->nodes[i];
        for (int k = 0; k < n->n_out; k++)
            node[i] = node[i] || (n->out[k] != VALUE_NONE && value[n->out[k]]);
        for (int k = 0; k < n->n_in && node[i]; k++)
            if (n->in[k] != VALUE_NONE)
                value[n->in[k]] = true;
    }
    return node;
}

static bool reads_from(const struct graph *g, const struct node *n, const bool *inside)
{
    for (int k = 0; k < n->n_in; k++) {
        int v = n->in[k];
        if (v == VALUE_NONE || (g->values[v].producer < 0 && !g->values[v].is_input))
            continue; /* a constant */
        if (g->values[v].producer < 0 || !inside[g->values[v].producer])
            return false;
    }
    return true;
}

/* A subgraph_config for what only the output that loses most needs: when promoting node after node
 * does not help, its whole head may. */
static void add_branch(const struct sensitivity *s, int output, json_t *health)
{
    const struct graph *g = s->graph;
    struct arena a = ARENA_INIT;
    json_t *inputs = json_array(), *outputs = json_array();
    int count = 0, end = output < 0 ? -1 : g->values[s->all->outputs[output]].producer;
    bool *inside = output < 0 ? NULL : needed_for(s, output, false, &a);
    const bool *others = output < 0 ? NULL : needed_for(s, output, true, &a);
    for (int i = 0; inside && i < g->n_nodes; i++)
        count += inside[i] = inside[i] && !others[i];
    for (int i = 0; count && i < g->n_nodes; i++)
        if (inside[i] && !reads_from(g, &g->nodes[i], inside))
            json_array_append_new(inputs, json_string(g->nodes[i].name));
    if (count && end >= 0 && inside[end])
        json_array_append_new(outputs, json_string(g->nodes[end].name));
    bool found = json_array_size(inputs) && json_array_size(outputs);
    json_object_set_new(health, "branch",
                        found ? json_pack("{s:s, s:O, s:O, s:i}", "output",
                                          s->all->output_names[output], "inputs", inputs, "outputs",
                                          outputs, "nodes", count)
                              : json_null());
    if (found && json_array_size(json_object_get(health, "advice")))
        json_array_append_new(
            json_object_get(health, "advice"),
            json_sprintf("If promoting single nodes does not help, try the branch that only "
                         "\"%s\" needs as a subgraph_config, from \"%s\"%s to \"%s\".",
                         s->all->output_names[output], json_string_value(json_array_get(inputs, 0)),
                         json_array_size(inputs) > 1 ? " and others" : "",
                         json_string_value(json_array_get(outputs, 0))));
    json_decref(inputs);
    json_decref(outputs);
    arena_done(&a);
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
    double *sqnr = arena_array(&a, n * outputs, sizeof *sqnr);
    double(*even)[METRIC_COUNT] = arena_array(&a, n, sizeof *even);
    double(*odd)[METRIC_COUNT] = arena_array(&a, n, sizeof *odd);
    for (int c = 0; c < s->all->n; c++) {
        const struct candidate *k = &s->all->list[c];
        names[c] = k->name;
        same[c] = k->same;
        widest[c] = is_widest(s, k);
        for (int m = 0; m < METRIC_COUNT; m++) {
            means[c][m] = total_mean(s, c, (enum metric)m, 0, 1, seen(s, c));
            even[c][m] = total_mean(s, c, (enum metric)m, 0, 2, seen(s, c));
            odd[c][m] = total_mean(s, c, (enum metric)m, 1, 2, seen(s, c));
        }
        for (size_t o = 0; o < outputs; o++) {
            size_t at = (size_t)c * outputs + o;
            per_output[at] = reached_mean(s, c, (int)o, first);
            sqnr[at] = reached_mean(s, c, (int)o, M_SQNR);
        }
    }
    struct ranking r = {
        .n = s->all->n,
        .n_outputs = s->all->n_outputs,
        .n_samples = s->n_samples,
        .first = first,
        .names = names,
        .outputs = s->all->output_names,
        .same = same,
        .widest = widest,
        .means = (const double(*)[METRIC_COUNT])means,
        .per_output = per_output,
        .sqnr = sqnr,
        .halves = {(const double(*)[METRIC_COUNT])even, (const double(*)[METRIC_COUNT])odd}};
    int worst;
    json_t *ret = health_json(&r, &worst);
    add_branch(s, worst, ret);
    arena_done(&a);
    return ret;
}

json_t *sensitivity_result(const struct sensitivity *s)
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
    json_t *ret =
        json_pack("{s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "node_type", node_type_name(s->type),
                  "metrics", metrics, "outputs", outputs, "samples", s->n_samples, "rows",
                  rows_json(s), "operations", operations, "health", make_health(s));
    if (s->rounds)
        json_object_set(ret, "rounds", s->rounds);
    return ret;
}
