#include "worker/jobs/health.h"

#include <math.h>
#include <stdlib.h>

#include "common/arena.h"
#include "common/json.h"

static const double saturated = 0.9999; /* cosine: no more to tell apart in four decimals */
static const double hopeless_sqnr = 10; /* 20 dB in int16: the range is too wide for integers */
enum { OUTPUTS_COMPARED = 32, PRINTED = 100000 };
static const double many_ties = 0.3, little_agreement = 0.5, shaky_halves = 0.7;

/* ---- measures ---- */

static int sign_of(double d)
{
    return (d > 0) - (d < 0);
}

double kendall_tau(const double *a, const double *b, int n)
{
    int64_t both = 0, only_a = 0, only_b = 0, sum = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            if (isnan(a[i]) || isnan(a[j]) || isnan(b[i]) || isnan(b[j]))
                continue;
            int x = sign_of(a[i] == a[j] ? 0 : a[i] - a[j]);
            int y = sign_of(b[i] == b[j] ? 0 : b[i] - b[j]);
            both += x && y;
            only_a += x && !y;
            only_b += !x && y;
            sum += x * y;
        }
    return (double)sum / sqrt((double)(both + only_a) * (double)(both + only_b));
}

static double *column_of(const struct ranking *r, const double (*means)[METRIC_COUNT],
                         enum metric m)
{
    double *v = xcalloc((size_t)r->n + 1, sizeof *v);
    for (int i = 0; i < r->n; i++)
        v[i] = metric_rows[m].higher_better ? -means[i][m] : means[i][m];
    return v;
}

static double *column(const struct ranking *r, enum metric m)
{
    return column_of(r, r->means, m);
}

static double tau_of_halves(const struct ranking *r, enum metric m)
{
    double *x = column_of(r, r->halves[0], m), *y = column_of(r, r->halves[1], m);
    double tau = r->n_samples > 1 ? kendall_tau(x, y, r->n) : NAN;
    free(x);
    free(y);
    return tau;
}

static double tau_of_metrics(const struct ranking *r, enum metric a, enum metric b)
{
    double *x = column(r, a), *y = column(r, b), tau = kendall_tau(x, y, r->n);
    free(x);
    free(y);
    return tau;
}

static double tau_of_outputs(const struct ranking *r, int a, int b)
{
    double *x = xcalloc((size_t)r->n * 2 + 1, sizeof *x), *y = x + r->n;
    for (int i = 0; i < r->n; i++) {
        x[i] = r->per_output[i * r->n_outputs + a];
        y[i] = r->per_output[i * r->n_outputs + b];
    }
    double tau = kendall_tau(x, y, r->n);
    free(x);
    return tau;
}

static double share(int n, const struct ranking *r)
{
    return r->n ? (double)n / r->n : 0;
}

/* Not told apart: cosine and sqnr have a fixed scale, the others that of the output. */
static bool tied(enum metric m, double a, double b)
{
    if (m == M_COSINE || m == M_SQNR)
        return a == b || nearbyint(a * PRINTED) == nearbyint(b * PRINTED);
    return fabs(a - b) <= fmax(fabs(a), fabs(b)) / PRINTED;
}

/* Rows that a row with other calibrations is tied with. */
static int count_ties(const struct ranking *r, enum metric m)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < r->n; j++) {
            double a = r->means[i][m], b = r->means[j][m];
            if (r->same[i] == r->same[j] || isnan(a) || isnan(b))
                continue;
            if (tied(m, a, b)) {
                n++;
                break;
            }
        }
    return n;
}

static int count_shared(const struct ranking *r)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < r->n; j++)
            if (i != j && r->same[i] == r->same[j]) {
                n++;
                break;
            }
    return n;
}

static int count_saturated(const struct ranking *r)
{
    int n = 0;
    for (int i = 0; i < r->n; i++)
        n += r->means[i][M_COSINE] >= saturated;
    return n;
}

static json_t *beyond_integers(const struct ranking *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n; i++)
        if (r->widest[i] && r->means[i][M_SQNR] < hopeless_sqnr)
            json_array_append_new(list, json_string(r->names[i]));
    return list;
}

/* ---- all together ---- */

struct findings {
    int ties, shared, saturated;
    double tau[METRIC_COUNT], split_half, least_outputs;
    int output_a, output_b; /* that agree least */
    enum metric best;       /* that tells most apart, the halves agreeing most among equals */
    int best_ties, worst_output;
    double worst_sqnr;
};

static void compare_outputs(const struct ranking *r, struct findings *f)
{
    f->least_outputs = NAN;
    for (int a = 0; a < r->n_outputs && a < OUTPUTS_COMPARED; a++)
        for (int b = 0; b < a; b++) {
            double tau = tau_of_outputs(r, a, b);
            if (isnan(tau) || !(isnan(f->least_outputs) || tau < f->least_outputs))
                continue;
            f->least_outputs = tau;
            f->output_a = b;
            f->output_b = a;
        }
}

static void find_best_metric(const struct ranking *r, struct findings *f)
{
    double best_tau = 0;
    for (int m = 0; m < METRIC_COUNT; m++) {
        int ties = count_ties(r, (enum metric)m);
        double tau = tau_of_halves(r, (enum metric)m);
        if (m == 0 || ties < f->best_ties || (ties == f->best_ties && tau > best_tau)) {
            f->best = (enum metric)m;
            f->best_ties = ties;
            best_tau = tau;
        }
    }
}

