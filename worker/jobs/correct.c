#include "worker/jobs/correct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/compare.h"
#include "worker/jobs/runner.h"
#include "worker/quant/bias.h"

/* ---- one node's output in float and quantized, on one sample ---- */

struct own {
    struct digest sample, biases; /* of all nodes, as they are corrected */
    int32_t node;
};

struct correcting {
    struct job *job;
    const struct dataset *data;
    const struct graph *graph; /* in float, before any correction */
    struct plan *plan;         /* on the graph that is corrected */
    int n_samples, node, value;
    enum metric metric;
    struct runner exact, quantized;
    float *seen; /* a child's: the node's output, plain; malloc'ed */
    struct tensor seen_type;
    /* the sum over samples */
    int channels;
    double *sums;  /* of float − quantized, a channel's */
    int64_t count; /* elements of a channel */
    struct metric_stat score;
};

/* What the watch stops the run with, when it has what it wants. */
static int enough(struct err *e)
{
    return err_set(e, ERR_CANCELLED, "", "enough");
}

static int see(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct correcting *s = ctx;
    if (quantized || value != s->value)
        return 0;
    struct tensor plain = *t;
    plain.layout = LAYOUT_PLAIN;
    plain.data = xmalloc(tensor_bytes(t) + 1);
    if (t->layout == LAYOUT_PLAIN)
        memcpy(plain.data, t->data, tensor_bytes(t));
    else
        tensor_reorder(t, &plain);
    free(s->seen);
    s->seen = plain.data;
    s->seen_type = plain;
    return enough(e);
}

/* The node's output; the caller frees. */
static float *output_of(struct correcting *s, struct runner *r, int sample, struct tensor *ret,
                        struct err *e)
{
    free(s->seen);
    s->seen = NULL;
    int rc = runner_run(r, s->data, sample, see, s, e);
    if (!s->seen) {
        if (!rc)
            err_set(e, ERR_INTERNAL, s->graph->nodes[s->node].name, "This node did not run.");
        return NULL;
    }
    *e = (struct err)ERR_INIT;
    float *v = s->seen;
    *ret = s->seen_type;
    s->seen = NULL;
    return v;
}

static void add_sums(const struct tensor *t, const float *x, const float *y, double *ret)
{
    int64_t inner = 1, channels = t->dims[1];
    for (int d = 2; d < t->rank; d++)
        inner *= t->dims[d];
    for (int64_t i = 0, n = tensor_count(t); i < n; i++)
        ret[i / inner % channels] += (double)x[i] - (double)y[i];
}

static int measure(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct correcting *s = ctx;
    struct tensor t, u;
    struct metric_sums metrics;
    float *x = output_of(s, &s->exact, index, &t, e);
    float *y = x ? output_of(s, &s->quantized, index, &u, e) : NULL;
    int rc = -1;
    if (y && (!tensor_same_shape(&t, &u) || t.rank < 2 || t.dims[1] != s->channels)) {
        err_set(e, ERR_BAD_DATA, s->graph->nodes[s->node].name,
                "The output's shape depends on its values: its bias cannot be corrected.");
    } else if (y) {
        double *sums = xcalloc((size_t)s->channels + 1, sizeof *sums);
        int64_t count = tensor_count(&t) / (s->channels ? s->channels : 1);
        add_sums(&t, x, y, sums);
        metric_sum(x, y, tensor_count(&t), &metrics);
        buf_add(ret, &count, sizeof count);
        buf_add(ret, &metrics, sizeof metrics);
        buf_add(ret, sums, (size_t)s->channels * sizeof *sums);
        free(sums);
        rc = 0;
    }
    free(x);
    free(y);
    return rc;
}

static int take(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct correcting *s = ctx;
    int64_t count;
    struct metric_sums metrics;
    const char *p = result;
    (void)index;
    if (len != sizeof count + sizeof metrics + (size_t)s->channels * sizeof *s->sums)
        return err_set(e, ERR_INTERNAL, "", "A stored measurement is malformed.");
    memcpy(&count, p, sizeof count);
    memcpy(&metrics, p + sizeof count, sizeof metrics);
    p += sizeof count + sizeof metrics;
    for (int c = 0; c < s->channels; c++) {
        double v;
        memcpy(&v, p + (size_t)c * sizeof v, sizeof v);
        s->sums[c] += v;
    }
    s->count += count;
    metric_stat_add(&s->score, metric_of(s->metric, &metrics));
    return 0;
}

/* ---- all nodes ---- */

static void digest_biases(const struct correcting *s, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    const struct graph *g = s->plan->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        int v = bias_of(g, i);
        if (v != VALUE_NONE)
            sha256_field(h, g->values[v].type.data, tensor_bytes(&g->values[v].type));
    }
    sha256_finish(h, ret);
}

/* sums, count and score of the node at hand with the biases as they are. */
static int measure_node(struct correcting *s, const struct buf *common, struct err *e)
{
    static const struct task_kind kind = {.name = "correct-1", .run = measure};
    struct own *own = xcalloc((size_t)s->n_samples, sizeof *own);
    struct task *tasks = xcalloc((size_t)s->n_samples, sizeof *tasks);
    memset(s->sums, 0, (size_t)s->channels * sizeof *s->sums);
    s->count = 0;
    s->score = (struct metric_stat){0};
    for (int i = 0; i < s->n_samples; i++) {
        dataset_sample_digest(s->data, i, &own[i].sample);
        digest_biases(s, &own[i].biases);
        own[i].node = s->node;
        tasks[i] = (struct task){.own = &own[i], .own_len = sizeof own[i]};
    }
    runner_done(&s->quantized); /* its weights hold the biases of before */
    int rc = job_map(s->job, &kind, "bias correction", common->data, common->len, tasks,
                     s->n_samples, take, s, e);
    runner_done(&s->quantized);
    free(own);
    free(tasks);
    return rc;
}

