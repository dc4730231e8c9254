/*
 * The OpenBLAS backend; the only file that sees cblas. A convolution is a matrix product of image
 * patches (im2col), made band by band so that the patches stay in the cache; 1 × 1 needs no
 * patches. Depthwise convolutions and products with one row have kernels of their own.
 */
#include "worker/exec/backend.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <cblas.h>

#include "worker/exec/conv.h"
#include "worker/exec/simd.h"

enum { BAND_BYTES = 256 << 10, BAND_MIN = 16 };

struct blas_conv {
    struct conv_desc d;
    struct conv_geom g;
    int64_t band; /* output (transposed: input) pixels at once */
    void (*run)(const struct blas_conv *p, const float *in, const float *weight, float *out,
                float *scratch);
    void (*pack)(const struct conv_desc *d, const float *weight, float *ret);
    const float *weight, *bias; /* packed; weight NULL: comes at run time */
    size_t weight_bytes;        /* of scratch that a weight at run time is packed into */
};

static char version[96];

static void start(void)
{
    char number[32] = "unknown";
    openblas_set_num_threads(1);
    sscanf(openblas_get_config(), "OpenBLAS %31s", number);
    snprintf(version, sizeof version, "%s %s", number, openblas_get_corename());
}

static const char *blas_version(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    return version;
}

/* y[n] = x[k] · B[k][n], streaming B once. */
SIMD static void row_product(const float *x, const float *b, float *y, int64_t k, int64_t n,
                             int64_t b_step)
{
    int64_t i = 0;
    memset(y, 0, n * sizeof *y);
    for (; i + 4 <= k; i += 4, b += 4 * b_step)
        for (int64_t j = 0; j < n; j++)
            y[j] += x[i] * b[j] + x[i + 1] * b[j + b_step] + x[i + 2] * b[j + 2 * b_step] +
                    x[i + 3] * b[j + 3 * b_step];
    for (; i < k; i++, b += b_step)
        for (int64_t j = 0; j < n; j++)
            y[j] += x[i] * b[j];
}

/* C[m][n] = A[m][k] · B[k][n] with row steps. */
static void product(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_step, const float *b,
                    int64_t b_step, float *c, int64_t c_step)
{
    if (m == 1)
        row_product(a, b, c, k, n, b_step);
    else if (m > 0)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, a_step, b, b_step, 0,
                    c, c_step);
}

/* ---- depthwise: in_channels == out_channels == groups, weight [tap][channel] ---- */

static void pack_depthwise(const struct conv_desc *d, const float *weight, float *ret)
{
    int64_t taps = conv_weight_count(d) / d->groups;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < d->groups; c++)
            *ret++ = weight[c * taps + t];
}

/* The taps of one output pixel that fall inside the image: offsets into input and weight. */
struct taps {
    int n;
    int64_t in[64], weight[64];
};
enum { DEPTHWISE_TAPS_MAX = 64 };

static void find_taps(const struct blas_conv *p, const int64_t o[3], struct taps *ret)
{
    const struct conv_geom *g = &p->g;
    ret->n = 0;
    for (int64_t t = 0; t < g->taps; t++) {
        int64_t i[3], k[3] = {t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                              t % g->kernel[2]};
        bool inside = true;
        for (int j = 0; j < 3; j++) {
            i[j] = o[j] * g->stride[j] - g->pad[j] + k[j] * g->dilation[j];
            inside = inside && i[j] >= 0 && i[j] < g->in[j];
        }
        if (!inside)
            continue;
        ret->in[ret->n] = ((i[0] * g->in[1] + i[1]) * g->in[2] + i[2]) * p->d.in_channels;
        ret->weight[ret->n++] = t * p->d.in_channels;
    }
}

