/* QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: y = saturate(round(x / scale) + zero),
 * ties to even; per tensor, along an axis, or in blocks of an axis. */
#include "worker/ops/quantize.h"

#include <math.h>
#include <string.h>

int quantize_range(enum dtype t, double *ret_lo, double *ret_hi)
{
    static const struct {
        double lo, hi;
    } ranges[DT_COUNT] = {[DT_U8] = {0, 255},
                          [DT_I8] = {-128, 127},
                          [DT_U16] = {0, 65535},
                          [DT_I16] = {-32768, 32767}};
    *ret_lo = ranges[t].lo;
    *ret_hi = ranges[t].hi;
    return ranges[t].hi > 0 ? 0 : -1;
}

struct quantize_attr {
    int64_t axis, saturate, block_size, output_dtype, precision;
};

/* How scales lie over the data: element (o, a, i) of [outer, axis, inner] has the scale at
 * (o * n + a / block) * inner' + i, where inner' counts only in blocks. */
struct grains {
    int64_t outer, axis, inner; /* of the data */
    int64_t block;              /* elements of the axis a scale covers */
    int64_t per_outer;          /* 0: scales do not depend on outer and inner */
};

static int grains_of(const struct op_ctx *c, struct grains *g, struct err *e)
{
    const struct quantize_attr *a = c->attr;
    const struct tensor *x = c->in[0], *s = c->in[1];
    int axis;
    *g = (struct grains){1, 1, tensor_count(x), 1, 0};
    if (tensor_count(s) == 1 && s->rank <= 1)
        return 0;
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    *g = (struct grains){dims_product(x->dims, 0, axis), x->dims[axis],
                         dims_product(x->dims, axis + 1, x->rank), 1, 0};
    if (a->block_size == 0)
        return s->rank == 1 && s->dims[0] == g->axis
                   ? 0
                   : op_bad(c, 1, e, "it needs one scale an element of axis %d", axis);
    if (a->block_size < 0 || s->rank != x->rank)
        return op_bad(c, 1, e, "blocked scales have the data's rank");
    for (int d = 0; d < x->rank; d++) {
        int64_t want =
            d == axis ? x->dims[d] / a->block_size + (x->dims[d] % a->block_size != 0) : x->dims[d];
        if (s->dims[d] != want)
            return op_bad(c, 1, e, "dim %d should be %lld", d, (long long)want);
    }
    g->block = a->block_size;
    g->per_outer = s->dims[axis] * g->inner;
    return 0;
}

static int zero_fits(const struct op_ctx *c, struct err *e)
{
    const struct tensor *s = c->in[1], *z = c->n_in > 2 ? c->in[2] : NULL;
    if (z && tensor_count(z) != tensor_count(s))
        return op_bad(c, 2, e, "there must be as many zero points as scales");
    return 0;
}

/* The scale's index for the run of elements at (outer o, axis a), and its step along inner. */
static int64_t scale_at(const struct grains *g, int64_t o, int64_t a, int64_t *step)
{
    *step = g->per_outer != 0;
    return g->per_outer ? o * g->per_outer + a / g->block * g->inner : a;
}

/* ---- QuantizeLinear ---- */

static int quantize_shape(struct op_ctx *c, struct err *e)
{
    const struct quantize_attr *a = c->attr;
    struct grains g;
    double lo, hi;
    if (op_need(c, 2, e) || op_takes_float(c, 1, e) || grains_of(c, &g, e) || zero_fits(c, e))
        return -1;
    const struct tensor *x = c->in[0], *z = c->n_in > 2 ? c->in[2] : NULL;
    if (!dtype_is_float(x->type) && x->type != DT_I32)
        return op_bad(c, 0, e, "it takes floats and int32");
    int64_t to = z ? (int64_t)z->type : a->output_dtype ? a->output_dtype : DT_U8;
    if (to <= 0 || to >= DT_COUNT || quantize_range((enum dtype)to, &lo, &hi))
        return err_set(e, ERR_UNSUPPORTED, NULL,
                       "Quantizing to element type %lld is not computed here.", (long long)to);
    return op_out(c, 0, (enum dtype)to, x->rank, x->dims, e);
}

static double number(const struct tensor *t, int64_t i)
{
    double v = 0;
    if (t)
        row_loader(t->type)(1, (const char *)t->data + (size_t)i * dtype_size(t->type), 1, &v);
    return v;
}

static int quantize_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *s = c->in[1], *z = c->n_in > 2 ? c->in[2] : NULL;
    struct tensor *y = c->out[0];
    struct grains g;
    double lo, hi, v[ROW_CHUNK];
    if (grains_of(c, &g, e) || quantize_range(y->type, &lo, &hi))
        return -1;
    int64_t step, at = 0;
    for (int64_t r = 0; r < g.outer * g.axis; r++) {
        int64_t k = scale_at(&g, r / g.axis, r % g.axis, &step);
        for (int64_t i = 0, m; i < g.inner; i += m, at += m) {
            m = g.inner - i < ROW_CHUNK ? g.inner - i : ROW_CHUNK;
            row_loader(x->type)(m, (const char *)x->data + (size_t)at * dtype_size(x->type), 1, v);
            for (int64_t j = 0; j < m; j++) {
                /* the division rounds to float, as the specification's own does */
                int64_t q = k + (i + j) * step;
                double n = rint((double)((float)v[j] / (float)number(s, q))) + number(z, q);
                v[j] = !(n > lo) ? lo : n > hi ? hi : n;
            }
            row_storer(y->type)(m, v, (char *)y->data + (size_t)at * dtype_size(y->type), 1);
        }
    }
    return 0;
}

