/*
 * Products of quantized tensors: MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv. Sums are
 * exact in int64 (int32 results wrap); QLinear ones are rescaled, rounded to even, saturated.
 */
#include "worker/ops/quantize.h"

#include <math.h>
#include <string.h>

/* Where an operand's values, zero points and scales are; NULL = none. */
struct side {
    const struct tensor *x, *zero, *scale;
};

static int64_t number(const struct tensor *t, int64_t i)
{
    switch (t->type) {
    case DT_U8:
        return ((const uint8_t *)t->data)[i];
    case DT_I8:
        return ((const int8_t *)t->data)[i];
    default:
        return tensor_int(t, i);
    }
}

/* Parameter i of a list, or its only one. */
static int64_t zero_of(const struct side *s, int64_t i)
{
    return s->zero ? number(s->zero, tensor_count(s->zero) == 1 ? 0 : i) : 0;
}

static double scale_of(const struct side *s, int64_t i)
{
    return s->scale ? tensor_num(s->scale, tensor_count(s->scale) == 1 ? 0 : i) : 1;
}

static int check_side(const struct op_ctx *c, int x, int zero, int scale, int64_t list,
                      struct side *ret, struct err *e)
{
    const struct tensor *z = zero < c->n_in && zero >= 0 ? c->in[zero] : NULL;
    const struct tensor *s = scale >= 0 ? c->in[scale] : NULL;
    enum dtype t = c->in[x]->type;
    if (t != DT_U8 && t != DT_I8)
        return op_bad(c, x, e, "it must be int8 or uint8");
    if (z && (z->type != t || (tensor_count(z) != 1 && tensor_count(z) != list)))
        return op_bad(c, zero, e, "zero points do not fit");
    if (s && (!dtype_is_float(s->type) || (tensor_count(s) != 1 && tensor_count(s) != list)))
        return op_bad(c, scale, e, "scales do not fit");
    *ret = (struct side){c->in[x], z, s};
    return 0;
}

/* The sum as the output has it: int32, or rescaled by a's, b's and its own scale. */
static void put(struct tensor *y, const struct side *out, int64_t at, int64_t sum, double scale)
{
    double lo, hi;
    if (y->type == DT_I32) {
        ((int32_t *)y->data)[at] = (int32_t)sum;
        return;
    }
    quantize_range(y->type, &lo, &hi);
    double v = rint((double)sum * (scale / scale_of(out, 0))) + (double)zero_of(out, 0);
    v = !(v > lo) ? lo : v > hi ? hi : v;
    row_storer(y->type)(1, &v, (char *)y->data + at, 1);
}

/* ---- matrices ---- */

struct product {
    int64_t m, n, k;
    int rank; /* of the batch dims */
    int64_t batch[TENSOR_RANK_MAX], a[TENSOR_RANK_MAX],
        b[TENSOR_RANK_MAX]; /* strides in matrices */
    bool vector_a, vector_b;
};

static void batch_strides(const struct tensor *t, int matrix_dims, int rank, int64_t *ret)
{
    int own = t->rank - matrix_dims;
    int64_t n = 1;
    for (int d = 0; d < rank; d++)
        ret[d] = 0;
    for (int d = own - 1; d >= 0; d--) {
        ret[rank - own + d] = t->dims[d] == 1 ? 0 : n;
        n *= t->dims[d];
    }
}

static int product_of(const struct op_ctx *c, const struct tensor *a, const struct tensor *b,
                      struct product *p, struct err *e)
{
    *p = (struct product){.vector_a = a->rank == 1, .vector_b = b->rank == 1};
    if (a->rank < 1 || b->rank < 1)
        return op_bad(c, 0, e, "a product needs dims");
    p->m = p->vector_a ? 1 : a->dims[a->rank - 2];
    p->k = a->dims[a->rank - 1];
    p->n = p->vector_b ? 1 : b->dims[b->rank - 1];
    if (b->dims[p->vector_b ? 0 : b->rank - 2] != p->k)
        return op_bad(c, 0, e, "the inner dims of the product differ");
    struct tensor ba = {.rank = p->vector_a ? 0 : a->rank - 2}, both;
    struct tensor bb = {.rank = p->vector_b ? 0 : b->rank - 2};
    memcpy(ba.dims, a->dims, sizeof ba.dims);
    memcpy(bb.dims, b->dims, sizeof bb.dims);
    const struct tensor *pair[] = {&ba, &bb};
    if (op_broadcast(pair, 2, &both, e))
        return -1;
    p->rank = both.rank;
    memcpy(p->batch, both.dims, sizeof p->batch);
    batch_strides(a, p->vector_a ? 1 : 2, p->rank, p->a);
    batch_strides(b, p->vector_b ? 1 : 2, p->rank, p->b);
    return 0;
}

