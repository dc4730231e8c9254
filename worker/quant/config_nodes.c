/* op_config, subgraph_config and node_config of a quant_config: requests for nodes' ports. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/quant/config.h"
#include "worker/quant/place.h"

static void add_request(struct config_ctx *x, struct request r)
{
    struct quant_config *c = x->c;
    if (c->n_requests == x->requests_cap) {
        x->requests_cap = x->requests_cap ? 2 * x->requests_cap : 64;
        struct request *more = arena_array(x->arena, (size_t)x->requests_cap, sizeof *more);
        if (c->n_requests)
            memcpy(more, c->requests, (size_t)c->n_requests * sizeof *more);
        c->requests = more;
    }
    c->requests[c->n_requests++] = r;
}

static int find_node(struct config_ctx *x, const char *name, const char *at)
{
    int node = graph_node(x->g, name);
    if (node >= 0)
        return node;
    const char **known = arena_array(x->arena, (size_t)x->g->n_nodes, sizeof *known);
    for (int i = 0; i < x->g->n_nodes; i++)
        known[i] = x->g->nodes[i].name;
    return config_unknown(x, at, "node", name, known, (size_t)x->g->n_nodes);
}

/* ---- node_config ---- */

int config_input_number(const char *key)
{
    static const char *const prefixes[] = {"input", "InputType"};
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(prefixes[i]);
        const char *digits = key + n;
        if (strncmp(key, prefixes[i], n) || !*digits || strlen(digits) > 6 ||
            strspn(digits, "0123456789") != strlen(digits) || (*digits == '0' && digits[1]))
            continue;
        return atoi(digits);
    }
    return -1;
}

static int parse_input(struct config_ctx *x, int node, int input, const json_t *v, const char *at)
{
    const struct node *n = &x->g->nodes[node];
    struct request r = {.node = node, .input = input, .level = LEVEL_INPUT, .pointer = at};
    if (input >= n->n_in)
        return err_set(x->e, ERR_INVALID, at, "%s \"%.100s\" has %d input%s, counted from 0.",
                       n->op_type, n->name, n->n_in, n->n_in == 1 ? "" : "s");
    const char *text = json_string_value(v);
    r.compensate = text && !strcmp(text, "ec");
    if (r.compensate) {
        const struct march_row *row = march_row(x->march, x->g, n, input);
        if (!row || !row->may_compensate)
            return err_set(x->e, ERR_INVALID, at,
                           "\"ec\" compensates an input that is int8 only, such as a Conv's weight "
                           "(input1) or what Resize reads (input0); input %d of %s is none.",
                           input, n->op_type);
    } else if (config_qtype(x, v, at, &r.qtype)) {
        return -1;
    }
    if (!place_is_port(x->g, n, input))
        return err_set(x->e, ERR_INVALID, at, "Input %d of %s \"%.100s\" is not quantizable.",
                       input, n->op_type, n->name);
    add_request(x, r);
    return 0;
}

static int parse_on(struct config_ctx *x, int node, const json_t *v, const char *at)
{
    const char *text = json_string_value(v);
    bool bpu = text && !strcmp(text, "BPU"), cpu = text && !strcmp(text, "CPU");
    if (!bpu && !cpu)
        return err_set(x->e, ERR_INVALID, at, "This must be \"BPU\" or \"CPU\".");
    add_request(x, (struct request){.node = node,
                                    .input = REQUEST_ALL,
                                    .qtype = cpu ? Q_FLOAT32 : Q_INT8,
                                    .level = LEVEL_NODE,
                                    .pointer = at});
    return 0;
}

/* qtype or OutputType of one node. */
static int parse_whole(struct config_ctx *x, int node, int input, enum level level, const json_t *v,
                       const char *at)
{
    struct request r = {.node = node, .input = input, .level = level, .pointer = at};
    if (config_qtype(x, v, at, &r.qtype))
        return -1;
    add_request(x, r);
    return 0;
}