/* One pixel, all channels: 4 vectors of sums at a time, then one, then single channels. */
SIMD static void depthwise_pixel(const struct taps *t, const float *in, const float *w, float *out,
                                 int64_t channels)
{
    int64_t c = 0;
    for (; c + 4 * VEC <= channels; c += 4 * VEC) {
        vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
        for (int i = 0; i < t->n; i++) {
            const vec *x = (const vec *)(in + t->in[i] + c);
            const vec *y = (const vec *)(w + t->weight[i] + c);
            s0 += x[0] * y[0];
            s1 += x[1] * y[1];
            s2 += x[2] * y[2];
            s3 += x[3] * y[3];
        }
        vec *to = (vec *)(out + c);
        to[0] = s0, to[1] = s1, to[2] = s2, to[3] = s3;
    }
    for (; c + VEC <= channels; c += VEC) {
        vec s = {0};
        for (int i = 0; i < t->n; i++)
            s += *(const vec *)(in + t->in[i] + c) * *(const vec *)(w + t->weight[i] + c);
        *(vec *)(out + c) = s;
    }
    for (; c < channels; c++) {
        float s = 0;
        for (int i = 0; i < t->n; i++)
            s += in[t->in[i] + c] * w[t->weight[i] + c];
        out[c] = s;
    }
}

static bool inner_pixel(const struct conv_geom *g, int64_t o2)
{
    int64_t first = o2 * g->stride[2] - g->pad[2];
    return first >= 0 && first + (g->kernel[2] - 1) * g->dilation[2] < g->in[2];
}

/* Neighbours in the middle of a row have the same taps, moved on by the stride. */
static void depthwise_row(const struct blas_conv *p, const float *in, const float *weight,
                          const int64_t row[2], float *out)
{
    const struct conv_geom *g = &p->g;
    struct taps t;
    bool was_inner = false;
    for (int64_t o2 = 0; o2 < g->out[2]; o2++, out += p->d.out_channels) {
        bool inner = inner_pixel(g, o2);
        if (inner && was_inner) {
            for (int i = 0; i < t.n; i++)
                t.in[i] += g->stride[2] * p->d.in_channels;
        } else {
            find_taps(p, (int64_t[3]){row[0], row[1], o2}, &t);
        }
        was_inner = inner;
        depthwise_pixel(&t, in, weight, out, p->d.in_channels);
    }
}

static void run_depthwise(const struct blas_conv *p, const float *in, const float *weight,
                          float *out, float *scratch)
{
    const struct conv_geom *g = &p->g;
    int64_t row_out = g->out[2] * p->d.out_channels;
    (void)scratch;
    for (int64_t o0 = 0; o0 < g->out[0]; o0++)
        for (int64_t o1 = 0; o1 < g->out[1]; o1++, out += row_out) {
            depthwise_row(p, in, weight, (int64_t[2]){o0, o1}, out);
            conv_finish(&p->d, p->bias, out, g->out[2]);
        }
}

/* ---- 1 × 1 ---- */

static void run_pointwise(const struct blas_conv *p, const float *in, const float *weight,
                          float *out, float *scratch)
{
    (void)scratch;
    for (int64_t at = 0; at < p->g.out_pixels; at += p->band) {
        int64_t n = p->g.out_pixels - at < p->band ? p->g.out_pixels - at : p->band;
        float *to = out + at * p->d.out_channels;
        product(n, p->d.out_channels, p->d.in_channels, in + at * p->d.in_channels,
                p->d.in_channels, weight, p->d.out_channels, to, p->d.out_channels);
        conv_finish(&p->d, p->bias, to, n);
    }
}

/* ---- patches ---- */

/* The row of kernel taps (k0, k1) at output o → kernel[2] × cig floats. */
static void patch_row(const struct blas_conv *p, const float *in, const int64_t o[3], int64_t k0,
                      int64_t k1, float *ret)
{
    const struct conv_geom *g = &p->g;
    int64_t i0 = o[0] * g->stride[0] - g->pad[0] + k0 * g->dilation[0];
    int64_t i1 = o[1] * g->stride[1] - g->pad[1] + k1 * g->dilation[1];
    int64_t i2 = o[2] * g->stride[2] - g->pad[2];
    if (i0 < 0 || i0 >= g->in[0] || i1 < 0 || i1 >= g->in[1]) {
        memset(ret, 0, g->kernel[2] * g->cig * sizeof *ret);
        return;
    }
    in += (i0 * g->in[1] + i1) * g->in[2] * p->d.in_channels;
    if (p->d.groups == 1 && g->dilation[2] == 1 && i2 >= 0 && i2 + g->kernel[2] <= g->in[2]) {
        memcpy(ret, in + i2 * g->cig, g->kernel[2] * g->cig * sizeof *ret);
        return;
    }
    for (int64_t k2 = 0; k2 < g->kernel[2]; k2++, i2 += g->dilation[2], ret += g->cig)
        if (i2 >= 0 && i2 < g->in[2])
            memcpy(ret, in + i2 * p->d.in_channels, g->cig * sizeof *ret);
        else
            memset(ret, 0, g->cig * sizeof *ret);
}

