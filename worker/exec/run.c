/* The run: step after step. Only steps of data-dependent shape allocate, from an arena that the
 * next run takes back. */
#include <string.h>

#include "worker/exec/inner.h"
#include "worker/quant/fakequant.h"

struct watcher {
    exec_watch *fn;
    void *ctx;
};

static int tell(const struct watcher *w, int value, bool quantized, const struct tensor *t,
                struct err *e)
{
    return w->fn ? w->fn(w->ctx, value, quantized, t, e) : 0;
}

/* ---- shapes that depend on data ---- */

int exec_allot(struct exec *x, struct tensor *t, struct err *e)
{
    size_t bytes = tensor_bytes(t) + 1;
    if (exec_check_room(x, bytes, e))
        return -1;
    t->data = arena_try(&x->run_arena, bytes);
    if (!t->data)
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for a tensor of %zu bytes", bytes);
    return 0;
}

/* A tensor that is read as `layout`: itself or a copy. */
int exec_turn(struct exec *x, const struct tensor **t, enum layout layout, struct err *e)
{
    if (!*t || (*t)->rank < 3 || (*t)->layout == layout)
        return 0;
    struct tensor *to = arena_copy(&x->run_arena, *t, sizeof *to);
    to->layout = layout;
    if (!exec_same_bytes(*t)) {
        if (exec_allot(x, to, e))
            return -1;
        tensor_reorder(*t, to);
    }
    *t = to;
    return 0;
}

static int turn_inputs(struct exec *x, struct op_ctx *c, const struct tensor **in, struct err *e)
{
    struct offer *offers = arena_array(&x->run_arena, (size_t)c->n_in + 1, sizeof *offers);
    enum layout *want = arena_array(&x->run_arena, (size_t)c->n_in + 1, sizeof *want);
    for (int i = 0; i < c->n_in; i++) {
        in[i] = offers[i].t = c->in[i];
        if (!in[i])
            continue;
        offers[i].neutral = exec_same_bytes(in[i]);
        offers[i].ready[LAYOUT_PLAIN] = offers[i].neutral || in[i]->layout == LAYOUT_PLAIN;
        offers[i].ready[LAYOUT_CL] = offers[i].neutral || in[i]->layout == LAYOUT_CL;
    }
    exec_want(c->node->op, offers, c->n_in, want);
    for (int i = 0; i < c->n_in; i++)
        if (exec_turn(x, &in[i], want[i], e))
            return -1;
    c->in = in;
    return 0;
}

static int shape_late(struct exec *x, struct op_ctx *c, struct err *e)
{
    for (int i = 0; i < c->n_out; i++)
        if (c->out[i])
            *c->out[i] = (struct tensor){.type = DT_NONE};
    int rc = op_shape(c->node->op, c, e);
    if (rc < 0)
        return -1;
    for (int i = 0; i < c->n_out; i++) {
        if (!c->out[i])
            continue;
        if (rc == SHAPE_WAITS || !tensor_known(c->out[i]))
            return err_set(e, ERR_UNSUPPORTED, "",
                           "the output's shape cannot be told from the data");
        c->out[i]->layout = exec_gives(c->node->op, c->in, c->n_in, c->out[i], i);
        if (exec_allot(x, c->out[i], e))
            return -1;
    }
    return 0;
}

static int run_late(struct exec *x, struct step *s, struct err *e)
{
    struct op_ctx c = s->ctx;
    const struct op *op = c.node->op;
    const struct tensor **in = arena_array(&x->run_arena, (size_t)c.n_in + 1, sizeof *in);
    c.arena = &x->run_arena;
    if (turn_inputs(x, &c, in, e))
        return -1;
    if (op->traits & T_SUBGRAPHS) /* shapes, takes memory and computes in one */
        return exec_capture(x, s, e) || op->run(&c, e) ? -1 : 0;
    if (shape_late(x, &c, e))
        return -1;
    if ((op->prepare && op->prepare(&c, &c.prep, e)) || exec_check_room(x, c.scratch_bytes, e))
        return -1;
    c.scratch = arena_try(&x->run_arena, c.scratch_bytes);
    if (!c.scratch)
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of scratch",
                       c.scratch_bytes);
    return op->run(&c, e);
}

