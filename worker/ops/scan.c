/*
 * Scan. The body takes a piece of each scan input a step; in opset 8 lengths stand in front of the
 * inputs, and a batch around them.
 */
#include "worker/ops/turns.h"

#include <string.h>

enum { PARTS_MAX = 1024 };

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
        if (turns_run(t, e))
            return -1;
    }
    return turns_type_scans(t, e);
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
    if (scan_pieces(s, a, e) || scan_steps(s, a, s->steps, e) || turns_states_out(&s->t, e))
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
    if (steps >= 0 && pile_type(&p->t, steps, 0, &one, &at, e))
        return -1;
    if (pile_type(&one, batches, 0, &all, &at, e))
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
        pile_clear(&s->t.scans[k]);
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

/* ---- the rows ---- */

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

#define SCAN(from, to, run_)                                                                       \
    "Scan", ONNX, .since = from, .until = to, .max_in = -1, .max_out = -1, .traits = T_SUBGRAPHS,  \
                  .layout = L_PLAIN, .attr_size = sizeof(struct scan_attr), .check = scan_check,   \
                  .shape = turns_shape, .types = TYPES_ALL, .run = run_, .note = TURNS_NOTE

const struct op ops_scan[] = {{SCAN(8, 8, batched_run), .attrs = scan_old_attrs},
                              {SCAN(9, 0, scan_run), .attrs = scan_attrs, .min_in = 1},
                              {0}};
