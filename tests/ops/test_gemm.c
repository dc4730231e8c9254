/* Gemm and MatMul: transposes, broadcasting, and that a constant factor gives what a computed one
 * gives. */
#include <string.h>

#include "tests/ops/run_op.h"

static struct tensor *a23(void)
{
    return tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(2, 3));
}

static struct tensor *b32(void)
{
    return tensor_shaped(FLOATS(1, 0, 0, 1, 1, 1), DIMS(3, 2));
}

void test_gemm__product_and_row_bias(void)
{
    struct run r = run_op("Gemm", 11, NULL, 1, a23(), b32(), FLOATS(10, 20));
    CHECK_INT(r.rc, 0);
    CHECK_FLOATS(&r.out[0], 0, 14, 25, 20, 31);
}

void test_gemm__transposes_alpha_and_beta(void)
{
    struct tensor *at = tensor_shaped(FLOATS(1, 4, 2, 5, 3, 6), DIMS(3, 2));
    struct tensor *bt = tensor_shaped(FLOATS(1, 0, 1, 0, 1, 1), DIMS(2, 3));
    const struct attr *attrs =
        ATTRS(AT_I("transA", 1), AT_I("transB", 1), AT_F("alpha", 2), AT_F("beta", 0.5f));
    struct run r =
        run_op("Gemm", 11, attrs, 1, at, bt, tensor_shaped(FLOATS(10, 20, 30, 40), DIMS(2, 2)));
    CHECK_FLOATS(&r.out[0], 0, 13, 20, 35, 42);
    r = run_op("Gemm", 11, attrs, 1, at, bt, tensor_shaped(FLOATS(10, 20), DIMS(2, 1)));
    CHECK_FLOATS(&r.out[0], 0, 13, 15, 30, 32);
    r = run_op("Gemm", 11, ATTRS(AT_I("transB", 1), AT_F("alpha", 2)), 1, a23(), bt,
               tensor_of(DT_F32, (float[]){7}, SCALAR));
    CHECK_FLOATS(&r.out[0], 0, 15, 17, 27, 29);
}

void test_gemm__a_beta_of_zero_leaves_c_out(void)
{
    struct run r =
        run_op("Gemm", 11, ATTRS(AT_F("beta", 0)), 1, a23(), b32(), FLOATS(__builtin_nanf(""), 1));
    CHECK_FLOATS(&r.out[0], 0, 4, 5, 10, 11);
}

void test_gemm__misfits_are_refused(void)
{
    struct run r = run_op("Gemm", 11, NULL, 1, a23(), a23());
    CHECK_INT(r.rc, -1);
    CHECK_INT(r.e.code, ERR_BAD_MODEL);
    r = run_op("Gemm", 11, NULL, 1, a23(), b32(), FLOATS(1, 2, 3));
    CHECK_INT(r.rc, -1);
}

void test_matmul__vectors_are_rows_and_columns(void)
{
    struct run r = run_op("MatMul", 13, NULL, 1, FLOATS(1, 2), tensor_shaped(a23(), DIMS(2, 3)));
    check_shape(&r.out[0], DT_F32, DIMS(3));
    CHECK_FLOATS(&r.out[0], 0, 9, 12, 15);
    r = run_op("MatMul", 13, NULL, 1, a23(), FLOATS(1, 1, 1));
    check_shape(&r.out[0], DT_F32, DIMS(2));
    CHECK_FLOATS(&r.out[0], 0, 6, 15);
    r = run_op("MatMul", 13, NULL, 1, FLOATS(1, 2), FLOATS(3, 4));
    check_shape(&r.out[0], DT_F32, SCALAR);
    CHECK_FLOATS(&r.out[0], 0, 11);
}

/* Each matrix of the broadcast batch by itself. */
static void check_batch(const struct tensor *a, const struct tensor *b, const int64_t *dims,
                        int64_t n, const int *at_a, const int *at_b)
{
    struct run r = run_op("MatMul", 13, NULL, 1, a, b);
    int64_t m = a->dims[a->rank - 2], k = a->dims[a->rank - 1], w = b->dims[b->rank - 1];
    CHECK_INT(r.rc, 0);
    check_shape(&r.out[0], DT_F32, dims);
    for (int64_t i = 0; i < n * m * w; i++) {
        const float *x = (const float *)a->data + at_a[i / (m * w)] * m * k + i / w % m * k;
        const float *y = (const float *)b->data + at_b[i / (m * w)] * k * w + i % w;
        double sum = 0;
        for (int64_t j = 0; j < k; j++)
            sum += (double)x[j] * (double)y[j * w];
        CHECK_NEAR(tensor_num(&r.out[0], i), sum, 1e-5);
    }
}

void test_matmul__batches_broadcast(void)
{
    static const int each[] = {0, 1, 2, 3, 4, 5}, first[6] = {0}, outer[] = {0, 0, 0, 1, 1, 1},
                     inner[] = {0, 1, 2, 0, 1, 2};
    struct tensor *a = tensor_random(DT_F32, DIMS(2, 3, 4, 5), 1);
    check_batch(a, tensor_random(DT_F32, DIMS(2, 3, 5, 6), 2), DIMS(2, 3, 4, 6), 6, each, each);
    check_batch(a, tensor_random(DT_F32, DIMS(5, 6), 2), DIMS(2, 3, 4, 6), 6, each, first);
    check_batch(a, tensor_random(DT_F32, DIMS(3, 5, 6), 2), DIMS(2, 3, 4, 6), 6, each, inner);
    check_batch(tensor_random(DT_F32, DIMS(2, 1, 4, 5), 3), tensor_random(DT_F32, DIMS(3, 5, 6), 2),
                DIMS(2, 3, 4, 6), 6, outer, inner);
}

void test_matmul__misfits_are_refused(void)
{
    CHECK_INT(run_op("MatMul", 13, NULL, 1, a23(), a23()).rc, -1);
    CHECK_INT(run_op("MatMul", 13, NULL, 1, a23(), tensor_of(DT_F32, (float[]){1}, SCALAR)).rc, -1);
}
