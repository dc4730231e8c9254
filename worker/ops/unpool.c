/*
 * What turns windows back into images: MaxUnpool puts each value where its index says, Col2Im adds
 * up the columns of overlapping blocks. Both plain.
 */
#include "worker/ops/walk.h"

#include <string.h>

struct unpool_attr {
    struct ints kernel_shape, strides, dilations, pads;
};

enum { STEP_MAX = 1 << 20 }; /* of a kernel, stride, dilation or pad: sums of products fit int64 */

/* n numbers in [min, STEP_MAX], or `otherwise` for each when the list is absent. */
static int steps_of(const char *name, struct ints v, int n, int64_t min, int64_t otherwise,
                    int64_t *ret, struct err *e)
{
    if (v.v && v.n != (size_t)n)
        return err_set(e, ERR_BAD_MODEL, NULL, "The attribute \"%s\" has %zu numbers, not %d.",
                       name, v.n, n);
    for (int i = 0; i < n; i++) {
        ret[i] = v.v ? v.v[i] : otherwise;
        if (ret[i] < min || ret[i] > STEP_MAX)
            return err_set(e, ERR_BAD_MODEL, NULL, "The attribute \"%s\" holds %lld.", name,
                           (long long)ret[i]);
    }
    return 0;
}

/* Row-major place `at` of `index` in dims. */
static void place_of(int64_t index, int rank, const int64_t *dims, int64_t *at)
{
    for (int d = rank - 1; d >= 0; d--) {
        at[d] = index % dims[d];
        index /= dims[d];
    }
}

/* ---- MaxUnpool ---- */

/* What the pool's input was, as far as its attributes tell; the indices count in it. */
static int pooled_dims(const struct op_ctx *c, int64_t *ret, struct err *e)
{
    const struct unpool_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t kernel[TENSOR_RANK_MAX], stride[TENSOR_RANK_MAX], pad[2 * TENSOR_RANK_MAX];
    int n = x->rank - 2;
    if (n < 1)
        return op_bad(c, 0, e, "it needs at least 3 dims");
    if (steps_of("kernel_shape", a->kernel_shape, n, 1, 1, kernel, e) ||
        steps_of("strides", a->strides, n, 1, 1, stride, e) ||
        steps_of("pads", a->pads, 2 * n, 0, 0, pad, e))
        return -1;
    memcpy(ret, x->dims, 2 * sizeof *ret);
    for (int d = 0; d < n; d++) {
        ret[2 + d] = (x->dims[2 + d] - 1) * stride[d] + kernel[d] - pad[d] - pad[n + d];
        if (ret[2 + d] < 0)
            return op_bad(c, 0, e, "dim %d would have %lld elements", 2 + d, (long long)ret[2 + d]);
    }
    return 0;
}

static int unpool_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX], given[TENSOR_RANK_MAX];
    int n;
    if (op_need(c, 2, e) || pooled_dims(c, dims, e))
        return -1;
    const struct tensor *x = c->in[0];
    struct tensor pooled;
    if (c->in[1]->type != DT_I64 || !tensor_same_shape(x, c->in[1]))
        return op_bad(c, 1, e, "there must be one int64 index a value");
    int rc = op_input_ints(c, 2, NULL, given, TENSOR_RANK_MAX, &n, e);
    if (rc || tensor_set(&pooled, x->type, x->rank, dims, e))
        return rc ? rc : -1;
    if (n >= 0 && (n != x->rank || given[0] != dims[0] || given[1] != dims[1]))
        return op_bad(c, 2, e, "the shape does not fit the data");
    return op_out(c, 0, x->type, x->rank, n >= 0 ? given : dims, e);
}

static int unpool_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    const int64_t *index = c->in[1]->data;
    int64_t dims[TENSOR_RANK_MAX], at[TENSOR_RANK_MAX], strides[TENSOR_RANK_MAX];
    size_t size = dtype_size(x->type);
    if (pooled_dims(c, dims, e))
        return -1;
    int64_t places = dims_product(dims, 0, x->rank);
    dims_strides(y->rank, y->dims, strides);
    memset(y->data, 0, tensor_bytes(y));
    for (int64_t i = 0, n = tensor_count(x); i < n; i++) {
        int64_t to = 0;
        if (index[i] < 0 || index[i] >= places)
            return op_bad(c, 1, e, "%lld is no index into %lld places", (long long)index[i],
                          (long long)places);
        place_of(index[i], y->rank, dims, at);
        for (int d = 0; d < y->rank; d++) {
            if (at[d] >= y->dims[d])
                return op_bad(c, 1, e, "%lld lies outside the output", (long long)index[i]);
            to += at[d] * strides[d];
        }
        memcpy((char *)y->data + (size_t)to * size, (const char *)x->data + (size_t)i * size, size);
    }
    return 0;
}

/* ---- Col2Im ---- */

struct columns {
    int n; /* spatial dims */
    int64_t image[TENSOR_RANK_MAX], block[TENSOR_RANK_MAX], blocks[TENSOR_RANK_MAX];
    int64_t stride[TENSOR_RANK_MAX], dilation[TENSOR_RANK_MAX], pad[2 * TENSOR_RANK_MAX];
    int64_t taps, count, pixels; /* products of block, blocks, image */
};

#define ADD_FLOAT(dt, sfx, T)                                                                      \
    static void add_##sfx(const void *x, int64_t i, void *y, int64_t j)                            \
    {                                                                                              \
        ((T *)y)[j] = (T)(((T *)y)[j] + ((const T *)x)[i]);                                        \
    }
