/* sensitivity-analysis: the worst nodes, raised to a wider type one after the other, and what the
 * outputs gain by each. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/compare.h"
#include "worker/jobs/debug.h"
#include "worker/jobs/svg.h"

enum { WIDTH = 1000, HEIGHT = 500, LEFT = 90, RIGHT = 240, TOP = 70, PANEL = 340 };

static const struct json_field options_fields[] = {
    {"metric", JSON_K_STRING, 0, 1, 32}, {"pick_threshold", JSON_K_REAL, 0, -1e30, 1e30},
    {"data_num", JSON_K_INT, 0, 1, 1e9}, {"sensitive_nodes", JSON_K_ANY, 0, 0, 0},
    {"qtype", JSON_K_STRING, 0, 1, 16},  {0}};

struct ladder {
    struct debugging *d;
    enum metric metric;
    enum qtype qtype;
    int n, samples; /* nodes to be raised */
    const char **names;
    struct metric_stat *stats; /* step (0: none) × output */
};

/* ---- which nodes ---- */

static void push_name(struct ladder *l, const json_t *name)
{
    l->names[l->n++] = arena_strdup(job_arena(l->d->job), json_string_value(name));
}

/* Those at the threshold or beyond it on the bad side, worst first. */
static int pick(struct ladder *l, struct err *e)
{
    double limit = json_num(l->d->options, "pick_threshold", 0.999);
    const char *metric = metric_rows[l->metric].name;
    json_t *found = NULL, *row;
    size_t i;
    if (debug_sensitivity(
            l->d, json_pack("{s:[s], s:i}", "metrics", metric, "data_num", l->samples), &found, e))
        return -1;
    const json_t *rows = json_object_get(found, "rows");
    l->names = arena_array(job_arena(l->d->job), json_array_size(rows) + 1, sizeof *l->names);
    json_array_foreach(rows, i, row)
    {
        const json_t *v = json_object_get(row, metric);
        if (json_is_number(v) && !metric_better(l->metric, json_number_value(v), limit))
            push_name(l, json_object_get(row, "node"));
    }
    json_decref(found);
    return 0;
}

static int read_nodes(struct ladder *l, struct err *e)
{
    const json_t *given = json_object_get(l->d->options, "sensitive_nodes");
    struct subject *s;
    if (!given || json_is_null(given))
        return pick(l, e);
    if (debug_subjects(l->d, given, "/options/sensitive_nodes", &s, &l->n, e))
        return -1;
    l->names = arena_array(job_arena(l->d->job), (size_t)l->n + 1, sizeof *l->names);
    for (int i = 0; i < l->n; i++)
        l->names[i] = s[i].name;
    return 0;
}

/* ---- steps ---- */

/* A plan for each step; step i has the first i nodes raised. */
static int make_plans(struct ladder *l, const struct plan **plans, struct err *e)
{
    struct arena *a = job_arena(l->d->job);
    bool *raised = arena_array(a, (size_t)l->d->plan->n_calibs + 1, sizeof *raised);
    for (int i = 0; i <= l->n; i++) {
        struct plan *p = plan_copy(l->d->plan, a);
        if (i && debug_calibs(l->d, l->names[i - 1], "/options/sensitive_nodes", raised, e))
            return -1;
        for (int k = 0; k < p->n_calibs; k++)
            if (raised[k] && p->calibs[k].qtype < l->qtype)
                p->calibs[k].qtype = l->qtype;
        plans[i] = p;
    }
    return 0;
}

static int take(void *ctx, int plan, int sample, const struct compared *c, struct err *e)
{
    struct ladder *l = ctx;
    int n = l->d->graph->n_outputs;
    (void)sample, (void)e;
    for (int i = 0; i < n; i++)
        metric_stat_add(&l->stats[plan * n + i], metric_of(l->metric, &c->outputs[i]));
    return 0;
}

static double score(const struct ladder *l, int step, int output)
{
    double v = metric_stat_mean(&l->stats[step * l->d->graph->n_outputs + output]);
    return isinf(v) ? NAN : v;
}

static int measure(struct ladder *l, struct err *e)
{
    struct arena *a = job_arena(l->d->job);
    size_t steps = (size_t)l->n + 1;
    const struct plan **plans = arena_array(a, steps, sizeof *plans);
    l->stats = arena_array(a, steps * (size_t)l->d->graph->n_outputs + 1, sizeof *l->stats);
    struct compare c = {.graph = l->d->graph,
                        .data = l->d->data,
                        .n_plans = l->n + 1,
                        .n_samples = l->samples,
                        .plans = plans,
                        .take = take,
                        .ctx = l};
    return make_plans(l, plans, e) || compare_run(l->d->job, &c, "raised", e) ? -1 : 0;
}

