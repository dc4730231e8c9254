#include "tests/ops/run_op.h"

#include <math.h>

void test_sample__the_identity_grid_gives_the_picture(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 3, 2, 2), 1);
    struct tensor *g = tensor_shaped(FLOATS(-1, -1, 1, -1, -1, 1, 1, 1), DIMS(1, 2, 2, 2));
    static const char *const modes[] = {"bilinear", "nearest", "bicubic"};
    for (int m = 0; m < 3; m++) {
        struct run r =
            run_op("GridSample", 16, ATTRS(AT_S("mode", modes[m]), AT_I("align_corners", 1)), 1,
                   tensor_last(x), g);
        CHECK_OK(r.rc, r.e);
        check_same(&r.out[0], x, 1e-6);
    }
}

void test_sample__bears_wild_coordinates(void)
{
    static const char *const paddings[] = {"zeros", "border", "reflection"};
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 2, 3, 3), 1);
    struct tensor *g =
        tensor_shaped(FLOATS(NAN, 0, INFINITY, 0, 1e30f, -1e30f, -INFINITY, 5), DIMS(1, 2, 2, 2));
    for (int p = 0; p < 3; p++) {
        struct run r = run_op("GridSample", 16, ATTRS(AT_S("padding_mode", paddings[p])), 1,
                              tensor_last(x), g);
        CHECK_OK(r.rc, r.e);
        if (p == 0)
            CHECK_NEAR(((float *)r.out[0].data)[2], 0, 0);
    }
}

void test_sample__boxes_are_suppressed_by_overlap(void)
{
    struct tensor *boxes =
        tensor_shaped(FLOATS(0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, 10, 1, 11), DIMS(1, 3, 4));
    struct tensor *scores = tensor_shaped(FLOATS(0.9f, 0.75f, 0.6f), DIMS(1, 1, 3));
    struct run r =
        run_op("NonMaxSuppression", 11, NULL, 1, boxes, scores, INTS(3), FLOATS(0.5f), FLOATS(0));
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 0, 0, 0, 0, 0, 2);
    r = run_op("NonMaxSuppression", 11, NULL, 1, boxes, scores);
    check_shape(&r.out[0], DT_I64, DIMS(0, 3));
}

void test_sample__roi_align_averages(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(1, 1, 4, 4));
    for (int i = 0; i < 16; i++)
        ((float *)x->data)[i] = 2;
    struct run r =
        run_op("RoiAlign", 16,
               ATTRS(AT_I("output_height", 2), AT_I("output_width", 2), AT_I("sampling_ratio", 2)),
               1, x, tensor_shaped(FLOATS(0, 0, 3, 3), DIMS(1, 4)), INTS(0));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 2, 2, 2, 2);
    CHECK_INT(
        run_op("RoiAlign", 16, NULL, 1, x, tensor_shaped(FLOATS(0, 0, 3, 3), DIMS(1, 4)), INTS(1))
            .rc,
        -1);
}

void test_sample__takes_integers(void)
{
    struct tensor *x = tensor_shaped(INTS(1, 2, 3, 4), DIMS(1, 1, 2, 2));
    struct tensor *at = tensor_shaped(FLOATS(-0.5f, -0.5f, 0, 0.5f), DIMS(1, 1, 2, 2));
    struct run r = run_op("GridSample", 20, ATTRS(AT_S("mode", "nearest")), 1, x, at);
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 1, 3);
    r = run_op("GridSample", 20, NULL, 1, x, at);
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 1, 3);
}
