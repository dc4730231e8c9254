#include "worker/load/build.h"

#include <string.h>

/* Room for one more; what was there is left behind in the arena. */
static void *grown(struct arena *a, void *items, int n, int *cap, size_t size)
{
    if (n < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 16;
    void *fresh = arena_array(a, (size_t)*cap, size);
    if (n)
        memcpy(fresh, items, (size_t)n * size);
    return fresh;
}

struct build *build_new(struct arena *a, const char *name)
{
    struct build *b = arena_alloc(a, sizeof *b);
    b->arena = a;
    b->name = name ? name : "";
    b->fold_left = FOLD_COST_BASE;
    map_init(&b->names, a);
    map_init(&b->fresh, a);
    return b;
}

static int add_value(struct build *b, const char *name)
{
    b->values = grown(b->arena, b->values, b->n_values, &b->values_cap, sizeof *b->values);
    b->values[b->n_values] = (struct build_value){.name = name, .use = VALUE_NONE};
    map_set(&b->names, name, b->n_values);
    return b->n_values++;
}

int build_value(struct build *b, const char *name)
{
    if (!*name)
        return VALUE_NONE;
    int v = map_get(&b->names, name);
    return v >= 0 ? v : add_value(b, name);
}

int build_fresh(struct build *b, const char *base)
{
    if (map_get(&b->names, base) < 0)
        return add_value(b, base);
    int i = map_get(&b->fresh, base);
    const char *name = base;
    for (i = i < 0 ? 1 : i; map_get(&b->names, name) >= 0; i++)
        name = arena_printf(b->arena, "%s_%d", base, i);
    map_set(&b->fresh, base, i);
    return add_value(b, name);
}

int build_const(struct build *b, const char *base, const struct tensor *t)
{
    int v = build_fresh(b, base);
    b->values[v].type = *t;
    b->values[v].is_const = true;
    return v;
}

void build_input(struct build *b, int value)
{
    b->inputs = grown(b->arena, b->inputs, b->n_inputs, &b->inputs_cap, sizeof *b->inputs);
    b->inputs[b->n_inputs++] = value;
    b->values[value].is_input = true;
}

void build_output(struct build *b, int value)
{
    b->outputs = grown(b->arena, b->outputs, b->n_outputs, &b->outputs_cap, sizeof *b->outputs);
    b->outputs[b->n_outputs++] = value;
    b->values[value].is_output = true;
}

static int *copy_list(struct arena *a, const int *list, int n)
{
    return n ? arena_copy(a, list, (size_t)n * sizeof *list) : NULL;
}

int build_node(struct build *b, const char *name, const char *domain, const char *op_type,
               int opset, const int *in, int n_in, const int *out, int n_out)
{
    b->nodes = grown(b->arena, b->nodes, b->n_nodes, &b->nodes_cap, sizeof *b->nodes);
    b->nodes[b->n_nodes] = (struct build_node){.name = name,
                                               .domain = domain,
                                               .op_type = op_type,
                                               .opset = opset,
                                               .n_in = n_in,
                                               .n_out = n_out,
                                               .in = copy_list(b->arena, in, n_in),
                                               .out = copy_list(b->arena, out, n_out),
                                               .into = -1};
    return b->n_nodes++;
}

void build_retype(struct build *b, int node, const char *domain, const char *op_type, int opset,
                  const int *in, int n_in)
{
    struct build_node *n = &b->nodes[node];
    n->domain = domain;
    n->op_type = op_type;
    n->opset = opset;
    n->in = copy_list(b->arena, in, n_in);
    n->n_in = n_in;
    n->attrs = NULL;
    n->n_attrs = 0;
}

void build_attr(struct build *b, int node, const struct attr *attr)
{
    struct build_node *n = &b->nodes[node];
    struct attr *attrs = arena_array(b->arena, (size_t)n->n_attrs + 1, sizeof *attrs);
    int count = 0;
    for (int i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, attr->name))
            attrs[count++] = n->attrs[i];
    attrs[count++] = *attr;
    n->attrs = attrs;
    n->n_attrs = count;
}

void build_attr_int(struct build *b, int node, const char *name, int64_t v)
{
    build_attr(b, node, &(struct attr){.name = name, .type = ATTR_INT, .n = 1, .i = v});
}

