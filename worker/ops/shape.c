/* Operators on shapes: what reads them, makes them, or gives the same elements another one. */
#include "worker/ops/walk.h"

#include <string.h>

#define SAME_BYTES(t) T_INPLACE | (t)

static int run_bytes(const struct op_ctx *c, struct err *e)
{
    (void)e;
    walk_bytes(c->in[0], c->out[0]);
    return 0;
}

/* ---- Shape, Size ---- */

struct shape_attr {
    int64_t start, end;
};
static const struct attr_def shape_attrs[] = {
    ATTR(INT, shape_attr, start), ATTR(INT, shape_attr, end, .number = 1e6), {0}};

static void shape_range(const struct op_ctx *c, int *ret_from, int *ret_to)
{
    const struct shape_attr *a = c->attr;
    int rank = c->in[0]->rank;
    int64_t from = a->start < 0 ? a->start + rank : a->start;
    int64_t to = a->end < 0 ? a->end + rank : a->end;
    *ret_from = (int)(from < 0 ? 0 : from > rank ? rank : from);
    *ret_to = (int)(to < 0 ? 0 : to > rank ? rank : to);
    if (*ret_to < *ret_from)
        *ret_to = *ret_from;
}

static int shape_shape(struct op_ctx *c, struct err *e)
{
    if (c->n_in < 1 || !c->in[0])
        return op_bad(c, 0, e, "it is required");
    int from, to;
    shape_range(c, &from, &to);
    int64_t n = to - from;
    return op_out(c, 0, DT_I64, 1, &n, e);
}

static int shape_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    int from, to;
    shape_range(c, &from, &to);
    memcpy(c->out[0]->data, c->in[0]->dims + from, (size_t)(to - from) * sizeof(int64_t));
    return 0;
}

static int size_shape(struct op_ctx *c, struct err *e)
{
    if (c->n_in < 1 || !c->in[0])
        return op_bad(c, 0, e, "it is required");
    return op_out(c, 0, DT_I64, 0, NULL, e);
}

static int size_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    *(int64_t *)c->out[0]->data = tensor_count(c->in[0]);
    return 0;
}

/* ---- Constant ---- */

struct constant_attr {
    const struct tensor *value, *sparse_value; /* dense by now */
    struct floats value_floats;
    struct ints value_ints;
    const char *value_string;
    struct strings value_strings;
    float value_float;
    int64_t value_int;
};
/* A scalar attribute that is absent reads as its default, so what is set is asked of the node. */
static const struct attr_def constant_attrs[] = {ATTR(TENSOR, constant_attr, value),
                                                 ATTR(TENSOR, constant_attr, sparse_value),
                                                 ATTR(FLOAT, constant_attr, value_float),
                                                 ATTR(FLOATS, constant_attr, value_floats),
                                                 ATTR(INT, constant_attr, value_int),
                                                 ATTR(INTS, constant_attr, value_ints),
                                                 ATTR(STRING, constant_attr, value_string),
                                                 ATTR(STRINGS, constant_attr, value_strings),
                                                 {0}};

static bool has_attr(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return true;
    return false;
}

/* What the node holds, as a tensor over the attribute's own bytes. */
static int constant_of(const struct op_ctx *c, struct tensor *ret, struct err *e)
{
    const struct constant_attr *a = c->attr;
    int64_t n = a->value_floats.v ? (int64_t)a->value_floats.n : (int64_t)a->value_ints.n;
    if (a->value || a->sparse_value) {
        *ret = a->value ? *a->value : *a->sparse_value;
        return 0;
    }
    if (a->value_string || a->value_strings.v)
        return err_set(e, ERR_UNSUPPORTED, NULL, "A Constant of strings: they are not computed.");
    bool one_float = has_attr(c->node, "value_float"), one_int = has_attr(c->node, "value_int");
    bool is_float = one_float || a->value_floats.v;
    if (!is_float && !one_int && !a->value_ints.v)
        return err_set(e, ERR_UNSUPPORTED, NULL, "A Constant without a value.");
    if (tensor_set(ret, is_float ? DT_F32 : DT_I64, one_float || one_int ? 0 : 1, &n, e))
        return -1;
    const void *from = one_float           ? (const void *)&a->value_float
                       : one_int           ? (const void *)&a->value_int
                       : a->value_floats.v ? (const void *)a->value_floats.v
                                           : (const void *)a->value_ints.v;
    ret->data = (void *)from;
    return 0;
}

static int constant_shape(struct op_ctx *c, struct err *e)
{
    struct tensor t;
    if (constant_of(c, &t, e))
        return -1;
    return op_out(c, 0, t.type, t.rank, t.dims, e);
}

