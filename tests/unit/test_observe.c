/* Observers and the survey over them, against sorting all the data. */
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/mini.h"
#include "worker/quant/survey.h"

static struct arena arena;

enum { SAMPLES_MAX = 64 };
struct data {
    int n;
    int64_t count[SAMPLES_MAX];
    float *v[SAMPLES_MAX];
};

static float any_value(unsigned *seed)
{
    float x = (float)(rand_r(seed) % 20001 - 10000) / 777.0f;
    switch (rand_r(seed) % 8) {
    case 0:
        return 0;
    case 1:
        return x * x * x;
    case 2:
        return x * 1e-30f;
    case 3:
        return -0.0f;
    default:
        return x;
    }
}

static struct data any_data(unsigned *seed, int n, bool alike, bool positive)
{
    struct data d = {.n = n};
    int64_t count = 1 + rand_r(seed) % 4000;
    for (int i = 0; i < n; i++) {
        d.count[i] = alike ? count : 1 + rand_r(seed) % 4000;
        d.v[i] = arena_array(&arena, (size_t)d.count[i], sizeof *d.v[i]);
        for (int64_t k = 0; k < d.count[i]; k++)
            d.v[i][k] = positive ? fabsf(any_value(seed)) : any_value(seed);
    }
    return d;
}

/* What a job does: all passes, every record once, those that do not fit continued. */
static int survey(struct survey *s, const struct data *d, int value, struct err *e)
{
    const struct observe_want *w;
    while ((w = survey_next(s))) {
        struct seen_all *seen = seen_new(w);
        struct observer *o = observer_new(w);
        for (int i = 0; i < d->n; i++) {
            int skip = 0, more = 1;
            while (more) {
                struct tensor t = {
                    .type = DT_F32, .rank = 1, .dims = {d->count[i]}, .data = d->v[i]};
                struct buf b;
                buf_init(&b, 1 << 20);
                observer_start(o, skip, &b);
                CHECK_OK(observer_see(o, value, &t, e), *e);
                observer_end(o);
                CHECK_OK(seen_add(seen, b.data, b.len, i == 0, &more, e), *e);
                skip += more;
                buf_done(&b);
            }
        }
        observer_free(o);
        if (survey_take(s, seen, e))
            return -1;
    }
    return 0;
}

