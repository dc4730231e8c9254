/*
 * Pointwise functions of one tensor. A function is a row: its value in double with its attributes,
 * which serves every float type, and a loop for float32 where one is worth having.
 */
#include "worker/ops/vecmath.h"
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

struct unary_attr {
    float alpha, beta, gamma, bias, lambd;
    const char *approximate;
};

struct unary {
    double (*value)(double x, const struct unary_attr *a);
    walk_row *f32; /* arg: struct unary_attr */
};

/* ---- loops for float32 ---- */

#define F32_ROW(name, expr)                                                                        \
    KERNEL static void name##_f32(int64_t n, char *const *p, const int64_t *s, void *arg)          \
    {                                                                                              \
        const struct unary_attr *at = arg;                                                         \
        const float *in = (const void *)p[0], a = at->alpha, b = at->beta, g = at->gamma;          \
        float *o = (void *)p[1];                                                                   \
        (void)a, (void)b, (void)g;                                                                 \
        if (s[0] == 1 && s[1] == 1) {                                                              \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                float x = in[i];                                                                   \
                o[i] = expr;                                                                       \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            float x = in[i * s[0]];                                                                \
            o[i * s[1]] = expr;                                                                    \
        }                                                                                          \
    }

static inline float unit(float v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

F32_ROW(sqrt, sqrtf(x))
F32_ROW(exp, vec_exp(x))
F32_ROW(sigmoid, vec_sigmoid(x))
F32_ROW(tanh, vec_tanh(x))
F32_ROW(reciprocal, 1.0f / x)
F32_ROW(floor, floorf(x))
F32_ROW(ceil, ceilf(x))
F32_ROW(round, rintf(x))
F32_ROW(leaky, x < 0 ? a * x : x)

F32_ROW(hard_sigmoid, unit(a *x + b))
F32_ROW(hard_swish, x *unit(x *(1.0f / 6) + 0.5f))
F32_ROW(softsign, x / (1.0f + fabsf(x)))
F32_ROW(swish, x *vec_sigmoid(a *x))
F32_ROW(thresholded, x > a ? x : 0.0f)
F32_ROW(erf, vec_erf(x))
F32_ROW(gelu, vec_gelu(x))
F32_ROW(gelu_tanh, vec_gelu_tanh(x))
F32_ROW(softplus, vec_softplus(x))
F32_ROW(mish, vec_mish(x))
F32_ROW(elu, x < 0 ? (float)((double)a * vec_expm1((double)x)) : x)
F32_ROW(selu, (float)((double)g *(x > 0 ? (double)x : (double)a * vec_expm1((double)x))))
F32_ROW(celu, x > 0 ? x : (float)((double)a * vec_expm1((double)x / (double)a)))

/* ---- values in double ---- */

typedef const struct unary_attr *attrs_of;
#define VALUE(name, expr)                                                                          \
    static double name##_value(double x, attrs_of a)                                               \
    {                                                                                              \
        (void)a;                                                                                   \
        return expr;                                                                               \
    }
VALUE(sqrt, sqrt(x))
VALUE(exp, exp(x))
VALUE(log, log(x))
VALUE(reciprocal, 1 / x)
VALUE(floor, floor(x))
VALUE(ceil, ceil(x))
VALUE(round, rint(x))
VALUE(erf, erf(x))
VALUE(sin, sin(x))
VALUE(cos, cos(x))
VALUE(tan, tan(x))
VALUE(asin, asin(x))
VALUE(acos, acos(x))
VALUE(atan, atan(x))
VALUE(sinh, sinh(x))
VALUE(cosh, cosh(x))
VALUE(tanh, tanh(x))
VALUE(asinh, asinh(x))
VALUE(acosh, acosh(x))
VALUE(atanh, atanh(x))
VALUE(sigmoid, x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)))
VALUE(leaky, x < 0 ? a->alpha * x : x)
VALUE(elu, x < 0 ? a->alpha * expm1(x) : x)
VALUE(celu, fmax(0, x) + fmin(0, a->alpha *expm1(x / a->alpha)))
VALUE(selu, a->gamma *(x > 0 ? x : a->alpha * expm1(x)))
VALUE(hard_sigmoid, fmin(1, fmax(0, a->alpha *x + a->beta)))
VALUE(hard_swish, x *fmin(1, fmax(0, x / 6 + 0.5)))
VALUE(softplus, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
VALUE(softsign, x / (1 + fabs(x)))
VALUE(mish, x *tanh((x > 0 ? x : 0) + log1p(exp(-fabs(x)))))
VALUE(swish, x *sigmoid_value(a->alpha *x, a))
VALUE(thresholded, x > a->alpha ? x : 0)
VALUE(shrink, x<-a->lambd ? x + a->bias : x> a->lambd ? x - a->bias : 0)

/* Gelu: 0.5 x (1 + erf(x / sqrt 2)); or 0.5 x (1 + tanh u), which is x / (1 + e^-2u). */
VALUE(gelu, 0.5 * x * erfc(-x * 0.7071067811865476))
VALUE(gelu_tanh, x / (1 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x))))