static int constant_run(const struct op_ctx *c, struct err *e)
{
    struct tensor t;
    if (constant_of(c, &t, e))
        return -1;
    walk_bytes(&t, c->out[0]);
    return 0;
}

/* ---- ConstantOfShape ---- */

struct fill_attr {
    const struct tensor *value;
};
static const struct attr_def fill_attrs[] = {ATTR(TENSOR, fill_attr, value), {0}};

static int fill_shape(struct op_ctx *c, struct err *e)
{
    const struct fill_attr *a = c->attr;
    int64_t dims[TENSOR_RANK_MAX];
    int n;
    if (op_need(c, 1, e))
        return -1;
    if (a->value && (tensor_count(a->value) != 1 || dtype_size(a->value->type) == 0))
        return err_set(e, ERR_BAD_MODEL, NULL, "The value must be one number.");
    int rc = op_input_ints(c, 0, NULL, dims, TENSOR_RANK_MAX, &n, e);
    return rc ? rc : op_out(c, 0, a->value ? a->value->type : DT_F32, n, dims, e);
}

static int fill_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct fill_attr *a = c->attr;
    static const float zero;
    int64_t count = tensor_count(c->out[0]), one = 1;
    walk_fill(1, &count, dtype_size(c->out[0]->type), a->value ? a->value->data : &zero,
              c->out[0]->data, &one);
    return 0;
}

/* ---- Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout ---- */

struct reshape_attr {
    int64_t allowzero;
};
static const struct attr_def reshape_attrs[] = {ATTR(INT, reshape_attr, allowzero), {0}};

/* The one dim given as -1, from the count of the others. */
static int reshape_infer(const struct op_ctx *c, int64_t *dims, int n, struct err *e)
{
    int64_t known = 1, count = tensor_count(c->in[0]);
    int at = -1;
    for (int d = 0; d < n; d++) {
        if (dims[d] < -1 || (dims[d] == -1 && at >= 0))
            return op_bad(c, 1, e, "dim %d is %lld", d, (long long)dims[d]);
        if (dims[d] == -1)
            at = d;
        else if (__builtin_mul_overflow(known, dims[d], &known))
            return op_bad(c, 1, e, "the shape has too many elements");
    }
    if (at >= 0 && known == 0)
        return op_bad(c, 1, e, "a dim of -1 beside one of 0 says nothing");
    if (at >= 0)
        dims[at] = count / known;
    if (at >= 0 ? known * dims[at] != count : known != count)
        return op_bad(c, 0, e, "%lld elements do not fit the new shape", (long long)count);
    return 0;
}

static int reshape_shape(struct op_ctx *c, struct err *e)
{
    const struct reshape_attr *a = c->attr;
    int64_t dims[TENSOR_RANK_MAX];
    int n;
    if (op_need(c, 2, e))
        return -1;
    int rc = op_input_ints(c, 1, NULL, dims, TENSOR_RANK_MAX, &n, e);
    if (rc)
        return rc;
    for (int d = 0; d < n; d++) {
        if (dims[d] != 0 || a->allowzero)
            continue;
        if (d >= c->in[0]->rank)
            return op_bad(c, 1, e, "dim %d is 0, but the data has no such dim", d);
        dims[d] = c->in[0]->dims[d];
    }
    if (reshape_infer(c, dims, n, e))
        return -1;
    return op_out(c, 0, c->in[0]->type, n, dims, e);
}

struct axis_attr {
    int64_t axis;
};
static const struct attr_def flatten_attrs[] = {ATTR(INT, axis_attr, axis, .number = 1), {0}};

static int flatten_shape(struct op_ctx *c, struct err *e)
{
    const struct axis_attr *a = c->attr;
    if (op_need(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0];
    int64_t axis = a->axis < 0 ? a->axis + x->rank : a->axis;
    if (axis < 0 || axis > x->rank)
        return op_bad(c, 0, e, "there is no axis %lld", (long long)a->axis);
    int64_t dims[2] = {dims_product(x->dims, 0, (int)axis),
                       dims_product(x->dims, (int)axis, x->rank)};
    return op_out(c, 0, x->type, 2, dims, e);
}

struct axes_attr {
    struct ints axes;
};
static const struct attr_def axes_attrs[] = {ATTR(INTS, axes_attr, axes), {0}};

static int squeeze_shape(struct op_ctx *c, struct err *e)
{
    const struct axes_attr *a = c->attr;
    int axes[TENSOR_RANK_MAX], n, rank = 0;
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0];
    int rc = op_input_axes(c, 1, &a->axes, x->rank, axes, &n, e);
    if (rc)
        return rc;
    bool gone[TENSOR_RANK_MAX] = {false};
    for (int d = 0; n < 0 && d < x->rank; d++)
        gone[d] = x->dims[d] == 1;
    for (int k = 0; k < n; k++) {
        if (x->dims[axes[k]] != 1)
            return op_bad(c, 0, e, "axis %d is not 1 and cannot be squeezed", axes[k]);
        gone[axes[k]] = true;
    }
    for (int d = 0; d < x->rank; d++)
        if (!gone[d])
            dims[rank++] = x->dims[d];
    return op_out(c, 0, x->type, rank, dims, e);
}

