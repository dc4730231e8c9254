/*
 * Functions of a float in arithmetic only: loops over them vectorize. exp, sigmoid and tanh are
 * computed in float, those that subtract or multiply what has cancelled (erf, Gelu, Softplus, Mish,
 * e^x - 1) in double. Relative error against libm's double functions at most 2e-7 (exp) and 3e-7
 * (the others) over floats 0.01 % apart across the whole range: tests/ops/test_unary.c. The same
 * bits from every instruction set: no contraction, no estimates.
 */
#ifndef PTQ_WORKER_OPS_VECMATH_H
#define PTQ_WORKER_OPS_VECMATH_H

#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline, unused))

/* 2^n for n in [-126, 127]. */
VEC_INLINE float vec_two_to(int32_t n)
{
    union {
        int32_t i;
        float f;
    } u = {.i = (n + 127) * (1 << 23)};
    return u.f;
}

/* e^x: x = n ln 2 + r, |r| <= ln 2 / 2; e^r by its Taylor series with economized tail, scaled in
 * two steps so that subnormal results come out too. */
VEC_INLINE float vec_exp(float x)
{
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    float bounded = x > 89.0f ? 89.0f : x < -104.0f ? -104.0f : x;
    bounded = x != x ? 0.0f : bounded;
    float n = (bounded * 1.44269504088896341f + round) - round;
    float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t whole = (int32_t)n, half_n = whole / 2;
    float y = p * vec_two_to(half_n) * vec_two_to(whole - half_n);
    return x != x ? x : y;
}

/* 1 / (1 + e^-x), by e^-|x| so that small results keep their precision. */
VEC_INLINE float vec_sigmoid(float x)
{
    float e = vec_exp(x < 0 ? x : -x), r = 1.0f / (1.0f + e);
    return x < 0 ? e * r : r;
}

VEC_INLINE float vec_tanh(float x)
{
    float m = x < 0 ? -x : x, z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z + -5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z + -3.33332819422e-1f;
    float small = x + x * z * p;
    float big = 1.0f - 2.0f / (vec_exp(m + m) + 1.0f);
    return m < 0.625f ? small : x < 0 ? -big : big;
}

/* ---- in double, to about 1e-9: enough to round to a float ---- */

/* 2^n and e^r - 1 of e^x = 2^n e^r, |r| <= ln 2 / 2. Beyond [-708, 709] x counts as the bound. */
VEC_INLINE double vec_exp_parts(double x, double *ret_two_to_n)
{
    const double round = 6755399441055744.0; /* 1.5 * 2^52: n stands in the low bits */
    union {
        double f;
        uint64_t i;
    } t, s;
    x = x > 709 ? 709 : x < -708 ? -708 : x;
    t.f = x * 1.4426950408889634 + round;
    double n = t.f - round, r = x - n * 0.6931471805599453;
    s.i = (t.i + 1023) << 52;
    *ret_two_to_n = s.f;
    double p = 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    return r + r * r * p;
}

VEC_INLINE double vec_exp_double(double x)
{
    double s, p = vec_exp_parts(x, &s);
    return s + s * p;
}

VEC_INLINE double vec_expm1(double x)
{
    double s, p = vec_exp_parts(x, &s);
    return s * p + (s - 1);
}

/* ln(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)). */
VEC_INLINE double vec_log1p(double e)
{
    double s = e / (2 + e), z = s * s, p = 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    return 2 * s * (1 + z * p);
}

/* erfc(z) for z >= 0: e^(-z^2) t P(t) with t = 1 / (1 + z / 2), P interpolated at Chebyshev nodes
 * for z in [0, 10.6]; beyond it a float is 0. */
VEC_INLINE double vec_erfc(double z)
{
    double t = 1 / (1 + 0.5 * z), p = 0.03368849535631033;
    p = p * t - 0.1793746446377976;
    p = p * t + 0.35296284923501803;
    p = p * t - 0.24992513493581506;
    p = p * t - 0.056796821864653284;
    p = p * t + 0.055463276682264105;
    p = p * t + 0.047244884547300255;
    p = p * t + 0.18748203327408441;
    p = p * t + 0.24489045410427146;
    p = p * t + 0.2822769693337457;
    p = p * t + 0.2820876411144629;
    double y = vec_exp_double(-z * z) * t * p;
    return z > 26 ? 0 : y;
}

VEC_INLINE float vec_erf(float x)
{
    double m = x < 0 ? -(double)x : (double)x, z = m * m;
    double p = -1.0 / 75600; /* Maclaurin: (-1)^n / (n! (2n + 1)) */
    p = p * z + 1.0 / 9360;
    p = p * z - 1.0 / 1320;
    p = p * z + 1.0 / 216;
    p = p * z - 1.0 / 42;
    p = p * z + 1.0 / 10;
    p = p * z - 1.0 / 3;
    double small = 1.1283791670955126 * m * (1 + z * p), big = 1 - vec_erfc(m);
    double y = m < 0.5 ? small : big;
    return (float)(x < 0 ? -y : y);
}

/* x Phi(x). */
VEC_INLINE float vec_gelu(float x)
{
    double z = (double)x * 0.7071067811865476, tail = vec_erfc(z < 0 ? -z : z);
    return (float)(0.5 * (double)x * (x < 0 ? tail : 2 - tail));
}

/* 0.5 x (1 + tanh u) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3). */
VEC_INLINE float vec_gelu_tanh(float x)
{
    double v = (double)x, u = 1.5957691216057308 * (v + 0.044715 * v * v * v);
    return (float)(v / (1 + vec_exp_double(-u)));
}

VEC_INLINE float vec_softplus(float x)
{
    double v = (double)x, m = v < 0 ? v : -v;
    double y = (v > 0 ? v : 0) + vec_log1p(vec_exp_double(m));
    return x != x ? x : (float)y;
}

/* x tanh(ln(1 + e^x)) = x w / (w + 2), w = e^x (e^x + 2); by that formula NaN at -infinity. */
VEC_INLINE float vec_mish(float x)
{
    double v = (double)x, e = vec_exp_double(v > 40 ? 40 : v), w = v < -700 ? 0 : e * (e + 2);
    return (float)(v * (w / (w + 2)));
}

#endif
