/* Single operators of few lines: Trilu, EyeLike, ReverseSequence, Compress, Det. All plain. */
#include "worker/ops/walk.h"

#include <string.h>

struct misc_attr {
    int64_t upper, dtype, k, batch_axis, time_axis, axis;
};
enum { NO_AXIS = 1 << 20 };

/* ---- Trilu ---- */

static int trilu_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    if (c->in[0]->rank < 2)
        return op_bad(c, 0, e, "it needs at least 2 dims");
    return op_shape_same(c, e);
}

static int trilu_run(const struct op_ctx *c, struct err *e)
{
    const struct misc_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t rows = x->dims[x->rank - 2], cols = x->dims[x->rank - 1], k = 0;
    size_t size = dtype_size(x->type);
    if (c->n_in > 1 && c->in[1] && op_input_int(c, 1, &k, e))
        return -1;
    k = k < -rows ? -rows : k > cols ? cols : k;
    walk_bytes(x, c->out[0]);
    for (int64_t r = 0, n = cols ? tensor_count(x) / cols : 0; r < n; r++) {
        int64_t edge = r % rows + k + !a->upper; /* the first column of the upper part */
        edge = edge < 0 ? 0 : edge > cols ? cols : edge;
        char *row = (char *)c->out[0]->data + (size_t)(r * cols) * size;
        if (a->upper)
            memset(row, 0, (size_t)edge * size);
        else
            memset(row + (size_t)edge * size, 0, (size_t)(cols - edge) * size);
    }
    return 0;
}

/* ---- EyeLike ---- */

static int eye_shape(struct op_ctx *c, struct err *e)
{
    const struct misc_attr *a = c->attr;
    if (op_need(c, 1, e))
        return -1;
    if (c->in[0]->rank != 2)
        return op_bad(c, 0, e, "it must have 2 dims");
    int64_t t = a->dtype ? a->dtype : (int64_t)c->in[0]->type;
    if (t <= 0 || t >= DT_COUNT || !dtype_size((enum dtype)t))
        return err_set(e, ERR_UNSUPPORTED, NULL, "Element type %lld is not computed here.",
                       (long long)t);
    return op_out(c, 0, (enum dtype)t, 2, c->in[0]->dims, e);
}

static int eye_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct misc_attr *a = c->attr;
    struct tensor *y = c->out[0];
    double one = 1;
    size_t size = dtype_size(y->type);
    memset(y->data, 0, tensor_bytes(y));
    for (int64_t r = 0; r < y->dims[0]; r++) {
        int64_t col = a->k > y->dims[1] || a->k < -y->dims[0] ? -1 : r + a->k;
        if (col >= 0 && col < y->dims[1])
            row_storer(y->type)(1, &one, (char *)y->data + (size_t)(r * y->dims[1] + col) * size,
                                1);
    }
    return 0;
}

/* ---- ReverseSequence ---- */

static int reverse_shape(struct op_ctx *c, struct err *e)
{
    const struct misc_attr *a = c->attr;
    if (op_need(c, 2, e))
        return -1;
    const struct tensor *x = c->in[0];
    if (x->rank < 2 || a->batch_axis + a->time_axis != 1 || a->batch_axis * a->time_axis != 0)
        return op_bad(c, 0, e, "batch and time are the first two dims");
    if (c->in[1]->rank != 1 || c->in[1]->type != DT_I64 ||
        c->in[1]->dims[0] != x->dims[a->batch_axis])
        return op_bad(c, 1, e, "there must be one int64 length a batch");
    return op_shape_same(c, e);
}

static int reverse_run(const struct op_ctx *c, struct err *e)
{
    const struct misc_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t steps = x->dims[a->time_axis], batches = x->dims[a->batch_axis];
    size_t block = (size_t)dims_product(x->dims, 2, x->rank) * dtype_size(x->type);
    size_t by_time = a->time_axis == 0 ? (size_t)batches * block : block;
    size_t by_batch = a->time_axis == 0 ? block : (size_t)steps * block;
    for (int64_t b = 0; b < batches; b++) {
        int64_t n = tensor_int(c->in[1], b);
        if (n < 0 || n > steps)
            return op_bad(c, 1, e, "length %lld does not fit %lld steps", (long long)n,
                          (long long)steps);
        for (int64_t t = 0; block && t < steps; t++)
            memcpy((char *)c->out[0]->data + (size_t)b * by_batch + (size_t)t * by_time,
                   (const char *)x->data + (size_t)b * by_batch +
                       (size_t)(t < n ? n - 1 - t : t) * by_time,
                   block);
    }
    return 0;
}

/* ---- Compress ---- */

/* The data as [outer, n, inner] along the axis; without one it is flat. */
static int compress_box(const struct op_ctx *c, int *axis, int64_t *outer, int64_t *n,
                        int64_t *inner, struct err *e)
{
    const struct misc_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    *outer = *inner = 1;
    *n = tensor_count(x);
    *axis = -1;
    if (a->axis == NO_AXIS)
        return 0;
    if (op_axis(a->axis, x->rank, axis, e))
        return -1;
    *outer = dims_product(x->dims, 0, *axis);
    *n = x->dims[*axis];
    *inner = dims_product(x->dims, *axis + 1, x->rank);
    return 0;
}

