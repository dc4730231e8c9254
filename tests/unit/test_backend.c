/* Every backend against sums in double, on random convolutions and matrix products. The distance
 * is measured relative to the sum of the products' absolute values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "worker/exec/backend.h"
#include "worker/exec/conv.h"

enum { SHAPES = 400, GEMMS = 200 };
static const double tolerance = 1e-6;

static uint64_t seed;

static int64_t between(int64_t lo, int64_t hi)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return lo + (int64_t)((seed >> 33) % (uint64_t)(hi - lo + 1));
}

static float *noise(struct arena *a, int64_t n)
{
    float *v = arena_array(a, n + 1, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)between(-1000, 1000) / 517;
    return v;
}

/* Sets the output size; false if there is none. */
static bool fit(struct conv_desc *d)
{
    for (int i = 0; i < d->spatial; i++) {
        int64_t reach = (d->kernel[i] - 1) * d->dilation[i] + 1;
        int64_t padded = d->in[i] + d->pad_begin[i] + d->pad_end[i];
        d->out[i] = d->transposed ? (d->in[i] - 1) * d->stride[i] + reach - d->pad_begin[i] -
                                        d->pad_end[i] + between(0, d->stride[i] - 1)
                                  : (padded - reach) / d->stride[i] + 1;
        if (d->out[i] < 1 || (!d->transposed && padded < reach))
            return false;
    }
    return true;
}

static void random_channels(struct conv_desc *d)
{
    static const int64_t widths[] = {1, 3, 8, 16, 20, 48, 64, 80};
    int64_t in = widths[between(0, 7)], out = widths[between(0, 7)];
    switch (between(0, 3)) {
    case 0: /* depthwise */
        d->groups = d->in_channels = d->out_channels = in;
        break;
    case 1: /* grouped, any multiplier */
        d->groups = between(1, 4);
        d->in_channels = d->groups * between(1, 9);
        d->out_channels = d->groups * between(1, 9);
        break;
    default:
        d->groups = 1;
        d->in_channels = in;
        d->out_channels = out;
    }
}

static struct conv_desc random_conv(void)
{
    struct conv_desc d;
    do {
        memset(&d, 0, sizeof d);
        d.spatial = (int)between(1, 8) > 6 ? (int)between(0, 1) * 2 + 1 : 2;
        d.transposed = between(0, 4) == 0;
        d.batch = between(1, 2);
        random_channels(&d);
        bool one = between(0, 3) == 0;
        for (int i = 0; i < d.spatial; i++) {
            d.in[i] = between(1, d.spatial == 3 ? 7 : 19);
            d.kernel[i] = one ? 1 : between(1, 5);
            d.stride[i] = between(1, 3) == 1 ? between(2, 3) : 1;
            d.dilation[i] = between(1, 4) == 1 ? 2 : 1;
            d.pad_begin[i] = one ? 0 : between(0, d.kernel[i] - 1);
            d.pad_end[i] = one ? 0 : between(0, d.kernel[i] - 1);
        }
        d.act = between(0, 2) == 0 ? ACT_RELU : between(0, 3) == 0 ? ACT_CLIP : ACT_NONE;
        d.act_min = -0.5f;
        d.act_max = 3;
    } while (!fit(&d));
    return d;
}

/* One output in double, straight from the definition and the file's weight order. */
static double truth_at(const struct conv_desc *d, const float *in, const float *w, int64_t n,
                       const int64_t o[3], int64_t oc, double *ret_size)
{
    struct conv_geom g;
    conv_geom_of(d, &g);
    double sum = 0;
    int64_t group = oc / g.cog;
    for (int64_t t = 0; t < g.taps; t++) {
        int64_t k[3] = {t / (g.kernel[1] * g.kernel[2]), t / g.kernel[2] % g.kernel[1],
                        t % g.kernel[2]};
        int64_t at = n;
        bool inside = true;
        for (int j = 0; j < 3; j++) {
            int64_t i = o[j] * g.stride[j] - g.pad[j] + k[j] * g.dilation[j];
            if (d->transposed) {
                i = o[j] + g.pad[j] - k[j] * g.dilation[j];
                inside = inside && i % g.stride[j] == 0;
                i = i < 0 ? -1 : i / g.stride[j];
            }
            inside = inside && i >= 0 && i < g.in[j];
            at = at * g.in[j] + i;
        }
        for (int64_t c = 0; inside && c < g.cig; c++) {
            int64_t ic = group * g.cig + c;
            double x = in[at * d->in_channels + ic];
            double y = d->transposed ? w[(ic * g.cog + oc % g.cog) * g.taps + t]
                                     : w[(oc * g.cig + c) * g.taps + t];
            sum += x * y;
            *ret_size += fabs(x * y);
        }
    }
    return sum;
}

