/* get-channelwise-data-distribution: five numbers of each channel, as boxes side by side. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/gather.h"
#include "worker/jobs/svg.h"

enum {
    LEFT = 90,
    RIGHT = 170,
    TOP = 70,
    PANEL = 380,
    HEIGHT = TOP + PANEL + 70,
    CHANNELS_MAX = 8192,
    NARROW = 900,
    WIDE = 2400,
    NUMBERS = 6
};
static const char *const numbers[NUMBERS] = {"min", "q1", "median", "q3", "max", "mean"};

static const struct json_field options_fields[] = {{"nodes_list", JSON_K_ANY, 1, 0, 0},
                                                   {"axis", JSON_K_INT, 0, -12, 11},
                                                   {"data_num", JSON_K_INT, 0, 1, 1e9},
                                                   {0}};

struct along_axis {
    struct debugging *d;
    int64_t axis;
    bool given;
};

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Linear between neighbours, as numpy's default. */
static double quantile(const float *sorted, int64_t n, double p)
{
    double at = p * (double)(n - 1);
    int64_t i = (int64_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[i];
}

static int axis_of(const struct along_axis *x, const struct subject *s, int rank)
{
    int64_t axis = x->axis;
    if (!x->given) {
        const struct calib *k = s->calib >= 0 ? &x->d->plan->calibs[s->calib] : NULL;
        axis = k && k->kind == CALIB_WEIGHT ? (k->axis >= 0 ? k->axis : 0) : 1;
    }
    if (axis < 0)
        axis += rank;
    return axis < 0 || axis >= rank ? (rank ? rank - 1 : 0) : (int)axis;
}

static void sum_up(float *v, int64_t n, double ret[NUMBERS])
{
    static const double at[] = {0, 0.25, 0.5, 0.75, 1};
    double sum = 0;
    qsort(v, (size_t)n, sizeof *v, by_value);
    for (int64_t i = 0; i < n; i++)
        sum += v[i];
    for (int k = 0; k < 5; k++)
        ret[k] = n ? quantile(v, n, at[k]) : NAN;
    ret[5] = n ? sum / (double)n : NAN;
}

/* Channels of all samples, NaN left out. */
static json_t *reduce(void *ctx, const struct subject *s, const struct gathered *g)
{
    const struct tensor *t = &g->shape;
    int axis = axis_of(ctx, s, t->rank);
    int64_t channels = t->rank ? t->dims[axis] : 1, inner = 1;
    for (int i = axis + 1; i < t->rank; i++)
        inner *= t->dims[i];
    json_t *o = json_pack("{s:s, s:i, s:I, s:i}", "node", s->name, "axis", axis, "channels",
                          (json_int_t)channels, "samples", g->samples);
    int64_t shown = channels < CHANNELS_MAX ? channels : CHANNELS_MAX;
    json_t *lists[NUMBERS];
    for (int k = 0; k < NUMBERS; k++)
        json_object_set_new(o, numbers[k], lists[k] = json_array());
    for (int64_t c = 0; c < shown; c++) {
        int64_t n = 0;
        double five[NUMBERS];
        for (int64_t i = c * inner; i < g->n; i += channels * inner)
            for (int64_t j = 0; j < inner; j++)
                if (!isnan(g->before[i + j]))
                    g->after[n++] = g->before[i + j];
        sum_up(g->after, n, five);
        for (int k = 0; k < NUMBERS; k++)
            json_array_append_new(lists[k], json_real_or_null(five[k]));
    }
    return o;
}

/* ---- the picture ---- */

static double number_at(const json_t *data, int k, size_t c)
{
    const json_t *v = json_array_get(json_object_get(data, numbers[k]), c);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void draw_box(const struct chart *c, const json_t *data, size_t i, double half)
{
    double y[NUMBERS], x = chart_x(c, (double)i);
    for (int k = 0; k < NUMBERS; k++) {
        if (isnan(number_at(data, k, i)))
            return;
        y[k] = chart_y(c, number_at(data, k, i));
    }
    svg_line(c->b, x, y[0], x, y[4], "stroke=\"" SVG_GREY "\"");
    svg_rect(c->b, x - half, y[3], 2 * half, fmax(y[1] - y[3], 0.5),
             "fill=\"#cfe3f1\" stroke=\"" SVG_GREY "\" stroke-width=\"0.7\"");
    if (half > 1.5) {
        svg_line(c->b, x - half, y[0], x + half, y[0], "stroke=\"" SVG_GREY "\"");
        svg_line(c->b, x - half, y[4], x + half, y[4], "stroke=\"" SVG_GREY "\"");
    }
    svg_line(c->b, x - half, y[2], x + half, y[2], "stroke=\"" SVG_RED "\" stroke-width=\"1.6\"");
    svg_line(c->b, x - half, y[5], x + half, y[5],
             "stroke=\"" SVG_BLUE "\" stroke-width=\"1.4\" stroke-dasharray=\"2 1.5\"");
}

static void draw(struct debugging *d, const json_t *data, struct buf *b)
{
    size_t n = json_array_size(json_object_get(data, "min"));
    double width = (double)n * 14 < NARROW ? NARROW : (double)n * 14 > WIDE ? WIDE : (double)n * 14;
    struct chart c = {.b = b,
                      .left = LEFT,
                      .top = TOP,
                      .width = width,
                      .height = PANEL,
                      .x0 = -0.8,
                      .x1 = (double)n - 0.2,
                      .y0 = INFINITY,
                      .y1 = -INFINITY};
    for (size_t i = 0; i < n; i++) {
        c.y0 = fmin(c.y0, number_at(data, 0, i));
        c.y1 = fmax(c.y1, number_at(data, 4, i));
    }
    if (!(c.y0 <= c.y1))
        c.y0 = c.y1 = 0;
    chart_pad(&c);
    svg_begin(b, (int)width + LEFT + RIGHT, HEIGHT, json_str(data, "node", ""),
              arena_printf(job_arena(d->job), "%zu channels along axis %lld, %lld sample%s", n,
                           (long long)json_int(data, "axis", 0),
                           (long long)json_int(data, "samples", 0),
                           json_int(data, "samples", 0) == 1 ? "" : "s"));
    c.whole_x = true;
    chart_axes(&c, "channel", "value", true);
    double half = fmin(10, width / (double)(n ? n : 1) * 0.38);
    for (size_t i = 0; i < n; i++)
        draw_box(&c, data, i, half);
    double x = c.left + c.width + 14;
    chart_legend(&c, x, c.top, 0, SVG_RED, "median");
    chart_legend(&c, x, c.top, 1, SVG_BLUE, "mean (dashed)");
    chart_legend(&c, x, c.top, 2, "#cfe3f1", "quartiles");
    chart_legend(&c, x, c.top, 3, SVG_GREY, "least to largest");
    svg_end(b);
}

int channelwise_distribution(struct debugging *d, json_t **ret, struct err *e)
{
    const json_t *axis = json_object_get(d->options, "axis");
    struct along_axis x = {d, json_integer_value(axis), json_is_integer(axis)};
    struct subject *s;
    int n, rc = 0;
    json_t *list;
    const char *what = arena_printf(job_arena(d->job), "channels%s%lld", x.given ? " of axis " : "",
                                    (long long)x.axis);
    if (debug_subjects(d, json_object_get(d->options, "nodes_list"), "/options/nodes_list", &s, &n,
                       e) ||
        gather_run(d, s, n, debug_samples(d, "data_num", 1), what, reduce, &x, &list, e))
        return -1;
    for (int i = 0; i < n && !rc; i++) {
        struct buf b;
        buf_init(&b, SVG_MAX);
        draw(d, json_array_get(list, (size_t)i), &b);
        rc = debug_file(d, debug_path(d, "", s[i].name, "svg"), "image/svg+xml", &b, e);
        buf_done(&b);
    }
    *ret = json_pack("{s:o}", "channels", list);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, channelwise_distribution, ret_result, e);
}

extern const struct job_kind job_channelwise;
const struct job_kind job_channelwise = {
    .name = "get-channelwise-data-distribution",
    .run = run,
    .text = "Draws the values of each channel of tensors side by side.",
};
