/*
 * Softmax, LogSoftmax, Hardmax. Since opset 13 along one axis; before, along all dims from `axis`
 * on. One group of n numbers, `step` apart, many groups
 * in a row: where the groups lie side by side and their elements do not (channels of a plain
 * tensor), COLUMNS of them go together.
 */
#include "worker/ops/vecmath.h"
#include "worker/ops/walk.h"

#include <math.h>

struct softmax_attr {
    int64_t axis;
};
enum mode { M_SOFT, M_LOG, M_HARD };
struct job {
    enum mode mode;
    int64_t n, in_step, out_step;
};

enum { COLUMNS = 64, LANES = 16 };

/* ---- one group, side by side (float32) ---- */

KERNEL static float largest(const float *x, int64_t n)
{
    float lane[LANES], m = -INFINITY;
    int64_t i = 0;
    for (int k = 0; k < LANES; k++)
        lane[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] = x[i + k] > lane[k] || x[i + k] != x[i + k] ? x[i + k] : lane[k];
    for (; i < n; i++)
        m = x[i] > m || x[i] != x[i] ? x[i] : m;
    for (int k = 0; k < LANES; k++)
        m = lane[k] > m || lane[k] != lane[k] ? lane[k] : m;
    return m;
}

/* Stores e^(x-m) when o is there; the sum. */
KERNEL static double exponents(const float *x, float *o, int64_t n, float m)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        float y[LANES];
        for (int k = 0; k < LANES; k++)
            y[k] = vec_exp(x[i + k] - m);
        for (int k = 0; k < LANES; k++)
            lane[k] += (double)y[k];
        for (int k = 0; o && k < LANES; k++)
            o[i + k] = y[k];
    }
    for (; i < n; i++) {
        float y = vec_exp(x[i] - m);
        sum += (double)y;
        if (o)
            o[i] = y;
    }
    for (int k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

KERNEL static void divide(float *o, int64_t n, float by)
{
    for (int64_t i = 0; i < n; i++)
        o[i] /= by;
}

KERNEL static void subtract(const float *x, float *o, int64_t n, float m, float log_sum)
{
    IVDEP for (int64_t i = 0; i < n; i++) o[i] = (x[i] - m) - log_sum;
}

static void group(const struct job *j, const float *x, float *o)
{
    float m = largest(x, j->n);
    double sum = exponents(x, j->mode == M_SOFT ? o : NULL, j->n, m);
    if (j->mode == M_SOFT)
        divide(o, j->n, (float)sum);
    else
        subtract(x, o, j->n, m, (float)log(sum));
}

/* ---- groups side by side, elements apart (float32) ---- */

KERNEL static void columns(const struct job *j, const float *x, float *o, int cols)
{
    float m[COLUMNS], by[COLUMNS];
    double sum[COLUMNS] = {0};
    for (int c = 0; c < cols; c++)
        m[c] = -INFINITY;
    for (int64_t k = 0; k < j->n; k++)
        for (int c = 0; c < cols; c++) {
            float v = x[k * j->in_step + c];
            m[c] = v > m[c] || v != v ? v : m[c];
        }
    bool log_of = j->mode == M_LOG;
    for (int64_t k = 0; k < j->n; k++)
        for (int c = 0; c < cols; c++) {
            float shifted = x[k * j->in_step + c] - m[c], y = vec_exp(shifted);
            sum[c] += (double)y;
            o[k * j->out_step + c] = log_of ? shifted : y;
        }
    for (int c = 0; c < cols; c++)
        by[c] = log_of ? (float)log(sum[c]) : (float)sum[c];
    for (int64_t k = 0; k < j->n; k++)
        for (int c = 0; c < cols; c++) {
            float *y = &o[k * j->out_step + c];
            *y = log_of ? *y - by[c] : *y / by[c];
        }
}

/* Short groups, side by side: turned so that COLUMNS of them go together. */
static void short_groups(const struct job *j, const float *x, int64_t x_step, float *o,
                         int64_t o_step, int cols)
{
    float in[LANES * COLUMNS] = {0}, out[LANES * COLUMNS];
    struct job turned = {j->mode, j->n, COLUMNS, COLUMNS};
    for (int c = 0; c < cols; c++)
        for (int64_t k = 0; k < j->n; k++)
            in[k * COLUMNS + c] = x[c * x_step + k];
    columns(&turned, in, out, cols);
    for (int c = 0; c < cols; c++)
        for (int64_t k = 0; k < j->n; k++)
            o[c * o_step + k] = out[k * COLUMNS + c];
}

/* ---- any strides, any float type ---- */

static double at(enum dtype t, const char *p, int64_t i)
{
    double v;
    row_loader(t)(1, p + i * (int64_t)dtype_size(t), 1, &v);
    return v;
}

static void put(enum dtype t, char *p, int64_t i, double v)
{
    row_storer(t)(1, &v, p + i * (int64_t)dtype_size(t), 1);
}

static void one_by_one(const struct job *j, enum dtype t, const char *x, char *o)
{
    double m = -INFINITY, sum = 0;
    int64_t best = 0;
    for (int64_t k = 0; k < j->n; k++) {
        double v = at(t, x, k * j->in_step);
        best = v > m ? k : best;
        m = v > m || v != v ? v : m;
    }
    for (int64_t k = 0; j->mode != M_HARD && k < j->n; k++)
        sum += exp(at(t, x, k * j->in_step) - m);
    for (int64_t k = 0; k < j->n; k++) {
        double v = at(t, x, k * j->in_step) - m;
        v = j->mode == M_HARD ? k == best : j->mode == M_LOG ? v - log(sum) : exp(v) / sum;
        put(t, o, k * j->out_step, v);
    }
}

#define ROWS_BY_ONE(dt, sfx, T)                                                                    \
    static void any_##sfx(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            one_by_one(arg, dt, p[0] + i * s[0] * (int64_t)sizeof(T),                              \
                       p[1] + i * s[1] * (int64_t)sizeof(T));                                      \
    }