/* The mean error on top of the bias; *ret_before is the bias as it was. */
static void add_means(struct correcting *s, struct tensor *bias, const float **ret_before)
{
    float *now = arena_array(s->plan->arena, (size_t)s->channels + 1, sizeof *now);
    const float *before = bias->data;
    for (int c = 0; c < s->channels; c++)
        now[c] = (float)((double)before[c] + (s->count ? s->sums[c] / (double)s->count : 0));
    *ret_before = before;
    bias->data = now;
}

static int correct_node(struct correcting *s, struct graph *g, const struct buf *common,
                        json_t *list, struct err *e)
{
    struct tensor *bias = &g->values[bias_of(g, s->node)].type;
    const float *before;
    s->value = g->nodes[s->node].out[0];
    s->channels = (int)bias->dims[0];
    s->sums = arena_array(job_arena(s->job), (size_t)s->channels + 1, sizeof *s->sums);
    if (measure_node(s, common, e))
        return -1;
    double score = metric_stat_mean(&s->score);
    add_means(s, bias, &before);
    if (measure_node(s, common, e))
        return -1;
    double now = metric_stat_mean(&s->score);
    bool kept = metric_better(s->metric, now, score);
    if (!kept)
        bias->data = (void *)before;
    json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:b}", "node", g->nodes[s->node].name,
                                          "before", json_real_or_null(score), "after",
                                          json_real_or_null(now), "kept", kept));
    return 0;
}

/* ---- the model ---- */

static int take_outputs(void *ctx, int plan, int sample, const struct compared *v, struct err *e)
{
    struct correcting *s = ctx;
    (void)plan;
    (void)sample;
    (void)e;
    for (int i = 0; i < s->graph->n_outputs; i++)
        metric_stat_add(&s->score, metric_of(s->metric, &v->outputs[i]));
    return 0;
}

/* Over all outputs and samples. The float side has the biases of `plan` as well, so it is told
 * with the uncorrected graph. */
static int score_model(struct correcting *s, const struct plan *plan, double *ret, struct err *e)
{
    struct compare cmp = {.graph = plan->graph,
                          .exact = s->graph,
                          .data = s->data,
                          .n_plans = 1,
                          .n_samples = s->n_samples,
                          .plans = &plan,
                          .take = take_outputs,
                          .ctx = s};
    s->score = (struct metric_stat){0};
    int rc = compare_run(s->job, &cmp, "bias correction", e);
    *ret = metric_stat_mean(&s->score);
    return rc;
}

/* The plan on a copy of the graph that shares all but its values. */
static struct plan *own_plan(const struct plan *p, struct graph **ret)
{
    struct plan *q = plan_copy(p, p->arena);
    struct graph *g = arena_copy(p->arena, p->graph, sizeof *g);
    g->values = arena_copy(p->arena, g->values, (size_t)g->n_values * sizeof *g->values);
    q->graph = *ret = g;
    return q;
}

static int correct_all(struct correcting *s, struct graph *g, json_t *list, struct err *e)
{
    struct buf common;
    struct digest graph, plan;
    int rc = 0;
    buf_init(&common, JSON_TEXT_MAX);
    graph_digest(s->graph, &graph);
    plan_digest(s->plan, &plan);
    buf_add(&common, &graph, sizeof graph);
    buf_add(&common, &plan, sizeof plan);
    for (s->node = 0; s->node < g->n_nodes && !rc; s->node++)
        if (bias_of(g, s->node) != VALUE_NONE)
            rc = correct_node(s, g, &common, list, e);
    buf_done(&common);
    return rc;
}

int correct_biases(struct job *j, struct calibration *c, const struct quant_config *q,
                   struct err *e)
{
    struct graph *g;
    json_t *list = json_array();
    struct correcting s = {.job = j,
                           .data = c->data,
                           .graph = c->plan->graph,
                           .metric = q->bias.metric,
                           .n_samples = q->bias.num_sample < c->n_samples ? q->bias.num_sample
                                                                          : c->n_samples};
    double before, after;
    s.plan = own_plan(c->plan, &g);
    s.exact =
        (struct runner){.graph = s.graph, .backend = job_backend(j), .memory_max = job_memory(j)};
    s.quantized = s.exact;
    s.quantized.graph = g;
    s.quantized.plan = s.plan;
    int rc = correct_all(&s, g, list, e) || score_model(&s, c->plan, &before, e) ||
             score_model(&s, s.plan, &after, e);
    runner_done(&s.exact);
    runner_done(&s.quantized);
    free(s.seen);
    if (rc) {
        json_decref(list);
        return -1;
    }
    bool kept = metric_better(s.metric, after, before);
    c->bias = json_pack("{s:s, s:i, s:o, s:o, s:b, s:o}", "metric", metric_rows[s.metric].name,
                        "num_sample", s.n_samples, "before", json_real_or_null(before), "after",
                        json_real_or_null(after), "kept", kept, "nodes", list);
    if (kept)
        c->plan = s.plan;
    return 0;
}
