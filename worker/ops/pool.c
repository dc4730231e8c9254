/*
 * Pools: MaxPool, AveragePool, LpPool and their global forms. All work channels-last: a window is
 * a list of pixels, and the channels of a pixel lie together, so that the compiler vectorizes over
 * them. A global pool is a window that holds the whole image.
 */
#include "worker/ops/pool.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "worker/exec/simd.h"

struct pool_attr {
    struct window_attr window;
    int64_t count_include_pad, storage_order, p;
    float old_p; /* LpPool and GlobalLpPool of opset 1 */
};

#define POOL_INT(text, field, value)                                                               \
    {                                                                                              \
        .name = text, .type = ATTR_INT, .offset = offsetof(struct pool_attr, field),               \
        .number = value                                                                            \
    }
#define POOL_WINDOW  WINDOW_ATTRS(struct pool_attr, window)
#define POOL_DILATED WINDOW_ATTR(struct pool_attr, window, dilations, ATTR_INTS)
#define POOL_CEIL    POOL_INT("ceil_mode", window.ceil_mode, 0)
#define POOL_PADDED  POOL_INT("count_include_pad", count_include_pad, 0)

static const struct attr_def max_attrs[] = {
    POOL_WINDOW, POOL_DILATED, POOL_CEIL, POOL_INT("storage_order", storage_order, 0), {0}};
static const struct attr_def average_attrs[] = {
    POOL_WINDOW, POOL_DILATED, POOL_CEIL, POOL_PADDED, {0}};
static const struct attr_def lp_attrs[] = {
    POOL_WINDOW, POOL_DILATED, POOL_CEIL, POOL_INT("p", p, 2), {0}};
static const struct attr_def lp_old_attrs[] = {
    POOL_WINDOW,
    {.name = "p", .type = ATTR_FLOAT, .offset = offsetof(struct pool_attr, old_p), .number = 2},
    {0}};
static const struct attr_def global_lp_attrs[] = {POOL_INT("p", p, 2), {0}};
static const struct attr_def global_lp_old_attrs[] = {
    {.name = "p", .type = ATTR_FLOAT, .offset = offsetof(struct pool_attr, old_p), .number = 2},
    {0}};

static int pool_check(const struct node *n, void *attr, struct err *e)
{
    const struct pool_attr *a = attr;
    (void)n;
    if (a->storage_order != 0 && a->storage_order != 1)
        return err_set(e, ERR_BAD_MODEL, "", "storage_order is %lld.", (long long)a->storage_order);
    return window_check(&a->window, e);
}

static bool is_max(const struct node *n)
{
    return !strcmp(n->op_type, "MaxPool");
}

static int check_input(const struct op_ctx *c, struct err *e)
{
    char text[TENSOR_TEXT_MAX];
    if (!c->in[0])
        return err_set(e, ERR_BAD_MODEL, "", "The input must be there.");
    enum dtype t = c->in[0]->type;
    bool whole = is_max(c->node) && (t == DT_I8 || t == DT_U8);
    if (!dtype_is_float(t) && !whole)
        return err_set(e, ERR_UNSUPPORTED, "", "The pool does not take %s.",
                       tensor_text(c->in[0], text));
    if (c->in[0]->rank < 3)
        return err_set(e, ERR_BAD_MODEL, "", "A pool's input has 3 dims or more, not %s.",
                       tensor_text(c->in[0], text));
    return 0;
}

static void set_output(const struct op_ctx *c, int i, enum dtype type, const int64_t *spatial)
{
    const struct tensor *x = c->in[0];
    struct tensor *y = i < c->n_out ? c->out[i] : NULL;
    if (!y)
        return;
    y->type = type;
    y->rank = x->rank;
    memcpy(y->dims, x->dims, sizeof x->dims);
    for (int k = 2; k < x->rank; k++)
        y->dims[k] = spatial ? spatial[k - 2] : 1;
}

static int pool_shape(struct op_ctx *c, struct err *e)
{
    const struct pool_attr *a = c->attr;
    struct window w;
    if (check_input(c, e) || window_of(&a->window, c->in[0], NULL, false, &w, e))
        return -1;
    set_output(c, 0, c->in[0]->type, w.out);
    set_output(c, 1, DT_I64, w.out);
    return 0;
}

static int global_shape(struct op_ctx *c, struct err *e)
{
    if (check_input(c, e))
        return -1;
    set_output(c, 0, c->in[0]->type, NULL);
    return 0;
}

/* ---- one window ---- */

/* NaN wins, from either side. */
#define MAX_OF(x, m) ((x) > (m) || (x) != (x) ? (x) : (m))

