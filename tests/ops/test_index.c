#include "tests/ops/run_op.h"

#define X23 tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(2, 3))

void test_index__gather_takes_negative_indices(void)
{
    struct run r = run_op("Gather", 13, ATTRS(AT_I("axis", 1)), 1, X23, INTS(-1, 0));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 3, 1, 6, 4);
    r = run_op("Gather", 13, NULL, 1, X23, tensor_shaped(INTS(1), SCALAR));
    check_shape(&r.out[0], DT_F32, DIMS(3));
}

void test_index__what_lies_outside_is_refused(void)
{
    struct tensor *at = tensor_shaped(INTS(3), DIMS(1, 1)),
                  *u = tensor_shaped(FLOATS(1), DIMS(1, 1));
    struct tensor *low = INTS(INT64_MIN);
    CHECK_INT(run_op("Gather", 13, NULL, 1, X23, low).rc, -1);
    CHECK_INT(run_op("GatherElements", 13, ATTRS(AT_I("axis", 1)), 1, X23, at).rc, -1);
    CHECK_INT(run_op("GatherND", 13, NULL, 1, X23, at).rc, -1);
    CHECK_INT(run_op("ScatterElements", 13, ATTRS(AT_I("axis", 1)), 1, X23, at, u).rc, -1);
    CHECK_INT(
        run_op("ScatterND", 13, NULL, 1, X23, tensor_shaped(INTS(0, 9), DIMS(1, 2)), FLOATS(1)).rc,
        -1);
    CHECK_INT(run_op("ScatterND", 13, NULL, 1, X23, at, FLOATS(1)).rc, -1);
}

void test_index__scatter_applies_updates_in_order(void)
{
    struct tensor *at = tensor_shaped(INTS(1, 1), DIMS(2, 1)),
                  *u = tensor_shaped(FLOATS(7, 8, 9, 1, 2, 3), DIMS(2, 3));
    CHECK_FLOATS(&run_op("ScatterND", 13, NULL, 1, X23, at, u).out[0], 0, 1, 2, 3, 1, 2, 3);
    CHECK_FLOATS(&run_op("ScatterND", 16, ATTRS(AT_S("reduction", "add")), 1, X23, at, u).out[0], 0,
                 1, 2, 3, 12, 15, 18);
    CHECK_FLOATS(&run_op("ScatterND", 18, ATTRS(AT_S("reduction", "max")), 1, X23, at, u).out[0], 0,
                 1, 2, 3, 7, 8, 9);
    CHECK_INT(run_op("ScatterND", 16, ATTRS(AT_S("reduction", "median")), 1, X23, at, u).rc, -1);
}

void test_index__one_hot_ignores_what_lies_outside(void)
{
    struct run r =
        run_op("OneHot", 11, NULL, 1, INTS(1, -1, 7), tensor_shaped(INTS(3), SCALAR), FLOATS(0, 5));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 5, 0, 0, 0, 5, 0, 0, 0);
    CHECK_INT(
        run_op("OneHot", 11, NULL, 1, INTS(1), tensor_shaped(INTS(INT64_MAX), SCALAR), FLOATS(0, 5))
            .rc,
        -1);
}