static void patches(const struct blas_conv *p, const float *in, int64_t first, int64_t n,
                    float *ret)
{
    const struct conv_geom *g = &p->g;
    for (int64_t at = first; at < first + n; at++) {
        int64_t o[3] = {at / (g->out[1] * g->out[2]), at / g->out[2] % g->out[1], at % g->out[2]};
        for (int64_t k0 = 0; k0 < g->kernel[0]; k0++)
            for (int64_t k1 = 0; k1 < g->kernel[1]; k1++, ret += g->kernel[2] * g->cig)
                patch_row(p, in, o, k0, k1, ret);
    }
}

static void run_patches(const struct blas_conv *p, const float *in, const float *weight, float *out,
                        float *scratch)
{
    const struct conv_geom *g = &p->g;
    int64_t depth = g->taps * g->cig;
    for (int64_t at = 0; at < g->out_pixels; at += p->band) {
        int64_t n = g->out_pixels - at < p->band ? g->out_pixels - at : p->band;
        float *to = out + at * p->d.out_channels;
        for (int64_t group = 0; group < p->d.groups; group++) {
            patches(p, in + group * g->cig, at, n, scratch);
            product(n, g->cog, depth, scratch, depth, weight + group * depth * g->cog, g->cog,
                    to + group * g->cog, p->d.out_channels);
        }
        conv_finish(&p->d, p->bias, to, n);
    }
}

/* ---- transposed: the products of every input pixel are added where they belong ---- */

/* [group][cig][tap][cog] */
static void pack_transposed(const struct conv_desc *d, const float *weight, float *ret)
{
    struct conv_geom g;
    conv_geom_of(d, &g);
    for (int64_t i = 0; i < d->in_channels; i++, weight += g.cog * g.taps)
        for (int64_t t = 0; t < g.taps; t++)
            for (int64_t o = 0; o < g.cog; o++)
                *ret++ = weight[o * g.taps + t];
}

SIMD static void add_to(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] += from[i];
}

static void scatter(const struct blas_conv *p, const float *products, int64_t pixel, float *out)
{
    const struct conv_geom *g = &p->g;
    int64_t i[3] = {pixel / (g->in[1] * g->in[2]), pixel / g->in[2] % g->in[1], pixel % g->in[2]};
    for (int64_t t = 0; t < g->taps; t++, products += g->cog) {
        int64_t o[3], k[3] = {t / (g->kernel[1] * g->kernel[2]), t / g->kernel[2] % g->kernel[1],
                              t % g->kernel[2]};
        bool inside = true;
        for (int j = 0; j < 3; j++) {
            o[j] = i[j] * g->stride[j] - g->pad[j] + k[j] * g->dilation[j];
            inside = inside && o[j] >= 0 && o[j] < g->out[j];
        }
        if (inside)
            add_to(out + ((o[0] * g->out[1] + o[1]) * g->out[2] + o[2]) * p->d.out_channels,
                   products, g->cog);
    }
}

static void run_transposed(const struct blas_conv *p, const float *in, const float *weight,
                           float *out, float *scratch)
{
    const struct conv_geom *g = &p->g;
    int64_t width = g->taps * g->cog;
    memset(out, 0, g->out_pixels * p->d.out_channels * sizeof *out);
    for (int64_t at = 0; at < g->in_pixels; at += p->band)
        for (int64_t group = 0; group < p->d.groups; group++) {
            int64_t n = g->in_pixels - at < p->band ? g->in_pixels - at : p->band;
            product(n, width, g->cig, in + at * p->d.in_channels + group * g->cig, p->d.in_channels,
                    weight + group * g->cig * width, width, scratch, width);
            for (int64_t i = 0; i < n; i++)
                scatter(p, scratch + i * width, at + i, out + group * g->cog);
        }
    conv_finish(&p->d, p->bias, out, g->out_pixels);
}

/* ---- the choice ---- */

