/* The reference backend: loops in C, one product after the other. Slow, and right. */
#include "worker/exec/backend.h"

#include <string.h>

#include "worker/exec/conv.h"
#include "worker/exec/simd.h"

struct plain_conv {
    struct conv_desc d;
    struct conv_geom g;
    const float *weight; /* packed; NULL: comes at run time */
    const float *bias;
};

static const char *plain_version(void)
{
    return "1";
}

static int plain_conv_prepare(const struct conv_desc *d, const float *weight, const float *bias,
                              struct arena *a, const void **ret, size_t *ret_scratch, struct err *e)
{
    struct plain_conv *p = arena_alloc(a, sizeof *p);
    size_t bytes = conv_weight_count(d) * sizeof(float);
    p->d = *d;
    conv_geom_of(d, &p->g);
    *ret_scratch = weight ? 0 : bytes;
    if (weight) {
        float *packed = arena_try(a, bytes);
        if (!packed)
            return err_set(e, ERR_MEMORY_LIMIT, NULL, "no memory for a weight of %zu bytes", bytes);
        conv_pack(d, weight, packed);
        p->weight = packed;
    }
    if (bias)
        p->bias = arena_copy(a, bias, d->out_channels * sizeof(float));
    *ret = p;
    return 0;
}

/* Where tap k of output o reads along one dim, or -1. */
static inline int64_t tap_source(const struct plain_conv *p, int dim, int64_t o, int64_t k)
{
    const struct conv_geom *g = &p->g;
    int64_t i;
    if (p->d.transposed) {
        int64_t at = o + g->pad[dim] - k * g->dilation[dim];
        if (at < 0 || at % g->stride[dim])
            return -1;
        i = at / g->stride[dim];
    } else {
        i = o * g->stride[dim] - g->pad[dim] + k * g->dilation[dim];
    }
    return i >= 0 && i < g->in[dim] ? i : -1;
}

SIMD static void add_products(const float *in, const float *w, float *out, int64_t cig, int64_t cog)
{
    for (int64_t i = 0; i < cig; i++, w += cog)
        for (int64_t o = 0; o < cog; o++)
            out[o] += in[i] * w[o];
}

static void one_pixel(const struct plain_conv *p, const float *in, const float *weight,
                      const int64_t o[3], float *out)
{
    const struct conv_geom *g = &p->g;
    for (int64_t tap = 0; tap < g->taps; tap++) {
        int64_t i0 = tap_source(p, 0, o[0], tap / (g->kernel[1] * g->kernel[2]));
        int64_t i1 = tap_source(p, 1, o[1], tap / g->kernel[2] % g->kernel[1]);
        int64_t i2 = tap_source(p, 2, o[2], tap % g->kernel[2]);
        if (i0 < 0 || i1 < 0 || i2 < 0)
            continue;
        const float *from = in + ((i0 * g->in[1] + i1) * g->in[2] + i2) * p->d.in_channels;
        for (int64_t group = 0; group < p->d.groups; group++)
            add_products(from + group * g->cig, weight + (group * g->taps + tap) * g->cig * g->cog,
                         out + group * g->cog, g->cig, g->cog);
    }
}

static void plain_convolve(const struct plain_conv *p, const float *in, const float *weight,
                           const float *bias, float *out)
{
    const struct conv_geom *g = &p->g;
    for (int64_t n = 0; n < p->d.batch; n++, in += g->in_pixels * p->d.in_channels)
        for (int64_t at = 0; at < g->out_pixels; at++, out += p->d.out_channels) {
            int64_t o[3] = {at / (g->out[1] * g->out[2]), at / g->out[2] % g->out[1],
                            at % g->out[2]};
            memset(out, 0, p->d.out_channels * sizeof(float));
            one_pixel(p, in, weight, o, out);
            conv_finish(&p->d, bias, out, 1);
        }
}

static int plain_conv_run(const void *prep, const float *in, float *out, void *scratch,
                          struct err *e)
{
    const struct plain_conv *p = prep;
    (void)scratch, (void)e;
    plain_convolve(p, in, p->weight, p->bias, out);
    return 0;
}

static int plain_conv_run_weight(const void *prep, const float *in, const float *weight,
                                 const float *bias, float *out, void *scratch, struct err *e)
{
    const struct plain_conv *p = prep;
    (void)e;
    conv_pack(&p->d, weight, scratch);
    plain_convolve(p, in, scratch, bias, out);
    return 0;
}

static int plain_gemm(const struct gemm_desc *d, const float *a, const float *b, float *c,
                      struct err *e)
{
    int64_t a_row = d->a_transposed ? 1 : d->k, a_col = d->a_transposed ? d->m : 1;
    int64_t b_row = d->b_transposed ? 1 : d->n, b_col = d->b_transposed ? d->k : 1;
    (void)e;
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < d->n; j++, c++) {
            float sum = 0;
            for (int64_t k = 0; k < d->k; k++)
                sum += a[i * a_row + k * a_col] * b[k * b_row + j * b_col];
            *c = d->alpha * sum + (d->beta == 0 ? 0 : d->beta * *c);
        }
    return 0;
}

const struct backend backend_plain = {
    .name = "plain",
    .version = plain_version,
    .conv_prepare = plain_conv_prepare,
    .conv_run = plain_conv_run,
    .conv_run_weight = plain_conv_run_weight,
    .gemm = plain_gemm,
};
