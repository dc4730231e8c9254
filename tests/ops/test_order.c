#include "tests/ops/run_op.h"

#define X23 tensor_shaped(FLOATS(3, 1, 3, 4, 9, 9), DIMS(2, 3))

void test_order__arg_max_picks_first_or_last(void)
{
    const struct attr *first = ATTRS(AT_I("axis", 1), AT_I("keepdims", 0));
    const struct attr *last =
        ATTRS(AT_I("axis", 1), AT_I("keepdims", 0), AT_I("select_last_index", 1));
    CHECK_INTS(&run_op("ArgMax", 13, first, 1, X23).out[0], 0, 1);
    CHECK_INTS(&run_op("ArgMax", 13, last, 1, X23).out[0], 2, 2);
    CHECK_INTS(&run_op("ArgMin", 13, first, 1, X23).out[0], 1, 0);
    CHECK_INTS(&run_op("ArgMax", 13, ATTRS(AT_I("axis", 0)), 1, X23).out[0], 1, 1, 1);
    CHECK_INT(
        run_op("ArgMax", 13, ATTRS(AT_I("axis", 1)), 1, tensor_of(DT_F32, NULL, DIMS(2, 0))).rc,
        -1);
}

void test_order__layouts_do_not_matter(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 9, 5, 4), 1);
    for (int axis = 0; axis < 4; axis++) {
        CHECK_LAYOUTS("ArgMax", 13, ATTRS(AT_I("axis", axis)), 1, x);
        CHECK_LAYOUTS("ArgMin", 13, ATTRS(AT_I("axis", axis), AT_I("keepdims", 0)), 1, x);
    }
}

void test_order__top_k_sorts_and_breaks_ties_by_place(void)
{
    struct tensor *x = FLOATS(3, 1, 4, 1, 5, 9, 2, 6, 5, 3);
    struct run r = run_op("TopK", 11, NULL, 2, x, INTS(4));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 9, 6, 5, 5);
    CHECK_INTS(&r.out[1], 5, 7, 4, 8);
    r = run_op("TopK", 11, ATTRS(AT_I("largest", 0)), 2, x, INTS(3));
    CHECK_FLOATS(&r.out[0], 0, 1, 1, 2);
    CHECK_INTS(&r.out[1], 1, 3, 6);
    CHECK_INT(run_op("TopK", 11, NULL, 2, x, INTS(11)).rc, -1);
    CHECK_INT(run_op("TopK", 11, NULL, 2, x, INTS(-1)).rc, -1);
    CHECK_INT(run_op("TopK", 11, NULL, 2, x, INTS(0)).out[0].dims[0], 0);
}

void test_order__cum_sum_goes_both_ways(void)
{
    struct tensor *x = FLOATS(1, 2, 3), *axis = tensor_shaped(INTS(0), SCALAR);
    CHECK_FLOATS(&run_op("CumSum", 14, NULL, 1, x, axis).out[0], 0, 1, 3, 6);
    CHECK_FLOATS(
        &run_op("CumSum", 14, ATTRS(AT_I("reverse", 1), AT_I("exclusive", 1)), 1, x, axis).out[0],
        0, 5, 3, 0);
    CHECK_INT(run_op("CumSum", 14, NULL, 1, x, tensor_shaped(INTS(1), SCALAR)).rc, -1);
}

void test_order__non_zero_waits_for_data(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 0, 0, 5), DIMS(2, 2));
    CHECK_INTS(&run_op("NonZero", 13, NULL, 1, x).out[0], 0, 1, 0, 1);
    x->data = NULL;
    CHECK_INT(run_op("NonZero", 13, NULL, 1, x).rc, SHAPE_WAITS);
}
