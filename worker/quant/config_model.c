/* model_config of a quant_config: qtypes, methods and their candidates, searches. */
#include "worker/quant/config.h"

#include <math.h>
#include <string.h>

#include "common/json.h"

enum {
    NUM_BIN = 1024,
    NUM_BIN_MIN = 129,
    MAX_NUM_BIN = 16384,
    MAX_NUM_BIN_MIN = 258,
    BINS_LIMIT = 1 << 20,
    CANDIDATES_MAX = 64,
    SEARCH_SAMPLES_MAX = 10000
};
#define PERCENTILE     0.99995 /* what the chapter writes */
#define PERCENTILE_MIN 0.5

static const struct {
    const char *name;
    bool percentile, per_channel, asymmetric, bins; /* what it takes */
} methods[METHOD_COUNT] = {
    [METHOD_MAX] = {"max", true, true, true, false},
    [METHOD_KL] = {"kl", false, false, true, true},
    [METHOD_MIN_MAX] = {"min-max", false, false, false, false},
    [METHOD_MSE] = {"mse", false, false, true, true},
    [METHOD_FIXED] = {"fixed", false, false, false, false},
    [METHOD_LOAD] = {"load", false, false, false, false},
};

const char *method_name(enum method m)
{
    return methods[m].name;
}

json_t *calib_method_json(const struct calib_method *a)
{
    json_t *o = json_object();
    json_object_set_new(o, "calibration_type", json_string(methods[a->method].name));
    if (methods[a->method].percentile)
        json_object_set_new(o, "max_percentile", json_real(a->max_percentile));
    if (methods[a->method].per_channel)
        json_object_set_new(o, "per_channel", json_boolean(a->per_channel));
    if (methods[a->method].asymmetric)
        json_object_set_new(o, "asymmetric", json_boolean(a->asymmetric));
    if (methods[a->method].bins) {
        json_object_set_new(o, "num_bin", json_integer(a->num_bin));
        json_object_set_new(o, "max_num_bin", json_integer(a->max_num_bin));
    }
    return o;
}

bool calib_method_same(const struct calib_method *a, const struct calib_method *b)
{
    const enum method m = a->method;
    return m == b->method && (!methods[m].percentile || a->max_percentile == b->max_percentile) &&
           (!methods[m].per_channel || a->per_channel == b->per_channel) &&
           (!methods[m].asymmetric || a->asymmetric == b->asymmetric) &&
           (!methods[m].bins || (a->num_bin == b->num_bin && a->max_num_bin == b->max_num_bin));
}

/* A candidate list in the making: each option is one value or a list of them. */
struct options {
    int n_types, n_bins, n_percentiles, n_channels, n_asymmetric;
    struct {
        enum method method;
        bool percentile; /* the word "percentile" */
    } types[CANDIDATES_MAX];
    int bins[CANDIDATES_MAX], max_num_bin;
    double percentiles[CANDIDATES_MAX];
    bool channels[CANDIDATES_MAX], asymmetric[CANDIDATES_MAX], percentiles_given;
    bool mixed; /* the word "mix" */
};

static int parse_type(struct config_ctx *x, const json_t *v, const char *at, struct options *o)
{
    static const char *const known[] = {"max", "kl",    "min-max", "percentile", "mse",
                                        "mix", "fixed", "load",    "default"};
    const char *name = json_string_value(v);
    if (!name)
        return err_set(x->e, ERR_INVALID, at, "This must be a string or a list of strings.");
    if (!strcmp(name, "mix")) {
        o->mixed = true;
        return 0;
    }
    bool percentile = !strcmp(name, "percentile");
    for (int m = 0; m < METHOD_COUNT; m++)
        if (!strcmp(name, methods[m].name) || (percentile && m == METHOD_MAX)) {
            o->types[o->n_types].method = (enum method)m;
            o->types[o->n_types++].percentile = percentile;
            return 0;
        }
    return config_unknown(x, at, "calibration type", name, known, sizeof known / sizeof *known);
}

static int bounded(struct config_ctx *x, double v, double min, double max, const char *at)
{
    if (v >= min && v <= max)
        return 0;
    return err_set(x->e, ERR_INVALID, at, "The value must be between %.15g and %.15g, not %.15g.",
                   min, max, v);
}

