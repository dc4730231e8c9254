/*
 * Reductions: a walk over the input and its accumulators, whose strides are 0 along what is
 * reduced, then one pass that makes the results of them. Floats accumulate in double, integers in
 * 64 bits; the order is that of the walk, always the same for a shape and layout.
 */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

/* ---- rows: p[0] the input, p[1] the accumulators (p[2]: the maxima, for LogSumExp) ---- */

enum { LANES = 8 };

/* acc' = step(acc, x). A row along reduced dims goes in lanes that are joined in order. */
#define REDUCE_ROW(attr, name, T, A, neutral, step, join)                                          \
    attr static void name(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *in = (const void *)p[0];                                                          \
        A *out = (void *)p[1];                                                                     \
        int64_t a = s[0], z = s[1], i = 0;                                                         \
        if (z != 0) {                                                                              \
            for (; i < n; i++) {                                                                   \
                A acc = out[i * z], x = (A)in[i * a];                                              \
                out[i * z] = step;                                                                 \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        A lane[LANES];                                                                             \
        for (int k = 0; k < LANES; k++)                                                            \
            lane[k] = neutral;                                                                     \
        for (; i + LANES <= n; i += LANES)                                                         \
            for (int k = 0; k < LANES; k++) {                                                      \
                A acc = lane[k], x = (A)in[(i + k) * a];                                           \
                lane[k] = step;                                                                    \
            }                                                                                      \
        for (; i < n; i++) {                                                                       \
            A acc = lane[0], x = (A)in[i * a];                                                     \
            lane[0] = step;                                                                        \
        }                                                                                          \
        for (int k = 0; k < LANES; k++) {                                                          \
            A acc = *out, x = lane[k];                                                             \
            *out = join;                                                                           \
        }                                                                                          \
    }

#define ON_FLOATS(op, neutral, step, join)                                                         \
    REDUCE_ROW(KERNEL, op##_f32, float, double, neutral, step, join)                               \
    REDUCE_ROW(, op##_f64, double, double, neutral, step, join)                                    \
    REDUCE_ROW(, op##_f16, half, double, neutral, step, join)
#define ON_INTS(op, lowest, ulowest, step, join)                                                   \
    REDUCE_ROW(, op##_i8, int8_t, int64_t, lowest, step, join)                                     \
    REDUCE_ROW(, op##_i16, int16_t, int64_t, lowest, step, join)                                   \
    REDUCE_ROW(, op##_i32, int32_t, int64_t, lowest, step, join)                                   \
    REDUCE_ROW(, op##_i64, int64_t, int64_t, lowest, step, join)                                   \
    REDUCE_ROW(, op##_u8, uint8_t, uint64_t, ulowest, step, join)                                  \
    REDUCE_ROW(, op##_u16, uint16_t, uint64_t, ulowest, step, join)                                \
    REDUCE_ROW(, op##_u32, uint32_t, uint64_t, ulowest, step, join)                                \
    REDUCE_ROW(, op##_u64, uint64_t, uint64_t, ulowest, step, join)
#define ENTRIES(op)                                                                                \
    [DT_F32] = op##_f32, [DT_F64] = op##_f64, [DT_F16] = op##_f16, [DT_I8] = op##_i8,              \
    [DT_I16] = op##_i16, [DT_I32] = op##_i32, [DT_I64] = op##_i64, [DT_U8] = op##_u8,              \
    [DT_U16] = op##_u16, [DT_U32] = op##_u32, [DT_U64] = op##_u64

/* Integers wrap: the arithmetic is that of uint64_t. */
#define PLUS  ((uint64_t)acc + (uint64_t)x)
#define TIMES ((uint64_t)acc * (uint64_t)x)
ON_FLOATS(sum, 0, acc + x, acc + x)
ON_INTS(sum, 0, 0, PLUS, PLUS)
ON_FLOATS(square, 0, acc + x * x, acc + x)
ON_INTS(square, 0, 0, (uint64_t)acc + (uint64_t)x * (uint64_t)x, PLUS)
ON_FLOATS(abs, 0, acc + (x < 0 ? -x : x), acc + x)
ON_INTS(abs, 0, 0, (uint64_t)acc + ((int64_t)x < 0 ? 0 - (uint64_t)x : (uint64_t)x), PLUS)
ON_FLOATS(prod, 1, acc *x, acc *x)
ON_INTS(prod, 1, 1, TIMES, TIMES)
#define LARGER   (x > acc ? x : acc)
#define LARGER_F (x > acc || x != x ? x : acc)
ON_FLOATS(max, -INFINITY, LARGER_F, LARGER_F)
ON_INTS(max, INT64_MIN, 0, LARGER, LARGER)
#define SMALLER   (x < acc ? x : acc)
#define SMALLER_F (x < acc || x != x ? x : acc)
ON_FLOATS(min, INFINITY, SMALLER_F, SMALLER_F)
ON_INTS(min, INT64_MAX, UINT64_MAX, SMALLER, SMALLER)

static walk_rows sum_rows = {ENTRIES(sum)}, square_rows = {ENTRIES(square)},
                 abs_rows = {ENTRIES(abs)}, prod_rows = {ENTRIES(prod)},
                 max_rows = {ENTRIES(max), [DT_BOOL] = max_u8},
                 min_rows = {ENTRIES(min), [DT_BOOL] = min_u8};

/* acc += e^(x - max) */
static void exp_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const enum dtype *t = arg;
    double x;
    for (int64_t i = 0; i < n; i++) {
        row_loader (*t)(1, p[0] + i * s[0] * (int64_t)dtype_size(*t), 1, &x);
        double m = ((const double *)(void *)p[2])[i * s[2]];
        ((double *)(void *)p[1])[i * s[1]] += isinf(m) ? (x == m) : exp(x - m);
    }
}

/* ---- kinds ---- */

enum finish { F_AS_IS, F_MEAN, F_ROOT, F_LOG, F_LOG_SUM_EXP };

struct kind {
    walk_row *const *rows;
    enum finish finish;
    double start;         /* floats */
    int64_t start_signed; /* integers: the result for an empty set */
    uint64_t start_unsigned;
};

static const struct kind k_sum = {sum_rows, F_AS_IS, 0, 0, 0}, k_mean = {sum_rows, F_MEAN, 0, 0, 0},
                         k_square = {square_rows, F_AS_IS, 0, 0, 0},
                         k_l2 = {square_rows, F_ROOT, 0, 0, 0}, k_l1 = {abs_rows, F_AS_IS, 0, 0, 0},
                         k_log_sum = {sum_rows, F_LOG, 0, 0, 0},
                         k_log_sum_exp = {max_rows, F_LOG_SUM_EXP, -INFINITY, INT64_MIN, 0},
                         k_prod = {prod_rows, F_AS_IS, 1, 1, 1},
                         k_max = {max_rows, F_AS_IS, -INFINITY, INT64_MIN, 0},
                         k_min = {min_rows, F_AS_IS, INFINITY, INT64_MAX, UINT64_MAX};

/* ---- shape ---- */

struct reduce_attr {
    struct ints axes;
    int64_t keepdims, noop_with_empty_axes;
};
static const struct attr_def reduce_attrs[] = {ATTR(INTS, reduce_attr, axes),
                                               ATTR(INT, reduce_attr, keepdims, .number = 1),
                                               ATTR(INT, reduce_attr, noop_with_empty_axes),
                                               {0}};

/* Which dims go. None, by noop_with_empty_axes: each element is reduced by itself. */
static int reduced_dims(const struct op_ctx *c, bool *ret, struct err *e)
{
    const struct reduce_attr *a = c->attr;
    int axes[TENSOR_RANK_MAX], n;
    int rc = op_input_axes(c, 1, &a->axes, c->in[0]->rank, axes, &n, e);
    if (rc)
        return rc;
    bool all = n <= 0 && !a->noop_with_empty_axes;
    for (int d = 0; d < c->in[0]->rank; d++)
        ret[d] = all;
    for (int k = 0; k < n; k++)
        ret[axes[k]] = true;
    return 0;
}

static int reduce_shape(struct op_ctx *c, const struct kind *k, struct err *e)
{
    const struct reduce_attr *a = c->attr;
    bool gone[TENSOR_RANK_MAX];
    int64_t dims[TENSOR_RANK_MAX];
    int rank = 0;
    if (op_need(c, 1, e) || op_takes(c, 0, k->rows, e))
        return -1;
    int rc = reduced_dims(c, gone, e);
    if (rc)
        return rc;
    for (int d = 0; d < c->in[0]->rank; d++) {
        if (!gone[d])
            dims[rank++] = c->in[0]->dims[d];
        else if (a->keepdims)
            dims[rank++] = 1;
    }
    return op_out(c, 0, c->in[0]->type, rank, dims, e);
}

/* Accumulators, and maxima beside them: 8 bytes each an output. */
static int reduce_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    *ret_prep = NULL;
    c->scratch_bytes = 2 * 8 * (size_t)tensor_count(c->out[0]);
    return 0;
}

/* ---- run ---- */

/* The output's strides in the input's dims; 0 along what is reduced. */
static void kept_strides(const struct op_ctx *c, const bool *gone, int64_t *ret)
{
    const struct reduce_attr *a = c->attr;
    int64_t out[TENSOR_RANK_MAX];
    tensor_strides(c->out[0], out);
    for (int d = 0, k = 0; d < c->in[0]->rank; d++) {
        ret[d] = gone[d] ? 0 : out[k];
        k += !gone[d] || a->keepdims;
    }
}

static void walk_input(const struct op_ctx *c, const int64_t *kept, void *acc, void *maxima,
                       walk_row *row, void *arg)
{
    struct walk w;
    int64_t in[TENSOR_RANK_MAX];
    tensor_strides(c->in[0], in);
    walk_init(&w, c->in[0]->rank, c->in[0]->dims);
    walk_add(&w, c->in[0]->data, dtype_size(c->in[0]->type), in);
    walk_add(&w, acc, 8, kept);
    if (maxima)
        walk_add(&w, maxima, 8, kept);
    walk_run(&w, row, arg);
}

static void finish_floats(const struct kind *k, double *acc, const double *maxima, int64_t n,
                          double count)
{
    for (int64_t i = 0; i < n; i++) {
        if (k->finish == F_MEAN)
            acc[i] /= count;
        else if (k->finish == F_ROOT)
            acc[i] = sqrt(acc[i]);
        else if (k->finish == F_LOG)
            acc[i] = log(acc[i]);
        else if (k->finish == F_LOG_SUM_EXP)
            acc[i] = isinf(maxima[i]) ? maxima[i] : log(acc[i]) + maxima[i];
    }
}

static void run_floats(const struct op_ctx *c, const struct kind *k, const int64_t *kept,
                       double count)
{
    int64_t n = tensor_count(c->out[0]);
    enum dtype t = c->in[0]->type;
    double *acc = c->scratch, *maxima = acc + n;
    for (int64_t i = 0; i < n; i++)
        acc[i] = maxima[i] = k->start;
    if (k->finish == F_LOG_SUM_EXP) {
        walk_input(c, kept, maxima, NULL, k->rows[t], NULL);
        memset(acc, 0, (size_t)n * 8);
        walk_input(c, kept, acc, maxima, exp_row, &t);
    } else {
        walk_input(c, kept, acc, NULL, k->rows[t], NULL);
    }
    finish_floats(k, acc, maxima, n, count);
    row_storer(t)(n, acc, c->out[0]->data, 1);
}

static bool is_unsigned(enum dtype t)
{
    return t == DT_BOOL || t == DT_U8 || t == DT_U16 || t == DT_U32 || t == DT_U64;
}

/* What an integer kind makes of its accumulator; logarithms and roots are truncated. */
static int64_t finish_int(const struct kind *k, int64_t acc, int64_t count, bool no_sign)
{
    double v = no_sign ? (double)(uint64_t)acc : (double)acc;
    switch (k->finish) {
    case F_MEAN:
        return count == 0 ? 0 : no_sign ? (int64_t)((uint64_t)acc / (uint64_t)count) : acc / count;
    case F_ROOT:
        return double_to_int64(sqrt(v));
    case F_LOG:
        return double_to_int64(log(v));
    default:
        return acc;
    }
}

static void run_ints(const struct op_ctx *c, const struct kind *k, const int64_t *kept,
                     int64_t count)
{
    int64_t n = tensor_count(c->out[0]), *acc = c->scratch;
    enum dtype t = c->in[0]->type;
    bool no_sign = is_unsigned(t);
    for (int64_t i = 0; i < n; i++)
        acc[i] = no_sign ? (int64_t)k->start_unsigned : k->start_signed;
    walk_input(c, kept, acc, NULL, k->rows[t], NULL);
    size_t size = dtype_size(t);
    for (int64_t i = 0; i < n; i++) {
        int64_t v = finish_int(k, acc[i], count, no_sign); /* little-endian: the low bytes */
        memcpy((char *)c->out[0]->data + (size_t)i * size, &v, size);
    }
}

/* log(sum(e^x)), truncated. */
static void run_int_exp(const struct op_ctx *c, const struct kind *k, const int64_t *kept)
{
    int64_t n = tensor_count(c->out[0]), *whole;
    enum dtype t = c->in[0]->type;
    double *acc = c->scratch, *maxima = acc + n;
    whole = (void *)maxima;
    for (int64_t i = 0; i < n; i++)
        whole[i] = is_unsigned(t) ? (int64_t)k->start_unsigned : k->start_signed;
    walk_input(c, kept, whole, NULL, k->rows[t], NULL);
    for (int64_t i = 0; i < n; i++)
        maxima[i] = is_unsigned(t) ? (double)(uint64_t)whole[i] : (double)whole[i];
    memset(acc, 0, (size_t)n * 8);
    walk_input(c, kept, acc, maxima, exp_row, &t);
    finish_floats(k, acc, maxima, n, 1);
    row_storer(t)(n, acc, c->out[0]->data, 1);
}

static int reduce_run(const struct op_ctx *c, const struct kind *k, struct err *e)
{
    bool gone[TENSOR_RANK_MAX];
    int64_t kept[TENSOR_RANK_MAX], count = 1;
    if (reduced_dims(c, gone, e))
        return -1;
    for (int d = 0; d < c->in[0]->rank; d++)
        count *= gone[d] ? c->in[0]->dims[d] : 1;
    kept_strides(c, gone, kept);
    if (dtype_is_float(c->in[0]->type))
        run_floats(c, k, kept, (double)count);
    else if (k->finish == F_LOG_SUM_EXP)
        run_int_exp(c, k, kept);
    else
        run_ints(c, k, kept, count);
    return 0;
}

#define OPERATOR(kind)                                                                             \
    static int shape_##kind(struct op_ctx *c, struct err *e)                                       \
    {                                                                                              \
        return reduce_shape(c, &k_##kind, e);                                                      \
    }                                                                                              \
    static int run_##kind(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        return reduce_run(c, &k_##kind, e);                                                        \
    }
OPERATOR(sum)
OPERATOR(mean)
OPERATOR(square)
OPERATOR(l2)
OPERATOR(l1)
OPERATOR(log_sum)
OPERATOR(log_sum_exp)
OPERATOR(prod)
OPERATOR(max)
OPERATOR(min)

#define ROW(name, kind, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .since = 1, .min_in = 1, .max_in = 2, .layout = L_ANY, .attrs = reduce_attrs,  \
                    .attr_size = sizeof(struct reduce_attr), .shape = shape_##kind,                \
                    .prepare = reduce_prepare, .run = run_##kind, __VA_ARGS__                      \
    }
#define QUANT .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE}, .traits = T_QUANT

const struct op ops_reduce[] = {
    ROW("ReduceSum", sum, QUANT, .types = TYPES_NUMBER),
    ROW("ReduceMean", mean, QUANT, .types = TYPES_NUMBER),
    ROW("ReduceL1", l1, QUANT, .types = TYPES_NUMBER),
    ROW("ReduceL2", l2, QUANT, .types = TYPES_NUMBER),
    ROW("ReduceMax", max, QUANT | T_LOOKTHRU, .types = TYPES_ALL),
    ROW("ReduceMin", min, .traits = 0, .types = TYPES_ALL),
    ROW("ReduceProd", prod, .traits = T_SHAPE_DATA, .types = TYPES_NUMBER),
    ROW("ReduceSumSquare", square, .traits = 0, .types = TYPES_NUMBER),
    ROW("ReduceLogSum", log_sum, .traits = 0, .types = TYPES_NUMBER),
    ROW("ReduceLogSumExp", log_sum_exp, .traits = 0, .types = TYPES_ALL),
    {0}};
