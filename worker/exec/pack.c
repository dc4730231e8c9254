/* Constants: through their calibrations and into the layout that is read, then into what the
 * operators make of them. What another exec has made under the same conditions is taken from it. */
#include <string.h>

#include "worker/exec/inner.h"
#include "worker/quant/fakequant.h"

bool exec_is_const(const struct exec *x, int source)
{
    int n = x->graph->n_values;
    return x->types[source < n ? source : x->plan->calibs[source - n].value].data != NULL;
}

static bool same_floats(const float *a, const float *b, int n)
{
    return n == 0 || !memcmp(a, b, (size_t)n * sizeof *a);
}

/* The same numbers come out of both. */
static bool same_calib(const struct calib *a, const struct calib *b)
{
    return a->value == b->value && a->qtype == b->qtype && a->affine == b->affine &&
           a->axis == b->axis && a->n_thresholds == b->n_thresholds && a->n_fold == b->n_fold &&
           same_floats(a->thresholds, b->thresholds, a->n_thresholds) &&
           same_floats(a->fold, b->fold, a->n_fold);
}

/* The data of the same constant source in another exec, or NULL. */
static void *data_of(struct exec *x, const struct exec *s, int source, enum layout layout)
{
    int n = x->graph->n_values, theirs = source;
    if (!s || (source < n && s->types[source].data != x->types[source].data))
        return NULL;
    if (source >= n) {
        const struct calib *mine = &x->plan->calibs[source - n];
        if (exec_calib_source(x, source - n) >= n)
            return NULL; /* behind another: rare, made anew */
        int k = s->plan ? s->first_calib[mine->value] : NONE;
        for (; k != NONE; k = s->next_calib[k])
            if (same_calib(mine, &s->plan->calibs[k]) && exec_calib_source(s, k) == mine->value &&
                s->at[n + k][layout] != NONE)
                break;
        theirs = k == NONE ? NONE : n + k;
    }
    if (theirs == NONE || s->at[theirs][layout] == NONE)
        return NULL;
    const struct place *p = s->places[s->at[theirs][layout]];
    if (p->kind != PLACE_CONST)
        return NULL;
    x->shared_bytes += tensor_bytes(&p->t);
    return p->t.data;
}

static void *shared_data(struct exec *x, int source, enum layout layout)
{
    void *data = data_of(x, x->share, source, layout);
    return data ? data : data_of(x, x->opts.share_also, source, layout);
}

static void *room_for(struct exec *x, const struct tensor *t, struct err *e)
{
    void *data = arena_try(&x->arena, tensor_bytes(t) + 1);
    if (!data)
        err_set(e, ERR_MEMORY_LIMIT, "", "no memory for a constant of %zu bytes", tensor_bytes(t));
    return data;
}

/* A place whose data is shared or, if not, still to be made (*ret_make). */
static int const_place(struct exec *x, int source, const struct tensor *t, enum layout layout,
                       bool *ret_make, struct err *e)
{
    int p = exec_place(x, PLACE_CONST, source, t, layout);
    struct tensor *to = &x->places[p]->t;
    to->data = shared_data(x, source, layout);
    *ret_make = !to->data;
    if (*ret_make)
        to->data = room_for(x, t, e);
    return to->data ? p : -1;
}

static int plain_place(struct exec *x, int source, struct err *e)
{
    int n = x->graph->n_values, from;
    bool make;
    if (source < n) {
        int p = exec_place(x, PLACE_CONST, source, &x->types[source], LAYOUT_PLAIN);
        x->places[p]->t.data = x->types[source].data;
        return p;
    }
    from = exec_const_place(x, exec_calib_source(x, source - n), LAYOUT_PLAIN, e);
    if (from < 0)
        return -1;
    int p = const_place(x, source, &x->places[from]->t, LAYOUT_PLAIN, &make, e);
    if (p >= 0 && make)
        fq_tensor(&x->plan->calibs[source - n], &x->places[from]->t, &x->places[p]->t);
    return p;
}