static int parse_bins(struct config_ctx *x, const json_t *v, const char *at, struct options *o)
{
    if (!json_is_integer(v))
        return err_set(x->e, ERR_INVALID, at, "This must be an integer or a list of integers.");
    if (bounded(x, (double)json_integer_value(v), NUM_BIN_MIN, BINS_LIMIT, at))
        return -1;
    o->bins[o->n_bins++] = (int)json_integer_value(v);
    return 0;
}

static int parse_percentile(struct config_ctx *x, const json_t *v, const char *at,
                            struct options *o)
{
    if (!json_is_number(v))
        return err_set(x->e, ERR_INVALID, at, "This must be a number or a list of numbers.");
    if (bounded(x, json_number_value(v), PERCENTILE_MIN, 1, at))
        return -1;
    o->percentiles[o->n_percentiles++] = json_number_value(v);
    o->percentiles_given = true;
    return 0;
}

static int parse_flag(struct config_ctx *x, const json_t *v, const char *at, bool *list, int *n)
{
    if (!json_is_boolean(v))
        return err_set(x->e, ERR_INVALID, at, "This must be true or false, or a list of them.");
    list[(*n)++] = json_is_true(v);
    return 0;
}

static int parse_channel(struct config_ctx *x, const json_t *v, const char *at, struct options *o)
{
    return parse_flag(x, v, at, o->channels, &o->n_channels);
}

static int parse_asymmetric(struct config_ctx *x, const json_t *v, const char *at,
                            struct options *o)
{
    return parse_flag(x, v, at, o->asymmetric, &o->n_asymmetric);
}

typedef int option_fn(struct config_ctx *x, const json_t *v, const char *at, struct options *o);

/* One value, or a list of them. */
static int parse_list(struct config_ctx *x, const json_t *o, const char *at, const char *key,
                      option_fn *fn, struct options *ret)
{
    const json_t *v = json_object_get(o, key);
    const char *place = config_at(x, at, key);
    if (!v)
        return 0;
    if (!json_is_array(v))
        return fn(x, v, place, ret);
    if (json_array_size(v) == 0 || json_array_size(v) > CANDIDATES_MAX)
        return err_set(x->e, ERR_INVALID, place, "A list must have 1 to %d elements.",
                       CANDIDATES_MAX);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (fn(x, json_array_get(v, i), arena_printf(x->arena, "%s/%zu", place, i), ret))
            return -1;
    return 0;
}

static int add_candidate(struct config_ctx *x, const struct calib_method *a, const char *at)
{
    struct quant_config *c = x->c;
    for (int i = 0; i < c->n_candidates; i++)
        if (calib_method_same(&c->candidates[i], a))
            return 0;
    if (c->n_candidates == CANDIDATES_MAX)
        return err_set(x->e, ERR_LIMIT, at, "More than %d candidates.", CANDIDATES_MAX);
    c->candidates[c->n_candidates++] = *a;
    return 0;
}

/* Those with a scale a channel go behind the others: the search tries them last. */
static void channels_last(struct quant_config *c)
{
    struct calib_method sorted[CANDIDATES_MAX];
    int n = 0;
    for (int channel = 0; channel < 2; channel++)
        for (int i = 0; i < c->n_candidates; i++)
            if (c->candidates[i].per_channel == channel)
                sorted[n++] = c->candidates[i];
    memcpy(c->candidates, sorted, (size_t)n * sizeof *sorted);
}

/* The cartesian product; what a method does not take makes no candidate of its own. */
static int multiply(struct config_ctx *x, const struct options *o, const char *at)
{
    x->c->candidates = arena_array(x->arena, CANDIDATES_MAX, sizeof *x->c->candidates);
    for (int ch = 0; ch < o->n_channels; ch++)
        for (int t = 0; t < o->n_types; t++)
            for (int p = 0; p < o->n_percentiles; p++)
                for (int as = 0; as < o->n_asymmetric; as++)
                    for (int b = 0; b < o->n_bins; b++) {
                        enum method m = o->types[t].method;
                        double percentile = o->types[t].percentile && !o->percentiles_given
                                                ? PERCENTILE
                                                : o->percentiles[p];
                        struct calib_method a = {
                            .method = m,
                            .max_percentile = methods[m].percentile ? percentile : 1,
                            .per_channel = methods[m].per_channel && o->channels[ch],
                            .asymmetric = methods[m].asymmetric && o->asymmetric[as],
                            .num_bin = o->bins[b],
                            .max_num_bin = o->max_num_bin,
                        };
                        if (add_candidate(x, &a, at))
                            return -1;
                    }
    channels_last(x->c);
    return 0;
}

