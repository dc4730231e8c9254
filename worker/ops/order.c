/* Order and position: ArgMax, ArgMin, TopK, CumSum, NonZero. */
#include "worker/ops/walk.h"

#include <string.h>

struct order_attr {
    int64_t axis, keepdims, select_last_index, largest, sorted, exclusive, reverse, k;
};

static int takes_numbers(const struct op_ctx *c, struct err *e)
{
    return c->in[0]->type == DT_BOOL ? op_bad(c, 0, e, "it takes numbers") : 0;
}

/* ---- comparing two elements of a type ---- */

/* < 0, 0, > 0; a NaN is above every number. */
typedef int compare_fn(const char *a, const char *b);

#define COMPARE_FLOAT(dt, sfx, T)                                                                  \
    static int compare_##sfx(const char *a, const char *b)                                         \
    {                                                                                              \
        T x = *(const T *)(const void *)a, y = *(const T *)(const void *)b;                        \
        if (x != x || y != y)                                                                      \
            return (x != x) - (y != y);                                                            \
        return (x > y) - (x < y);                                                                  \
    }
#define COMPARE_INT(dt, sfx, T)                                                                    \
    static int compare_##sfx(const char *a, const char *b)                                         \
    {                                                                                              \
        T x = *(const T *)(const void *)a, y = *(const T *)(const void *)b;                        \
        return (x > y) - (x < y);                                                                  \
    }
DTYPES_FLOAT(COMPARE_FLOAT)
DTYPES_INT(COMPARE_INT)

static compare_fn *const compares[DT_COUNT] = {
#define X(dt, sfx, T) [dt] = compare_##sfx,
    DTYPES_NUMBER(X)
#undef X
        [DT_BOOL] = compare_u8};

/* ---- ArgMax, ArgMin ---- */

static int arg_shape(struct op_ctx *c, struct err *e)
{
    const struct order_attr *a = c->attr;
    int64_t dims[TENSOR_RANK_MAX];
    int axis, rank = 0;
    if (op_need(c, 1, e) || takes_numbers(c, e) || op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    if (c->in[0]->dims[axis] == 0)
        return op_bad(c, 0, e, "axis %d is empty", axis);
    for (int d = 0; d < c->in[0]->rank; d++)
        if (d != axis || a->keepdims)
            dims[rank++] = d == axis ? 1 : c->in[0]->dims[d];
    return op_out(c, 0, DT_I64, rank, dims, e);
}

struct arg_job {
    int64_t n, step; /* elements along the axis, bytes between them */
    int64_t size;    /* bytes of an element */
    compare_fn *compare;
    int sign; /* 1: the largest; -1: the smallest */
    bool last;
};

static void arg_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct arg_job *j = arg;
    for (int64_t i = 0; i < n; i++) {
        const char *x = p[0] + i * s[0] * j->size, *best = x;
        int64_t at = 0;
        for (int64_t k = 1; k < j->n; k++) {
            int order = j->sign * j->compare(x + k * j->step, best);
            if (order > 0 || (order == 0 && j->last)) {
                best = x + k * j->step;
                at = k;
            }
        }
        ((int64_t *)(void *)p[1])[i * s[1]] = at;
    }
}

/* The common case: float32, the first of the largest. */
static void arg_max_f32(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct arg_job *j = arg;
    int64_t step = j->step / (int64_t)sizeof(float);
    for (int64_t i = 0; i < n; i++) {
        const float *x = (const float *)(const void *)p[0] + i * s[0];
        float best = x[0];
        int64_t at = 0;
        for (int64_t k = 1; k < j->n; k++)
            if (x[k * step] > best || (x[k * step] != x[k * step] && best == best)) {
                best = x[k * step];
                at = k;
            }
        ((int64_t *)(void *)p[1])[i * s[1]] = at;
    }
}

static int arg_run(const struct op_ctx *c, int sign, struct err *e)
{
    const struct order_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t in[TENSOR_RANK_MAX], own[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX];
    int axis;
    if (op_axis(a->axis, x->rank, &axis, e))
        return -1;
    tensor_strides(x, in);
    tensor_strides(c->out[0], own);
    struct walk w;
    walk_init(&w, x->rank, x->dims);
    w.dims[axis] = 1;
    for (int d = 0, k = 0; d < x->rank; d++) {
        out[d] = d == axis ? 0 : own[k];
        k += d != axis || a->keepdims;
    }
    int64_t size = (int64_t)dtype_size(x->type);
    struct arg_job j = {x->dims[axis], in[axis] * size,          size, compares[x->type],
                        sign,          a->select_last_index != 0};
    walk_add(&w, x->data, (size_t)size, in);
    walk_add(&w, c->out[0]->data, 8, out);
    walk_run(&w, x->type == DT_F32 && sign > 0 && !j.last ? arg_max_f32 : arg_row, &j);
    return 0;
}