static bool is_pointwise(const struct conv_desc *d, const struct conv_geom *g)
{
    bool dense = d->groups == 1 && g->taps == 1;
    for (int i = 0; i < 3; i++)
        dense = dense && g->stride[i] == 1 && g->pad[i] == 0 && g->in[i] == g->out[i];
    return dense;
}

static int64_t band_of(int64_t row_floats, int64_t pixels)
{
    int64_t band = BAND_BYTES / (int64_t)sizeof(float) / (row_floats ? row_floats : 1);
    band = band < BAND_MIN ? BAND_MIN : band;
    return band < pixels ? band : pixels ? pixels : 1;
}

/* Chooses how; returns the floats of scratch. */
static int64_t choose(struct blas_conv *p)
{
    const struct conv_desc *d = &p->d;
    const struct conv_geom *g = &p->g;
    p->pack = conv_pack;
    if (d->transposed) {
        p->run = run_transposed;
        p->pack = pack_transposed;
        p->band = band_of(g->taps * g->cog, g->in_pixels);
        return p->band * g->taps * g->cog;
    }
    if (is_pointwise(d, g)) {
        p->run = run_pointwise;
        p->band = band_of(d->in_channels + d->out_channels, g->out_pixels);
        return 0;
    }
    if (g->cig == 1 && g->cog == 1 && g->taps <= DEPTHWISE_TAPS_MAX) {
        p->run = run_depthwise;
        p->pack = pack_depthwise;
        return 0;
    }
    p->run = run_patches;
    p->band = band_of(g->taps * g->cig, g->out_pixels);
    return p->band * g->taps * g->cig;
}

static int blas_conv_prepare(const struct conv_desc *d, const float *weight, const float *bias,
                             struct arena *a, const void **ret, size_t *ret_scratch, struct err *e)
{
    struct blas_conv *p = arena_alloc(a, sizeof *p);
    size_t bytes = conv_weight_count(d) * sizeof(float);
    blas_version();
    p->d = *d;
    conv_geom_of(d, &p->g);
    *ret_scratch = choose(p) * sizeof(float);
    if (weight) {
        float *packed = arena_try(a, bytes);
        if (!packed)
            return err_set(e, ERR_MEMORY_LIMIT, NULL, "no memory for a weight of %zu bytes", bytes);
        p->pack(d, weight, packed);
        p->weight = packed;
    } else {
        p->weight_bytes = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
        *ret_scratch += p->weight_bytes;
    }
    if (bias)
        p->bias = arena_copy(a, bias, d->out_channels * sizeof(float));
    *ret = p;
    return 0;
}

static void run_batch(const struct blas_conv *p, const float *in, const float *weight, float *out,
                      void *scratch)
{
    for (int64_t n = 0; n < p->d.batch; n++) {
        p->run(p, in, weight, out, scratch);
        in += p->g.in_pixels * p->d.in_channels;
        out += p->g.out_pixels * p->d.out_channels;
    }
}

static int blas_conv_run(const void *prep, const float *in, float *out, void *scratch,
                         struct err *e)
{
    const struct blas_conv *p = prep;
    (void)e;
    run_batch(p, in, p->weight, out, scratch);
    return 0;
}

static int blas_conv_run_weight(const void *prep, const float *in, const float *weight,
                                const float *bias, float *out, void *scratch, struct err *e)
{
    struct blas_conv p = *(const struct blas_conv *)prep;
    (void)e;
    p.bias = bias;
    p.pack(&p.d, weight, scratch);
    run_batch(&p, in, scratch, out, (char *)scratch + p.weight_bytes);
    return 0;
}

static int blas_gemm(const struct gemm_desc *d, const float *a, const float *b, float *c,
                     struct err *e)
{
    (void)e;
    blas_version();
    if (d->m <= 0 || d->n <= 0)
        return 0;
    cblas_sgemm(CblasRowMajor, d->a_transposed ? CblasTrans : CblasNoTrans,
                d->b_transposed ? CblasTrans : CblasNoTrans, d->m, d->n, d->k, d->alpha, a,
                d->a_transposed ? d->m : d->k, b, d->b_transposed ? d->k : d->n, d->beta, c, d->n);
    return 0;
}

const struct backend backend_blas = {
    .name = "openblas",
    .version = blas_version,
    .conv_prepare = blas_conv_prepare,
    .conv_run = blas_conv_run,
    .conv_run_weight = blas_conv_run_weight,
    .gemm = blas_gemm,
};
