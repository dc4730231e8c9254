/* Thresholds that cut a histogram of |x| where little is lost (spec §2: kl, mse). */
#include <math.h>
#include <stdlib.h>

#include "worker/quant/fakequant.h"
#include "worker/quant/survey.h"

enum { LEVELS = 128, KL_FROM = 129, KL_STEPS = 1024, MSE_FROM = 32, MSE_TO = 128 };

/* Prefix sums over a histogram: element i is about the bins before i. */
struct prefix {
    int64_t *counts;
    int *filled;
    double *plogp; /* Σ c·ln(c) */
};

static double plogp(int64_t c)
{
    return c > 0 ? (double)c * log((double)c) : 0;
}

static void prefix_init(struct prefix *x, const int64_t *counts, int bins)
{
    x->counts = xcalloc((size_t)bins + 1, sizeof *x->counts);
    x->filled = xcalloc((size_t)bins + 1, sizeof *x->filled);
    x->plogp = xcalloc((size_t)bins + 1, sizeof *x->plogp);
    for (int i = 0; i < bins; i++) {
        x->counts[i + 1] = x->counts[i] + counts[i];
        x->filled[i + 1] = x->filled[i] + (counts[i] != 0);
        x->plogp[i + 1] = x->plogp[i] + plogp(counts[i]);
    }
}

static void prefix_done(struct prefix *x)
{
    free(x->counts);
    free(x->filled);
    free(x->plogp);
}

/*
 * KL(P‖Q) of the first n bins. P has everything behind them in its last bin; Q is what 128 levels
 * can say of the bins without that tail: a level's sum, spread over the bins that P fills.
 * With counts: Σ p·ln(p/q), p = c/total, q = sum/filled/inside, where Σ c·ln(c) comes from the
 * prefix sums. Infinite where Q has nothing and P has.
 */
static double divergence(const struct prefix *x, int n, int64_t total)
{
    int64_t inside = x->counts[n], tail = total - inside, last = inside - x->counts[n - 1];
    double sum = x->plogp[n - 1] + plogp(last + tail);
    for (int l = 0; l < LEVELS; l++) {
        int from = (int)((int64_t)l * n / LEVELS), to = (int)((int64_t)(l + 1) * n / LEVELS);
        int64_t c = x->counts[to] - x->counts[from], p = c + (to == n ? tail : 0);
        int filled = x->filled[to] - x->filled[from] + (to == n && tail && !last);
        if (p == 0)
            continue;
        if (c == 0)
            return INFINITY;
        sum -= (double)p * log((double)c / filled / (double)inside * (double)total);
    }
    return sum / (double)total;
}

float kl_threshold(const int64_t *counts, int bins, float width, float max)
{
    struct prefix x;
    int step = bins > KL_FROM ? (bins - KL_FROM + KL_STEPS - 1) / KL_STEPS : 1;
    double best = INFINITY;
    float t = max;
    prefix_init(&x, counts, bins);
    for (int n = KL_FROM; n <= bins; n += step) {
        double kl = x.counts[n] ? divergence(&x, n, x.counts[bins]) : INFINITY;
        if (kl <= best && isfinite(kl)) {
            best = kl;
            t = width * (float)n;
        }
    }
    prefix_done(&x);
    return t < max ? t : max;
}

/* Squared error of int8 over the bins' middles. */
static double squared_error(const int64_t *counts, int bins, float width, float t)
{
    struct fq_param p;
    double sum = 0;
    fq_symmetric(Q_INT8, t, &p);
    for (int i = 0; i < bins; i++) {
        float x = ((float)i + 0.5f) * width, y;
        if (!counts[i])
            continue;
        fq_run_plain(&p, &x, &y, 1);
        sum += (double)counts[i] * ((double)x - y) * ((double)x - y);
    }
    return sum;
}

float mse_threshold(const int64_t *counts, int bins, float width, float max)
{
    double best = INFINITY;
    float t = max;
    for (int k = MSE_FROM; k <= MSE_TO; k++) {
        float candidate = max * (float)k / MSE_TO;
        double loss = squared_error(counts, bins, width, candidate);
        if (loss <= best) {
            best = loss;
            t = candidate;
        }
    }
    return t;
}
