#include "worker/quant/fakequant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "worker/quant/along.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A threshold so small that the scale is no float any more still divides: 0/scale is 0. */
static float usable_scale(float scale)
{
    return scale > 0 ? scale : FLT_TRUE_MIN;
}

void fq_symmetric(enum qtype q, float threshold, struct fq_param *ret)
{
    int32_t top = q == Q_INT16 ? INT16_MAX : INT8_MAX;
    *ret = (struct fq_param){usable_scale(threshold / (float)top), 0, -top - 1, top};
}

void fq_affine(float lo, float hi, struct fq_param *ret)
{
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    if (lo == hi)
        hi = 1;
    float scale = (hi - lo) / 255.0f;
    if (isinf(scale))
        scale = hi / 255.0f - lo / 255.0f;
    scale = usable_scale(scale);
    float ticks = rintf(hi / scale);
    *ret = (struct fq_param){scale, 127 - (int32_t)(ticks < 255 ? ticks : 255), INT8_MIN, INT8_MAX};
}

/* Affine along an axis: [0, T] of each channel. */
static void affine_channel(const struct calib *k, int c, struct fq_param *ret)
{
    if (k->qtype == Q_INT16)
        fq_symmetric(Q_INT16, k->thresholds[c], ret);
    else
        fq_affine(0, k->thresholds[c], ret);
}

void fq_of_calib(const struct calib *k, int c, struct fq_param *ret)
{
    const float *t = k->thresholds;
    if (k->affine && k->axis >= 0)
        affine_channel(k, c, ret);
    else if (k->affine && k->qtype == Q_INT16)
        fq_symmetric(Q_INT16, fabsf(t[0]) > fabsf(t[1]) ? fabsf(t[0]) : fabsf(t[1]), ret);
    else if (k->affine)
        fq_affine(t[0], t[1], ret);
    else
        fq_symmetric(k->qtype, t[k->n_thresholds > 1 ? c : 0], ret);
}

/* n elements whose scale and zero point stand still (step 0) or go along with them (step 1). */
struct fq_row {
    const float *scale, *zero;
    int step;
    float qmin, qmax;
};
typedef void row_fn(const struct fq_row *r, const float *in, float *out, int64_t n);

/* The comparisons are written so that a NaN passes, as max and min of SSE do it. */
static void row_plain(const struct fq_row *r, const float *in, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float s = r->scale[i * r->step], z = r->zero[i * r->step];
        float q = rintf(in[i] / s) + z;
        q = q < r->qmin ? r->qmin : q;
        q = q > r->qmax ? r->qmax : q;
        out[i] = (q - z) * s;
    }
}

#if defined(__x86_64__)
enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };

__attribute__((target("avx2"))) static void row_avx2(const struct fq_row *r, const float *in,
                                                     float *out, int64_t n)
{
    const __m256 qmin = _mm256_set1_ps(r->qmin), qmax = _mm256_set1_ps(r->qmax);
    __m256 s = _mm256_set1_ps(r->scale[0]), z = _mm256_set1_ps(r->zero[0]);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        if (r->step) {
            s = _mm256_loadu_ps(r->scale + i);
            z = _mm256_loadu_ps(r->zero + i);
        }
        __m256 q = _mm256_div_ps(_mm256_loadu_ps(in + i), s);
        q = _mm256_add_ps(_mm256_round_ps(q, NEAREST), z);
        q = _mm256_min_ps(qmax, _mm256_max_ps(qmin, q));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_sub_ps(q, z), s));
    }
    struct fq_row rest = *r;
    rest.scale += i * r->step;
    rest.zero += i * r->step;
    row_plain(&rest, in + i, out + i, n - i);
}

__attribute__((target("avx512f"))) static void row_avx512(const struct fq_row *r, const float *in,
                                                          float *out, int64_t n)
{
    const __m512 qmin = _mm512_set1_ps(r->qmin), qmax = _mm512_set1_ps(r->qmax);
    __m512 s = _mm512_set1_ps(r->scale[0]), z = _mm512_set1_ps(r->zero[0]);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        if (r->step) {
            s = _mm512_loadu_ps(r->scale + i);
            z = _mm512_loadu_ps(r->zero + i);
        }
        __m512 q = _mm512_div_ps(_mm512_loadu_ps(in + i), s);
        q = _mm512_add_ps(_mm512_roundscale_ps(q, NEAREST), z);
        q = _mm512_min_ps(qmax, _mm512_max_ps(qmin, q));
        _mm512_storeu_ps(out + i, _mm512_mul_ps(_mm512_sub_ps(q, z), s));
    }
    struct fq_row rest = *r;
    rest.scale += i * r->step;
    rest.zero += i * r->step;
    row_plain(&rest, in + i, out + i, n - i);
}

