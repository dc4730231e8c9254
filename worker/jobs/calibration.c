#include "worker/jobs/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/correct.h"
#include "worker/jobs/runner.h"
#include "worker/jobs/search.h"
#include "worker/quant/given.h"
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
    dataset_release(p->c->data, sample);
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
        dataset_release(p->c->data, p->sample[i]);
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

/* What grows with the samples does not stay in the job's arena. */
static int observe_all(struct job *j, struct pass *p, const struct buf *common, struct err *e)
{
    size_t n = (size_t)p->c->n_samples;
    int rc = 0;
    p->n = p->c->n_samples;
    p->sample = xcalloc(n, sizeof *p->sample);
    p->own = xcalloc(n, sizeof *p->own);
    p->more_sample = xcalloc(n, sizeof *p->more_sample);
    p->more_skip = xcalloc(n, sizeof *p->more_skip);
    for (int i = 0; i < p->n; i++)
        p->sample[i] = i;
    while (p->n > 0 && !rc)
        rc = observe_round(j, p, common, e);
    free(p->sample);
    free(p->own);
    free(p->more_sample);
    free(p->more_skip);
    return rc;
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

/* ---- all together ---- */

/* Thresholds that are given for nothing that is calibrated: never in silence. */
static void warn_of_unused(const struct calibration *c, struct quant_config *q,
                           const struct plan *p)
{
    const char *first = NULL;
    int n = 0;
    for (int i = 0; q->given && !c->loaded && i < q->given->n; i++)
        if (plan_find(p, q->given->list[i].name) < 0) {
            first = first ? first : q->given->list[i].name;
            n++;
        }
    if (n)
        json_array_append_new(
            q->warnings, json_sprintf("/options/thresholds: %d of them are for calibrations that "
                                      "are not there, the first for \"%.200s\".",
                                      n, first));
}

static void tell_warnings(struct job *j, const json_t *warnings)
{
    for (size_t i = 0; i < json_array_size(warnings); i++)
        job_event(j, "warning", json_pack("{s:O}", "message", json_array_get(warnings, i)));
}

static int calibrate_with(struct job *j, struct calibration *c, struct quant_config *q,
                          const struct march *march, struct err *e)
{
    struct resolved r;
    struct layers layers = {.resolved = &r};
    c->graph = q->graph;
    resolve(q, q->graph, march, job_arena(j), &r);
    warn_of_unused(c, q, r.plan);
    struct survey *s = survey_new(&r, q, march, c->n_samples);
    int best, rc = run_passes(j, c, s, e) || search_model(j, c, s, q, &best, e);
    if (!rc && q->layer.asked)
        rc = search_layers(j, c, s, q, march, &r, best, &layers, e);
    rc = rc || survey_plan_each(s, &q->candidates[best], layers.own, job_arena(j), q->warnings,
                                &c->plan, e);
    survey_free(s);
    rc = rc || (q->bias.asked && correct_biases(j, c, q, e));
    if (rc)
        return -1;
    tell_warnings(j, q->warnings);
    c->graph = c->plan->graph;
    c->ledger = ledger_json(&layers.resolved->ledger, layers.resolved->plan);
    c->quant_config = config_resolved(q, &q->candidates[best]);
    return 0;
}

/* Where "load" takes thresholds from: the option's list, else the calibrated model. */
static int find_given(struct job *j, const struct calibration *c, struct quant_config *q,
                      struct err *e)
{
    const json_t *list = json_object_get(json_object_get(job_spec(j), "options"), "thresholds");
    bool loads = q->weight_load;
    for (int i = 0; i < q->n_candidates; i++)
        loads |= q->candidates[i].method == METHOD_LOAD;
    if (json_is_array(list) && !loads)
        return err_set(e, ERR_INVALID, "/options/thresholds",
                       "Nothing loads them: calibration_type \"load\" does.");
    if (json_is_array(list))
        return given_from_json(list, "/options/thresholds", job_arena(j), &q->given, e);
    if (loads && c->loaded)
        q->given = given_from_plan(c->loaded, job_arena(j));
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
    c->search = json_null();
    c->bias = json_null();
    int rc = find_given(j, c, q, e) || calibrate_with(j, c, q, march, e);
    config_done(q);
    return rc;
}

void calibration_done(struct calibration *c)
{
    json_decref(c->quant_config);
    json_decref(c->ledger);
    json_decref(c->search);
    json_decref(c->bias);
    c->quant_config = c->ledger = c->search = c->bias = NULL;
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

json_t *calibrations_found_json(const struct plan *p)
{
    const struct graph *g = p->graph;
    json_t *list = calibrations_json(p);
    for (int k = 0; k < p->n_calibs; k++) {
        json_object_set_new(json_array_get(list, (size_t)k), "input_of", json_array());
        json_object_set_new(json_array_get(list, (size_t)k), "output_of", json_array());
    }
    for (int n = 0; n < g->n_nodes; n++) {
        const struct node *node = &g->nodes[n];
        int out = plan_find_output(p, n);
        for (int i = 0; i < node->n_in; i++) {
            int k = plan_find_input(p, n, i);
            if (k >= 0)
                json_array_append_new(json_object_get(json_array_get(list, (size_t)k), "input_of"),
                                      json_pack("{s:s, s:s, s:i}", "node", node->name, "op_type",
                                                node->op_type, "input", i));
        }
        if (out >= 0)
            json_array_append_new(json_object_get(json_array_get(list, (size_t)out), "output_of"),
                                  json_string(node->name));
    }
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
