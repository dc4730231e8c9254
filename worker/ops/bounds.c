/* Pointwise on numbers of every type: Neg, Abs, Sign, Relu, Clip. */
#include "worker/ops/walk.h"

#include <string.h>

#define ONE_ROW(attr, name, T, V, expr)                                                            \
    attr static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *in = (const void *)p[0];                                                          \
        T *o = (void *)p[1];                                                                       \
        if (s[0] == 1 && s[1] == 1) {                                                              \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                V x = (V)in[i];                                                                    \
                o[i] = (T)(expr);                                                                  \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            V x = (V)in[i * s[0]];                                                                 \
            o[i * s[1]] = (T)(expr);                                                               \
        }                                                                                          \
    }
#define ON_FLOATS(op, expr)                                                                        \
    ONE_ROW(KERNEL, op##_f32, float, float, expr)                                                  \
    ONE_ROW(, op##_f64, double, double, expr)                                                      \
    ONE_ROW(, op##_f16, half, float, expr)
#define ON_SIGNED(op, expr)                                                                        \
    ONE_ROW(, op##_i8, int8_t, int64_t, expr)                                                      \
    ONE_ROW(, op##_i16, int16_t, int64_t, expr)                                                    \
    ONE_ROW(, op##_i32, int32_t, int64_t, expr) ONE_ROW(, op##_i64, int64_t, int64_t, expr)
#define ON_UNSIGNED(op, expr)                                                                      \
    ONE_ROW(, op##_u8, uint8_t, uint64_t, expr)                                                    \
    ONE_ROW(, op##_u16, uint16_t, uint64_t, expr)                                                  \
    ONE_ROW(, op##_u32, uint32_t, uint64_t, expr) ONE_ROW(, op##_u64, uint64_t, uint64_t, expr)
#define SIGNED_ENTRIES(op)                                                                         \
    [DT_F32] = op##_f32, [DT_F64] = op##_f64, [DT_F16] = op##_f16, [DT_I8] = op##_i8,              \
    [DT_I16] = op##_i16, [DT_I32] = op##_i32, [DT_I64] = op##_i64
#define UNSIGNED_ENTRIES(op)                                                                       \
    [DT_U8] = op##_u8, [DT_U16] = op##_u16, [DT_U32] = op##_u32, [DT_U64] = op##_u64

#define NEGATED(x) (int64_t)(0 - (uint64_t)(x)) /* the lowest number stays itself */
ON_FLOATS(neg, -x)
ON_SIGNED(neg, NEGATED(x))
static walk_rows neg_rows = {SIGNED_ENTRIES(neg)};

ON_FLOATS(abs, x < 0 ? -x : x + 0)
ON_SIGNED(abs, x < 0 ? NEGATED(x) : x)
ON_UNSIGNED(abs, x)
static walk_rows abs_rows = {SIGNED_ENTRIES(abs), UNSIGNED_ENTRIES(abs)};

ON_FLOATS(sign, x > 0 ? 1 : x < 0 ? -1 : x)
ON_SIGNED(sign, x > 0 ? 1 : x < 0 ? -1 : 0)
ON_UNSIGNED(sign, x > 0)
static walk_rows sign_rows = {SIGNED_ENTRIES(sign), UNSIGNED_ENTRIES(sign)};

ON_FLOATS(relu, x > 0 || x != x ? x : 0)
ON_SIGNED(relu, x > 0 ? x : 0)
ON_UNSIGNED(relu, x)
static walk_rows relu_rows = {SIGNED_ENTRIES(relu), UNSIGNED_ENTRIES(relu)};

#define OPERATOR(op)                                                                               \
    static int op##_shape(struct op_ctx *c, struct err *e)                                         \
    {                                                                                              \
        return op_need(c, 1, e) || op_takes(c, 0, op##_rows, e) ? -1 : op_shape_same(c, e);        \
    }                                                                                              \
    static int op##_run(const struct op_ctx *c, struct err *e)                                     \
    {                                                                                              \
        (void)e;                                                                                   \
        op_pointwise_run(c, op##_rows[c->in[0]->type], NULL);                                      \
        return 0;                                                                                  \
    }
OPERATOR(neg)
OPERATOR(abs)
OPERATOR(sign)
OPERATOR(relu)

/* ---- Clip: bounds are attributes up to opset 10, optional inputs since ---- */

struct clip_attr {
    float min, max;
};
static const struct attr_def clip_attrs[] = {
    ATTR(FLOAT, clip_attr, min, .number = -3.402823466e+38),
    ATTR(FLOAT, clip_attr, max, .number = 3.402823466e+38),
    {0}};

struct clip_bounds {
    const void *lo, *hi; /* one element of the data's type; NULL = none */
};

/* As numpy: minimum(maximum(x, lo), hi), so that a lower bound above the upper one gives it. */
#define CLIP_ROW(attr, name, T, V)                                                                 \
    attr static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        const struct clip_bounds *b = arg;                                                         \
        const T *in = (const void *)p[0];                                                          \
        T *o = (void *)p[1];                                                                       \
        bool has_lo = b->lo, has_hi = b->hi;                                                       \
        V lo = has_lo ? (V) * (const T *)b->lo : 0, hi = has_hi ? (V) * (const T *)b->hi : 0;      \
        int64_t a = s[0], z = s[1];                                                                \
        if (has_lo && has_hi && a == 1 && z == 1) {                                                \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                V x = (V)in[i];                                                                    \
                x = x < lo ? lo : x;                                                               \
                o[i] = (T)(x > hi ? hi : x);                                                       \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            V x = (V)in[i * a];                                                                    \
            x = has_lo && x < lo ? lo : x;                                                         \
            o[i * z] = (T)(has_hi && x > hi ? hi : x);                                             \
        }                                                                                          \
    }
CLIP_ROW(KERNEL, clip_f32, float, float)
CLIP_ROW(, clip_f64, double, double)
CLIP_ROW(, clip_f16, half, float)
#define X(dt, sfx, T) CLIP_ROW(, clip_##sfx, T, T)
DTYPES_INT(X)
#undef X
static walk_rows clip_rows = {SIGNED_ENTRIES(clip), UNSIGNED_ENTRIES(clip)};

static int clip_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e) || op_takes(c, 0, clip_rows, e) || op_same_type(c, 0, 2, e))
        return -1;
    for (int i = 1; i < c->n_in; i++)
        if (c->in[i] && tensor_count(c->in[i]) != 1)
            return op_bad(c, i, e, "a bound must be one number");
    return op_shape_same(c, e);
}

static int clip_walk(const struct op_ctx *c, struct clip_bounds *b)
{
    struct walk w;
    walk_init(&w, c->out[0]->rank, c->out[0]->dims);
    walk_add_tensor(&w, c->in[0]);
    walk_add_tensor(&w, c->out[0]);
    walk_run(&w, clip_rows[c->in[0]->type], b);
    return 0;
}

static int clip_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    struct clip_bounds b = {c->n_in > 1 && c->in[1] ? c->in[1]->data : NULL,
                            c->n_in > 2 && c->in[2] ? c->in[2]->data : NULL};
    return clip_walk(c, &b);
}

static int clip6_shape(struct op_ctx *c, struct err *e)
{
    return op_need(c, 1, e) || op_takes_float(c, 0, e) ? -1 : op_shape_same(c, e);
}

static int clip6_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct clip_attr *a = c->attr;
    double lo64 = a->min, hi64 = a->max, lo[1], hi[1];
    enum dtype t = c->in[0]->type;
    row_storer(t)(1, &lo64, (char *)lo, 1);
    row_storer(t)(1, &hi64, (char *)hi, 1);
    return clip_walk(c, &(struct clip_bounds){lo, hi});
}

#define ROW(name, stem, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .layout = L_SAME, .shape = stem##_shape, .run = stem##_run, .out = {FEATURE},  \
                    __VA_ARGS__                                                                    \
    }
#define ONE    .since = 1, .min_in = 1, .max_in = 1, .in = {FEATURE}
#define SHARES T_QUANT | T_PRESERVES | T_LOOKTHRU | T_CHAIN_ACT | T_INPLACE

const struct op ops_bounds[] = {
    ROW("Relu", relu, ONE, .traits = SHARES, .types = TYPES_NUMBER),
    ROW("Clip", clip6, .since = 1, .until = 10, .min_in = 1, .max_in = 1, .in = {FEATURE},
        .traits = SHARES, .attrs = clip_attrs, .attr_size = sizeof(struct clip_attr),
        .types = TYPES_FLOAT),
    ROW("Clip", clip, .since = 11, .min_in = 1, .max_in = 3,
        .in = {FEATURE, PLAIN_PORT, PLAIN_PORT}, .traits = SHARES, .types = TYPES_NUMBER),
    ROW("Abs", abs, ONE, .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_NUMBER),
    ROW("Sign", sign, ONE, .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_NUMBER),
    {"Neg", ONNX, .since = 1, .min_in = 1, .max_in = 1, .traits = T_INPLACE | T_SHAPE_DATA,
     .layout = L_SAME, .shape = neg_shape, .run = neg_run, .types = TYPES_FLOAT | TYPES_SIGNED},
    {0}};
