/*
 * DeformConv: a convolution whose every tap is moved by offsets of its own and weighted by a mask;
 * and MaxRoiPool, the maximum over parts of regions. Both plain, in double.
 */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

static void put(struct tensor *t, int64_t i, double v)
{
    row_storer(t->type)(1, &v, (char *)t->data + (size_t)i * dtype_size(t->type), 1);
}

/* ---- DeformConv: X, W, offset, B, mask ---- */

struct deform_attr {
    struct ints kernel_shape, strides, dilations, pads, pooled_shape;
    int64_t group, offset_group;
    float spatial_scale;
};

enum { D_X, D_W, D_OFFSET, D_B, D_MASK, STEP_MAX = 1 << 20 };

struct deform {
    int64_t in[2], out[2], kernel[2], stride[2], dilation[2], pad[2];
    int64_t channels, outs, taps, group, offset_group;
};

static const struct tensor *optional(const struct op_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static int item(struct ints v, size_t n, size_t i, int64_t otherwise, int64_t min, int64_t *ret,
                struct err *e)
{
    *ret = v.v ? (v.n == n ? v.v[i] : -1) : otherwise;
    if (*ret < min || *ret > STEP_MAX)
        return err_set(e, ERR_BAD_MODEL, NULL,
                       "Kernel, strides, dilations or pads do not make sense.");
    return 0;
}

static int window_of(const struct op_ctx *c, int d, struct deform *m, struct err *e)
{
    const struct deform_attr *a = c->attr;
    int64_t kernel, end;
    size_t i = (size_t)d;
    m->in[d] = c->in[D_X]->dims[2 + d];
    m->kernel[d] = c->in[D_W]->dims[2 + d];
    if (item(a->kernel_shape, 2, i, m->kernel[d], 1, &kernel, e) ||
        item(a->strides, 2, i, 1, 1, &m->stride[d], e) ||
        item(a->dilations, 2, i, 1, 1, &m->dilation[d], e) ||
        item(a->pads, 4, i, 0, 0, &m->pad[d], e) || item(a->pads, 4, i + 2, 0, 0, &end, e))
        return -1;
    int64_t room = m->in[d] + m->pad[d] + end - (m->dilation[d] * (kernel - 1) + 1);
    if (kernel != m->kernel[d] || room < 0)
        return op_bad(c, D_W, e, "the kernel does not fit along dim %d", 2 + d);
    m->out[d] = room / m->stride[d] + 1;
    return 0;
}

static int shaped(const struct op_ctx *c, int i, int rank, const int64_t *dims, struct err *e)
{
    const struct tensor *t = optional(c, i);
    for (int d = 0; t && d < rank; d++)
        if (t->rank != rank || t->dims[d] != dims[d])
            return op_bad(c, i, e, "dim %d should be %lld", d, (long long)dims[d]);
    return 0;
}

static int deform_of(const struct op_ctx *c, struct deform *m, struct err *e)
{
    const struct deform_attr *a = c->attr;
    const struct tensor *x = c->in[D_X], *w = c->in[D_W];
    if (x->rank != 4 || w->rank != 4)
        return err_set(e, ERR_UNSUPPORTED, NULL, "DeformConv is computed over 2 spatial dims.");
    *m = (struct deform){.channels = x->dims[1],
                         .outs = w->dims[0],
                         .group = a->group,
                         .offset_group = a->offset_group};
    if (m->group < 1 || m->offset_group < 1 || m->channels % m->group || m->outs % m->group ||
        m->channels % m->offset_group || w->dims[1] != m->channels / m->group)
        return op_bad(c, D_W, e, "the weights do not fit the data in these groups");
    if (window_of(c, 0, m, e) || window_of(c, 1, m, e))
        return -1;
    m->taps = m->kernel[0] * m->kernel[1];
    if (m->taps > STEP_MAX || m->offset_group > STEP_MAX)
        return err_set(e, ERR_LIMIT, NULL, "A kernel of %lld elements is too large.",
                       (long long)m->taps);
    int64_t fields = m->offset_group * m->taps;
    return shaped(c, D_OFFSET, 4, (int64_t[]){x->dims[0], 2 * fields, m->out[0], m->out[1]}, e) ||
                   shaped(c, D_MASK, 4, (int64_t[]){x->dims[0], fields, m->out[0], m->out[1]}, e) ||
                   shaped(c, D_B, 1, &m->outs, e)
               ? -1
               : 0;
}

static int deform_shape(struct op_ctx *c, struct err *e)
{
    struct deform m;
    if (op_need(c, 3, e) || op_takes_float(c, D_X, e) || op_same_type(c, 0, 4, e) ||
        deform_of(c, &m, e))
        return -1;
    return op_out(c, 0, c->in[D_X]->type, 4,
                  (int64_t[]){c->in[D_X]->dims[0], m.outs, m.out[0], m.out[1]}, e);
}

/* Scratch: the values under the taps of one place, [channels, taps]. */
static int deform_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct deform m;
    *ret_prep = NULL;
    if (deform_of(c, &m, e))
        return -1;
    c->scratch_bytes = (size_t)(m.channels * m.taps) * sizeof(double);
    return 0;
}