static int compress_shape(struct op_ctx *c, struct err *e)
{
    int64_t outer, n, inner, kept = 0, dims[TENSOR_RANK_MAX];
    int axis;
    if (op_need(c, 2, e) || compress_box(c, &axis, &outer, &n, &inner, e))
        return -1;
    const struct tensor *x = c->in[0], *q = c->in[1];
    if (q->rank != 1 || q->type != DT_BOOL || q->dims[0] > n)
        return op_bad(c, 1, e, "the condition is a list of at most %lld bools", (long long)n);
    if (!q->data && q->dims[0] > 0)
        return SHAPE_WAITS;
    for (int64_t i = 0; i < q->dims[0]; i++)
        kept += ((const uint8_t *)q->data)[i] != 0;
    if (axis < 0)
        return op_out(c, 0, x->type, 1, &kept, e);
    memcpy(dims, x->dims, sizeof dims);
    dims[axis] = kept;
    return op_out(c, 0, x->type, x->rank, dims, e);
}

static int compress_run(const struct op_ctx *c, struct err *e)
{
    int64_t outer, n, inner;
    int axis;
    if (compress_box(c, &axis, &outer, &n, &inner, e))
        return -1;
    const struct tensor *q = c->in[1];
    size_t block = (size_t)inner * dtype_size(c->in[0]->type);
    char *to = c->out[0]->data;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < q->dims[0]; i++)
            if (((const uint8_t *)q->data)[i]) {
                memcpy(to, (const char *)c->in[0]->data + (size_t)(o * n + i) * block, block);
                to += block;
            }
    return 0;
}

/* ---- Det: elimination with the largest pivot ---- */

static int det_shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e) || op_takes_float(c, 0, e))
        return -1;
    const struct tensor *x = c->in[0];
    if (x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2])
        return op_bad(c, 0, e, "its last two dims must make a square");
    return op_out(c, 0, x->type, x->rank - 2, x->dims, e);
}

static int det_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    int64_t n = c->in[0]->dims[c->in[0]->rank - 1];
    c->scratch_bytes = (size_t)(n * n) * sizeof(double);
    *ret_prep = NULL;
    return 0;
}

static double det_of(double *m, int64_t n)
{
    double det = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t r = k + 1; r < n; r++)
            if (m[r * n + k] * m[r * n + k] > m[best * n + k] * m[best * n + k])
                best = r;
        if (m[best * n + k] == 0)
            return 0;
        for (int64_t i = k; i < n && best != k; i++) {
            double t = m[k * n + i];
            m[k * n + i] = m[best * n + i];
            m[best * n + i] = t;
        }
        det *= best == k ? m[k * n + k] : -m[k * n + k];
        for (int64_t r = k + 1; r < n; r++)
            for (int64_t i = n - 1; i >= k; i--)
                m[r * n + i] -= m[r * n + k] / m[k * n + k] * m[k * n + i];
    }
    return det;
}

static int det_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    int64_t n = x->dims[x->rank - 1];
    size_t size = dtype_size(x->type);
    for (int64_t b = 0, count = tensor_count(y); b < count; b++) {
        row_loader(x->type)(n * n, (const char *)x->data + (size_t)(b * n * n) * size, 1,
                            c->scratch);
        double det = det_of(c->scratch, n);
        row_storer(y->type)(1, &det, (char *)y->data + (size_t)b * size, 1);
    }
    return 0;
}

#define A(field, ...) ATTR(INT, misc_attr, field, __VA_ARGS__)
static const struct attr_def trilu_attrs[] = {A(upper, .number = 1), {0}};
static const struct attr_def eye_attrs[] = {A(dtype), A(k), {0}};
static const struct attr_def reverse_attrs[] = {A(batch_axis, .number = 1), A(time_axis), {0}};
static const struct attr_def compress_attrs[] = {A(axis, .number = NO_AXIS), {0}};

#define ROW(name, stem, from, ...)                                                                 \
    {                                                                                              \
        name, ONNX, .since = from, .attr_size = sizeof(struct misc_attr), .shape = stem##_shape,   \
                    .run = stem##_run, __VA_ARGS__                                                 \
    }

const struct op ops_misc[] = {
    ROW("Trilu", trilu, 14, .min_in = 1, .max_in = 2, .attrs = trilu_attrs, .types = TYPES_ALL),
    ROW("EyeLike", eye, 9, .min_in = 1, .max_in = 1, .traits = T_VALUEFREE, .attrs = eye_attrs,
        .types = TYPES_ALL),
    ROW("ReverseSequence", reverse, 10, .min_in = 2, .max_in = 2, .attrs = reverse_attrs,
        .types = TYPES_ALL),
    ROW("Compress", compress, 9, .min_in = 2, .max_in = 2, .attrs = compress_attrs,
        .types = TYPES_ALL),
    ROW("Det", det, 11, .traits = T_HEAVY, .min_in = 1, .max_in = 1, .prepare = det_prepare,
        .types = TYPES_FLOAT),
    {0}};
