/* kl_threshold against divergences worked out by hand. */
#include "tests/test.h"

#include "worker/quant/survey.h"

/*
 * 130 bins: the candidates are 129 and 130 of them. Of 129 bins only the last level holds two
 * (127, 128); of 130 so do level 63 (63, 64) and level 127 (128, 129).
 */
static float threshold_of(int at63, int at64)
{
    int64_t counts[130] = {0};
    counts[63] = at63;
    counts[64] = at64;
    counts[128] = counts[129] = 1;
    return kl_threshold(counts, 130, 0.5f, 65);
}

/* 129: P = 3/6, 1/6, 2/6 (with the tail), Q = 3/5, 1/5, 1/5: KL = 0.0487.
 * 130: P = 3/6, 1/6, 1/6, 1/6, Q = 2/6, 2/6, 1/6, 1/6: KL = 0.0872. */
void test_kl__cuts_where_two_bins_of_one_level_differ_more_than_the_tail_weighs(void)
{
    CHECK_NEAR(threshold_of(3, 1), 129 * 0.5, 0);
}

/* 129: P = 2/6, 2/6, 2/6, Q = 2/5, 2/5, 1/5: KL = 0.0487; 130: P = Q, KL = 0. */
void test_kl__keeps_all_where_levels_lose_nothing(void)
{
    CHECK_NEAR(threshold_of(2, 2), 65, 0);
}

void test_kl__refuses_a_cut_whose_last_level_is_empty_below_the_tail(void)
{
    int64_t counts[130] = {0};
    counts[63] = 3;
    counts[64] = 1;
    counts[129] = 1; /* of 129 bins the last level has nothing, but P has the tail there */
    CHECK_NEAR(kl_threshold(counts, 130, 0.5f, 65), 65, 0);
}

/* Why kl scores badly behind ReLU and Hardswish (docs/decisions): with most values in bin 0, what
 * level 0 smears over its bins outweighs any tail. 8 bins a level: 0.5·ln 8 and more. */
void test_kl__a_peak_at_zero_pulls_the_threshold_down(void)
{
    int64_t flat[1024], peaked[1024];
    for (int i = 0; i < 1024; i++)
        flat[i] = peaked[i] = 10;
    peaked[0] = 40000;
    CHECK_NEAR(kl_threshold(flat, 1024, 1, 1024), 1024, 0);
    CHECK(kl_threshold(peaked, 1024, 1, 1024) < 700);
}