/* The plane's value at (y, x), 0 outside, bilinear between. */
static double value_at(const struct tensor *t, int64_t plane, const int64_t *in, double y, double x)
{
    if (!(y > -1 && y < (double)in[0] && x > -1 && x < (double)in[1]))
        return 0;
    int64_t y0 = (int64_t)floor(y), x0 = (int64_t)floor(x);
    double ly = y - (double)y0, lx = x - (double)x0, sum = 0;
    for (int k = 0; k < 4; k++) {
        int64_t py = y0 + k / 2, px = x0 + k % 2;
        double w = (k / 2 ? ly : 1 - ly) * (k % 2 ? lx : 1 - lx);
        if (py >= 0 && py < in[0] && px >= 0 && px < in[1] && w != 0)
            sum += w * tensor_num(t, (plane * in[0] + py) * in[1] + px);
    }
    return sum;
}

static void gather(const struct op_ctx *c, const struct deform *m, int64_t n, int64_t place,
                   double *column)
{
    const struct tensor *offset = c->in[D_OFFSET], *mask = optional(c, D_MASK);
    int64_t places = m->out[0] * m->out[1], each = m->channels / m->offset_group;
    for (int64_t f = 0; f < m->offset_group * m->taps; f++) {
        int64_t g = f / m->taps, tap = f % m->taps;
        int64_t field = n * m->offset_group * m->taps + f;
        double y = tensor_num(offset, 2 * field * places + place) +
                   (double)(place / m->out[1] * m->stride[0] - m->pad[0] +
                            tap / m->kernel[1] * m->dilation[0]);
        double x = tensor_num(offset, (2 * field + 1) * places + place) +
                   (double)(place % m->out[1] * m->stride[1] - m->pad[1] +
                            tap % m->kernel[1] * m->dilation[1]);
        double weight = mask ? tensor_num(mask, field * places + place) : 1;
        for (int64_t ch = g * each; ch < (g + 1) * each; ch++)
            column[ch * m->taps + tap] =
                weight * value_at(c->in[D_X], n * m->channels + ch, m->in, y, x);
    }
}

static int deform_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *w = c->in[D_W], *b = optional(c, D_B);
    struct deform m;
    double *column = c->scratch;
    if (deform_of(c, &m, e))
        return -1;
    int64_t places = m.out[0] * m.out[1], k = m.channels / m.group * m.taps;
    for (int64_t i = 0; i < c->in[D_X]->dims[0] * places; i++) {
        gather(c, &m, i / places, i % places, column);
        for (int64_t o = 0; o < m.outs; o++) {
            const double *from = column + o / (m.outs / m.group) * k;
            double sum = b ? tensor_num(b, o) : 0;
            for (int64_t j = 0; j < k; j++)
                sum += from[j] * tensor_num(w, o * k + j);
            put(c->out[0], (i / places * m.outs + o) * places + i % places, sum);
        }
    }
    return 0;
}

/* ---- MaxRoiPool: regions are (batch, x1, y1, x2, y2) ---- */