static int product_shape(struct op_ctx *c, const struct product *p, enum dtype t, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX + 2];
    int rank = p->rank;
    memcpy(dims, p->batch, (size_t)rank * sizeof *dims);
    if (!p->vector_a)
        dims[rank++] = p->m;
    if (!p->vector_b)
        dims[rank++] = p->n;
    return op_out(c, 0, t, rank, dims, e);
}

static void run_product(struct tensor *y, const struct product *p, const struct side *a,
                        const struct side *b, const struct side *out)
{
    int64_t at[TENSOR_RANK_MAX] = {0},
            count = p->m > 0 && p->n > 0 ? tensor_count(y) / (p->m * p->n) : 0;
    for (int64_t g = 0; g < count; g++) {
        int64_t ia = 0, ib = 0;
        for (int d = 0; d < p->rank; d++) {
            ia += at[d] * p->a[d];
            ib += at[d] * p->b[d];
        }
        for (int64_t i = 0; i < p->m; i++)
            for (int64_t j = 0; j < p->n; j++) {
                int64_t sum = 0, za = zero_of(a, i), zb = zero_of(b, j);
                for (int64_t k = 0; k < p->k; k++)
                    sum += (number(a->x, (ia * p->m + i) * p->k + k) - za) *
                           (number(b->x, (ib * p->k + k) * p->n + j) - zb);
                put(y, out, (g * p->m + i) * p->n + j, sum, scale_of(a, i) * scale_of(b, j));
            }
        for (int d = p->rank - 1; d >= 0 && ++at[d] == p->batch[d]; d--)
            at[d] = 0;
    }
}

/* Inputs of the QLinear forms: a, scale, zero, b, scale, zero, out scale, zero. */
static int matmul_sides(const struct op_ctx *c, bool linear, struct product *p, struct side s[3],
                        struct err *e)
{
    int b = linear ? 3 : 1;
    if (op_need(c, linear ? 8 : 2, e) || product_of(c, c->in[0], c->in[b], p, e) ||
        check_side(c, 0, 2, linear ? 1 : -1, p->m, &s[0], e) ||
        check_side(c, b, linear ? 5 : 3, linear ? 4 : -1, p->n, &s[1], e))
        return -1;
    s[2] = linear ? (struct side){NULL, c->in[7], c->in[6]} : (struct side){NULL, NULL, NULL};
    if (linear &&
        (tensor_count(c->in[6]) != 1 || tensor_count(c->in[7]) != 1 ||
         (c->in[7]->type != DT_U8 && c->in[7]->type != DT_I8) || !dtype_is_float(c->in[6]->type)))
        return op_bad(c, 6, e, "the output has one scale and one 8 bit zero point");
    return 0;
}

static int matmul_shape(struct op_ctx *c, struct err *e)
{
    bool linear = c->n_in > 4;
    struct product p;
    struct side s[3];
    if (matmul_sides(c, linear, &p, s, e))
        return -1;
    return product_shape(c, &p, linear ? c->in[7]->type : DT_I32, e);
}

static int matmul_run(const struct op_ctx *c, struct err *e)
{
    struct product p;
    struct side s[3];
    if (matmul_sides(c, c->n_in > 4, &p, s, e))
        return -1;
    run_product(c->out[0], &p, &s[0], &s[1], &s[2]);
    return 0;
}

/* ---- convolutions ---- */

enum { SPATIAL_MAX = 3 };

struct conv_attr {
    const char *auto_pad;
    struct ints dilations, kernel_shape, pads, strides;
    int64_t group;
};

