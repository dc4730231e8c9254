/*
 * An If whose condition is constant: the nodes of the branch it takes come in its place. They keep
 * their names where these are free.
 */
#include <string.h>

#include "worker/load/optimize/edit.h"

struct inlining {
    struct edit *ed;
    const struct node *node;
    const struct graph *branch;
    struct map *names; /* of nodes that came in before */
    int *to;           /* the branch's values → the builder's */
};

/* The node's output that shows this value of the branch for the first time, or VALUE_NONE. */
static int output_for(const struct inlining *in, int value)
{
    for (int i = 0; i < in->node->n_out; i++)
        if (in->branch->outputs[i] == value)
            return in->node->out[i];
    return VALUE_NONE;
}

static void place_values(struct inlining *in)
{
    struct build *b = edit_builder(in->ed);
    for (int v = 0; v < in->branch->n_values; v++) {
        const struct value *value = &in->branch->values[v];
        if (value->outer >= 0) {
            in->to[v] = value->outer;
        } else if (value->producer < 0) {
            in->to[v] = build_const(b, value->name, &value->type);
        } else {
            int out = output_for(in, v);
            in->to[v] = out >= 0 ? out : build_fresh(b, value->name);
        }
    }
}

static const char *free_name(struct inlining *in, const char *name)
{
    const struct graph *g = in->ed->g;
    if (graph_node(g, name) >= 0 || map_get(in->names, name) >= 0)
        name = arena_printf(g->arena, "%s/%s", in->node->name, name);
    while (graph_node(g, name) >= 0 || map_get(in->names, name) >= 0)
        name = arena_printf(g->arena, "%s_", name);
    map_set(in->names, name, 0);
    return name;
}

static const int *translated(const struct inlining *in, const int *list, int n)
{
    int *ret = arena_array(in->ed->g->arena, (size_t)n + 1, sizeof *ret);
    for (int i = 0; i < n; i++)
        ret[i] = list[i] < 0 ? VALUE_NONE : in->to[list[i]];
    return ret;
}

/* A graph inside the branch: what it reads of the branch has other numbers now. */
static const struct graph *moved(const struct inlining *in, const struct graph *inner)
{
    struct arena *a = in->ed->g->arena;
    struct graph *g = arena_copy(a, inner, sizeof *inner);
    g->values = arena_copy(a, inner->values, (size_t)inner->n_values * sizeof *inner->values);
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].outer >= 0)
            g->values[v].outer = in->to[g->values[v].outer];
    return g;
}

static void add_node(struct inlining *in, const struct node *n)
{
    struct build *b = edit_builder(in->ed);
    int at = build_node(b, free_name(in, n->name), n->domain, n->op_type, n->opset,
                        translated(in, n->in, n->n_in), n->n_in, translated(in, n->out, n->n_out),
                        n->n_out);
    for (int k = 0; k < n->n_attrs; k++) {
        struct attr attr = n->attrs[k];
        if (attr.type == ATTR_GRAPH)
            attr.g = moved(in, attr.g);
        build_attr(b, at, &attr);
    }
}

/* Outputs that no node of the branch produces under that name: constants, values from outside,
 * values that are shown twice. */
static void add_identities(struct inlining *in)
{
    struct build *b = edit_builder(in->ed);
    for (int i = 0; i < in->node->n_out; i++) {
        int from = in->to[in->branch->outputs[i]], to = in->node->out[i];
        if (to < 0 || from == to)
            continue;
        const char *name = arena_printf(in->ed->g->arena, "%s_output_%d", in->node->name, i);
        build_node(b, free_name(in, name), "", "Identity", in->node->opset, &from, 1, &to, 1);
    }
}

static void inline_branch(struct edit *ed, int node, const struct graph *branch, struct map *names)
{
    struct inlining in = {ed, &ed->g->nodes[node], branch, names, NULL};
    in.to = arena_array(ed->g->arena, (size_t)branch->n_values + 1, sizeof *in.to);
    place_values(&in);
    for (int i = 0; i < branch->n_nodes; i++)
        add_node(&in, &branch->nodes[i]);
    add_identities(&in);
    build_drop(ed->b, node, -1, "folded");
}

int pass_inline(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    struct map names;
    map_init(&names, g->arena);
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        const struct tensor *condition = node_is(n, "If") ? edit_const(g, n, 0) : NULL;
        if (!condition || condition->type != DT_BOOL || tensor_count(condition) != 1)
            continue;
        bool yes = *(const uint8_t *)condition->data != 0;
        inline_branch(&ed, i, node_attr(n, yes ? "then_branch" : "else_branch")->g, &names);
    }
    return edit_done(&ed, ret);
}
