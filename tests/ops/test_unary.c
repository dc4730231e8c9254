#include "tests/ops/run_op.h"
#include "worker/ops/vecmath.h"

#include <math.h>

/* All floats of a range by their bits, `step` apart; the largest error relative to the truth. */
static double worst(float (*fast)(float), double (*truth)(double), float from, float to)
{
    double bad = 0;
    for (int side = -1; side <= 1; side += 2)
        for (float x = from; x < to; x *= 1.0001f) {
            double want = truth(side * (double)x), got = (double)fast(side * x);
            if (fabs(want) < 1e-37)
                continue;
            bad = fmax(bad, fabs(got - want) / fabs(want));
        }
    return bad;
}

static float fast_exp(float x)
{
    return vec_exp(x);
}
static float fast_sigmoid(float x)
{
    return vec_sigmoid(x);
}
static float fast_tanh(float x)
{
    return vec_tanh(x);
}
static double true_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

void test_unary__fast_functions_are_exact_to_two_ulps(void)
{
    CHECK_NEAR(worst(fast_exp, exp, 1e-30f, 88), 0, 2e-7);
    CHECK_NEAR(worst(fast_sigmoid, true_sigmoid, 1e-30f, 85), 0, 3e-7);
    CHECK_NEAR(worst(fast_tanh, tanh, 1e-30f, 100), 0, 3e-7);
}

static double true_gelu(double x)
{
    return 0.5 * x * erfc(-x * M_SQRT1_2);
}
static double true_gelu_tanh(double x)
{
    return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
static double true_softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}
static double true_mish(double x)
{
    return x * tanh(true_softplus(x));
}
static float fast_expm1(float x)
{
    return (float)vec_expm1((double)x);
}
static float fast_erf(float x)
{
    return vec_erf(x);
}
static float fast_gelu(float x)
{
    return vec_gelu(x);
}
static float fast_gelu_tanh(float x)
{
    return vec_gelu_tanh(x);
}
static float fast_softplus(float x)
{
    return vec_softplus(x);
}
static float fast_mish(float x)
{
    return vec_mish(x);
}

void test_unary__functions_that_cancel_are_as_exact(void)
{
    CHECK_NEAR(worst(fast_erf, erf, 1e-30f, 50), 0, 3e-7);
    CHECK_NEAR(worst(fast_gelu, true_gelu, 1e-30f, 100), 0, 3e-7);
    CHECK_NEAR(worst(fast_gelu_tanh, true_gelu_tanh, 1e-30f, 100), 0, 3e-7);
    CHECK_NEAR(worst(fast_softplus, true_softplus, 1e-30f, 86), 0, 3e-7);
    CHECK_NEAR(worst(fast_mish, true_mish, 1e-30f, 80), 0, 3e-7);
    CHECK_NEAR(worst(fast_expm1, expm1, 1e-30f, 88), 0, 3e-7);
}

/* The same attributes and numbers through the loop and, as float64, through libm. */
void test_unary__loops_agree_with_libm(void)
{
    static const char *const ops[] = {"Erf",  "Gelu", "Softplus", "Mish",   "Elu",
                                      "Selu", "Celu", "Tanh",     "Sigmoid"};
    struct tensor *x = tensor_random(DT_F32, DIMS(1000), 7),
                  *d = tensor_of(DT_F64, NULL, DIMS(1000));
    for (int i = 0; i < 1000; i++)
        ((double *)d->data)[i] = (double)(((float *)x->data)[i] *= 5);
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        struct attr *a = k == 4 || k == 6 ? ATTRS(AT_F("alpha", 0.7f)) : NULL;
        struct run fast = run_op(ops[k], 20, a, 1, x), plain = run_op(ops[k], 20, a, 1, d);
        CHECK_OK(fast.rc, fast.e);
        CHECK_OK(plain.rc, plain.e);
        for (int i = 0; i < 1000; i++) {
            double want = tensor_num(&plain.out[0], i);
            CHECK_NEAR(tensor_num(&fast.out[0], i), want, 3e-7 * fabs(want) + 1e-37);
        }
    }
}