static int arg_max_run(const struct op_ctx *c, struct err *e)
{
    return arg_run(c, 1, e);
}

static int arg_min_run(const struct op_ctx *c, struct err *e)
{
    return arg_run(c, -1, e);
}

/* ---- TopK ---- */

static int top_k_of(const struct op_ctx *c, int64_t *ret, struct err *e)
{
    const struct order_attr *a = c->attr;
    *ret = a->k;
    return c->node->opset < 10 ? 0 : op_input_int(c, 1, ret, e);
}

static int top_k_shape(struct op_ctx *c, struct err *e)
{
    const struct order_attr *a = c->attr;
    int64_t k, dims[TENSOR_RANK_MAX];
    int axis;
    if (op_need(c, c->node->opset < 10 ? 1 : 2, e) || takes_numbers(c, e) ||
        op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    int rc = top_k_of(c, &k, e);
    if (rc)
        return rc;
    if (k < 0 || k > c->in[0]->dims[axis])
        return op_bad(c, 0, e, "axis %d does not have %lld elements", axis, (long long)k);
    memcpy(dims, c->in[0]->dims, sizeof dims);
    dims[axis] = k;
    return op_out(c, 0, c->in[0]->type, c->in[0]->rank, dims, e) ||
                   op_out(c, 1, DT_I64, c->in[0]->rank, dims, e)
               ? -1
               : 0;
}

static int top_k_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    const struct order_attr *a = c->attr;
    int axis;
    if (op_axis(a->axis, c->in[0]->rank, &axis, e))
        return -1;
    c->scratch_bytes = (size_t)c->in[0]->dims[axis] * sizeof(int64_t);
    *ret_prep = NULL;
    return 0;
}

struct top_job {
    const char *x;
    int64_t step;
    compare_fn *compare;
    int sign;
};

/* Does element a come before element b? Equal ones by their place. */
static bool comes_first(const struct top_job *j, int64_t a, int64_t b)
{
    int order = j->sign * j->compare(j->x + a * j->step, j->x + b * j->step);
    return order > 0 || (order == 0 && a < b);
}

/* The last of all goes to the root. */
static void sift_down(const struct top_job *j, int64_t *heap, int64_t at, int64_t n)
{
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && comes_first(j, heap[child], heap[child + 1]))
            child++;
        if (!comes_first(j, heap[at], heap[child]))
            return;
        int64_t t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
    }
}

/* The k first of n, in order: a heap of the k best seen, then sorted. */
static void top_of(const struct top_job *j, int64_t n, int64_t k, int64_t *heap)
{
    for (int64_t i = 0; i < k; i++)
        heap[i] = i;
    for (int64_t i = k / 2 - 1; i >= 0; i--)
        sift_down(j, heap, i, k);
    for (int64_t i = k; i < n; i++)
        if (comes_first(j, i, heap[0])) {
            heap[0] = i;
            sift_down(j, heap, 0, k);
        }
    for (int64_t m = k - 1; m > 0; m--) {
        int64_t t = heap[0];
        heap[0] = heap[m];
        heap[m] = t;
        sift_down(j, heap, 0, m);
    }
}

static int top_k_run(const struct op_ctx *c, struct err *e)
{
    const struct order_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    struct tensor *values = c->out[0], *places = c->n_out > 1 ? c->out[1] : NULL;
    int64_t k, *heap = c->scratch;
    int axis;
    if (op_axis(a->axis, x->rank, &axis, e) || top_k_of(c, &k, e))
        return -1;
    size_t size = dtype_size(x->type);
    int64_t n = x->dims[axis], inner = dims_product(x->dims, axis + 1, x->rank);
    int64_t outer = k ? dims_product(x->dims, 0, axis) : 0;
    for (int64_t g = 0; g < outer * inner; g++) {
        int64_t base = g / inner * n * inner + g % inner, to = g / inner * k * inner + g % inner;
        struct top_job j = {(const char *)x->data + (size_t)base * size, inner * (int64_t)size,
                            compares[x->type], a->largest ? 1 : -1};
        top_of(&j, n, k, heap);
        for (int64_t i = 0; i < k; i++) {
            if (values)
                memcpy((char *)values->data + (size_t)(to + i * inner) * size,
                       j.x + heap[i] * j.step, size);
            if (places)
                ((int64_t *)places->data)[to + i * inner] = heap[i];
        }
    }
    return 0;
}

/* ---- CumSum ---- */

static int cum_sum_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 2, e) || takes_numbers(c, e))
        return -1;
    if (tensor_count(c->in[1]) != 1)
        return op_bad(c, 1, e, "the axis must be one number");
    return op_shape_same(c, e);
}

#define SUM_ROW(dt, sfx, T, A)                                                                     \
    static void sums_##sfx(int64_t n, const char *x, char *o, int64_t step, bool exclusive)        \
    {                                                                                              \
        A sum = 0;                                                                                 \
        for (int64_t i = 0; i < n; i++) {                                                          \
            T v = ((const T *)(const void *)x)[i * step];                                          \
            A with = (A)(sum + (A)v);                                                              \
            ((T *)(void *)o)[i * step] = (T)(exclusive ? sum : with);                              \
            sum = with;                                                                            \
        }                                                                                          \
    }
