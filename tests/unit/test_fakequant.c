#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/quant/fakequant.h"

void test_fakequant__int8_ties_go_to_even_and_ends_are_cut(void)
{
    struct fq_param p;
    fq_symmetric(Q_INT8, 127, &p); /* scale 1 */
    const float in[] = {0.5f,   1.5f,   2.5f, -0.5f, -1.5f, -2.5f,
                        126.5f, 127.6f, 300,  -128,  -129,  0.49f};
    const float want[] = {0, 2, 2, 0, -2, -2, 126, 127, 127, -128, -128, 0};
    float out[12];
    fq_run(&p, in, out, 12);
    for (int i = 0; i < 12; i++)
        CHECK(out[i] == want[i]);
}

void test_fakequant__scales_are_threshold_over_127_and_32767(void)
{
    struct fq_param p;
    fq_symmetric(Q_INT8, 6.0f, &p);
    CHECK(p.scale == 6.0f / 127.0f);
    CHECK_INT(p.qmin, -128);
    CHECK_INT(p.qmax, 127);
    fq_symmetric(Q_INT16, 6.0f, &p);
    CHECK(p.scale == 6.0f / 32767.0f);
    CHECK_INT(p.qmin, -32768);
    CHECK_INT(p.qmax, 32767);
}

void test_fakequant__affine_holds_zero_and_both_ends(void)
{
    struct fq_param p;
    fq_affine(-1, 3, &p);
    CHECK(p.scale == 4.0f / 255.0f);
    CHECK_INT(p.zero_point, 127 - 191); /* 3 / (4/255) = 191.25 */
    fq_affine(0, 255, &p);              /* uint8 */
    CHECK(p.scale == 1.0f);
    CHECK_INT(p.zero_point, -128);
    float in[] = {0, 254.5f, 255, 256, -1, 0.5f}, out[6];
    const float want[] = {0, 254, 255, 255, 0, 0};
    fq_run(&p, in, out, 6);
    for (int i = 0; i < 6; i++)
        CHECK(out[i] == want[i]);
    fq_affine(2, 8, &p); /* widened to [0, 8] */
    CHECK(p.scale == 8.0f / 255.0f);
    CHECK_INT(p.zero_point, -128);
    fq_affine(-8, -2, &p);
    CHECK_INT(p.zero_point, 127);
    fq_affine(0, 0, &p);
    CHECK(p.scale == 1.0f / 255.0f);
    fq_affine(-FLT_MAX, FLT_MAX, &p);
    CHECK(isfinite(p.scale));
}

void test_fakequant__zero_stays_zero_and_nan_stays_nan(void)
{
    struct fq_param p;
    fq_affine(-0.37f, 1.91f, &p);
    float in[40], out[40];
    for (int i = 0; i < 40; i++)
        in[i] = i % 2 ? NAN : 0;
    fq_run(&p, in, out, 40);
    for (int i = 0; i < 40; i++)
        CHECK(i % 2 ? isnan(out[i]) : out[i] == 0);
    in[0] = INFINITY;
    in[1] = -INFINITY;
    fq_run(&p, in, out, 2);
    CHECK(out[0] == (127 - p.zero_point) * p.scale);
    CHECK(out[1] == (-128 - p.zero_point) * p.scale);
}

static float any_float(unsigned *seed)
{
    uint32_t bits = (uint32_t)rand_r(seed) << 16 ^ (uint32_t)rand_r(seed);
    float f;
    memcpy(&f, &bits, sizeof f);
    return rand_r(seed) % 4 ? (float)(rand_r(seed) % 20001 - 10000) / 977.0f : f;
}

void test_fakequant__fast_and_plain_give_the_same_bits(void)
{
    unsigned seed = 7;
    enum { N = 4099 };
    static float in[N], a[N], b[N];
    for (int round = 0; round < 60; round++) {
        struct fq_param p;
        float t = fabsf(any_float(&seed));
        if (!(t > 0) || isinf(t))
            t = 3;
        if (round % 3 == 0)
            fq_symmetric(Q_INT8, t, &p);
        else if (round % 3 == 1)
            fq_symmetric(Q_INT16, t, &p);
        else
            fq_affine(-t / 3, t, &p);
        for (int i = 0; i < N; i++)
            in[i] = i % 5 ? any_float(&seed) : (float)(i % 301 - 150 + 0.5f) * p.scale;
        int n = N - round % 17;
        fq_run(&p, in, a, n);
        fq_run_plain(&p, in, b, n);
        for (int i = 0; i < n; i++)
            CHECK(isnan(b[i]) ? isnan(a[i]) : !memcmp(&a[i], &b[i], sizeof a[i]));
        fq_run(&p, in, in, n); /* in place */
        for (int i = 0; i < n; i++)
            CHECK(isnan(b[i]) ? isnan(in[i]) : in[i] == b[i]);
    }
}

/* S: YoloP's grids, the only loss of Add_582, 730 and 878; 15120 × 6 outputs, 3 anchors. */
static double grid_mse(int width, int height, int stride)
{
    struct fq_param p;
    fq_symmetric(Q_INT8, (float)(width - 1), &p);
    double sum = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const float in[2] = {(float)x, (float)y};
            float out[2];
            fq_run(&p, in, out, 2);
            for (int i = 0; i < 2; i++)
                sum += ((double)out[i] - in[i]) * stride * ((double)out[i] - in[i]) * stride;
        }
    return sum * 3 / (15120.0 * 6);
}