DTYPES_FLOAT(ROWS_BY_ONE)

static void row_f32(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct job *j = arg;
    const float *x = (const void *)p[0];
    float *o = (void *)p[1];
    bool together = j->mode != M_HARD && j->in_step == 1 && j->out_step == 1;
    if (together && j->n < LANES) {
        for (int64_t i = 0; i < n; i += COLUMNS)
            short_groups(j, x + i * s[0], s[0], o + i * s[1], s[1],
                         (int)(n - i < COLUMNS ? n - i : COLUMNS));
    } else if (together) {
        for (int64_t i = 0; i < n; i++)
            group(j, x + i * s[0], o + i * s[1]);
    } else if (j->mode != M_HARD && s[0] == 1 && s[1] == 1) {
        for (int64_t i = 0; i < n; i += COLUMNS)
            columns(j, x + i, o + i, (int)(n - i < COLUMNS ? n - i : COLUMNS));
    } else {
        any_f32(n, p, s, arg);
    }
}
static walk_rows rows = {[DT_F32] = row_f32, [DT_F64] = any_f64, [DT_F16] = any_f16};

/* ---- the operators ---- */

static int softmax_shape(struct op_ctx *c, struct err *e)
{
    const struct softmax_attr *a = c->attr;
    int axis;
    if (op_need(c, 1, e) || op_takes(c, 0, rows, e))
        return -1;
    int rank = c->in[0]->rank;
    if (c->node->opset < 13 && a->axis == rank) /* the old form allows one past the end */
        return op_shape_same(c, e);
    return op_axis(a->axis, rank ? rank : 1, &axis, e) ? -1 : op_shape_same(c, e);
}

static void walk_groups(const struct op_ctx *c, int rank, const int64_t *dims, const int64_t *in,
                        const int64_t *out, struct job *j)
{
    struct walk w;
    walk_init(&w, rank, dims);
    walk_add(&w, c->in[0]->data, dtype_size(c->in[0]->type), in);
    walk_add(&w, c->out[0]->data, dtype_size(c->in[0]->type), out);
    walk_run(&w, rows[c->in[0]->type], j);
}