/* By the mean sqnr of the candidates that reach it. */
static void find_worst_output(const struct ranking *r, struct findings *f)
{
    f->worst_output = -1;
    for (int o = 0; o < r->n_outputs && r->n_outputs > 1; o++) {
        double sum = 0;
        int n = 0;
        for (int i = 0; i < r->n; i++)
            if (isfinite(r->sqnr[i * r->n_outputs + o])) {
                sum += r->sqnr[i * r->n_outputs + o];
                n++;
            }
        if (n && (f->worst_output < 0 || sum / n < f->worst_sqnr)) {
            f->worst_output = o;
            f->worst_sqnr = sum / n;
        }
    }
}

static void find(const struct ranking *r, struct findings *f)
{
    *f = (struct findings){.ties = count_ties(r, r->first),
                           .shared = count_shared(r),
                           .saturated = count_saturated(r),
                           .split_half = tau_of_halves(r, r->first)};
    for (int m = 0; m < METRIC_COUNT; m++)
        f->tau[m] = tau_of_metrics(r, r->first, (enum metric)m);
    compare_outputs(r, f);
    find_best_metric(r, f);
    find_worst_output(r, f);
}

static void add_saturation(const struct ranking *r, const struct findings *f, json_t *list)
{
    json_array_append_new(
        list, json_sprintf("The cosine similarity of %.0f %% of the candidates is %g or more, "
                           "where it hardly tells them apart: rank by %s.",
                           100 * share(f->saturated, r), saturated,
                           metric_rows[f->best == M_COSINE ? M_MSE : f->best].name));
}

static void add_ties(const struct ranking *r, const struct findings *f, json_t *list)
{
    const char *name = metric_rows[r->first].name;
    if (f->best != r->first && f->best_ties < f->ties / 2)
        json_array_append_new(
            list, json_sprintf("%.0f %% of the candidates share their %s with others: rank by %s, "
                               "which leaves %.0f %% tied.",
                               100 * share(f->ties, r), name, metric_rows[f->best].name,
                               100 * share(f->best_ties, r)));
    else
        json_array_append_new(
            list, json_sprintf("%.0f %% of the candidates share their %s with others, and no other "
                               "metric tells them apart: take them together or none of them.",
                               100 * share(f->ties, r), name));
}

static void advise_metric(const struct ranking *r, const struct findings *f, json_t *list)
{
    if (r->first == M_COSINE && share(f->saturated, r) > 0.5)
        add_saturation(r, f, list);
    else if (share(f->ties, r) > many_ties)
        add_ties(r, f, list);
    for (int m = 0; m < METRIC_COUNT; m++)
        if ((m == M_MSE || m == M_COSINE) && f->tau[m] < little_agreement)
            json_array_append_new(
                list, json_sprintf("The order by %s and that by %s agree little (Kendall's tau "
                                   "%.2f): compare what each promotes.",
                                   metric_rows[r->first].name, metric_rows[m].name, f->tau[m]));
}

static void advise_output(const struct ranking *r, const struct findings *f, json_t *list)
{
    if (!(f->least_outputs < little_agreement))
        return;
    json_array_append_new(
        list, json_sprintf("The outputs \"%s\" and \"%s\" order the candidates differently "
                           "(Kendall's tau %.2f): rank for the output that fails, alone. \"%s\" "
                           "loses most (mean sqnr %.2f).",
                           r->outputs[f->output_a], r->outputs[f->output_b], f->least_outputs,
                           r->outputs[f->worst_output], f->worst_sqnr));
}

static json_t *advice(const struct ranking *r, const struct findings *f, const json_t *beyond)
{
    json_t *list = json_array();
    advise_metric(r, f, list);
    advise_output(r, f, list);
    if (f->split_half < shaky_halves)
        json_array_append_new(list, json_sprintf("Two halves of the samples order the candidates "
                                                 "differently (Kendall's tau %.2f): use more "
                                                 "samples.",
                                                 f->split_half));
    if (json_array_size(beyond))
        json_array_append_new(list,
                              json_sprintf("%zu candidates lose much in int16 already, the first "
                                           "is \"%s\": no integer width helps there; keep them in "
                                           "float, or split or rescale what they read.",
                                           json_array_size(beyond),
                                           json_string_value(json_array_get(beyond, 0))));
    return list;
}

json_t *health_json(const struct ranking *r, int *ret_worst_output)
{
    struct findings f;
    find(r, &f);
    *ret_worst_output = f.worst_output;
    json_t *agreement = json_object(), *beyond = beyond_integers(r);
    for (int m = 0; m < METRIC_COUNT; m++)
        if (m != (int)r->first)
            json_object_set_new(agreement, metric_rows[m].name, json_real_or_null(f.tau[m]));
    json_t *words = advice(r, &f, beyond);
    return json_pack("{s:f, s:f, s:f, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "ties", share(f.ties, r),
                     "shared_calibrations", share(f.shared, r), "cosine_saturation",
                     share(f.saturated, r), "best_metric", metric_rows[f.best].name, "worst_output",
                     f.worst_output < 0 ? json_null() : json_string(r->outputs[f.worst_output]),
                     "agreement", agreement, "split_half", json_real_or_null(f.split_half),
                     "outputs_agreement", json_real_or_null(f.least_outputs), "beyond_integers",
                     beyond, "advice", words);
}
