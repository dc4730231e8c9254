/* Conv, ConvTranspose and the pools: what the attributes mean. The sums themselves are compared in
 * tests/unit/test_backend.c. */
#include <math.h>
#include <string.h>

#include "tests/ops/run_op.h"

static struct tensor *image(int64_t h, int64_t w)
{
    float v[64];
    for (int i = 0; i < h * w; i++)
        v[i] = (float)(i + 1);
    return tensor_of(DT_F32, v, DIMS(1, 1, h, w));
}

static struct tensor *ones(const int64_t *dims)
{
    float v[64];
    for (int i = 0; i < 64; i++)
        v[i] = 1;
    return tensor_of(DT_F32, v, dims);
}

void test_conv__valid_by_default(void)
{
    struct run r = run_op("Conv", 11, NULL, 1, image(3, 3), ones(DIMS(1, 1, 2, 2)));
    CHECK_INT(r.rc, 0);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 2, 2));
    CHECK_FLOATS(&r.out[0], 0, 12, 16, 24, 28);
}

void test_conv__bias_pads_and_strides(void)
{
    struct run r = run_op("Conv", 11, ATTRS(AT_INTS("pads", 1, 0, 0, 1), AT_INTS("strides", 2, 2)),
                          1, image(3, 3), ones(DIMS(1, 1, 2, 2)), FLOATS(0.5f));
    CHECK_INT(r.rc, 0);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 2, 2));
    CHECK_FLOATS(&r.out[0], 0, 3.5f, 3.5f, 24.5f, 15.5f);
}

void test_conv__same_upper_and_lower_put_the_odd_pixel_apart(void)
{
    struct tensor *x = image(1, 3), *w = ones(DIMS(1, 1, 1, 2));
    struct run up = run_op("Conv", 11, ATTRS(AT_S("auto_pad", "SAME_UPPER")), 1, x, w);
    struct run low = run_op("Conv", 11, ATTRS(AT_S("auto_pad", "SAME_LOWER")), 1, x, w);
    CHECK_FLOATS(&up.out[0], 0, 3, 5, 3);
    CHECK_FLOATS(&low.out[0], 0, 1, 3, 5);
}

void test_conv__groups_dilation_and_one_dim(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 10, 20, 30, 40), DIMS(1, 2, 4));
    struct tensor *w = tensor_shaped(FLOATS(1, 1, 1, -1), DIMS(2, 1, 2));
    struct run r = run_op("Conv", 11, ATTRS(AT_I("group", 2), AT_INTS("dilations", 2)), 1, x, w);
    CHECK_INT(r.rc, 0);
    CHECK_FLOATS(&r.out[0], 0, 4, 6, -20, -20);
}

void test_conv__misfits_are_refused(void)
{
    struct run r = run_op("Conv", 11, NULL, 1, image(3, 3), ones(DIMS(1, 2, 2, 2)));
    CHECK_INT(r.rc, -1);
    CHECK_INT(r.e.code, ERR_BAD_MODEL);
    r = run_op("Conv", 11, NULL, 1, image(3, 3), ones(DIMS(1, 1, 4, 4)));
    CHECK_INT(r.rc, -1);
    r = run_op("Conv", 11, ATTRS(AT_INTS("strides", 1)), 1, image(3, 3), ones(DIMS(1, 1, 2, 2)));
    CHECK_INT(r.rc, -1);
    r = run_op("Conv", 11, NULL, 1, tensor_of(DT_I32, (int[9]){0}, DIMS(1, 1, 3, 3)),
               ones(DIMS(1, 1, 2, 2)));
    CHECK_INT(r.e.code, ERR_UNSUPPORTED);
}

void test_conv_transpose__spreads_each_pixel(void)
{
    struct run r = run_op("ConvTranspose", 11, ATTRS(AT_INTS("strides", 2, 2)), 1, image(2, 2),
                          ones(DIMS(1, 1, 2, 2)));
    CHECK_INT(r.rc, 0);
    CHECK_FLOATS(&r.out[0], 0, 1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4);
}

void test_conv_transpose__output_padding_and_output_shape(void)
{
    struct tensor *x = image(1, 2), *w = ones(DIMS(1, 1, 1, 3));
    struct run r =
        run_op("ConvTranspose", 11,
               ATTRS(AT_INTS("strides", 1, 2), AT_INTS("output_padding", 0, 1)), 1, x, w);
    CHECK_FLOATS(&r.out[0], 0, 1, 1, 3, 2, 2, 0);
    r = run_op("ConvTranspose", 11, ATTRS(AT_INTS("strides", 1, 2), AT_INTS("output_shape", 1, 4)),
               1, x, w);
    CHECK_FLOATS(&r.out[0], 0, 1, 3, 2, 2); /* the odd element of padding goes in front */
    r = run_op("ConvTranspose", 11, ATTRS(AT_INTS("strides", 1, 2), AT_S("auto_pad", "SAME_UPPER")),
               1, x, w);
    CHECK_FLOATS(&r.out[0], 0, 1, 1, 3, 2);
}

void test_conv_transpose__groups_have_their_own_outputs(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2), DIMS(1, 2, 1));
    struct tensor *w = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(2, 2, 1));
    struct run r = run_op("ConvTranspose", 11, ATTRS(AT_I("group", 2)), 1, x, w);
    check_shape(&r.out[0], DT_F32, DIMS(1, 4, 1));
    CHECK_FLOATS(&r.out[0], 0, 1, 2, 6, 8);
}