SIMD static void max_of(const struct pixels *p, const float *in, float *out, int64_t channels)
{
    memcpy(out, in + p->at[0], (size_t)channels * sizeof *out);
    for (int64_t i = 1; i < p->n; i++) {
        const float *x = in + p->at[i];
        for (int64_t c = 0; c < channels; c++)
            out[c] = MAX_OF(x[c], out[c]);
    }
}

/* Sums of up to SUM_BLOCK pixels are made first: large images stay exact enough. */
enum { SUM_BLOCK = 64 };

SIMD static void sum_of(const struct pixels *p, const float *in, float *out, int64_t channels)
{
    int64_t c = 0;
    for (; c + VEC <= channels; c += VEC) {
        vec total = {0};
        for (int64_t i = 0; i < p->n; i += SUM_BLOCK) {
            vec part = {0};
            for (int64_t j = i; j < p->n && j < i + SUM_BLOCK; j++)
                part += *(const vec *)(in + p->at[j] + c);
            total += part;
        }
        *(vec *)(out + c) = total;
    }
    for (; c < channels; c++) {
        float total = 0;
        for (int64_t i = 0; i < p->n; i += SUM_BLOCK) {
            float part = 0;
            for (int64_t j = i; j < p->n && j < i + SUM_BLOCK; j++)
                part += in[p->at[j] + c];
            total += part;
        }
        out[c] = total;
    }
}

static void lp_of(const struct pixels *p, const float *in, float *out, int64_t channels,
                  double power)
{
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t i = 0; i < p->n; i++) {
            double x = fabs((double)in[p->at[i] + c]);
            sum += power == 1 ? x : power == 2 ? x * x : pow(x, power);
        }
        out[c] = (float)(power == 1 ? sum : power == 2 ? sqrt(sum) : pow(sum, 1 / power));
    }
}

SIMD static void divide(float *out, int64_t channels, float by)
{
    for (int64_t c = 0; c < channels; c++)
        out[c] /= by;
}

/* ---- windows over the image ---- */

static int64_t dim_or(const int64_t *v, int i, int lead, int64_t otherwise)
{
    return i < lead ? otherwise : v[i - lead];
}

/* The window with three spatial dims. */
static void widen(const struct window *from, struct window *to)
{
    int lead = CONV_SPATIAL_MAX - from->spatial;
    to->spatial = CONV_SPATIAL_MAX;
    for (int i = 0; i < CONV_SPATIAL_MAX; i++) {
        to->in[i] = dim_or(from->in, i, lead, 1);
        to->out[i] = dim_or(from->out, i, lead, 1);
        to->kernel[i] = dim_or(from->kernel, i, lead, 1);
        to->stride[i] = dim_or(from->stride, i, lead, 1);
        to->dilation[i] = dim_or(from->dilation, i, lead, 1);
        to->pad_begin[i] = dim_or(from->pad_begin, i, lead, 0);
        to->pad_end[i] = dim_or(from->pad_end, i, lead, 0);
    }
}

static int prepare_kind(struct op_ctx *c, enum pool_kind kind, struct pool **ret, struct err *e)
{
    const struct pool_attr *a = c->attr;
    struct pool *p = arena_alloc(c->arena, sizeof *p);
    struct window w;
    *ret = p;
    p->kind = kind;
    if (window_of(&a->window, c->in[0], NULL, false, &w, e))
        return -1;
    widen(&w, &p->w);
    p->taps = p->in_pixels = p->out_pixels = 1;
    for (int i = 0; i < CONV_SPATIAL_MAX; i++) {
        p->taps *= p->w.kernel[i];
        p->in_pixels *= p->w.in[i];
        p->out_pixels *= p->w.out[i];
    }
    p->channels = c->in[0]->dims[1];
    p->include_pad = a->count_include_pad != 0;
    p->column_major = a->storage_order != 0;
    p->power = c->node->opset < 2 ? (double)a->old_p : (double)a->p;
    c->scratch_bytes = (size_t)p->taps * sizeof(int64_t);
    if (p->taps > 1 << 24)
        return err_set(e, ERR_LIMIT, "", "A window of %lld elements is too large.",
                       (long long)p->taps);
    return 0;
}

static int max_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    struct pool *p;
    int rc = prepare_kind(c, POOL_MAX, &p, e);
    *ret = p;
    return rc;
}

static int average_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    struct pool *p;
    int rc = prepare_kind(c, POOL_AVERAGE, &p, e);
    *ret = p;
    return rc;
}

static int lp_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    struct pool *p;
    int rc = prepare_kind(c, POOL_LP, &p, e);
    *ret = p;
    return rc;
}

