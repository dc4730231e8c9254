#include "tests/ops/run_op.h"

#include <math.h>

static const char *const names[] = {"Add", "Sub", "Mul", "Div", "Min", "Max"};

static double reference(int op, double x, double y)
{
    double v[] = {x + y, x - y, x * y, x / y, fmin(x, y), fmax(x, y)};
    return v[op];
}

void test_binary__agrees_with_double_arithmetic_over_broadcasts(void)
{
    const struct tensor *x = tensor_random(DT_F32, DIMS(2, 5, 3, 7), 1);
    const struct tensor *ys[] = {
        tensor_random(DT_F32, DIMS(2, 5, 3, 7), 2), tensor_random(DT_F32, DIMS(5, 1, 1), 3),
        tensor_random(DT_F32, DIMS(7), 4), tensor_random(DT_F32, SCALAR, 5),
        tensor_random(DT_F32, DIMS(2, 1, 3, 1), 6)};
    for (size_t k = 0; k < 5; k++)
        for (int op = 0; op < 6; op++) {
            struct run r = run_op(names[op], 13, NULL, 1, x, ys[k]);
            struct run wide = run_op("Expand", 13, NULL, 1, ys[k], INTS(2, 5, 3, 7));
            CHECK_OK(r.rc, r.e);
            for (int64_t i = 0; i < 210; i++) {
                double want = reference(op, tensor_num(x, i), tensor_num(&wide.out[0], i));
                CHECK_NEAR(tensor_num(&r.out[0], i), want, 1e-6 * (1 + fabs(want)));
            }
            CHECK_LAYOUTS(names[op], 13, NULL, 1, x, ys[k]);
            CHECK_LAYOUTS(names[op], 13, NULL, 1, ys[k], x);
        }
}

void test_binary__runs_on_every_number_type(void)
{
    for (int t = DT_F32; t < DT_COUNT; t++) {
        if (t == DT_BOOL || t == DT_STRING || t == DT_F16)
            continue;
        struct tensor *x = tensor_random((enum dtype)t, DIMS(9), 1);
        struct tensor *y = tensor_random((enum dtype)t, DIMS(9), 2);
        struct run r = run_op("Add", 14, NULL, 1, x, y);
        CHECK_OK(r.rc, r.e);
        for (int i = 0; i < 9; i++)
            CHECK_NEAR(tensor_num(&r.out[0], i), tensor_num(x, i) + tensor_num(y, i), 1e-6);
    }
}

void test_binary__integers_wrap_and_refuse_a_zero_divisor(void)
{
    struct tensor *low = INTS(INT64_MIN, INT64_MIN), *by = INTS(-1, 7), *zero = INTS(0, 1);
    CHECK_INTS(&run_op("Div", 13, NULL, 1, low, by).out[0], INT64_MIN, INT64_MIN / 7);
    CHECK_INTS(&run_op("Mul", 13, NULL, 1, low, by).out[0], INT64_MIN, INT64_MIN);
    CHECK_INT(run_op("Div", 13, NULL, 1, low, zero).rc, -1);
    CHECK_INT(run_op("Mod", 13, NULL, 1, low, zero).rc, -1);
}

void test_binary__mod_has_two_signs(void)
{
    struct tensor *x = INTS(-4, 7, 5, 4, -7, 8), *y = INTS(2, -3, 8, -2, 3, 5);
    CHECK_INTS(&run_op("Mod", 13, NULL, 1, x, y).out[0], 0, -2, 5, 0, 2, 3);
    CHECK_INTS(&run_op("Mod", 13, ATTRS(AT_I("fmod", 1)), 1, x, y).out[0], 0, 1, 5, 0, -1, 3);
}

void test_binary__pow_mixes_types(void)
{
    CHECK_INTS(&run_op("Pow", 13, NULL, 1, INTS(1, 2, 3), FLOATS(4, 5, 6)).out[0], 1, 32, 729);
    CHECK_FLOATS(&run_op("Pow", 13, NULL, 1, FLOATS(1, 2, 3), INTS(2)).out[0], 0, 1, 4, 9);
    CHECK_FLOATS(&run_op("Pow", 13, NULL, 1, FLOATS(4, 2), FLOATS(0.5f, -1)).out[0], 1e-6, 2, 0.5f);
}

void test_binary__sums_and_means_of_many(void)
{
    struct tensor *a = FLOATS(3, 0, 2), *b = FLOATS(1, 3, 4), *d = FLOATS(2, 6, 6);
    CHECK_FLOATS(&run_op("Sum", 13, NULL, 1, a, b, d).out[0], 0, 6, 9, 12);
    CHECK_FLOATS(&run_op("Mean", 13, NULL, 1, a, b, d).out[0], 1e-6, 2, 3, 4);
    CHECK_FLOATS(&run_op("Max", 13, NULL, 1, a, b, d).out[0], 0, 3, 6, 6);
    CHECK_FLOATS(&run_op("Min", 13, NULL, 1, a, tensor_shaped(FLOATS(1), SCALAR)).out[0], 0, 1, 0,
                 1);
}

void test_binary__types_must_match(void)
{
    CHECK_INT(run_op("Add", 13, NULL, 1, FLOATS(1), INTS(1)).rc, -1);
    CHECK_INT(run_op("Add", 13, NULL, 1, FLOATS(1, 2), FLOATS(1, 2, 3)).rc, -1);
}