static row_fn *best_row(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return row_avx512;
    return __builtin_cpu_supports("avx2") ? row_avx2 : row_plain;
}
#else
static row_fn *best_row(void)
{
    return row_plain;
}
#endif

static void run_one(row_fn *fn, const struct fq_param *p, const float *in, float *out, int64_t n)
{
    float zero = (float)p->zero_point;
    struct fq_row r = {&p->scale, &zero, 0, (float)p->qmin, (float)p->qmax};
    fn(&r, in, out, n);
}

void fq_run(const struct fq_param *p, const float *in, float *out, int64_t n)
{
    run_one(best_row(), p, in, out, n);
}

void fq_run_plain(const struct fq_param *p, const float *in, float *out, int64_t n)
{
    run_one(row_plain, p, in, out, n);
}

#define F16_MAX    65504.0f
#define F16_NORMAL 6.103515625e-05f /* 2^-14: below, the grid is 2^-24 wide */
#define F16_GRID   16777216.0f

static float through_f16(float x)
{
    float size = fabsf(x);
    if (isnan(x))
        return x;
    if (size >= F16_MAX)
        return copysignf(F16_MAX, x);
    if (size < F16_NORMAL)
        return copysignf(rintf(size * F16_GRID) / F16_GRID, x);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits += 0xFFF + (bits >> 13 & 1); /* 23 to 10 bits of mantissa, ties to even */
    bits &= ~0x1FFFu;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void fq_float16(const float *in, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = through_f16(in[i]);
}

enum { CHANNEL_BLOCK = 256 };

/* Channels c0 … c0 + n - 1. */
static void run_channels(const struct calib *k, const struct along *v, int64_t c0, int n,
                         const float *in, float *out)
{
    float scale[CHANNEL_BLOCK], zero[CHANNEL_BLOCK];
    struct fq_param p = {0};
    row_fn *fn = best_row();
    for (int c = 0; c < n; c++) {
        fq_of_calib(k, (int)c0 + c, &p);
        scale[c] = p.scale;
        zero[c] = (float)p.zero_point;
    }
    struct fq_row r = {scale, zero, v->inner == 1, (float)p.qmin, (float)p.qmax};
    for (int64_t o = 0; o < v->outer; o++) {
        int64_t at = (o * v->channels + c0) * v->inner;
        if (v->inner == 1) {
            fn(&r, in + at, out + at, n);
            continue;
        }
        for (int c = 0; c < n; c++, at += v->inner) {
            r.scale = scale + c;
            r.zero = zero + c;
            fn(&r, in + at, out + at, v->inner);
        }
    }
}

static void run_integer(const struct calib *k, const struct tensor *in, struct tensor *out)
{
    if (k->axis < 0 || k->n_thresholds <= 1) {
        struct fq_param p;
        fq_of_calib(k, 0, &p);
        fq_run(&p, in->data, out->data, tensor_count(in));
        return;
    }
    struct along v = look_along(in, k->axis);
    for (int64_t c = 0; c < v.channels; c += CHANNEL_BLOCK) {
        int64_t left = v.channels - c;
        run_channels(k, &v, c, (int)(left < CHANNEL_BLOCK ? left : CHANNEL_BLOCK), in->data,
                     out->data);
    }
}

/* The r of a weight's element i (plain layout, dims Cout × Cin/groups × …). */
static float fold_at(const struct calib *k, const struct tensor *w, int64_t inner, int64_t i)
{
    int64_t per_group = w->dims[1], j = i / inner % per_group, o = i / inner / per_group;
    int64_t groups = k->n_fold / per_group, group = o * groups / w->dims[0];
    return k->fold[group * per_group + j];
}

static void scale_fold(const struct calib *k, const struct tensor *w, const float *in, float *out,
                       bool divide)
{
    int64_t n = tensor_count(w), inner = n && w->dims[0] ? n / w->dims[0] / w->dims[1] : 1;
    for (int64_t i = 0; i < n; i++) {
        float r = fold_at(k, w, inner, i);
        out[i] = divide ? in[i] / r : in[i] * r;
    }
}

void fq_tensor(const struct calib *k, const struct tensor *in, struct tensor *out)
{
    int64_t n = tensor_count(in);
    bool integer = k->qtype == Q_INT8 || k->qtype == Q_INT16;
    if (n == 0)
        return;
    if (k->on && k->qtype == Q_FLOAT16) {
        fq_float16(in->data, out->data, n);
    } else if (!k->on || !integer || k->n_thresholds == 0) {
        if (out->data != in->data)
            memcpy(out->data, in->data, (size_t)n * sizeof(float));
    } else if (k->n_fold) {
        scale_fold(k, in, in->data, out->data, false);
        run_integer(k, out, out);
        scale_fold(k, in, out->data, out->data, true);
    } else {
        run_integer(k, in, out);
    }
}
