/* Pointwise arithmetic with numpy's broadcasting: two operands, or any number folded in order. */
#include "worker/ops/walk.h"

#include <math.h>

/* A row of `expr` over x and y (of type V) into R. In place is exact overlap: IVDEP holds. */
#define BINARY_ROW(attr, name, T, V, R, expr)                                                      \
    attr static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *a = (const void *)p[0], *b = (const void *)p[1];                                  \
        R *o = (void *)p[2];                                                                       \
        int64_t sa = s[0], sb = s[1], so = s[2];                                                   \
        if (sa == 1 && sb == 1 && so == 1) {                                                       \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                V x = (V)a[i], y = (V)b[i];                                                        \
                o[i] = (R)(expr);                                                                  \
            }                                                                                      \
        } else if (sa == 1 && sb == 0 && so == 1) {                                                \
            V y = (V)*b;                                                                           \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                V x = (V)a[i];                                                                     \
                o[i] = (R)(expr);                                                                  \
            }                                                                                      \
        } else {                                                                                   \
            for (int64_t i = 0; i < n; i++) {                                                      \
                V x = (V)a[i * sa], y = (V)b[i * sb];                                              \
                o[i * so] = (R)(expr);                                                             \
            }                                                                                      \
        }                                                                                          \
    }

/* The same for all number types: floats by one expression, integers by another over uint64_t
 * (wrapping is defined there) or over the type itself. */
