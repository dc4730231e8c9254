#include "worker/ops/exact.h"

#include "worker/exec/conv.h"
#include "worker/ops/walk.h"

static bool taken(enum dtype t, bool integers)
{
    return dtype_is_float(t) ||
           (integers && (t == DT_I32 || t == DT_I64 || t == DT_U32 || t == DT_U64));
}

int exact_check(const struct op_ctx *c, bool integers, struct err *e)
{
    char text[TENSOR_TEXT_MAX];
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i] && i < 2)
            return err_set(e, ERR_BAD_MODEL, "", "Input %d must be there.", i);
        if (c->in[i] && !taken(c->in[i]->type, integers))
            return err_set(e, ERR_UNSUPPORTED, "", "The operator does not take %s.",
                           tensor_text(c->in[i], text));
        if (c->in[i] && c->in[i]->type != c->in[0]->type)
            return err_set(e, ERR_BAD_MODEL, "", "Input %d is %s, input 0 has another type.", i,
                           tensor_text(c->in[i], text));
    }
    return 0;
}

/* X(type, suffix, element, sum, scale): integers are summed without a sign, so that they wrap. */
#define PLAIN_SCALE(sum, by) ((sum) * (by))
#define WHOLE_SCALE(sum, by) ((by) == 1 ? (sum) : (sum) * (uint64_t)(int64_t)(by))
#define TYPES(X)                                                                                   \
    X(DT_F64, f64, double, double, PLAIN_SCALE)                                                    \
    X(DT_F16, f16, half, double, PLAIN_SCALE)                                                      \
    X(DT_I32, i32, int32_t, uint64_t, WHOLE_SCALE)                                                 \
    X(DT_I64, i64, int64_t, uint64_t, WHOLE_SCALE)                                                 \
    X(DT_U32, u32, uint32_t, uint64_t, WHOLE_SCALE)                                                \
    X(DT_U64, u64, uint64_t, uint64_t, WHOLE_SCALE)

/* A factor that scales integers must be a whole number within reason; others count as 0. */
static float whole(float by)
{
    return by >= -1e9f && by <= 1e9f ? by : 0;
}

#define GEMM(type, suffix, T, S, SCALE)                                                            \
    static void gemm_##suffix(const struct gemm_desc *d, float alpha, const T *a, const T *b,      \
                              T *y)                                                                \
    {                                                                                              \
        int64_t am = d->a_transposed ? 1 : d->k, ak = d->a_transposed ? d->m : 1;                  \
        int64_t bk = d->b_transposed ? 1 : d->n, bn = d->b_transposed ? d->k : 1;                  \
        for (int64_t i = 0; i < d->m; i++)                                                         \
            for (int64_t j = 0; j < d->n; j++) {                                                   \
                S sum = 0;                                                                         \
                for (int64_t k = 0; k < d->k; k++)                                                 \
                    sum += (S)a[i * am + k * ak] * (S)b[k * bk + j * bn];                          \
                y[i * d->n + j] = (T)SCALE(sum, alpha);                                            \
            }                                                                                      \
    }                                                                                              \
    static void add_##suffix(float beta, const T *from, T *y)                                      \
    {                                                                                              \
        *y = (T)((S)*y + SCALE((S)*from, beta));                                                   \
    }
TYPES(GEMM)

void exact_gemm(enum dtype type, const struct gemm_desc *d, const void *a, const void *b, void *y)
{
    switch (type) {
#define RUN(t, suffix, T, S, SCALE)                                                                \
    case t:                                                                                        \
        gemm_##suffix(d, dtype_is_float(t) ? d->alpha : whole(d->alpha), a, b, y);                 \
        break;
        TYPES(RUN)
#undef RUN
    default:
        break;
    }
}

void exact_add(enum dtype type, float beta, const void *from, int64_t from_at, void *y, int64_t at)
{
    switch (type) {
#define RUN(t, suffix, T, S, SCALE)                                                                \
    case t:                                                                                        \
        add_##suffix(dtype_is_float(t) ? beta : whole(beta), (const T *)from + from_at,            \
                     (T *)y + at);                                                                 \
        break;
        TYPES(RUN)
#undef RUN
    default:
        break;
    }
}

/* ---- convolution ---- */

/* The input pixel that tap t of output pixel o meets, or -1. */
static int64_t pixel_of(const struct conv_geom *g, bool transposed, int64_t o, int64_t t)
{
    int64_t at = 0;
    int64_t out[3] = {o / (g->out[1] * g->out[2]), o / g->out[2] % g->out[1], o % g->out[2]};
    int64_t tap[3] = {t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                      t % g->kernel[2]};
    for (int i = 0; i < 3; i++) {
        int64_t p = transposed ? out[i] + g->pad[i] - tap[i] * g->dilation[i]
                               : out[i] * g->stride[i] - g->pad[i] + tap[i] * g->dilation[i];
        if (transposed && (p < 0 || p % g->stride[i]))
            return -1;
        p = transposed ? p / g->stride[i] : p;
        if (p < 0 || p >= g->in[i])
            return -1;
        at = at * g->in[i] + p;
    }
    return at;
}

struct site {
    const struct conv_desc *d;
    struct conv_geom g;
    int64_t pixel, channel; /* of the output */
};

/* Where the weight of input channel c of the group, tap t lies. */
static int64_t weight_at(const struct site *s, int64_t group, int64_t c, int64_t t)
{
    const struct conv_geom *g = &s->g;
    if (!s->d->transposed)
        return (s->channel * g->cig + c) * g->taps + t;
    return ((group * g->cig + c) * g->cog + s->channel % g->cog) * g->taps + t;
}

#define CONV(suffix, T)                                                                            \
    static double sum_##suffix(const struct site *s, const T *in, const T *w)                      \
    {                                                                                              \
        double sum = 0;                                                                            \
        int64_t group = s->channel / s->g.cog;                                                     \
        for (int64_t t = 0; t < s->g.taps; t++) {                                                  \
            int64_t p = pixel_of(&s->g, s->d->transposed, s->pixel, t);                            \
            for (int64_t c = 0; p >= 0 && c < s->g.cig; c++)                                       \
                sum += (double)in[p * s->d->in_channels + group * s->g.cig + c] *                  \
                       (double)w[weight_at(s, group, c, t)];                                       \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
    static void conv_##suffix(struct site *s, const T *in, const T *w, const T *bias, T *out)      \
    {                                                                                              \
        int64_t pixels = s->g.in_pixels * s->d->in_channels;                                       \
        for (int64_t n = 0; n < s->d->batch; n++)                                                  \
            for (s->pixel = 0; s->pixel < s->g.out_pixels; s->pixel++)                             \
                for (s->channel = 0; s->channel < s->d->out_channels; s->channel++)                \
                    *out++ = (T)(sum_##suffix(s, in + n * pixels, w) +                             \
                                 (bias ? (double)bias[s->channel] : 0));                           \
    }
CONV(f64, double)
CONV(f16, half)

void exact_conv(enum dtype type, const struct conv_desc *d, const void *in, const void *weight,
                const void *bias, void *out)
{
    struct site s = {.d = d};
    conv_geom_of(d, &s.g);
    if (type == DT_F64)
        conv_f64(&s, in, weight, bias, out);
    else if (type == DT_F16)
        conv_f16(&s, in, weight, bias, out);
}