int exec_const_place(struct exec *x, int source, enum layout layout, struct err *e)
{
    bool make;
    if (x->at[source][layout] != NONE)
        return x->at[source][layout];
    int plain = x->at[source][LAYOUT_PLAIN];
    if (plain == NONE)
        plain = plain_place(x, source, e);
    if (plain < 0 || x->at[source][layout] != NONE)
        return plain < 0 ? -1 : x->at[source][layout];
    const struct tensor *t = &x->places[plain]->t;
    if (exec_same_bytes(t)) {
        int p = exec_place(x, PLACE_CONST, source, t, layout);
        x->places[p]->t.data = x->places[plain]->t.data;
        return p;
    }
    int p = const_place(x, source, t, layout, &make, e);
    if (p >= 0 && make)
        tensor_reorder(&x->places[plain]->t, &x->places[p]->t);
    return p;
}

static void make_context(struct exec *x, struct step *s)
{
    const struct node *n = &x->graph->nodes[s->index];
    const struct tensor **in = arena_array(&x->arena, (size_t)s->n_in + 1, sizeof *in);
    struct tensor **out = arena_array(&x->arena, (size_t)s->n_out + 1, sizeof *out);
    for (int i = 0; i < s->n_in; i++)
        in[i] = s->in[i] == NONE ? NULL : &x->places[s->in[i]]->t;
    for (int i = 0; i < s->n_out; i++)
        out[i] = s->out[i] == NONE ? NULL : &x->places[s->out[i]]->t;
    s->ctx = (struct op_ctx){.node = n,
                             .attr = n->attr,
                             .n_in = s->n_in,
                             .n_out = s->n_out,
                             .in = in,
                             .out = out,
                             .arena = &x->arena,
                             .backend = x->backend,
                             .exec = x};
}

static bool same_tensor(const struct tensor *a, const struct tensor *b)
{
    if (!a || !b)
        return a == b;
    return a->type == b->type && a->layout == b->layout && tensor_same_shape(a, b) &&
           a->data == b->data;
}

/* The sharing exec's step of the same node, if it reads the same constants in the same way. Places
 * in the slab have no data before the first run, which is why exec_pack looks at constants only. */
static const struct step *step_of(const struct exec *x, const struct exec *o, const struct step *s)
{
    if (!o || o->backend != x->backend || o->node_step[s->index] == NONE)
        return NULL;
    const struct step *t = o->steps[o->node_step[s->index]];
    bool same = !t->late;
    for (int i = 0; same && i < s->n_in; i++) {
        const struct place *a = s->in[i] == NONE ? NULL : x->places[s->in[i]];
        const struct place *b = t->in[i] == NONE ? NULL : o->places[t->in[i]];
        struct tensor ta, tb;
        if (a)
            ta = a->t;
        if (b)
            tb = b->t;
        if (a && a->kind != PLACE_CONST)
            ta.data = NULL;
        if (b && b->kind != PLACE_CONST)
            tb.data = NULL;
        same = same_tensor(a ? &ta : NULL, b ? &tb : NULL);
    }
    return same ? t : NULL;
}

static const struct step *shared_step(const struct exec *x, const struct step *s)
{
    const struct step *t = step_of(x, x->share, s);
    return t ? t : step_of(x, x->opts.share_also, s);
}

static int prepare(struct exec *x, struct step *s, struct err *e)
{
    const struct op *op = s->ctx.node->op;
    const struct step *other = shared_step(x, s);
    size_t before = x->arena.used_bytes;
    if (other) {
        s->ctx.prep = other->ctx.prep;
        s->ctx.used = other->ctx.used;
        s->ctx.scratch_bytes = other->ctx.scratch_bytes;
        s->prep_bytes = other->prep_bytes;
        x->shared_bytes += s->prep_bytes;
    } else if (op->prepare && op->prepare(&s->ctx, &s->ctx.prep, e)) {
        return -1;
    } else {
        s->prep_bytes = x->arena.used_bytes - before;
    }
    if (exec_check_room(x, 0, e))
        return -1;
    if (s->ctx.scratch_bytes > x->scratch_bytes)
        x->scratch_bytes = s->ctx.scratch_bytes;
    if (op->macs)
        x->macs += op->macs(&s->ctx);
    return 0;
}

int exec_pack(struct exec *x, struct err *e)
{
    for (int i = 0; i < x->n_steps; i++) {
        struct step *s = x->steps[i];
        if (s->kind != STEP_NODE)
            continue;
        make_context(x, s);
        if (!s->late && prepare(x, s, e))
            return err_in(e, s->ctx.node->name);
    }
    return 0;
}
