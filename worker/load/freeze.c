/* build_freeze: from the builder's nodes and values to a graph that is only read. */
#include "worker/load/build.h"

#include <string.h>

#include "worker/ops/op.h"

struct reads { /* what subgraphs of a node read of the graph around it */
    int n, *values;
};

struct freeze {
    struct build *b;
    struct arena *a;
    struct graph *g;
    struct reads *captured;  /* per builder node */
    int *producer;           /* per builder value: builder node, or -1 */
    int *outer;              /* per builder value: the parent builder's value, or -1 */
    int *order;              /* builder nodes in the order of the graph */
    int *node_to, *value_to; /* builder → graph, -1: not there */
    struct err *e;
};

static int *filled(struct arena *a, int n, int with)
{
    int *list = arena_array(a, (size_t)n + 1, sizeof *list);
    for (int i = 0; i < n; i++)
        list[i] = with;
    return list;
}

static int resolve(const struct build *b, int value)
{
    while (value >= 0 && b->values[value].use >= 0)
        value = b->values[value].use;
    return value;
}

static struct reads captured_by(struct freeze *f, const struct build_node *n)
{
    struct reads r = {0};
    int cap = 0;
    for (int k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == ATTR_GRAPH)
            for (int v = 0; v < n->attrs[k].g->n_values; v++)
                cap += n->attrs[k].g->values[v].outer >= 0;
    if (!cap)
        return r;
    r.values = arena_array(f->a, (size_t)cap, sizeof *r.values);
    for (int k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == ATTR_GRAPH)
            for (int v = 0; v < n->attrs[k].g->n_values; v++)
                if (n->attrs[k].g->values[v].outer >= 0)
                    r.values[r.n++] = resolve(f->b, n->attrs[k].g->values[v].outer);
    return r;
}

/* Everything a node waits for: its inputs, then what its subgraphs capture. */
static int n_reads(const struct freeze *f, int node)
{
    return f->b->nodes[node].n_in + f->captured[node].n;
}

static int read_of(const struct freeze *f, int node, int k)
{
    const struct build_node *n = &f->b->nodes[node];
    return k < n->n_in ? n->in[k] : f->captured[node].values[k - n->n_in];
}

static const char *name_of(const struct build_node *n)
{
    return n->name && *n->name ? n->name : n->op_type;
}

static int claim_outputs(struct freeze *f, int node)
{
    const struct build_node *n = &f->b->nodes[node];
    for (int k = 0; k < n->n_out; k++) {
        int v = n->out[k];
        if (v < 0)
            continue;
        if (f->producer[v] >= 0 || f->b->values[v].is_const || f->b->values[v].is_input)
            return err_set(f->e, ERR_BAD_MODEL, name_of(n),
                           "The output \"%.200s\" exists already: every name has one producer.",
                           f->b->values[v].name);
        f->producer[v] = node;
    }
    return 0;
}

static int gather(struct freeze *f)
{
    struct build *b = f->b;
    f->captured = arena_array(f->a, (size_t)b->n_nodes + 1, sizeof *f->captured);
    f->producer = filled(f->a, b->n_values, -1);
    f->outer = filled(f->a, b->n_values, -1);
    for (int i = 0; i < b->n_nodes; i++) {
        struct build_node *n = &b->nodes[i];
        if (n->gone)
            continue;
        for (int k = 0; k < n->n_in; k++)
            n->in[k] = resolve(b, n->in[k]);
        f->captured[i] = captured_by(f, n);
        if (claim_outputs(f, i))
            return -1;
    }
    return 0;
}

/* Is the value there, here or further out? */
static bool defined(struct freeze *f, int v)
{
    const struct build_value *bv = &f->b->values[v];
    if (f->producer[v] >= 0 || bv->is_const || bv->is_input)
        return true;
    if (!f->b->parent)
        return false;
    if (f->outer[v] < 0)
        f->outer[v] = build_value(f->b->parent, bv->name);
    return true;
}