void build_attr_float(struct build *b, int node, const char *name, float v)
{
    build_attr(b, node, &(struct attr){.name = name, .type = ATTR_FLOAT, .n = 1, .f = v});
}

void build_attr_string(struct build *b, int node, const char *name, const char *v)
{
    build_attr(b, node, &(struct attr){.name = name, .type = ATTR_STRING, .n = 1, .s = v});
}

void build_attr_ints(struct build *b, int node, const char *name, const int64_t *v, size_t n)
{
    const int64_t *copy = arena_copy(b->arena, v, n * sizeof *v);
    build_attr(b, node, &(struct attr){.name = name, .type = ATTR_INTS, .n = n, .ints = copy});
}

void build_attr_floats(struct build *b, int node, const char *name, const float *v, size_t n)
{
    const float *copy = arena_copy(b->arena, v, n * sizeof *v);
    build_attr(b, node, &(struct attr){.name = name, .type = ATTR_FLOATS, .n = n, .floats = copy});
}

void build_drop(struct build *b, int node, int into, const char *how)
{
    struct build_node *n = &b->nodes[node];
    n->gone = true;
    n->into = into;
    n->how = how;
}

void build_use(struct build *b, int old, int fresh)
{
    b->values[old].use = fresh;
}

int build_opset(const struct build *b, const char *domain)
{
    for (int i = 0; i < b->n_opsets; i++)
        if (!strcmp(b->opsets[i].domain, domain))
            return b->opsets[i].version;
    return -1;
}

void build_import(struct build *b, const char *domain, int version)
{
    if (build_opset(b, domain) >= 0)
        return;
    struct opset *list = arena_array(b->arena, (size_t)b->n_opsets + 1, sizeof *list);
    if (b->n_opsets)
        memcpy(list, b->opsets, (size_t)b->n_opsets * sizeof *list);
    list[b->n_opsets++] = (struct opset){domain, version};
    b->opsets = list;
}

static void copy_values(struct build *b, const struct graph *g)
{
    b->values_cap = g->n_values + 16;
    b->values = arena_array(b->arena, (size_t)b->values_cap, sizeof *b->values);
    map_reserve(&b->names, (size_t)b->values_cap);
    for (int i = 0; i < g->n_values; i++) {
        const struct value *from = &g->values[i];
        int at = add_value(b, from->name); /* may move b->values */
        struct build_value *to = &b->values[at];
        to->type = from->type;
        to->dim_names = from->dim_names;
        to->is_const = from->producer < 0 && !from->is_input && from->type.data;
    }
    for (int i = 0; i < g->n_inputs; i++)
        build_input(b, g->inputs[i]);
    for (int i = 0; i < g->n_outputs; i++)
        build_output(b, g->outputs[i]);
}

static void copy_nodes(struct build *b, const struct graph *g)
{
    b->nodes_cap = g->n_nodes + 16;
    b->nodes = arena_array(b->arena, (size_t)b->nodes_cap, sizeof *b->nodes);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        int at = build_node(b, n->name, n->domain, n->op_type, n->opset, n->in, n->n_in, n->out,
                            n->n_out); /* may move b->nodes */
        struct build_node *to = &b->nodes[at];
        to->n_attrs = n->n_attrs;
        if (n->n_attrs)
            to->attrs = arena_copy(b->arena, n->attrs, (size_t)n->n_attrs * sizeof *n->attrs);
    }
}

static void copy_origins(struct build *b, const struct graph *g)
{
    b->n_origins = g->n_origins ? g->n_origins : g->n_nodes;
    b->origins = arena_array(b->arena, (size_t)b->n_origins, sizeof *b->origins);
    for (int i = 0; i < b->n_origins; i++) {
        const struct origin *o = g->n_origins ? &g->origins[i] : NULL;
        b->origins[i] = o ? (struct build_origin){o->original, o->how,
                                                  o->optimized ? graph_node(g, o->optimized) : -1}
                          : (struct build_origin){g->nodes[i].name, "kept", i};
    }
}

struct build *build_from(const struct graph *g, struct arena *a)
{
    struct build *b = build_new(a, g->name);
    copy_values(b, g);
    copy_nodes(b, g);
    copy_origins(b, g);
    b->n_opsets = g->n_opsets;
    b->opsets = g->opsets;
    b->fold_left = g->fold_left;
    return b;
}
