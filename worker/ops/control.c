/*
 * If, Loop and Scan. Their graphs run in float by exec/sub.h; what lives from one iteration to the
 * next is copied out of them: carried values into slots, scan outputs into piles that are turned to
 * their axis at the end.
 */
#include <string.h>

#include "common/buf.h"
#include "worker/exec/sub.h"
#include "worker/ops/walk.h"

enum { ITERATIONS_MAX = 10000000, PARTS_MAX = 1024 };

static int waits(struct op_ctx *c, struct err *e)
{
    (void)c;
    (void)e;
    return SHAPE_WAITS;
}

/* ---- values that outlive an iteration ---- */

/* Equal tensors, one behind the other; a carried value is a pile of one. */
struct pile {
    struct tensor t; /* of one piece; data: the first */
    struct buf bytes;
    int64_t n;
};

static int pile_push(const struct op_ctx *c, struct pile *p, const struct tensor *t, struct err *e)
{
    char was[TENSOR_TEXT_MAX], is[TENSOR_TEXT_MAX];
    size_t len = tensor_bytes(t);
    if (p->n && (p->t.type != t->type || !tensor_same_shape(&p->t, t)))
        return err_set(e, ERR_BAD_DATA, "", "a scan output is %s in one iteration, %s in another",
                       tensor_text(&p->t, was), tensor_text(t, is));
    /* Growing doubles, and the old bytes stay until the new ones are there. */
    if (p->bytes.len + len >= p->bytes.cap &&
        2 * (p->bytes.len + len) + p->bytes.cap > exec_sub_room(c))
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of an output",
                       p->bytes.len + len);
    char *to = buf_room(&p->bytes, len + 1);
    if (!to)
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of an output", len);
    if (len)
        memcpy(to, t->data, len);
    p->bytes.len += len;
    p->t = *t;
    p->t.layout = LAYOUT_PLAIN;
    p->t.data = p->bytes.data;
    p->n++;
    return 0;
}

static int pile_set(const struct op_ctx *c, struct pile *p, const struct tensor *t, struct err *e)
{
    buf_clear(&p->bytes);
    p->n = 0;
    return pile_push(c, p, t, e);
}

static struct pile *piles_new(const struct op_ctx *c, int n)
{
    struct pile *p = arena_array(c->arena, (size_t)n + 1, sizeof *p);
    for (int i = 0; i < n; i++)
        buf_init(&p[i].bytes, SIZE_MAX / 4);
    return p;
}

static void piles_done(struct pile *p, int n)
{
    for (int i = 0; i < n; i++)
        buf_done(&p[i].bytes);
}

static int copy_out(const struct op_ctx *c, int i, const struct tensor *from, struct err *e)
{
    if (exec_sub_out(c, i, from, e))
        return -1;
    if (i < c->n_out && c->out[i] && tensor_bytes(from))
        memcpy(c->out[i]->data, from->data, tensor_bytes(from));
    return 0;
}

/* `n` pieces of type `t` at `data` into dims with a new axis, at `to`. */
static void spread(const struct tensor *t, const char *data, int64_t n, int axis, bool backward,
                   char *to)
{
    int64_t outer = dims_product(t->dims, 0, axis);
    size_t inner = (size_t)dims_product(t->dims, axis, t->rank) * dtype_size(t->type);
    for (int64_t i = 0; inner && i < n; i++) {
        int64_t at = backward ? n - 1 - i : i;
        for (int64_t o = 0; o < outer; o++)
            memcpy(to + (size_t)(o * n + at) * inner, data + (size_t)(i * outer + o) * inner,
                   inner);
    }
}

/* The dims of n pieces along a new axis. */
static int piled_type(const struct tensor *t, int64_t n, int64_t axis, struct tensor *ret,
                      int *ret_axis, struct err *e)
{
    if (t->rank + 1 > TENSOR_RANK_MAX)
        return err_set(e, ERR_LIMIT, "", "a scan output has too many dims");
    if (op_axis(axis, t->rank + 1, ret_axis, e))
        return -1;
    *ret = *t;
    ret->rank++;
    for (int k = ret->rank - 1; k > *ret_axis; k--)
        ret->dims[k] = t->dims[k - 1];
    ret->dims[*ret_axis] = n;
    return 0;
}