static int unsqueeze_shape(struct op_ctx *c, struct err *e)
{
    const struct axes_attr *a = c->attr;
    int64_t raw[TENSOR_RANK_MAX], dims[TENSOR_RANK_MAX];
    int axes[TENSOR_RANK_MAX], n;
    if (op_need(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0];
    int rc = op_input_ints(c, 1, &a->axes, raw, TENSOR_RANK_MAX, &n, e);
    if (rc)
        return rc;
    if (n < 0 || n + x->rank > TENSOR_RANK_MAX)
        return op_bad(c, 0, e, "it would have %d dims", n + x->rank);
    rc = op_input_axes(c, 1, &a->axes, n + x->rank, axes, &n, e);
    if (rc)
        return rc;
    bool is_new[TENSOR_RANK_MAX] = {false};
    for (int k = 0; k < n; k++)
        is_new[axes[k]] = true;
    for (int d = 0, from = 0; d < n + x->rank; d++)
        dims[d] = is_new[d] ? 1 : x->dims[from++];
    return op_out(c, 0, x->type, n + x->rank, dims, e);
}

static int identity_shape(struct op_ctx *c, struct err *e)
{
    return op_need(c, 1, e) ? -1 : op_out(c, 0, c->in[0]->type, c->in[0]->rank, c->in[0]->dims, e);
}

struct dropout_attr {
    float ratio;
    int64_t seed;
};
static const struct attr_def dropout_attrs[] = {
    ATTR(FLOAT, dropout_attr, ratio, .number = 0.5), ATTR(INT, dropout_attr, seed), {0}};

static int dropout_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0], *training = c->n_in > 2 ? c->in[2] : NULL;
    if (training && !training->data)
        return SHAPE_WAITS;
    if (training && (tensor_count(training) != 1 || tensor_int(training, 0)))
        return err_set(e, ERR_UNSUPPORTED, NULL, "Dropout in training mode is not computed here.");
    if (op_out(c, 0, x->type, x->rank, x->dims, e))
        return -1;
    return op_out(c, 1, c->node->opset < 10 ? x->type : DT_BOOL, x->rank, x->dims, e);
}

static int dropout_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    walk_bytes(c->in[0], c->out[0]);
    if (c->n_out < 2 || !c->out[1])
        return 0;
    double one = 1;
    for (int64_t i = 0, n = tensor_count(c->out[1]); i < n; i++)
        row_storer(c->out[1]->type)(
            1, &one, (char *)c->out[1]->data + (size_t)i * dtype_size(c->out[1]->type), 1);
    return 0;
}

/* ---- Expand, Range ---- */

static int expand_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX];
    int n;
    if (op_need(c, 2, e))
        return -1;
    int rc = op_input_ints(c, 1, NULL, dims, TENSOR_RANK_MAX, &n, e);
    if (rc)
        return rc;
    struct tensor wanted, both;
    if (tensor_set(&wanted, c->in[0]->type, n, dims, e))
        return -1;
    const struct tensor *pair[] = {c->in[0], &wanted};
    if (op_broadcast(pair, 2, &both, e))
        return -1;
    return op_out(c, 0, c->in[0]->type, both.rank, both.dims, e);
}

static int expand_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    struct walk w;
    walk_init(&w, c->out[0]->rank, c->out[0]->dims);
    walk_add_tensor(&w, c->in[0]);
    walk_add_tensor(&w, c->out[0]);
    walk_copy(w.rank, w.dims, w.size[0], w.data[0], w.stride[0], w.data[1], w.stride[1]);
    return 0;
}

static int range_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 3, e) || op_same_type(c, 0, 2, e))
        return -1;
    for (int i = 0; i < 3; i++)
        if (tensor_count(c->in[i]) != 1)
            return op_bad(c, i, e, "it must be one number");
    if (!c->in[0]->data || !c->in[1]->data || !c->in[2]->data)
        return SHAPE_WAITS;
    double start = tensor_num(c->in[0], 0), limit = tensor_num(c->in[1], 0);
    double delta = tensor_num(c->in[2], 0), steps = (limit - start) / delta;
    if (!(delta != 0) || !(steps < (double)TENSOR_ELEMENTS_MAX))
        return op_bad(c, 2, e, "the range from %g to %g by %g has no end", start, limit, delta);
    int64_t n = (int64_t)(steps > 0 ? steps : 0);
    n += steps > (double)n;
    return op_out(c, 0, c->in[0]->type, 1, &n, e);
}

