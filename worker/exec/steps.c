/* The list of steps: nodes in order, each behind the quantizations and reorders that it needs. */
#include <string.h>

#include "worker/exec/inner.h"

static void *grown(struct arena *a, void *old, int n, int *cap, size_t size)
{
    if (n < *cap)
        return old;
    *cap = *cap ? 2 * *cap : 64;
    void *now = arena_array(a, (size_t)*cap, size);
    if (n)
        memcpy(now, old, (size_t)n * size);
    return now;
}

static int new_buffer(struct exec *x, size_t bytes)
{
    int b = x->n_buffers;
    x->buffers = grown(&x->arena, x->buffers, b, &x->buffers_cap, sizeof *x->buffers);
    x->buffers[b] = (struct buffer){.bytes = bytes, .first = -1, .last = -1, .root = b};
    return x->n_buffers++;
}

int exec_place(struct exec *x, enum place_kind kind, int source, const struct tensor *t,
               enum layout layout)
{
    int p = x->n_places;
    struct place *place = arena_alloc(&x->arena, sizeof *place);
    x->places = grown(&x->arena, x->places, p, &x->places_cap, sizeof *x->places);
    x->places[x->n_places++] = place;
    place->kind = kind;
    place->source = source;
    place->t = *t;
    place->t.data = NULL;
    place->t.layout = t->rank < 3 ? LAYOUT_PLAIN : layout;
    place->buffer = kind == PLACE_SLAB ? new_buffer(x, tensor_bytes(t)) : NONE;
    if (t->rank < 3 || kind == PLACE_LATE)
        x->at[source][0] = x->at[source][1] = p;
    else
        x->at[source][layout] = p;
    return p;
}

static struct step *add_step(struct exec *x, enum step_kind kind, int index, int n_in, int n_out)
{
    struct step *s = arena_alloc(&x->arena, sizeof *s);
    x->steps = grown(&x->arena, x->steps, x->n_steps, &x->steps_cap, sizeof *x->steps);
    x->steps[x->n_steps++] = s;
    s->kind = kind;
    s->index = index;
    s->n_in = n_in;
    s->n_out = n_out;
    s->in = arena_array(&x->arena, (size_t)n_in + 1, sizeof *s->in);
    s->out = arena_array(&x->arena, (size_t)n_out + 1, sizeof *s->out);
    return s;
}

static void add_copy(struct exec *x, int from, int to)
{
    struct step *s = add_step(x, STEP_REORDER, NONE, 1, 1);
    s->in[0] = from;
    s->out[0] = to;
}

/* The other layout of the same bytes is the same place under another name. */
static int alias(struct exec *x, int place, enum layout layout)
{
    struct place *from = x->places[place];
    int p = exec_place(x, PLACE_INPUT, from->source, &from->t, layout);
    struct place *to = x->places[p];
    to->kind = from->kind;
    to->input = from->input;
    to->buffer = from->buffer;
    to->t.data = from->t.data;
    return p;
}

/* The source's place in that layout (what is late lies as it will), or -1 with the error. */
static int place_of(struct exec *x, int source, enum layout layout, struct err *e)
{
    if (exec_is_const(x, source))
        return exec_const_place(x, source, layout, e);
    if (x->at[source][layout] != NONE)
        return x->at[source][layout];
    int have = x->at[source][layout == LAYOUT_CL ? LAYOUT_PLAIN : LAYOUT_CL];
    if (exec_same_bytes(&x->places[have]->t))
        return alias(x, have, layout);
    int p = exec_place(x, PLACE_SLAB, source, &x->places[have]->t, layout);
    add_copy(x, have, p);
    return p;
}

static int first_place(const struct exec *x, int source)
{
    return x->at[source][LAYOUT_CL] != NONE ? x->at[source][LAYOUT_CL]
                                            : x->at[source][LAYOUT_PLAIN];
}

/* ---- quantization ---- */

static void add_quant(struct exec *x, int k)
{
    int source = exec_calib_source(x, k), mine = x->graph->n_values + k;
    if (exec_is_const(x, mine))
        return;
    int from = first_place(x, source);
    const struct place *p = x->places[from];
    bool late = p->kind == PLACE_LATE;
    int to = exec_place(x, late ? PLACE_LATE : PLACE_SLAB, mine, &p->t, p->t.layout);
    struct step *s = add_step(x, STEP_QUANT, k, 1, 1);
    s->in[0] = from;
    s->out[0] = to;
    s->late = late;
}

/* All that stand behind value v; a child stands behind its parent in the plan. */
static void add_quants(struct exec *x, int v)
{
    for (int k = x->plan ? x->first_calib[v] : NONE; k != NONE; k = x->next_calib[k])
        if (x->used[k])
            add_quant(x, k);
}