struct window {
    int n; /* spatial dims */
    int64_t in[SPATIAL_MAX], out[SPATIAL_MAX], kernel[SPATIAL_MAX];
    int64_t stride[SPATIAL_MAX], dilation[SPATIAL_MAX], pad[SPATIAL_MAX];
};

static int64_t attr_at(const struct ints *a, int i, int64_t otherwise)
{
    return a->v && (size_t)i < a->n ? a->v[i] : otherwise;
}

static int window_of(const struct op_ctx *c, const struct tensor *x, const struct tensor *w,
                     struct window *ret, struct err *e)
{
    const struct conv_attr *a = c->attr;
    *ret = (struct window){.n = x->rank - 2};
    if (x->rank < 3 || x->rank > 2 + SPATIAL_MAX || w->rank != x->rank || a->group < 1 ||
        x->dims[1] % a->group || w->dims[0] % a->group || w->dims[1] != x->dims[1] / a->group)
        return op_bad(c, 0, e, "the weights do not fit the data");
    bool same = !strncmp(a->auto_pad, "SAME", 4), lower = !strcmp(a->auto_pad, "SAME_LOWER");
    for (int d = 0; d < ret->n; d++) {
        int64_t in = x->dims[2 + d], k = w->dims[2 + d];
        int64_t s = attr_at(&a->strides, d, 1), l = attr_at(&a->dilations, d, 1);
        int64_t before = same ? 0 : attr_at(&a->pads, d, 0),
                after = same ? 0 : attr_at(&a->pads, ret->n + d, 0);
        if (s < 1 || l < 1 || before < 0 || after < 0 || k < 1 || s > INT32_MAX || l > INT32_MAX ||
            before > INT32_MAX || after > INT32_MAX || k > INT32_MAX ||
            attr_at(&a->kernel_shape, d, k) != k)
            return op_bad(c, 0, e, "the window along dim %d does not make sense", 2 + d);
        int64_t reach = l * (k - 1) + 1;
        if (same) {
            int64_t out = (in + s - 1) / s, total = (out - 1) * s + reach - in;
            total = total > 0 ? total : 0;
            before = lower ? total - total / 2 : total / 2;
            after = total - before;
        }
        int64_t room = in + before + after - reach;
        ret->in[d] = in;
        ret->out[d] = room < 0 ? 0 : room / s + 1;
        ret->kernel[d] = k;
        ret->stride[d] = s;
        ret->dilation[d] = l;
        ret->pad[d] = before;
    }
    return 0;
}

/* Steps a position in row-major order; false at the end. */
static bool next_place(int n, const int64_t *dims, int64_t *at)
{
    for (int d = n - 1; d >= 0; d--) {
        if (++at[d] < dims[d])
            return true;
        at[d] = 0;
    }
    return false;
}

/* The sum at one output place: x at (first channel of) its plane, w at its kernel. */
static int64_t window_sum(const struct window *v, const int64_t *place, const struct side *x,
                          int64_t plane, int64_t size, const struct side *w, int64_t kernel,
                          int64_t taps, int64_t channels, int64_t zw)
{
    int64_t at[SPATIAL_MAX] = {0}, sum = 0, zx = zero_of(x, 0), tap = 0;
    do {
        int64_t from = 0;
        bool inside = true;
        for (int d = 0; d < v->n; d++) {
            int64_t i = place[d] * v->stride[d] - v->pad[d] + at[d] * v->dilation[d];
            inside &= i >= 0 && i < v->in[d];
            from = from * v->in[d] + i;
        }
        for (int64_t ch = 0; inside && ch < channels; ch++)
            sum += (number(x->x, plane + ch * size + from) - zx) *
                   (number(w->x, kernel + ch * taps + tap) - zw);
        tap++;
    } while (next_place(v->n, v->kernel, at));
    return sum;
}

