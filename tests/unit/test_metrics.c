#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/quant/metrics.h"

static double of(enum metric m, const float *x, const float *y, int n)
{
    struct metric_sums s;
    metric_sum(x, y, n, &s);
    return metric_of(m, &s);
}

void test_metrics__formulas_by_hand(void)
{
    const float x[] = {3, 4, 0}, y[] = {3, 2, 1};
    CHECK_NEAR(of(M_COSINE, x, y, 3), 17 / (5 * sqrt(14)), 1e-15);
    CHECK_NEAR(of(M_MSE, x, y, 3), 5.0 / 3, 1e-15);
    CHECK_NEAR(of(M_MAE, x, y, 3), 1, 1e-15);
    CHECK_NEAR(of(M_MRE, x, y, 3), 0.25, 1e-15); /* 0/3 and 2/4; the zero is left out */
    CHECK_NEAR(of(M_SQNR, x, y, 3), 10 * log10(5 / sqrt(5)), 1e-14);
    CHECK_NEAR(of(M_CHEBYSHEV, x, y, 3), 2, 0);
}

/* mse·10^(sqnr/5) = mean(x²): what the chapter's Conv_404 table shows in all its rows. */
void test_metrics__sqnr_is_half_the_usual_decibels(void)
{
    float x[100], y[100];
    double xx = 0;
    for (int i = 0; i < 100; i++) {
        x[i] = (float)sin(i);
        y[i] = x[i] + (float)cos(i * 3) / 50;
        xx += (double)x[i] * x[i] / 100;
    }
    CHECK_NEAR(of(M_MSE, x, y, 100) * pow(10, of(M_SQNR, x, y, 100) / 5), xx, 1e-12);
}

void test_metrics__edges(void)
{
    const float zero[2] = {0, 0}, one[2] = {1, 1}, bad[2] = {1, NAN};
    CHECK(of(M_SQNR, one, one, 2) == INFINITY);
    CHECK(of(M_COSINE, zero, one, 2) == 0);
    CHECK(isnan(of(M_MRE, zero, one, 2)));
    for (int m = 0; m < METRIC_COUNT; m++) {
        CHECK(isnan(of((enum metric)m, one, bad, 2)));
        CHECK(isnan(of((enum metric)m, bad, one, 2)));
        CHECK(isnan(of((enum metric)m, one, one, 0)));
    }
    const float up[2] = {1, -1}, down[2] = {-1, 1};
    CHECK_NEAR(of(M_COSINE, up, down, 2), -1, 1e-15);
}

void test_metrics__fast_and_plain_give_the_same_bits(void)
{
    enum { N = 1003 };
    static float x[N], y[N];
    unsigned seed = 3;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < N; i++) {
            x[i] = (float)(rand_r(&seed) % 2001 - 1000) / 313.0f;
            y[i] = x[i] + (float)(rand_r(&seed) % 101 - 50) / 3133.0f;
            if (rand_r(&seed) % 9 == 0)
                x[i] = 0;
        }
        if (round % 8 == 7)
            x[round] = NAN;
        struct metric_sums a, b;
        metric_sum(x, y, N - round, &a);
        metric_sum_plain(x, y, N - round, &b);
        if (round % 8 != 7)
            CHECK_MEM(&a, &b, sizeof a);
        for (int m = 0; m < METRIC_COUNT; m++) {
            double u = metric_of((enum metric)m, &a), v = metric_of((enum metric)m, &b);
            CHECK(round % 8 == 7 ? isnan(u) && isnan(v) : u == v);
        }
    }
}

void test_metrics__names_and_directions(void)
{
    enum metric m;
    CHECK_INT(metric_parse("sqnr", &m), 0);
    CHECK_INT(m, M_SQNR);
    CHECK_INT(metric_parse("cosine", &m), -1);
    CHECK(metric_better(M_COSINE, 0.9, 0.8));
    CHECK(metric_better(M_MSE, 0.8, 0.9));
    CHECK(metric_better(M_MSE, 0.8, NAN));
    CHECK(!metric_better(M_MSE, NAN, 0.8));
    CHECK(!metric_better(M_MSE, NAN, NAN));
}

void test_metrics__nan_is_left_out_of_means(void)
{
    struct metric_stat s = {0};
    CHECK(isnan(metric_stat_mean(&s)));
    metric_stat_add(&s, 1);
    metric_stat_add(&s, NAN);
    metric_stat_add(&s, -3);
    CHECK_INT(s.n, 2);
    CHECK(s.min == -3 && s.max == 1 && metric_stat_mean(&s) == -1);
}