static int pool_shape(struct op_ctx *c, struct err *e)
{
    const struct deform_attr *a = c->attr;
    if (op_need(c, 2, e) || op_takes_float(c, 0, e) || op_same_type(c, 0, 1, e))
        return -1;
    const struct tensor *x = c->in[0], *rois = c->in[1];
    if (x->rank != 4 || rois->rank != 2 || rois->dims[1] != 5)
        return op_bad(c, 1, e, "regions are [n,5] over an input of 4 dims");
    if (a->pooled_shape.n != 2 || a->pooled_shape.v[0] < 1 || a->pooled_shape.v[1] < 1)
        return err_set(e, ERR_BAD_MODEL, NULL, "pooled_shape is a height and a width.");
    return op_out(
        c, 0, x->type, 4,
        (int64_t[]){rois->dims[0], x->dims[1], a->pooled_shape.v[0], a->pooled_shape.v[1]}, e);
}

struct span {
    int64_t begin, end;
};

/* Bin k of n over [first, last] (scaled, both inside), kept in [0, size). */
static struct span bin_of(double first, double last, int64_t k, int64_t n, int64_t size)
{
    double begin = round(first), length = fmax(round(last) - begin + 1, 1);
    double each = length / (double)n, limit = (double)size;
    double from = floor((double)k * each) + begin, to = ceil((double)(k + 1) * each) + begin;
    return (struct span){(int64_t)fmin(fmax(from, 0), limit), (int64_t)fmin(fmax(to, 0), limit)};
}

static double largest(const struct tensor *x, int64_t plane, struct span h, struct span w)
{
    double most = h.begin < h.end && w.begin < w.end ? -INFINITY : 0;
    for (int64_t i = h.begin; i < h.end; i++)
        for (int64_t j = w.begin; j < w.end; j++) {
            double v = tensor_num(x, (plane * x->dims[2] + i) * x->dims[3] + j);
            most = v > most || v != v ? v : most;
        }
    return most;
}

static int pool_run(const struct op_ctx *c, struct err *e)
{
    const struct deform_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t ph = a->pooled_shape.v[0], pw = a->pooled_shape.v[1], at = 0;
    for (int64_t r = 0; r < c->in[1]->dims[0]; r++) {
        double box[5];
        for (int k = 0; k < 5; k++)
            box[k] = tensor_num(c->in[1], r * 5 + k) * (k ? (double)a->spatial_scale : 1);
        if (!(box[0] >= 0 && box[0] < (double)x->dims[0]))
            return op_bad(c, 1, e, "there is no batch %g", box[0]);
        for (int64_t ch = 0; ch < x->dims[1]; ch++)
            for (int64_t p = 0; p < ph * pw; p++) {
                struct span h = bin_of(box[2], box[4], p / pw, ph, x->dims[2]);
                struct span w = bin_of(box[1], box[3], p % pw, pw, x->dims[3]);
                put(c->out[0], at++, largest(x, (int64_t)box[0] * x->dims[1] + ch, h, w));
            }
    }
    return 0;
}

#define A(kind, field, ...) ATTR(kind, deform_attr, field, __VA_ARGS__)
static const struct attr_def deform_attrs[] = {A(INTS, kernel_shape),
                                               A(INTS, strides),
                                               A(INTS, dilations),
                                               A(INTS, pads),
                                               A(INT, group, .number = 1),
                                               A(INT, offset_group, .number = 1),
                                               {0}};
static const struct attr_def pool_attrs[] = {
    A(INTS, pooled_shape, .required = true), A(FLOAT, spatial_scale, .number = 1), {0}};

const struct op ops_deform[] = {
    {"DeformConv", ONNX, .since = 19, .traits = T_HEAVY, .min_in = 3, .max_in = 5,
     .attrs = deform_attrs, .attr_size = sizeof(struct deform_attr), .shape = deform_shape,
     .prepare = deform_prepare, .run = deform_run, .note = "2 spatial dims", .types = TYPES_FLOAT},
    {"MaxRoiPool", ONNX, .since = 1, .traits = T_HEAVY, .min_in = 2, .max_in = 2,
     .attrs = pool_attrs, .attr_size = sizeof(struct deform_attr), .shape = pool_shape,
     .run = pool_run, .types = TYPES_FLOAT},
    {0}};