/* What the vendor tries when no method is given: max and kl, by two percentiles, per channel and
 * not, symmetric and not. */
static void vendor_defaults(struct options *o)
{
    o->types[o->n_types++].method = METHOD_MAX;
    o->types[o->n_types++].method = METHOD_KL;
    if (!o->n_percentiles) {
        o->percentiles[o->n_percentiles++] = PERCENTILE;
        o->percentiles[o->n_percentiles++] = 1;
    }
    if (!o->n_channels) {
        o->channels[o->n_channels++] = false;
        o->channels[o->n_channels++] = true;
    }
    if (!o->n_asymmetric) {
        o->asymmetric[o->n_asymmetric++] = false;
        o->asymmetric[o->n_asymmetric++] = true;
    }
}

static int parse_max_bins(struct config_ctx *x, const json_t *o, const char *at,
                          struct options *ret)
{
    int most = MAX_NUM_BIN_MIN;
    for (int i = 0; i < ret->n_bins; i++)
        most = ret->bins[i] > most ? ret->bins[i] : most;
    ret->max_num_bin = (int)json_int(o, "max_num_bin", MAX_NUM_BIN > most ? MAX_NUM_BIN : most);
    return bounded(x, ret->max_num_bin, most, BINS_LIMIT, config_at(x, at, "max_num_bin"));
}

static const struct json_field activation_fields[] = {
    {"calibration_type", JSON_K_ANY, 0, 0, 0},
    {"num_bin", JSON_K_ANY, 0, 0, 0},
    {"max_num_bin", JSON_K_INT, 0, MAX_NUM_BIN_MIN, BINS_LIMIT},
    {"max_percentile", JSON_K_ANY, 0, 0, 0},
    {"per_channel", JSON_K_ANY, 0, 0, 0},
    {"asymmetric", JSON_K_ANY, 0, 0, 0},
    {0},
};

static bool type_absent(const json_t *o)
{
    const json_t *v = json_object_get(o, "calibration_type");
    return !v || (json_is_string(v) && !strcmp(json_string_value(v), "default"));
}

static int parse_activation(struct config_ctx *x, const json_t *o, const char *at, bool searched)
{
    struct options *opt = arena_alloc(x->arena, sizeof *opt);
    bool absent = type_absent(o);
    if (o && json_check(o, activation_fields, at, x->e))
        return -1;
    if ((!absent && parse_list(x, o, at, "calibration_type", parse_type, opt)) ||
        parse_list(x, o, at, "num_bin", parse_bins, opt) ||
        parse_list(x, o, at, "max_percentile", parse_percentile, opt) ||
        parse_list(x, o, at, "per_channel", parse_channel, opt) ||
        parse_list(x, o, at, "asymmetric", parse_asymmetric, opt))
        return -1;
    if (!opt->n_bins)
        opt->bins[opt->n_bins++] = NUM_BIN;
    if (parse_max_bins(x, o, at, opt))
        return -1;
    if ((absent && !searched) || opt->mixed)
        vendor_defaults(opt);
    if (absent && !searched)
        x->c->search.similarity = 0.995; /* at which the vendor's search stops */
    else if (absent)
        opt->types[opt->n_types++].method = METHOD_MAX;
    x->c->layer.asked |= opt->mixed;
    if (!opt->n_percentiles)
        opt->percentiles[opt->n_percentiles++] = 1;
    opt->n_channels += !opt->n_channels;
    opt->n_asymmetric += !opt->n_asymmetric;
    return multiply(x, opt, at);
}

static const struct json_field weight_fields[] = {
    {"calibration_type", JSON_K_STRING, 0, 0, 0},
    {"max_percentile", JSON_K_REAL, 0, 0, 0},
    {"bias_correction", JSON_K_OBJECT, 0, 0, 0},
    {0},
};