/* The pixels of output `o` inside the image; returns how many of the window's elements lie inside
 * the padded image. */
static int64_t find_pixels(const struct pool *p, const int64_t o[3], int64_t *at, int64_t *ret_n)
{
    const struct window *w = &p->w;
    int64_t padded = 0;
    *ret_n = 0;
    for (int64_t t = 0; t < p->taps; t++) {
        int64_t i[3], k[3] = {t / (w->kernel[1] * w->kernel[2]), t / w->kernel[2] % w->kernel[1],
                              t % w->kernel[2]};
        bool inside = true, in_padding = true;
        for (int j = 0; j < 3; j++) {
            i[j] = o[j] * w->stride[j] - w->pad_begin[j] + k[j] * w->dilation[j];
            inside = inside && i[j] >= 0 && i[j] < w->in[j];
            in_padding = in_padding && i[j] < w->in[j] + w->pad_end[j];
        }
        padded += in_padding;
        if (inside)
            at[(*ret_n)++] = ((i[0] * w->in[1] + i[1]) * w->in[2] + i[2]) * p->channels;
    }
    return padded;
}

static void one_window(const struct pool *p, const struct pixels *px, int64_t padded,
                       const float *in, float *out)
{
    if (!px->n) {
        for (int64_t c = 0; c < p->channels; c++)
            out[c] = p->kind == POOL_MAX ? -FLT_MAX : 0;
        return;
    }
    switch (p->kind) {
    case POOL_MAX:
        max_of(px, in, out, p->channels);
        break;
    case POOL_AVERAGE:
        sum_of(px, in, out, p->channels);
        divide(out, p->channels, (float)(p->include_pad ? padded : px->n));
        break;
    case POOL_LP:
        lp_of(px, in, out, p->channels, p->power);
        break;
    }
}

/* MaxPool's second output: the index of the first largest element in the plain input. */
static void one_index(const struct pool *p, const struct pixels *px, const float *in, int64_t n,
                      int64_t pixel, int64_t *out)
{
    for (int64_t c = 0; c < p->channels; c++) {
        int64_t best = px->n ? px->at[0] : 0;
        for (int64_t i = 1; i < px->n; i++)
            if (in[px->at[i] + c] > in[best + c])
                best = px->at[i];
        int64_t plane = n * p->channels + c;
        out[plane * p->out_pixels + pixel] =
            plane * p->in_pixels + pool_index_of(p, best / p->channels);
    }
}

/* Whether the windows at o and its neighbour o - 1 of a row lie wholly inside that row. */
static bool moves_on(const struct pool *p, int64_t o2)
{
    const struct window *w = &p->w;
    int64_t first = (o2 - 1) * w->stride[2] - w->pad_begin[2];
    return o2 > 0 && first >= 0 &&
           first + w->stride[2] + (w->kernel[2] - 1) * w->dilation[2] < w->in[2];
}

static int exact_run(const struct op_ctx *c)
{
    const struct pool *p = c->prep;
    int64_t *index = c->n_out > 1 && c->out[1] ? c->out[1]->data : NULL;
    int64_t *at = c->scratch, out = 0;
    struct pixels px = {0, at};
    for (int64_t n = 0; n < c->in[0]->dims[0]; n++)
        for (int64_t pixel = 0; pixel < p->out_pixels; pixel++, out += p->channels) {
            int64_t o[3] = {pixel / (p->w.out[1] * p->w.out[2]), pixel / p->w.out[2] % p->w.out[1],
                            pixel % p->w.out[2]};
            int64_t base = n * p->in_pixels * p->channels;
            int64_t padded = find_pixels(p, o, at, &px.n);
            pool_exact_pixel(p, c, base, &px, padded, out);
            if (index)
                pool_exact_index(p, c, base, &px, n, pixel, index);
        }
    return 0;
}

static int pool_run(const struct op_ctx *c, struct err *e)
{
    const struct pool *p = c->prep;
    if (c->in[0]->type != DT_F32)
        return exact_run(c);
    const float *in = c->in[0]->data;
    float *out = c->out[0]->data;
    int64_t *index = c->n_out > 1 && c->out[1] ? c->out[1]->data : NULL;
    int64_t *at = c->scratch, padded = 0;
    struct pixels px = {0, at};
    (void)e;
    for (int64_t n = 0; n < c->in[0]->dims[0]; n++, in += p->in_pixels * p->channels)
        for (int64_t pixel = 0; pixel < p->out_pixels; pixel++, out += p->channels) {
            int64_t o2 = pixel % p->w.out[2];
            if (moves_on(p, o2))
                for (int64_t i = 0; i < px.n; i++)
                    at[i] += p->w.stride[2] * p->channels;
            else
                padded = find_pixels(p,
                                     (int64_t[3]){pixel / (p->w.out[1] * p->w.out[2]),
                                                  pixel / p->w.out[2] % p->w.out[1], o2},
                                     at, &px.n);
            one_window(p, &px, padded, in, out);
            if (index)
                one_index(p, &px, in, n, pixel, index);
        }
    return 0;
}

