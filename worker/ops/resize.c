/*
 * Resize and Upsample: one pass an axis, over memory seen as [outer, axis, inner]; the axis that
 * shrinks most goes first. Nearest copies; float32 is blended in float, all other types in double.
 */
#include "worker/ops/resize.h"

#include <math.h>
#include <string.h>

struct resize_attr {
    const char *mode, *coordinate_transformation_mode, *nearest_mode, *keep_aspect_ratio_policy;
    float cubic_coeff_a, extrapolation_value;
    int64_t exclude_outside, antialias;
    struct ints axes;
    struct floats scales;
};

/* ---- attributes ---- */

struct word {
    const char *text;
    int value;
};
static const struct word mode_words[] = {
    {"nearest", R_NEAREST}, {"linear", R_LINEAR}, {"bilinear", R_LINEAR}, {"cubic", R_CUBIC}, {0}};
static const struct word coordinate_words[] = {
    {"half_pixel", C_HALF_PIXEL},          {"pytorch_half_pixel", C_PYTORCH_HALF_PIXEL},
    {"align_corners", C_ALIGN_CORNERS},    {"asymmetric", C_ASYMMETRIC},
    {"tf_crop_and_resize", C_TF_CROP},     {"tf_half_pixel_for_nn", C_TF_HALF_PIXEL},
    {"half_pixel_symmetric", C_SYMMETRIC}, {0}};
static const struct word nearest_words[] = {{"round_prefer_floor", N_ROUND_FLOOR},
                                            {"round_prefer_ceil", N_ROUND_CEIL},
                                            {"floor", N_FLOOR},
                                            {"ceil", N_CEIL},
                                            {0}};

static int word_value(const struct word *w, const char *text, int *ret, struct err *e)
{
    for (; w->text; w++)
        if (!strcmp(w->text, text)) {
            *ret = w->value;
            return 0;
        }
    return err_set(e, ERR_BAD_MODEL, NULL, "\"%.40s\" is not a mode of resizing.", text);
}

/* Before opset 11 there was one way: asymmetric, nearest by floor, or ceil where it shrinks. */
static int how_of(const struct op_ctx *c, struct resize_how *h, struct err *e)
{
    const struct resize_attr *a = c->attr;
    bool old = c->node->opset < 11;
    int mode = R_NEAREST, coordinate = C_ASYMMETRIC, nearest = N_BY_SCALE;
    if (word_value(mode_words, a->mode, &mode, e))
        return -1;
    if (!old && (word_value(coordinate_words, a->coordinate_transformation_mode, &coordinate, e) ||
                 word_value(nearest_words, a->nearest_mode, &nearest, e)))
        return -1;
    *h = (struct resize_how){.mode = (enum resize_mode)mode,
                             .coordinate = (enum resize_coordinate)coordinate,
                             .nearest = (enum resize_nearest)nearest,
                             .antialias = a->antialias != 0,
                             .exclude_outside = a->exclude_outside != 0,
                             .cubic_a = (double)a->cubic_coeff_a};
    return 0;
}

/* ---- sizes ---- */

/* Input i as n numbers; 1 = absent or empty. */
static int numbers(const struct op_ctx *c, int i, int n, double *ret, struct err *e)
{
    const struct tensor *t = i < c->n_in ? c->in[i] : NULL;
    if (!t || tensor_count(t) == 0)
        return 2;
    if (t->rank != 1 || t->dims[0] != n)
        return op_bad(c, i, e, "it must be a list of %d numbers", n);
    if (!t->data)
        return SHAPE_WAITS;
    for (int k = 0; k < n; k++)
        ret[k] = tensor_num(t, k);
    return 0;
}

static int check_scale(double scale, struct err *e)
{
    if (scale > 0 && scale < 1e9)
        return 0;
    return err_set(e, ERR_BAD_MODEL, NULL, "A scale must be above 0, not %g.", scale);
}