static int pile_out(const struct op_ctx *c, int i, const struct pile *p, int64_t axis,
                    bool backward, struct err *e)
{
    struct tensor all;
    int at;
    if (i >= c->n_out || !c->out[i])
        return 0;
    if (piled_type(&p->t, p->n, axis, &all, &at, e) || exec_sub_out(c, i, &all, e))
        return -1;
    spread(&p->t, p->bytes.data, p->n, at, backward, c->out[i]->data);
    return 0;
}

/* A number or bool as the body declares it: a scalar, or a list of one. */
static struct tensor scalar_for(const struct graph *g, int i, enum dtype type, void *data)
{
    const struct tensor *want = &g->values[g->inputs[i]].type;
    struct tensor t = {.type = type, .data = data};
    if (want->type && want->rank == 1) {
        t.rank = 1;
        t.dims[0] = 1;
    }
    return t;
}

static int truth(const struct tensor *t, bool *ret, struct err *e)
{
    char text[TENSOR_TEXT_MAX];
    if (t->type != DT_BOOL || tensor_count(t) != 1)
        return err_set(e, ERR_BAD_MODEL, "", "a condition must be one bool, not %s",
                       tensor_text(t, text));
    *ret = *(const uint8_t *)t->data != 0;
    return 0;
}

/* ---- If ---- */

struct if_attr {
    const struct graph *then_branch, *else_branch;
};

static int if_check(const struct node *n, void *attr, struct err *e)
{
    const struct if_attr *a = attr;
    const struct graph *const branches[] = {a->then_branch, a->else_branch};
    for (int i = 0; i < 2; i++)
        if (n->n_in != 1 || branches[i]->n_inputs || branches[i]->n_outputs < n->n_out)
            return err_set(e, ERR_BAD_MODEL, "",
                           "The branch \"%.100s\" has %d inputs and %d outputs, the node has %d "
                           "outputs.",
                           branches[i]->name, branches[i]->n_inputs, branches[i]->n_outputs,
                           n->n_out);
    return 0;
}

static int if_run(const struct op_ctx *c, struct err *e)
{
    const struct if_attr *a = c->attr;
    bool yes;
    if (truth(c->in[0], &yes, e))
        return -1;
    const struct graph *g = yes ? a->then_branch : a->else_branch;
    const struct tensor **out = arena_array(c->arena, (size_t)g->n_outputs + 1, sizeof *out);
    if (exec_sub_run(c, g, NULL, out, e))
        return -1;
    for (int i = 0; i < c->n_out; i++)
        if (copy_out(c, i, out[i], e))
            return -1;
    return 0;
}

/* ---- iterations: what Loop and Scan share ---- */

struct turns {
    const struct op_ctx *c;
    const struct graph *body;
    int n_states, n_scans;   /* outputs behind `first_out`: states, then scan outputs */
    int first_in, first_out; /* where the states begin in the body's inputs and outputs */
    struct pile *states, *scans;
    struct tensor *in;         /* the body's inputs */
    const struct tensor **out; /* the body's outputs */
};

static void turns_init(struct turns *t, const struct op_ctx *c, const struct graph *body,
                       int n_states, int first_in, int first_out)
{
    *t = (struct turns){.c = c,
                        .body = body,
                        .n_states = n_states,
                        .n_scans = body->n_outputs - first_out - n_states,
                        .first_in = first_in,
                        .first_out = first_out};
    t->states = piles_new(c, n_states);
    t->scans = piles_new(c, t->n_scans);
    t->in = arena_array(c->arena, (size_t)body->n_inputs + 1, sizeof *t->in);
    t->out = arena_array(c->arena, (size_t)body->n_outputs + 1, sizeof *t->out);
}

static void turns_done(struct turns *t)
{
    piles_done(t->states, t->n_states);
    piles_done(t->scans, t->n_scans);
}

static void load_states(struct turns *t)
{
    for (int i = 0; i < t->n_states; i++)
        t->in[t->first_in + i] = t->states[i].t;
}