#define ON_FLOATS(op, expr)                                                                        \
    BINARY_ROW(KERNEL, op##_f32, float, float, float, expr)                                        \
    BINARY_ROW(, op##_f64, double, double, double, expr)                                           \
    BINARY_ROW(, op##_f16, half, float, half, expr)
#define ON_SIGNED(op, V, expr)                                                                     \
    BINARY_ROW(, op##_i8, int8_t, V, int8_t, expr)                                                 \
    BINARY_ROW(, op##_i16, int16_t, V, int16_t, expr)                                              \
    BINARY_ROW(, op##_i32, int32_t, V, int32_t, expr)                                              \
    BINARY_ROW(, op##_i64, int64_t, V, int64_t, expr)
#define ON_UNSIGNED(op, expr)                                                                      \
    BINARY_ROW(, op##_u8, uint8_t, uint64_t, uint8_t, expr)                                        \
    BINARY_ROW(, op##_u16, uint16_t, uint64_t, uint16_t, expr)                                     \
    BINARY_ROW(, op##_u32, uint32_t, uint64_t, uint32_t, expr)                                     \
    BINARY_ROW(, op##_u64, uint64_t, uint64_t, uint64_t, expr)
#define FLOAT_ENTRIES(op) [DT_F32] = op##_f32, [DT_F64] = op##_f64, [DT_F16] = op##_f16
#define INT_ENTRIES(op)                                                                            \
    [DT_I8] = op##_i8, [DT_I16] = op##_i16, [DT_I32] = op##_i32, [DT_I64] = op##_i64,              \
    [DT_U8] = op##_u8, [DT_U16] = op##_u16, [DT_U32] = op##_u32, [DT_U64] = op##_u64
#define ROWS(op) static walk_rows op##_rows = {FLOAT_ENTRIES(op), INT_ENTRIES(op)};

#define WRAPPING(op, sign)                                                                         \
    ON_FLOATS(op, x sign y)                                                                        \
    ON_SIGNED(op, uint64_t, x sign y)                                                              \
    ON_UNSIGNED(op, x sign y) ROWS(op)
WRAPPING(add, +)
WRAPPING(sub, -)
WRAPPING(mul, *)

/* arg: a flag that is raised where a divisor is 0; the lowest number divided by -1 wraps. */
static int64_t div_signed(int64_t x, int64_t y, bool *by_zero)
{
    *by_zero |= y == 0;
    return y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}

static uint64_t div_unsigned(uint64_t x, uint64_t y, bool *by_zero)
{
    *by_zero |= y == 0;
    return y == 0 ? 0 : x / y;
}

/* The remainder has the divisor's sign, Python's way. */
static int64_t mod_signed(int64_t x, int64_t y, bool *by_zero)
{
    *by_zero |= y == 0;
    if (y == 0 || y == -1)
        return 0;
    int64_t r = x % y;
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

/* The remainder has the dividend's sign, C's way. */
static int64_t rem_signed(int64_t x, int64_t y, bool *by_zero)
{
    *by_zero |= y == 0;
    return y == 0 || y == -1 ? 0 : x % y;
}

static uint64_t mod_unsigned(uint64_t x, uint64_t y, bool *by_zero)
{
    *by_zero |= y == 0;
    return y == 0 ? 0 : x % y;
}

static double mod_double(double x, double y)
{
    double r = fmod(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

ON_FLOATS(div, x / y)
ON_SIGNED(div, int64_t, div_signed(x, y, arg))
ON_UNSIGNED(div, div_unsigned(x, y, arg))
ROWS(div)
ON_FLOATS(mod, mod_double(x, y))
ON_SIGNED(mod, int64_t, mod_signed(x, y, arg))
ON_UNSIGNED(mod, mod_unsigned(x, y, arg))
ROWS(mod)
ON_FLOATS(fmod, fmod(x, y))
ON_SIGNED(fmod, int64_t, rem_signed(x, y, arg))
#define fmod_u8  mod_u8
#define fmod_u16 mod_u16
#define fmod_u32 mod_u32
#define fmod_u64 mod_u64
ROWS(fmod)

/* A NaN on either side is the result. */
ON_FLOATS(min, x < y || x != x ? x : y)
ON_SIGNED(min, int64_t, x < y ? x : y)
ON_UNSIGNED(min, x < y ? x : y)
ROWS(min)
ON_FLOATS(max, x > y || x != x ? x : y)
ON_SIGNED(max, int64_t, x > y ? x : y)
ON_UNSIGNED(max, x > y ? x : y)
ROWS(max)

ON_FLOATS(prelu, x < 0 ? x * y : x)
ON_SIGNED(prelu, int64_t, (int64_t)(x < 0 ? (uint64_t)x * (uint64_t)y : (uint64_t)x))
ON_UNSIGNED(prelu, ((void)y, x))
ROWS(prelu)

static walk_rows float_add_rows = {FLOAT_ENTRIES(add)};

/* ---- two operands ---- */

static int run_divides(const struct op_ctx *c, walk_row *row, struct err *e)
{
    bool by_zero = false;
    op_pointwise_run(c, row, &by_zero);
    return by_zero ? op_bad(c, 1, e, "an integer is divided by 0") : 0;
}

#define OPERATOR(op)                                                                               \
    static int op##_shape(struct op_ctx *c, struct err *e)                                         \
    {                                                                                              \
        return op_pointwise_shape(c, op##_rows, DT_NONE, e);                                       \
    }                                                                                              \
    static int op##_run(const struct op_ctx *c, struct err *e)                                     \
    {                                                                                              \
        return run_divides(c, op##_rows[c->in[0]->type], e);                                       \
    }
OPERATOR(add)
OPERATOR(sub)
OPERATOR(mul)
OPERATOR(div)
OPERATOR(prelu)

/* Before opset 7 the second operand broadcast on request only, its dims aligned at `axis`. */
struct old_attr {
    int64_t broadcast, axis;
};
enum { AT_THE_END = 1 << 20 };
static const struct attr_def old_attrs[] = {
    ATTR(INT, old_attr, broadcast), ATTR(INT, old_attr, axis, .number = AT_THE_END), {0}};

/* Input 1 with ones appended, so that numpy's rule gives the old one. */
static int old_second(const struct op_ctx *c, struct tensor *ret, struct err *e)
{
    const struct old_attr *a = c->attr;
    int axis;
    if (op_need(c, 2, e))
        return -1;
    const struct tensor *x = c->in[0];
    *ret = *c->in[1];
    if (!a->broadcast || a->axis == AT_THE_END || ret->rank == 0)
        return 0;
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    if (axis + ret->rank > x->rank)
        return op_bad(c, 1, e, "it does not fit input 0 at axis %d", axis);
    while (axis + ret->rank < x->rank)
        ret->dims[ret->rank++] = 1;
    return 0;
}

#define OLD_OPERATOR(op)                                                                           \
    static int old_##op##_shape(struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        struct tensor second;                                                                      \
        struct op_ctx now = *c;                                                                    \
        if (old_second(c, &second, e))                                                             \
            return -1;                                                                             \
        now.in = (const struct tensor *[]){c->in[0], &second};                                     \
        return op##_shape(&now, e);                                                                \
    }                                                                                              \
    static int old_##op##_run(const struct op_ctx *c, struct err *e)                               \
    {                                                                                              \
        struct tensor second;                                                                      \
        struct op_ctx now = *c;                                                                    \
        if (old_second(c, &second, e))                                                             \
            return -1;                                                                             \
        now.in = (const struct tensor *[]){c->in[0], &second};                                     \
        return op##_run(&now, e);                                                                  \
    }
/* PRelu's slopes were one a channel. */
static void old_slopes(const struct op_ctx *c, struct tensor *ret)
{
    *ret = *c->in[1];
    while (ret->rank > 0 && ret->rank < c->in[0]->rank - 1)
        ret->dims[ret->rank++] = 1;
}

static int old_prelu_shape(struct op_ctx *c, struct err *e)
{
    struct tensor slopes;
    struct op_ctx now = *c;
    if (op_need(c, 2, e))
        return -1;
    old_slopes(c, &slopes);
    now.in = (const struct tensor *[]){c->in[0], &slopes};
    return prelu_shape(&now, e);
}

static int old_prelu_run(const struct op_ctx *c, struct err *e)
{
    struct tensor slopes;
    struct op_ctx now = *c;
    old_slopes(c, &slopes);
    now.in = (const struct tensor *[]){c->in[0], &slopes};
    return prelu_run(&now, e);
}

OLD_OPERATOR(add)
OLD_OPERATOR(sub)
OLD_OPERATOR(mul)
OLD_OPERATOR(div)

struct mod_attr {
    int64_t fmod;
};
static const struct attr_def mod_attrs[] = {ATTR(INT, mod_attr, fmod), {0}};

static int mod_shape(struct op_ctx *c, struct err *e)
{
    return op_pointwise_shape(c, mod_rows, DT_NONE, e);
}

static int mod_run(const struct op_ctx *c, struct err *e)
{
    const struct mod_attr *a = c->attr;
    return run_divides(c, (a->fmod ? fmod_rows : mod_rows)[c->in[0]->type], e);
}

/* ---- Pow: the exponent has a type of its own ---- */

static int pow_shape(struct op_ctx *c, struct err *e)
{
    struct tensor both;
    if (op_need(c, 2, e) || op_takes(c, 0, add_rows, e) || op_takes(c, 1, add_rows, e) ||
        op_broadcast(c->in, 2, &both, e))
        return -1;
    return op_out(c, 0, c->in[0]->type, both.rank, both.dims, e);
}

static uint64_t pow_int(uint64_t x, uint64_t y)
{
    uint64_t r = 1;
    for (; y; y >>= 1, x *= x)
        if (y & 1)
            r *= x;
    return r;
}

/* Squares, roots and cubes without pow(): what exported models are full of. */
KERNEL static bool pow_simple(int64_t n, const float *a, float y, float *o)
{
    if (y == 2) {
        IVDEP for (int64_t i = 0; i < n; i++) o[i] = a[i] * a[i];
    } else if (y == 3) {
        IVDEP for (int64_t i = 0; i < n; i++) o[i] = a[i] * a[i] * a[i];
    } else if (y == 0.5f) {
        IVDEP for (int64_t i = 0; i < n; i++) o[i] = sqrtf(a[i] + 0.0f);
    } else {
        return false;
    }
    return true;
}

struct pow_types {
    enum dtype x, y;
};

static bool is_int(enum dtype t)
{
    return !dtype_is_float(t) && t != DT_BOOL;
}

static void pow_doubles(int64_t n, char *const *p, const int64_t *s, const struct pow_types *t)
{
    double x[ROW_CHUNK], y[ROW_CHUNK];
    for (int64_t i = 0, m; i < n; i += m) {
        m = n - i < ROW_CHUNK ? n - i : ROW_CHUNK;
        row_loader(t->x)(m, p[0] + i * s[0] * (int64_t)dtype_size(t->x), s[0], x);
        row_loader(t->y)(m, p[1] + i * s[1] * (int64_t)dtype_size(t->y), s[1], y);
        for (int64_t k = 0; k < m; k++)
            x[k] = pow(x[k], y[k]);
        row_storer(t->x)(m, x, p[2] + i * s[2] * (int64_t)dtype_size(t->x), s[2]);
    }
}

static void pow_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct pow_types *t = arg;
    if (t->x == DT_F32 && s[0] == 1 && s[1] == 0 && s[2] == 1) {
        double y;
        row_loader(t->y)(1, p[1], 1, &y);
        if (pow_simple(n, (const void *)p[0], (float)y, (void *)p[2]))
            return;
    }
    if (t->x != DT_I64 || !is_int(t->y)) {
        pow_doubles(n, p, s, t);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double y;
        row_loader(t->y)(1, p[1] + i * s[1] * (int64_t)dtype_size(t->y), 1, &y);
        int64_t x = ((const int64_t *)(void *)p[0])[i * s[0]];
        int64_t low = x == 1 ? 1 : x == -1 ? (fmod(y, 2) != 0 ? -1 : 1) : 0;
        ((int64_t *)(void *)p[2])[i * s[2]] =
            y < 0 ? low : (int64_t)pow_int((uint64_t)x, (uint64_t)double_to_int64(y));
    }
}

static int pow_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    struct pow_types t = {c->in[0]->type, c->in[1]->type};
    op_pointwise_run(c, pow_row, &t);
    return 0;
}

OLD_OPERATOR(pow)

/* ---- any number of operands ---- */

static void walk_pair(const struct tensor *a, const struct tensor *b, struct tensor *o,
                      walk_row *row)
{
    struct walk w;
    walk_init(&w, o->rank, o->dims);
    walk_add_tensor(&w, a);
    walk_add_tensor(&w, b);
    walk_add_tensor(&w, o);
    walk_run(&w, row, NULL);
}

/* In order: ((in0 . in1) . in2) … The sums of a Mean are divided at the end. */
static int fold_run(const struct op_ctx *c, walk_rows rows)
{
    walk_row *row = rows[c->in[0]->type];
    struct tensor *y = c->out[0];
    if (c->n_in == 1) {
        walk_bytes(c->in[0], y);
        return 0;
    }
    walk_pair(c->in[0], c->in[1], y, row);
    for (int i = 2; i < c->n_in; i++)
        walk_pair(y, c->in[i], y, row);
    return 0;
}

#define FOLD(op, table)                                                                            \
    static int op##_shape(struct op_ctx *c, struct err *e)                                         \
    {                                                                                              \
        return op_pointwise_shape(c, table, DT_NONE, e);                                           \
    }                                                                                              \
    static int op##_run(const struct op_ctx *c, struct err *e)                                     \
    {                                                                                              \
        (void)e;                                                                                   \
        return fold_run(c, table);                                                                 \
    }
FOLD(min, min_rows)
FOLD(max, max_rows)
FOLD(sum, float_add_rows)

static int mean_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    struct tensor *y = c->out[0], n = {.type = y->type};
    float n32 = (float)c->n_in;
    double n64 = c->n_in;
    half n16 = (half)n32;
    n.data = y->type == DT_F32 ? (void *)&n32 : y->type == DT_F64 ? (void *)&n64 : (void *)&n16;
    fold_run(c, float_add_rows);
    walk_pair(y, &n, y, div_rows[y->type]);
    return 0;
}

#define ROW(name, stem, from, ...)                                                                 \
    {                                                                                              \
        name, ONNX, .since = from, .layout = L_ANY, .shape = stem##_shape, .run = stem##_run,      \
                    __VA_ARGS__                                                                    \
    }
#define TWO  .min_in = 2, .max_in = 2
#define BOTH .in = {FEATURE, FEATURE}, .out = {FEATURE}
#define ONE  .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE}
#define PAIR T_QUANT | T_SAMETYPE | T_INPLACE | T_SHAPE_DATA

#define OLD(name, stem, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .since = 1, .until = 6, .layout = L_PLAIN, .shape = old_##stem##_shape,        \
                    .run = old_##stem##_run, .attrs = old_attrs,                                   \
                    .attr_size = sizeof(struct old_attr), TWO, __VA_ARGS__                         \
    }

const struct op ops_binary[] = {
    OLD("Pow", pow, ONE, .traits = T_QUANT | T_LUT, .types = TYPES_NUMBER),
    OLD("Add", add, BOTH, .traits = PAIR, .types = TYPES_NUMBER),
    OLD("Sub", sub, BOTH, .traits = PAIR, .types = TYPES_NUMBER),
    OLD("Mul", mul, BOTH, .traits = PAIR, .types = TYPES_NUMBER),
    {"PRelu", ONNX, .since = 1, .until = 6, .layout = L_PLAIN, .shape = old_prelu_shape,
     .run = old_prelu_run, TWO, ONE, .traits = T_QUANT | T_LUT, .types = TYPES_NUMBER},
    OLD("Div", div, BOTH, .traits = T_QUANT | T_SHAPE_DATA, .types = TYPES_NUMBER),
    ROW("Add", add, 7, TWO, BOTH, .traits = PAIR | T_CHAIN_ADD, .types = TYPES_NUMBER),
    ROW("Sub", sub, 7, TWO, BOTH, .traits = PAIR, .types = TYPES_NUMBER),
    ROW("Mul", mul, 7, TWO, BOTH, .traits = PAIR, .types = TYPES_NUMBER),
    ROW("Div", div, 7, TWO, BOTH, .traits = T_QUANT | T_INPLACE | T_SHAPE_DATA,
        .types = TYPES_NUMBER),
    ROW("Pow", pow, 7, TWO, ONE, .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_NUMBER),
    ROW("PRelu", prelu, 7, TWO, ONE, .traits = T_QUANT | T_LUT | T_INPLACE, .types = TYPES_NUMBER),
    ROW("Mod", mod, 7, TWO, .traits = T_INPLACE | T_SHAPE_DATA, .attrs = mod_attrs,
        .attr_size = sizeof(struct mod_attr), .types = TYPES_NUMBER),
    ROW("Min", min, 1, .min_in = 1, .max_in = -1, .traits = T_VARIADIC | T_INPLACE | T_SHAPE_DATA,
        .types = TYPES_NUMBER),
    ROW("Max", max, 1, .min_in = 1, .max_in = -1, .traits = T_VARIADIC | T_INPLACE | T_SHAPE_DATA,
        .types = TYPES_NUMBER),
    ROW("Sum", sum, 1, .min_in = 1, .max_in = -1, .traits = T_VARIADIC | T_INPLACE,
        .types = TYPES_FLOAT),
    {"Mean", ONNX, .since = 1, .layout = L_ANY, .shape = sum_shape, .run = mean_run, .min_in = 1,
     .max_in = -1, .traits = T_VARIADIC | T_INPLACE, .types = TYPES_FLOAT},
    {0}};
