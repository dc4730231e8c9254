/* Operators that move elements and change none: each is one strided copy a tensor. */
#include "worker/ops/walk.h"

#include <string.h>

/* ---- Transpose ---- */

struct transpose_attr {
    struct ints perm;
};
static const struct attr_def transpose_attrs[] = {ATTR(INTS, transpose_attr, perm), {0}};

static int transpose_perm(const struct op_ctx *c, int *ret, struct err *e)
{
    const struct transpose_attr *a = c->attr;
    int rank = c->in[0]->rank;
    unsigned seen = 0;
    if (a->perm.v && a->perm.n != (size_t)rank)
        return op_bad(c, 0, e, "perm has %zu entries", a->perm.n);
    for (int d = 0; d < rank; d++) {
        ret[d] = rank - 1 - d;
        if (a->perm.v && op_axis(a->perm.v[d], rank, &ret[d], e))
            return -1;
        seen |= 1u << ret[d];
    }
    if (seen != (1u << rank) - 1)
        return op_bad(c, 0, e, "perm names an axis twice");
    return 0;
}

static int transpose_shape(struct op_ctx *c, struct err *e)
{
    int perm[TENSOR_RANK_MAX];
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 1, e) || transpose_perm(c, perm, e))
        return -1;
    for (int d = 0; d < c->in[0]->rank; d++)
        dims[d] = c->in[0]->dims[perm[d]];
    return op_out(c, 0, c->in[0]->type, c->in[0]->rank, dims, e);
}

static int transpose_run(const struct op_ctx *c, struct err *e)
{
    int perm[TENSOR_RANK_MAX];
    int64_t own[TENSOR_RANK_MAX], from[TENSOR_RANK_MAX], to[TENSOR_RANK_MAX];
    struct tensor *y = c->out[0];
    if (transpose_perm(c, perm, e))
        return -1;
    tensor_strides(c->in[0], own);
    tensor_strides(y, to);
    for (int d = 0; d < y->rank; d++)
        from[d] = own[perm[d]];
    walk_copy(y->rank, y->dims, dtype_size(y->type), c->in[0]->data, from, y->data, to);
    return 0;
}

/* ---- Concat, Split ---- */

struct concat_attr {
    int64_t axis;
};
static const struct attr_def concat_attrs[] = {ATTR(INT, concat_attr, axis, .required = true), {0}};

static int concat_shape(struct op_ctx *c, struct err *e)
{
    const struct concat_attr *a = c->attr;
    int64_t dims[TENSOR_RANK_MAX];
    int axis;
    if (op_need(c, c->n_in, e) || op_same_type(c, 0, c->n_in - 1, e))
        return -1;
    const struct tensor *x = c->in[0];
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    memcpy(dims, x->dims, sizeof dims);
    for (int i = 1; i < c->n_in; i++) {
        for (int d = 0; d < x->rank; d++)
            if (c->in[i]->rank != x->rank || (d != axis && c->in[i]->dims[d] != dims[d]))
                return op_bad(c, i, e, "it does not fit input 0 along axis %d", axis);
        if (__builtin_add_overflow(dims[axis], c->in[i]->dims[axis], &dims[axis]))
            return err_set(e, ERR_LIMIT, NULL, "The joined tensor is too large.");
    }
    return op_out(c, 0, x->type, x->rank, dims, e);
}

/* Copies between a whole tensor and the part of another that starts at `at` along an axis. */
static int64_t copy_part(const struct tensor *part, const struct tensor *whole, int axis,
                         int64_t at, bool into_whole)
{
    int64_t ps[TENSOR_RANK_MAX], ws[TENSOR_RANK_MAX];
    size_t size = dtype_size(part->type);
    tensor_strides(part, ps);
    tensor_strides(whole, ws);
    char *inside = (char *)whole->data + at * ws[axis] * (int64_t)size;
    if (into_whole)
        walk_copy(part->rank, part->dims, size, part->data, ps, inside, ws);
    else
        walk_copy(part->rank, part->dims, size, inside, ws, part->data, ps);
    return at + part->dims[axis];
}

static int concat_run(const struct op_ctx *c, struct err *e)
{
    const struct concat_attr *a = c->attr;
    int axis;
    if (op_axis(a->axis, c->out[0]->rank, &axis, e))
        return -1;
    for (int64_t i = 0, at = 0; i < c->n_in; i++)
        at = copy_part(c->in[i], c->out[0], axis, at, true);
    return 0;
}

struct split_attr {
    int64_t axis, num_outputs;
    struct ints split;
};
static const struct attr_def split_attrs[] = {ATTR(INT, split_attr, axis),
                                              ATTR(INT, split_attr, num_outputs),
                                              ATTR(INTS, split_attr, split),
                                              {0}};

