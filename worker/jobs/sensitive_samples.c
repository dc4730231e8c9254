/* select-sensitive-samples: the samples whose outputs lose most by quantization. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/compare.h"
#include "worker/jobs/debug.h"
#include "worker/jobs/svg.h"

enum {
    BAR = 18,
    LEFT = 90,
    RIGHT = 40,
    TOP = 70,
    PANEL = 320,
    HEIGHT = 490,
    SHOWN_MAX = 60,
    LEAST_WIDTH = 560
};

static const struct json_field options_fields[] = {{"metric", JSON_K_STRING, 0, 1, 32},
                                                   {"samples", JSON_K_INT, 0, 1, 1e9},
                                                   {"num", JSON_K_INT, 0, 1, 1e9},
                                                   {0}};

struct scored {
    int sample;
    double score;
    enum metric metric;
    const struct metric_sums *outputs;
};
struct selecting {
    struct debugging *d;
    enum metric metric;
    struct scored *list;
};

/* The mean over the outputs. */
static int take(void *ctx, int plan, int sample, const struct compared *c, struct err *e)
{
    struct selecting *s = ctx;
    size_t n = (size_t)s->d->graph->n_outputs;
    struct metric_stat stat = {0};
    (void)plan, (void)e;
    for (size_t i = 0; i < n; i++)
        metric_stat_add(&stat, metric_of(s->metric, &c->outputs[i]));
    s->list[sample] =
        (struct scored){sample, metric_stat_mean(&stat), s->metric,
                        arena_copy(job_arena(s->d->job), c->outputs, n * sizeof *c->outputs)};
    return 0;
}

static int worst_first(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (metric_better(x->metric, x->score, y->score))
        return 1;
    return metric_better(x->metric, y->score, x->score) ? -1 : x->sample - y->sample;
}

static void draw(const struct selecting *s, int n, struct buf *b)
{
    int shown = n < SHOWN_MAX ? n : SHOWN_MAX,
        width = shown * BAR < LEAST_WIDTH ? LEAST_WIDTH : shown * BAR;
    const char *metric = metric_rows[s->metric].name;
    struct chart c = {.b = b,
                      .left = LEFT,
                      .top = TOP,
                      .width = width,
                      .height = PANEL,
                      .x0 = -0.5,
                      .x1 = shown - 0.5,
                      .y0 = INFINITY,
                      .y1 = -INFINITY};
    for (int i = 0; i < shown; i++) {
        double v = s->list[i].score;
        c.y0 = fmin(c.y0, isinf(v) ? NAN : v);
        c.y1 = fmax(c.y1, isinf(v) ? NAN : v);
    }
    if (!(c.y0 <= c.y1))
        c.y0 = c.y1 = 0;
    chart_pad(&c);
    svg_begin(b, LEFT + width + RIGHT, HEIGHT, "Most sensitive samples",
              arena_printf(job_arena(s->d->job),
                           "%s of the outputs, quantized against float; %d worst", metric, shown));
    chart_axes(&c, "", metric, false);
    for (int i = 0; i < shown; i++) {
        double x = chart_x(&c, i), bottom = c.top + c.height;
        if (!isfinite(s->list[i].score))
            continue;
        svg_line(b, x, chart_y(&c, s->list[i].score), x, bottom, "stroke=\"#bbb\"");
        chart_dot(&c, i, s->list[i].score, "fill=\"" SVG_BLUE "\"");
        svg_text(b, x + 3, bottom + 13, 10, "end", -50, 24,
                 s->d->data->sample_names[s->list[i].sample]);
    }
    svg_end(b);
}

static json_t *sample_json(const struct selecting *s, const struct scored *v)
{
    const struct graph *g = s->d->graph;
    json_t *outputs = json_object();
    for (int o = 0; o < g->n_outputs; o++)
        json_object_set_new(outputs, g->values[g->outputs[o]].name,
                            json_real_or_null(metric_of(s->metric, &v->outputs[o])));
    return json_pack("{s:i, s:s, s:o, s:o}", "index", v->sample, "sample",
                     s->d->data->sample_names[v->sample], "score", json_real_or_null(v->score),
                     "outputs", outputs);
}

int sensitive_samples(struct debugging *d, json_t **ret, struct err *e)
{
    struct selecting s = {.d = d};
    int n = debug_samples(d, "samples", 0), keep = (int)json_int(d->options, "num", 10);
    struct compare c = {.graph = d->graph,
                        .data = d->data,
                        .n_plans = 1,
                        .n_samples = n,
                        .plans = &d->plan,
                        .take = take,
                        .ctx = &s};
    s.list = arena_array(job_arena(d->job), (size_t)n + 1, sizeof *s.list);
    if (debug_metric(d->options, "metric", &s.metric, e) || compare_run(d->job, &c, "samples", e))
        return -1;
    qsort(s.list, (size_t)n, sizeof *s.list, worst_first);
    keep = keep < n ? keep : n;
    struct buf b;
    buf_init(&b, SVG_MAX);
    draw(&s, keep, &b);
    int rc = debug_file(d, "sensitive_samples.svg", "image/svg+xml", &b, e);
    buf_done(&b);
    json_t *list = json_array();
    for (int i = 0; i < keep; i++)
        json_array_append_new(list, sample_json(&s, &s.list[i]));
    *ret = json_pack("{s:s, s:i, s:o}", "metric", metric_rows[s.metric].name, "of", n, "samples",
                     list);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, sensitive_samples, ret_result, e);
}

extern const struct job_kind job_sensitive_samples;
const struct job_kind job_sensitive_samples = {
    .name = "select-sensitive-samples",
    .run = run,
    .text = "Finds the samples whose outputs lose most by quantization.",
};
