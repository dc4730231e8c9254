#include "worker/jobs/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/compare.h"
#include "worker/jobs/runner.h"
#include "worker/quant/survey.h"

/* ---- one pass over the data ---- */

struct own {
    struct digest sample;
    int32_t skip;
};

struct pass {
    const struct calibration *c;
    struct runner runner;
    const struct observe_want *want;
    struct seen_all *seen;
    struct observer *observer; /* a child's */
    int n;
    int *sample; /* of task i */
    struct own *own;
    int n_more; /* the next round: records that did not fit */
    int *more_sample, *more_skip;
};

static int see_value(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct pass *p = ctx;
    if (quantized || p->c->graph->values[value].is_input)
        return 0;
    if (observer_see(p->observer, value, t, e))
        return err_in(e, p->c->graph->values[value].name);
    return 0;
}

static int observe_start(void *ctx, struct err *e)
{
    struct pass *p = ctx;
    (void)e;
    if (!p->observer)
        p->observer = observer_new(p->want);
    return 0;
}

static int observe_sample(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct pass *p = ctx;
    const struct graph *g = p->c->graph;
    int sample = p->sample[index];
    observer_start(p->observer, p->own[index].skip, ret);
    for (int k = 0; k < g->n_inputs; k++) {
        struct tensor t;
        dataset_sample(p->c->data, sample, k, &t);
        if (observer_see(p->observer, g->inputs[k], &t, e))
            return err_in(e, g->values[g->inputs[k]].name);
    }
    if (runner_run(&p->runner, p->c->data, sample, see_value, p, e))
        return -1;
    observer_end(p->observer);
    return 0;
}

static int take_record(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct pass *p = ctx;
    int more, sample = p->sample[index];
    if (seen_add(p->seen, result, len, sample == 0, &more, e))
        return -1;
    if (more) {
        p->more_sample[p->n_more] = sample;
        p->more_skip[p->n_more++] = p->own[index].skip + more;
    }
    return 0;
}

/* The records of p->n tasks; those that did not fit make the next round. */
static int observe_round(struct job *j, struct pass *p, const struct buf *common, struct err *e)
{
    static const struct task_kind kind = {
        .name = "observe-1", .run = observe_sample, .start = observe_start};
    struct task *tasks = xcalloc((size_t)p->n, sizeof *tasks);
    p->n_more = 0;
    for (int i = 0; i < p->n; i++) {
        dataset_sample_digest(p->c->data, p->sample[i], &p->own[i].sample);
        tasks[i] = (struct task){.own = &p->own[i], .own_len = sizeof p->own[i]};
    }
    int rc =
        job_map(j, &kind, "calibrate", common->data, common->len, tasks, p->n, take_record, p, e);
    p->n = p->n_more;
    for (int i = 0; i < p->n_more; i++) {
        p->sample[i] = p->more_sample[i];
        p->own[i].skip = p->more_skip[i];
    }
    free(tasks);
    return rc;
}

static int observe_all(struct job *j, struct pass *p, const struct buf *common, struct err *e)
{
    size_t n = (size_t)p->c->n_samples;
    struct arena *a = job_arena(j);
    p->n = p->c->n_samples;
    p->sample = arena_array(a, n, sizeof *p->sample);
    p->own = arena_array(a, n, sizeof *p->own);
    p->more_sample = arena_array(a, n, sizeof *p->more_sample);
    p->more_skip = arena_array(a, n, sizeof *p->more_skip);
    for (int i = 0; i < p->n; i++)
        p->sample[i] = i;
    while (p->n > 0)
        if (observe_round(j, p, common, e))
            return -1;
    return 0;
}

static int run_pass(struct job *j, struct pass *p, struct survey *s, struct err *e)
{
    struct buf common;
    struct digest graph;
    buf_init(&common, JSON_TEXT_MAX * 8);
    graph_digest(p->c->graph, &graph);
    buf_add(&common, &graph, sizeof graph);
    observe_want_bytes(p->want, &common);
    p->seen = seen_new(p->want);
    int rc = observe_all(j, p, &common, e);
    observer_free(p->observer);
    p->observer = NULL;
    if (rc)
        seen_free(p->seen);
    else
        rc = survey_take(s, p->seen, e);
    buf_done(&common);
    return rc;
}

static int run_passes(struct job *j, const struct calibration *c, struct survey *s, struct err *e)
{
    struct pass p = {
        .c = c,
        .runner = {.graph = c->graph, .backend = job_backend(j), .memory_max = job_memory(j)}};
    int rc = 0;
    if (survey_next(s))
        rc = runner_prepare(&p.runner, c->data, 0, e);
    while (!rc && (p.want = survey_next(s)))
        rc = run_pass(j, &p, s, e);
    runner_done(&p.runner);
    return rc;
}

/* ---- the choice among candidates ---- */

struct scores {
    const struct quant_config *config;
    struct metric_stat *of; /* a candidate's, over outputs and samples */
    int first;              /* candidate of plan 0 */
    int n_outputs;
};

static int take_score(void *ctx, int plan, int sample, const struct compared *v, struct err *e)
{
    struct scores *s = ctx;
    (void)sample;
    (void)e;
    for (int i = 0; i < s->n_outputs; i++)
        metric_stat_add(&s->of[s->first + plan],
                        metric_of(s->config->search.metric, &v->outputs[i]));
    return 0;
}