/* ---- what is told ---- */

static json_t *steps_json(const struct ladder *l)
{
    json_t *list = json_array();
    for (int i = 0; i <= l->n; i++) {
        json_t *outputs = json_object();
        for (int o = 0; o < l->d->graph->n_outputs; o++)
            json_object_set_new(outputs, l->d->graph->values[l->d->graph->outputs[o]].name,
                                json_real_or_null(score(l, i, o)));
        json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "raised", i, "node",
                                              i ? json_string(l->names[i - 1]) : json_null(),
                                              "outputs", outputs));
    }
    return list;
}

static void draw(const struct ladder *l, struct buf *b)
{
    struct arena *a = job_arena(l->d->job);
    const struct graph *g = l->d->graph;
    const char *metric = metric_rows[l->metric].name;
    double *x = arena_array(a, (size_t)l->n + 1, sizeof *x),
           *y = arena_array(a, (size_t)l->n + 1, sizeof *y);
    struct chart c = {.b = b,
                      .left = LEFT,
                      .top = TOP,
                      .width = WIDTH - LEFT - RIGHT,
                      .height = PANEL,
                      .x1 = l->n ? l->n : 1,
                      .y0 = INFINITY,
                      .y1 = -INFINITY};
    for (int i = 0; i <= l->n; i++)
        for (int o = 0; o < g->n_outputs; o++) {
            c.y0 = fmin(c.y0, score(l, i, o));
            c.y1 = fmax(c.y1, score(l, i, o));
        }
    if (!(c.y0 <= c.y1))
        c.y0 = c.y1 = 0;
    chart_pad(&c);
    svg_begin(
        b, WIDTH, HEIGHT, "Sensitive nodes raised one after the other",
        arena_printf(a, "%d nodes to %s, worst first; %s of the outputs, mean over %d sample%s",
                     l->n, qtype_name(l->qtype), metric, l->samples, l->samples == 1 ? "" : "s"));
    c.whole_x = true;
    chart_axes(&c, "nodes raised", metric, true);
    if (!l->n)
        svg_text(b, c.left + c.width / 2, c.top + 30, 13, "middle", 0, 0,
                 "No node is at the threshold or beyond it.");
    for (int o = 0; o < g->n_outputs; o++) {
        for (int i = 0; i <= l->n; i++) {
            x[i] = i;
            y[i] = score(l, i, o);
            if (!isnan(y[i]))
                chart_dot(&c, x[i], y[i], arena_printf(a, "fill=\"%s\"", svg_colour(o)));
        }
        chart_path(&c, x, y, l->n + 1,
                   arena_printf(a, "stroke=\"%s\" stroke-width=\"1.6\"", svg_colour(o)));
        chart_legend(&c, c.left + c.width + 16, c.top, o, svg_colour(o),
                     g->values[g->outputs[o]].name);
    }
    svg_end(b);
}

int sensitivity_analysis(struct debugging *d, json_t **ret, struct err *e)
{
    struct ladder l = {.d = d, .samples = debug_samples(d, "data_num", 1)};
    const char *qtype = json_str(d->options, "qtype", "float32");
    if (debug_metric(d->options, "metric", &l.metric, e))
        return -1;
    if (qtype_parse(qtype, &l.qtype))
        return err_set(e, ERR_INVALID, "/options/qtype", "There is no type \"%.40s\".", qtype);
    if (read_nodes(&l, e) || measure(&l, e))
        return -1;
    struct buf b;
    buf_init(&b, SVG_MAX);
    draw(&l, &b);
    int rc = debug_file(d, "sensitive_nodes.svg", "image/svg+xml", &b, e);
    buf_done(&b);
    if (!rc)
        *ret = json_pack("{s:s, s:s, s:i, s:o}", "metric", metric_rows[l.metric].name, "qtype",
                         qtype, "samples", l.samples, "steps", steps_json(&l));
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, sensitivity_analysis, ret_result, e);
}

extern const struct job_kind job_sensitivity_analysis;
const struct job_kind job_sensitivity_analysis = {
    .name = "sensitivity-analysis",
    .run = run,
    .text = "Raises the most sensitive nodes one after the other and measures the outputs.",
};
