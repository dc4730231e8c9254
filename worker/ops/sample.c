/*
 * GridSample over one to three spatial dims, channels last: for each place of the grid the taps
 * (pixel, weight) are found once, then all channels are blended from them.
 */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

enum { SPATIAL_MAX = 3, TAPS_MAX = 64 };
enum mode { S_LINEAR, S_NEAREST, S_CUBIC };
enum padding { P_ZEROS, P_BORDER, P_REFLECTION };

struct sample_attr {
    const char *mode, *padding_mode;
    int64_t align_corners;
};

struct sampler {
    enum mode mode;
    enum padding padding;
    bool align;
    int spatial;
    int64_t size[SPATIAL_MAX];
};

struct taps {
    int n;
    int64_t pixel[TAPS_MAX]; /* -1: nothing there */
    double weight[TAPS_MAX];
};

/* ---- coordinates ---- */

static double reflect(double x, double lo, double hi)
{
    double range = hi - lo;
    if (!(range > 0) || !isfinite(x))
        return lo;
    double beyond = x < lo ? lo - x : x > hi ? x - hi : 0;
    if (beyond == 0)
        return x;
    double turns = floor(beyond / range), rest = beyond - turns * range;
    bool from_low = (x < lo) == (fmod(turns, 2) == 0);
    return from_low ? lo + rest : hi - rest;
}

static double low_edge(const struct sampler *s)
{
    return s->align ? 0 : -0.5;
}

static double high_edge(const struct sampler *s, int d)
{
    return (double)s->size[d] - (s->align ? 1 : 0.5);
}

/* From [-1, 1] to pixels; kept near the picture, where it is all the same beyond. */
static double place(const struct sampler *s, int d, double g)
{
    double n = (double)s->size[d];
    double x = s->align ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
    if (s->mode == S_NEAREST)
        x = rint(x);
    bool is_outside = !(x >= low_edge(s) && x <= high_edge(s, d));
    if (s->padding == P_BORDER && is_outside)
        x = x > 0 ? fmin(x, n - 1) : 0;
    else if (s->padding == P_REFLECTION)
        x = reflect(x, low_edge(s), high_edge(s, d));
    return fmin(fmax(x, -8), n + 8); /* a NaN ends up outside */
}

static int64_t pixel_at(const struct sampler *s, int d, int64_t i)
{
    int64_t n = s->size[d];
    if (i >= 0 && i < n)
        return i;
    if (s->padding == P_ZEROS)
        return -1;
    if (s->padding == P_BORDER)
        return i < 0 ? 0 : n - 1;
    int64_t r = (int64_t)reflect((double)i, low_edge(s), high_edge(s, d));
    return r < 0 ? 0 : r >= n ? n - 1 : r;
}

/* One dim's taps around x. */
static int taps_along(const struct sampler *s, int d, double x, int64_t *pixel, double *weight)
{
    const double a = -0.75;
    int64_t base = (int64_t)floor(x);
    double t = x - (double)base;
    if (s->mode == S_NEAREST) {
        pixel[0] = pixel_at(s, d, (int64_t)rint(x));
        weight[0] = 1;
        return 1;
    }
    if (s->mode == S_LINEAR) {
        pixel[0] = pixel_at(s, d, base);
        pixel[1] = pixel_at(s, d, base + 1);
        weight[0] = 1 - t;
        weight[1] = t;
        return 2;
    }
    for (int k = 0; k < 4; k++) {
        double v = fabs(t + 1 - k);
        pixel[k] = pixel_at(s, d, base - 1 + k);
        weight[k] = v <= 1 ? ((a + 2) * v - (a + 3)) * v * v + 1
                           : ((a * v - 5 * a) * v + 8 * a) * v - 4 * a;
    }
    return 4;
}

/* The product over the dims; grid coordinates come x first. */
static void taps_of(const struct sampler *s, const double *grid, struct taps *ret)
{
    ret->n = 1;
    ret->pixel[0] = 0;
    ret->weight[0] = 1;
    for (int d = 0; d < s->spatial; d++) {
        int64_t pixel[4];
        double weight[4], x = place(s, d, grid[s->spatial - 1 - d]);
        int n = taps_along(s, d, x, pixel, weight);
        for (int k = ret->n - 1; k >= 0; k--)
            for (int m = n - 1; m >= 0; m--) {
                bool is_there = ret->pixel[k] >= 0 && pixel[m] >= 0;
                double w = ret->weight[k] * weight[m];
                ret->pixel[k * n + m] = is_there ? ret->pixel[k] * s->size[d] + pixel[m] : -1;
                ret->weight[k * n + m] = w;
            }
        ret->n *= n;
    }
}

/* ---- blending ---- */