/* Out sizes from given ones, by the policy one scale for all of them. */
static int by_sizes(const struct op_ctx *c, const double *sizes, const int *axes, int n,
                    struct resize_axis *ret, struct err *e)
{
    const struct resize_attr *a = c->attr;
    bool larger = !strcmp(a->keep_aspect_ratio_policy, "not_larger");
    bool keep = larger || !strcmp(a->keep_aspect_ratio_policy, "not_smaller");
    double one = larger ? INFINITY : 0;
    for (int k = 0; k < n; k++) {
        struct resize_axis *x = &ret[axes[k]];
        if (!(sizes[k] >= 0 && sizes[k] < 0x1p40) || (x->in == 0 && sizes[k] > 0))
            return op_bad(c, 0, e, "axis %d cannot have %g elements", axes[k], sizes[k]);
        x->out = (int64_t)sizes[k];
        x->scale = x->in ? sizes[k] / (double)x->in : 1;
        one = larger ? fmin(one, x->scale) : fmax(one, x->scale);
    }
    for (int k = 0; keep && k < n; k++) {
        ret[axes[k]].scale = one;
        ret[axes[k]].out = (int64_t)floor(one * (double)ret[axes[k]].in + 0.5);
    }
    return 0;
}

static int by_scales(const double *scales, const int *axes, int n, struct resize_axis *ret,
                     struct err *e)
{
    for (int k = 0; k < n; k++) {
        struct resize_axis *x = &ret[axes[k]];
        if (check_scale(scales[k], e))
            return -1;
        /* In float32, as scales are: 5 by 1.4f is 7. */
        double out = floor((double)((float)x->in * (float)scales[k]));
        if (out >= 0x1p40)
            return err_set(e, ERR_LIMIT, NULL, "Axis %d would have %g elements.", axes[k], out);
        x->scale = scales[k];
        x->out = (int64_t)out;
    }
    return 0;
}

static int named_axes(const struct op_ctx *c, int *ret, int *ret_n, struct err *e)
{
    const struct resize_attr *a = c->attr;
    int rc = op_input_axes(c, c->n_in, &a->axes, c->in[0]->rank, ret, ret_n, e);
    if (rc || *ret_n >= 0)
        return rc;
    *ret_n = c->in[0]->rank;
    for (int d = 0; d < *ret_n; d++)
        ret[d] = d;
    return 0;
}

/* All axes: sizes and scales. Inputs: opset 11 X, roi, scales, sizes; before X, scales. */
static int axes_of(const struct op_ctx *c, struct resize_axis *ret, struct err *e)
{
    const struct resize_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int axes[TENSOR_RANK_MAX], n;
    double v[TENSOR_RANK_MAX];
    int rc = named_axes(c, axes, &n, e);
    for (int d = 0; d < x->rank; d++)
        ret[d] =
            (struct resize_axis){.in = x->dims[d], .out = x->dims[d], .scale = 1, .roi_end = 1};
    if (rc)
        return rc;
    if (a->scales.v) {
        if (a->scales.n != (size_t)n)
            return op_bad(c, 0, e, "it needs %d scales, not %zu", n, a->scales.n);
        for (int k = 0; k < n; k++)
            v[k] = (double)a->scales.v[k];
        return by_scales(v, axes, n, ret, e);
    }
    bool old = c->node->opset < 11;
    rc = numbers(c, old ? 1 : 2, n, v, e);
    if (rc == 0)
        return by_scales(v, axes, n, ret, e);
    if (rc != 2)
        return rc;
    rc = old ? 2 : numbers(c, 3, n, v, e);
    if (rc == 2)
        return op_bad(c, 0, e, "neither scales nor sizes are given");
    return rc ? rc : by_sizes(c, v, axes, n, ret, e);
}

static int resize_shape(struct op_ctx *c, struct err *e)
{
    struct resize_axis axes[TENSOR_RANK_MAX];
    struct resize_how h;
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 1, e) || how_of(c, &h, e))
        return -1;
    int rc = axes_of(c, axes, e);
    if (rc)
        return rc;
    for (int d = 0; d < c->in[0]->rank; d++) {
        dims[d] = axes[d].out;
        axes[d].taps = resize_taps(&h, &axes[d]);
        if (axes[d].taps == 0)
            return op_bad(c, 0, e, "axis %d is scaled by %g, too little for its size", d,
                          axes[d].scale);
    }
    return op_out(c, 0, c->in[0]->type, c->in[0]->rank, dims, e);
}

