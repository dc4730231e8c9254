#include "worker/jobs/compare.h"

#include <stdlib.h>
#include <string.h>

struct state {
    const struct compare *c;
    struct runner exact, quantized;
};

/* The task's own bytes. */
struct own {
    struct digest plan, sample, labels;
};

/* Elements as float32 in one order: the tensor's own bytes, or a copy in *ret_made. */
static const float *as_floats(const struct tensor *t, float **ret_made)
{
    int64_t n = tensor_count(t);
    *ret_made = NULL;
    if (t->type == DT_F32)
        return t->data;
    *ret_made = xmalloc((size_t)(n ? n : 1) * sizeof **ret_made);
    for (int64_t i = 0; i < n; i++)
        (*ret_made)[i] = (float)tensor_num(t, i);
    return *ret_made;
}

static int compare_output(const struct state *s, int i, struct metric_sums *ret, struct err *e)
{
    const struct graph *g = s->c->graph;
    const struct tensor *x = exec_output(s->exact.exec, i), *y = exec_output(s->quantized.exec, i);
    float *made_x, *made_y;
    memset(ret, 0, sizeof *ret);
    if (!tensor_same_shape(x, y))
        return err_set(e, ERR_BAD_DATA, g->values[g->outputs[i]].name,
                       "The output's shape depends on its values: the quantized one differs.");
    const float *a = as_floats(x, &made_x), *b = as_floats(y, &made_y);
    metric_sum(a, b, tensor_count(x), ret);
    free(made_x);
    free(made_y);
    return 0;
}

/* ---- labels ---- */

static bool has_labels(const struct compare *c)
{
    return c->labels && c->labels->output >= 0;
}

static size_t areas_bytes(const struct compare *c)
{
    bool map = has_labels(c) && c->labels->map;
    return map ? (size_t)c->labels->classes * sizeof(struct area) : 0;
}

/* What the labels' output says: its best classes, or its areas of each. */
static int tell_labels(const struct compare *c, const struct runner *r, int sample, struct buf *ret,
                       struct err *e)
{
    int32_t top[LABELS_TOP] = {-1, -1, -1, -1, -1};
    struct area *areas = xcalloc(areas_bytes(c) + 1, 1);
    int rc = 0;
    if (has_labels(c)) {
        const struct tensor *t = exec_output(r->exec, c->labels->output);
        float *made;
        const float *v = as_floats(t, &made);
        if (c->labels->map)
            rc = labels_areas(c->labels, c->data, sample, t, v, areas, e);
        else
            labels_top(v, tensor_count(t), top);
        free(made);
    }
    buf_add(ret, top, sizeof top);
    buf_add(ret, areas, areas_bytes(c));
    free(areas);
    return rc;
}

static int run(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct state *s = ctx;
    const struct compare *c = s->c;
    int sample = index % c->n_samples;
    const struct plan *plan = c->plans[index / c->n_samples];
    if (s->quantized.plan != plan)
        runner_done(&s->quantized);
    s->quantized.plan = plan;
    if (runner_run(&s->exact, c->data, sample, NULL, NULL, e) ||
        runner_run(&s->quantized, c->data, sample, NULL, NULL, e))
        return -1;
    if (tell_labels(c, &s->exact, sample, ret, e) || tell_labels(c, &s->quantized, sample, ret, e))
        return -1;
    for (int i = 0; i < c->graph->n_outputs; i++) {
        struct metric_sums sums;
        if (compare_output(s, i, &sums, e))
            return -1;
        buf_add(ret, &sums, sizeof sums);
    }
    return 0;
}

static int take(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    const struct compare *c = ((const struct state *)ctx)->c;
    size_t n = (size_t)c->graph->n_outputs, size = areas_bytes(c);
    int32_t top[2][LABELS_TOP];
    if (len != 2 * (sizeof top[0] + size) + n * sizeof(struct metric_sums))
        return err_set(e, ERR_INTERNAL, "", "A stored comparison is malformed.");
    struct metric_sums *sums = xmalloc(n * sizeof *sums);
    struct area *areas[2];
    const char *at = result;
    for (int w = 0; w < 2; w++) {
        memcpy(top[w], at, sizeof top[w]);
        areas[w] = xmalloc(size + 1);
        memcpy(areas[w], at + sizeof top[w], size);
        at += sizeof top[w] + size;
    }
    memcpy(sums, at, n * sizeof *sums);
    struct compared v = {top, (const struct area *const *)areas, sums};
    int rc = c->take(c->ctx, index / c->n_samples, index % c->n_samples, &v, e);
    free(sums);
    free(areas[0]);
    free(areas[1]);
    return rc;
}

static void init_runner(struct runner *r, struct job *j, const struct compare *c)
{
    *r = (struct runner){.graph = c->graph, .backend = job_backend(j), .memory_max = job_memory(j)};
}

static void describe(struct job *j, const struct compare *c, struct task *tasks)
{
    struct own *own = arena_array(job_arena(j), (size_t)(c->n_plans * c->n_samples), sizeof *own);
    for (int p = 0; p < c->n_plans; p++)
        for (int i = 0; i < c->n_samples; i++) {
            int k = p * c->n_samples + i;
            plan_digest(c->plans[p], &own[k].plan);
            dataset_sample_digest(c->data, i, &own[k].sample);
            if (has_labels(c))
                labels_digest(c->labels, c->data, i, &own[k].labels);
            tasks[k] = (struct task){.own = &own[k], .own_len = sizeof own[k]};
        }
}

int compare_run(struct job *j, const struct compare *c, const char *phase, struct err *e)
{
    static const struct task_kind kind = {.name = "compare-2", .run = run};
    struct state s = {.c = c};
    struct {
        struct digest graph, exact;
        int32_t label_output, map;
    } common = {.label_output = has_labels(c) ? c->labels->output : -1,
                .map = has_labels(c) && c->labels->map};
    const struct graph *exact = c->exact ? c->exact : c->graph;
    int n = c->n_plans * c->n_samples;
    struct task *tasks = arena_array(job_arena(j), (size_t)n + 1, sizeof *tasks);
    graph_digest(c->graph, &common.graph);
    if (exact != c->graph)
        graph_digest(exact, &common.exact);
    describe(j, c, tasks);
    init_runner(&s.exact, j, c);
    init_runner(&s.quantized, j, c);
    s.exact.graph = exact;
    s.quantized.share = exact == c->graph ? &s.exact : NULL;
    s.quantized.plan = c->plans[0];
    int rc = runner_prepare(&s.exact, c->data, 0, e) ||
             runner_prepare(&s.quantized, c->data, 0, e) ||
             job_map(j, &kind, phase, &common, sizeof common, tasks, n, take, &s, e);
    runner_done(&s.quantized);
    runner_done(&s.exact);
    return rc ? -1 : 0;
}