#define SUM_FLOAT(dt, sfx, T) SUM_ROW(dt, sfx, T, double)
#define SUM_INT(dt, sfx, T)   SUM_ROW(dt, sfx, T, uint64_t)
DTYPES_FLOAT(SUM_FLOAT)
DTYPES_INT(SUM_INT)
static void (*const sums[DT_COUNT])(int64_t, const char *, char *, int64_t, bool) = {
#define X(dt, sfx, T) [dt] = sums_##sfx,
    DTYPES_NUMBER(X)
#undef X
};

static int cum_sum_run(const struct op_ctx *c, struct err *e)
{
    const struct order_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t raw;
    int axis;
    if (op_input_int(c, 1, &raw, e) || op_axis(raw, x->rank, &axis, e))
        return -1;
    size_t size = dtype_size(x->type);
    int64_t n = x->dims[axis], inner = dims_product(x->dims, axis + 1, x->rank);
    int64_t groups = tensor_count(x) ? tensor_count(x) / n : 0;
    for (int64_t g = 0; g < groups; g++) {
        int64_t base = g / inner * n * inner + g % inner;
        base += a->reverse ? (n - 1) * inner : 0;
        sums[x->type](n, (const char *)x->data + (size_t)base * size,
                      (char *)c->out[0]->data + (size_t)base * size, a->reverse ? -inner : inner,
                      a->exclusive != 0);
    }
    return 0;
}

/* ---- NonZero: its shape is known when its input is ---- */

static bool is_set(const struct tensor *x, int64_t i)
{
    return tensor_num(x, i) != 0;
}

static int non_zero_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0];
    int64_t n = tensor_count(x), dims[2] = {x->rank, 0};
    if (n > 0 && !x->data)
        return SHAPE_WAITS;
    for (int64_t i = 0; i < n; i++)
        dims[1] += is_set(x, i);
    return op_out(c, 0, DT_I64, 2, dims, e);
}

static int non_zero_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct tensor *x = c->in[0];
    int64_t n = tensor_count(x), found = c->out[0]->dims[1], *to = c->out[0]->data;
    for (int64_t i = 0, k = 0; i < n; i++) {
        if (!is_set(x, i))
            continue;
        int64_t rest = i;
        for (int d = x->rank - 1; d >= 0; d--) {
            to[d * found + k] = rest % x->dims[d];
            rest /= x->dims[d];
        }
        k++;
    }
    return 0;
}

/* ---- the rows ---- */

#define A(field, ...) ATTR(INT, order_attr, field, __VA_ARGS__)
static const struct attr_def arg_attrs[] = {
    A(axis), A(keepdims, .number = 1), A(select_last_index), {0}};
static const struct attr_def top_attrs[] = {
    A(axis, .number = -1), A(largest, .number = 1), A(sorted, .number = 1), {0}};
static const struct attr_def top_1_attrs[] = {
    A(axis, .number = -1), A(k, .required = true), A(largest, .number = 1), {0}};
static const struct attr_def cum_sum_attrs[] = {A(exclusive), A(reverse), {0}};

#define ROW(name, stem, ...)                                                                       \
    {                                                                                              \
        name, ONNX, .attr_size = sizeof(struct order_attr), .shape = stem##_shape, __VA_ARGS__     \
    }
#define ARG                                                                                        \
    .since = 1, .min_in = 1, .max_in = 1, .layout = L_ANY, .attrs = arg_attrs, .in = {FEATURE},    \
    .traits = T_QUANT

const struct op ops_order[] = {
    ROW("ArgMax", arg, ARG, .run = arg_max_run, .types = TYPES_NUMBER),
    ROW("ArgMin", arg, ARG, .run = arg_min_run, .types = TYPES_NUMBER),
    ROW("TopK", top_k, .since = 1, .until = 9, .min_in = 1, .max_in = 1, .max_out = 2,
        .attrs = top_1_attrs, .prepare = top_k_prepare, .run = top_k_run, .types = TYPES_NUMBER),
    ROW("TopK", top_k, .since = 10, .min_in = 2, .max_in = 2, .max_out = 2, .attrs = top_attrs,
        .traits = T_SHAPE_DATA, .prepare = top_k_prepare, .run = top_k_run, .types = TYPES_NUMBER),
    ROW("CumSum", cum_sum, .since = 11, .min_in = 2, .max_in = 2, .attrs = cum_sum_attrs,
        .run = cum_sum_run, .types = TYPES_NUMBER),
    ROW("NonZero", non_zero, .since = 9, .min_in = 1, .max_in = 1, .run = non_zero_run,
        .types = TYPES_ALL),
    {0}};