#define BLEND(dt, sfx, T)                                                                          \
    KERNEL_##sfx static void blend_##sfx(const struct taps *t, const char *from, char *to,         \
                                         int64_t channels)                                         \
    {                                                                                              \
        T *o = (void *)to;                                                                         \
        for (int64_t c = 0; c < channels; c++)                                                     \
            o[c] = 0;                                                                              \
        for (int k = 0; k < t->n; k++) {                                                           \
            const T *x = (const T *)(const void *)from + t->pixel[k] * channels,                   \
                    w = (T)t->weight[k];                                                           \
            for (int64_t c = 0; t->pixel[k] >= 0 && c < channels; c++)                             \
                o[c] = (T)(o[c] + w * x[c]);                                                       \
        }                                                                                          \
    }
DTYPES_FLOAT(BLEND)

/* Integers and bool: as double, then cut to whole numbers. */
static void blend_whole(enum dtype t, const struct taps *taps, const char *from, char *to,
                        int64_t channels)
{
    int64_t size = (int64_t)dtype_size(t);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, x;
        for (int k = 0; k < taps->n; k++) {
            if (taps->pixel[k] < 0)
                continue;
            row_loader(t)(1, from + (taps->pixel[k] * channels + c) * size, 1, &x);
            sum += taps->weight[k] * x;
        }
        row_storer(t)(1, &sum, to + c * size, 1);
    }
}

static void (*const blends[DT_COUNT])(const struct taps *, const char *, char *, int64_t) = {
    [DT_F32] = blend_f32, [DT_F64] = blend_f64, [DT_F16] = blend_f16};

/* ---- the operator ---- */

static int one_of(const char *const *words, const char *text, struct err *e)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(words[i], text))
            return i % 3;
    return err_set(e, ERR_BAD_MODEL, NULL, "GridSample has no mode \"%.40s\".", text);
}

static int sampler_of(const struct op_ctx *c, struct sampler *s, struct err *e)
{
    static const char *const modes[] = {"bilinear", "nearest", "bicubic", "linear",
                                        "nearest",  "cubic",   NULL};
    static const char *const paddings[] = {"zeros", "border", "reflection", NULL};
    const struct sample_attr *a = c->attr;
    int mode = one_of(modes, a->mode, e), padding = one_of(paddings, a->padding_mode, e);
    if (mode < 0 || padding < 0)
        return -1;
    *s = (struct sampler){
        (enum mode)mode, (enum padding)padding, a->align_corners != 0, c->in[0]->rank - 2, {0}};
    for (int d = 0; d < s->spatial; d++)
        s->size[d] = c->in[0]->dims[2 + d];
    return 0;
}

static int sample_shape(struct op_ctx *c, struct err *e)
{
    struct sampler s;
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 2, e) || op_takes_float(c, 1, e))
        return -1;
    const struct tensor *x = c->in[0], *g = c->in[1];
    if (x->rank < 3 || x->rank > 2 + SPATIAL_MAX || g->rank != x->rank ||
        g->dims[0] != x->dims[0] || g->dims[g->rank - 1] != x->rank - 2)
        return op_bad(c, 1, e, "the grid does not fit the data");
    if (sampler_of(c, &s, e))
        return -1;
    dims[0] = x->dims[0];
    dims[1] = x->dims[1];
    for (int d = 0; d < s.spatial; d++) {
        dims[2 + d] = g->dims[1 + d];
        if (x->dims[2 + d] == 0)
            return op_bad(c, 0, e, "it has nothing to sample");
    }
    return op_out(c, 0, x->type, x->rank, dims, e);
}

static int sample_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *g = c->in[1];
    struct sampler s;
    if (sampler_of(c, &s, e))
        return -1;
    int64_t places = dims_product(g->dims, 1, g->rank - 1),
            pixels = dims_product(x->dims, 2, x->rank);
    int64_t channels = x->dims[1];
    size_t row = (size_t)channels * dtype_size(x->type),
           step = dtype_size(g->type) * (size_t)s.spatial;
    for (int64_t i = 0; i < x->dims[0] * places; i++) {
        struct taps t;
        double at[SPATIAL_MAX];
        row_loader(g->type)(s.spatial, (const char *)g->data + (size_t)i * step, 1, at);
        taps_of(&s, at, &t);
        const char *from = (const char *)x->data + (size_t)(i / places * pixels) * row;
        char *to = (char *)c->out[0]->data + (size_t)i * row;
        if (blends[x->type])
            blends[x->type](&t, from, to, channels);
        else
            blend_whole(x->type, &t, from, to, channels);
    }
    return 0;
}

static const struct attr_def sample_attrs[] = {
    ATTR(STRING, sample_attr, mode, .text = "linear"),
    ATTR(STRING, sample_attr, padding_mode, .text = "zeros"),
    ATTR(INT, sample_attr, align_corners),
    {0}};

const struct op ops_sample[] = {
    {"GridSample", ONNX, .since = 16, .min_in = 2, .max_in = 2, .in = {FEATURE, FEATURE},
     .out = {FEATURE}, .traits = T_QUANT, .layout = L_CL, .attrs = sample_attrs,
     .attr_size = sizeof(struct sample_attr), .shape = sample_shape, .run = sample_run,
     .note = "1 to 3 spatial dims", .types = TYPES_ALL},
    {0}};