static double with_act(const struct conv_desc *d, double v)
{
    if (d->act == ACT_RELU)
        return v < 0 ? 0 : v;
    if (d->act == ACT_CLIP)
        return v < d->act_min ? d->act_min : v > d->act_max ? d->act_max : v;
    return v;
}

/* The largest relative distance of `out`. */
static double distance(const struct conv_desc *d, const float *in, const float *w, const float *b,
                       const float *out)
{
    struct conv_geom g;
    double worst = 0;
    conv_geom_of(d, &g);
    for (int64_t n = 0; n < d->batch; n++)
        for (int64_t p = 0; p < g.out_pixels; p++)
            for (int64_t c = 0; c < d->out_channels; c++, out++) {
                int64_t o[3] = {p / (g.out[1] * g.out[2]), p / g.out[2] % g.out[1], p % g.out[2]};
                double size = fabs(b ? b[c] : 0) + 1e-30;
                double want = truth_at(d, in, w, n, o, c, &size) + (b ? b[c] : 0);
                double off = fabs(with_act(d, want) - *out) / size;
                if (!(off <= worst))
                    worst = off;
            }
    return worst;
}

static const char *conv_text(const struct conv_desc *d)
{
    static char text[512];
    int n = snprintf(text, sizeof text, "%s %dd batch %d channels %d→%d groups %d act %d",
                     d->transposed ? "transposed" : "conv", d->spatial, (int)d->batch,
                     (int)d->in_channels, (int)d->out_channels, (int)d->groups, d->act);
    for (int i = 0; i < d->spatial; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " [%d→%d k%d s%d d%d p%d,%d]",
                      (int)d->in[i], (int)d->out[i], (int)d->kernel[i], (int)d->stride[i],
                      (int)d->dilation[i], (int)d->pad_begin[i], (int)d->pad_end[i]);
    return text;
}

/* Runs d on b with the weight known or not; false where the backend does not do it. */
static bool run_conv(const struct backend *b, const struct conv_desc *d, bool computed,
                     const float *in, const float *w, const float *bias, float *out)
{
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    const void *prep;
    size_t scratch;
    int rc =
        b->conv_prepare(d, computed ? NULL : w, computed ? NULL : bias, &a, &prep, &scratch, &e);
    if (!rc) {
        void *room = arena_alloc(&a, scratch + 64);
        rc = computed ? b->conv_run_weight(prep, in, w, bias, out, room, &e)
                      : b->conv_run(prep, in, out, room, &e);
        CHECK_INT(rc, 0);
    } else {
        CHECK_INT(e.code, ERR_UNSUPPORTED);
    }
    backend_release(&a);
    arena_done(&a);
    return rc == 0;
}

static void compare_convs(const struct backend *b)
{
    struct arena a = ARENA_INIT;
    int done = 0;
    double worst = 0;
    seed = 7;
    for (int i = 0; i < SHAPES; i++) {
        struct conv_desc d = random_conv();
        struct conv_geom g;
        conv_geom_of(&d, &g);
        float *in = noise(&a, d.batch * g.in_pixels * d.in_channels);
        float *w = noise(&a, conv_weight_count(&d));
        float *bias = between(0, 2) ? noise(&a, d.out_channels) : NULL;
        float *out = noise(&a, d.batch * g.out_pixels * d.out_channels);
        if (run_conv(b, &d, between(0, 4) == 0, in, w, bias, out)) {
            double off = distance(&d, in, w, bias, out);
            done++;
            if (!(off <= worst))
                worst = off;
            if (!(off <= tolerance))
                printf("%s: %s: %g\n", b->name, conv_text(&d), off);
            CHECK(off <= tolerance);
        }
        arena_done(&a);
    }
    printf("%s (%s): %d of %d convolutions, worst %.2g\n", b->name, engine_profile(b), done, SHAPES,
           worst);
    CHECK(done > SHAPES * 3 / 4);
}

static const struct backend *named(const char *name)
{
    struct err e = ERR_INIT;
    const struct backend *b = NULL;
    if (backend_find(name, &b, &e))
        SKIP(e.detail);
    return b;
}

void test_backend__plain_convolutions_match_sums_in_double(void);
void test_backend__plain_convolutions_match_sums_in_double(void)
{
    compare_convs(named("plain"));
}

void test_backend__openblas_convolutions_match_sums_in_double(void);
void test_backend__openblas_convolutions_match_sums_in_double(void)
{
    compare_convs(named("openblas"));
}

