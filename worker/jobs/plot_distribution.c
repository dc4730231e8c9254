/* plot-distribution: histograms of a tensor before and after quantization, and of the error. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/gather.h"
#include "worker/jobs/svg.h"
#include "worker/quant/fakequant.h"

enum { BINS = 128, WIDTH = 1000, HEIGHT = 500, PANEL = 330, LEFT = 90, RIGHT = 190, TOP = 70 };

static const struct json_field options_fields[] = {
    {"nodes_list", JSON_K_ANY, 1, 0, 0}, {"data_num", JSON_K_INT, 0, 1, 1e9}, {0}};

/* ---- numbers ---- */

struct span {
    double low, high;
    int64_t nan;
};

static struct span span_of(const float *v, int64_t n)
{
    struct span s = {INFINITY, -INFINITY, 0};
    for (int64_t i = 0; i < n; i++) {
        s.nan += isnan(v[i]);
        s.low = v[i] < s.low ? v[i] : s.low;
        s.high = v[i] > s.high ? v[i] : s.high;
    }
    if (!(s.low <= s.high))
        s.low = s.high = 0;
    return s;
}

static json_t *histogram(const float *v, int64_t n, double low, double high)
{
    int64_t counts[BINS] = {0};
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) {
        double at = (v[i] - low) / (high - low) * BINS;
        if (!isnan(at))
            counts[at < 0 ? 0 : at >= BINS ? BINS - 1 : (int)at]++;
    }
    for (int i = 0; i < BINS; i++)
        json_array_append_new(list, json_integer(counts[i]));
    return list;
}

static json_t *moments(const float *v, int64_t n)
{
    struct span s = span_of(v, n);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += v[i];
        squares += (double)v[i] * v[i];
    }
    double mean = n ? sum / (double)n : 0, variance = n ? squares / (double)n - mean * mean : 0;
    return json_pack("{s:f, s:f, s:o, s:o, s:I}", "min", s.low, "max", s.high, "mean",
                     json_real_or_null(mean), "std", json_real_or_null(sqrt(fmax(0, variance))),
                     "nan", (json_int_t)s.nan);
}

/* One picture's data: bins of one range for both, a range of its own for the error. */
static json_t *reduce(void *ctx, const struct subject *s, const struct gathered *g)
{
    struct span a = span_of(g->before, g->n), b = span_of(g->after, g->n);
    double low = fmin(a.low, b.low), high = fmax(a.high, b.high);
    json_t *o = json_object();
    (void)ctx;
    if (!(high > low))
        high = low + 1;
    json_object_set_new(o, "node", json_string(s->name));
    json_object_set_new(o, "elements", json_integer(g->n));
    json_object_set_new(o, "samples", json_integer(g->samples));
    json_object_set_new(o, "range", json_pack("[f, f]", low, high));
    json_object_set_new(o, "before", histogram(g->before, g->n, low, high));
    json_object_set_new(o, "after", histogram(g->after, g->n, low, high));
    json_object_set_new(o, "before_stats", moments(g->before, g->n));
    json_object_set_new(o, "after_stats", moments(g->after, g->n));
    for (int64_t i = 0; i < g->n; i++)
        g->after[i] -= g->before[i];
    struct span d = span_of(g->after, g->n);
    double top = fmax(fmax(fabs(d.low), fabs(d.high)), 1e-30);
    json_object_set_new(o, "error_range", json_pack("[f, f]", -top, top));
    json_object_set_new(o, "error", histogram(g->after, g->n, -top, top));
    json_object_set_new(o, "error_stats", moments(g->after, g->n));
    return o;
}

/* ---- the picture ---- */

static double most_of(const json_t *a, const json_t *b)
{
    double most = 1;
    for (size_t i = 0; i < BINS; i++) {
        double x = json_number_value(json_array_get(a, i)),
               y = json_number_value(json_array_get(b, i));
        most = fmax(most, fmax(x, y));
    }
    return most;
}

/* A histogram as steps; filled to the bottom where `fill` says a colour. */
static void draw_steps(const struct chart *c, const json_t *counts, const char *fill,
                       const char *stroke)
{
    double step = c->width / BINS, bottom = c->top + c->height;
    buf_addf(c->b, "<path %s %s d=\"M%.2f %.2f", fill, stroke, c->left, bottom);
    for (int i = 0; i < BINS; i++) {
        double v = json_number_value(json_array_get(counts, (size_t)i));
        double y = v > 0 ? chart_y(c, v) : bottom;
        buf_addf(c->b, "L%.2f %.2fL%.2f %.2f", c->left + i * step, y, c->left + (i + 1) * step, y);
    }
    buf_addf(c->b, "L%.2f %.2f\"/>\n", c->left + c->width, bottom);
}

/* The ends that the calibration keeps, where they lie in the picture. */
static void draw_thresholds(const struct chart *c, const struct calib *k, json_t *told)
{
    double ends[2] = {NAN, NAN};
    for (int i = 0; i < k->n_thresholds; i++) {
        double t = k->thresholds[i];
        if (k->affine && k->axis < 0)
            ends[i] = t;
        else if (isnan(ends[1]) || t < ends[1]) { /* the smallest of the channels' */
            ends[1] = t;
            ends[0] = k->affine ? 0 : -t;
        }
    }
    for (int i = 0; i < 2; i++) {
        json_array_append_new(told, json_real_or_null(ends[i]));
        if (!(ends[i] >= c->x0 && ends[i] <= c->x1))
            continue;
        double x = chart_x(c, ends[i]);
        svg_line(c->b, x, c->top, x, c->top + c->height,
                 "stroke=\"" SVG_RED "\" stroke-width=\"1.6\" stroke-dasharray=\"6 4\"");
    }
}

