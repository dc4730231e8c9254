/* evaluate: what quantization costs on a data set, by output and by node (spec §6) and, with
 * labels, in accuracy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/calibration.h"
#include "worker/jobs/compare.h"
#include "worker/jobs/node_table.h"
#include "worker/load/model.h"

static const struct json_field options_fields[] = {
    {"samples", JSON_K_INT, 0, 1, 1e9}, {"march", JSON_K_STRING, 0, 0, 0},
    {"labels", JSON_K_ANY, 0, 0, 0},    {"label_output", JSON_K_STRING, 0, 1, 4096},
    {"nodes", JSON_K_BOOL, 0, 0, 0},    {0},
};

/* The names of §6 and of this project's results for the metrics of §5. */
static const struct {
    const char *name;
    enum metric metric;
} columns[] = {
    {"cosine-similarity", M_COSINE},
    {"l1", M_MAE},
    {"l2", M_MSE},
    {"chebyshev", M_CHEBYSHEV},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

struct evaluation {
    const struct graph *g;
    const struct dataset *data;
    int n_samples;
    struct labels labels;
    struct accuracy *accuracy;
    struct metric_stat *stats; /* outputs × COLUMNS */
    json_t *first_sample, *nodes;
};

/* ---- samples ---- */

static json_t *sample_row(const struct evaluation *v, int output, const struct metric_sums *s)
{
    json_t *row = json_object();
    json_object_set_new(row, "output", json_string(v->g->values[v->g->outputs[output]].name));
    for (int c = 0; c < COLUMNS; c++)
        json_object_set_new(row, columns[c].name,
                            json_real_or_null(metric_of(columns[c].metric, s)));
    return row;
}

static int take(void *ctx, int plan, int sample, const struct compared *c, struct err *e)
{
    struct evaluation *v = ctx;
    (void)plan;
    (void)e;
    for (int i = 0; i < v->g->n_outputs; i++) {
        for (int k = 0; k < COLUMNS; k++)
            metric_stat_add(&v->stats[i * COLUMNS + k],
                            metric_of(columns[k].metric, &c->outputs[i]));
        if (sample == 0)
            json_array_append_new(v->first_sample, sample_row(v, i, &c->outputs[i]));
    }
    if (v->labels.map)
        accuracy_areas(v->accuracy, sample, c->areas);
    else if (v->labels.output >= 0)
        accuracy_top(v->accuracy, sample, c->top);
    return 0;
}

/* ---- the result ---- */

static json_t *outputs_json(const struct evaluation *v)
{
    json_t *list = json_array();
    for (int i = 0; i < v->g->n_outputs; i++) {
        json_t *metrics = json_object();
        for (int k = 0; k < COLUMNS; k++) {
            const struct metric_stat *s = &v->stats[i * COLUMNS + k];
            json_object_set_new(metrics, columns[k].name,
                                json_pack("{s:o, s:o, s:o}", "min",
                                          json_real_or_null(s->n ? s->min : NAN), "max",
                                          json_real_or_null(s->n ? s->max : NAN), "avg",
                                          json_real_or_null(metric_stat_mean(s))));
        }
        json_array_append_new(list, json_pack("{s:s, s:i, s:o}", "output",
                                              v->g->values[v->g->outputs[i]].name, "samples",
                                              v->n_samples, "metrics", metrics));
    }
    return list;
}

static json_t *result_json(const struct evaluation *v, const struct calibration *c)
{
    const char *output =
        v->labels.output < 0 ? "" : v->g->values[v->g->outputs[v->labels.output]].name;
    return json_pack("{s:i, s:o, s:O, s:O, s:o, s:o, s:o, s:o}", "samples", v->n_samples, "outputs",
                     outputs_json(v), "first_sample", v->first_sample, "nodes", v->nodes,
                     "accuracy", accuracy_json(v->accuracy, output), "accuracy_top5",
                     accuracy_top5_json(v->accuracy, output), "quant_config",
                     c->quant_config ? json_incref(c->quant_config) : json_null(), "ledger",
                     c->ledger ? json_incref(c->ledger) : json_null());
}

/* ---- the program ---- */

/* The plan: the model's own, or made now by the spec's quant_config. */
static int find_plan(struct job *j, const struct model *m, const struct dataset *data,
                     struct calibration *c, struct err *e)
{
    struct dataset *own = NULL;
    const json_t *config = json_object_get(job_spec(j), "quant_config");
    bool asked = config && !json_is_null(config);
    if (!asked && m->plan) {
        c->plan = m->plan;
        return 0;
    }
    if (!asked)
        return err_set(e, ERR_INVALID, "/quant_config",
                       "The model has no calibrations: say how to calibrate it ({} for the "
                       "defaults), or give a calibrated model.");
    if (job_input(j, "calibration_data") &&
        job_open_data(j, "calibration_data", m->float_graph, &own, e))
        return -1;
    c->graph = m->float_graph;
    c->loaded = m->plan;
    c->data = own ? own : data;
    c->n_samples = c->data->n_samples;
    int rc = calibration_run(j, c, e);
    dataset_free(own);
    return rc;
}

static int evaluate(struct job *j, struct evaluation *v, struct calibration *c, json_t **ret,
                    struct err *e)
{
    const struct plan *plan = c->plan;
    v->g = plan->graph; /* with the parts that "ec" adds */
    struct compare cmp = {.graph = v->g,
                          .data = v->data,
                          .n_plans = 1,
                          .n_samples = v->n_samples,
                          .plans = &plan,
                          .labels = &v->labels,
                          .take = take,
                          .ctx = v};
    v->stats = arena_array(job_arena(j), (size_t)v->g->n_outputs * COLUMNS, sizeof *v->stats);
    v->first_sample = json_array();
    if (v->labels.output >= 0)
        v->accuracy = accuracy_new(&v->labels, v->data, v->n_samples);
    bool nodes = json_flag(json_object_get(job_spec(j), "options"), "nodes", 0);
    if (compare_run(j, &cmp, "evaluate", e) ||
        (nodes && node_table(j, plan, v->data, v->n_samples, &v->nodes, e)))
        return -1;
    if (!v->nodes)
        v->nodes = json_null();
    *ret = result_json(v, c);
    return 0;
}

static int run_opened(struct job *j, const struct model *m, const struct dataset *d,
                      json_t **ret_result, struct err *e)
{
    const json_t *options = json_object_get(job_spec(j), "options");
    struct calibration c = {0};
    struct evaluation v = {
        .g = m->float_graph, .data = d, .n_samples = calibration_samples(options, "samples", d)};
    int rc = labels_choose(v.g, d, options, &v.labels, e) || find_plan(j, m, d, &c, e) ||
             evaluate(j, &v, &c, ret_result, e);
    accuracy_free(v.accuracy);
    json_decref(v.nodes);
    json_decref(v.first_sample);
    calibration_done(&c);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    const json_t *options = json_object_get(job_spec(j), "options");
    (void)ret_verdict;
    if (options && json_check(options, options_fields, "/options", e))
        return -1;
    int rc = job_open_model(j, &m, e) || job_open_data(j, "data", m->float_graph, &d, e) ||
             run_opened(j, m, d, ret_result, e);
    dataset_free(d);
    model_free(m);
    return rc ? -1 : 0;
}

extern const struct job_kind job_evaluate;
const struct job_kind job_evaluate = {
    .name = "evaluate",
    .run = run,
    .text = "Compares the quantized model with the float model on a data set.",
};