static int one_turn(struct turns *t, struct err *e)
{
    load_states(t);
    if (exec_sub_run(t->c, t->body, t->in, t->out, e))
        return -1;
    for (int i = 0; i < t->n_states; i++)
        if (pile_set(t->c, &t->states[i], t->out[t->first_out + i], e))
            return -1;
    for (int i = 0; i < t->n_scans; i++)
        if (pile_push(t->c, &t->scans[i], t->out[t->first_out + t->n_states + i], e))
            return -1;
    return 0;
}

/* Without an iteration a scan output has its type and no piece. */
static int type_scans(struct turns *t, struct err *e)
{
    load_states(t);
    for (int i = 0; i < t->n_scans; i++)
        if (!t->scans[i].n && t->n_states + i < t->c->n_out && t->c->out[t->n_states + i] &&
            exec_sub_type(t->c, t->body, t->in, t->first_out + t->n_states + i, &t->scans[i].t, e))
            return -1;
    return 0;
}

static int states_out(const struct turns *t, struct err *e)
{
    for (int i = 0; i < t->n_states; i++)
        if (copy_out(t->c, i, &t->states[i].t, e))
            return -1;
    return 0;
}

/* ---- Loop ---- */

struct loop_attr {
    const struct graph *body;
};

static int loop_states(const struct node *n)
{
    return n->n_in > 2 ? n->n_in - 2 : 0;
}

static int loop_check(const struct node *n, void *attr, struct err *e)
{
    const struct graph *g = ((const struct loop_attr *)attr)->body;
    int states = loop_states(n);
    for (int i = 2; i < n->n_in; i++)
        if (n->in[i] < 0)
            return err_set(e, ERR_BAD_MODEL, "", "Input %d of Loop is missing.", i);
    if (g->n_inputs != states + 2 || g->n_outputs < states + 1 || n->n_out > g->n_outputs - 1)
        return err_set(e, ERR_BAD_MODEL, "",
                       "The body has %d inputs and %d outputs: that does not fit %d carried values "
                       "and %d outputs of the node.",
                       g->n_inputs, g->n_outputs, states, n->n_out);
    return 0;
}

static int loop_turns(struct turns *t, int64_t trips, bool go, struct err *e)
{
    const struct op_ctx *c = t->c;
    int64_t i = 0;
    for (int k = 0; k < t->n_states; k++)
        if (pile_set(c, &t->states[k], c->in[2 + k], e))
            return -1;
    t->in[0] = scalar_for(t->body, 0, DT_I64, &i);
    t->in[1] = scalar_for(t->body, 1, DT_BOOL, &go);
    for (; go && i < trips; i++) {
        if (i == ITERATIONS_MAX)
            return err_set(e, ERR_LIMIT, "", "the loop has not ended after %d iterations",
                           ITERATIONS_MAX);
        if (one_turn(t, e) || truth(t->out[0], &go, e))
            return -1;
    }
    if (type_scans(t, e) || states_out(t, e))
        return -1;
    for (int k = 0; k < t->n_scans; k++)
        if (pile_out(c, t->n_states + k, &t->scans[k], 0, false, e))
            return -1;
    return 0;
}

static int loop_run(const struct op_ctx *c, struct err *e)
{
    const struct loop_attr *a = c->attr;
    struct turns t;
    int64_t trips = INT64_MAX;
    bool go = true;
    if (c->n_in > 0 && c->in[0] && op_input_int(c, 0, &trips, e))
        return -1;
    if (c->n_in > 1 && c->in[1] && truth(c->in[1], &go, e))
        return -1;
    turns_init(&t, c, a->body, loop_states(c->node), 2, 1);
    int rc = loop_turns(&t, trips, go, e);
    turns_done(&t);
    return rc;
}

/* ---- Scan ---- */

struct scan_attr {
    const struct graph *body;
    int64_t num_scan_inputs;
    struct ints scan_input_directions, scan_output_directions, scan_input_axes, scan_output_axes;
    struct ints directions; /* opset 8 */
};

/* Opset 8: lengths in front, batches outside. */
struct scan {
    struct turns t;
    int first, n_in; /* of the node's inputs: the first state; scan inputs */
    int64_t steps;
    const struct tensor **in; /* the node's states and scan inputs */
    int *axis;                /* of the scan inputs */
    struct tensor *pieces;    /* memory for one step of each scan input */
};