static int range_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    enum dtype t = c->out[0]->type;
    int64_t n = tensor_count(c->out[0]);
    char *to = c->out[0]->data;
    if (t == DT_I64) {
        uint64_t v = (uint64_t)tensor_int(c->in[0], 0), by = (uint64_t)tensor_int(c->in[2], 0);
        for (int64_t i = 0; i < n; i++, v += by)
            ((int64_t *)c->out[0]->data)[i] = (int64_t)v;
        return 0;
    }
    double start = tensor_num(c->in[0], 0), delta = tensor_num(c->in[2], 0);
    for (int64_t i = 0; i < n; i++) {
        double v = start + (double)i * delta;
        row_storer(t)(1, &v, to + (size_t)i * dtype_size(t), 1);
    }
    return 0;
}

#define ROW(name, ...)                                                                             \
    {                                                                                              \
        name, ONNX, .since = 1, __VA_ARGS__                                                        \
    }
#define KEEPS_BYTES .layout = L_PLAIN, .run = run_bytes

const struct op ops_shape[] = {
    ROW("Shape", .min_in = 1, .max_in = 1, .traits = T_VALUEFREE | T_SHAPE_DATA,
        .attrs = shape_attrs, .attr_size = sizeof(struct shape_attr), .shape = shape_shape,
        .run = shape_run, .types = TYPES_ALL),
    ROW("Size", .min_in = 1, .max_in = 1, .traits = T_VALUEFREE | T_SHAPE_DATA, .shape = size_shape,
        .run = size_run, .types = TYPES_ALL),
    ROW("Constant", .min_in = 0, .max_in = 0, .attrs = constant_attrs,
        .attr_size = sizeof(struct constant_attr), .shape = constant_shape, .run = constant_run,
        .note = "numbers and bool"),
    ROW("ConstantOfShape", .min_in = 1, .max_in = 1, .traits = T_VALUEFREE | T_SHAPE_DATA,
        .attrs = fill_attrs, .attr_size = sizeof(struct fill_attr), .shape = fill_shape,
        .run = fill_run, .types = TYPES_INT),
    ROW("Reshape", .min_in = 2, .max_in = 2, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = SAME_BYTES(T_QUANT | T_PRESERVES | T_LOOKTHRU | T_SHAPE_DATA),
        .attrs = reshape_attrs, .attr_size = sizeof(struct reshape_attr), .shape = reshape_shape,
        KEEPS_BYTES, .types = TYPES_ALL),
    ROW("Flatten", .min_in = 1, .max_in = 1, .in = {FEATURE}, .out = {FEATURE},
        .traits = SAME_BYTES(T_QUANT | T_PRESERVES | T_LOOKTHRU), .attrs = flatten_attrs,
        .attr_size = sizeof(struct axis_attr), .shape = flatten_shape, KEEPS_BYTES,
        .types = TYPES_ALL),
    ROW("Squeeze", .min_in = 1, .max_in = 2, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = SAME_BYTES(T_QUANT | T_PRESERVES | T_LOOKTHRU | T_SHAPE_DATA),
        .attrs = axes_attrs, .attr_size = sizeof(struct axes_attr), .shape = squeeze_shape,
        KEEPS_BYTES, .types = TYPES_ALL),
    ROW("Unsqueeze", .min_in = 1, .max_in = 2, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = SAME_BYTES(T_QUANT | T_PRESERVES | T_LOOKTHRU | T_SHAPE_DATA),
        .attrs = axes_attrs, .attr_size = sizeof(struct axes_attr), .shape = unsqueeze_shape,
        KEEPS_BYTES, .types = TYPES_ALL),
    ROW("Identity", .min_in = 1, .max_in = 1, .traits = SAME_BYTES(T_SHAPE_DATA), .layout = L_SAME,
        .shape = identity_shape, .run = run_bytes, .types = TYPES_ALL),
    ROW("Dropout", .min_in = 1, .max_in = 3, .max_out = 2, .traits = T_INPLACE, .layout = L_PLAIN,
        .attrs = dropout_attrs, .attr_size = sizeof(struct dropout_attr), .shape = dropout_shape,
        .run = dropout_run, .note = "inference only", .types = TYPES_ALL),
    ROW("Expand", .min_in = 2, .max_in = 2, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = T_QUANT | T_SHAPE_DATA, .layout = L_ANY, .shape = expand_shape, .run = expand_run,
        .types = TYPES_ALL),
    ROW("Range", .min_in = 3, .max_in = 3, .traits = T_SHAPE_DATA, .shape = range_shape,
        .run = range_run, .types = TYPES_ALL),
    {0}};