/* The lengths of all outputs along the axis. */
static int split_lengths(const struct op_ctx *c, int axis, int64_t *ret, int max, struct err *e)
{
    const struct split_attr *a = c->attr;
    int64_t dim = c->in[0]->dims[axis], sum = 0;
    int n;
    int rc = op_input_ints(c, 1, &a->split, ret, max, &n, e);
    if (rc)
        return rc;
    if (n < 0 && a->num_outputs == 0 && dim % c->n_out)
        return op_bad(c, 0, e, "axis %d does not split into %d equal parts", axis, c->n_out);
    if (a->num_outputs && a->num_outputs != c->n_out)
        return op_bad(c, 0, e, "num_outputs is %lld, the node has %d outputs",
                      (long long)a->num_outputs, c->n_out);
    int64_t each = (dim + c->n_out - 1) / c->n_out;
    for (int i = 0; n < 0 && i < c->n_out; i++) {
        ret[i] = each < dim - sum ? each : dim - sum;
        sum += ret[i];
    }
    if (n < 0)
        return 0;
    for (int i = 0; i < n; i++)
        if (ret[i] < 0 || __builtin_add_overflow(sum, ret[i], &sum))
            return op_bad(c, 1, e, "a part has %lld elements", (long long)ret[i]);
    if (n != c->n_out || sum != dim)
        return op_bad(c, 0, e, "the %d parts do not make up axis %d", n, axis);
    return 0;
}

enum { SPLIT_MAX = 1024 };

