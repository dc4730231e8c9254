#include "tests/ops/run_op.h"

void test_shape__reshape_copies_and_infers(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4), 1);
    struct run r = run_op("Reshape", 13, NULL, 1, x, INTS(0, -1));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 12));
    CHECK_MEM(r.out[0].data, x->data, 96);
}

void test_shape__reshape_refuses_what_cannot_be(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4), 1);
    const struct tensor *bad[] = {
        INTS(5, -1),     INTS(-1, -1), INTS(25), INTS(-2, 12), INTS(INT64_MAX, INT64_MAX),
        INTS(1, 1, 1, 0)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(run_op("Reshape", 13, NULL, 1, x, bad[i]).rc, -1);
    CHECK_INT(run_op("Reshape", 14, ATTRS(AT_I("allowzero", 1)), 1, x, INTS(0, -1)).rc, -1);
}

void test_shape__waits_for_the_shape(void)
{
    struct tensor *shape = INTS(2, 3);
    shape->data = NULL;
    CHECK_INT(run_op("Reshape", 13, NULL, 1, FLOATS(1, 2, 3, 4, 5, 6), shape).rc, SHAPE_WAITS);
}

void test_shape__squeeze_and_unsqueeze_take_both_forms(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 3, 1), 1);
    struct run a = run_op("Squeeze", 11, ATTRS(AT_INTS("axes", -1)), 1, x);
    CHECK_OK(a.rc, a.e);
    check_shape(&a.out[0], DT_F32, DIMS(1, 3));
    a = run_op("Squeeze", 13, NULL, 1, x);
    check_shape(&a.out[0], DT_F32, DIMS(3));
    a = run_op("Unsqueeze", 13, NULL, 1, FLOATS(1, 2), INTS(-1, 0));
    check_shape(&a.out[0], DT_F32, DIMS(1, 2, 1));
    CHECK_INT(run_op("Unsqueeze", 13, NULL, 1, FLOATS(1), INTS(1, 1)).rc, -1);
    CHECK_INT(run_op("Squeeze", 13, NULL, 1, x, INTS(1)).rc, -1);
}

void test_shape__shape_honours_start_and_end(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4), 1);
    CHECK_INTS(&run_op("Shape", 13, NULL, 1, x).out[0], 2, 3, 4);
    CHECK_INTS(&run_op("Shape", 15, ATTRS(AT_I("start", -2), AT_I("end", -1)), 1, x).out[0], 3);
    CHECK_INT(run_op("Shape", 15, ATTRS(AT_I("start", 9)), 1, x).out[0].dims[0], 0);
    CHECK_INTS(&run_op("Size", 13, NULL, 1, x).out[0], 24);
}

void test_shape__expand_and_range(void)
{
    struct run r =
        run_op("Expand", 13, NULL, 1, tensor_shaped(INTS(1, 2), DIMS(2, 1)), INTS(3, 1, 2));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_I64, DIMS(3, 2, 2));
    CHECK_INTS(&r.out[0], 1, 1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 2);
    struct tensor *from = tensor_shaped(INTS(7), SCALAR), *to = tensor_shaped(INTS(0), SCALAR);
    CHECK_INTS(&run_op("Range", 11, NULL, 1, from, to, tensor_shaped(INTS(-3), SCALAR)).out[0], 7,
               4, 1);
    CHECK_INT(run_op("Range", 11, NULL, 1, from, to, to).rc, -1);
}

void test_shape__constant_of_shape_fills(void)
{
    CHECK_FLOATS(&run_op("ConstantOfShape", 9, NULL, 1, INTS(3)).out[0], 0, 0, 0, 0);
    CHECK_INT(run_op("ConstantOfShape", 9, NULL, 1, INTS(1 << 30, 1 << 30)).rc, -1);
    CHECK_INT(run_op("ConstantOfShape", 9, NULL, 1, INTS(-1)).rc, -1);
}

void test_shape__casts_between_all_types(void)
{
    for (int from = DT_F32; from < DT_COUNT; from++)
        for (int to = DT_F32; to < DT_COUNT; to++) {
            if (from == DT_STRING || to == DT_STRING || from == DT_F16 || to == DT_F16)
                continue;
            struct tensor *x = tensor_random((enum dtype)from, DIMS(3, 5, 7), 4);
            struct run r = run_op("Cast", 13, ATTRS(AT_I("to", to)), 1, x);
            CHECK_OK(r.rc, r.e);
            CHECK_INT(r.out[0].type, to);
            double v = tensor_num(x, 9), w = tensor_num(&r.out[0], 9);
            if (to == DT_BOOL)
                CHECK_INT(w, v != 0);
            else if (dtype_is_float((enum dtype)to))
                CHECK_NEAR(w, v, 1e-6);
            else if (v >= 0)
                CHECK_INT(w, (int)v);
        }
}

void test_shape__casts_of_huge_floats_are_defined(void)
{
    struct tensor *x = FLOATS(1e30f, -1e30f, 0.0f / 0.0f, 2.9f, -2.9f);
    CHECK_INTS(&run_op("Cast", 13, ATTRS(AT_I("to", DT_I64)), 1, x).out[0], INT64_MAX, INT64_MIN, 0,
               2, -2);
    struct run half = run_op("Cast", 13, ATTRS(AT_I("to", DT_F16)), 1, FLOATS(1.5f, 65504, 1e9f));
    CHECK_INT(((uint16_t *)half.out[0].data)[1], 0x7bff);
    CHECK_INT(((uint16_t *)half.out[0].data)[2], 0x7c00);
}
