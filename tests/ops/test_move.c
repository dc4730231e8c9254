#include "tests/ops/run_op.h"

#define X234 tensor_random(DT_F32, DIMS(2, 3, 4), 1)

void test_move__transpose_reorders_axes(void)
{
    struct tensor *x = tensor_of(DT_I64, (int64_t[]){1, 2, 3, 4, 5, 6}, DIMS(2, 3));
    struct run r = run_op("Transpose", 13, NULL, 1, x);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_I64, DIMS(3, 2));
    CHECK_INTS(&r.out[0], 1, 4, 2, 5, 3, 6);
}

void test_move__large_transposes_agree_with_two_steps(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 37, 5, 41), 3);
    struct run a = run_op("Transpose", 13, ATTRS(AT_INTS("perm", 0, 3, 1, 2)), 1, x);
    struct run b = run_op("Transpose", 13, ATTRS(AT_INTS("perm", 0, 2, 3, 1)), 1, &a.out[0]);
    CHECK_OK(a.rc, a.e);
    check_same(&b.out[0], x, 0);
    const float *p = a.out[0].data, *q = x->data;
    CHECK_NEAR(p[(7 * 37 + 11) * 5 + 2], q[(11 * 5 + 2) * 41 + 7], 0);
}

void test_move__concat_joins_along_an_axis(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(2, 2));
    struct tensor *y = tensor_shaped(FLOATS(5, 6), DIMS(2, 1));
    struct run r = run_op("Concat", 13, ATTRS(AT_I("axis", -1)), 1, x, y);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 1, 2, 5, 3, 4, 6);
}

void test_move__concat_refuses_what_does_not_fit(void)
{
    struct run r = run_op("Concat", 13, ATTRS(AT_I("axis", 0)), 1, X234, FLOATS(1, 2));
    CHECK_INT(r.rc, -1);
    CHECK_INT(r.e.code, ERR_BAD_MODEL);
}

void test_move__split_takes_lengths_from_both_forms(void)
{
    struct tensor *x = FLOATS(1, 2, 3, 4, 5, 6);
    struct run old = run_op("Split", 11, ATTRS(AT_INTS("split", 2, 4)), 2, x);
    struct run now = run_op("Split", 13, NULL, 2, x, INTS(2, 4));
    struct run odd = run_op("Split", 18, ATTRS(AT_I("num_outputs", 4)), 4, x);
    CHECK_OK(old.rc, old.e);
    CHECK_OK(now.rc, now.e);
    CHECK_OK(odd.rc, odd.e);
    check_same(&old.out[1], &now.out[1], 0);
    CHECK_FLOATS(&now.out[1], 0, 3, 4, 5, 6);
    CHECK_INT(odd.out[3].dims[0], 0);
}

void test_move__slice_runs_backwards_and_clamps(void)
{
    struct tensor *x = FLOATS(0, 1, 2, 3, 4, 5);
    struct run r = run_op("Slice", 13, NULL, 1, x, INTS(-1), INTS(INT64_MIN), INTS(0), INTS(-2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 5, 3, 1);
    r = run_op("Slice", 13, NULL, 1, x, INTS(1), INTS(INT64_MAX), INTS(0), INTS(INT64_MAX));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 1);
    r = run_op("Slice", 9, ATTRS(AT_INTS("starts", 2), AT_INTS("ends", -1)), 1, x);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 2, 3, 4);
}

void test_move__slice_of_nothing_is_empty(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(0, 3));
    struct run r = run_op("Slice", 13, NULL, 1, x, INTS(-1), INTS(5), INTS(0), INTS(-1));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(0, 3));
}

void test_move__slice_with_step_zero_is_refused(void)
{
    struct run r = run_op("Slice", 13, NULL, 1, X234, INTS(0), INTS(1), INTS(0), INTS(0));
    CHECK_INT(r.rc, -1);
}

void test_move__tile_repeats(void)
{
    struct run r = run_op("Tile", 13, NULL, 1, tensor_shaped(INTS(1, 2), DIMS(1, 2)), INTS(2, 2));
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 1, 2, 1, 2, 1, 2, 1, 2);
}

void test_move__blocks_go_there_and_back(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 8, 3, 5), 9);
    struct run wide = run_op("DepthToSpace", 13, ATTRS(AT_I("blocksize", 2)), 1, x);
    CHECK_OK(wide.rc, wide.e);
    check_shape(&wide.out[0], DT_F32, DIMS(2, 2, 6, 10));
    struct run back = run_op("SpaceToDepth", 13, ATTRS(AT_I("blocksize", 2)), 1, &wide.out[0]);
    check_same(&back.out[0], x, 0);
}

void test_move__layouts_do_not_matter(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 8, 6, 10), 5);
    struct tensor *y = tensor_random(DT_F32, DIMS(2, 3, 6, 10), 6);
    CHECK_LAYOUTS("Transpose", 13, ATTRS(AT_INTS("perm", 0, 2, 3, 1)), 1, x);
    CHECK_LAYOUTS("Concat", 13, ATTRS(AT_I("axis", 1)), 1, x, y, x);
    CHECK_LAYOUTS("Split", 13, ATTRS(AT_I("axis", 1)), 2, x, INTS(3, 5));
    CHECK_LAYOUTS("Slice", 13, NULL, 1, x, INTS(1, -1), INTS(7, 0), INTS(1, 3), INTS(2, -3));
    CHECK_LAYOUTS("Tile", 13, NULL, 1, x, INTS(1, 2, 1, 3));
    CHECK_LAYOUTS("DepthToSpace", 13, ATTRS(AT_I("blocksize", 2), AT_S("mode", "CRD")), 1, x);
    CHECK_LAYOUTS("SpaceToDepth", 13, ATTRS(AT_I("blocksize", 2)), 1, x);
}