/* ---- steps ---- */

static int run_node(struct exec *x, struct step *s, const struct watcher *w, struct err *e)
{
    const struct node *n = &x->graph->nodes[s->index];
    int rc = s->late ? run_late(x, s, e) : n->op->run(&s->ctx, e);
    if (rc)
        return err_in(e, n->name);
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i] != NONE && tell(w, n->out[i], false, &x->places[s->out[i]]->t, e))
            return -1;
    return 0;
}

static int run_quant(struct exec *x, struct step *s, const struct watcher *w, struct err *e)
{
    struct tensor *from = &x->places[s->in[0]]->t, *to = &x->places[s->out[0]]->t;
    if (s->late) {
        *to = *from;
        if (exec_allot(x, to, e))
            return err_in(e, x->plan->calibs[s->index].name);
    }
    fq_tensor(&x->plan->calibs[s->index], from, to);
    return tell(w, s->index, true, to, e);
}

static int run_step(struct exec *x, struct step *s, const struct watcher *w, struct err *e)
{
    switch (s->kind) {
    case STEP_NODE:
        return run_node(x, s, w, e);
    case STEP_QUANT:
        return run_quant(x, s, w, e);
    case STEP_REORDER:
        tensor_reorder(&x->places[s->in[0]]->t, &x->places[s->out[0]]->t);
        return 0;
    case STEP_FOLDED:
        return tell(w, s->index, false, &x->places[s->out[0]]->t, e);
    }
    return 0;
}

int exec_run_step(struct exec *x, struct step *s, struct err *e)
{
    static const struct watcher nobody;
    return run_step(x, s, &nobody, e);
}

int exec_load_inputs(struct exec *x, const struct tensor *inputs, struct err *e)
{
    for (int i = 0; i < x->n_inputs; i++) {
        int v = x->inputs[i];
        char want[TENSOR_TEXT_MAX], have[TENSOR_TEXT_MAX];
        if (inputs[i].type != x->types[v].type || !tensor_same_shape(&inputs[i], &x->types[v]) ||
            inputs[i].layout != LAYOUT_PLAIN)
            return err_set(e, ERR_BAD_DATA, x->graph->values[v].name, "bound to %s, given %s",
                           tensor_text(&x->types[v], want), tensor_text(&inputs[i], have));
    }
    for (int i = 0; i < x->n_places; i++)
        if (x->places[i]->kind == PLACE_INPUT)
            x->places[i]->t.data = inputs[x->places[i]->input].data;
    return 0;
}

static int plain_outputs(struct exec *x, struct err *e)
{
    for (int i = 0; i < x->graph->n_outputs; i++) {
        struct place *p = x->places[x->outputs[i]];
        const struct tensor *t = &p->t;
        if (p->kind != PLACE_LATE)
            continue;
        if (exec_turn(x, &t, LAYOUT_PLAIN, e))
            return -1;
        p->t = *t;
    }
    return 0;
}

int exec_run(struct exec *x, const struct tensor *inputs, exec_watch *watch, void *ctx,
             struct err *e)
{
    struct watcher w = {watch, ctx};
    x->own_sub_runs = 0;
    if (x->run_arena.head) {
        backend_release(&x->run_arena);
        arena_done(&x->run_arena);
    }
    if (exec_load_inputs(x, inputs, e) || exec_map_slab(x, e))
        return -1;
    for (int i = 0; i < x->graph->n_inputs; i++)
        if (tell(&w, x->graph->inputs[i], false, &inputs[i], e))
            return -1;
    for (int i = 0; i < x->n_steps; i++) {
        if (x->began_ns)
            x->began_ns[i] = exec_clock_ns();
        if (run_step(x, x->steps[i], &w, e))
            return -1;
    }
    if (x->began_ns)
        x->began_ns[x->n_steps] = exec_clock_ns();
    return plain_outputs(x, e);
}
