/*
 * exp, sigmoid and tanh of a float in arithmetic only: loops over them vectorize. Relative error
 * against libm's double functions at most 2e-7 (exp) and 3e-7 (the others) over floats 0.01 % apart
 * across the whole range: tests/ops/test_unary.c. The same bits from every instruction set: no
 * contraction, no estimates.
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

#endif
