/* Quantized products against the sums of what their integers stand for. */
#include "tests/ops/run_op.h"

#include <math.h>

static struct tensor *one(float v)
{
    return tensor_shaped(FLOATS(v), SCALAR);
}
static struct tensor *byte(uint8_t v)
{
    return tensor_of(DT_U8, &v, SCALAR);
}

static struct tensor *bytes(const int64_t *dims, unsigned seed)
{
    struct tensor *t = tensor_random(DT_U8, dims, seed);
    for (int64_t i = 0; i < tensor_count(t); i++)
        ((uint8_t *)t->data)[i] = (uint8_t)(((uint8_t *)t->data)[i] * 37 + (unsigned)i * 11);
    return t;
}

static double saturated(double v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

void test_matmul_integer__subtracts_zero_points(void)
{
    struct tensor *a = bytes(DIMS(2, 3, 4), 1), *b = bytes(DIMS(4, 5), 2);
    struct run r = run_op("MatMulInteger", 10, NULL, 1, a, b, byte(7), byte(200));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_I32, DIMS(2, 3, 5));
    for (int i = 0; i < 30; i++) {
        int64_t sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (tensor_int(a, i / 5 * 4 + k) - 7) * (tensor_int(b, k * 5 + i % 5) - 200);
        CHECK_INT(tensor_int(&r.out[0], i), sum);
    }
}

void test_qlinear_matmul__rescales_and_saturates(void)
{
    struct tensor *a = bytes(DIMS(3, 4), 1), *b = bytes(DIMS(4, 5), 2);
    struct run r = run_op("QLinearMatMul", 10, NULL, 1, a, one(0.5f), byte(120), b, one(0.25f),
                          byte(100), one(16), byte(128));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_U8, DIMS(3, 5));
    for (int i = 0; i < 15; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++)
            sum += 0.125 * (double)((tensor_int(a, i / 5 * 4 + k) - 120) *
                                    (tensor_int(b, k * 5 + i % 5) - 100));
        CHECK_INT(tensor_int(&r.out[0], i), (int64_t)saturated(rint(sum / 16) + 128));
    }
}

/* A convolution of the integers' meanings in float, whose sums are exact here. */
void test_qlinear_conv__is_the_convolution_of_what_integers_stand_for(void)
{
    struct tensor *x = bytes(DIMS(1, 2, 5, 4), 1), *w = bytes(DIMS(4, 1, 3, 2), 2);
    struct tensor *fx = tensor_of(DT_F32, NULL, DIMS(1, 2, 5, 4)),
                  *fw = tensor_of(DT_F32, NULL, DIMS(4, 1, 3, 2));
    for (int i = 0; i < 40; i++)
        ((float *)fx->data)[i] = (float)(tensor_int(x, i) - 99);
    for (int i = 0; i < 24; i++)
        ((float *)fw->data)[i] = (float)(tensor_int(w, i) - 150);
    struct attr *a = ATTRS(AT_I("group", 2), AT_INTS("pads", 1, 0, 1, 1), AT_INTS("strides", 2, 1));
    struct run f = run_op("Conv", 11, a, 1, fx, fw);
    CHECK_OK(f.rc, f.e);
    struct run n = run_op("ConvInteger", 10, a, 1, x, w, byte(99), byte(150));
    CHECK_OK(n.rc, n.e);
    struct run q = run_op("QLinearConv", 10, a, 1, x, one(0.5f), byte(99), w, one(0.5f), byte(150),
                          one(64), byte(128));
    CHECK_OK(q.rc, q.e);
    const struct tensor *plain = tensor_plain(&f.out[0]);
    CHECK_INT(tensor_count(&n.out[0]), tensor_count(plain));
    for (int64_t i = 0; i < tensor_count(plain); i++) {
        double v = tensor_num(plain, i);
        CHECK_INT(tensor_int(&n.out[0], i), (int64_t)v);
        CHECK_INT(tensor_int(&q.out[0], i), (int64_t)saturated(rint(v * 0.25 / 64) + 128));
    }
}

void test_qlinear__refuses_what_does_not_fit(void)
{
    struct tensor *a = bytes(DIMS(3, 4), 1), *b = bytes(DIMS(4, 5), 2);
    struct tensor *x = bytes(DIMS(1, 2, 5, 4), 1), *w = bytes(DIMS(4, 2, 3, 2), 2);
    CHECK(run_op("MatMulInteger", 10, NULL, 1, a, a).rc != 0);
    CHECK(run_op("MatMulInteger", 10, NULL, 1, FLOATS(1), b).rc != 0);
    CHECK(run_op("MatMulInteger", 10, NULL, 1, a, b, bytes(DIMS(2), 1)).rc != 0);
    CHECK(run_op("QLinearMatMul", 10, NULL, 1, a, one(1), byte(0), b, FLOATS(1, 1), byte(0), one(1),
                 byte(0))
              .rc != 0);
    CHECK(run_op("ConvInteger", 10, ATTRS(AT_I("group", 0)), 1, x, w).rc != 0);
    CHECK(run_op("ConvInteger", 10, ATTRS(AT_I("group", 2)), 1, x, w).rc != 0);
    CHECK(run_op("ConvInteger", 10, ATTRS(AT_INTS("strides", 0, 1)), 1, x, w).rc != 0);
    CHECK(run_op("ConvInteger", 10, ATTRS(AT_INTS("pads", INT64_MAX, 0, 0, 0)), 1, x, w).rc != 0);
}
