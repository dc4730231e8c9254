/* Binding: every value's type and shape for the given inputs, and the values that are constant
 * then. Nodes that wait for data leave DT_NONE, and so do all behind them. */
#include <string.h>

#include "worker/exec/inner.h"

static bool is_on(const struct calib *k)
{
    return k->on && k->qtype != Q_FLOAT32;
}

static int first_on(const struct exec *x, int k)
{
    while (k != NONE && !is_on(&x->plan->calibs[k]))
        k = x->plan->calibs[k].parent;
    return k;
}

int exec_port(const struct exec *x, const struct node *n, int i)
{
    bool read = x->plan && n->in[i] != VALUE_NONE;
    return read ? first_on(x, x->plan->port[n->first_port + i]) : NONE;
}

int exec_output_source(const struct exec *x, int i)
{
    int k = x->plan ? first_on(x, x->plan->output[i]) : NONE;
    return k == NONE ? x->graph->outputs[i] : x->graph->n_values + k;
}

int exec_calib_source(const struct exec *x, int k)
{
    int p = first_on(x, x->plan->calibs[k].parent);
    return p == NONE ? x->plan->calibs[k].value : x->graph->n_values + p;
}

/* One symbolic dim name has one size over all inputs. */
static int check_symbol(struct map *symbols, const char *name, int64_t size, struct err *e)
{
    int before = name ? map_get(symbols, name) : -1;
    if (!name || size > INT32_MAX)
        return 0;
    if (before >= 0 && before != size)
        return err_set(e, ERR_BAD_DATA, "", "the dimension \"%s\" is %d and %lld", name, before,
                       (long long)size);
    map_set(symbols, name, (int)size);
    return 0;
}

static int check_input(const struct value *v, const struct tensor *t, struct map *symbols,
                       struct err *e)
{
    char want[TENSOR_TEXT_MAX], have[TENSOR_TEXT_MAX];
    bool fits = v->type.type == t->type && (v->type.rank == t->rank) && tensor_known(t);
    for (int i = 0; fits && i < t->rank; i++)
        fits = v->type.dims[i] < 0 || v->type.dims[i] == t->dims[i];
    if (!fits)
        return err_set(e, ERR_BAD_DATA, v->name, "the model's input is %s, the data is %s",
                       tensor_text(&v->type, want), tensor_text(t, have));
    for (int i = 0; v->dim_names && i < t->rank; i++)
        if (check_symbol(symbols, v->dim_names[i], t->dims[i], e))
            return err_in(e, v->name);
    return 0;
}

/* A subgraph's declared shapes may change from one iteration to the next; its types may not. */
static int check_inner_input(const struct value *v, const struct tensor *t, struct err *e)
{
    if (v->outer >= 0 || !v->type.type || v->type.type == t->type)
        return 0;
    return err_set(e, ERR_BAD_MODEL, v->name, "the subgraph's input is %s, it is given %s",
                   dtype_name(v->type.type), dtype_name(t->type));
}

static int bind_inputs(struct exec *x, const struct tensor *inputs, struct err *e)
{
    struct map symbols;
    map_init(&symbols, &x->arena);
    for (int i = 0; i < x->n_inputs; i++) {
        int v = x->inputs[i];
        const struct value *value = &x->graph->values[v];
        if (x->graph->parent ? check_inner_input(value, &inputs[i], e)
                             : check_input(value, &inputs[i], &symbols, e))
            return -1;
        x->types[v] = inputs[i];
        x->types[v].layout = LAYOUT_PLAIN;
        if (value->outer < 0)
            x->types[v].data = NULL;
    }
    return 0;
}

static void list_inputs(struct exec *x)
{
    const struct graph *g = x->graph;
    x->inputs =
        arena_array(&x->arena, (size_t)g->n_values + (size_t)g->n_inputs + 1, sizeof *x->inputs);
    for (int i = 0; i < g->n_inputs; i++)
        x->inputs[x->n_inputs++] = g->inputs[i];
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].outer >= 0)
            x->inputs[x->n_inputs++] = v;
}

/* A constant that is empty still counts as known. */
static void bind_constants(struct exec *x)
{
    static char nothing[1];
    for (int v = 0; v < x->graph->n_values; v++) {
        const struct value *value = &x->graph->values[v];
        if (value->producer >= 0 || value->is_input || value->outer >= 0)
            continue;
        x->types[v] = value->type;
        if (!x->types[v].data)
            x->types[v].data = nothing;
    }
}

