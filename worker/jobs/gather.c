#include "worker/jobs/gather.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/runner.h"
#include "worker/quant/fakequant.h"

#define VALUES_MAX ((int64_t)1 << 31)

struct state {
    struct debugging *d;
    const struct subject *subjects;
    int samples;
    gather_reduce *reduce;
    void *ctx;
    json_t *list;
    struct runner exact, quantized;

    const struct subject *now; /* in a child */
    struct gathered *got;
    int sample;
    bool second, found; /* second: the calibrated model runs */
};

/* ---- in a child ---- */

static int make_room(struct state *s, const struct tensor *t, int samples, struct err *e)
{
    struct gathered *g = s->got;
    int64_t n = tensor_count(t);
    if (t->type != DT_F32)
        return err_set(e, ERR_BAD_DATA, s->now->name, "It is %s, not float32.",
                       dtype_name(t->type));
    if (g->before)
        return tensor_same_shape(t, &g->shape)
                   ? 0
                   : err_set(e, ERR_BAD_DATA, s->now->name, "Its shape is not that of sample 0.");
    if (n && samples > VALUES_MAX / n)
        return err_set(e, ERR_MEMORY_LIMIT, s->now->name, "%d samples are too many values.",
                       samples);
    g->shape = *t;
    g->shape.data = NULL;
    g->shape.layout = LAYOUT_PLAIN;
    g->n = n * samples;
    g->samples = samples;
    g->before = malloc((size_t)g->n * sizeof(float) + 1);
    g->after = malloc((size_t)g->n * sizeof(float) + 1);
    if (!g->before || !g->after)
        return err_set(e, ERR_MEMORY_LIMIT, s->now->name, "%lld values do not fit the memory.",
                       (long long)g->n);
    return 0;
}

static void copy_plain(const struct tensor *t, float *to)
{
    struct tensor plain = *t;
    plain.layout = LAYOUT_PLAIN;
    plain.data = to;
    tensor_reorder(t, &plain);
}

static int see(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct state *s = ctx;
    if (quantized || value != s->now->value)
        return 0;
    if (make_room(s, t, s->samples, e))
        return -1;
    copy_plain(t,
               (s->second ? s->got->after : s->got->before) + s->sample * (s->got->n / s->samples));
    s->found = true;
    return 0;
}

/* The tensor alone through its calibration (ON, whatever its switch says). */
static void quantize(const struct state *s, const struct tensor *shape, const float *from,
                     float *to)
{
    struct calib k = s->d->plan->calibs[s->now->calib];
    struct tensor in = *shape, out = *shape;
    k.on = true;
    in.data = (float *)from;
    out.data = to;
    fq_tensor(&k, &in, &out);
}

static int gather_sample(struct state *s, int sample, struct err *e)
{
    struct gathered *g = s->got;
    s->sample = sample;
    s->second = s->found = false;
    if (runner_run(&s->exact, s->d->data, sample, see, s, e))
        return -1;
    s->second = true;
    if (s->found && s->now->node >= 0 && runner_run(&s->quantized, s->d->data, sample, see, s, e))
        return -1;
    if (!s->found)
        return err_set(e, ERR_BAD_DATA, s->now->name,
                       "It is folded into a constant: no run has it.");
    int64_t each = g->n / g->samples;
    if (s->now->calib >= 0)
        quantize(s, &g->shape, g->before + sample * each, g->after + sample * each);
    return 0;
}

static int gather_weight(struct state *s, const struct tensor *t, struct err *e)
{
    if (make_room(s, t, 1, e))
        return -1;
    memcpy(s->got->before, t->data, tensor_bytes(t));
    quantize(s, &s->got->shape, s->got->before, s->got->after);
    return 0;
}

static int run(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct state *s = ctx;
    struct gathered g = {0};
    const struct value *v = &s->d->graph->values[s->subjects[index].value];
    s->now = &s->subjects[index];
    s->got = &g;
    int rc = 0;
    if (v->producer < 0 && !v->is_input && v->type.data)
        rc = gather_weight(s, &v->type, e);
    else
        for (int i = 0; i < s->samples && !rc; i++)
            rc = gather_sample(s, i, e);
    if (!rc) {
        json_t *made = s->reduce(s->ctx, s->now, &g);
        char *text = json_dumps(made, JSON_COMPACT | JSON_SORT_KEYS);
        buf_adds(ret, text);
        free(text);
        json_decref(made);
    }
    free(g.before);
    free(g.after);
    return rc;
}

/* ---- the job's side ---- */

static int take(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct state *s = ctx;
    (void)index;
    json_t *v = json_parse(result, len, e);
    if (v)
        json_array_append_new(s->list, v);
    return v ? 0 : -1;
}

static void describe(const struct state *s, const char *what, struct buf *common)
{
    struct digest d;
    graph_digest(s->d->graph, &d);
    buf_add(common, &d, sizeof d);
    plan_digest(s->d->plan, &d);
    buf_add(common, &d, sizeof d);
    for (int i = 0; i < s->samples; i++) {
        dataset_sample_digest(s->d->data, i, &d);
        buf_add(common, &d, sizeof d);
    }
    buf_adds(common, what);
}

int gather_run(struct debugging *d, const struct subject *subjects, int n, int samples,
               const char *what, gather_reduce *reduce, void *ctx, json_t **ret, struct err *e)
{
    static const struct task_kind kind = {.name = "gather-1", .run = run};
    struct state s = {
        .d = d, .subjects = subjects, .samples = samples, .reduce = reduce, .ctx = ctx};
    struct runner r = {
        .graph = d->graph, .backend = job_backend(d->job), .memory_max = job_memory(d->job)};
    struct task *tasks = arena_array(job_arena(d->job), (size_t)n + 1, sizeof *tasks);
    struct buf common;
    for (int i = 0; i < n; i++)
        tasks[i] = (struct task){.own = subjects[i].name, .own_len = strlen(subjects[i].name)};
    buf_init(&common, JSON_TEXT_MAX);
    describe(&s, what, &common);
    s.exact = s.quantized = r;
    s.quantized.plan = d->plan;
    s.quantized.share = &s.exact;
    s.list = json_array();
    int rc = runner_prepare(&s.exact, d->data, 0, e) ||
             runner_prepare(&s.quantized, d->data, 0, e) ||
             job_map(d->job, &kind, what, common.data, common.len, tasks, n, take, &s, e);
    runner_done(&s.quantized);
    runner_done(&s.exact);
    buf_done(&common);
    if (rc)
        json_decref(s.list);
    else
        *ret = s.list;
    return rc ? -1 : 0;
}