static int parse_metric(struct config_ctx *x, const json_t *o, const char *at, enum metric *ret)
{
    const char *name = json_str(o, "metric", "cosine-similarity"), *known[METRIC_COUNT];
    for (int m = 0; m < METRIC_COUNT; m++)
        known[m] = metric_rows[m].name;
    return metric_parse(name, ret)
               ? config_unknown(x, config_at(x, at, "metric"), "metric", name, known, METRIC_COUNT)
               : 0;
}

static const struct json_field bias_fields[] = {
    {"num_sample", JSON_K_INT, 0, 1, SEARCH_SAMPLES_MAX},
    {"metric", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int parse_bias(struct config_ctx *x, const json_t *o, const char *at)
{
    x->c->bias.asked = true;
    if (json_check(o, bias_fields, at, x->e) || parse_metric(x, o, at, &x->c->bias.metric))
        return -1;
    x->c->bias.num_sample = (int)json_int(o, "num_sample", 1);
    return 0;
}

static int parse_weight(struct config_ctx *x, const json_t *o, const char *at)
{
    static const char *const known[] = {"max", "load"};
    if (json_check(o, weight_fields, at, x->e))
        return -1;
    const char *type = json_str(o, "calibration_type", "max");
    x->c->weight_load = !strcmp(type, "load");
    if (!x->c->weight_load && strcmp(type, "max"))
        return config_unknown(x, config_at(x, at, "calibration_type"), "weight calibration type",
                              type, known, 2);
    x->c->weight_percentile = json_num(o, "max_percentile", 1);
    if (!(x->c->weight_percentile > 0 && x->c->weight_percentile <= 1))
        return err_set(x->e, ERR_INVALID, config_at(x, at, "max_percentile"),
                       "The value must be above 0 and at most 1.");
    if (x->c->weight_load && x->c->weight_percentile < 1)
        return err_set(x->e, ERR_INVALID, config_at(x, at, "max_percentile"),
                       "Thresholds that are loaded are taken as they are.");
    const json_t *bias = json_object_get(o, "bias_correction");
    return bias ? parse_bias(x, bias, config_at(x, at, "bias_correction")) : 0;
}

static const struct json_field search_fields[] = {
    {"metric", JSON_K_STRING, 0, 0, 0},
    {"similarity", JSON_K_REAL, 0, -1, 1},
    {"num_sample", JSON_K_INT, 0, 1, SEARCH_SAMPLES_MAX},
    {0},
};

static int parse_search(struct config_ctx *x, const json_t *o, const char *at)
{
    if (json_check(o, search_fields, at, x->e))
        return -1;
    if (parse_metric(x, o, at, &x->c->search.metric))
        return -1;
    x->c->search.similarity = json_num(o, "similarity", 1);
    x->c->search.num_sample = (int)json_int(o, "num_sample", 1);
    return 0;
}

static const struct json_field both_fields[] = {
    {"model", JSON_K_OBJECT, 0, 0, 0},
    {"layer", JSON_K_OBJECT, 0, 0, 0},
    {0},
};

static const struct json_field layer_fields[] = {
    {"metric", JSON_K_STRING, 0, 0, 0},
    {"topk", JSON_K_INT, 0, 1, 1e6},
    {"qtype", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int parse_layer(struct config_ctx *x, const json_t *o, const char *at)
{
    const json_t *qtype = json_object_get(o, "qtype");
    x->c->layer.asked = true;
    if (json_check(o, layer_fields, at, x->e) || parse_metric(x, o, at, &x->c->layer.metric))
        return -1;
    x->c->layer.topk = (int)json_int(o, "topk", 0);
    x->c->layer.qtype = Q_INT8;
    if (qtype && config_qtype(x, qtype, config_at(x, at, "qtype"), &x->c->layer.qtype))
        return -1;
    if (x->c->layer.qtype > Q_INT16)
        return err_set(x->e, ERR_INVALID, config_at(x, at, "qtype"),
                       "The search per layer gives \"int8\" or \"int16\".");
    return 0;
}

/* One search by its old key or as `spelling` of "search"; *ret: it is there. */
static int parse_one_search(struct config_ctx *x, const json_t *o, const char *at, const char *key,
                            const char *spelling,
                            int (*parse)(struct config_ctx *x, const json_t *o, const char *at),
                            bool *ret)
{
    const char *at_both = config_at(x, at, "search");
    const json_t *old = json_object_get(o, key),
                 *newer = json_object_get(json_object_get(o, "search"), spelling);
    if (newer && old && !json_equal(newer, old))
        return err_set(x->e, ERR_INVALID, config_at(x, at, key),
                       "search.%s says otherwise: keep one of them.", spelling);
    *ret = newer || old;
    if (newer)
        return parse(x, newer, config_at(x, at_both, spelling));
    return old ? parse(x, old, config_at(x, at, key)) : 0;
}

/* *ret: a search is there. The one per layer overrides the one over the model. */
static int parse_searches(struct config_ctx *x, const json_t *o, const char *at, bool *ret)
{
    const json_t *both = json_object_get(o, "search");
    bool model, layer;
    if (both && json_check(both, both_fields, config_at(x, at, "search"), x->e))
        return -1;
    if (parse_one_search(x, o, at, "modelwise_search", "model", parse_search, &model) ||
        parse_one_search(x, o, at, "layerwise_search", "layer", parse_layer, &layer))
        return -1;
    if (model && layer)
        config_warn(x, "%s: the search per layer overrides it.",
                    config_at(x, at,
                              json_object_get(o, "modelwise_search") ? "modelwise_search"
                                                                     : "search/model"));
    *ret = model || layer;
    return 0;
}

static const struct json_field model_fields[] = {
    {"all_node_type", JSON_K_STRING, 0, 0, 0},    {"model_output_type", JSON_K_STRING, 0, 0, 0},
    {"activation", JSON_K_OBJECT, 0, 0, 0},       {"weight", JSON_K_OBJECT, 0, 0, 0},
    {"modelwise_search", JSON_K_OBJECT, 0, 0, 0}, {"layerwise_search", JSON_K_OBJECT, 0, 0, 0},
    {"search", JSON_K_OBJECT, 0, 0, 0},           {0},
};

static int parse_types(struct config_ctx *x, const json_t *o, const char *at)
{
    const json_t *all = json_object_get(o, "all_node_type");
    const json_t *out = json_object_get(o, "model_output_type");
    if (all && config_qtype(x, all, config_at(x, at, "all_node_type"), &x->c->all))
        return -1;
    if (!out)
        return 0;
    x->c->output_given = true;
    return config_qtype(x, out, config_at(x, at, "model_output_type"), &x->c->output);
}

/* All candidates are ranked before the search per layer. */
static void settle_layer(struct config_ctx *x, const char *at)
{
    struct quant_config *c = x->c;
    if (!c->layer.asked)
        return;
    c->search.metric = c->layer.metric;
    c->search.similarity = INFINITY;
    c->search.num_sample = 1;
    if (!metric_rows[c->layer.metric].higher_better)
        c->search.similarity = -INFINITY;
    if (c->n_candidates == 1 && c->layer.qtype == Q_INT8)
        config_warn(x, "%s: there is one calibration method: the search per layer has no choice.",
                    at);
}

int config_model(struct config_ctx *x, const json_t *o, const char *at)
{
    bool searched = false;
    x->c->search.metric = x->c->layer.metric = x->c->bias.metric = M_COSINE;
    x->c->search.similarity = 1;
    x->c->search.num_sample = 1;
    if (o && (json_check(o, model_fields, at, x->e) || parse_types(x, o, at) ||
              parse_searches(x, o, at, &searched)))
        return -1;
    const char *activation = config_at(x, at, "activation");
    if (parse_activation(x, json_object_get(o, "activation"), activation, searched))
        return -1;
    settle_layer(x, activation);
    const json_t *weight = json_object_get(o, "weight");
    return weight ? parse_weight(x, weight, config_at(x, at, "weight")) : 0;
}

const struct config_keys config_model_keys[] = {
    {"model_config", model_fields},
    {"model_config/activation", activation_fields},
    {"model_config/weight", weight_fields},
    {"model_config/weight/bias_correction", bias_fields},
    {"model_config/search", both_fields},
    {"model_config/search/layer", layer_fields},
    {"model_config/layerwise_search", layer_fields},
    {"model_config/search/model", search_fields},
    {"model_config/modelwise_search", search_fields},
    {0},
};