static int check_list(const struct ints *list, int n, const char *name, struct err *e)
{
    if (list->v && list->n != (size_t)n)
        return err_set(e, ERR_BAD_MODEL, "", "%s has %zu entries, not %d.", name, list->n, n);
    return 0;
}

static int scan_check(const struct node *n, void *attr, struct err *e)
{
    const struct scan_attr *a = attr;
    const struct graph *g = a->body;
    int given = n->n_in - (n->opset < 9);
    if (a->num_scan_inputs < 1 || a->num_scan_inputs > given || given > PARTS_MAX)
        return err_set(e, ERR_BAD_MODEL, "", "num_scan_inputs is %lld, the node has %d inputs.",
                       (long long)a->num_scan_inputs, given);
    int scans = (int)a->num_scan_inputs, states = given - scans;
    for (int i = n->opset < 9; i < n->n_in; i++)
        if (n->in[i] < 0)
            return err_set(e, ERR_BAD_MODEL, "", "Input %d of Scan is missing.", i);
    if (g->n_inputs != given || g->n_outputs < states || n->n_out > g->n_outputs)
        return err_set(e, ERR_BAD_MODEL, "",
                       "The body has %d inputs and %d outputs: that does not fit the node's %d "
                       "inputs and %d outputs.",
                       g->n_inputs, g->n_outputs, given, n->n_out);
    int outs = g->n_outputs - states;
    return check_list(&a->scan_input_directions, scans, "scan_input_directions", e) ||
                   check_list(&a->directions, scans, "directions", e) ||
                   check_list(&a->scan_input_axes, scans, "scan_input_axes", e) ||
                   check_list(&a->scan_output_directions, outs, "scan_output_directions", e) ||
                   check_list(&a->scan_output_axes, outs, "scan_output_axes", e)
               ? -1
               : 0;
}

static int64_t entry(const struct ints *list, int i)
{
    return list->v ? list->v[i] : 0;
}

/* The steps of all scan inputs agree, and each has memory for one piece. */
static int scan_pieces(struct scan *s, const struct scan_attr *a, struct err *e)
{
    const struct op_ctx *c = s->t.c;
    s->steps = -1;
    s->axis = arena_array(c->arena, (size_t)s->n_in + 1, sizeof *s->axis);
    s->pieces = arena_array(c->arena, (size_t)s->n_in + 1, sizeof *s->pieces);
    for (int i = 0; i < s->n_in; i++) {
        const struct tensor *x = s->in[s->t.n_states + i];
        struct tensor *p = &s->pieces[i];
        if (op_axis(entry(&a->scan_input_axes, i), x->rank, &s->axis[i], e))
            return -1;
        int64_t n = x->dims[s->axis[i]];
        if (s->steps >= 0 && s->steps != n)
            return err_set(e, ERR_BAD_DATA, "", "scan inputs of %lld and %lld steps",
                           (long long)s->steps, (long long)n);
        s->steps = n;
        *p = (struct tensor){.type = x->type, .rank = x->rank - 1};
        for (int k = 0; k < p->rank; k++)
            p->dims[k] = x->dims[k + (k >= s->axis[i])];
        if (tensor_bytes(p) > exec_sub_room(c) ||
            !(p->data = arena_try(c->arena, tensor_bytes(p) + 1)))
            return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes", tensor_bytes(p));
    }
    return 0;
}

/* Step `at` of a scan input. */
static void take_piece(const struct tensor *x, int axis, int64_t at, struct tensor *ret)
{
    int64_t outer = dims_product(x->dims, 0, axis), n = x->dims[axis];
    size_t inner = (size_t)dims_product(x->dims, axis + 1, x->rank) * dtype_size(x->type);
    for (int64_t o = 0; inner && o < outer; o++)
        memcpy((char *)ret->data + (size_t)o * inner,
               (const char *)x->data + (size_t)(o * n + at) * inner, inner);
}

static int scan_steps(struct scan *s, const struct scan_attr *a, int64_t steps, struct err *e)
{
    const struct ints *backward = a->directions.v ? &a->directions : &a->scan_input_directions;
    struct turns *t = &s->t;
    for (int k = 0; k < t->n_states; k++)
        if (pile_set(t->c, &t->states[k], s->in[k], e))
            return -1;
    for (int k = 0; k < s->n_in; k++)
        t->in[t->n_states + k] = s->pieces[k];
    for (int64_t i = 0; i < steps; i++) {
        for (int k = 0; k < s->n_in; k++)
            take_piece(s->in[t->n_states + k], s->axis[k],
                       entry(backward, k) ? s->steps - 1 - i : i, &s->pieces[k]);
        if (one_turn(t, e))
            return -1;
    }
    return type_scans(t, e);
}

