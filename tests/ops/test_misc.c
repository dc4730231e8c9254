#include "tests/ops/run_op.h"

#include <math.h>

void test_trilu__keeps_one_side_of_a_diagonal(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(2, 3));
    CHECK_FLOATS(&run_op("Trilu", 14, NULL, 1, x).out[0], 0, 1, 2, 3, 0, 5, 6);
    struct attr *lower = ATTRS(AT_I("upper", 0));
    CHECK_FLOATS(&run_op("Trilu", 14, lower, 1, x).out[0], 0, 1, 0, 0, 4, 5, 0);
    CHECK_FLOATS(&run_op("Trilu", 14, lower, 1, x, tensor_shaped(INTS(1), SCALAR)).out[0], 0, 1, 2,
                 0, 4, 5, 6);
    CHECK_FLOATS(&run_op("Trilu", 14, NULL, 1, x, tensor_shaped(INTS(INT64_MAX), SCALAR)).out[0], 0,
                 0, 0, 0, 0, 0, 0);
    CHECK(run_op("Trilu", 14, NULL, 1, FLOATS(1, 2)).rc != 0);
}

void test_eye_like__is_a_diagonal_of_ones(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3), 1);
    CHECK_FLOATS(&run_op("EyeLike", 9, ATTRS(AT_I("k", 1)), 1, x).out[0], 0, 0, 1, 0, 0, 0, 1);
    CHECK_INTS(&run_op("EyeLike", 9, ATTRS(AT_I("dtype", DT_I64), AT_I("k", -1)), 1, x).out[0], 0,
               0, 0, 1, 0, 0);
    CHECK_FLOATS(&run_op("EyeLike", 9, ATTRS(AT_I("k", INT64_MIN)), 1, x).out[0], 0, 0, 0, 0, 0, 0,
                 0);
    CHECK(run_op("EyeLike", 9, ATTRS(AT_I("dtype", 99)), 1, x).rc != 0);
    CHECK(run_op("EyeLike", 9, NULL, 1, FLOATS(1, 2)).rc != 0);
}

void test_compress__keeps_what_is_true(void)
{
    static const uint8_t keep[] = {0, 1, 1};
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(3, 2));
    struct tensor *which = tensor_of(DT_BOOL, keep, DIMS(3));
    CHECK_FLOATS(&run_op("Compress", 11, NULL, 1, x, which).out[0], 0, 2, 3);
    struct run r = run_op("Compress", 11, ATTRS(AT_I("axis", 0)), 1, x, which);
    check_shape(&r.out[0], DT_F32, DIMS(2, 2));
    CHECK_FLOATS(&r.out[0], 0, 3, 4, 5, 6);
    CHECK(run_op("Compress", 11, ATTRS(AT_I("axis", 2)), 1, x, which).rc != 0);
    CHECK(run_op("Compress", 11, ATTRS(AT_I("axis", 1)), 1, x, which).rc != 0);
}

void test_det__of_each_matrix(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 0, 1, 1, 0), DIMS(2, 2, 2));
    CHECK_FLOATS(&run_op("Det", 11, NULL, 1, x).out[0], 1e-6, -2, -1);
    struct tensor *y = tensor_shaped(FLOATS(2, 0, 1, 1, 3, 2, 1, 1, 1), DIMS(3, 3));
    CHECK_FLOATS(&run_op("Det", 11, NULL, 1, y).out[0], 1e-6, 0);
    CHECK(run_op("Det", 11, NULL, 1, tensor_random(DT_F32, DIMS(2, 3), 1)).rc != 0);
    CHECK(run_op("Det", 11, NULL, 1, FLOATS(1)).rc != 0);
}

void test_reverse_sequence__turns_the_first_steps_of_each_batch(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(3, 2));
    CHECK_FLOATS(&run_op("ReverseSequence", 10, NULL, 1, x, INTS(3, 2)).out[0], 0, 5, 4, 3, 2, 1,
                 6);
    CHECK_FLOATS(&run_op("ReverseSequence", 10, ATTRS(AT_I("batch_axis", 0), AT_I("time_axis", 1)),
                         1, x, INTS(2, 1, 2))
                      .out[0],
                 0, 2, 1, 3, 4, 6, 5);
    CHECK(run_op("ReverseSequence", 10, NULL, 1, x, INTS(4, 2)).rc != 0);
    CHECK(run_op("ReverseSequence", 10, NULL, 1, x, INTS(-1, 2)).rc != 0);
    CHECK(run_op("ReverseSequence", 10, NULL, 1, x, INTS(1)).rc != 0);
}

void test_unique__values_places_and_counts(void)
{
    struct tensor *x = FLOATS(2, 1, 1, 3, 4, 3);
    struct run r = run_op("Unique", 11, ATTRS(AT_I("sorted", 0)), 4, x);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 2, 1, 3, 4);
    CHECK_INTS(&r.out[1], 0, 1, 3, 4);
    CHECK_INTS(&r.out[2], 0, 1, 1, 2, 3, 2);
    CHECK_INTS(&r.out[3], 1, 2, 2, 1);
    r = run_op("Unique", 11, NULL, 4, x);
    CHECK_FLOATS(&r.out[0], 0, 1, 2, 3, 4);
    CHECK_INTS(&r.out[1], 1, 0, 3, 4);
    CHECK_INTS(&r.out[2], 1, 0, 0, 2, 3, 2);
    CHECK(run_op("Unique", 11, ATTRS(AT_I("axis", 5)), 1, x).rc != 0);
}

void test_loss__is_the_mean_of_weighted_log_probabilities(void)
{
    struct tensor *x = tensor_shaped(FLOATS(-1, -2, -3, -4, -5, -6), DIMS(2, 3));
    struct tensor *w = FLOATS(1, 2, 4), *t = INTS(2, 1);
    CHECK_FLOATS(
        &run_op("NegativeLogLikelihoodLoss", 13, ATTRS(AT_S("reduction", "none")), 1, x, t, w)
             .out[0],
        1e-6, 12, 10);
    CHECK_FLOATS(&run_op("NegativeLogLikelihoodLoss", 13, NULL, 1, x, t, w).out[0], 1e-6,
                 22.0f / 6);
    CHECK_FLOATS(
        &run_op("NegativeLogLikelihoodLoss", 13, ATTRS(AT_I("ignore_index", 1)), 1, x, t).out[0],
        1e-6, 3);
    double sum = exp(-1) + exp(-2) + exp(-3);
    struct run r = run_op("SoftmaxCrossEntropyLoss", 13, NULL, 2, x, t);
    CHECK_OK(r.rc, r.e);
    CHECK_NEAR(tensor_num(&r.out[0], 0), (3 + log(sum) + 2 + log(sum)) / 2, 1e-6);
    CHECK_NEAR(tensor_num(&r.out[1], 0), -1 - log(sum), 1e-6);
    CHECK(run_op("NegativeLogLikelihoodLoss", 13, NULL, 1, x, INTS(3, 0)).rc != 0);
    CHECK(run_op("NegativeLogLikelihoodLoss", 13, NULL, 1, x, INTS(-1, 0)).rc != 0);
    CHECK(run_op("SoftmaxCrossEntropyLoss", 13, ATTRS(AT_S("reduction", "max")), 1, x, t).rc != 0);
}