static int conv_sides(const struct op_ctx *c, bool linear, struct window *v, struct side s[3],
                      struct err *e)
{
    int w = linear ? 3 : 1;
    if (op_need(c, linear ? 8 : 2, e) || window_of(c, c->in[0], c->in[w], v, e) ||
        check_side(c, 0, 2, linear ? 1 : -1, 1, &s[0], e) ||
        check_side(c, w, linear ? 5 : 3, linear ? 4 : -1, c->in[w]->dims[0], &s[1], e))
        return -1;
    s[2] = linear ? (struct side){NULL, c->in[7], c->in[6]} : (struct side){NULL, NULL, NULL};
    const struct tensor *bias = linear && c->n_in > 8 ? c->in[8] : NULL;
    if (bias && (bias->type != DT_I32 || tensor_count(bias) != c->in[w]->dims[0]))
        return op_bad(c, 8, e, "the bias is one int32 a channel");
    if (linear &&
        (tensor_count(c->in[6]) != 1 || tensor_count(c->in[7]) != 1 ||
         (c->in[7]->type != DT_U8 && c->in[7]->type != DT_I8) || !dtype_is_float(c->in[6]->type)))
        return op_bad(c, 6, e, "the output has one scale and one 8 bit zero point");
    return 0;
}

static int conv_shape(struct op_ctx *c, struct err *e)
{
    bool linear = c->n_in > 4;
    struct window v;
    struct side s[3];
    if (conv_sides(c, linear, &v, s, e))
        return -1;
    int64_t dims[TENSOR_RANK_MAX] = {c->in[0]->dims[0], s[1].x->dims[0]};
    memcpy(dims + 2, v.out, sizeof v.out);
    return op_out(c, 0, linear ? c->in[7]->type : DT_I32, c->in[0]->rank, dims, e);
}

static int conv_run(const struct op_ctx *c, struct err *e)
{
    const struct conv_attr *a = c->attr;
    bool linear = c->n_in > 4;
    struct window v;
    struct side s[3];
    if (conv_sides(c, linear, &v, s, e))
        return -1;
    const struct tensor *x = s[0].x, *w = s[1].x, *bias = linear && c->n_in > 8 ? c->in[8] : NULL;
    int64_t size = dims_product(x->dims, 2, x->rank), taps = dims_product(w->dims, 2, w->rank);
    int64_t outs = w->dims[0], channels = w->dims[1], at = 0;
    if (tensor_count(c->out[0]) == 0)
        return 0;
    for (int64_t n = 0; n < x->dims[0]; n++)
        for (int64_t o = 0; o < outs; o++) {
            int64_t place[SPATIAL_MAX] = {0}, first = o / (outs / a->group) * channels;
            double scale = scale_of(&s[0], 0) * scale_of(&s[1], o);
            do {
                int64_t sum =
                    window_sum(&v, place, &s[0], (n * x->dims[1] + first) * size, size, &s[1],
                               o * channels * taps, taps, channels, zero_of(&s[1], o));
                put(c->out[0], &s[2], at++, sum + (bias ? tensor_int(bias, o) : 0), scale);
            } while (next_place(v.n, v.out, place));
        }
    return 0;
}

static const struct attr_def conv_attrs[] = {ATTR(STRING, conv_attr, auto_pad, .text = "NOTSET"),
                                             ATTR(INTS, conv_attr, dilations),
                                             ATTR(INTS, conv_attr, kernel_shape),
                                             ATTR(INTS, conv_attr, pads),
                                             ATTR(INTS, conv_attr, strides),
                                             ATTR(INT, conv_attr, group, .number = 1),
                                             {0}};
#define CONV                                                                                       \
    .attrs = conv_attrs, .attr_size = sizeof(struct conv_attr), .shape = conv_shape, .run = conv_run

const struct op ops_qlinear[] = {
    {"MatMulInteger", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 2, .max_in = 4,
     .shape = matmul_shape, .run = matmul_run, .types = TYPE(U8) | TYPE(I8)},
    {"QLinearMatMul", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 8, .max_in = 8,
     .shape = matmul_shape, .run = matmul_run, .types = TYPE(U8) | TYPE(I8)},
    {"ConvInteger", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 2, .max_in = 4, CONV,
     .types = TYPE(U8) | TYPE(I8)},
    {"QLinearConv", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 8, .max_in = 9, CONV,
     .note = "1 to 3 spatial dims", .types = TYPE(U8) | TYPE(I8)},
    {0}};
