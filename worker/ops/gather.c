/* Reading by index: Gather, GatherElements, GatherND. Indices may be negative; one that lies
 * outside is an error. All plain. */
#include "worker/ops/index.h"

#include <string.h>

int64_t index_at(const struct tensor *t, int64_t i)
{
    return t->type == DT_I64 ? ((const int64_t *)t->data)[i] : tensor_int(t, i);
}

int index_bad(const struct op_ctx *c, int input, int64_t value, int64_t dim, struct err *e)
{
    return op_bad(c, input, e, "index %lld lies outside %lld elements", (long long)value,
                  (long long)dim);
}

int index_type(const struct op_ctx *c, int input, struct err *e)
{
    enum dtype t = c->in[input]->type;
    return t == DT_I64 || t == DT_I32 ? 0 : op_bad(c, input, e, "indices are int64 or int32");
}

static const struct attr_def axis_attrs[] = {ATTR(INT, index_attr, axis), {0}};

/* ---- Gather ---- */

static int gather_shape(struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    int64_t dims[2 * TENSOR_RANK_MAX];
    int axis, rank = 0;
    if (op_need(c, 2, e) || index_type(c, 1, e) || op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    const struct tensor *x = c->in[0], *at = c->in[1];
    for (int d = 0; d < axis; d++)
        dims[rank++] = x->dims[d];
    for (int d = 0; d < at->rank; d++)
        dims[rank++] = at->dims[d];
    for (int d = axis + 1; d < x->rank; d++)
        dims[rank++] = x->dims[d];
    return op_out(c, 0, x->type, rank, dims, e);
}

static int gather_run(const struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    const struct tensor *x = c->in[0], *at = c->in[1];
    int axis;
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    int64_t dim = x->dims[axis], n = tensor_count(at);
    int64_t outer = dims_product(x->dims, 0, axis);
    size_t block = (size_t)dims_product(x->dims, axis + 1, x->rank) * dtype_size(x->type);
    for (int64_t k = 0; k < n; k++) {
        int64_t i = index_at(at, k), from = i < 0 ? i + dim : i;
        if (from < 0 || from >= dim)
            return index_bad(c, 1, i, dim, e);
        for (int64_t o = 0; block && o < outer; o++)
            memcpy((char *)c->out[0]->data + (size_t)(o * n + k) * block,
                   (const char *)x->data + (size_t)(o * dim + from) * block, block);
    }
    return 0;
}

/* ---- GatherElements ---- */

static int elements_shape(struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    int axis;
    if (op_need(c, 2, e) || index_type(c, 1, e) || op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    const struct tensor *x = c->in[0], *at = c->in[1];
    if (at->rank != x->rank)
        return op_bad(c, 1, e, "it must have the rank of the data, %d", x->rank);
    for (int d = 0; d < x->rank; d++)
        if (d != axis && at->dims[d] > x->dims[d])
            return op_bad(c, 1, e, "dim %d exceeds the data's", d);
    return op_out(c, 0, x->type, x->rank, at->dims, e);
}

int64_t index_step(const int64_t *dims, int rank, const int64_t *strides, int64_t *at)
{
    int64_t moved = 0;
    for (int d = rank - 1; d >= 0; d--) {
        moved += strides[d];
        if (++at[d] < dims[d])
            return moved;
        moved -= strides[d] * dims[d];
        at[d] = 0;
    }
    return moved;
}

static int elements_run(const struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    const struct tensor *x = c->in[0], *at = c->in[1];
    int64_t strides[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX], pos[TENSOR_RANK_MAX] = {0};
    int axis;
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    dims_strides(x->rank, x->dims, strides);
    memcpy(step, strides, sizeof step);
    step[axis] = 0;
    size_t size = dtype_size(x->type);
    for (int64_t k = 0, n = tensor_count(at), base = 0; k < n; k++) {
        int64_t i = index_at(at, k), from = i < 0 ? i + x->dims[axis] : i;
        if (from < 0 || from >= x->dims[axis])
            return index_bad(c, 1, i, x->dims[axis], e);
        memcpy((char *)c->out[0]->data + (size_t)k * size,
               (const char *)x->data + (size_t)(base + from * strides[axis]) * size, size);
        base += index_step(at->dims, x->rank, step, pos);
    }
    return 0;
}

/* ---- GatherND ---- */

static const struct attr_def nd_attrs[] = {ATTR(INT, index_attr, batch_dims), {0}};

static int nd_shape(struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    int64_t dims[2 * TENSOR_RANK_MAX];
    int rank = 0;
    if (op_need(c, 2, e) || index_type(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0], *at = c->in[1];
    int64_t b = a->batch_dims;
    if (at->rank < 1 || b < 0 || b >= at->rank || b >= x->rank)
        return op_bad(c, 1, e, "batch_dims of %lld do not fit", (long long)b);
    int64_t depth = at->dims[at->rank - 1];
    if (depth < 1 || depth > x->rank - b)
        return op_bad(c, 1, e, "an index of %lld numbers does not fit the data", (long long)depth);
    for (int d = 0; d < at->rank - 1; d++)
        dims[rank++] = at->dims[d];
    for (int d = 0; d < b; d++)
        if (at->dims[d] != x->dims[d])
            return op_bad(c, 1, e, "batch dim %d is not the data's", d);
    for (int d = (int)(b + depth); d < x->rank; d++)
        dims[rank++] = x->dims[d];
    return op_out(c, 0, x->type, rank, dims, e);
}

int64_t index_tuple(const struct op_ctx *c, int64_t k, const int64_t *dims, const int64_t *strides,
                    struct err *e)
{
    const struct tensor *at = c->in[1];
    int64_t depth = at->dims[at->rank - 1], offset = 0;
    for (int64_t d = 0; d < depth; d++) {
        int64_t i = index_at(at, k * depth + d), from = i < 0 ? i + dims[d] : i;
        if (from < 0 || from >= dims[d])
            return index_bad(c, 1, i, dims[d], e);
        offset += from * strides[d];
    }
    return offset;
}

static int nd_run(const struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    const struct tensor *x = c->in[0], *at = c->in[1];
    int64_t strides[TENSOR_RANK_MAX];
    int b = (int)a->batch_dims;
    int64_t depth = at->dims[at->rank - 1], batches = dims_product(x->dims, 0, b);
    dims_strides(x->rank, x->dims, strides);
    size_t size = dtype_size(x->type);
    size_t block = (size_t)dims_product(x->dims, b + (int)depth, x->rank) * size;
    int64_t one = dims_product(x->dims, b, x->rank), each = dims_product(at->dims, b, at->rank - 1);
    for (int64_t k = 0; block && k < batches * each; k++) {
        int64_t from = index_tuple(c, k, x->dims + b, strides + b, e);
        if (from < 0)
            return -1;
        memcpy((char *)c->out[0]->data + (size_t)k * block,
               (const char *)x->data + (size_t)(k / each * one + from) * size, block);
    }
    return 0;
}

#define TWO .min_in = 2, .max_in = 2, .layout = L_PLAIN, .attr_size = sizeof(struct index_attr)

const struct op ops_gather[] = {
    {"Gather", ONNX, .since = 1, TWO, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
     .traits = T_QUANT | T_PRESERVES | T_LOOKTHRU | T_SHAPE_DATA, .attrs = axis_attrs,
     .shape = gather_shape, .run = gather_run, .types = TYPES_ALL},
    {"GatherElements", ONNX, .since = 11, TWO, .attrs = axis_attrs, .shape = elements_shape,
     .run = elements_run, .types = TYPES_ALL},
    {"GatherND", ONNX, .since = 11, TWO, .attrs = nd_attrs, .shape = nd_shape, .run = nd_run,
     .types = TYPES_ALL},
    {0}};