static int split_shape(struct op_ctx *c, struct err *e)
{
    const struct split_attr *a = c->attr;
    int64_t dims[TENSOR_RANK_MAX], length[SPLIT_MAX];
    int axis;
    if (op_need(c, 1, e) || op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    if (c->n_out > SPLIT_MAX || c->n_out < 1)
        return err_set(e, ERR_LIMIT, NULL, "A Split has at most %d outputs.", SPLIT_MAX);
    int rc = split_lengths(c, axis, length, SPLIT_MAX, e);
    memcpy(dims, c->in[0]->dims, sizeof dims);
    for (int i = 0; rc == 0 && i < c->n_out; i++) {
        dims[axis] = length[i];
        rc = op_out(c, i, c->in[0]->type, c->in[0]->rank, dims, e);
    }
    return rc;
}

static int split_run(const struct op_ctx *c, struct err *e)
{
    const struct split_attr *a = c->attr;
    int64_t length[SPLIT_MAX], at = 0;
    int axis;
    if (op_axis(a->axis, c->in[0]->rank, &axis, e) || split_lengths(c, axis, length, SPLIT_MAX, e))
        return -1;
    for (int i = 0; i < c->n_out; i++) {
        if (c->out[i])
            copy_part(c->out[i], c->in[0], axis, at, false);
        at += length[i];
    }
    return 0;
}

/* ---- Slice ---- */

struct slice_attr {
    struct ints starts, ends, axes;
};
static const struct attr_def slice_attrs[] = {ATTR(INTS, slice_attr, starts),
                                              ATTR(INTS, slice_attr, ends),
                                              ATTR(INTS, slice_attr, axes),
                                              {0}};

struct slice {
    int64_t start[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX], dims[TENSOR_RANK_MAX];
};

static int64_t clamp(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* One axis, numpy's way: ends are clamped, negative ones count from the end. */
static void slice_axis(struct slice *s, int d, int64_t dim, int64_t start, int64_t end,
                       int64_t step)
{
    step = clamp(step, -dim - 1, dim + 1); /* further is all the same */
    bool back = step < 0;
    start = clamp(start < 0 ? start + dim : start, 0, back ? dim - 1 : dim);
    end = clamp(end < 0 ? end + dim : end, back ? -1 : 0, back ? dim - 1 : dim);
    int64_t span = back ? start - end : end - start, pace = back ? -step : step;
    s->start[d] = start;
    s->step[d] = step;
    s->dims[d] = dim > 0 && span > 0 ? (span + pace - 1) / pace : 0;
}

static int slice_of(const struct op_ctx *c, struct slice *s, struct err *e)
{
    const struct slice_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t start[TENSOR_RANK_MAX], end[TENSOR_RANK_MAX], step[TENSOR_RANK_MAX];
    int axes[TENSOR_RANK_MAX], n, n_end, n_axes, n_step, rc;
    if ((rc = op_input_ints(c, 1, &a->starts, start, TENSOR_RANK_MAX, &n, e)) ||
        (rc = op_input_ints(c, 2, &a->ends, end, TENSOR_RANK_MAX, &n_end, e)) ||
        (rc = op_input_axes(c, 3, &a->axes, x->rank, axes, &n_axes, e)) ||
        (rc = op_input_ints(c, 4, NULL, step, TENSOR_RANK_MAX, &n_step, e)))
        return rc;
    if (n < 0 || n_end != n || (n_axes >= 0 && n_axes != n) || (n_step >= 0 && n_step != n) ||
        n > x->rank)
        return op_bad(c, 0, e, "starts, ends, axes and steps differ in length");
    for (int d = 0; d < x->rank; d++)
        slice_axis(s, d, x->dims[d], 0, x->dims[d], 1);
    for (int k = 0; k < n; k++) {
        int d = n_axes < 0 ? k : axes[k];
        if (n_step >= 0 && step[k] == 0)
            return op_bad(c, 4, e, "a step is 0");
        slice_axis(s, d, x->dims[d], start[k], end[k], n_step < 0 ? 1 : step[k]);
    }
    return 0;
}

static int slice_shape(struct op_ctx *c, struct err *e)
{
    struct slice s;
    if (op_need(c, 1, e))
        return -1;
    int rc = slice_of(c, &s, e);
    return rc ? rc : op_out(c, 0, c->in[0]->type, c->in[0]->rank, s.dims, e);
}

static int slice_run(const struct op_ctx *c, struct err *e)
{
    struct slice s;
    int64_t from[TENSOR_RANK_MAX], to[TENSOR_RANK_MAX];
    const struct tensor *x = c->in[0];
    size_t size = dtype_size(x->type);
    if (slice_of(c, &s, e))
        return -1;
    if (tensor_count(c->out[0]) == 0)
        return 0;
    tensor_strides(x, from);
    tensor_strides(c->out[0], to);
    const char *first = x->data;
    for (int d = 0; d < x->rank; d++) {
        first += s.start[d] * from[d] * (int64_t)size;
        from[d] *= s.step[d];
    }
    walk_copy(x->rank, s.dims, size, first, from, c->out[0]->data, to);
    return 0;
}

/* ---- Tile ---- */

static int tile_shape(struct op_ctx *c, struct err *e)
{
    int64_t repeats[TENSOR_RANK_MAX];
    int n;
    if (op_need(c, 2, e))
        return -1;
    const struct tensor *x = c->in[0];
    int rc = op_input_ints(c, 1, NULL, repeats, TENSOR_RANK_MAX, &n, e);
    if (rc)
        return rc;
    if (n != x->rank)
        return op_bad(c, 1, e, "it needs one number a dim");
    for (int d = 0; d < n; d++)
        if (repeats[d] < 0 || __builtin_mul_overflow(repeats[d], x->dims[d], &repeats[d]))
            return op_bad(c, 1, e, "dim %d cannot be repeated so often", d);
    return op_out(c, 0, x->type, n, repeats, e);
}

static int tile_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct tensor *x = c->in[0], *y = c->out[0];
    int64_t dims[WALK_RANK_MAX], from[WALK_RANK_MAX], to[WALK_RANK_MAX];
    int64_t xs[TENSOR_RANK_MAX], ys[TENSOR_RANK_MAX];
    if (tensor_count(y) == 0)
        return 0;
    tensor_strides(x, xs);
    tensor_strides(y, ys);
    for (int d = 0; d < x->rank; d++) {
        dims[2 * d] = y->dims[d] / x->dims[d];
        dims[2 * d + 1] = x->dims[d];
        from[2 * d] = 0;
        from[2 * d + 1] = xs[d];
        to[2 * d] = ys[d] * x->dims[d];
        to[2 * d + 1] = ys[d];
    }
    walk_copy(2 * x->rank, dims, dtype_size(x->type), x->data, from, y->data, to);
    return 0;
}

/* ---- DepthToSpace, SpaceToDepth ---- */

struct block_attr {
    int64_t blocksize;
    const char *mode;
};
static const struct attr_def to_space_attrs[] = {ATTR(INT, block_attr, blocksize, .required = true),
                                                 ATTR(STRING, block_attr, mode, .text = "DCR"),
                                                 {0}};
static const struct attr_def to_depth_attrs[] = {ATTR(INT, block_attr, blocksize, .required = true),
                                                 {0}};

static int block_dims(struct op_ctx *c, bool to_space, struct err *e)
{
    const struct block_attr *a = c->attr;
    int64_t b = a->blocksize, dims[4];
    if (op_need(c, 1, e))
        return -1;
    if (c->in[0]->rank != 4 || b < 1 || b > 1 << 15)
        return op_bad(c, 0, e, "it must have 4 dims and a block size above 0, which is %lld",
                      (long long)b);
    memcpy(dims, c->in[0]->dims, sizeof dims);
    if (to_space ? dims[1] % (b * b) : dims[2] % b || dims[3] % b)
        return op_bad(c, 0, e, "a block of %lld does not divide it", (long long)b);
    dims[1] = to_space ? dims[1] / (b * b) : dims[1] * b * b;
    dims[2] = to_space ? dims[2] * b : dims[2] / b;
    dims[3] = to_space ? dims[3] * b : dims[3] / b;
    return op_out(c, 0, c->in[0]->type, 4, dims, e);
}

static int to_space_shape(struct op_ctx *c, struct err *e)
{
    const struct block_attr *a = c->attr;
    if (strcmp(a->mode, "DCR") && strcmp(a->mode, "CRD"))
        return err_set(e, ERR_BAD_MODEL, NULL, "The mode is DCR or CRD, not %s.", a->mode);
    return block_dims(c, true, e);
}

static int to_depth_shape(struct op_ctx *c, struct err *e)
{
    return block_dims(c, false, e);
}

/* Both as one copy over (n, c, y, block row, x, block column) between the deep and the wide one. */
static void copy_blocks(const struct tensor *deep, const struct tensor *wide, int64_t b, bool crd,
                        bool to_wide)
{
    int64_t ds[TENSOR_RANK_MAX], ws[TENSOR_RANK_MAX];
    int64_t channels = wide->dims[1];
    tensor_strides(deep, ds);
    tensor_strides(wide, ws);
    int64_t dims[] = {deep->dims[0], channels, deep->dims[2], b, deep->dims[3], b};
    int64_t in_deep[] = {ds[0], crd ? b * b * ds[1] : ds[1],
                         ds[2], crd ? b * ds[1] : b * channels * ds[1],
                         ds[3], crd ? ds[1] : channels * ds[1]};
    int64_t in_wide[] = {ws[0], ws[1], b * ws[2], ws[2], b * ws[3], ws[3]};
    size_t size = dtype_size(deep->type);
    if (to_wide)
        walk_copy(6, dims, size, deep->data, in_deep, wide->data, in_wide);
    else
        walk_copy(6, dims, size, wide->data, in_wide, deep->data, in_deep);
}

static int to_space_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct block_attr *a = c->attr;
    copy_blocks(c->in[0], c->out[0], a->blocksize, !strcmp(a->mode, "CRD"), true);
    return 0;
}