/* ---- running them ---- */

struct unary_arg {
    const struct unary *u;
    const struct unary_attr *attr;
    enum dtype type;
};

static void value_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct unary_arg *v = arg;
    double x[ROW_CHUNK];
    int64_t size = (int64_t)dtype_size(v->type);
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < ROW_CHUNK ? n - i : ROW_CHUNK;
        row_loader(v->type)(m, p[0] + i * s[0] * size, s[0], x);
        for (int64_t k = 0; k < m; k++)
            x[k] = v->u->value(x[k], v->attr);
        row_storer(v->type)(m, x, p[1] + i * s[1] * size, s[1]);
    }
}

static int unary_run(const struct op_ctx *c, const struct unary *u)
{
    struct unary_arg v = {u, c->attr, c->in[0]->type};
    if (v.type == DT_F32 && u->f32)
        op_pointwise_run(c, u->f32, (void *)v.attr);
    else
        op_pointwise_run(c, value_row, &v);
    return 0;
}

static int float_shape(struct op_ctx *c, struct err *e)
{
    return op_need(c, 1, e) || op_takes_float(c, 0, e) ? -1 : op_shape_same(c, e);
}

#define FUNCTION(name, fast)                                                                       \
    static int name##_run(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        (void)e;                                                                                   \
        static const struct unary u = {name##_value, fast};                                        \
        return unary_run(c, &u);                                                                   \
    }
#define PLAIN(name) FUNCTION(name, NULL)
#define FAST(name)  FUNCTION(name, name##_f32)
FAST(sqrt)
FAST(exp)
FAST(reciprocal)
FAST(floor)
FAST(ceil)
FAST(round)
FAST(sigmoid)
FAST(tanh)
FAST(leaky)
FAST(hard_sigmoid)
FAST(hard_swish)
FAST(softsign)
FAST(swish)
FAST(thresholded)
FAST(elu)
PLAIN(log)
FAST(erf)
PLAIN(sin)
PLAIN(cos)
PLAIN(tan)
PLAIN(asin)
PLAIN(acos)
PLAIN(atan)
PLAIN(sinh)
PLAIN(cosh)
PLAIN(asinh)
PLAIN(acosh)
PLAIN(atanh)
FAST(celu)
FAST(selu)
FAST(softplus)
FAST(mish)

static int gelu_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    static const struct unary by_erf = {gelu_value, gelu_f32},
                              by_tanh = {gelu_tanh_value, gelu_tanh_f32};
    const struct unary_attr *a = c->attr;
    return unary_run(c, !strcmp(a->approximate, "tanh") ? &by_tanh : &by_erf);
}

/* Shrink and Erf take integers too. */
PLAIN(shrink)

static int number_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    return c->in[0]->type == DT_BOOL ? op_bad(c, 0, e, "it takes numbers") : op_shape_same(c, e);
}

