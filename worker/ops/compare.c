/* Comparison, logic and bits, pointwise with broadcasting; Where; IsNaN, IsInf. */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

#define PAIR_ROW(name, T, R, expr)                                                                 \
    static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                       \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *a = (const void *)p[0], *b = (const void *)p[1];                                  \
        R *o = (void *)p[2];                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                          \
            T x = a[i * s[0]], y = b[i * s[1]];                                                    \
            o[i * s[2]] = (R)(expr);                                                               \
        }                                                                                          \
    }

#define ENTRY(op, dt, sfx) [dt] = op##_##sfx
#define INT_ENTRIES(op)                                                                            \
    ENTRY(op, DT_I8, i8), ENTRY(op, DT_I16, i16), ENTRY(op, DT_I32, i32), ENTRY(op, DT_I64, i64),  \
        ENTRY(op, DT_U8, u8), ENTRY(op, DT_U16, u16), ENTRY(op, DT_U32, u32),                      \
        ENTRY(op, DT_U64, u64)
#define NUMBER_ENTRIES(op)                                                                         \
    ENTRY(op, DT_F32, f32), ENTRY(op, DT_F64, f64), ENTRY(op, DT_F16, f16), INT_ENTRIES(op)

/* Two operands of one type and a result: rows, and the operator's two functions. */
#define OPERATOR(op, result)                                                                       \
    static int op##_shape(struct op_ctx *c, struct err *e)                                         \
    {                                                                                              \
        return op_pointwise_shape(c, op##_rows, result, e);                                        \
    }                                                                                              \
    static int op##_run(const struct op_ctx *c, struct err *e)                                     \
    {                                                                                              \
        (void)e;                                                                                   \
        op_pointwise_run(c, op##_rows[c->in[0]->type], NULL);                                      \
        return 0;                                                                                  \
    }

/* The comparisons, spelled out by operator: X-macros take one parameter only. */
#define COMPARE(op, sign)                                                                          \
    PAIR_ROW(op##_f32, float, uint8_t, x sign y)                                                   \
    PAIR_ROW(op##_f64, double, uint8_t, x sign y)                                                  \
    PAIR_ROW(op##_f16, half, uint8_t, x sign y)                                                    \
    PAIR_ROW(op##_i8, int8_t, uint8_t, x sign y)                                                   \
    PAIR_ROW(op##_i16, int16_t, uint8_t, x sign y)                                                 \
    PAIR_ROW(op##_i32, int32_t, uint8_t, x sign y)                                                 \
    PAIR_ROW(op##_i64, int64_t, uint8_t, x sign y)                                                 \
    PAIR_ROW(op##_u8, uint8_t, uint8_t, x sign y)                                                  \
    PAIR_ROW(op##_u16, uint16_t, uint8_t, x sign y)                                                \
    PAIR_ROW(op##_u32, uint32_t, uint8_t, x sign y)                                                \
    PAIR_ROW(op##_u64, uint64_t, uint8_t, x sign y)

COMPARE(equal, ==)
static walk_rows equal_rows = {NUMBER_ENTRIES(equal), ENTRY(equal, DT_BOOL, u8)};
COMPARE(greater, >)
static walk_rows greater_rows = {NUMBER_ENTRIES(greater)};
COMPARE(less, <)
static walk_rows less_rows = {NUMBER_ENTRIES(less)};
COMPARE(at_least, >=)
static walk_rows at_least_rows = {NUMBER_ENTRIES(at_least)};
COMPARE(at_most, <=)
static walk_rows at_most_rows = {NUMBER_ENTRIES(at_most)};
OPERATOR(equal, DT_BOOL)
OPERATOR(greater, DT_BOOL)
OPERATOR(less, DT_BOOL)
OPERATOR(at_least, DT_BOOL)
OPERATOR(at_most, DT_BOOL)

#define LOGIC(op, expr)                                                                            \
    PAIR_ROW(op##_b8, uint8_t, uint8_t, expr)                                                      \
    static walk_rows op##_rows = {[DT_BOOL] = op##_b8};                                            \
    OPERATOR(op, DT_BOOL)
LOGIC(and, x &&y)
LOGIC(or, x || y)
LOGIC(xor, !x != !y)

#define BITS(op, expr)                                                                             \
    PAIR_ROW(op##_i8, int8_t, int8_t, expr)                                                        \
    PAIR_ROW(op##_i16, int16_t, int16_t, expr)                                                     \
    PAIR_ROW(op##_i32, int32_t, int32_t, expr)                                                     \
    PAIR_ROW(op##_i64, int64_t, int64_t, expr)                                                     \
    PAIR_ROW(op##_u8, uint8_t, uint8_t, expr)                                                      \
    PAIR_ROW(op##_u16, uint16_t, uint16_t, expr)                                                   \
    PAIR_ROW(op##_u32, uint32_t, uint32_t, expr)                                                   \
    PAIR_ROW(op##_u64, uint64_t, uint64_t, expr)                                                   \
    static walk_rows op##_rows = {INT_ENTRIES(op)};                                                \
    OPERATOR(op, DT_NONE)
BITS(bit_and, x &y)
BITS(bit_or, x | y)
BITS(bit_xor, x ^ y)

/* ---- BitShift: a shift by the width or more gives 0 ---- */

struct shift_attr {
    const char *direction;
};
static const struct attr_def shift_attrs[] = {ATTR(STRING, shift_attr, direction, .required = true),
                                              {0}};

#define SHIFT_ROWS(dt, sfx, T)                                                                     \
    PAIR_ROW(left_##sfx, T, T, y < 8 * sizeof(T) ? (uint64_t)x << y : 0)                           \
    PAIR_ROW(right_##sfx, T, T, y < 8 * sizeof(T) ? (uint64_t)x >> y : 0)
DTYPES_UNSIGNED(SHIFT_ROWS)
static walk_rows left_rows = {ENTRY(left, DT_U8, u8), ENTRY(left, DT_U16, u16),
                              ENTRY(left, DT_U32, u32), ENTRY(left, DT_U64, u64)};
static walk_rows right_rows = {ENTRY(right, DT_U8, u8), ENTRY(right, DT_U16, u16),
                               ENTRY(right, DT_U32, u32), ENTRY(right, DT_U64, u64)};

static int shift_shape(struct op_ctx *c, struct err *e)
{
    const struct shift_attr *a = c->attr;
    if (strcmp(a->direction, "LEFT") && strcmp(a->direction, "RIGHT"))
        return err_set(e, ERR_BAD_MODEL, NULL, "The direction is LEFT or RIGHT, not %s.",
                       a->direction);
    return op_pointwise_shape(c, left_rows, DT_NONE, e);
}

static int shift_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct shift_attr *a = c->attr;
    bool left = !strcmp(a->direction, "LEFT");
    op_pointwise_run(c, (left ? left_rows : right_rows)[c->in[0]->type], NULL);
    return 0;
}

/* ---- one operand ---- */

#define ONE_ROW(name, T, R, expr)                                                                  \
    static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                       \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *a = (const void *)p[0];                                                           \
        R *o = (void *)p[1];                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                          \
            T x = a[i * s[0]];                                                                     \
            o[i * s[1]] = (R)(expr);                                                               \
        }                                                                                          \
    }
ONE_ROW(not_b8, uint8_t, uint8_t, !x)
static walk_rows not_rows = {[DT_BOOL] = not_b8};
OPERATOR(not, DT_BOOL)

#define FLIP(dt, sfx, T) ONE_ROW(flip_##sfx, T, T, ~x)
DTYPES_INT(FLIP)
static walk_rows flip_rows = {INT_ENTRIES(flip)};
OPERATOR(flip, DT_NONE)

#define IS_NAN(dt, sfx, T) ONE_ROW(is_nan_##sfx, T, uint8_t, x != x)
DTYPES_FLOAT(IS_NAN)
static walk_rows is_nan_rows = {ENTRY(is_nan, DT_F32, f32), ENTRY(is_nan, DT_F64, f64),
                                ENTRY(is_nan, DT_F16, f16)};
OPERATOR(is_nan, DT_BOOL)

struct inf_attr {
    int64_t detect_negative, detect_positive;
};
static const struct attr_def inf_attrs[] = {ATTR(INT, inf_attr, detect_negative, .number = 1),
                                            ATTR(INT, inf_attr, detect_positive, .number = 1),
                                            {0}};

#define IS_INF(dt, sfx, T)                                                                         \
    static void is_inf_##sfx(int64_t n, char *const *p, const int64_t *s, void *arg)               \
    {                                                                                              \
        const struct inf_attr *a = arg;                                                            \
        const T *in = (const void *)p[0];                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            double x = (double)in[i * s[0]];                                                       \
            p[1][i * s[1]] = isinf(x) && (x < 0 ? a->detect_negative : a->detect_positive) != 0;   \
        }                                                                                          \
    }
DTYPES_FLOAT(IS_INF)
static walk_rows is_inf_rows = {ENTRY(is_inf, DT_F32, f32), ENTRY(is_inf, DT_F64, f64),
                                ENTRY(is_inf, DT_F16, f16)};

static int is_inf_shape(struct op_ctx *c, struct err *e)
{
    return op_pointwise_shape(c, is_inf_rows, DT_BOOL, e);
}

static int is_inf_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    op_pointwise_run(c, is_inf_rows[c->in[0]->type], (void *)c->attr);
    return 0;
}

/* ---- Where: by the size of an element ---- */

#define WHERE_ROW(bits)                                                                            \
    static void where_##bits(int64_t n, char *const *p, const int64_t *s, void *arg)               \
    {                                                                                              \
        (void)arg;                                                                                 \
        const uint8_t *q = (const void *)p[0];                                                     \
        const uint##bits##_t *a = (const void *)p[1], *b = (const void *)p[2];                     \
        uint##bits##_t *o = (void *)p[3];                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            uint##bits##_t x = a[i * s[1]], y = b[i * s[2]];                                       \
            o[i * s[3]] = q[i * s[0]] ? x : y;                                                     \
        }                                                                                          \
    }
WHERE_ROW(8)
WHERE_ROW(16)
WHERE_ROW(32)
WHERE_ROW(64)

static int where_shape(struct op_ctx *c, struct err *e)
{
    struct tensor all;
    if (op_need(c, 3, e) || op_same_type(c, 1, 2, e) || op_broadcast(c->in, 3, &all, e))
        return -1;
    if (c->in[0]->type != DT_BOOL)
        return op_bad(c, 0, e, "a condition is bool");
    return op_out(c, 0, c->in[1]->type, all.rank, all.dims, e);
}

static int where_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    size_t size = dtype_size(c->out[0]->type);
    walk_row *row = size == 1 ? where_8 : size == 2 ? where_16 : size == 4 ? where_32 : where_64;
    op_pointwise_run(c, row, NULL);
    return 0;
}

#define ROW(name, stem, from, n, ...)                                                              \
    {                                                                                              \
        name, ONNX, .since = from, .min_in = n, .max_in = n, .layout = L_ANY,                      \
                    .shape = stem##_shape, .run = stem##_run, ##__VA_ARGS__                        \
    }
#define SHAPES .traits = T_SHAPE_DATA

const struct op ops_compare[] = {
    ROW("Equal", equal, 7, 2, SHAPES, .types = TYPES_ALL),
    ROW("Greater", greater, 7, 2, SHAPES, .types = TYPES_NUMBER),
    ROW("Less", less, 7, 2, SHAPES, .types = TYPES_NUMBER),
    ROW("GreaterOrEqual", at_least, 12, 2, SHAPES, .types = TYPES_NUMBER),
    ROW("LessOrEqual", at_most, 12, 2, SHAPES, .types = TYPES_NUMBER),
    ROW("And", and, 7, 2, SHAPES, .types = TYPE(BOOL)),
    ROW("Or", or, 7, 2, SHAPES, .types = TYPE(BOOL)),
    ROW("Xor", xor, 7, 2, SHAPES, .types = TYPE(BOOL)),
    ROW("Not", not, 1, 1, SHAPES, .types = TYPE(BOOL)),
    ROW("BitwiseAnd", bit_and, 18, 2, .types = TYPES_INT),
    ROW("BitwiseOr", bit_or, 18, 2, .types = TYPES_INT),
    ROW("BitwiseXor", bit_xor, 18, 2, .types = TYPES_INT),
    ROW("BitwiseNot", flip, 18, 1, .types = TYPES_INT),
    ROW("BitShift", shift, 11, 2, .attrs = shift_attrs, .attr_size = sizeof(struct shift_attr),
        .types = TYPES_UNSIGNED),
    ROW("IsNaN", is_nan, 9, 1, .types = TYPES_FLOAT),
    ROW("IsInf", is_inf, 10, 1, .attrs = inf_attrs, .attr_size = sizeof(struct inf_attr),
        .types = TYPES_FLOAT),
    ROW("Where", where, 9, 3, SHAPES, .types = TYPE(BOOL)),
    {0}};