static void list_calibs(struct exec *x)
{
    size_t n_values = (size_t)x->graph->n_values, n_calibs = (size_t)x->plan->n_calibs;
    x->first_calib = arena_array(&x->arena, n_values + 1, sizeof *x->first_calib);
    x->next_calib = arena_array(&x->arena, n_calibs + 1, sizeof *x->next_calib);
    memset(x->first_calib, -1, n_values * sizeof *x->first_calib);
    for (int k = x->plan->n_calibs - 1; k >= 0; k--) {
        int v = x->plan->calibs[k].value;
        x->next_calib[k] = x->first_calib[v];
        x->first_calib[v] = k;
    }
}

/* The calibration and those that it stands on; below 0: none. */
static void use_calib(struct exec *x, int k)
{
    while (k >= 0 && !x->used[k]) {
        x->used[k] = true;
        k = exec_calib_source(x, k) - x->graph->n_values;
    }
}

static void find_used(struct exec *x)
{
    int n = x->plan ? x->plan->n_calibs : 0;
    x->used = arena_array(&x->arena, (size_t)n + 1, sizeof *x->used);
    if (x->plan)
        list_calibs(x);
    if (!n)
        return;
    for (int i = 0; i < x->graph->n_nodes; i++)
        for (int j = 0; j < x->graph->nodes[i].n_in; j++)
            use_calib(x, exec_port(x, &x->graph->nodes[i], j));
    for (int i = 0; i < x->graph->n_outputs; i++)
        use_calib(x, exec_output_source(x, i) - x->graph->n_values);
}

/* ---- nodes ---- */

static int source_of(const struct exec *x, const struct node *n, int i)
{
    int k = exec_port(x, n, i);
    return k == NONE ? n->in[i] : x->graph->n_values + k;
}

static const struct tensor *source_type(const struct exec *x, int source)
{
    int n = x->graph->n_values;
    return &x->types[source < n ? source : x->plan->calibs[source - n].value];
}

static int node_inputs(struct exec *x, const struct node *n, struct step *s, struct err *e)
{
    struct offer *offers = arena_array(&x->arena, (size_t)n->n_in + 1, sizeof *offers);
    enum layout *want = arena_array(&x->arena, (size_t)n->n_in + 1, sizeof *want);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == VALUE_NONE)
            continue;
        int source = source_of(x, n, i);
        offers[i].t = source_type(x, source);
        offers[i].neutral = exec_is_const(x, source) || exec_same_bytes(offers[i].t);
        for (int l = 0; l < 2; l++)
            offers[i].ready[l] = offers[i].neutral || x->at[source][l] != NONE;
    }
    if (!s->late)
        exec_want(n->op, offers, n->n_in, want);
    for (int i = 0; i < n->n_in; i++) {
        s->in[i] = NONE;
        if (n->in[i] == VALUE_NONE)
            continue;
        int source = source_of(x, n, i);
        /* A late node turns its inputs in the run; what lies ready will do. */
        int p = s->late && !exec_is_const(x, source) ? first_place(x, source)
                                                     : place_of(x, source, want[i], e);
        if (p < 0)
            return -1;
        s->in[i] = p;
    }
    return 0;
}

static void node_outputs(struct exec *x, const struct node *n, struct step *s)
{
    const struct tensor **in = arena_array(&x->arena, (size_t)n->n_in + 1, sizeof *in);
    for (int i = 0; i < n->n_in; i++)
        in[i] = s->in[i] == NONE ? NULL : &x->places[s->in[i]]->t;
    for (int i = 0; i < n->n_out; i++) {
        int v = n->out[i];
        s->out[i] = NONE;
        if (v == VALUE_NONE)
            continue;
        const struct tensor *t = &x->types[v];
        s->out[i] = s->late ? exec_place(x, PLACE_LATE, v, t, LAYOUT_PLAIN)
                            : exec_place(x, PLACE_SLAB, v, t, exec_gives(n->op, in, n->n_in, t, i));
    }
}

/* Late: shaped in the run, because an input or an output is. */
static bool is_late(const struct exec *x, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != VALUE_NONE && x->types[n->in[i]].type == DT_NONE)
            return true;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != VALUE_NONE && x->types[n->out[i]].type == DT_NONE)
            return true;
    return false;
}

static bool is_folded(const struct exec *x, const struct node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != VALUE_NONE)
            return x->types[n->out[i]].data != NULL;
    return true;
}

static int add_folded(struct exec *x, const struct node *n, struct err *e)
{
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i] == VALUE_NONE)
            continue;
        int p = exec_const_place(x, n->out[i], LAYOUT_PLAIN, e);
        if (p < 0)
            return -1;
        if (x->types[n->out[i]].type == DT_F32)
            add_step(x, STEP_FOLDED, n->out[i], 0, 1)->out[0] = p;
    }
    return 0;
}