/* ---- the plan: which axes, in memory order, and the scratch ---- */

struct plan {
    struct resize_how how;
    struct resize_axis axes[TENSOR_RANK_MAX]; /* by memory position */
    int logical[TENSOR_RANK_MAX];             /* the logical axis at that position */
    int order[TENSOR_RANK_MAX], n;            /* positions that change, in order of passes */
    size_t tables, buffer[2], element;        /* bytes; element: of what is blended */
    bool direct;                              /* from the input, into the output */
};

/* A region that is computed is there when the node runs; the room does not depend on it. */
static int roi_of(const struct op_ctx *c, struct plan *p, struct err *e)
{
    int axes[TENSOR_RANK_MAX], n;
    double v[2 * TENSOR_RANK_MAX] = {0};
    if (p->how.coordinate != C_TF_CROP || named_axes(c, axes, &n, e))
        return p->how.coordinate == C_TF_CROP ? -1 : 0;
    const struct tensor *t = c->n_in > 1 ? c->in[1] : NULL;
    if (!t || t->rank != 1 || t->dims[0] != 2 * n)
        return op_bad(c, 1, e, "tf_crop_and_resize needs %d numbers here", 2 * n);
    for (int k = 0; t->data && k < 2 * n; k++)
        v[k] = tensor_num(t, k);
    for (int m = 0; m < c->in[0]->rank; m++)
        for (int k = 0; k < n; k++)
            if (axes[k] == p->logical[m]) {
                p->axes[m].roi_begin = v[k];
                p->axes[m].roi_end = v[n + k];
            }
    return 0;
}

static bool changes(const struct plan *p, int m)
{
    const struct resize_axis *a = &p->axes[m];
    return a->in != a->out || a->scale != 1 || a->roi_begin != 0 || a->roi_end != 1;
}

/* The most shrinking axis first, the innermost first among equals. */
static void order_passes(struct plan *p, int rank)
{
    for (int m = rank - 1; m >= 0; m--)
        if (changes(p, m))
            p->order[p->n++] = m;
    for (int i = 1; i < p->n; i++)
        for (int j = i; j > 0 && p->axes[p->order[j]].scale < p->axes[p->order[j - 1]].scale; j--) {
            int t = p->order[j];
            p->order[j] = p->order[j - 1];
            p->order[j - 1] = t;
        }
}

static void need_room(struct plan *p, int buffer, int64_t count)
{
    size_t bytes = ((size_t)count * p->element + 63) / 64 * 64;
    if (bytes > p->buffer[buffer])
        p->buffer[buffer] = bytes;
}

/* Pass k writes buffer k mod 2; one that is direct reads the input first and writes the output
 * last. */
static int plan_of(const struct op_ctx *c, struct plan *p, struct err *e)
{
    struct resize_axis axes[TENSOR_RANK_MAX];
    const struct tensor *x = c->in[0];
    int rank = x->rank;
    bool last = x->layout == LAYOUT_CL && rank >= 3;
    *p = (struct plan){.element = dtype_size(x->type)};
    if (how_of(c, &p->how, e) || axes_of(c, axes, e))
        return -1;
    for (int m = 0; m < rank; m++) {
        p->logical[m] = !last || m == 0 ? m : m == rank - 1 ? 1 : m + 1;
        p->axes[m] = axes[p->logical[m]];
    }
    if (roi_of(c, p, e))
        return -1;
    order_passes(p, rank);
    if (p->how.mode != R_NEAREST && x->type != DT_F32)
        p->element = sizeof(double);
    p->direct = p->element == dtype_size(x->type) &&
                (p->how.mode == R_NEAREST || x->type == DT_F32 || x->type == DT_F64);
    int64_t count = tensor_count(x);
    if (!p->direct)
        need_room(p, 1, count);
    for (int k = 0; k < p->n; k++) {
        struct resize_axis *a = &p->axes[p->order[k]];
        a->taps = resize_taps(&p->how, a);
        p->tables += (resize_table_bytes(a) + 63) / 64 * 64;
        count = a->in ? count / a->in * a->out : 0;
        if (!p->direct || k < p->n - 1)
            need_room(p, k % 2, count);
    }
    return 0;
}