static int score_range(struct job *j, struct calibration *c, const struct survey *survey,
                       struct scores *s, int from, int to, struct plan **plans, struct err *e)
{
    struct compare cmp = {.graph = c->graph,
                          .data = c->data,
                          .n_plans = to - from,
                          .n_samples = s->config->search.num_sample,
                          .plans = (const struct plan *const *)plans + from,
                          .take = take_score,
                          .ctx = s};
    if (cmp.n_samples > c->n_samples)
        cmp.n_samples = c->n_samples;
    s->first = from;
    for (int i = from; i < to; i++)
        if (survey_plan(survey, &s->config->candidates[i], job_arena(j), NULL, &plans[i], e))
            return -1;
    if (from >= to || plans[from]->graph == c->graph)
        return from < to ? compare_run(j, &cmp, "search", e) : 0;
    cmp.n_plans = 1; /* compensated weights differ from candidate to candidate */
    for (int i = from; i < to; i++) {
        cmp.graph = plans[i]->graph;
        cmp.plans = (const struct plan *const *)plans + i;
        s->first = i;
        if (compare_run(j, &cmp, "search", e))
            return -1;
    }
    return 0;
}

static int best_of(const struct scores *s, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (metric_better(s->config->search.metric, metric_stat_mean(&s->of[i]),
                          metric_stat_mean(&s->of[best])))
            best = i;
    return best;
}

static json_t *search_json(const struct scores *s, int n, int best)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "activation",
                                              calib_method_json(&s->config->candidates[i]), "score",
                                              json_real_or_null(metric_stat_mean(&s->of[i]))));
    return json_pack("{s:s, s:f, s:o, s:o}", "metric", metric_rows[s->config->search.metric].name,
                     "similarity", s->config->search.similarity, "candidates", list, "chosen",
                     calib_method_json(&s->config->candidates[best]));
}

/* Per-tensor candidates first; those with a scale a channel only when none of them is enough. */
static int choose(struct job *j, struct calibration *c, const struct survey *survey,
                  const struct quant_config *q, int *ret_best, struct err *e)
{
    struct scores s = {.config = q, .n_outputs = c->graph->n_outputs};
    struct plan **plans = arena_array(job_arena(j), (size_t)q->n_candidates, sizeof *plans);
    int tensors = 0, n;
    s.of = arena_array(job_arena(j), (size_t)q->n_candidates, sizeof *s.of);
    *ret_best = 0;
    c->search = json_null();
    if (q->n_candidates == 1)
        return 0;
    while (tensors < q->n_candidates && !q->candidates[tensors].per_channel)
        tensors++;
    if (score_range(j, c, survey, &s, 0, tensors, plans, e))
        return -1;
    n = tensors;
    double best = n ? metric_stat_mean(&s.of[best_of(&s, n)]) : NAN;
    if (isnan(best) || metric_better(q->search.metric, q->search.similarity, best)) {
        if (score_range(j, c, survey, &s, tensors, q->n_candidates, plans, e))
            return -1;
        n = q->n_candidates;
    }
    *ret_best = best_of(&s, n);
    c->search = search_json(&s, n, *ret_best);
    return 0;
}

/* ---- all together ---- */

static void tell_warnings(struct job *j, const json_t *warnings)
{
    for (size_t i = 0; i < json_array_size(warnings); i++)
        job_event(j, "warning", json_pack("{s:O}", "message", json_array_get(warnings, i)));
}

static int calibrate_with(struct job *j, struct calibration *c, struct quant_config *q,
                          const struct march *march, struct err *e)
{
    struct resolved r;
    c->graph = q->graph;
    resolve(q, q->graph, march, job_arena(j), &r);
    struct survey *s = survey_new(&r, q, march, c->n_samples);
    int best, rc = run_passes(j, c, s, e) || choose(j, c, s, q, &best, e) ||
                   survey_plan(s, &q->candidates[best], job_arena(j), q->warnings, &c->plan, e);
    survey_free(s);
    if (rc)
        return -1;
    tell_warnings(j, q->warnings);
    c->graph = c->plan->graph;
    c->ledger = ledger_json(&r.ledger, r.plan);
    c->quant_config = config_resolved(q, &q->candidates[best]);
    return 0;
}

int calibration_run(struct job *j, struct calibration *c, struct err *e)
{
    struct quant_config *q = NULL;
    const struct march *march;
    if (calibration_march(j, &march, e) ||
        config_parse(json_object_get(job_spec(j), "quant_config"), "/quant_config", c->graph, march,
                     job_arena(j), &q, e))
        return -1;
    int rc = calibrate_with(j, c, q, march, e);
    config_done(q);
    return rc;
}

void calibration_done(struct calibration *c)
{
    json_decref(c->quant_config);
    json_decref(c->ledger);
    json_decref(c->search);
    c->quant_config = c->ledger = c->search = NULL;
}

static json_t *calib_json(const struct plan *p, const struct calib *k)
{
    json_t *thresholds = json_array();
    for (int i = 0; i < k->n_thresholds; i++)
        json_array_append_new(thresholds, json_real((double)k->thresholds[i]));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:b, s:o, s:s}", "name", k->name, "tensor",
                     p->graph->values[k->value].name, "tensor_type",
                     k->kind == CALIB_WEIGHT ? "weight" : "feature", "qtype", qtype_name(k->qtype),
                     "thresholds", thresholds, "affine", k->affine, "axis",
                     k->axis < 0 ? json_null() : json_integer(k->axis), "switch",
                     k->on ? "ON" : "OFF");
}

json_t *calibrations_json(const struct plan *p)
{
    json_t *list = json_array();
    for (int i = 0; i < p->n_calibs; i++)
        json_array_append_new(list, calib_json(p, &p->calibs[i]));
    return list;
}

int calibration_march(const struct job *j, const struct march **ret, struct err *e)
{
    const json_t *options = json_object_get(job_spec(j), "options");
    return march_find(json_str(options, "march", NULL), "/options/march", ret, e);
}

int calibration_samples(const json_t *options, const char *key, const struct dataset *d)
{
    int64_t n = json_int(options, key, d->n_samples);
    return n < d->n_samples ? (int)n : d->n_samples;
}