struct binding {
    struct op_ctx ctx;
    const struct tensor **in;
    struct tensor **out;
    bool all_const, all_known;
};

static void look(struct exec *x, const struct node *n, struct binding *b)
{
    *b = (struct binding){.all_const = true, .all_known = true};
    b->in = arena_array(&x->arena, (size_t)n->n_in + 1, sizeof *b->in);
    b->out = arena_array(&x->arena, (size_t)n->n_out + 1, sizeof *b->out);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == VALUE_NONE)
            continue;
        b->in[i] = &x->types[n->in[i]];
        b->all_known = b->all_known && b->in[i]->type != DT_NONE;
        b->all_const = b->all_const && b->in[i]->data && exec_port(x, n, i) == NONE;
    }
    for (int i = 0; i < n->n_out; i++)
        b->out[i] = n->out[i] == VALUE_NONE ? NULL : &x->types[n->out[i]];
    b->ctx = (struct op_ctx){.node = n,
                             .attr = n->attr,
                             .n_in = n->n_in,
                             .n_out = n->n_out,
                             .in = b->in,
                             .out = b->out,
                             .arena = &x->arena, /* for what shape itself must remember */
                             .backend = &backend_plain,
                             .exec = x};
}

/* Outputs back to "not known". */
static void forget(struct binding *b)
{
    for (int i = 0; i < b->ctx.n_out; i++)
        if (b->out[i])
            *b->out[i] = (struct tensor){.type = DT_NONE};
}

static int run_once(struct binding *b, struct arena *temporary, struct err *e)
{
    const struct op *op = b->ctx.node->op;
    b->ctx.arena = temporary;
    if (op->prepare && op->prepare(&b->ctx, &b->ctx.prep, e))
        return -1;
    b->ctx.scratch = arena_try(temporary, b->ctx.scratch_bytes); /* also none is an address */
    if (!b->ctx.scratch)
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory to fold a node");
    return op->run(&b->ctx, e);
}

/* What another exec of the same graph and shapes has folded is the same here. */
static bool take_folded(struct exec *x, const struct node *n)
{
    for (int i = 0; x->share && i < n->n_out; i++)
        if (n->out[i] != VALUE_NONE && !x->share->types[n->out[i]].data)
            return false;
    for (int i = 0; x->share && i < n->n_out; i++)
        if (n->out[i] != VALUE_NONE)
            x->types[n->out[i]] = x->share->types[n->out[i]];
    return x->share != NULL;
}

static int fold(struct exec *x, struct binding *b, struct err *e)
{
    struct arena temporary = ARENA_INIT;
    if (take_folded(x, b->ctx.node))
        return 0;
    for (int i = 0; i < b->ctx.n_out; i++) {
        if (!b->out[i])
            continue;
        b->out[i]->layout = LAYOUT_PLAIN;
        if (exec_check_room(x, tensor_bytes(b->out[i]), e))
            return -1;
        b->out[i]->data = arena_try(&x->arena, tensor_bytes(b->out[i]) + 1);
        if (!b->out[i]->data)
            return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for a constant of %zu bytes",
                           tensor_bytes(b->out[i]));
    }
    int rc = run_once(b, &temporary, e);
    backend_release(&temporary);
    arena_done(&temporary);
    return rc;
}

static int bind_node(struct exec *x, const struct node *n, struct err *e)
{
    struct binding b;
    look(x, n, &b);
    forget(&b);
    if (!b.all_known)
        return 0;
    int rc = op_shape(n->op, &b.ctx, e);
    for (int i = 0; rc == 0 && i < n->n_out; i++)
        if (b.out[i] && !tensor_known(b.out[i]))
            rc = SHAPE_WAITS;
    if (rc == SHAPE_WAITS)
        forget(&b);
    if (rc)
        return rc < 0 ? -1 : 0;
    bool constant = b.all_const || n->op->traits & T_VALUEFREE;
    if (constant && !(n->op->traits & (T_RANDOM | T_SUBGRAPHS)))
        return fold(x, &b, e);
    return 0;
}

int exec_bind(struct exec *x, const struct tensor *inputs, struct err *e)
{
    x->types = arena_array(&x->arena, (size_t)x->graph->n_values + 1, sizeof *x->types);
    bind_constants(x);
    list_inputs(x);
    if (bind_inputs(x, inputs, e))
        return -1;
    for (int i = 0; i < x->graph->n_nodes; i++)
        if (bind_node(x, &x->graph->nodes[i], e))
            return err_in(e, x->graph->nodes[i].name);
    return 0;
}