void test_fakequant__grids_lose_what_the_chapter_prints(void)
{
    CHECK_NEAR(grid_mse(80, 48, 8), 0.52243, 6e-6);
    CHECK_NEAR(grid_mse(40, 24, 16), 0.12379, 6e-6);
    CHECK_NEAR(grid_mse(20, 12, 32), 0.03011, 6e-6);
}

void test_fakequant__float16_rounds_to_even_and_saturates(void)
{
    const float in[] = {1.0f,           2049.0f, 2051.0f,      65504.0f,       65519.0f,
                        65520.0f,       1e30f,   -INFINITY,    5.9604645e-08f, 2.9802322e-08f,
                        8.9406967e-08f, -0.0f,   1.0009765625f};
    const float want[] = {1.0f,           2048.0f,  2052.0f,      65504.0f,       65504.0f,
                          65504.0f,       65504.0f, -65504.0f,    5.9604645e-08f, 0.0f,
                          1.1920929e-07f, -0.0f,    1.0009765625f};
    float out[13];
    fq_float16(in, out, 13);
    CHECK_MEM(out, want, sizeof want);
    float nan = NAN;
    fq_float16(&nan, out, 1);
    CHECK(isnan(out[0]));
}

/* Every finite half, and the middle between it and the next, against the definition. */
void test_fakequant__float16_keeps_every_half(void)
{
    for (int e = 0; e < 31; e++)
        for (int m = 0; m < 1024; m++) {
            float v = e ? ldexpf(1024 + m, e - 25) : ldexpf(m, -24);
            float up = ldexpf(1, e ? e - 25 : -24), half = v + up / 2, out[2];
            fq_float16((float[]){v, half}, out, 2);
            CHECK(out[0] == v);
            if (v < 65504)
                CHECK(out[1] == (m % 2 ? v + up : v));
        }
}

static void fill(float *v, int n)
{
    for (int i = 0; i < n; i++)
        v[i] = (float)(i * 37 % 101) / 10 - 5;
}

void test_fakequant__channels_are_the_same_in_both_layouts(void)
{
    enum { C = 300, S = 6, N = 2 };
    static float plain[N * C * S], cl[N * C * S], out_plain[N * C * S], out_cl[N * C * S];
    static float t[C];
    fill(plain, N * C * S);
    for (int c = 0; c < C; c++)
        t[c] = 0.5f + (float)c / 50;
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            for (int s = 0; s < S; s++)
                cl[(n * S + s) * C + c] = plain[(n * C + c) * S + s];
    struct calib k = {.qtype = Q_INT8, .on = true, .axis = 1, .n_thresholds = C, .thresholds = t};
    struct tensor a = {.type = DT_F32, .rank = 4, .dims = {N, C, 2, 3}, .data = plain}, oa = a;
    struct tensor b = a, ob = a;
    b.layout = ob.layout = LAYOUT_CL;
    b.data = cl;
    oa.data = out_plain;
    ob.data = out_cl;
    fq_tensor(&k, &a, &oa);
    fq_tensor(&k, &b, &ob);
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            for (int s = 0; s < S; s++) {
                float want = rintf(plain[(n * C + c) * S + s] / (t[c] / 127));
                want = want < -128 ? -128 : want > 127 ? 127 : want;
                CHECK(out_plain[(n * C + c) * S + s] == want * (t[c] / 127));
                CHECK(out_cl[(n * S + s) * C + c] == want * (t[c] / 127));
            }
}

void test_fakequant__off_and_float32_copy(void)
{
    float in[3] = {0.1f, 0.2f, 0.3f}, out[3], t = 1;
    struct calib k = {.qtype = Q_INT8, .axis = -1, .n_thresholds = 1, .thresholds = &t};
    struct tensor a = {.type = DT_F32, .rank = 1, .dims = {3}, .data = in}, b = a;
    b.data = out;
    fq_tensor(&k, &a, &b);
    CHECK_MEM(out, in, sizeof in);
    k.on = true;
    k.qtype = Q_FLOAT32;
    memset(out, 0, sizeof out);
    fq_tensor(&k, &a, &b);
    CHECK_MEM(out, in, sizeof in);
    k.qtype = Q_INT8;
    fq_tensor(&k, &a, &b);
    CHECK(out[0] != in[0]);
}

/* Weight 2×2×1 of two groups of one output channel: input channels 0, 1 and 2, 3. */
void test_fakequant__fold_scales_the_weight_for_its_rounding_only(void)
{
    float w[4] = {1, 0.5f, 2, 0.25f}, out[4], t[2] = {1, 1}, r[4] = {1, 0.5f, 0.25f, 1};
    struct calib k = {.qtype = Q_INT8,
                      .on = true,
                      .kind = CALIB_WEIGHT,
                      .axis = 0,
                      .n_thresholds = 2,
                      .thresholds = t,
                      .n_fold = 4,
                      .fold = r};
    struct tensor a = {.type = DT_F32, .rank = 3, .dims = {2, 2, 1}, .data = w}, b = a;
    b.data = out;
    fq_tensor(&k, &a, &b);
    float s = 1.0f / 127;
    CHECK(out[0] == 127 * s);
    CHECK(out[1] == rintf(0.25f / s) * s / 0.5f);
    CHECK(out[2] == rintf(0.5f / s) * s / 0.25f);
    CHECK(out[3] == rintf(0.25f / s) * s);
}
