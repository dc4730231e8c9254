#include "worker/quant/config.h"

#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "worker/quant/bias.h"
#include "worker/quant/compensate.h"
#include "worker/quant/dialect.h"

static const char *const level_names[LEVEL_COUNT] = {
    [LEVEL_DEFAULT] = "default",   [LEVEL_SEARCH] = "search", [LEVEL_OP] = "op",
    [LEVEL_SUBGRAPH] = "subgraph", [LEVEL_NODE] = "node",     [LEVEL_INPUT] = "node",
};

const char *level_name(enum level l)
{
    return level_names[l];
}

const char *config_at(struct config_ctx *x, const char *at, const char *key)
{
    char text[ERR_AT_MAX];
    json_pointer_add(text, sizeof text, at, key);
    return arena_strdup(x->arena, text);
}

void config_warn(struct config_ctx *x, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    json_array_append_new(x->c->warnings, json_string(arena_vprintf(x->arena, fmt, ap)));
    va_end(ap);
}

int config_unknown(struct config_ctx *x, const char *at, const char *what, const char *name,
                   const char *const *known, size_t n)
{
    char near[256];
    json_nearest(name, known, n, near, sizeof near);
    return err_set(x->e, ERR_UNKNOWN_NAME, at, "There is no %s \"%.100s\"%s%s%s.", what, name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

int config_qtype(struct config_ctx *x, const json_t *v, const char *at, enum qtype *ret)
{
    const char *name = json_string_value(v);
    if (name && !qtype_parse(name, ret))
        return 0;
    return err_set(x->e, ERR_INVALID, at,
                   "This must be \"int8\", \"int16\", \"float16\" or \"float32\".");
}

static const struct json_field top_fields[] = {
    {"model_config", JSON_K_OBJECT, 0, 0, 0},
    {"op_config", JSON_K_OBJECT, 0, 0, 0},
    {"subgraph_config", JSON_K_OBJECT, 0, 0, 0},
    {"node_config", JSON_K_OBJECT, 0, 0, 0},
    {0},
};

static const struct {
    const char *key;
    int (*parse)(struct config_ctx *x, const json_t *o, const char *at);
} parts[] = {
    {"model_config", config_model},
    {"op_config", config_ops},
    {"subgraph_config", config_subgraphs},
    {"node_config", config_nodes},
};

static int parse_parts(struct config_ctx *x, const char *pointer)
{
    const json_t *o = x->c->source;
    if (json_check(o, top_fields, pointer, x->e))
        return -1;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *part = json_object_get(o, parts[i].key);
        if (json_is_null(part))
            part = NULL;
        if ((part || i == 0) && parts[i].parse(x, part, config_at(x, pointer, parts[i].key)))
            return -1;
    }
    return 0;
}

/* ---- error compensation ---- */

/* The input of a node that an entry compensates, or -1; what is wrong is told when it is parsed. */
static int compensated_input(const struct config_ctx *x, int node, const json_t *entry)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)entry, key, v)
    {
        const char *text = json_string_value(v);
        int input = config_input_number(key);
        if (input < 0 || input >= x->g->nodes[node].n_in || !text || strcmp(text, "ec"))
            continue;
        const struct march_row *row = march_row(x->march, x->g, &x->g->nodes[node], input);
        if (row && row->may_compensate && compensate_low(x->g, node) < 0)
            return input;
    }
    return -1;
}

/* The graph with the twins that the configuration asks for; it may name them. */
static int add_twins(struct config_ctx *x, const char *pointer)
{
    int *input = arena_array(x->arena, (size_t)x->g->n_nodes + 1, sizeof *input);
    const char *name;
    json_t *entry;
    struct graph *g;
    bool any = false;
    for (int i = 0; i < x->g->n_nodes; i++)
        input[i] = -1;
    json_object_foreach(json_object_get(x->c->source, "node_config"), name, entry)
    {
        int node = graph_node(x->g, name);
        if (node >= 0)
            input[node] = compensated_input(x, node, entry);
        any |= node >= 0 && input[node] >= 0;
    }
    x->c->graph = x->g;
    if (!any)
        return 0;
    if (compensate_graph(x->g, input, x->arena, &g, x->e))
        return err_in(x->e, config_at(x, pointer, "node_config"));
    x->c->graph = x->g = g;
    return 0;
}

/* Every bias that may be corrected stands by itself. */
static int add_biases(struct config_ctx *x)
{
    const json_t *weight = json_object_get(json_object_get(x->c->source, "model_config"), "weight");
    struct graph *g;
    if (!json_is_object(json_object_get(weight, "bias_correction")))
        return 0;
    if (bias_graph(x->g, x->arena, &g, x->e))
        return -1;
    x->c->graph = x->g = g;
    return 0;
}

static json_t *source_of(const json_t *v, const char *pointer, json_t *warnings, struct err *e)
{
    if (!v || json_is_null(v))
        return json_object();
    if (!json_is_string(v))
        return json_deep_copy(v);
    json_t *o = dialect_parse(json_string_value(v), json_string_length(v), warnings, e);
    if (!o) { /* the request's own JSON was well formed: this is a value that will not do */
        e->code = ERR_INVALID;
        snprintf(e->at, sizeof e->at, "%s", pointer);
    }
    return o;
}

int config_parse(const json_t *v, const char *pointer, const struct graph *g, const struct march *m,
                 struct arena *a, struct quant_config **ret, struct err *e)
{
    struct quant_config *c = arena_alloc(a, sizeof *c);
    c->arena = a;
    c->weight_percentile = 1;
    c->bias.num_sample = 1;
    c->warnings = json_array();
    c->source = source_of(v, pointer, c->warnings, e);
    struct config_ctx x = {.c = c, .g = g, .march = m, .arena = a, .e = e};
    if (!c->source || add_twins(&x, pointer) || add_biases(&x) || parse_parts(&x, pointer)) {
        config_done(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void config_done(struct quant_config *c)
{
    if (!c)
        return;
    json_decref(c->source);
    json_decref(c->warnings);
    c->source = c->warnings = NULL;
}

/* With a search per layer the candidates stay: no single method says what was used. */
json_t *config_resolved(const struct quant_config *c, const struct calib_method *used)
{
    json_t *o = json_deep_copy(c->source), *model = json_object_get(o, "model_config");
    if (!json_is_object(model)) {
        model = json_object();
        json_object_set_new(o, "model_config", model);
    }
    json_object_set_new(model, "all_node_type", json_string(qtype_name(c->all)));
    if (!c->layer.asked) {
        json_object_set_new(model, "activation", calib_method_json(used));
        json_object_del(model, "modelwise_search");
        json_object_del(model, "search");
    }
    json_t *weight = json_pack("{s:s, s:f}", "calibration_type", c->weight_load ? "load" : "max",
                               "max_percentile", c->weight_percentile);
    if (c->bias.asked)
        json_object_set_new(weight, "bias_correction",
                            json_pack("{s:i, s:s}", "num_sample", c->bias.num_sample, "metric",
                                      metric_rows[c->bias.metric].name));
    json_object_set_new(model, "weight", weight);
    return o;
}