void test_pool__max_of_padded_windows_and_indices(void)
{
    struct run r = run_op(
        "MaxPool", 12,
        ATTRS(AT_INTS("kernel_shape", 2, 2), AT_INTS("strides", 2, 2), AT_INTS("pads", 1, 1, 0, 0)),
        2, image(3, 3));
    CHECK_INT(r.rc, 0);
    CHECK_FLOATS(&r.out[0], 0, 1, 3, 7, 9);
    CHECK_INTS(&r.out[1], 0, 2, 6, 8);
    r = run_op("MaxPool", 12, ATTRS(AT_INTS("kernel_shape", 2, 2), AT_I("storage_order", 1)), 2,
               image(2, 3));
    CHECK_INTS(&r.out[1], 3, 5);
}

void test_pool__a_batch_with_channels_counts_indices_through(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 4, 3, 5, 6, 8, 7), DIMS(2, 2, 2));
    struct run r = run_op("MaxPool", 12, ATTRS(AT_INTS("kernel_shape", 2)), 2, x);
    CHECK_FLOATS(&r.out[0], 0, 2, 4, 6, 8);
    CHECK_INTS(&r.out[1], 1, 2, 5, 6);
}

void test_pool__ceil_mode_keeps_windows_that_start_inside(void)
{
    const struct attr *attrs =
        ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("strides", 1, 2), AT_I("ceil_mode", 1));
    struct run r = run_op("MaxPool", 12, attrs, 1, image(1, 5));
    CHECK_FLOATS(&r.out[0], 0, 2, 4, 5);
    /* 2 + 1 padding, stride 3: a second window would start in the padding at the end. */
    r = run_op("MaxPool", 12,
               ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("strides", 1, 3),
                     AT_INTS("pads", 0, 1, 0, 1), AT_I("ceil_mode", 1)),
               1, image(1, 2));
    CHECK_FLOATS(&r.out[0], 0, 1);
}

void test_pool__dilated_max(void)
{
    struct run r =
        run_op("MaxPool", 12, ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("dilations", 1, 2)), 1,
               image(1, 4));
    CHECK_FLOATS(&r.out[0], 0, 3, 4);
}

void test_pool__average_counts_padding_only_when_asked(void)
{
    struct tensor *x = image(1, 3);
    struct run r = run_op("AveragePool", 11,
                          ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("pads", 0, 1, 0, 1)), 1, x);
    CHECK_FLOATS(&r.out[0], 0, 1, 1.5f, 2.5f, 3);
    r = run_op("AveragePool", 11,
               ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("pads", 0, 1, 0, 1),
                     AT_I("count_include_pad", 1)),
               1, x);
    CHECK_FLOATS(&r.out[0], 0, 0.5f, 1.5f, 2.5f, 1.5f);
    /* What ceil_mode adds beyond the padding is never counted. */
    r = run_op("AveragePool", 11,
               ATTRS(AT_INTS("kernel_shape", 1, 2), AT_INTS("strides", 1, 2), AT_I("ceil_mode", 1),
                     AT_I("count_include_pad", 1)),
               1, x);
    CHECK_FLOATS(&r.out[0], 0, 1.5f, 3);
}

void test_pool__lp(void)
{
    struct tensor *x = tensor_shaped(FLOATS(3, -4, 0), DIMS(1, 1, 3));
    struct run r = run_op("LpPool", 11, ATTRS(AT_INTS("kernel_shape", 2)), 1, x);
    CHECK_FLOATS(&r.out[0], 1e-6, 5, 4);
    r = run_op("LpPool", 11, ATTRS(AT_INTS("kernel_shape", 2), AT_I("p", 1)), 1, x);
    CHECK_FLOATS(&r.out[0], 1e-6, 7, 4);
    r = run_op("GlobalLpPool", 2, ATTRS(AT_I("p", 3)), 1, x);
    CHECK_FLOATS(&r.out[0], 1e-6, 4.4979414453f);
}

void test_pool__global_forms(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 37, 5, 3), 4);
    struct run mean = run_op("GlobalAveragePool", 1, NULL, 1, x);
    struct run max = run_op("GlobalMaxPool", 1, NULL, 1, x);
    const float *v = x->data;
    check_shape(&mean.out[0], DT_F32, DIMS(2, 37, 1, 1));
    for (int i = 0; i < 2 * 37; i++, v += 15) {
        double sum = 0, most = v[0];
        for (int k = 0; k < 15; k++) {
            sum += v[k];
            most = v[k] > most ? v[k] : most;
        }
        CHECK_NEAR(tensor_num(&mean.out[0], i), sum / 15, 1e-6);
        CHECK_NEAR(tensor_num(&max.out[0], i), most, 0);
    }
}

void test_pool__nan_is_never_lost(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, NAN, 2), DIMS(1, 1, 3));
    struct run r = run_op("MaxPool", 12, ATTRS(AT_INTS("kernel_shape", 2)), 1, x);
    CHECK(isnan(((float *)r.out[0].data)[0]) && isnan(((float *)r.out[0].data)[1]));
}

void test_pool__either_layout_of_the_input_will_do(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 19, 7, 6), 9);
    const struct attr *attrs = ATTRS(AT_INTS("kernel_shape", 3, 3), AT_INTS("pads", 1, 1, 1, 1));
    CHECK_LAYOUTS("MaxPool", 12, attrs, 2, x);
    CHECK_LAYOUTS("AveragePool", 11, attrs, 1, x);
    CHECK_LAYOUTS("GlobalAveragePool", 1, NULL, 1, x);
    CHECK_LAYOUTS("Conv", 11, NULL, 1, x, tensor_random(DT_F32, DIMS(4, 19, 3, 3), 2));
}
