#include "tests/ops/run_op.h"

void test_ml__array_feature_extractor_picks_along_the_last_dim(void)
{
    struct tensor *x = tensor_shaped(FLOATS(0, 1, 2, 3, 10, 11, 12, 13), DIMS(2, 4));
    struct run r = run_op("ai.onnx.ml:ArrayFeatureExtractor", 1, NULL, 1, x, INTS(3, 0, 3));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 3));
    CHECK_FLOATS(&r.out[0], 0, 3, 0, 3, 13, 10, 13);
    r = run_op("ai.onnx.ml:ArrayFeatureExtractor", 1, NULL, 1, INTS(5, 6, 7), INTS(1));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_I64, DIMS(1, 1));
    CHECK_INTS(&r.out[0], 6);
}

void test_ml__array_feature_extractor_refuses_indices_outside(void)
{
    static const int64_t bad[] = {-1, 3, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        struct run r =
            run_op("ai.onnx.ml:ArrayFeatureExtractor", 1, NULL, 1, FLOATS(1, 2, 3), INTS(bad[i]));
        CHECK(r.rc != 0);
    }
}

void test_ml__binarizer_is_1_above_its_threshold(void)
{
    struct tensor *x = FLOATS(-1, 0, 0.5f, 0.6f, 2);
    struct run r = run_op("ai.onnx.ml:Binarizer", 1, ATTRS(AT_F("threshold", 0.5f)), 1, x);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 0, 0, 1, 1);
    r = run_op("ai.onnx.ml:Binarizer", 1, NULL, 1, INTS(-3, 0, 3));
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 0, 0, 1);
}
