#include "worker/ops/walk.h"

#include <stdio.h>
#include <string.h>

int op_bad(const struct op_ctx *c, int i, struct err *e, const char *fmt, ...)
{
    char text[512], shape[TENSOR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const struct tensor *t = i < c->n_in ? c->in[i] : NULL;
    return err_set(e, ERR_BAD_MODEL, NULL, "Input %d (%s): %s.", i,
                   t ? tensor_text(t, shape) : "absent", text);
}

int op_need(const struct op_ctx *c, int n, struct err *e)
{
    for (int i = 0; i < n; i++)
        if (i >= c->n_in || !c->in[i])
            return op_bad(c, i, e, "it is required");
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i] && dtype_size(c->in[i]->type) == 0)
            return op_bad(c, i, e, "its element type is not computed here");
    return 0;
}

int op_same_type(const struct op_ctx *c, int first, int last, struct err *e)
{
    for (int i = first + 1; i <= last && i < c->n_in; i++)
        if (c->in[i] && c->in[i]->type != c->in[first]->type)
            return op_bad(c, i, e, "its type must be that of input %d, %s", first,
                          dtype_name(c->in[first]->type));
    return 0;
}

int op_out(struct op_ctx *c, int i, enum dtype t, int rank, const int64_t *dims, struct err *e)
{
    if (i >= c->n_out || !c->out[i])
        return 0;
    return tensor_set(c->out[i], t, rank, dims, e);
}

int op_takes(const struct op_ctx *c, int i, walk_rows rows, struct err *e)
{
    return rows[c->in[i]->type] ? 0 : op_bad(c, i, e, "the operator does not take this type");
}

int op_takes_float(const struct op_ctx *c, int i, struct err *e)
{
    return dtype_is_float(c->in[i]->type) ? 0 : op_bad(c, i, e, "the operator takes floats here");
}

static bool is_index_type(enum dtype t)
{
    return t != DT_F32 && t != DT_F64 && t != DT_F16 && t != DT_BOOL;
}

int op_input_ints(const struct op_ctx *c, int i, const struct ints *attr, int64_t *ret, int max,
                  int *ret_n, struct err *e)
{
    const struct tensor *t = i < c->n_in ? c->in[i] : NULL;
    if (!t && !(attr && attr->v)) {
        *ret_n = -1;
        return 0;
    }
    int64_t n = t ? tensor_count(t) : (int64_t)attr->n;
    if (n > max)
        return err_set(e, ERR_BAD_MODEL, NULL, "Input %d has %lld elements, at most %d make sense.",
                       i, (long long)n, max);
    if (t && (t->rank > 1 || !is_index_type(t->type)))
        return op_bad(c, i, e, "it must be a list of integers");
    if (t && n > 0 && !t->data)
        return SHAPE_WAITS;
    for (int64_t k = 0; k < n; k++)
        ret[k] = t ? tensor_int(t, k) : attr->v[k];
    *ret_n = (int)n;
    return 0;
}

int op_input_axes(const struct op_ctx *c, int i, const struct ints *attr, int rank, int *ret,
                  int *ret_n, struct err *e)
{
    int64_t v[TENSOR_RANK_MAX];
    int rc = op_input_ints(c, i, attr, v, TENSOR_RANK_MAX, ret_n, e);
    unsigned seen = 0;
    for (int k = 0; rc == 0 && k < *ret_n; k++) {
        rc = op_axis(v[k], rank, &ret[k], e);
        if (rc == 0 && (seen & 1u << ret[k]))
            rc = err_set(e, ERR_BAD_MODEL, NULL, "Axis %d is named twice.", ret[k]);
        if (rc == 0)
            seen |= 1u << ret[k];
    }
    return rc;
}

int op_input_int(const struct op_ctx *c, int i, int64_t *ret, struct err *e)
{
    const struct tensor *t = i < c->n_in ? c->in[i] : NULL;
    if (!t || tensor_count(t) != 1 || !is_index_type(t->type))
        return op_bad(c, i, e, "it must be one integer");
    if (!t->data)
        return SHAPE_WAITS;
    *ret = tensor_int(t, 0);
    return 0;
}

int op_pointwise_shape(struct op_ctx *c, walk_rows rows, enum dtype type, struct err *e)
{
    struct tensor both;
    if (op_need(c, c->n_in, e) || op_same_type(c, 0, c->n_in - 1, e) || op_takes(c, 0, rows, e) ||
        op_broadcast(c->in, c->n_in, &both, e))
        return -1;
    return op_out(c, 0, type == DT_NONE ? c->in[0]->type : type, both.rank, both.dims, e);
}

void op_pointwise_run(const struct op_ctx *c, walk_row *row, void *arg)
{
    struct walk w;
    walk_init(&w, c->out[0]->rank, c->out[0]->dims);
    for (int i = 0; i < c->n_in; i++)
        walk_add_tensor(&w, c->in[i]);
    walk_add_tensor(&w, c->out[0]);
    walk_run(&w, row, arg);
}

int64_t dims_product(const int64_t *dims, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++)
        n *= dims[d];
    return n;
}

void dims_strides(int rank, const int64_t *dims, int64_t *ret)
{
    int64_t n = 1;
    for (int d = rank - 1; d >= 0; d--) {
        ret[d] = n;
        n *= dims[d];
    }
}