static int scan_init(struct scan *s, const struct op_ctx *c, struct err *e)
{
    const struct scan_attr *a = c->attr;
    *s = (struct scan){.first = c->node->opset < 9, .n_in = (int)a->num_scan_inputs};
    int states = c->n_in - s->first - s->n_in;
    s->in = arena_array(c->arena, (size_t)c->n_in + 1, sizeof *s->in);
    for (int i = s->first; i < c->n_in; i++)
        s->in[i - s->first] = c->in[i];
    turns_init(&s->t, c, a->body, states, 0, 0);
    (void)e;
    return 0;
}

static int scan_all(struct scan *s, struct err *e)
{
    const struct scan_attr *a = s->t.c->attr;
    if (scan_pieces(s, a, e) || scan_steps(s, a, s->steps, e) || states_out(&s->t, e))
        return -1;
    for (int k = 0; k < s->t.n_scans; k++)
        if (pile_out(s->t.c, s->t.n_states + k, &s->t.scans[k], entry(&a->scan_output_axes, k),
                     entry(&a->scan_output_directions, k) != 0, e))
            return -1;
    return 0;
}

static int scan_run(const struct op_ctx *c, struct err *e)
{
    struct scan s;
    int rc = scan_init(&s, c, e) ? -1 : scan_all(&s, e);
    turns_done(&s.t);
    return rc;
}

/* ---- Scan of opset 8: each batch by itself, along axis 1, for as long as its length says ---- */

static int batch_view(const struct tensor *x, int64_t b, struct tensor *ret, struct err *e)
{
    if (x->rank < 1)
        return err_set(e, ERR_BAD_DATA, "", "an input has no batch dimension");
    *ret = (struct tensor){.type = x->type, .rank = x->rank - 1};
    memcpy(ret->dims, x->dims + 1, (size_t)ret->rank * sizeof ret->dims[0]);
    ret->data = (char *)x->data + (size_t)b * tensor_bytes(ret);
    return 0;
}

static int batch_count(const struct scan *s, int64_t *ret, struct err *e)
{
    const struct op_ctx *c = s->t.c;
    *ret = -1;
    for (int i = 0; i < s->t.n_states + s->n_in; i++) {
        if (s->in[i]->rank < 1 || (*ret >= 0 && s->in[i]->dims[0] != *ret))
            return err_set(e, ERR_BAD_DATA, "", "the inputs' batch dimensions differ");
        *ret = s->in[i]->dims[0];
    }
    const struct tensor *lengths = c->in[0];
    if (lengths && (lengths->type != DT_I64 || lengths->rank != 1 || lengths->dims[0] != *ret))
        return err_set(e, ERR_BAD_DATA, "", "sequence_lens must be one int64 a batch");
    return 0;
}

/* A batch's share of output i: its memory is taken with the first one. */
static int put_batch(const struct op_ctx *c, int i, const struct pile *p, int64_t b,
                     int64_t batches, int64_t steps, struct err *e)
{
    struct tensor one = p->t, all;
    int at;
    if (i >= c->n_out || !c->out[i])
        return 0;
    if (steps >= 0 && piled_type(&p->t, steps, 0, &one, &at, e))
        return -1;
    if (piled_type(&one, batches, 0, &all, &at, e))
        return -1;
    if (b == 0 && exec_sub_out(c, i, &all, e))
        return -1;
    if (c->out[i]->type != all.type || !tensor_same_shape(c->out[i], &all))
        return err_set(e, ERR_BAD_DATA, "", "the batches' outputs differ in shape");
    if (p->bytes.len)
        memcpy((char *)c->out[i]->data + (size_t)b * tensor_bytes(&one), p->bytes.data,
               p->bytes.len);
    return 0;
}