static int add_held(struct exec *x, const struct graph *inner, struct step *s, struct err *e)
{
    for (int v = 0; v < inner->n_values; v++) {
        int source = inner->values[v].outer;
        if (source < 0)
            continue;
        int p = place_of(x, source, LAYOUT_PLAIN, e);
        if (p < 0)
            return -1;
        s->held[s->n_held++] = p;
    }
    return 0;
}

/* What the node's subgraphs read must be there when it runs, and stay until then. */
static int hold(struct exec *x, const struct node *n, struct step *s, struct err *e)
{
    size_t cap = 0;
    for (int k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == ATTR_GRAPH)
            cap += (size_t)n->attrs[k].g->n_values;
    if (!cap)
        return 0;
    s->held = arena_array(&x->arena, cap, sizeof *s->held);
    s->captured = arena_array(&x->arena, cap, sizeof *s->captured);
    for (int k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == ATTR_GRAPH && add_held(x, n->attrs[k].g, s, e))
            return -1;
    return 0;
}

static int add_node(struct exec *x, int index, struct err *e)
{
    const struct node *n = &x->graph->nodes[index];
    if (is_folded(x, n))
        return add_folded(x, n, e);
    /* The reorders of its inputs come in front, so the step is put into the list at the end. */
    struct step shape = {.late = is_late(x, n)};
    shape.in = arena_array(&x->arena, (size_t)n->n_in + 1, sizeof *shape.in);
    if (node_inputs(x, n, &shape, e) || hold(x, n, &shape, e))
        return -1;
    struct step *s = add_step(x, STEP_NODE, index, n->n_in, n->n_out);
    s->late = shape.late;
    s->in = shape.in;
    s->n_held = shape.n_held;
    s->held = shape.held;
    s->captured = shape.captured;
    x->node_step[index] = x->n_steps - 1;
    node_outputs(x, n, s);
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] != VALUE_NONE)
            add_quants(x, n->out[i]);
    return 0;
}

/* ---- the ends ---- */

static void add_inputs(struct exec *x)
{
    for (int i = 0; i < x->n_inputs; i++) {
        int v = x->inputs[i];
        if (x->types[v].data) /* a constant of the graph around */
            continue;
        int p = exec_place(x, PLACE_INPUT, v, &x->types[v], LAYOUT_PLAIN);
        x->places[p]->input = i;
        add_quants(x, v);
    }
}

/* Outputs are plain and are the exec's own memory. */
static int add_outputs(struct exec *x, struct err *e)
{
    for (int i = 0; i < x->graph->n_outputs; i++) {
        int v = exec_output_source(x, i), p = place_of(x, v, LAYOUT_PLAIN, e);
        if (p < 0)
            return -1;
        if (x->places[p]->kind == PLACE_INPUT) {
            int copy = exec_place(x, PLACE_SLAB, v, &x->places[p]->t, LAYOUT_PLAIN);
            add_copy(x, p, copy);
            p = copy;
        }
        x->outputs[i] = p;
        if (x->places[p]->kind == PLACE_SLAB)
            x->buffers[x->places[p]->buffer].pinned = true;
    }
    for (int i = 0; i < x->opts.n_keep; i++)
        for (int l = 0; l < 2; l++) {
            int p = x->at[x->opts.keep[i]][l];
            if (p != NONE && x->places[p]->kind == PLACE_SLAB)
                x->buffers[x->places[p]->buffer].pinned = true;
        }
    return 0;
}

static int check_calib_types(const struct exec *x, struct err *e)
{
    for (int k = 0; x->plan && k < x->plan->n_calibs; k++) {
        const struct calib *c = &x->plan->calibs[k];
        const struct tensor *t = &x->types[c->value];
        if (x->used[k] && t->type != DT_NONE && t->type != DT_F32)
            return err_set(e, ERR_UNSUPPORTED, c->name, "only float32 is quantized, not %s",
                           dtype_name(t->type));
    }
    return 0;
}

int exec_steps(struct exec *x, struct err *e)
{
    x->n_sources = x->graph->n_values + (x->plan ? x->plan->n_calibs : 0);
    x->at = arena_array(&x->arena, (size_t)x->n_sources + 1, sizeof *x->at);
    x->node_step = arena_array(&x->arena, (size_t)x->graph->n_nodes + 1, sizeof *x->node_step);
    x->outputs = arena_array(&x->arena, (size_t)x->graph->n_outputs + 1, sizeof *x->outputs);
    memset(x->at, -1, (size_t)x->n_sources * sizeof *x->at);
    memset(x->node_step, -1, (size_t)x->graph->n_nodes * sizeof *x->node_step);
    find_used(x);
    if (check_calib_types(x, e))
        return -1;
    add_inputs(x);
    for (int i = 0; i < x->graph->n_nodes; i++)
        if (add_node(x, i, e))
            return err_in(e, x->graph->nodes[i].name);
    return add_outputs(x, e);
}
