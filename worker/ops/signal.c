/* Signals: the cosine windows, DFT and STFT. Transforms are plain sums in double over a table of
 * the unit circle: right for every length, not fast for long ones. */
#include "worker/ops/walk.h"

#include <math.h>

/* ---- windows: a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N) ---- */

struct signal_attr {
    int64_t output_datatype, periodic, axis, inverse, onesided;
};

static int window_shape(struct op_ctx *c, struct err *e)
{
    const struct signal_attr *a = c->attr;
    int64_t n;
    if (op_need(c, 1, e))
        return -1;
    int rc = op_input_int(c, 0, &n, e);
    if (rc)
        return rc;
    if (a->output_datatype <= 0 || a->output_datatype >= DT_COUNT ||
        !row_storer((enum dtype)a->output_datatype))
        return err_set(e, ERR_UNSUPPORTED, NULL, "Element type %lld is not computed here.",
                       (long long)a->output_datatype);
    return op_out(c, 0, (enum dtype)a->output_datatype, 1, &n, e);
}

static int window(const struct op_ctx *c, double a0, double a1, double a2)
{
    const struct signal_attr *a = c->attr;
    struct tensor *y = c->out[0];
    int64_t n = tensor_count(y), period = a->periodic ? n : n - 1;
    for (int64_t i = 0; i < n; i++) {
        double turn = period > 0 ? 2 * M_PI * (double)i / (double)period : 0;
        double v = period > 0 ? a0 - a1 * cos(turn) + a2 * cos(2 * turn) : 1;
        row_storer(y->type)(1, &v, (char *)y->data + (size_t)i * dtype_size(y->type), 1);
    }
    return 0;
}

#define WINDOW(name, a0, a1, a2)                                                                   \
    static int name##_run(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        (void)e;                                                                                   \
        return window(c, a0, a1, a2);                                                              \
    }
WINDOW(hann, 0.5, 0.5, 0)
WINDOW(hamming, 25.0 / 46, 21.0 / 46, 0)
WINDOW(blackman, 0.42, 0.5, 0.08)

/* ---- one transform ---- */

struct transform {
    const double *cosine, *sine; /* of 2 pi k / n for k in [0, n) */
    int64_t n, given;            /* points; those beyond `given` are 0 */
    const char *x, *window;      /* window NULL: ones */
    enum dtype type;
    int64_t x_step, y_step; /* elements between points */
    bool complex_in, inverse;
};

static void circle(int64_t n, double *cosine, double *sine)
{
    for (int64_t k = 0; k < n; k++) {
        cosine[k] = cos(2 * M_PI * (double)k / (double)n);
        sine[k] = sin(2 * M_PI * (double)k / (double)n);
    }
}

static double element(const struct transform *t, const char *p, int64_t i)
{
    double v;
    row_loader(t->type)(1, p + i * (int64_t)dtype_size(t->type), 1, &v);
    return v;
}

/* Bins [0, bins) to y: pairs of real and imaginary part. */
static void transform(const struct transform *t, int64_t bins, char *y)
{
    for (int64_t f = 0; f < bins; f++) {
        double re = 0, im = 0;
        for (int64_t i = 0, turn = 0; i < t->given; i++) {
            double a = element(t, t->x, i * t->x_step),
                   w = t->window ? element(t, t->window, i) : 1;
            double b = t->complex_in ? element(t, t->x, i * t->x_step + 1) : 0;
            double c = t->cosine[turn], s = t->inverse ? t->sine[turn] : -t->sine[turn];
            re += w * (a * c - b * s);
            im += w * (a * s + b * c);
            turn = (turn + f) % t->n;
        }
        double scale = t->inverse ? 1 / (double)t->n : 1, pair[2] = {re * scale, im * scale};
        row_storer(t->type)(2, pair, y + f * t->y_step * (int64_t)dtype_size(t->type), 1);
    }
}

/* ---- DFT: [..., points, ..., 1 or 2]; the axis is an attribute up to 19, an input since 20 ----
 */

