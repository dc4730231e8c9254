#include "tests/ops/run_op.h"

#include <math.h>

void test_deform_conv__without_offsets_is_a_convolution(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 4, 6, 5), 1),
                  *w = tensor_random(DT_F32, DIMS(6, 2, 3, 2), 2),
                  *b = tensor_random(DT_F32, DIMS(6), 3);
    struct attr *a = ATTRS(AT_I("group", 2), AT_INTS("strides", 2, 1), AT_INTS("dilations", 1, 2),
                           AT_INTS("pads", 1, 0, 1, 2));
    struct run conv = run_op("Conv", 11, a, 1, x, w, b);
    CHECK_OK(conv.rc, conv.e);
    const int64_t *d = conv.out[0].dims;
    struct tensor *offset = tensor_of(DT_F32, NULL, DIMS(2, 12, d[2], d[3]));
    struct run r = run_op("DeformConv", 19, a, 1, x, w, offset, b);
    CHECK_OK(r.rc, r.e);
    check_same(&r.out[0], &conv.out[0], 1e-4);
}

void test_deform_conv__offsets_move_taps_and_the_mask_weighs_them(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(1, 1, 2, 2));
    struct tensor *w = tensor_shaped(FLOATS(10), DIMS(1, 1, 1, 1));
    /* dy for the four places, then dx */
    struct tensor *offset =
        tensor_shaped(FLOATS(0.5f, 0, 0, -5, 0, -0.25f, 0.5f, 0), DIMS(1, 2, 2, 2));
    struct tensor *mask = tensor_shaped(FLOATS(1, 1, 2, 1), DIMS(1, 1, 2, 2));
    struct run r = run_op("DeformConv", 22, NULL, 1, x, w, offset, NULL, mask);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-5, 20, 17.5f, 70, 0);
}

void test_deform_conv__offset_groups_move_channels_apart(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 10, 20), DIMS(1, 2, 1, 2));
    struct tensor *w = tensor_shaped(FLOATS(1, 1), DIMS(1, 2, 1, 1));
    /* group 0: dy, dx = 0; group 1: dy = 0, dx = 1, -1 */
    struct tensor *offset = tensor_shaped(FLOATS(0, 0, 0, 0, 0, 0, 1, -1), DIMS(1, 4, 1, 2));
    struct run r = run_op("DeformConv", 19, ATTRS(AT_I("offset_group", 2)), 1, x, w, offset);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-5, 21, 12);
}

/* A pixel, 0 outside of the image. */
static double pixel(const struct tensor *x, int64_t n, int64_t c, int64_t row, int64_t col)
{
    const int64_t *d = x->dims;
    bool inside = row >= 0 && row < d[2] && col >= 0 && col < d[3];
    return inside ? tensor_num(x, ((n * d[1] + c) * d[2] + row) * d[3] + col) : 0;
}

static double between_pixels(const struct tensor *x, int64_t n, int64_t c, double row, double col)
{
    double r = floor(row), q = floor(col), down = row - r, right = col - q;
    int64_t i = (int64_t)r, j = (int64_t)q;
    double upper = pixel(x, n, c, i, j) * (1 - right) + pixel(x, n, c, i, j + 1) * right;
    double lower = pixel(x, n, c, i + 1, j) * (1 - right) + pixel(x, n, c, i + 1, j + 1) * right;
    return upper * (1 - down) + lower * down;
}

/* Element [n, field, i, j] of offsets or masks. */
static double field_at(const struct tensor *t, int64_t n, int64_t field, int64_t i, int64_t j)
{
    const int64_t *d = t->dims;
    return tensor_num(t, ((n * d[1] + field) * d[2] + i) * d[3] + j);
}

enum { GROUPS = 2, FIELDS = 3 /* offset groups */, STRIDE = 2, DILATION = 2, PAD = 1 };

/* One output by the definition (DeformConv-19), in double. */
static double deformed(const struct tensor *x, const struct tensor *w, const struct tensor *offset,
                       const struct tensor *mask, int64_t n, int64_t o, int64_t i, int64_t j)
{
    int64_t each = w->dims[1], taps = w->dims[2] * w->dims[3], channels = x->dims[1];
    int64_t first = o / (w->dims[0] / GROUPS) * each;
    double sum = 0;
    for (int64_t c = 0; c < each; c++)
        for (int64_t k = 0; k < taps; k++) {
            int64_t field = (first + c) / (channels / FIELDS) * taps + k;
            double row = (double)(i * STRIDE - PAD + k / w->dims[3] * DILATION) +
                         field_at(offset, n, 2 * field, i, j);
            double col = (double)(j * STRIDE - PAD + k % w->dims[3] * DILATION) +
                         field_at(offset, n, 2 * field + 1, i, j);
            sum += tensor_num(w, (o * each + c) * taps + k) * field_at(mask, n, field, i, j) *
                   between_pixels(x, n, first + c, row, col);
        }
    return sum;
}

