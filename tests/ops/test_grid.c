#include "tests/ops/run_op.h"

#include <math.h>

void test_affine_grid__the_identity_gives_the_places_themselves(void)
{
    struct tensor *theta = tensor_shaped(FLOATS(1, 0, 0, 0, 1, 0), DIMS(1, 2, 3));
    struct run r =
        run_op("AffineGrid", 20, ATTRS(AT_I("align_corners", 1)), 1, theta, INTS(1, 1, 2, 3));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 2, 3, 2));
    CHECK_FLOATS(&r.out[0], 1e-6, -1, -1, 0, -1, 1, -1, -1, 1, 0, 1, 1, 1);
    r = run_op("AffineGrid", 20, NULL, 1, theta, INTS(1, 1, 2, 2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, -.5f, -.5f, .5f, -.5f, -.5f, .5f, .5f, .5f);
}

void test_affine_grid__theta_turns_and_moves_in_three_dims(void)
{
    /* x' = z + 10, y' = x, z' = y */
    struct tensor *theta =
        tensor_shaped(FLOATS(0, 0, 1, 10, 1, 0, 0, 0, 0, 1, 0, 0), DIMS(1, 3, 4));
    struct run r =
        run_op("AffineGrid", 20, ATTRS(AT_I("align_corners", 1)), 1, theta, INTS(1, 1, 1, 1, 2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 9, -1, -1, 9, 1, -1);
}

void test_affine_grid__refuses_sizes_that_do_not_fit(void)
{
    struct tensor *theta = tensor_random(DT_F32, DIMS(1, 2, 3), 1);
    CHECK(run_op("AffineGrid", 20, NULL, 1, theta, INTS(2, 1, 2, 3)).rc != 0);
    CHECK(run_op("AffineGrid", 20, NULL, 1, theta, INTS(1, 1, 2, 3, 4)).rc != 0);
    CHECK(run_op("AffineGrid", 20, NULL, 1, theta, INTS(1, 1, 0, 3)).rc != 0);
    CHECK(run_op("AffineGrid", 20, NULL, 1, theta, INTS(1, 1, INT64_MAX, 3)).rc != 0);
}

void test_center_crop_pad__the_odd_element_is_at_the_end(void)
{
    struct tensor *x = FLOATS(1, 2, 3, 4, 5);
    struct run r = run_op("CenterCropPad", 18, NULL, 1, x, INTS(2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 2, 3);
    r = run_op("CenterCropPad", 18, NULL, 1, x, INTS(8));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 1, 2, 3, 4, 5, 0, 0);
}

void test_center_crop_pad__crops_one_axis_and_pads_another(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(1, 3, 2));
    struct run r = run_op("CenterCropPad", 18, ATTRS(AT_INTS("axes", -1, 1)), 1, x, INTS(4, 1));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 4));
    CHECK_FLOATS(&r.out[0], 0, 0, 3, 4, 0);
    CHECK_LAYOUTS("CenterCropPad", 18, ATTRS(AT_INTS("axes", 2, 3)), 1,
                  tensor_random(DT_F32, DIMS(2, 3, 4, 5), 1), INTS(2, 9));
}

void test_center_crop_pad__refuses_bad_shapes(void)
{
    struct tensor *x = FLOATS(1, 2);
    CHECK(run_op("CenterCropPad", 18, NULL, 1, x, INTS(-1)).rc != 0);
    CHECK(run_op("CenterCropPad", 18, NULL, 1, x, INTS(1, 1)).rc != 0);
    CHECK(run_op("CenterCropPad", 18, ATTRS(AT_INTS("axes", 3)), 1, x, INTS(1)).rc != 0);
    CHECK(run_op("CenterCropPad", 18, NULL, 1, x, INTS(INT64_MAX)).rc != 0);
}

static struct run mel(int64_t bins, int64_t points, int64_t rate, float low, float high)
{
    return run_op("MelWeightMatrix", 17, NULL, 1, tensor_shaped(INTS(bins), SCALAR),
                  tensor_shaped(INTS(points), SCALAR), tensor_shaped(INTS(rate), SCALAR),
                  tensor_shaped(FLOATS(low), SCALAR), tensor_shaped(FLOATS(high), SCALAR));
}

/* Each column is a triangle: it rises to 1 at its middle and falls again, and is 0 elsewhere. */
void test_mel_weights__columns_are_triangles(void)
{
    struct run r = mel(8, 512, 16000, 60, 7600);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(257, 8));
    double before = -1;
    for (int k = 0; k < 8; k++) {
        int peak = -1;
        for (int j = 0; j < 257; j++) {
            double v = tensor_num(&r.out[0], j * 8 + k);
            CHECK(v >= 0 && v <= 1);
            if (v == 1)
                peak = j;
        }
        /* the middle's frequency in mel: a step of (high - low) / 10 from the last one */
        double hertz = peak * 16000.0 / 513, own = 2595 * log10(1 + hertz / 700);
        double step = 2595 * (log10(1 + 7600.0 / 700) - log10(1 + 60.0 / 700)) / 10;
        CHECK(peak > 0);
        CHECK(k == 0 || fabs(own - before - step) < 50);
        before = own;
    }
}

void test_mel_weights__refuses_nonsense(void)
{
    CHECK(mel(-1, 512, 16000, 60, 7600).rc != 0);
    CHECK(mel(8, -5, 16000, 60, 7600).rc != 0);
    CHECK(mel(8, 512, 0, 60, 7600).rc != 0);
    CHECK(mel(8, 512, 100, 60, 7600).rc != 0);
    CHECK(mel(8, 512, 16000, -900, 7600).rc != 0);
    CHECK(mel(8, 512, 16000, NAN, 7600).rc != 0);
    CHECK(mel(8, 512, 16000, 7600, 60).rc != 0);
}