struct dft {
    int axis;
    int64_t n, bins;
};

static int dft_of(const struct op_ctx *c, struct dft *d, struct err *e)
{
    const struct signal_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t axis = c->node->opset < 20 ? a->axis : -2;
    int rc = 0;
    if (x->rank < 2 || x->dims[x->rank - 1] < 1 || x->dims[x->rank - 1] > 2)
        return op_bad(c, 0, e, "its last dim must be 1 or 2: real or complex");
    if (c->n_in > 2 && c->in[2])
        rc = op_input_int(c, 2, &axis, e);
    if (rc || (rc = op_axis(axis, x->rank, &d->axis, e)))
        return rc;
    if (d->axis == x->rank - 1)
        return op_bad(c, 0, e, "the last axis cannot be transformed");
    d->n = x->dims[d->axis];
    if (c->n_in > 1 && c->in[1])
        rc = op_input_int(c, 1, &d->n, e);
    if (rc)
        return rc;
    if (d->n < 1 || d->n > 1 << 24)
        return op_bad(c, 0, e, "a transform of %lld points makes no sense", (long long)d->n);
    d->bins = a->onesided ? d->n / 2 + 1 : d->n;
    return 0;
}

static int dft_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX];
    struct dft d;
    if (op_need(c, 1, e) || op_takes_float(c, 0, e))
        return -1;
    int rc = dft_of(c, &d, e);
    if (rc)
        return rc;
    for (int i = 0; i < c->in[0]->rank; i++)
        dims[i] = i == d.axis ? d.bins : c->in[0]->dims[i];
    dims[c->in[0]->rank - 1] = 2;
    return op_out(c, 0, c->in[0]->type, c->in[0]->rank, dims, e);
}

static int dft_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct dft d;
    *ret_prep = NULL;
    if (dft_of(c, &d, e))
        return -1;
    c->scratch_bytes = (size_t)d.n * 2 * sizeof(double);
    return 0;
}

static int dft_run(const struct op_ctx *c, struct err *e)
{
    const struct signal_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    struct dft d;
    if (dft_of(c, &d, e))
        return -1;
    double *cosine = c->scratch, *sine = cosine + d.n;
    circle(d.n, cosine, sine);
    int64_t parts = x->dims[x->rank - 1], in = x->dims[d.axis];
    int64_t inner = dims_product(x->dims, d.axis + 1, x->rank - 1);
    int64_t outer = dims_product(x->dims, 0, d.axis);
    size_t size = dtype_size(x->type);
    struct transform t = {cosine,         sine,    d.n,           in < d.n ? in : d.n, NULL,
                          NULL,           x->type, inner * parts, inner * 2,           parts == 2,
                          a->inverse != 0};
    for (int64_t g = 0; g < outer * inner; g++) {
        t.x = (const char *)x->data + (size_t)((g / inner * in * inner + g % inner) * parts) * size;
        transform(&t, d.bins,
                  (char *)c->out[0]->data +
                      (size_t)((g / inner * d.bins * inner + g % inner) * 2) * size);
    }
    return 0;
}

/* ---- STFT: signal, frame_step, window, frame_length ---- */

struct stft {
    int64_t step, length, frames, bins;
};

static int stft_of(const struct op_ctx *c, struct stft *s, struct err *e)
{
    const struct signal_attr *a = c->attr;
    const struct tensor *x = c->in[0], *w = c->n_in > 2 ? c->in[2] : NULL;
    int rc = op_input_int(c, 1, &s->step, e);
    if (rc == 0 && c->n_in > 3 && c->in[3])
        rc = op_input_int(c, 3, &s->length, e);
    else if (rc == 0 && w)
        s->length = tensor_count(w);
    else if (rc == 0)
        return op_bad(c, 3, e, "neither a window nor a frame length is given");
    if (rc)
        return rc;
    if (x->rank < 2 || x->rank > 3 || (x->rank == 3 && x->dims[2] != 1 && x->dims[2] != 2))
        return op_bad(c, 0, e, "a signal is [batch, points, 1 or 2]");
    if (w && (w->rank != 1 || w->dims[0] != s->length || w->type != x->type))
        return op_bad(c, 2, e, "the window does not fit the frames");
    if (s->step < 1 || s->length < 1 || s->length > x->dims[1])
        return op_bad(c, 0, e, "frames of %lld points do not fit", (long long)s->length);
    s->frames = (x->dims[1] - s->length) / s->step + 1;
    s->bins = a->onesided ? s->length / 2 + 1 : s->length;
    return 0;
}

