#include "tests/ops/run_op.h"

#define WINDOW AT_INTS("kernel_shape", 2, 2), AT_INTS("strides", 2, 2)

void test_unpool__values_go_where_their_index_says(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(1, 1, 2, 2));
    struct tensor *at = tensor_shaped(INTS(5, 7, 13, 15), DIMS(1, 1, 2, 2));
    struct run r = run_op("MaxUnpool", 11, ATTRS(WINDOW), 1, x, at);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 4, 4));
    CHECK_FLOATS(&r.out[0], 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 3, 0, 4);
}

void test_unpool__indices_count_in_the_pools_input_not_in_the_output(void)
{
    struct tensor *x = tensor_shaped(FLOATS(5, 6, 7, 8), DIMS(1, 1, 2, 2));
    struct tensor *at = tensor_shaped(INTS(5, 7, 13, 15), DIMS(1, 1, 2, 2));
    struct run r = run_op("MaxUnpool", 11, ATTRS(WINDOW), 1, x, at, INTS(1, 1, 5, 5));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8, 0, 0, 0, 0,
                 0, 0);
}

void test_unpool__undoes_max_pool(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 6, 4), 5);
    struct run pooled = run_op("MaxPool", 12, ATTRS(WINDOW), 2, x);
    CHECK_OK(pooled.rc, pooled.e);
    struct run r = run_op("MaxUnpool", 11, ATTRS(WINDOW), 1, tensor_plain(&pooled.out[0]),
                          tensor_plain(&pooled.out[1]));
    CHECK_OK(r.rc, r.e);
    int kept = 0;
    for (int64_t i = 0; i < tensor_count(x); i++) {
        double y = tensor_num(&r.out[0], i);
        kept += y != 0;
        CHECK(y == 0 || y == tensor_num(x, i));
    }
    CHECK_INT(kept, tensor_count(&pooled.out[0]));
}

void test_unpool__refuses_indices_outside(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1), DIMS(1, 1, 1, 1));
    static const int64_t bad[] = {-1, 4, INT64_MAX, INT64_MIN};
    for (int i = 0; i < 4; i++)
        CHECK(run_op("MaxUnpool", 9, ATTRS(WINDOW), 1, x,
                     tensor_shaped(INTS(bad[i]), DIMS(1, 1, 1, 1)))
                  .rc != 0);
    struct tensor *at = tensor_shaped(INTS(3), DIMS(1, 1, 1, 1));
    CHECK(run_op("MaxUnpool", 9, ATTRS(WINDOW), 1, x, at, INTS(1, 1, 1, 1)).rc != 0);
    CHECK(run_op("MaxUnpool", 9, ATTRS(WINDOW), 1, x, at, INTS(1, 1, -4, 1)).rc != 0);
    CHECK(run_op("MaxUnpool", 9, ATTRS(AT_INTS("kernel_shape", 2)), 1, x, at).rc != 0);
    CHECK(run_op("MaxUnpool", 9, ATTRS(AT_INTS("kernel_shape", INT64_MAX, 2)), 1, x, at).rc != 0);
}

/* Places that several blocks cover add up: of ones, to how many cover a pixel. */
void test_col2im__overlapping_blocks_add_up(void)
{
    struct tensor *x =
        tensor_shaped(FLOATS(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), DIMS(1, 4, 4));
    struct run r = run_op("Col2Im", 18, NULL, 1, x, INTS(3, 3), INTS(2, 2));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 3, 3));
    CHECK_FLOATS(&r.out[0], 0, 1, 2, 1, 2, 4, 2, 1, 2, 1);
}

void test_col2im__columns_of_rows_become_rows(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3 * 5, 4), 1);
    struct run r = run_op("Col2Im", 18, NULL, 1, x, INTS(4, 5), INTS(1, 5));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(2, 3, 4, 5));
    for (int64_t p = 0; p < 6; p++)
        for (int64_t i = 0; i < 20; i++)
            CHECK_NEAR(tensor_num(&r.out[0], p * 20 + i), tensor_num(x, p * 20 + i % 5 * 4 + i / 5),
                       0);
}

void test_col2im__knows_strides_pads_and_dilations(void)
{
    /* one dim: blocks of 2 taps 2 apart, a stride of 3, one element of padding at each end */
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(1, 2, 2));
    struct run r = run_op(
        "Col2Im", 18, ATTRS(AT_INTS("strides", 3), AT_INTS("dilations", 2), AT_INTS("pads", 1, 1)),
        1, x, INTS(5), INTS(2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 0, 3, 2, 0, 4);
}

void test_col2im__refuses_what_does_not_fit(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 4, 4), 1);
    CHECK(run_op("Col2Im", 18, NULL, 1, x, INTS(4, 4), INTS(2, 2)).rc != 0);
    CHECK(run_op("Col2Im", 18, NULL, 1, x, INTS(3, 3), INTS(2)).rc != 0);
    CHECK(run_op("Col2Im", 18, NULL, 1, x, INTS(3, 3), INTS(0, 2)).rc != 0);
    CHECK(run_op("Col2Im", 18, NULL, 1, x, INTS(INT64_MAX, 3), INTS(2, 2)).rc != 0);
    CHECK(run_op("Col2Im", 18, ATTRS(AT_INTS("strides", 0, 1)), 1, x, INTS(3, 3), INTS(2, 2)).rc !=
          0);
}