/* ---- global ---- */

static int global_run(const struct op_ctx *c, enum pool_kind kind, struct err *e)
{
    const struct pool_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t channels = x->dims[1], n = x->dims[0] * channels;
    struct pool p = {.kind = kind, .channels = channels};
    int64_t *at = c->scratch;
    struct pixels px = {n ? tensor_count(x) / n : 0, at};
    (void)e;
    if (kind == POOL_LP)
        p.power = c->node->opset < 2 ? (double)a->old_p : (double)a->p;
    for (int64_t i = 0; i < px.n; i++)
        at[i] = i * channels;
    for (int64_t i = 0; x->type != DT_F32 && i < x->dims[0]; i++)
        pool_exact_pixel(&p, c, i * px.n * channels, &px, px.n, i * channels);
    for (int64_t i = 0; x->type == DT_F32 && i < x->dims[0]; i++)
        one_window(&p, &px, px.n, (const float *)x->data + i * px.n * channels,
                   (float *)c->out[0]->data + i * channels);
    return 0;
}

static int global_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    const struct tensor *x = c->in[0];
    int64_t n = x->dims[0] * x->dims[1];
    (void)e;
    *ret = NULL;
    c->scratch_bytes = n ? (size_t)(tensor_count(x) / n) * sizeof(int64_t) : 0;
    return 0;
}

static int global_max_run(const struct op_ctx *c, struct err *e)
{
    return global_run(c, POOL_MAX, e);
}

static int global_average_run(const struct op_ctx *c, struct err *e)
{
    return global_run(c, POOL_AVERAGE, e);
}

static int global_lp_run(const struct op_ctx *c, struct err *e)
{
    return global_run(c, POOL_LP, e);
}

#define POOL(name, from, to, traits_, table, prepare_)                                             \
    .type = name, .domain = ONNX, .since = from, .until = to, .min_in = 1, .max_in = 1,            \
    .traits = traits_, .layout = L_CL, .attrs = table, .attr_size = sizeof(struct pool_attr),      \
    .check = pool_check, .shape = pool_shape, .prepare = prepare_, .run = pool_run,                \
    .note = "1 to 3 spatial dims; fast in float32"
#define GLOBAL(name, from, to, traits_, table, run_)                                               \
    .type = name, .domain = ONNX, .since = from, .until = to, .min_in = 1, .max_in = 1,            \
    .traits = traits_, .layout = L_CL, .attrs = table, .attr_size = sizeof(struct pool_attr),      \
    .shape = global_shape, .prepare = global_prepare, .run = run_, .note = "fast in float32"
#define SHARES T_QUANT | T_PRESERVES | T_LOOKTHRU

const struct op ops_pool[] = {
    {POOL("MaxPool", 1, 0, SHARES, max_attrs, max_prepare), .max_out = 2, .in = {FEATURE},
     .out = {FEATURE}, .types = TYPES_FLOAT | TYPE(U8) | TYPE(I8)},
    {POOL("AveragePool", 1, 0, T_QUANT, average_attrs, average_prepare), .in = {FEATURE},
     .out = {FEATURE}, .types = TYPES_FLOAT},
    {POOL("LpPool", 1, 1, 0, lp_old_attrs, lp_prepare), .types = TYPES_FLOAT},
    {POOL("LpPool", 2, 0, 0, lp_attrs, lp_prepare), .types = TYPES_FLOAT},
    {GLOBAL("GlobalMaxPool", 1, 0, SHARES, NULL, global_max_run), .in = {FEATURE}, .out = {FEATURE},
     .types = TYPES_FLOAT},
    {GLOBAL("GlobalAveragePool", 1, 0, T_QUANT, NULL, global_average_run), .in = {FEATURE},
     .out = {FEATURE}, .types = TYPES_FLOAT},
    {GLOBAL("GlobalLpPool", 1, 1, 0, global_lp_old_attrs, global_lp_run), .types = TYPES_FLOAT},
    {GLOBAL("GlobalLpPool", 2, 0, 0, global_lp_attrs, global_lp_run), .types = TYPES_FLOAT},
    {0}};