/* ---- DequantizeLinear ---- */

static int dequantize_shape(struct op_ctx *c, struct err *e)
{
    struct grains g;
    double lo, hi;
    if (op_need(c, 2, e) || op_takes_float(c, 1, e) || grains_of(c, &g, e) || zero_fits(c, e))
        return -1;
    const struct tensor *x = c->in[0];
    if (quantize_range(x->type, &lo, &hi) && x->type != DT_I32)
        return op_bad(c, 0, e, "it takes 8 and 16 bit integers, and int32");
    if (op_same_type(c, 0, 0, e) || (c->n_in > 2 && c->in[2] && c->in[2]->type != x->type))
        return op_bad(c, 2, e, "zero points have the data's type");
    return op_out(c, 0, c->in[1]->type, x->rank, x->dims, e);
}

static int dequantize_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *s = c->in[1], *z = c->n_in > 2 ? c->in[2] : NULL;
    struct tensor *y = c->out[0];
    struct grains g;
    double v[ROW_CHUNK];
    if (grains_of(c, &g, e))
        return -1;
    int64_t step, at = 0;
    for (int64_t r = 0; r < g.outer * g.axis; r++) {
        int64_t k = scale_at(&g, r / g.axis, r % g.axis, &step);
        for (int64_t i = 0, m; i < g.inner; i += m, at += m) {
            m = g.inner - i < ROW_CHUNK ? g.inner - i : ROW_CHUNK;
            row_loader(x->type)(m, (const char *)x->data + (size_t)at * dtype_size(x->type), 1, v);
            for (int64_t j = 0; j < m; j++) {
                int64_t q = k + (i + j) * step;
                v[j] = (v[j] - number(z, q)) * number(s, q);
            }
            row_storer(y->type)(m, v, (char *)y->data + (size_t)at * dtype_size(y->type), 1);
        }
    }
    return 0;
}

/* ---- DynamicQuantizeLinear: to uint8, over the data's own range with 0 in it ---- */

static int dynamic_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    if (c->in[0]->type != DT_F32)
        return op_bad(c, 0, e, "it takes float32");
    return op_out(c, 0, DT_U8, c->in[0]->rank, c->in[0]->dims, e) ||
                   op_out(c, 1, DT_F32, 0, NULL, e) || op_out(c, 2, DT_U8, 0, NULL, e)
               ? -1
               : 0;
}

static int dynamic_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const float *x = c->in[0]->data;
    int64_t n = tensor_count(c->in[0]);
    float lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    float scale = (hi - lo) / 255.0f;
    scale = scale > 0 ? scale : 1;
    float zero = rintf(fminf(255, fmaxf(0, 0 - lo / scale)));
    for (int64_t i = 0; c->out[0] && i < n; i++) {
        float v = rintf(x[i] / scale) + zero;
        ((uint8_t *)c->out[0]->data)[i] = (uint8_t)(!(v > 0) ? 0 : v > 255 ? 255 : v);
    }
    if (c->n_out > 1 && c->out[1])
        *(float *)c->out[1]->data = scale;
    if (c->n_out > 2 && c->out[2])
        *(uint8_t *)c->out[2]->data = (uint8_t)zero;
    return 0;
}

#define A(field, ...) ATTR(INT, quantize_attr, field, __VA_ARGS__)
static const struct attr_def quantize_attrs[] = {A(axis, .number = 1), A(saturate, .number = 1),
                                                 A(block_size),        A(output_dtype),
                                                 A(precision),         {0}};

#define ROW(name, stem, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .since = 10, .shape = stem##_shape, .run = stem##_run,                         \
                    .attr_size = sizeof(struct quantize_attr), __VA_ARGS__                         \
    }

const struct op ops_quantize[] = {
    ROW("QuantizeLinear", quantize, .min_in = 2, .max_in = 3, .attrs = quantize_attrs,
        .note = "to 8 and 16 bit integers", .types = TYPES_FLOAT | TYPE(I32)),
    ROW("DequantizeLinear", dequantize, .min_in = 2, .max_in = 3, .attrs = quantize_attrs,
        .types = TYPE(U8) | TYPE(I8) | TYPE(U16) | TYPE(I16) | TYPE(I32)),
    ROW("DynamicQuantizeLinear", dynamic, .min_in = 1, .max_in = 1, .max_out = 3,
        .types = TYPE(F32)),
    {"QuantizeLinear", MSFT, .since = 1, .shape = quantize_shape, .run = quantize_run,
     .attr_size = sizeof(struct quantize_attr), .min_in = 2, .max_in = 3, .attrs = quantize_attrs,
     .note = "to 8 and 16 bit integers", .types = TYPES_FLOAT | TYPE(I32)},
    {"DequantizeLinear", MSFT, .since = 1, .shape = dequantize_shape, .run = dequantize_run,
     .attr_size = sizeof(struct quantize_attr), .min_in = 2, .max_in = 3, .attrs = quantize_attrs,
     .types = TYPE(U8) | TYPE(I8) | TYPE(U16) | TYPE(I16) | TYPE(I32)},
    {0}};