static int resize_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct plan p;
    if (plan_of(c, &p, e))
        return -1;
    c->scratch_bytes = p.tables + p.buffer[0] + p.buffer[1];
    *ret_prep = NULL;
    return 0;
}

/* ---- passes ---- */

/* o[i] = sum over taps of w * row[i]: rows of `inner` elements, tap t's at x + index[t] * inner. */
#define BLEND(attr, name, T)                                                                       \
    attr static void name(const struct resize_axis *a, int64_t at, const T *x, T *o,               \
                          int64_t inner)                                                           \
    {                                                                                              \
        const int64_t *index = a->index + at * a->taps;                                            \
        const double *w = a->weight + at * a->taps;                                                \
        const T *r0 = x + index[0] * inner, *r1 = x + index[1] * inner;                            \
        T w0 = (T)w[0], w1 = (T)w[1];                                                              \
        for (int64_t i = 0; i < inner; i++)                                                        \
            o[i] = w0 * r0[i] + w1 * r1[i];                                                        \
        for (int t = 2; t < a->taps; t++) {                                                        \
            const T *r = x + index[t] * inner;                                                     \
            T v = (T)w[t];                                                                         \
            for (int64_t i = 0; i < inner; i++)                                                    \
                o[i] += v * r[i];                                                                  \
        }                                                                                          \
    }
BLEND(KERNEL, blend_f32, float)
BLEND(, blend_f64, double)

/* Single elements, picked by index. */
static void pick(const struct resize_axis *a, size_t size, const char *x, char *o)
{
    if (size == 4) {
        for (int64_t i = 0; i < a->out; i++)
            ((uint32_t *)(void *)o)[i] = ((const uint32_t *)(const void *)x)[a->index[i]];
        return;
    }
    for (int64_t i = 0; i < a->out; i++)
        memcpy(o + (size_t)i * size, x + (size_t)a->index[i] * size, size);
}

static void pass(const struct plan *p, const struct resize_axis *a, int64_t outer, int64_t inner,
                 const char *x, char *o)
{
    size_t row = (size_t)inner * p->element;
    for (int64_t n = 0; n < outer; n++) {
        const char *from = x + (size_t)(n * a->in) * row;
        char *to = o + (size_t)(n * a->out) * row;
        if (p->how.mode == R_NEAREST && inner == 1)
            pick(a, p->element, from, to);
        else if (p->how.mode == R_NEAREST)
            for (int64_t i = 0; i < a->out; i++)
                memcpy(to + (size_t)i * row, from + (size_t)a->index[i] * row, row);
        else if (p->element == sizeof(float))
            for (int64_t i = 0; i < a->out; i++)
                blend_f32(a, i, (const void *)from, (void *)(to + (size_t)i * row), inner);
        else
            for (int64_t i = 0; i < a->out; i++)
                blend_f64(a, i, (const void *)from, (void *)(to + (size_t)i * row), inner);
    }
}

/* Everything that shows a place outside the region of interest. */
static void extrapolate(const struct op_ctx *c, const struct plan *p)
{
    const struct resize_attr *a = c->attr;
    struct tensor *y = c->out[0];
    double number = (double)a->extrapolation_value, element[1];
    int64_t strides[TENSOR_RANK_MAX], dims[TENSOR_RANK_MAX];
    size_t size = dtype_size(y->type);
    row_storer(y->type)(1, &number, (char *)element, 1);
    tensor_strides(y, strides);
    for (int k = 0; k < p->n; k++) {
        const struct resize_axis *x = &p->axes[p->order[k]];
        int d = p->logical[p->order[k]];
        memcpy(dims, y->dims, sizeof dims);
        dims[d] = 1;
        for (int64_t i = 0; i < x->out; i++)
            if (x->outside[i])
                walk_fill(y->rank, dims, size, element,
                          (char *)y->data + i * strides[d] * (int64_t)size, strides);
    }
}

