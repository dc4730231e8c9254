/* Cast, CastLike: every numeric type to every other. Floats become integers by truncation, and
 * wrap to the narrow ones as numpy's casts do; out of int64's range they saturate, NaN is 0. */
#include "worker/ops/walk.h"

#define TO_LOOP(S, value)                                                                          \
    const S *a = (const void *)p[0];                                                               \
    if (s[0] == 1 && s[1] == 1) {                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                          \
            S v = a[i];                                                                            \
            o[i] = value;                                                                          \
        }                                                                                          \
        return;                                                                                    \
    }                                                                                              \
    for (int64_t i = 0; i < n; i++) {                                                              \
        S v = a[i * s[0]];                                                                         \
        o[i * s[1]] = value;                                                                       \
    }

#define DEFINE(from, S, to, D, value)                                                              \
    static void from##_to_##to(int64_t n, char *const *p, const int64_t *s, void *arg)             \
    {                                                                                              \
        (void)arg;                                                                                 \
        D *o = (void *)p[1];                                                                       \
        TO_LOOP(S, value)                                                                          \
    }

static uint64_t double_to_uint64(double v)
{
    return v >= 0x1p63 ? (v >= 0x1p64 ? UINT64_MAX : (uint64_t)v) : (uint64_t)double_to_int64(v);
}

/* One source type to all; `whole` makes an int64 of it. */
#define FROM(from, S, whole, large)                                                                \
    DEFINE(from, S, f32, float, (float)v)                                                          \
    DEFINE(from, S, f64, double, (double)v)                                                        \
    DEFINE(from, S, f16, half, (half)v)                                                            \
    DEFINE(from, S, u8, uint8_t, (uint8_t)whole)                                                   \
    DEFINE(from, S, i8, int8_t, (int8_t)whole)                                                     \
    DEFINE(from, S, u16, uint16_t, (uint16_t)whole)                                                \
    DEFINE(from, S, i16, int16_t, (int16_t)whole)                                                  \
    DEFINE(from, S, i32, int32_t, (int32_t)whole)                                                  \
    DEFINE(from, S, u32, uint32_t, (uint32_t)whole)                                                \
    DEFINE(from, S, i64, int64_t, (int64_t)whole)                                                  \
    DEFINE(from, S, u64, uint64_t, large)                                                          \
    DEFINE(from, S, b8, uint8_t, (v != 0))

#define FROM_INT(dt, sfx, T)   FROM(sfx, T, v, (uint64_t)v)
#define FROM_FLOAT(dt, sfx, T) FROM(sfx, T, double_to_int64((double)v), double_to_uint64((double)v))
DTYPES_INT(FROM_INT)
DTYPES_FLOAT(FROM_FLOAT)
FROM(b8, uint8_t, v, v)

#define TO_ROW(from)                                                                               \
    {                                                                                              \
        [DT_F32] = from##_to_f32, [DT_F64] = from##_to_f64, [DT_F16] = from##_to_f16,              \
        [DT_U8] = from##_to_u8, [DT_I8] = from##_to_i8, [DT_U16] = from##_to_u16,                  \
        [DT_I16] = from##_to_i16, [DT_I32] = from##_to_i32, [DT_U32] = from##_to_u32,              \
        [DT_I64] = from##_to_i64, [DT_U64] = from##_to_u64, [DT_BOOL] = from##_to_b8               \
    }

static walk_row *const cast_rows[DT_COUNT][DT_COUNT] = {
#define X(dt, sfx, T) [dt] = TO_ROW(sfx),
    DTYPES_NUMBER(X)
#undef X
        [DT_BOOL] = TO_ROW(b8)};

struct cast_attr {
    int64_t to, saturate;
};
static const struct attr_def cast_attrs[] = {
    ATTR(INT, cast_attr, to, .required = true), ATTR(INT, cast_attr, saturate, .number = 1), {0}};
static const struct attr_def like_attrs[] = {ATTR(INT, cast_attr, saturate, .number = 1), {0}};

static int cast_to(struct op_ctx *c, int64_t to, struct err *e)
{
    if (to <= DT_NONE || to >= DT_COUNT || dtype_size((enum dtype)to) == 0)
        return err_set(e, ERR_UNSUPPORTED, NULL,
                       "A cast to element type %lld is not computed here.", (long long)to);
    return op_out(c, 0, (enum dtype)to, c->in[0]->rank, c->in[0]->dims, e);
}

static int cast_shape(struct op_ctx *c, struct err *e)
{
    const struct cast_attr *a = c->attr;
    return op_need(c, 1, e) ? -1 : cast_to(c, a->to, e);
}

static int like_shape(struct op_ctx *c, struct err *e)
{
    return op_need(c, 2, e) ? -1 : cast_to(c, c->in[1]->type, e);
}

static int cast_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    if (x->type == y->type && x->layout == y->layout) {
        walk_bytes(x, y);
        return 0;
    }
    struct walk w;
    walk_init(&w, y->rank, y->dims);
    walk_add_tensor(&w, x);
    walk_add_tensor(&w, y);
    walk_run(&w, cast_rows[x->type][y->type], NULL);
    return 0;
}

const struct op ops_cast[] = {
    {"Cast", ONNX, .since = 1, .min_in = 1, .max_in = 1, .traits = T_SHAPE_DATA, .layout = L_SAME,
     .attrs = cast_attrs, .attr_size = sizeof(struct cast_attr), .shape = cast_shape,
     .run = cast_run, .note = "numbers and bool; not strings, bfloat16, float8",
     .types = TYPES_ALL},
    {"CastLike", ONNX, .since = 15, .min_in = 2, .max_in = 2, .layout = L_ANY, .attrs = like_attrs,
     .attr_size = sizeof(struct cast_attr), .shape = like_shape, .run = cast_run,
     .types = TYPES_ALL},
    {0}};