static int to_depth_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct block_attr *a = c->attr;
    copy_blocks(c->out[0], c->in[0], a->blocksize, false, false);
    return 0;
}

#define ROW(name, stem, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .since = 1, .layout = L_ANY, .shape = stem##_shape, .run = stem##_run,         \
                    __VA_ARGS__                                                                    \
    }
#define ATTRS(stem, s) .attrs = stem##_attrs, .attr_size = sizeof(struct s)
#define SHARES         T_QUANT | T_PRESERVES | T_LOOKTHRU

const struct op ops_move[] = {
    ROW("Transpose", transpose, .min_in = 1, .max_in = 1, .in = {FEATURE}, .out = {FEATURE},
        .traits = SHARES, ATTRS(transpose, transpose_attr), .types = TYPES_ALL),
    ROW("Concat", concat, .min_in = 1, .max_in = -1, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT | T_CONCAT | T_VARIADIC | T_SHAPE_DATA, ATTRS(concat, concat_attr),
        .types = TYPES_ALL),
    ROW("Split", split, .min_in = 1, .max_in = 2, .max_out = -1, .in = {FEATURE, PLAIN_PORT},
        .out = {FEATURE, FEATURE}, .traits = SHARES | T_SHAPE_DATA, ATTRS(split, split_attr),
        .note = "at most 1024 outputs", .types = TYPES_ALL),
    ROW("Slice", slice, .min_in = 1, .max_in = 5, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = SHARES | T_SHAPE_DATA, ATTRS(slice, slice_attr), .types = TYPES_ALL),
    ROW("Tile", tile, .min_in = 2, .max_in = 2, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},
        .traits = T_QUANT | T_SHAPE_DATA, .note = "since opset 6", .types = TYPES_ALL),
    ROW("DepthToSpace", to_space, .min_in = 1, .max_in = 1, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT, ATTRS(to_space, block_attr), .types = TYPES_ALL),
    ROW("SpaceToDepth", to_depth, .min_in = 1, .max_in = 1, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT, ATTRS(to_depth, block_attr), .types = TYPES_ALL),
    {0}};