void test_backend__onednn_convolutions_match_sums_in_double(void);
void test_backend__onednn_convolutions_match_sums_in_double(void)
{
    compare_convs(named("onednn"));
}

static double gemm_distance(const struct gemm_desc *d, const float *a, const float *b,
                            const float *before, const float *c)
{
    double worst = 0;
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < d->n; j++) {
            double sum = 0, old = d->beta == 0 ? 0 : d->beta * before[i * d->n + j];
            double size = fabs(old) + 1e-30;
            for (int64_t k = 0; k < d->k; k++) {
                double x = a[d->a_transposed ? k * d->m + i : i * d->k + k];
                double y = b[d->b_transposed ? j * d->k + k : k * d->n + j];
                sum += x * y;
                size += fabs(d->alpha * x * y);
            }
            double off = fabs(d->alpha * sum + old - c[i * d->n + j]) / size;
            if (!(off <= worst))
                worst = off;
        }
    return worst;
}

void test_backend__gemms_match_sums_in_double(void);
void test_backend__gemms_match_sums_in_double(void)
{
    struct arena a = ARENA_INIT;
    const struct backend *b;
    seed = 11;
    for (int i = 0; i < GEMMS; i++) {
        struct gemm_desc d = {between(1, 70),      between(1, 70),     between(1, 90),
                              between(0, 1) == 1,  between(0, 1) == 1, 1.5f,
                              (float)between(0, 1)};
        float *x = noise(&a, d.m * d.k), *y = noise(&a, d.k * d.n), *before = noise(&a, d.m * d.n);
        if (d.beta == 0)
            before[0] = NAN; /* must not be read */
        for (int at = 0; (b = backend_at(at)); at++) {
            struct err e = ERR_INIT;
            float *c = arena_copy(&a, before, (size_t)(d.m * d.n) * sizeof *c);
            CHECK_INT(b->gemm(&d, x, y, c, &e), 0);
            CHECK(gemm_distance(&d, x, y, before, c) <= tolerance);
        }
        arena_done(&a);
    }
}

void test_backend__a_fused_activation_has_the_bits_of_the_unfused_one(void);
void test_backend__a_fused_activation_has_the_bits_of_the_unfused_one(void)
{
    struct arena a = ARENA_INIT;
    const struct backend *b;
    for (int at = 0; (b = backend_at(at)); at++) {
        seed = 5;
        for (int i = 0; i < 60; i++) {
            struct conv_desc d = random_conv(), bare;
            struct conv_geom g;
            conv_geom_of(&d, &g);
            int64_t n = d.batch * g.out_pixels * d.out_channels;
            float *in = noise(&a, d.batch * g.in_pixels * d.in_channels);
            float *w = noise(&a, conv_weight_count(&d)), *bias = noise(&a, d.out_channels);
            in[between(0, d.batch * g.in_pixels * d.in_channels - 1)] = NAN;
            float *fused = noise(&a, n), *plain = noise(&a, n);
            bare = d;
            bare.act = ACT_NONE;
            if (run_conv(b, &d, false, in, w, bias, fused) &&
                run_conv(b, &bare, false, in, w, bias, plain)) {
                conv_finish(&d, NULL, plain, d.batch * g.out_pixels);
                for (int64_t k = 0; k < n; k++)
                    CHECK(isnan(fused[k]) ? isnan(plain[k]) : fused[k] == plain[k]);
            }
            arena_done(&a);
        }
    }
}

void test_backend__an_unknown_name_is_refused_with_the_known_ones(void);
void test_backend__an_unknown_name_is_refused_with_the_known_ones(void)
{
    struct err e = ERR_INIT;
    const struct backend *b;
    CHECK_INT(backend_find("cuda", &b, &e), -1);
    CHECK_INT(e.code, ERR_INVALID);
    CHECK(strstr(e.detail, "openblas, plain") != NULL);
}

/* PTQ_LEVEL: what the program was linked for (tests/cpu_level.c). */
void test_backend__the_profile_tells_the_instruction_set(void);
void test_backend__the_profile_tells_the_instruction_set(void)
{
    const char *level = getenv("PTQ_LEVEL"), *profile = engine_profile(backend_at(0));
    const char *last = strrchr(profile, ' ');
    CHECK(last != NULL);
    if (level)
        CHECK_STR(last + 1, level);
    CHECK(!strcmp(last + 1, "baseline") || !strcmp(last + 1, "x86-64-v3") ||
          !strcmp(last + 1, "x86-64-v4"));
}
