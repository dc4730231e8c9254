/* evaluate: what quantization costs on a data set, by output (spec §6) and, with labels, in top-1
 * accuracy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/calibration.h"
#include "worker/jobs/compare.h"
#include "worker/load/model.h"

static const struct json_field options_fields[] = {
    {"samples", JSON_K_INT, 0, 1, 1e9},
    {"march", JSON_K_STRING, 0, 0, 0},
    {"labels", JSON_K_ANY, 0, 0, 0},
    {"label_output", JSON_K_STRING, 0, 1, 4096},
    {0},
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
    int n_samples, label_output; /* -1: no accuracy */
    struct metric_stat *stats;   /* outputs × COLUMNS */
    json_t *first_sample;
    int64_t hits_float, hits_quantized, lost, gained; /* lost: right in float only */
};

/* ---- labels ---- */

static int64_t largest_label(const struct dataset *d)
{
    int64_t most = 0;
    for (int i = 0; i < d->n_samples; i++) {
        int64_t v = tensor_int(d->labels, i);
        most = v > most ? v : most;
    }
    return most;
}

/* One score a class: [1, C] or [C], with unknown dims taken for 1. */
static bool is_class_output(const struct tensor *t, int64_t classes)
{
    if (t->rank < 1 || t->dims[t->rank - 1] < classes)
        return false;
    for (int i = 0; i + 1 < t->rank; i++)
        if (t->dims[i] > 1)
            return false;
    return true;
}

static int named_output(const struct graph *g, const char *name, struct err *e)
{
    const char **known = xcalloc((size_t)g->n_outputs + 1, sizeof *known);
    char near[256];
    for (int i = 0; i < g->n_outputs; i++) {
        known[i] = g->values[g->outputs[i]].name;
        if (!strcmp(known[i], name)) {
            free(known);
            return i;
        }
    }
    json_nearest(name, known, (size_t)g->n_outputs, near, sizeof near);
    free(known);
    return err_set(e, ERR_UNKNOWN_NAME, "/options/label_output",
                   "The model has no output \"%.100s\"%s%s%s.", name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

static int choose_output(const struct graph *g, int64_t classes, struct err *e)
{
    int found = -1, n = 0;
    for (int i = 0; i < g->n_outputs; i++)
        if (is_class_output(&g->values[g->outputs[i]].type, classes)) {
            found = i;
            n++;
        }
    if (n == 1)
        return found;
    return err_set(e, ERR_INVALID, "/options/label_output",
                   "%s output has one score for each of the %lld classes of the labels: name it "
                   "here, or set labels to false.",
                   n ? "More than one" : "No", (long long)classes);
}

/* Which output the labels are about; -1 without labels or with an error. */
static int label_output(const struct evaluation *v, const json_t *options, struct err *e)
{
    const json_t *labels = json_object_get(options, "labels");
    const char *name = json_str(options, "label_output", NULL);
    if (labels && !json_is_null(labels) && !json_is_false(labels) &&
        (!json_is_string(labels) || strcmp(json_string_value(labels), "auto")))
        return err_set(e, ERR_INVALID, "/options/labels", "This must be \"auto\" or false.");
    if (json_is_false(labels))
        return -1;
    if (name && !v->data->labels)
        return err_set(e, ERR_BAD_DATA, "/options/label_output", "The data set has no labels.");
    if (!v->data->labels)
        return -1;
    return name ? named_output(v->g, name, e) : choose_output(v->g, largest_label(v->data) + 1, e);
}

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

static void take_label(struct evaluation *v, int sample, const struct compared *c)
{
    int64_t label = tensor_int(v->data->labels, sample);
    bool in_float = c->label_float == label, quantized = c->label_quantized == label;
    v->hits_float += in_float;
    v->hits_quantized += quantized;
    v->lost += in_float && !quantized;
    v->gained += quantized && !in_float;
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
    if (v->label_output >= 0)
        take_label(v, sample, c);
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

/*
 * 95 % confidence interval of the difference of paired proportions, quantized − float (Agresti and
 * Min 2005: half an observation added to each cell of the 2 × 2 table).
 */
static json_t *difference_interval(const struct evaluation *v)
{
    double n = (double)v->n_samples + 2, lost = (double)v->lost + 0.5;
    double gained = (double)v->gained + 0.5, diff = (gained - lost) / n;
    double half = 1.959963984540054 * sqrt((lost + gained) / n - diff * diff) / sqrt(n);
    return json_pack("[f, f]", fmax(-1, diff - half), fmin(1, diff + half));
}

static json_t *accuracy_json(const struct evaluation *v)
{
    double n = v->n_samples, x = (double)v->hits_float / n, y = (double)v->hits_quantized / n;
    if (v->label_output < 0)
        return json_null();
    return json_pack("{s:s, s:s, s:f, s:f, s:i, s:o, s:o}", "metric", "top-1", "output",
                     v->g->values[v->g->outputs[v->label_output]].name, "float", x, "quantized", y,
                     "samples", v->n_samples, "relative",
                     v->hits_float ? json_real(y / x) : json_null(), "difference_interval",
                     difference_interval(v));
}

static json_t *result_json(const struct evaluation *v, const struct calibration *c)
{
    return json_pack("{s:i, s:o, s:O, s:o, s:o, s:o}", "samples", v->n_samples, "outputs",
                     outputs_json(v), "first_sample", v->first_sample, "accuracy", accuracy_json(v),
                     "quant_config", c->quant_config ? json_incref(c->quant_config) : json_null(),
                     "ledger", c->ledger ? json_incref(c->ledger) : json_null());
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
                          .label_output = v->label_output,
                          .take = take,
                          .ctx = v};
    v->stats = arena_array(job_arena(j), (size_t)v->g->n_outputs * COLUMNS, sizeof *v->stats);
    v->first_sample = json_array();
    if (compare_run(j, &cmp, "evaluate", e))
        return -1;
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
    v.label_output = label_output(&v, options, e);
    int rc = e->code ? -1 : find_plan(j, m, d, &c, e) || evaluate(j, &v, &c, ret_result, e);
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