static int check_defined(struct freeze *f)
{
    const struct build *b = f->b;
    for (int i = 0; i < b->n_nodes; i++)
        for (int k = 0; !b->nodes[i].gone && k < n_reads(f, i); k++) {
            int v = read_of(f, i, k);
            if (v >= 0 && !defined(f, v))
                return err_set(f->e, ERR_BAD_MODEL, name_of(&b->nodes[i]),
                               "The input \"%.200s\" is not defined.", b->values[v].name);
        }
    for (int i = 0; i < b->n_outputs; i++)
        if (!defined(f, b->outputs[i]))
            return err_set(f->e, ERR_BAD_MODEL, b->values[b->outputs[i]].name,
                           "Nothing produces this graph output.");
    return 0;
}

struct visit {
    int node, next; /* the next of its reads to look at */
};

/* Producers first, each only when its first reader needs it: a list in topological order stays as
 * it is. The stack is a heap array, so that a long chain cannot overflow the C stack. */
static int order_from(struct freeze *f, int root, struct visit *stack, char *state)
{
    enum { NEW, OPEN, DONE };
    int depth = 0;
    stack[depth++] = (struct visit){root, 0};
    state[root] = OPEN;
    while (depth) {
        struct visit *top = &stack[depth - 1];
        if (top->next == n_reads(f, top->node)) {
            state[top->node] = DONE;
            f->node_to[top->node] = f->g->n_nodes;
            f->order[f->g->n_nodes++] = top->node;
            depth--;
            continue;
        }
        int v = read_of(f, top->node, top->next++), from = v >= 0 ? f->producer[v] : -1;
        if (from < 0 || state[from] == DONE)
            continue;
        if (state[from] == OPEN)
            return err_set(f->e, ERR_BAD_MODEL, name_of(&f->b->nodes[from]),
                           "The node depends on its own output \"%.200s\".", f->b->values[v].name);
        state[from] = OPEN;
        stack[depth++] = (struct visit){from, 0};
    }
    return 0;
}

static int sort(struct freeze *f)
{
    int n = f->b->n_nodes;
    struct visit *stack = arena_array(f->a, (size_t)n + 1, sizeof *stack);
    char *state = arena_alloc(f->a, (size_t)n + 1);
    f->order = filled(f->a, n, -1);
    f->node_to = filled(f->a, n, -1);
    for (int i = 0; i < n; i++)
        if (!f->b->nodes[i].gone && !state[i] && order_from(f, i, stack, state))
            return -1;
    return 0;
}

static void place(struct freeze *f, int v)
{
    if (v < 0 || f->value_to[v] >= 0)
        return;
    const struct build_value *from = &f->b->values[v];
    struct value *to = &f->g->values[f->g->n_values];
    *to = (struct value){.name = from->name,
                         .type = from->type,
                         .dim_names = from->dim_names,
                         .producer = f->producer[v] < 0 ? -1 : f->node_to[f->producer[v]],
                         .outer = f->outer[v],
                         .is_input = from->is_input,
                         .is_output = from->is_output};
    if (!from->is_const)
        to->type.data = NULL;
    map_set(&f->g->value_names, to->name, f->g->n_values);
    f->value_to[v] = f->g->n_values++;
}

static const int *placed(struct freeze *f, const int *from, int n)
{
    int *list = filled(f->g->arena, n, VALUE_NONE);
    for (int i = 0; i < n; i++)
        if (from[i] >= 0) {
            place(f, from[i]);
            list[i] = f->value_to[from[i]];
        }
    return list;
}

static void place_values(struct freeze *f)
{
    struct build *b = f->b;
    struct graph *g = f->g;
    f->value_to = filled(f->a, b->n_values, -1);
    map_reserve(&g->value_names, (size_t)b->n_values);
    g->values = arena_array(g->arena, (size_t)b->n_values + 1, sizeof *g->values);
    g->n_inputs = b->n_inputs;
    g->inputs = placed(f, b->inputs, b->n_inputs);
    for (int v = 0; v < b->n_values; v++)
        if (f->outer[v] >= 0)
            place(f, v);
    for (int i = 0; i < g->n_nodes; i++) {
        int from = f->order[i];
        for (int k = 0; k < n_reads(f, from); k++)
            place(f, read_of(f, from, k));
        for (int k = 0; k < b->nodes[from].n_out; k++)
            place(f, b->nodes[from].out[k]);
    }
    g->n_outputs = b->n_outputs;
    g->outputs = placed(f, b->outputs, b->n_outputs);
}

