#include "tests/ops/run_op.h"

#include <math.h>

#define X23 tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(2, 3))

void test_reduce__kinds_over_an_axis(void)
{
    const struct attr *a = ATTRS(AT_INTS("axes", 1), AT_I("keepdims", 0));
    CHECK_FLOATS(&run_op("ReduceSum", 11, a, 1, X23).out[0], 0, 6, 15);
    CHECK_FLOATS(&run_op("ReduceMean", 11, a, 1, X23).out[0], 0, 2, 5);
    CHECK_FLOATS(&run_op("ReduceMax", 11, a, 1, X23).out[0], 0, 3, 6);
    CHECK_FLOATS(&run_op("ReduceMin", 11, a, 1, X23).out[0], 0, 1, 4);
    CHECK_FLOATS(&run_op("ReduceProd", 11, a, 1, X23).out[0], 0, 6, 120);
    CHECK_FLOATS(&run_op("ReduceL1", 11, a, 1, X23).out[0], 0, 6, 15);
    CHECK_FLOATS(&run_op("ReduceL2", 11, a, 1, X23).out[0], 1e-6, sqrtf(14), sqrtf(77));
    CHECK_FLOATS(&run_op("ReduceSumSquare", 11, a, 1, X23).out[0], 0, 14, 77);
    CHECK_FLOATS(&run_op("ReduceLogSum", 11, a, 1, X23).out[0], 1e-6, logf(6), logf(15));
    CHECK_FLOATS(&run_op("ReduceLogSumExp", 11, a, 1, X23).out[0], 1e-5, 3.4076059f, 6.4076059f);
}

void test_reduce__axes_come_from_an_input_too(void)
{
    struct run r = run_op("ReduceSum", 13, NULL, 1, X23, INTS(0));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 3));
    CHECK_FLOATS(&r.out[0], 0, 5, 7, 9);
    r = run_op("ReduceSum", 13, ATTRS(AT_I("noop_with_empty_axes", 1)), 1, X23, NULL);
    check_same(&r.out[0], X23, 0);
    CHECK_INT(run_op("ReduceSum", 13, NULL, 1, X23, INTS(0, 0)).rc, -1);
    CHECK_INT(run_op("ReduceSum", 13, NULL, 1, X23, INTS(2)).rc, -1);
}

void test_reduce__integers_keep_64_bits(void)
{
    struct tensor *x = INTS((1LL << 62) + 1, 2);
    CHECK_INTS(&run_op("ReduceSum", 13, NULL, 1, x).out[0], (1LL << 62) + 3);
    CHECK_INTS(&run_op("ReduceMax", 13, NULL, 1, x).out[0], (1LL << 62) + 1);
    struct tensor *u = tensor_of(DT_U64, (uint64_t[]){UINT64_MAX, 1}, DIMS(2));
    CHECK_INT(*(int64_t *)run_op("ReduceMax", 13, NULL, 1, u).out[0].data, -1);
}

void test_reduce__sums_of_many_floats_are_exact_to_a_float(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(1000003));
    for (int i = 0; i < 1000003; i++)
        ((float *)x->data)[i] = 0.1f;
    struct run r = run_op("ReduceSum", 13, NULL, 1, x);
    CHECK_NEAR(tensor_num(&r.out[0], 0), 1000003 * (double)0.1f, 0.01);
}

void test_reduce__layouts_do_not_matter(void)
{
    static const char *const ops[] = {"ReduceSum", "ReduceMax", "ReduceLogSumExp", "ReduceL2"};
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 17, 5, 9), 1);
    for (int i = 0; i < 4; i++) {
        CHECK_LAYOUTS(ops[i], 11, ATTRS(AT_INTS("axes", 2, 3)), 1, x);
        CHECK_LAYOUTS(ops[i], 11, ATTRS(AT_INTS("axes", 1)), 1, x);
        CHECK_LAYOUTS(ops[i], 11, ATTRS(AT_INTS("axes", 3, 0), AT_I("keepdims", 0)), 1, x);
        CHECK_LAYOUTS(ops[i], 11, NULL, 1, x);
    }
}

void test_reduce__the_maximum_of_nothing_is_the_least(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(2, 0));
    struct run r = run_op("ReduceMax", 13, ATTRS(AT_INTS("axes", 1)), 1, x);
    CHECK_OK(r.rc, r.e);
    CHECK(isinf(((float *)r.out[0].data)[0]));
    CHECK_FLOATS(&run_op("ReduceProd", 13, ATTRS(AT_INTS("axes", 1)), 1, x).out[0], 0, 1, 1);
}