static void draw_marks(const struct chart *c, const json_t *stats)
{
    double low = json_num(stats, "min", 0), high = json_num(stats, "max", 0);
    double x = fabs(low) > fabs(high) ? low : high;
    svg_mark(c->b, chart_x(c, x), c->top + c->height - 2, "fill=\"" SVG_BLUE "\"");
}

static struct chart panel(struct buf *b, const json_t *range, double most, int at)
{
    return (struct chart){.b = b,
                          .left = LEFT,
                          .top = TOP + at * (PANEL + 100),
                          .width = WIDTH - LEFT - RIGHT,
                          .height = PANEL,
                          .x0 = json_number_value(json_array_get(range, 0)),
                          .x1 = json_number_value(json_array_get(range, 1)),
                          .y0 = 0.5,
                          .y1 = most * 2,
                          .log_y = true};
}

static void draw_error(struct buf *b, const json_t *data)
{
    char text[64];
    const json_t *counts = json_object_get(data, "error"),
                 *stats = json_object_get(data, "error_stats");
    struct chart c = panel(b, json_object_get(data, "error_range"), most_of(counts, counts), 1);
    chart_axes(&c, "calibrated minus float", "elements", true);
    draw_steps(&c, counts, "fill=\"" SVG_GREEN "\" fill-opacity=\"0.35\"",
               "stroke=\"" SVG_GREEN "\"");
    chart_legend(&c, c.left + c.width + 16, c.top, 0, SVG_GREEN, "error");
    snprintf(text, sizeof text, "mean %.4g", json_num(stats, "mean", 0));
    svg_text(b, c.left + c.width + 16, c.top + 40, 12, "start", 0, 0, text);
    snprintf(text, sizeof text, "std %.4g", json_num(stats, "std", 0));
    svg_text(b, c.left + c.width + 16, c.top + 58, 12, "start", 0, 0, text);
}

static const char *subtitle_of(struct debugging *d, const struct subject *s, const json_t *data)
{
    struct arena *a = job_arena(d->job);
    const struct calib *k = s->calib >= 0 ? &d->plan->calibs[s->calib] : NULL;
    long long samples = json_int(data, "samples", 0), n = json_int(data, "elements", 0);
    static const char scale[] = "counts on a logarithmic scale";
    if (k && k->kind == CALIB_WEIGHT)
        return arena_printf(a, "weight, %s, %lld elements; %s", qtype_name(k->qtype), n, scale);
    return arena_printf(a, "%s%s, %lld elements of %lld sample%s; %s",
                        k ? "activation, " : "output of the node", k ? qtype_name(k->qtype) : "", n,
                        samples, samples == 1 ? "" : "s", scale);
}

static void draw(struct debugging *d, const struct subject *s, json_t *data, struct buf *b)
{
    const json_t *before = json_object_get(data, "before"), *after = json_object_get(data, "after");
    bool node = s->node >= 0;
    json_t *told = json_array();
    svg_begin(b, WIDTH, node ? HEIGHT + PANEL + 90 : HEIGHT, s->name, subtitle_of(d, s, data));
    struct chart c = panel(b, json_object_get(data, "range"), most_of(before, after), 0);
    chart_axes(&c, "value", "elements", true);
    draw_steps(&c, before, "fill=\"" SVG_BLUE "\" fill-opacity=\"0.3\"", "stroke=\"" SVG_BLUE "\"");
    draw_steps(&c, after, "fill=\"none\"", "stroke=\"" SVG_ORANGE "\" stroke-width=\"1.4\"");
    draw_marks(&c, json_object_get(data, "before_stats"));
    double x = c.left + c.width + 16;
    chart_legend(&c, x, c.top, 0, SVG_BLUE, node ? "float model" : "before");
    chart_legend(&c, x, c.top, 1, SVG_ORANGE, node ? "calibrated model" : "after");
    svg_mark(b, x + 7, c.top + 48, "fill=\"" SVG_BLUE "\"");
    svg_text(b, x + 20, c.top + 47, 12, "start", 0, 0, "largest |value|");
    if (s->calib >= 0) {
        draw_thresholds(&c, &d->plan->calibs[s->calib], told);
        svg_line(b, x, c.top + 60, x + 14, c.top + 60,
                 "stroke=\"" SVG_RED "\" stroke-width=\"1.6\" stroke-dasharray=\"4 3\"");
        svg_text(b, x + 20, c.top + 65, 12, "start", 0, 0,
                 d->plan->calibs[s->calib].n_thresholds > 2 ? "least threshold" : "threshold");
    }
    if (node)
        draw_error(b, data);
    svg_end(b);
    json_object_set_new(data, "thresholds", s->calib >= 0 ? told : json_null());
    if (s->calib < 0)
        json_decref(told);
}

int plot_distribution(struct debugging *d, json_t **ret, struct err *e)
{
    struct subject *s;
    int n, rc = 0;
    json_t *list;
    if (debug_subjects(d, json_object_get(d->options, "nodes_list"), "/options/nodes_list", &s, &n,
                       e) ||
        gather_run(d, s, n, debug_samples(d, "data_num", 1), "distribution", reduce, NULL, &list,
                   e))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        struct buf b;
        buf_init(&b, SVG_MAX);
        draw(d, &s[i], json_array_get(list, (size_t)i), &b);
        rc = debug_file(d, debug_path(d, "", s[i].name, "svg"), "image/svg+xml", &b, e);
        buf_done(&b);
    }
    *ret = json_pack("{s:o}", "distributions", list);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, plot_distribution, ret_result, e);
}

extern const struct job_kind job_plot_distribution;
const struct job_kind job_plot_distribution = {
    .name = "plot-distribution",
    .run = run,
    .text = "Draws the values of tensors before and after quantization.",
};