/* A subgraph under a new graph around it: the same graph, but `outer` and `parent` fit, and what it
 * reads from outside is called as it is there. f NULL: the numbers outside have not changed. */
static const struct graph *rebind(const struct graph *sub, const struct graph *parent,
                                  const struct freeze *f, struct err *e)
{
    struct arena *a = parent->arena;
    struct graph *g = arena_copy(a, sub, sizeof *sub);
    g->parent = parent;
    g->values = arena_copy(a, sub->values, (size_t)sub->n_values * sizeof *sub->values);
    for (int v = 0; v < g->n_values; v++) {
        struct value *value = &g->values[v];
        if (value->outer < 0)
            continue;
        if (f)
            value->outer = f->value_to[resolve(f->b, value->outer)];
        value->name = parent->values[value->outer].name;
    }
    g->nodes = arena_copy(a, sub->nodes, (size_t)sub->n_nodes * sizeof *sub->nodes);
    for (int i = 0; i < g->n_nodes; i++) {
        struct node *n = &g->nodes[i];
        bool again = false;
        struct attr *attrs = arena_copy(a, n->attrs, (size_t)n->n_attrs * sizeof *attrs);
        for (int k = 0; k < n->n_attrs; k++)
            if (attrs[k].type == ATTR_GRAPH) {
                if (!(attrs[k].g = rebind(attrs[k].g, g, NULL, e)))
                    return NULL;
                again = true;
            }
        n->attrs = attrs;
        if (again && op_attrs(n->op, n, a, e)) {
            err_in(e, n->name);
            return NULL;
        }
    }
    return g;
}

static int rebind_attrs(struct freeze *f, struct node *n)
{
    struct attr *attrs = arena_copy(f->g->arena, n->attrs, (size_t)n->n_attrs * sizeof *attrs);
    for (int k = 0; k < n->n_attrs; k++)
        if (attrs[k].type == ATTR_GRAPH && !(attrs[k].g = rebind(attrs[k].g, f->g, f, f->e)))
            return -1;
    n->attrs = attrs;
    return 0;
}

static int check_counts(const struct node *n, struct err *e)
{
    const struct op *op = n->op;
    int max_out = op->max_out ? op->max_out : 1;
    if (n->n_in < op->min_in || (op->max_in >= 0 && n->n_in > op->max_in))
        return err_set(e, ERR_BAD_MODEL, n->name, "%s has %d inputs, which it cannot have.",
                       n->op_type, n->n_in);
    for (int i = 0; i < op->min_in; i++)
        if (n->in[i] < 0)
            return err_set(e, ERR_BAD_MODEL, n->name, "Input %d of %s is missing.", i, n->op_type);
    if (n->n_out < 1 || (max_out >= 0 && n->n_out > max_out))
        return err_set(e, ERR_BAD_MODEL, n->name, "%s has %d outputs, which it cannot have.",
                       n->op_type, n->n_out);
    return 0;
}

static int make_node(struct freeze *f, int to)
{
    const struct build_node *from = &f->b->nodes[f->order[to]];
    struct node *n = &f->g->nodes[to];
    *n = (struct node){.name = from->name,
                       .op_type = from->op_type,
                       .domain = from->domain,
                       .opset = from->opset,
                       .n_in = from->n_in,
                       .n_out = from->n_out,
                       .n_attrs = from->n_attrs,
                       .attrs = from->attrs,
                       .first_port = f->g->n_ports};
    f->g->n_ports += n->n_in;
    n->in = placed(f, from->in, from->n_in);
    n->out = placed(f, from->out, from->n_out);
    n->op = op_find(n->domain, n->op_type, n->opset);
    if (!n->op)
        return err_set(f->e, ERR_UNSUPPORTED, n->name, "There is no operator %s%s%s for opset %d.",
                       n->domain, *n->domain ? "." : "", n->op_type, n->opset);
    if (rebind_attrs(f, n) || check_counts(n, f->e))
        return -1;
    if (op_attrs(n->op, n, f->g->arena, f->e))
        return err_in(f->e, n->name);
    return 0;
}

