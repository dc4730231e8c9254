#include "tests/ops/run_op.h"

#include <math.h>

static double part(const struct tensor *t, int64_t i, int which)
{
    return tensor_num(t, 2 * i + which);
}

/* Against the definition: X[k] = sum x[n] e^(-2 pi i k n / N). */
void test_dft__is_the_sum_over_turns_of_the_circle(void)
{
    enum { N = 7 };
    struct tensor *x = tensor_random(DT_F32, DIMS(2, N, 2), 1);
    struct run r = run_op("DFT", 17, NULL, 1, x);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, N, 2));
    for (int b = 0; b < 2; b++)
        for (int k = 0; k < N; k++) {
            double re = 0, im = 0;
            for (int n = 0; n < N; n++) {
                double a = -2 * M_PI * k * n / N, u = part(x, b * N + n, 0),
                       v = part(x, b * N + n, 1);
                re += u * cos(a) - v * sin(a);
                im += u * sin(a) + v * cos(a);
            }
            CHECK_NEAR(part(&r.out[0], b * N + k, 0), re, 1e-5);
            CHECK_NEAR(part(&r.out[0], b * N + k, 1), im, 1e-5);
        }
}

void test_dft__inverse_undoes_it(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(3, 10, 2), 1);
    struct run there = run_op("DFT", 20, NULL, 1, x, NULL, tensor_shaped(INTS(1), SCALAR));
    CHECK_OK(there.rc, there.e);
    struct run back = run_op("DFT", 20, ATTRS(AT_I("inverse", 1)), 1, &there.out[0]);
    CHECK_OK(back.rc, back.e);
    check_same(&back.out[0], x, 1e-5);
}

void test_dft__one_side_is_the_first_half_and_lengths_pad_or_cut(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 6, 1), 1);
    struct run whole = run_op("DFT", 17, NULL, 1, x);
    struct run one = run_op("DFT", 17, ATTRS(AT_I("onesided", 1)), 1, x);
    CHECK_OK(one.rc, one.e);
    check_shape(&one.out[0], DT_F32, DIMS(1, 4, 2));
    for (int i = 0; i < 8; i++)
        CHECK_NEAR(tensor_num(&one.out[0], i), tensor_num(&whole.out[0], i), 1e-6);
    struct tensor *padded = tensor_of(DT_F32, NULL, DIMS(1, 9, 1));
    for (int i = 0; i < 6; i++)
        ((float *)padded->data)[i] = ((float *)x->data)[i];
    struct run r = run_op("DFT", 17, NULL, 1, x, tensor_shaped(INTS(9), SCALAR));
    CHECK_OK(r.rc, r.e);
    check_same(&r.out[0], &run_op("DFT", 17, NULL, 1, padded).out[0], 1e-6);
}

void test_dft__refuses_nonsense(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 6, 1), 1),
                  *three = tensor_random(DT_F32, DIMS(1, 6, 3), 1);
    CHECK(run_op("DFT", 17, NULL, 1, three).rc != 0);
    CHECK(run_op("DFT", 17, ATTRS(AT_I("axis", 2)), 1, x).rc != 0);
    CHECK(run_op("DFT", 17, ATTRS(AT_I("axis", 9)), 1, x).rc != 0);
    CHECK(run_op("DFT", 17, NULL, 1, x, tensor_shaped(INTS(0), SCALAR)).rc != 0);
    CHECK(run_op("DFT", 17, NULL, 1, x, tensor_shaped(INTS(INT64_MAX), SCALAR)).rc != 0);
    CHECK(run_op("DFT", 17, NULL, 1, INTS(1, 2)).rc != 0);
}

void test_stft__is_the_dft_of_windowed_frames(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 11, 1), 1), *w = FLOATS(0.5f, 1, 2, 1);
    struct run r = run_op("STFT", 17, NULL, 1, x, tensor_shaped(INTS(3), SCALAR), w);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 3, 3, 2));
    for (int f = 0; f < 6; f++) {
        struct tensor *frame = tensor_of(DT_F32, NULL, DIMS(1, 4, 1));
        for (int i = 0; i < 4; i++)
            ((float *)frame->data)[i] =
                ((float *)x->data)[f / 3 * 11 + f % 3 * 3 + i] * ((float *)w->data)[i];
        struct run d = run_op("DFT", 17, ATTRS(AT_I("onesided", 1)), 1, frame);
        CHECK_OK(d.rc, d.e);
        for (int i = 0; i < 6; i++)
            CHECK_NEAR(tensor_num(&r.out[0], f * 6 + i), tensor_num(&d.out[0], i), 1e-5);
    }
}

void test_stft__refuses_frames_that_do_not_fit(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 5, 1), 1),
                  *w = tensor_random(DT_F32, DIMS(6), 2);
    struct tensor *step = tensor_shaped(INTS(1), SCALAR), *none = tensor_shaped(INTS(0), SCALAR);
    CHECK(run_op("STFT", 17, NULL, 1, x, step, w).rc != 0);
    CHECK(run_op("STFT", 17, NULL, 1, x, step).rc != 0);
    CHECK(run_op("STFT", 17, NULL, 1, x, none, FLOATS(1, 1)).rc != 0);
    CHECK(run_op("STFT", 17, NULL, 1, x, step, NULL, none).rc != 0);
}

void test_windows__are_sums_of_cosines(void)
{
    struct tensor *n = tensor_shaped(INTS(4), SCALAR);
    CHECK_FLOATS(&run_op("HannWindow", 17, NULL, 1, n).out[0], 1e-6, 0, .5f, 1, .5f);
    CHECK_FLOATS(&run_op("HannWindow", 17, ATTRS(AT_I("periodic", 0)), 1, n).out[0], 1e-6, 0, .75f,
                 .75f, 0);
    CHECK_FLOATS(&run_op("HammingWindow", 17, NULL, 1, n).out[0], 1e-6, 0.0869565f, 0.5434783f, 1,
                 0.5434783f);
    CHECK_FLOATS(&run_op("BlackmanWindow", 17, NULL, 1, n).out[0], 1e-6, 0, 0.34f, 1, 0.34f);
    check_shape(&run_op("HannWindow", 17, ATTRS(AT_I("output_datatype", 11)), 1, n).out[0], DT_F64,
                DIMS(4));
    CHECK(run_op("HannWindow", 17, NULL, 1, tensor_shaped(INTS(-1), SCALAR)).rc != 0);
    CHECK(run_op("HannWindow", 17, ATTRS(AT_I("output_datatype", 8)), 1, n).rc != 0);
    CHECK(run_op("HannWindow", 17, ATTRS(AT_I("output_datatype", -3)), 1, n).rc != 0);
}