#define ADD_INT(dt, sfx, T)                                                                        \
    static void add_##sfx(const void *x, int64_t i, void *y, int64_t j)                            \
    {                                                                                              \
        ((T *)y)[j] = (T)((uint64_t)((T *)y)[j] + (uint64_t)((const T *)x)[i]);                    \
    }
DTYPES_FLOAT(ADD_FLOAT)
DTYPES_INT(ADD_INT)
static void (*const adds[DT_COUNT])(const void *, int64_t, void *, int64_t) = {
#define X(dt, sfx, T) [dt] = add_##sfx,
    DTYPES_NUMBER(X)
#undef X
};

static int fit_blocks(const struct op_ctx *c, struct columns *m, struct err *e)
{
    m->taps = m->count = m->pixels = 1;
    for (int d = 0; d < m->n; d++) {
        if (m->image[d] < 1 || m->image[d] > INT32_MAX || m->block[d] < 1 || m->block[d] > STEP_MAX)
            return op_bad(c, 2, e, "blocks of %lld do not fit images of %lld along dim %d",
                          (long long)m->block[d], (long long)m->image[d], d);
        int64_t room =
            m->image[d] + m->pad[d] + m->pad[m->n + d] - m->dilation[d] * (m->block[d] - 1) - 1;
        m->blocks[d] = room < 0 ? 0 : room / m->stride[d] + 1;
        if (__builtin_mul_overflow(m->taps, m->block[d], &m->taps) ||
            __builtin_mul_overflow(m->count, m->blocks[d], &m->count) ||
            __builtin_mul_overflow(m->pixels, m->image[d], &m->pixels))
            return op_bad(c, 1, e, "the image is too large");
    }
    return 0;
}

static int columns_of(const struct op_ctx *c, struct columns *m, struct err *e)
{
    const struct unpool_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int n_block;
    if (op_need(c, 3, e))
        return -1;
    int rc = op_input_ints(c, 1, NULL, m->image, TENSOR_RANK_MAX - 2, &m->n, e);
    rc = rc ? rc : op_input_ints(c, 2, NULL, m->block, TENSOR_RANK_MAX - 2, &n_block, e);
    if (rc)
        return rc;
    if (m->n < 1 || n_block != m->n)
        return op_bad(c, 2, e, "image and block have the same dims");
    if (steps_of("strides", a->strides, m->n, 1, 1, m->stride, e) ||
        steps_of("dilations", a->dilations, m->n, 1, 1, m->dilation, e) ||
        steps_of("pads", a->pads, 2 * m->n, 0, 0, m->pad, e) || fit_blocks(c, m, e))
        return -1;
    if (!adds[x->type] || x->rank != 3 || x->dims[1] % m->taps || x->dims[2] != m->count)
        return op_bad(c, 0, e, "it must be numbers [batch, channels * %lld, %lld]",
                      (long long)m->taps, (long long)m->count);
    return 0;
}

static int col2im_shape(struct op_ctx *c, struct err *e)
{
    struct columns m;
    int64_t dims[TENSOR_RANK_MAX];
    int rc = columns_of(c, &m, e);
    if (rc)
        return rc;
    dims[0] = c->in[0]->dims[0];
    dims[1] = c->in[0]->dims[1] / m.taps;
    memcpy(dims + 2, m.image, (size_t)m.n * sizeof *dims);
    return op_out(c, 0, c->in[0]->type, 2 + m.n, dims, e);
}

/* The pixel that tap `at` of block `block` covers, or -1. */
static int64_t pixel_of(const struct columns *m, const int64_t *block, const int64_t *tap)
{
    int64_t pixel = 0;
    for (int d = 0; d < m->n; d++) {
        int64_t i = block[d] * m->stride[d] - m->pad[d] + tap[d] * m->dilation[d];
        if (i < 0 || i >= m->image[d])
            return -1;
        pixel = pixel * m->image[d] + i;
    }
    return pixel;
}

static int col2im_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    struct columns m;
    int64_t tap[TENSOR_RANK_MAX], block[TENSOR_RANK_MAX];
    if (columns_of(c, &m, e))
        return -1;
    memset(y->data, 0, tensor_bytes(y));
    int64_t planes = x->dims[0] * x->dims[1] / m.taps, last = m.taps * m.count;
    for (int64_t i = 0; planes > 0 && i < last; i++) {
        place_of(i / m.count, m.n, m.block, tap);
        place_of(i % m.count, m.n, m.blocks, block);
        int64_t pixel = pixel_of(&m, block, tap);
        for (int64_t p = 0; pixel >= 0 && p < planes; p++)
            adds[x->type](x->data, p * last + i, y->data, p * m.pixels + pixel);
    }
    return 0;
}

#define A(field, ...) ATTR(INTS, unpool_attr, field, __VA_ARGS__)
static const struct attr_def unpool_attrs[] = {
    A(kernel_shape, .required = true), A(strides), A(pads), {0}};
static const struct attr_def col2im_attrs[] = {A(strides), A(dilations), A(pads), {0}};

const struct op ops_unpool[] = {{"MaxUnpool", ONNX, .since = 9, .min_in = 2, .max_in = 3,
                                 .attrs = unpool_attrs, .attr_size = sizeof(struct unpool_attr),
                                 .shape = unpool_shape, .run = unpool_run, .types = TYPES_ALL},
                                {"Col2Im", ONNX, .since = 18, .min_in = 3, .max_in = 3,
                                 .attrs = col2im_attrs, .attr_size = sizeof(struct unpool_attr),
                                 .shape = col2im_shape, .run = col2im_run, .types = TYPES_NUMBER},
                                {0}};