static int gelu_shape(struct op_ctx *c, struct err *e)
{
    const struct unary_attr *a = c->attr;
    if (strcmp(a->approximate, "none") && strcmp(a->approximate, "tanh"))
        return err_set(e, ERR_BAD_MODEL, NULL, "approximate is none or tanh, not %s.",
                       a->approximate);
    return float_shape(c, e);
}

static int celu_shape(struct op_ctx *c, struct err *e)
{
    const struct unary_attr *a = c->attr;
    if (a->alpha == 0)
        return err_set(e, ERR_BAD_MODEL, NULL, "alpha must not be 0.");
    return float_shape(c, e);
}

/* ---- the rows ---- */

#define A(field, ...) ATTR(FLOAT, unary_attr, field, __VA_ARGS__)
static const struct attr_def alpha_001[] = {A(alpha, .number = 0.01), {0}};
static const struct attr_def alpha_1[] = {A(alpha, .number = 1), {0}};
static const struct attr_def selu_attrs[] = {A(alpha, .number = 1.67326319217681884765625),
                                             A(gamma, .number = 1.05070102214813232421875),
                                             {0}};
static const struct attr_def hard_attrs[] = {A(alpha, .number = 0.2), A(beta, .number = 0.5), {0}};
static const struct attr_def shrink_attrs[] = {A(bias), A(lambd, .number = 0.5), {0}};
static const struct attr_def gelu_attrs[] = {ATTR(STRING, unary_attr, approximate, .text = "none"),
                                             {0}};

#define ROW(name, stem, shape_by, ...)                                                             \
    {                                                                                              \
        name, ONNX, .since = 1, .min_in = 1, .max_in = 1, .layout = L_SAME,                        \
                    .attr_size = sizeof(struct unary_attr), .shape = shape_by, .run = stem##_run,  \
                    __VA_ARGS__                                                                    \
    }
#define LUT(name, stem, ...)                                                                       \
    ROW(name, stem, float_shape, .in = {FEATURE}, .out = {FEATURE},                                \
        .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_FLOAT, ##__VA_ARGS__)
#define ATTRS(table) .attrs = table

const struct op ops_unary[] = {
    LUT("Sqrt", sqrt),
    LUT("Exp", exp),
    LUT("Log", log),
    LUT("Reciprocal", reciprocal),
    LUT("Floor", floor),
    LUT("Ceil", ceil),
    LUT("Round", round),
    ROW("Erf", erf, number_shape, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_NUMBER),
    LUT("Sin", sin),
    LUT("Cos", cos),
    LUT("Tan", tan),
    LUT("Asin", asin),
    LUT("Acos", acos),
    LUT("Atan", atan),
    LUT("Sinh", sinh),
    LUT("Cosh", cosh),
    LUT("Tanh", tanh),
    LUT("Asinh", asinh),
    LUT("Acosh", acosh),
    LUT("Atanh", atanh),
    LUT("Sigmoid", sigmoid),
    LUT("Softplus", softplus),
    LUT("Softsign", softsign),
    LUT("HardSwish", hard_swish),
    LUT("Mish", mish),
    LUT("LeakyRelu", leaky, ATTRS(alpha_001)),
    LUT("Elu", elu, ATTRS(alpha_1)),
    LUT("Selu", selu, ATTRS(selu_attrs)),
    LUT("HardSigmoid", hard_sigmoid, ATTRS(hard_attrs)),
    LUT("ThresholdedRelu", thresholded, ATTRS(alpha_1)),
    ROW("Celu", celu, celu_shape, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT | T_LUT | T_INPLACE, ATTRS(alpha_1), .types = TYPES_FLOAT),
    ROW("Gelu", gelu, gelu_shape, .in = {FEATURE}, .out = {FEATURE},
        .traits = T_QUANT | T_LUT | T_INPLACE, ATTRS(gelu_attrs), .types = TYPES_FLOAT),
    ROW("Swish", swish, float_shape, .traits = T_INPLACE, ATTRS(alpha_1), .types = TYPES_FLOAT),
    ROW("Shrink", shrink, number_shape, .traits = T_INPLACE, ATTRS(shrink_attrs),
        .types = TYPES_NUMBER),
    {0}};
