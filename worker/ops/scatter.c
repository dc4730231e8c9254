/* Writing by index: ScatterElements (and its old name Scatter), ScatterND, OneHot. Where an index
 * comes twice, updates are applied in their order. All plain. */
#include "worker/ops/index.h"

#include <string.h>

/* ---- reductions of one element into another ---- */

typedef void combine(char *to, const char *from);

#define COMBINE(name, T, expr)                                                                     \
    static void name(char *to, const char *from)                                                   \
    {                                                                                              \
        T x = *(T *)(void *)to, y = *(const T *)(const void *)from;                                \
        *(T *)(void *)to = (T)(expr);                                                              \
    }
#define COMBINE_FLOAT(dt, sfx, T)                                                                  \
    COMBINE(add_##sfx, T, x + y)                                                                   \
    COMBINE(mul_##sfx, T, x *y)                                                                    \
    COMBINE(max_##sfx, T, y > x || y != y ? y : x)                                                 \
    COMBINE(min_##sfx, T, y < x || y != y ? y : x)
#define COMBINE_INT(dt, sfx, T)                                                                    \
    COMBINE(add_##sfx, T, (uint64_t)x + (uint64_t)y)                                               \
    COMBINE(mul_##sfx, T, (uint64_t)x *(uint64_t)y)                                                \
    COMBINE(max_##sfx, T, y > x ? y : x)                                                           \
    COMBINE(min_##sfx, T, y < x ? y : x)
DTYPES_FLOAT(COMBINE_FLOAT)
DTYPES_INT(COMBINE_INT)

static const struct reduction {
    const char *name;
    combine *by[DT_COUNT];
} reductions[] = {{"none", {NULL}},
#define X(dt, sfx, T) [dt] = add_##sfx,
                  {"add", {DTYPES_NUMBER(X)}},
#undef X
#define X(dt, sfx, T) [dt] = mul_##sfx,
                  {"mul", {DTYPES_NUMBER(X)}},
#undef X
#define X(dt, sfx, T) [dt] = max_##sfx,
                  {"max", {DTYPES_NUMBER(X)}},
#undef X
#define X(dt, sfx, T) [dt] = min_##sfx,
                  {"min", {DTYPES_NUMBER(X)}},
#undef X
                  {NULL, {NULL}}};

/* The node's reduction for the data's type; *ret NULL = the update replaces. */
static int reduction_of(const struct op_ctx *c, combine **ret, struct err *e)
{
    const struct index_attr *a = c->attr;
    const struct reduction *r = reductions;
    while (r->name && strcmp(r->name, a->reduction))
        r++;
    if (!r->name)
        return err_set(e, ERR_BAD_MODEL, NULL, "There is no reduction \"%.40s\".", a->reduction);
    *ret = r->by[c->in[0]->type];
    if (!*ret && r != reductions)
        return op_bad(c, 0, e, "this type cannot be reduced by %s", r->name);
    return 0;
}

static int scatter_common(struct op_ctx *c, struct err *e)
{
    combine *by;
    if (op_need(c, 3, e) || index_type(c, 1, e) || reduction_of(c, &by, e))
        return -1;
    if (c->in[2]->type != c->in[0]->type)
        return op_bad(c, 2, e, "updates have the data's type");
    return op_out(c, 0, c->in[0]->type, c->in[0]->rank, c->in[0]->dims, e);
}

static void put(combine *by, char *to, const char *from, size_t size)
{
    if (by)
        by(to, from);
    else
        memcpy(to, from, size);
}

/* ---- ScatterElements ---- */

static int elements_shape(struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    int axis;
    if (scatter_common(c, e) || op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    const struct tensor *x = c->in[0], *at = c->in[1];
    if (at->rank != x->rank || !tensor_same_shape(at, c->in[2]))
        return op_bad(c, 1, e, "indices have the data's rank and the updates' shape");
    for (int d = 0; d < x->rank; d++)
        if (d != axis && at->dims[d] > x->dims[d])
            return op_bad(c, 1, e, "dim %d exceeds the data's", d);
    return 0;
}

static int elements_run(const struct op_ctx *c, struct err *e)
{
    const struct index_attr *a = c->attr;
    const struct tensor *x = c->in[0], *at = c->in[1];
    int64_t strides[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX], pos[TENSOR_RANK_MAX] = {0};
    size_t size = dtype_size(x->type);
    combine *by;
    int axis;
    if (op_axis(a->axis, x->rank, &axis, e) || reduction_of(c, &by, e))
        return -1;
    walk_bytes(x, c->out[0]);
    dims_strides(x->rank, x->dims, strides);
    memcpy(step, strides, sizeof step);
    step[axis] = 0;
    for (int64_t k = 0, n = tensor_count(at), base = 0; k < n; k++) {
        int64_t i = index_at(at, k), to = i < 0 ? i + x->dims[axis] : i;
        if (to < 0 || to >= x->dims[axis])
            return index_bad(c, 1, i, x->dims[axis], e);
        put(by, (char *)c->out[0]->data + (size_t)(base + to * strides[axis]) * size,
            (const char *)c->in[2]->data + (size_t)k * size, size);
        base += index_step(at->dims, x->rank, step, pos);
    }
    return 0;
}

/* ---- ScatterND ---- */

static int nd_shape(struct op_ctx *c, struct err *e)
{
    if (scatter_common(c, e))
        return -1;
    const struct tensor *x = c->in[0], *at = c->in[1], *u = c->in[2];
    int64_t depth = at->rank > 0 ? at->dims[at->rank - 1] : 0;
    if (depth < 1 || depth > x->rank)
        return op_bad(c, 1, e, "an index of %lld numbers does not fit the data", (long long)depth);
    if (u->rank != at->rank - 1 + x->rank - depth)
        return op_bad(c, 2, e, "updates have the indices' dims and those they leave");
    for (int d = 0; d < u->rank; d++) {
        int64_t want = d < at->rank - 1 ? at->dims[d] : x->dims[d - (at->rank - 1) + depth];
        if (u->dims[d] != want)
            return op_bad(c, 2, e, "dim %d should be %lld", d, (long long)want);
    }
    return 0;
}

static int nd_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *at = c->in[1];
    int64_t strides[TENSOR_RANK_MAX];
    int depth = (int)at->dims[at->rank - 1];
    size_t size = dtype_size(x->type);
    int64_t block = dims_product(x->dims, depth, x->rank);
    int64_t n = dims_product(at->dims, 0, at->rank - 1);
    combine *by;
    if (reduction_of(c, &by, e))
        return -1;
    walk_bytes(x, c->out[0]);
    dims_strides(x->rank, x->dims, strides);
    for (int64_t k = 0; k < n && block > 0; k++) {
        int64_t to = index_tuple(c, k, x->dims, strides, e);
        if (to < 0)
            return -1;
        char *into = (char *)c->out[0]->data + (size_t)to * size;
        const char *from = (const char *)c->in[2]->data + (size_t)(k * block) * size;
        if (!by)
            memcpy(into, from, (size_t)block * size);
        for (int64_t i = 0; by && i < block; i++)
            by(into + (size_t)i * size, from + (size_t)i * size);
    }
    return 0;
}

/* ---- OneHot ---- */

static int one_hot_depth(const struct op_ctx *c, int64_t *ret, struct err *e)
{
    const struct tensor *t = c->in[1];
    if (tensor_count(t) != 1 || t->rank > 1)
        return op_bad(c, 1, e, "the depth must be one number");
    if (!t->data)
        return SHAPE_WAITS;
    *ret = double_to_int64(tensor_num(t, 0));
    return *ret >= 1 ? 0 : op_bad(c, 1, e, "the depth is %lld", (long long)*ret);
}

static int one_hot_axis(const struct op_ctx *c, int *ret, struct err *e)
{
    const struct index_attr *a = c->attr;
    return op_axis(a->axis, c->in[0]->rank + 1, ret, e);
}

static int one_hot_shape(struct op_ctx *c, struct err *e)
{
    int64_t depth = 0, dims[TENSOR_RANK_MAX + 1];
    int axis;
    if (op_need(c, 3, e) || one_hot_axis(c, &axis, e))
        return -1;
    if (c->in[2]->rank != 1 || c->in[2]->dims[0] != 2)
        return op_bad(c, 2, e, "values are the off and the on value");
    int rc = one_hot_depth(c, &depth, e);
    if (rc)
        return rc;
    for (int d = 0; d <= c->in[0]->rank; d++)
        dims[d] = d == axis ? depth : c->in[0]->dims[d - (d > axis)];
    return op_out(c, 0, c->in[2]->type, c->in[0]->rank + 1, dims, e);
}

/* An index outside [-depth, depth - 1] lights nothing. */
static int one_hot_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *at = c->in[0];
    struct tensor *y = c->out[0];
    size_t size = dtype_size(y->type);
    const char *off = c->in[2]->data, *on = off + size;
    int64_t count = tensor_count(y), one = 1, depth = 0;
    int axis;
    if (one_hot_axis(c, &axis, e) || one_hot_depth(c, &depth, e))
        return -1;
    walk_fill(1, &count, size, off, y->data, &one);
    int64_t inner = dims_product(at->dims, axis, at->rank);
    for (int64_t k = 0, n = tensor_count(at); k < n; k++) {
        int64_t i = double_to_int64(tensor_num(at, k));
        i = i < 0 ? i + depth : i;
        if (i >= 0 && i < depth)
            memcpy((char *)y->data + (size_t)((k / inner * depth + i) * inner + k % inner) * size,
                   on, size);
    }
    return 0;
}

static const struct attr_def elements_attrs[] = {
    ATTR(INT, index_attr, axis), ATTR(STRING, index_attr, reduction, .text = "none"), {0}};
static const struct attr_def nd_attrs[] = {ATTR(STRING, index_attr, reduction, .text = "none"),
                                           {0}};
static const struct attr_def one_hot_attrs[] = {ATTR(INT, index_attr, axis, .number = -1), {0}};

#define ROW(name, stem, from, to, ...)                                                             \
    {                                                                                              \
        name, ONNX, .since = from, .until = to, .min_in = 3, .max_in = 3, .layout = L_PLAIN,       \
                    .attrs = stem##_attrs, .attr_size = sizeof(struct index_attr),                 \
                    .shape = stem##_shape, .run = stem##_run, __VA_ARGS__                          \
    }

const struct op ops_scatter[] = {
    ROW("Scatter", elements, 9, 10, .traits = T_INPLACE, .types = TYPES_ALL),
    ROW("ScatterElements", elements, 11, 0, .traits = T_INPLACE, .types = TYPES_ALL),
    ROW("ScatterND", nd, 11, 0, .in = {FEATURE, PLAIN_PORT, FEATURE}, .out = {FEATURE},
        .traits = T_QUANT | T_LOOKTHRU | T_INPLACE | T_SHAPE_DATA, .types = TYPES_ALL),
    ROW("OneHot", one_hot, 9, 0, .traits = T_SHAPE_DATA, .types = TYPES_ALL),
    {0}};