/* Beside inputN and InputTypeN. */
static const struct json_field node_fields[] = {
    {"qtype", JSON_K_STRING, 0, 0, 0},
    {"OutputType", JSON_K_STRING, 0, 0, 0},
    {"ON", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int parse_node_key(struct config_ctx *x, int node, const char *key, const json_t *v,
                          const char *at)
{
    static const char *const known[] = {"qtype",      "input0",     "input1",
                                        "InputType0", "OutputType", "ON"};
    int input = config_input_number(key);
    if (input >= 0)
        return parse_input(x, node, input, v, at);
    if (!strcmp(key, "qtype"))
        return parse_whole(x, node, REQUEST_ALL, LEVEL_NODE, v, at);
    if (!strcmp(key, "OutputType"))
        return parse_whole(x, node, REQUEST_OUTPUT, LEVEL_NODE, v, at);
    if (!strcmp(key, "ON"))
        return parse_on(x, node, v, at);
    char near[128];
    json_nearest(key, known, sizeof known / sizeof *known, near, sizeof near);
    return err_set(x->e, ERR_INVALID, at, "There is no key \"%.100s\" here%s%s%s.", key,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

int config_nodes(struct config_ctx *x, const json_t *o, const char *at)
{
    const char *name, *key;
    json_t *entry, *v;
    json_object_foreach((json_t *)o, name, entry)
    {
        const char *place = config_at(x, at, name);
        int node = find_node(x, name, place);
        if (node < 0)
            return -1;
        if (!json_is_object(entry))
            return err_set(x->e, ERR_INVALID, place, "This must be an object.");
        json_object_foreach(entry, key, v)
        {
            if (parse_node_key(x, node, key, v, config_at(x, place, key)))
                return -1;
        }
    }
    return 0;
}

/* ---- op_config ---- */

static bool is_type(const struct node *n, const char *type)
{
    return !strcmp(type, "Lut") ? n->op && n->op->traits & T_LUT : !strcmp(n->op_type, type);
}

/* Is the type known at all, and if so does the graph have it? */
static int check_type(struct config_ctx *x, const char *type, const char *at)
{
    size_t n = 0, cap = 2048;
    const char **known = arena_array(x->arena, cap, sizeof *known);
    bool there = false;
    known[n++] = "Lut";
    for (int i = 0; i < x->g->n_nodes; i++) {
        there |= is_type(&x->g->nodes[i], type);
        if (n < cap / 2)
            known[n++] = x->g->nodes[i].op_type;
    }
    for (const struct op *const *f = op_families; *f; f++)
        for (const struct op *op = *f; op->type && n < cap; op++)
            known[n++] = op->type;
    for (size_t i = 0; i < n && !there; i++)
        if (!strcmp(known[i], type)) {
            config_warn(x, "%s: the model has no operator of this type.", at);
            return 0;
        }
    return there ? 0 : config_unknown(x, at, "operator type", type, known, n);
}

static const struct json_field op_fields[] = {
    {"qtype", JSON_K_STRING, 0, 0, 0},
    {"InputType", JSON_K_STRING, 0, 0, 0},
    {"OutputType", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int parse_op(struct config_ctx *x, const char *type, const json_t *o, const char *at)
{
    if (json_check(o, op_fields, at, x->e) || check_type(x, type, at))
        return -1;
    for (const struct json_field *f = op_fields; f->key; f++) {
        const json_t *v = json_object_get(o, f->key);
        int input = strcmp(f->key, "OutputType") ? REQUEST_ALL : REQUEST_OUTPUT;
        enum qtype q;
        if (!v)
            continue;
        if (config_qtype(x, v, config_at(x, at, f->key), &q))
            return -1;
        for (int i = 0; i < x->g->n_nodes; i++)
            if (is_type(&x->g->nodes[i], type))
                parse_whole(x, i, input, LEVEL_OP, v, config_at(x, at, f->key));
    }
    return 0;
}

int config_ops(struct config_ctx *x, const json_t *o, const char *at)
{
    const char *type;
    json_t *entry;
    json_object_foreach((json_t *)o, type, entry)
    {
        if (parse_op(x, type, entry, config_at(x, at, type)))
            return -1;
    }
    return 0;
}

/* ---- subgraph_config ---- */

/* Marks the named nodes. */
static int mark_nodes(struct config_ctx *x, const json_t *list, const char *at, bool *ret)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *place = arena_printf(x->arena, "%s/%zu", at, i);
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            return err_set(x->e, ERR_INVALID, place, "This must be the name of a node.");
        int node = find_node(x, name, place);
        if (node < 0)
            return -1;
        ret[node] = true;
    }
    return 0;
}

/* Everything behind the marked nodes, themselves included: nodes stand in topological order. */
static void spread_down(const struct graph *g, bool *mark)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in && !mark[i]; k++) {
            int v = g->nodes[i].in[k];
            mark[i] = v != VALUE_NONE && g->values[v].producer >= 0 && mark[g->values[v].producer];
        }
}

static void spread_up(const struct graph *g, bool *mark)
{
    for (int i = g->n_nodes - 1; i >= 0; i--)
        for (int k = 0; mark[i] && k < g->nodes[i].n_in; k++) {
            int v = g->nodes[i].in[k];
            if (v != VALUE_NONE && g->values[v].producer >= 0)
                mark[g->values[v].producer] = true;
        }
}

static const struct json_field subgraph_fields[] = {
    {"inputs", JSON_K_ARRAY, 1, 1, 1e6},
    {"outputs", JSON_K_ARRAY, 1, 1, 1e6},
    {"qtype", JSON_K_STRING, 1, 0, 0},
    {0},
};

static int parse_subgraph(struct config_ctx *x, const json_t *o, const char *at)
{
    size_t n = (size_t)x->g->n_nodes;
    bool *down = arena_array(x->arena, n, sizeof *down), *up = arena_array(x->arena, n, sizeof *up);
    struct request r = {.input = REQUEST_ALL, .level = LEVEL_SUBGRAPH, .pointer = at};
    if (json_check(o, subgraph_fields, at, x->e) ||
        mark_nodes(x, json_object_get(o, "inputs"), config_at(x, at, "inputs"), down) ||
        mark_nodes(x, json_object_get(o, "outputs"), config_at(x, at, "outputs"), up) ||
        config_qtype(x, json_object_get(o, "qtype"), config_at(x, at, "qtype"), &r.qtype))
        return -1;
    spread_down(x->g, down);
    spread_up(x->g, up);
    bool any = false;
    for (r.node = 0; r.node < x->g->n_nodes; r.node++)
        if (down[r.node] && up[r.node]) {
            add_request(x, r);
            any = true;
        }
    if (!any)
        return err_set(x->e, ERR_INVALID, at, "No path leads from the inputs to the outputs.");
    return 0;
}

int config_subgraphs(struct config_ctx *x, const json_t *o, const char *at)
{
    const char *label;
    json_t *entry;
    json_object_foreach((json_t *)o, label, entry)
    {
        if (parse_subgraph(x, entry, config_at(x, at, label)))
            return -1;
    }
    return 0;
}

const struct config_keys config_nodes_keys[] = {
    {"op_config/*", op_fields},
    {"subgraph_config/*", subgraph_fields},
    {"node_config/*", node_fields},
    {0},
};