/* The thresholds of x by that activation configuration. */
static struct calib calibrated(const char *activation, const struct data *d, json_t *warnings,
                               struct err *e)
{
    struct graph *g = mini_graph(&arena, "input x 8\noutput y\nm Mul x,x -> y\n");
    struct quant_config *c;
    struct resolved r;
    struct plan *p = NULL;
    json_t *v =
        json_string(arena_printf(&arena, "{'model_config': {'activation': {%s}}}", activation));
    CHECK_OK(config_parse(v, "", g, &march_nash_e, &arena, &c, e), *e);
    json_decref(v);
    resolve(c, g, &march_nash_e, &arena, &r);
    struct survey *s = survey_new(&r, c, &march_nash_e, d->n);
    struct calib k = {0};
    if (!survey(s, d, g->inputs[0], e) &&
        !survey_plan(s, &c->candidates[0], &arena, warnings, &p, e))
        k = p->calibs[plan_find(p, "x_HzCalibration")];
    survey_free(s);
    config_done(c);
    return k;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The ceil(p·n)-th smallest of sign·x, or of |x| when sign is 0. */
static float sorted_quantile(const struct data *d, double p, int sign)
{
    int64_t n = 0;
    float all[SAMPLES_MAX * 4096];
    for (int i = 0; i < d->n; i++)
        for (int64_t k = 0; k < d->count[i]; k++)
            all[n++] = sign == 0 ? fabsf(d->v[i][k]) : (float)sign * d->v[i][k];
    qsort(all, (size_t)n, sizeof *all, by_value);
    int64_t at = (int64_t)ceil(p * (double)n);
    return all[at - 1];
}

static const double percentiles[] = {0.5, 0.75, 0.9, 0.99, 0.999, 0.9995, 0.99995, 1};

void test_observe__percentile_is_the_one_of_sorting(void)
{
    unsigned seed = 11;
    for (int round = 0; round < 24; round++) {
        struct err e = ERR_INIT;
        struct data d = any_data(&seed, 1 + round % 7, round % 3 != 0, false);
        for (int i = 0; i < 8; i++) {
            const char *text = arena_printf(
                &arena, "'calibration_type': 'max', 'max_percentile': %.17g", percentiles[i]);
            struct calib k = calibrated(text, &d, NULL, &e);
            float want = sorted_quantile(&d, percentiles[i], 0);
            CHECK_INT(k.n_thresholds, 1);
            CHECK(k.thresholds[0] == (want > 0 ? want : 1));
        }
    }
}

/* numpy.percentile's default: between the two values around p·(n - 1), in proportion. */
static double numpy_percentile(const struct data *d, double p)
{
    int64_t n = 0, k = 0;
    for (int i = 0; i < d->n; i++)
        n += d->count[i];
    float *all = arena_array(&arena, (size_t)n, sizeof *all);
    for (int i = 0; i < d->n; i++)
        for (int64_t j = 0; j < d->count[i]; j++)
            all[k++] = fabsf(d->v[i][j]);
    qsort(all, (size_t)n, sizeof *all, by_value);
    double at = p * (double)(n - 1), below = floor(at);
    double lo = all[(int64_t)below], hi = all[below + 1 < (double)n ? (int64_t)below + 1 : n - 1];
    return lo + (at - below) * (hi - lo);
}

void test_observe__percentile_over_64_samples_is_that_of_numpy(void)
{
    unsigned seed = 23;
    struct data d = {.n = 64};
    float range = 0;
    for (int i = 0; i < d.n; i++) { /* of different sizes and widths */
        d.count[i] = 3000 + rand_r(&seed) % 3000;
        d.v[i] = arena_array(&arena, (size_t)d.count[i], sizeof *d.v[i]);
        for (int64_t k = 0; k < d.count[i]; k++) {
            d.v[i][k] = (float)(rand_r(&seed) % 2000001 - 1000000) / 1e6f * (float)(60 + i % 5);
            range = fabsf(d.v[i][k]) > range ? fabsf(d.v[i][k]) : range;
        }
    }
    for (int i = 0; i < 8; i++) {
        struct err e = ERR_INIT;
        const char *text = arena_printf(
            &arena, "'calibration_type': 'max', 'max_percentile': %.17g", percentiles[i]);
        struct calib k = calibrated(text, &d, NULL, &e);
        CHECK_NEAR(k.thresholds[0], numpy_percentile(&d, percentiles[i]), 1e-4 * (double)range);
    }
}

void test_observe__asymmetric_takes_both_ends_by_the_same_percentile(void)
{
    unsigned seed = 5;
    for (int round = 0; round < 12; round++) {
        struct err e = ERR_INIT;
        struct data d = any_data(&seed, 3, round % 2, false);
        struct calib k = calibrated(
            "'calibration_type': 'max', 'max_percentile': 0.999, 'asymmetric': True", &d, NULL, &e);
        float lo = -sorted_quantile(&d, 0.999, -1), hi = sorted_quantile(&d, 0.999, 1);
        CHECK(k.affine);
        CHECK(k.thresholds[0] == (lo < 0 ? lo : 0));
        CHECK(k.thresholds[1] == (hi > 0 ? hi : lo < 0 ? 0 : 1));
    }
}

void test_observe__never_negative_is_unsigned_when_asymmetric(void)
{
    unsigned seed = 6;
    struct err e = ERR_INIT;
    struct data d = any_data(&seed, 3, true, true);
    struct calib k = calibrated("'calibration_type': 'max', 'asymmetric': True", &d, NULL, &e);
    CHECK(k.affine && k.thresholds[0] == 0);
    CHECK(k.thresholds[1] == sorted_quantile(&d, 1, 0));
    k = calibrated("'calibration_type': 'min-max'", &d, NULL, &e);
    CHECK(k.affine && k.thresholds[0] == 0);
}

static struct calib calibrated_values(const char *text, const float *v, int n, json_t *warnings,
                                      struct err *e)
{
    struct data d = {.n = 1, .count = {n}, .v = {(float *)v}};
    return calibrated(text, &d, warnings, e);
}

void test_observe__infinite_and_empty_thresholds_are_repaired_and_told(void)
{
    struct err e = ERR_INIT;
    json_t *w = json_array();
    struct calib k =
        calibrated_values("'calibration_type': 'max'", (float[]){1, -INFINITY}, 2, w, &e);
    CHECK(k.thresholds[0] == FLT_MAX);
    CHECK_INT(json_array_size(w), 1);
    CHECK(strstr(json_string_value(json_array_get(w, 0)), "x_HzCalibration"));
    k = calibrated_values("'calibration_type': 'max'", (float[]){0, 0}, 2, w, &e);
    CHECK(k.thresholds[0] == 1);
    CHECK_INT(json_array_size(w), 2);
    json_decref(w);
}

void test_observe__nan_is_an_error_that_names_the_tensor(void)
{
    struct err e = ERR_INIT;
    calibrated_values("'calibration_type': 'max'", (float[]){1, NAN}, 2, NULL, &e);
    CHECK_INT(e.code, ERR_BAD_DATA);
    CHECK_STR(e.at, "x");
}

/* A thin tail: kl and mse cut it off. */
void test_observe__kl_and_mse_cut_a_thin_tail(void)
{
    enum { N = 40000 };
    static float v[N];
    unsigned seed = 9;
    struct err e = ERR_INIT;
    for (int i = 0; i < N; i++)
        v[i] = (float)(rand_r(&seed) % 2001 - 1000) / 1000;
    for (int i = 0; i < 10; i++)
        v[i * 3000] = 2 + (float)i / 2;
    v[7] = 8;
    struct calib kl = calibrated_values("'calibration_type': 'kl'", v, N, NULL, &e);
    struct calib mse = calibrated_values("'calibration_type': 'mse'", v, N, NULL, &e);
    CHECK(kl.thresholds[0] >= 1 && kl.thresholds[0] < 2);
    CHECK(mse.thresholds[0] >= 2 && mse.thresholds[0] < 8);
    CHECK(fmodf(mse.thresholds[0] * 128 / 8, 1) == 0);
}

void test_observe__fixed_needs_no_data(void)
{
    struct err e = ERR_INIT;
    struct data d = {.n = 0};
    struct calib k = calibrated("'calibration_type': 'fixed'", &d, NULL, &e);
    CHECK_INT(k.n_thresholds, 1);
    CHECK(k.thresholds[0] == 1);
}

/* KL(P‖Q) by its definition, bin by bin. */
static double plain_divergence(const int64_t *c, int bins, int n)
{
    double total = 0, inside = 0, kl = 0;
    for (int i = 0; i < bins; i++)
        total += (double)c[i];
    for (int i = 0; i < n; i++)
        inside += (double)c[i];
    for (int l = 0; l < 128; l++) {
        int from = l * n / 128, to = (l + 1) * n / 128, filled = 0;
        double sum = 0;
        for (int i = from; i < to; i++) {
            double p = (double)c[i] + (i == n - 1 ? total - inside : 0);
            filled += p > 0;
            sum += (double)c[i];
        }
        for (int i = from; i < to; i++) {
            double p = ((double)c[i] + (i == n - 1 ? total - inside : 0)) / total;
            if (p > 0)
                kl += sum > 0 ? p * log(p / (sum / filled / inside)) : INFINITY;
        }
    }
    return kl;
}

void test_kl__finds_the_least_divergence_of_the_definition(void)
{
    unsigned seed = 4;
    for (int round = 0; round < 20; round++) {
        enum { BINS = 400 };
        int64_t c[BINS];
        for (int i = 0; i < BINS; i++)
            c[i] = rand_r(&seed) % (1 + (BINS - i) * (BINS - i) / 300) * (rand_r(&seed) % 4 != 0);
        c[BINS - 1] = 1;
        double best = INFINITY;
        for (int n = 129; n <= BINS; n++) {
            double kl = plain_divergence(c, BINS, n);
            best = kl < best ? kl : best;
        }
        float t = kl_threshold(c, BINS, 0.5f, BINS * 0.5f);
        CHECK_NEAR(plain_divergence(c, BINS, (int)(t / 0.5f)), best, 1e-9);
    }
}

/* A record that is full ends there, and the next one goes on: together the same as one. */
void test_observe__records_that_do_not_fit_are_continued(void)
{
    enum { TARGETS = 80, N = 60000 };
    struct observe_target t[TARGETS];
    float *v = arena_array(&arena, N, sizeof *v);
    unsigned seed = 2;
    for (int i = 0; i < N; i++)
        v[i] = ldexpf(1 + (float)(rand_r(&seed) % 65536) / 65536, rand_r(&seed) % 200 - 100);
    for (int i = 0; i < TARGETS; i++)
        t[i] = (struct observe_target){.value = i, .axis = -1, .sides = 1u << SIDE_ABS};
    struct observe_want w = {OBSERVE_UPPER, 1, 0.5, TARGETS, t};
    struct observer *o = observer_new(&w);
    struct seen_all *seen = seen_new(&w);
    int skip = 0, more = 1, records = 0;
    for (; more; records++, skip += more) {
        struct err e = ERR_INIT;
        struct buf b;
        buf_init(&b, 1 << 20);
        observer_start(o, skip, &b);
        for (int i = 0; i < TARGETS; i++) {
            struct tensor x = {.type = DT_F32, .rank = 1, .dims = {N}, .data = v};
            CHECK_OK(observer_see(o, i, &x, &e), e);
        }
        observer_end(o);
        CHECK(b.len <= 1 << 20);
        CHECK_OK(seen_add(seen, b.data, b.len, true, &more, &e), e);
        buf_done(&b);
    }
    CHECK(records > 1);
    for (int i = 0; i < TARGETS; i++) {
        CHECK_INT(seen->targets[i].ranges[0].n, N);
        CHECK_INT(seen_upper(seen, i, 0, SIDE_ABS)->n, seen_upper(seen, 0, 0, SIDE_ABS)->n);
    }
    observer_free(o);
    seen_free(seen);
}

void test_observe__a_malformed_record_is_refused(void)
{
    struct observe_target t = {.value = 0, .axis = -1, .sides = 1u << SIDE_ABS};
    struct observe_want w = {OBSERVE_UPPER, 1, 0.5, 1, &t};
    unsigned seed = 8;
    for (int round = 0; round < 300; round++) {
        struct seen_all *seen = seen_new(&w);
        struct err e = ERR_INIT;
        char record[64] = {1};
        size_t len = rand_r(&seed) % sizeof record;
        for (size_t i = 5; i < len; i++)
            record[i] = i < 7 ? (char)(i - 5) : (char)rand_r(&seed);
        int more;
        if (seen_add(seen, record, len, false, &more, &e))
            CHECK(e.code == ERR_INTERNAL || e.code == ERR_BAD_DATA);
        seen_free(seen);
    }
}