void test_unary__fast_functions_hold_at_the_ends(void)
{
    CHECK_NEAR(vec_exp(0), 1, 0);
    CHECK(isinf(vec_exp(89)));
    CHECK(isinf(vec_exp(INFINITY)));
    CHECK_NEAR(vec_exp(-INFINITY), 0, 0);
    CHECK(isnan(vec_exp(NAN)));
    CHECK(isnan(vec_tanh(NAN)));
    CHECK_NEAR(vec_tanh(INFINITY), 1, 0);
    CHECK_NEAR(vec_sigmoid(-INFINITY), 0, 0);
    CHECK_NEAR(vec_sigmoid(INFINITY), 1, 0);
    CHECK_NEAR((double)vec_exp(-95), exp(-95), 1e-44);
    CHECK_NEAR(vec_erf(INFINITY), 1, 0);
    CHECK_NEAR(vec_erf(-INFINITY), -1, 0);
    CHECK(isinf(vec_gelu(INFINITY)) && isinf(vec_softplus(INFINITY)) && isinf(vec_mish(INFINITY)));
    CHECK_NEAR(vec_softplus(-INFINITY), 0, 0);
    CHECK_NEAR(vec_expm1(-INFINITY), -1, 1e-300);
    CHECK(isnan(vec_erf(NAN)) && isnan(vec_gelu(NAN)) && isnan(vec_gelu_tanh(NAN)));
    CHECK(isnan(vec_softplus(NAN)) && isnan(vec_mish(NAN)) && isnan(vec_mish(-INFINITY)) &&
          isnan(vec_expm1(NAN)));
}

void test_unary__clip_takes_both_forms_and_all_types(void)
{
    struct tensor *x = FLOATS(-3, 0, 4, NAN);
    struct run r = run_op("Clip", 6, ATTRS(AT_F("min", -1), AT_F("max", 2)), 1, x);
    CHECK_OK(r.rc, r.e);
    CHECK_NEAR(((float *)r.out[0].data)[0], -1, 0);
    CHECK_NEAR(((float *)r.out[0].data)[2], 2, 0);
    CHECK(isnan(((float *)r.out[0].data)[3]));
    CHECK_INTS(
        &run_op("Clip", 13, NULL, 1, INTS(-3, 0, 4), NULL, tensor_shaped(INTS(2), SCALAR)).out[0],
        -3, 0, 2);
    CHECK_INT(run_op("Clip", 13, NULL, 1, x, INTS(1)).rc, -1);
}

void test_unary__values(void)
{
    struct tensor *x = FLOATS(-2, -0.5f, 0, 0.5f, 2);
    CHECK_FLOATS(&run_op("Relu", 13, NULL, 1, x).out[0], 0, 0, 0, 0, 0.5f, 2);
    CHECK_FLOATS(&run_op("LeakyRelu", 13, ATTRS(AT_F("alpha", 0.1f)), 1, x).out[0], 1e-6, -0.2f,
                 -0.05f, 0, 0.5f, 2);
    CHECK_FLOATS(&run_op("HardSigmoid", 13, NULL, 1, x).out[0], 1e-6, 0.1f, 0.4f, 0.5f, 0.6f, 0.9f);
    CHECK_FLOATS(&run_op("HardSwish", 14, NULL, 1, x).out[0], 1e-6, -0.3333333f, -0.2083333f, 0,
                 0.2916667f, 1.6666667f);
    CHECK_FLOATS(&run_op("Gelu", 20, NULL, 1, x).out[0], 1e-6, -0.0455003f, -0.1542688f, 0,
                 0.3457312f, 1.9544997f);
    CHECK_FLOATS(&run_op("Round", 13, NULL, 1, FLOATS(0.5f, 1.5f, -2.5f)).out[0], 0, 0, 2, -2);
    CHECK_FLOATS(&run_op("Mish", 18, NULL, 1, x).out[0], 1e-6, -0.2525015f, -0.2207438f, 0,
                 0.3752452f, 1.9439590f);
    CHECK_INTS(&run_op("Abs", 13, NULL, 1, INTS(-3, INT64_MIN)).out[0], 3, INT64_MIN);
    CHECK_INTS(&run_op("Neg", 13, NULL, 1, INTS(-3, INT64_MIN)).out[0], 3, INT64_MIN);
}

void test_unary__layouts_do_not_matter(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4, 5), 1);
    static const char *const ops[] = {"Relu", "Sigmoid", "Tanh", "Exp", "Softplus", "Sin"};
    for (int i = 0; i < 6; i++)
        CHECK_LAYOUTS(ops[i], 13, NULL, 1, x);
}

void test_unary__erf_takes_integers(void)
{
    struct run r = run_op("Erf", 13, NULL, 1, INTS(-9, 0, 1, 9));
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], -1, 0, 0, 1);
}