void test_deform_conv__agrees_with_its_definition_in_double(void)
{
    struct attr *a = ATTRS(AT_I("group", GROUPS), AT_I("offset_group", FIELDS),
                           AT_INTS("strides", STRIDE, STRIDE), AT_INTS("pads", PAD, PAD, PAD, PAD),
                           AT_INTS("dilations", DILATION, DILATION));
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 6, 9, 8), 1),
                  *w = tensor_random(DT_F32, DIMS(4, 3, 2, 3), 2),
                  *b = tensor_random(DT_F32, DIMS(4), 3),
                  *offset = tensor_random(DT_F32, DIMS(2, 36, 5, 3), 4),
                  *mask = tensor_random(DT_F32, DIMS(2, 18, 5, 3), 5);
    struct run r = run_op("DeformConv", 22, a, 1, x, w, offset, b, mask);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 4, 5, 3));
    for (int64_t k = 0; k < tensor_count(&r.out[0]); k++) {
        int64_t j = k % 3, i = k / 3 % 5, o = k / 15 % 4, n = k / 60;
        double want = deformed(x, w, offset, mask, n, o, i, j) + tensor_num(b, o);
        CHECK_NEAR(tensor_num(&r.out[0], k), want, 1e-4);
    }
}

void test_deform_conv__bears_wild_offsets(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 1, 2, 2), 1);
    struct tensor *w = tensor_shaped(FLOATS(1), DIMS(1, 1, 1, 1));
    struct tensor *offset = tensor_shaped(
        FLOATS(NAN, INFINITY, -INFINITY, 1e30f, NAN, INFINITY, 0, 0), DIMS(1, 2, 2, 2));
    struct run r = run_op("DeformConv", 19, NULL, 1, x, w, offset);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 0, 0, 0);
}

void test_deform_conv__refuses_what_does_not_fit(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 2, 3, 3), 1),
                  *w = tensor_random(DT_F32, DIMS(2, 2, 2, 2), 2),
                  *offset = tensor_random(DT_F32, DIMS(1, 8, 2, 2), 3),
                  *small = tensor_random(DT_F32, DIMS(1, 8, 1, 2), 3);
    CHECK_INT(run_op("DeformConv", 19, NULL, 1, x, w, offset).rc, 0);
    CHECK(run_op("DeformConv", 19, NULL, 1, x, w, small).rc != 0);
    CHECK(run_op("DeformConv", 19, ATTRS(AT_I("group", 0)), 1, x, w, offset).rc != 0);
    CHECK(run_op("DeformConv", 19, ATTRS(AT_I("offset_group", 3)), 1, x, w, offset).rc != 0);
    CHECK(run_op("DeformConv", 19, ATTRS(AT_INTS("strides", 0, 1)), 1, x, w, offset).rc != 0);
    CHECK(run_op("DeformConv", 19, ATTRS(AT_INTS("dilations", 9, 9)), 1, x, w, offset).rc != 0);
    CHECK(
        run_op("DeformConv", 19, ATTRS(AT_INTS("pads", INT64_MAX, 0, 0, 0)), 1, x, w, offset).rc !=
        0);
}

#define POOLED AT_INTS("pooled_shape", 2, 2)

void test_max_roi_pool__takes_the_largest_of_each_part(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(1, 1, 4, 4));
    for (int i = 0; i < 16; i++)
        ((float *)x->data)[i] = (float)i;
    struct tensor *rois = tensor_shaped(FLOATS(0, 0, 0, 3, 3, 0, 1, 1, 2, 2), DIMS(2, 5));
    struct run r = run_op("MaxRoiPool", 7, ATTRS(POOLED), 1, x, rois);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 1, 2, 2));
    CHECK_FLOATS(&r.out[0], 0, 5, 7, 13, 15, 5, 6, 9, 10);
    r = run_op("MaxRoiPool", 7, ATTRS(POOLED, AT_F("spatial_scale", 0.5f)), 1, x,
               tensor_shaped(FLOATS(0, 0, 0, 6, 6), DIMS(1, 5)));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 5, 7, 13, 15);
}

void test_max_roi_pool__regions_outside_are_empty_and_batches_must_be_there(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 1, 4, 4), 1);
    struct run r =
        run_op("MaxRoiPool", 7, ATTRS(POOLED), 1, x,
               tensor_shaped(FLOATS(0, 50, 50, 60, 60, 0, NAN, 0, INFINITY, 1e30f), DIMS(2, 5)));
    CHECK_OK(r.rc, r.e);
    for (int i = 0; i < 4; i++)
        CHECK_NEAR(tensor_num(&r.out[0], i), 0, 0);
    static const float bad[] = {-1, 1, NAN, INFINITY};
    for (int i = 0; i < 4; i++)
        CHECK(run_op("MaxRoiPool", 7, ATTRS(POOLED), 1, x,
                     tensor_shaped(FLOATS(bad[i], 0, 0, 1, 1), DIMS(1, 5)))
                  .rc != 0);
    CHECK(run_op("MaxRoiPool", 7, ATTRS(AT_INTS("pooled_shape", 0, 2)), 1, x,
                 tensor_shaped(FLOATS(0, 0, 0, 1, 1), DIMS(1, 5)))
              .rc != 0);
}