/* Named nodes first, so that a made-up name never takes one that the file uses. */
static int name_nodes(struct freeze *f)
{
    struct graph *g = f->g;
    map_reserve(&g->node_names, (size_t)g->n_nodes);
    for (int i = 0; i < g->n_nodes; i++) {
        const char *name = f->b->nodes[f->order[i]].name;
        if (name && *name && map_set(&g->node_names, name, i) >= 0)
            return err_set(f->e, ERR_BAD_MODEL, name, "Two nodes have this name.");
    }
    for (int i = 0; i < g->n_nodes; i++) {
        struct build_node *n = &f->b->nodes[f->order[i]];
        if (n->name && *n->name)
            continue;
        n->name = arena_printf(g->arena, "%s_%d", n->op_type, f->order[i]);
        while (map_get(&g->node_names, n->name) >= 0)
            n->name = arena_printf(g->arena, "%s_", n->name);
        map_set(&g->node_names, n->name, i);
    }
    return 0;
}

static int make_nodes(struct freeze *f)
{
    struct graph *g = f->g;
    if (name_nodes(f))
        return -1;
    g->nodes = arena_array(g->arena, (size_t)g->n_nodes + 1, sizeof *g->nodes);
    for (int i = 0; i < g->n_nodes; i++)
        if (make_node(f, i))
            return -1;
    return 0;
}

/* Twice over all reads: count, then fill; one array holds all lists. */
static void link_readers(struct freeze *f)
{
    struct graph *g = f->g;
    size_t total = 0;
    for (int i = 0; i < g->n_nodes; i++)
        total += (size_t)n_reads(f, f->order[i]);
    int *list = arena_array(g->arena, total + 1, sizeof *list);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < g->n_nodes; i++)
            for (int k = 0; k < n_reads(f, f->order[i]); k++) {
                int from = read_of(f, f->order[i], k);
                struct value *v = from >= 0 ? &g->values[f->value_to[from]] : NULL;
                if (v && pass)
                    ((int *)v->readers)[v->n_readers] = i;
                if (v)
                    v->n_readers++;
            }
        for (int v = 0; !pass && v < g->n_values; v++) {
            g->values[v].readers = list;
            list += g->values[v].n_readers;
            g->values[v].n_readers = 0;
        }
    }
}

static void make_origins(struct freeze *f)
{
    const struct build *b = f->b;
    struct origin *list = arena_array(f->g->arena, (size_t)b->n_origins + 1, sizeof *list);
    for (int i = 0; i < b->n_origins; i++) {
        struct build_origin o = b->origins[i];
        while (o.node >= 0 && b->nodes[o.node].gone) {
            o.how = b->nodes[o.node].how;
            o.node = b->nodes[o.node].into;
        }
        list[i] = (struct origin){o.name, o.node < 0 ? NULL : b->nodes[o.node].name, o.how};
    }
    f->g->n_origins = b->n_origins;
    f->g->origins = list;
}

static int freeze(struct freeze *f)
{
    if (gather(f) || check_defined(f) || sort(f))
        return -1;
    place_values(f);
    if (make_nodes(f))
        return -1;
    link_readers(f);
    make_origins(f);
    return 0;
}

int build_freeze(struct build *b, struct graph **ret, struct err *e)
{
    struct arena scratch = ARENA_INIT;
    struct graph *g = arena_alloc(b->arena, sizeof *g);
    struct freeze f = {.b = b, .a = &scratch, .g = g, .e = e};
    g->arena = b->arena;
    g->name = b->name;
    g->n_opsets = b->n_opsets;
    g->opsets = b->opsets;
    g->fold_left = b->fold_left;
    map_init(&g->value_names, g->arena);
    map_init(&g->node_names, g->arena);
    int rc = freeze(&f);
    arena_done(&scratch);
    *ret = rc ? NULL : g;
    return rc;
}
