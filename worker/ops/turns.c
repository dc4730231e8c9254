#include "worker/ops/turns.h"

#include <string.h>

int turns_shape(struct op_ctx *c, struct err *e)
{
    (void)c;
    (void)e;
    return SHAPE_WAITS;
}

/* ---- values that outlive an iteration ---- */

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

void pile_clear(struct pile *p)
{
    buf_clear(&p->bytes);
    p->n = 0;
}

int pile_set(const struct op_ctx *c, struct pile *p, const struct tensor *t, struct err *e)
{
    pile_clear(p);
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

int turns_copy_out(const struct op_ctx *c, int i, const struct tensor *from, struct err *e)
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
int pile_type(const struct tensor *t, int64_t n, int64_t axis, struct tensor *ret, int *ret_axis,
              struct err *e)
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

int pile_out(const struct op_ctx *c, int i, const struct pile *p, int64_t axis, bool backward,
             struct err *e)
{
    struct tensor all;
    int at;
    if (i >= c->n_out || !c->out[i])
        return 0;
    if (pile_type(&p->t, p->n, axis, &all, &at, e) || exec_sub_out(c, i, &all, e))
        return -1;
    spread(&p->t, p->bytes.data, p->n, at, backward, c->out[i]->data);
    return 0;
}

/* A number or bool as the body declares it: a scalar, or a list of one. */
/* ---- iterations ---- */

void turns_init(struct turns *t, const struct op_ctx *c, const struct graph *body, int n_states,
                int first_in, int first_out)
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

void turns_done(struct turns *t)
{
    piles_done(t->states, t->n_states);
    piles_done(t->scans, t->n_scans);
}

static void load_states(struct turns *t)
{
    for (int i = 0; i < t->n_states; i++)
        t->in[t->first_in + i] = t->states[i].t;
}

int turns_run(struct turns *t, struct err *e)
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
int turns_type_scans(struct turns *t, struct err *e)
{
    load_states(t);
    for (int i = 0; i < t->n_scans; i++)
        if (!t->scans[i].n && t->n_states + i < t->c->n_out && t->c->out[t->n_states + i] &&
            exec_sub_type(t->c, t->body, t->in, t->first_out + t->n_states + i, &t->scans[i].t, e))
            return -1;
    return 0;
}

int turns_states_out(const struct turns *t, struct err *e)
{
    for (int i = 0; i < t->n_states; i++)
        if (turns_copy_out(t->c, i, &t->states[i].t, e))
            return -1;
    return 0;
}
