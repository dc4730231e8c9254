#include "tests/ops/run_op.h"

#include <math.h>

void test_norm__batch_uses_the_given_statistics(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(1, 2, 2));
    struct run r = run_op("BatchNormalization", 9, ATTRS(AT_F("epsilon", 0)), 1, x, FLOATS(2, 1),
                          FLOATS(0, 1), FLOATS(1, 3), FLOATS(4, 1));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 0, 1, 1, 2);
}

static void check_standard(const struct tensor *y, int64_t from, int64_t n)
{
    double sum = 0, square = 0;
    for (int64_t i = from; i < from + n; i++) {
        sum += tensor_num(y, i);
        square += tensor_num(y, i) * tensor_num(y, i);
    }
    CHECK_NEAR(sum / (double)n, 0, 1e-5);
    CHECK_NEAR(square / (double)n, 1, 1e-3);
}

void test_norm__groups_get_mean_0_and_variance_1(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 4, 5, 6), 1);
    struct tensor *ones = FLOATS(1, 1, 1, 1), *zeros = FLOATS(0, 0, 0, 0);
    struct run r = run_op("InstanceNormalization", 13, NULL, 1, x, ones, zeros);
    CHECK_OK(r.rc, r.e);
    check_standard(&r.out[0], 30, 30);
    r = run_op("GroupNormalization", 21, ATTRS(AT_I("num_groups", 2)), 1, x, ones, zeros);
    CHECK_OK(r.rc, r.e);
    check_standard(&r.out[0], 60, 60);
    struct tensor *six = FLOATS(1, 1, 1, 1, 1, 1);
    r = run_op("LayerNormalization", 17, NULL, 3, x, six);
    CHECK_OK(r.rc, r.e);
    check_standard(&r.out[0], 6, 6);
    check_shape(&r.out[1], DT_F32, DIMS(2, 4, 5, 1));
    r = run_op("MeanVarianceNormalization", 13, NULL, 1,
               tensor_random(DT_F32, DIMS(1, 1, 8, 9), 2));
    check_standard(&r.out[0], 0, 72);
}

void test_norm__layouts_do_not_matter(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 4, 5, 6), 1);
    struct tensor *a = FLOATS(1, 2, 3, 4), *b = FLOATS(-1, 0, 1, 2), *v = FLOATS(1, 2, 0.5f, 4);
    CHECK_LAYOUTS("BatchNormalization", 15, NULL, 1, x, a, b, b, v);
    CHECK_LAYOUTS("InstanceNormalization", 13, NULL, 1, x, a, b);
    CHECK_LAYOUTS("GroupNormalization", 21, ATTRS(AT_I("num_groups", 2)), 1, x, a, b);
    CHECK_LAYOUTS("GroupNormalization", 18, ATTRS(AT_I("num_groups", 4)), 1, x, a, b);
    CHECK_LAYOUTS("LayerNormalization", 17, ATTRS(AT_I("axis", 2)), 1, x,
                  tensor_random(DT_F32, DIMS(5, 6), 3));
    CHECK_LAYOUTS("MeanVarianceNormalization", 13, NULL, 1, x);
    CHECK_LAYOUTS("LpNormalization", 13, ATTRS(AT_I("axis", 1)), 1, x);
    CHECK_LAYOUTS("LpNormalization", 13, ATTRS(AT_I("axis", 3), AT_I("p", 1)), 1, x);
    CHECK_LAYOUTS("LRN", 13, ATTRS(AT_I("size", 3)), 1, x);
    CHECK_LAYOUTS("Softmax", 13, ATTRS(AT_I("axis", 1)), 1, x);
    CHECK_LAYOUTS("LogSoftmax", 13, ATTRS(AT_I("axis", 3)), 1, x);
    CHECK_LAYOUTS("Hardmax", 13, ATTRS(AT_I("axis", 2)), 1, x);
}

void test_norm__softmax_has_two_meanings_of_axis(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4), 1);
    struct run old = run_op("Softmax", 11, NULL, 1, x), now = run_op("Softmax", 13, NULL, 1, x);
    double a = 0, b = 0;
    for (int i = 0; i < 12; i++)
        a += tensor_num(&old.out[0], i);
    for (int i = 0; i < 4; i++)
        b += tensor_num(&now.out[0], i);
    CHECK_NEAR(a, 1, 1e-6);
    CHECK_NEAR(b, 1, 1e-6);
}

void test_norm__softmax_bears_large_numbers(void)
{
    struct run r = run_op("Softmax", 13, NULL, 1, FLOATS(1e4f, 1e4f - 1, -1e9f));
    CHECK_FLOATS(&r.out[0], 1e-6, 0.7310586f, 0.2689414f, 0);
    struct run l = run_op("LogSoftmax", 13, NULL, 1, FLOATS(1e4f, 1e4f - 1, 0));
    CHECK_FLOATS(&l.out[0], 2e-3, -0.3132617f, -1.3132617f, -10000.313f);
}

void test_norm__refuses_parameters_of_other_lengths(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 4, 5), 1), *a = FLOATS(1, 2, 3);
    CHECK_INT(run_op("BatchNormalization", 15, NULL, 1, x, a, a, a, a).rc, -1);
    CHECK_INT(run_op("InstanceNormalization", 13, NULL, 1, x, a, a).rc, -1);
    CHECK_INT(run_op("GroupNormalization", 18, ATTRS(AT_I("num_groups", 0)), 1, x, a, a).rc, -1);
    CHECK_INT(run_op("LayerNormalization", 17, NULL, 1, x, a).rc, -1);
    CHECK_INT(run_op("Softmax", 13, ATTRS(AT_I("axis", 3)), 1, x).rc, -1);
}

void test_norm__old_softmax_takes_either_layout(void)
{
    for (int axis = 0; axis < 4; axis++) {
        const struct attr *a = ATTRS(AT_I("axis", axis));
        CHECK_LAYOUTS("Softmax", 11, a, 1, tensor_random(DT_F32, DIMS(2, 5, 3, 4), 1));
        CHECK_LAYOUTS("LogSoftmax", 7, a, 1, tensor_random(DT_F32, DIMS(2, 17, 3, 4), 2));
    }
}

void test_norm__batch_takes_a_statistic_an_element(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(2, 1, 2)),
                  *one = tensor_shaped(FLOATS(1, 1), DIMS(1, 2)),
                  *mean = tensor_shaped(FLOATS(1, 2), DIMS(1, 2));
    const struct attr *a = ATTRS(AT_I("spatial", 0), AT_F("epsilon", 0));
    struct run r = run_op("BatchNormalization", 7, a, 1, x, one, mean, mean, one);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 1, 2, 3, 4);
    r = run_op("BatchNormalization", 8, a, 1, x, one, one, mean, one);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 1, 1, 3, 3);
}
