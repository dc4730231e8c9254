#include "worker/ops/op.h"

#include <string.h>

const struct op *op_find(const char *domain, const char *type, int opset)
{
    if (!strcmp(domain, "ai.onnx"))
        domain = ONNX;
    for (const struct op *const *family = op_families; *family; family++)
        for (const struct op *op = *family; op->type; op++)
            if (opset >= op->since && (!op->until || opset <= op->until) &&
                !strcmp(op->type, type) && !strcmp(op->domain, domain))
                return op;
    return NULL;
}

int op_shape(const struct op *op, struct op_ctx *c, struct err *e)
{
    char text[TENSOR_TEXT_MAX];
    const struct tensor *x = c->n_in > 0 ? c->in[0] : NULL;
    if (x && !(op->types & 1u << x->type))
        return err_set(e, ERR_UNSUPPORTED, "", "%s of %s is not computed.", op->type,
                       tensor_text(x, text));
    return op->shape(c, e);
}

static const char *const attr_kinds[] = {
    [ATTR_FLOAT] = "a float",   [ATTR_INT] = "an int",     [ATTR_STRING] = "a string",
    [ATTR_TENSOR] = "a tensor", [ATTR_GRAPH] = "a graph",  [ATTR_FLOATS] = "floats",
    [ATTR_INTS] = "ints",       [ATTR_STRINGS] = "strings"};

static void set_default(const struct attr_def *d, void *to)
{
    if (d->type == ATTR_FLOAT)
        *(float *)to = (float)d->number;
    else if (d->type == ATTR_INT)
        *(int64_t *)to = (int64_t)d->number;
    else if (d->type == ATTR_STRING)
        *(const char **)to = d->text;
}

static void set_from(const struct attr *a, void *to)
{
    switch (a->type) {
    case ATTR_FLOAT:
        *(float *)to = a->f;
        break;
    case ATTR_INT:
        *(int64_t *)to = a->i;
        break;
    case ATTR_STRING:
        *(const char **)to = a->s;
        break;
    case ATTR_TENSOR:
        *(const struct tensor **)to = a->t;
        break;
    case ATTR_GRAPH:
        *(const struct graph **)to = a->g;
        break;
    case ATTR_FLOATS:
        *(struct floats *)to = (struct floats){a->n, a->floats};
        break;
    case ATTR_INTS:
        *(struct ints *)to = (struct ints){a->n, a->ints};
        break;
    case ATTR_STRINGS:
        *(struct strings *)to = (struct strings){a->n, a->strings};
        break;
    }
}

static const struct attr_def *find_def(const struct op *op, const char *name)
{
    for (const struct attr_def *d = op->attrs; d && d->name; d++)
        if (!strcmp(d->name, name))
            return d;
    return NULL;
}

static bool has_attr(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return true;
    return false;
}

static int fill(const struct op *op, const struct node *n, char *to, struct err *e)
{
    for (const struct attr_def *d = op->attrs; d && d->name; d++) {
        set_default(d, to + d->offset);
        if (d->required && !has_attr(n, d->name))
            return err_set(e, ERR_BAD_MODEL, "", "%s needs the attribute \"%s\".", op->type,
                           d->name);
    }
    for (int i = 0; i < n->n_attrs; i++) {
        const struct attr *a = &n->attrs[i];
        const struct attr_def *d = find_def(op, a->name);
        if (!d)
            return err_set(e, ERR_BAD_MODEL, "", "%s of opset %d has no attribute \"%.200s\".",
                           op->type, n->opset, a->name);
        if (d->type != a->type)
            return err_set(e, ERR_BAD_MODEL, "", "The attribute \"%s\" of %s is %s, not %s.",
                           d->name, op->type, attr_kinds[d->type], attr_kinds[a->type]);
        set_from(a, to + d->offset);
    }
    return 0;
}

int op_attrs(const struct op *op, struct node *n, struct arena *a, struct err *e)
{
    void *attr = arena_alloc(a, op->attr_size ? op->attr_size : 1);
    n->attr = attr;
    if (fill(op, n, attr, e))
        return -1;
    return op->check ? op->check(n, attr, e) : 0;
}

int op_axis(int64_t axis, int rank, int *ret, struct err *e)
{
    if (axis < -rank || axis >= rank)
        return err_set(e, ERR_BAD_MODEL, "", "Axis %lld is not one of a tensor of rank %d.",
                       (long long)axis, rank);
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return 0;
}

/* One dim of two: 1 gives way, unknown gives way to what must be, else they are equal. */
static int broadcast_dim(int64_t *to, int64_t d)
{
    if (*to == d || d == 1)
        return 0;
    if (*to == 1) {
        *to = d;
        return 0;
    }
    if (d == -1)
        return 0;
    if (*to != -1)
        return -1;
    *to = d;
    return 0;
}

int op_broadcast(const struct tensor *const *in, int n, struct tensor *ret, struct err *e)
{
    int rank = 0;
    for (int k = 0; k < n; k++)
        if (in[k]->rank > rank)
            rank = in[k]->rank;
    int64_t dims[TENSOR_RANK_MAX];
    for (int i = 0; i < rank; i++)
        dims[i] = 1;
    for (int k = 0; k < n; k++)
        for (int i = 0, shift = rank - in[k]->rank; i < in[k]->rank; i++)
            if (broadcast_dim(&dims[i + shift], in[k]->dims[i])) {
                char a[TENSOR_TEXT_MAX], b[TENSOR_TEXT_MAX];
                return err_set(e, ERR_BAD_MODEL, "", "%s and %s cannot be broadcast.",
                               tensor_text(in[0], a), tensor_text(in[k], b));
            }
    ret->rank = rank;
    memcpy(ret->dims, dims, (size_t)rank * sizeof dims[0]);
    return 0;
}

int op_shape_same(struct op_ctx *c, struct err *e)
{
    (void)e;
    c->out[0]->type = c->in[0]->type;
    c->out[0]->rank = c->in[0]->rank;
    memcpy(c->out[0]->dims, c->in[0]->dims, sizeof c->in[0]->dims);
    return 0;
}

int op_ints(const struct tensor *in, int64_t *ret, int max, int *ret_n, struct err *e)
{
    *ret_n = 0;
    if (!in)
        return 0;
    if (!in->data)
        return SHAPE_WAITS;
    if (in->rank > 1 || (in->type != DT_I64 && in->type != DT_I32)) {
        char text[TENSOR_TEXT_MAX];
        return err_set(e, ERR_BAD_MODEL, "", "A list of integers is wanted, not %s.",
                       tensor_text(in, text));
    }
    int64_t n = tensor_count(in);
    if (n > max)
        return err_set(e, ERR_BAD_MODEL, "", "A list of at most %d integers is wanted, not %lld.",
                       max, (long long)n);
    for (int64_t i = 0; i < n; i++)
        ret[i] = tensor_int(in, i);
    *ret_n = (int)n;
    return 0;
}