static int run_axis(const struct op_ctx *c, enum mode mode, struct err *e)
{
    const struct softmax_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t in[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX], dims[TENSOR_RANK_MAX];
    int axis = 0, rank = x->rank;
    if (rank && op_axis(a->axis, rank, &axis, e))
        return -1;
    tensor_strides(x, in);
    tensor_strides(c->out[0], out);
    for (int d = 0; d < rank; d++)
        dims[d] = d == axis ? 1 : x->dims[d];
    struct job j = {mode, 1, 1, 1};
    if (rank)
        j = (struct job){mode, x->dims[axis], in[axis], out[axis]};
    if (j.n > 0)
        walk_groups(c, rank, dims, in, out, &j);
    return 0;
}

/* All dims from `axis` on, which lie equally far apart in either layout: side by side, or for an
 * axis behind the channels of a channels-last tensor, the channels apart. */
static int run_flat(const struct op_ctx *c, enum mode mode, struct err *e)
{
    const struct softmax_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int axis = x->rank;
    if (a->axis != x->rank && x->rank && op_axis(a->axis, x->rank, &axis, e))
        return -1;
    int64_t n = dims_product(x->dims, axis, x->rank);
    if (n == 0)
        return 0;
    if (x->layout == LAYOUT_CL && x->rank >= 3 && axis >= 2) {
        int64_t channels = x->dims[1];
        int64_t dims[] = {x->dims[0] * dims_product(x->dims, 2, axis), channels};
        int64_t strides[] = {n * channels, 1};
        struct job j = {mode, n, channels, channels};
        walk_groups(c, 2, dims, strides, strides, &j);
        return 0;
    }
    int64_t groups = dims_product(x->dims, 0, axis);
    struct job j = {mode, n, 1, 1};
    walk_groups(c, 1, &groups, &n, &n, &j);
    return 0;
}

#define OPERATOR(name, mode)                                                                       \
    static int name##_run(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        return run_axis(c, mode, e);                                                               \
    }                                                                                              \
    static int name##_flat_run(const struct op_ctx *c, struct err *e)                              \
    {                                                                                              \
        return run_flat(c, mode, e);                                                               \
    }
OPERATOR(softmax, M_SOFT)
OPERATOR(log_softmax, M_LOG)
OPERATOR(hardmax, M_HARD)

static const struct attr_def last_attrs[] = {ATTR(INT, softmax_attr, axis, .number = -1), {0}};
static const struct attr_def first_attrs[] = {ATTR(INT, softmax_attr, axis, .number = 1), {0}};

/* Hardmax takes the first of equals: its elements must lie in their order. */
#define OLD_LAYOUT_softmax     L_ANY
#define OLD_LAYOUT_log_softmax L_ANY
#define OLD_LAYOUT_hardmax     L_PLAIN
#define ROWS(name, stem, ...)                                                                      \
    {name,                                                                                         \
     ONNX,                                                                                         \
     .since = 1,                                                                                   \
     .until = 12,                                                                                  \
     .min_in = 1,                                                                                  \
     .max_in = 1,                                                                                  \
     .layout = OLD_LAYOUT_##stem,                                                                  \
     .attrs = first_attrs,                                                                         \
     .attr_size = sizeof(struct softmax_attr),                                                     \
     .shape = softmax_shape,                                                                       \
     .run = stem##_flat_run,                                                                       \
     __VA_ARGS__},                                                                                 \
    {                                                                                              \
        name, ONNX, .since = 13, .min_in = 1, .max_in = 1, .layout = L_ANY, .attrs = last_attrs,   \
                    .attr_size = sizeof(struct softmax_attr), .shape = softmax_shape,              \
                    .run = stem##_run, __VA_ARGS__                                                 \
    }
#define QUANT .in = {FEATURE}, .out = {FEATURE}, .traits = T_QUANT | T_INPLACE

const struct op ops_softmax[] = {ROWS("Softmax", softmax, QUANT, .types = TYPES_FLOAT),
                                 ROWS("LogSoftmax", log_softmax, QUANT, .types = TYPES_FLOAT),
                                 ROWS("Hardmax", hardmax, .traits = 0, .types = TYPES_FLOAT),
                                 {0}};