static int one_batch(struct scan *s, const struct tensor *const *whole, int64_t b, int64_t batches,
                     struct err *e)
{
    const struct op_ctx *c = s->t.c;
    int n = s->t.n_states + s->n_in;
    struct tensor *views = arena_array(c->arena, (size_t)n + 1, sizeof *views);
    for (int i = 0; i < n; i++) {
        if (batch_view(whole[i], b, &views[i], e))
            return -1;
        s->in[i] = &views[i];
    }
    if (scan_pieces(s, c->attr, e))
        return -1;
    int64_t steps = c->in[0] ? tensor_int(c->in[0], b) : s->steps;
    if (steps < 0 || steps > s->steps)
        return err_set(e, ERR_BAD_DATA, "", "sequence_lens has %lld for %lld steps",
                       (long long)steps, (long long)s->steps);
    for (int k = 0; k < s->t.n_scans; k++) {
        buf_clear(&s->t.scans[k].bytes);
        s->t.scans[k].n = 0;
    }
    if (scan_steps(s, c->attr, steps, e))
        return -1;
    for (int k = 0; k < s->t.n_states + s->t.n_scans; k++) {
        bool state = k < s->t.n_states;
        const struct pile *p = state ? &s->t.states[k] : &s->t.scans[k - s->t.n_states];
        if (put_batch(c, k, p, b, batches, state ? -1 : s->steps, e))
            return -1;
    }
    return 0;
}

static int batched(struct scan *s, struct err *e)
{
    const struct op_ctx *c = s->t.c;
    size_t n = (size_t)(s->t.n_states + s->n_in);
    const struct tensor **whole = arena_copy(c->arena, s->in, n * sizeof *whole);
    int64_t batches;
    if (batch_count(s, &batches, e))
        return -1;
    if (batches < 1)
        return err_set(e, ERR_UNSUPPORTED, "", "a Scan over no batch");
    for (int64_t b = 0; b < batches; b++)
        if (one_batch(s, whole, b, batches, e))
            return -1;
    return 0;
}

static int batched_run(const struct op_ctx *c, struct err *e)
{
    struct scan s;
    int rc = scan_init(&s, c, e) ? -1 : batched(&s, e);
    turns_done(&s.t);
    return rc;
}

static const struct attr_def if_attrs[] = {ATTR(GRAPH, if_attr, then_branch, .required = true),
                                           ATTR(GRAPH, if_attr, else_branch, .required = true),
                                           {0}};
static const struct attr_def loop_attrs[] = {ATTR(GRAPH, loop_attr, body, .required = true), {0}};
#define SCAN_ATTRS                                                                                 \
    ATTR(GRAPH, scan_attr, body, .required = true),                                                \
        ATTR(INT, scan_attr, num_scan_inputs, .required = true)
static const struct attr_def scan_old_attrs[] = {
    SCAN_ATTRS, ATTR(INTS, scan_attr, directions), {0}};
static const struct attr_def scan_attrs[] = {SCAN_ATTRS,
                                             ATTR(INTS, scan_attr, scan_input_directions),
                                             ATTR(INTS, scan_attr, scan_output_directions),
                                             ATTR(INTS, scan_attr, scan_input_axes),
                                             ATTR(INTS, scan_attr, scan_output_axes),
                                             {0}};

#define CONTROL(name, stem, from, to, run_, ...)                                                   \
    {                                                                                              \
        name, ONNX, .since = from, .until = to, .max_in = -1, .max_out = -1,                       \
                    .traits = T_SUBGRAPHS, .layout = L_PLAIN,                                      \
                    .attr_size = sizeof(struct stem##_attr), .check = stem##_check,                \
                    .shape = waits, .run = run_, __VA_ARGS__                                       \
    }
#define INNER "its graphs run in float, nested at most 16 deep"

const struct op ops_control[] = {
    CONTROL("If", if, 1, 0, if_run, .attrs = if_attrs, .min_in = 1,
            .note = INNER "; one whose condition is constant is inlined"),
    CONTROL("Loop", loop, 1, 0, loop_run, .attrs = loop_attrs, .note = INNER),
    CONTROL("Scan", scan, 8, 8, batched_run, .attrs = scan_old_attrs, .note = INNER),
    CONTROL("Scan", scan, 9, 0, scan_run, .attrs = scan_attrs, .min_in = 1, .note = INNER),
    {0}};