static int stft_shape(struct op_ctx *c, struct err *e)
{
    struct stft s;
    if (op_need(c, 2, e) || op_takes_float(c, 0, e))
        return -1;
    int rc = stft_of(c, &s, e);
    return rc ? rc
              : op_out(c, 0, c->in[0]->type, 4, (int64_t[]){c->in[0]->dims[0], s.frames, s.bins, 2},
                       e);
}

static int stft_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct stft s;
    *ret_prep = NULL;
    if (stft_of(c, &s, e))
        return -1;
    c->scratch_bytes = (size_t)s.length * 2 * sizeof(double);
    return 0;
}

static int stft_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *w = c->n_in > 2 ? c->in[2] : NULL;
    struct stft s;
    if (stft_of(c, &s, e))
        return -1;
    double *cosine = c->scratch, *sine = cosine + s.length;
    circle(s.length, cosine, sine);
    int64_t parts = x->rank == 3 ? x->dims[2] : 1;
    size_t size = dtype_size(x->type);
    struct transform t = {cosine,  sine,  s.length, s.length,   NULL, w ? w->data : NULL,
                          x->type, parts, 2,        parts == 2, false};
    for (int64_t g = 0; g < x->dims[0] * s.frames; g++) {
        int64_t first = g / s.frames * x->dims[1] + g % s.frames * s.step;
        t.x = (const char *)x->data + (size_t)(first * parts) * size;
        transform(&t, s.bins, (char *)c->out[0]->data + (size_t)(g * s.bins * 2) * size);
    }
    return 0;
}

#define A(field, ...) ATTR(INT, signal_attr, field, __VA_ARGS__)
static const struct attr_def window_attrs[] = {
    A(output_datatype, .number = 1), A(periodic, .number = 1), {0}};
static const struct attr_def dft_attrs[] = {A(axis, .number = 1), A(inverse), A(onesided), {0}};
static const struct attr_def dft_20_attrs[] = {A(inverse), A(onesided), {0}};
static const struct attr_def stft_attrs[] = {A(onesided, .number = 1), {0}};

#define ROW(name, stem, from, by, table, ...)                                                      \
    {                                                                                              \
        name, ONNX, .since = from, .attrs = table, .attr_size = sizeof(struct signal_attr),        \
                    .shape = by##_shape, .run = stem##_run, __VA_ARGS__                            \
    }
#define ONE .min_in = 1, .max_in = 1

const struct op ops_signal[] = {
    ROW("HannWindow", hann, 17, window, window_attrs, ONE, .types = TYPES_INT),
    ROW("HammingWindow", hamming, 17, window, window_attrs, ONE, .types = TYPES_INT),
    ROW("BlackmanWindow", blackman, 17, window, window_attrs, ONE, .types = TYPES_INT),
    ROW("DFT", dft, 17, dft, dft_attrs, .traits = T_HEAVY, .until = 19, .min_in = 1, .max_in = 2,
        .prepare = dft_prepare, .types = TYPES_FLOAT),
    ROW("DFT", dft, 20, dft, dft_20_attrs, .traits = T_HEAVY, .min_in = 1, .max_in = 3,
        .prepare = dft_prepare, .types = TYPES_FLOAT),
    ROW("STFT", stft, 17, stft, stft_attrs, .traits = T_HEAVY, .min_in = 2, .max_in = 4,
        .prepare = stft_prepare, .types = TYPES_FLOAT),
    {0}};