/* Runs the passes between two buffers. */
static void run_passes(const struct op_ctx *c, struct plan *p)
{
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    char *room = c->scratch, *buffer[2] = {room + p->tables, room + p->tables + p->buffer[0]};
    int64_t dims[TENSOR_RANK_MAX];
    const char *from = x->data;
    for (int m = 0; m < x->rank; m++)
        dims[m] = p->axes[m].in;
    if (!p->direct) {
        row_loader(x->type)(tensor_count(x), x->data, 1, (double *)(void *)buffer[1]);
        from = buffer[1];
    }
    for (int k = 0; k < p->n; k++) {
        int m = p->order[k];
        struct resize_axis *a = &p->axes[m];
        char *to = p->direct && k == p->n - 1 ? y->data : buffer[k % 2];
        resize_fill(&p->how, a, room);
        room += (resize_table_bytes(a) + 63) / 64 * 64;
        pass(p, a, dims_product(dims, 0, m), dims_product(dims, m + 1, x->rank), from, to);
        dims[m] = a->out;
        from = to;
    }
    if (!p->direct)
        row_storer(y->type)(tensor_count(y), (const double *)(const void *)from, y->data, 1);
}

static int resize_run(const struct op_ctx *c, struct err *e)
{
    struct plan p;
    if (plan_of(c, &p, e))
        return -1;
    if (tensor_count(c->out[0]) == 0)
        return 0;
    if (p.n == 0) {
        walk_bytes(c->in[0], c->out[0]);
        return 0;
    }
    run_passes(c, &p);
    if (p.how.coordinate == C_TF_CROP)
        extrapolate(c, &p);
    return 0;
}

/* ---- the rows ---- */

#define A(kind, field, ...) ATTR(kind, resize_attr, field, __VA_ARGS__)
#define OLD                                                                                        \
    A(STRING, mode, .text = "nearest"), A(STRING, keep_aspect_ratio_policy, .text = "stretch")
static const struct attr_def scales_attrs[] = {OLD, A(FLOATS, scales, .required = true), {0}};
static const struct attr_def old_attrs[] = {OLD, {0}};
static const struct attr_def resize_attrs[] = {
    OLD,
    A(STRING, coordinate_transformation_mode, .text = "half_pixel"),
    A(STRING, nearest_mode, .text = "round_prefer_floor"),
    A(FLOAT, cubic_coeff_a, .number = -0.75),
    A(FLOAT, extrapolation_value),
    A(INT, exclude_outside),
    A(INT, antialias),
    A(INTS, axes),
    {0}};

#define ROW(name, table, ...)                                                                      \
    {                                                                                              \
        name, ONNX, .layout = L_ANY, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},                \
                    .traits = T_QUANT | T_SHAPE_DATA, .attrs = table,                              \
                    .attr_size = sizeof(struct resize_attr), .shape = resize_shape,                \
                    .prepare = resize_prepare, .run = resize_run, __VA_ARGS__                      \
    }

const struct op ops_resize[] = {
    ROW("Upsample", scales_attrs, .since = 7, .until = 8, .min_in = 1, .max_in = 1,
        .types = TYPES_ALL),
    ROW("Upsample", old_attrs, .since = 9, .until = 9, .min_in = 2, .max_in = 2,
        .types = TYPES_ALL),
    ROW("Resize", old_attrs, .since = 10, .until = 10, .min_in = 2, .max_in = 2,
        .types = TYPES_ALL),
    ROW("Resize", resize_attrs, .since = 11, .min_in = 1, .max_in = 4, .types = TYPES_ALL),
    {0}};
