/* plot-acc-error: how the error grows from node to node, with parts of the model quantized. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/debug.h"
#include "worker/jobs/node_errors.h"
#include "worker/jobs/svg.h"

enum {
    WIDTH = 1180,
    HEIGHT = 620,
    LEFT = 90,
    RIGHT = 250,
    TOP = 70,
    PANEL = 380,
    NAMES_SHOWN = 36,
    NAME_KEPT = 28,
    SERIES_MAX = 64
};

static const struct json_field options_fields[] = {{"quantize_node", JSON_K_ANY, 0, 0, 0},
                                                   {"non_quantize_node", JSON_K_ANY, 0, 0, 0},
                                                   {"metric", JSON_K_STRING, 0, 1, 32},
                                                   {"average_mode", JSON_K_BOOL, 0, 0, 0},
                                                   {0}};

struct series {
    const char *name;
    bool *on; /* calibrations */
};
struct curves {
    struct debugging *d;
    enum metric metric;
    int n, n_nodes;
    struct series *list;
    struct metric_stat *stats; /* series × node */
    double *y;                 /* the same, as means */
};

/* ---- what is quantized ---- */

static int add_series(struct curves *c, const json_t *names, bool invert, const char *pointer,
                      struct err *e)
{
    struct arena *a = job_arena(c->d->job);
    struct series *s = &c->list[c->n++];
    size_t n = json_is_array(names) ? json_array_size(names) : 1;
    s->name = invert ? "without " : "";
    s->on = arena_array(a, (size_t)c->d->plan->n_calibs + 1, sizeof *s->on);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(names) ? json_array_get(names, i) : names;
        const char *name = json_string_value(v);
        if (!name)
            return err_set(e, ERR_INVALID, pointer, "This must be a name.");
        if (invert && (!strcmp(name, "weight") || !strcmp(name, "activation")))
            return err_set(e, ERR_INVALID, pointer,
                           "Name nodes here: what is left is quantize_node's.");
        if (debug_calibs(c->d, name, pointer, s->on, e))
            return -1;
        s->name = arena_printf(a, "%s%s%s", s->name, i ? "+" : "", name);
    }
    for (int k = 0; invert && k < c->d->plan->n_calibs; k++)
        s->on[k] = !s->on[k];
    return 0;
}

/* [a, b]: each by itself; [[a], [b, c]]: each list together; "a": that one. */
static int read_series(struct curves *c, const char *key, bool invert, struct err *e)
{
    const json_t *v = json_object_get(c->d->options, key);
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    char at[96];
    if (!v || json_is_null(v))
        return 0;
    if (n > SERIES_MAX || !n)
        return err_set(e, ERR_INVALID, key, "There may be 1 to %d curves.", SERIES_MAX);
    for (size_t i = 0; i < n; i++) {
        snprintf(at, sizeof at, "/options/%s/%zu", key, i);
        if (add_series(c, json_is_array(v) ? json_array_get(v, i) : v, invert, at, e))
            return -1;
    }
    return 0;
}

static int read_all(struct curves *c, struct err *e)
{
    struct arena *a = job_arena(c->d->job);
    c->list = arena_array(a, 2 * SERIES_MAX + 1, sizeof *c->list);
    if (read_series(c, "quantize_node", false, e) || read_series(c, "non_quantize_node", true, e))
        return -1;
    if (c->n)
        return 0;
    bool *on = arena_array(a, (size_t)c->d->plan->n_calibs + 1, sizeof *on);
    for (int k = 0; k < c->d->plan->n_calibs; k++)
        on[k] = c->d->plan->calibs[k].on;
    c->list[c->n++] = (struct series){"everything as calibrated", on};
    return 0;
}

/* ---- numbers ---- */

static int take(void *ctx, int plan, int sample, const struct metric_sums *sums, struct err *e)
{
    struct curves *c = ctx;
    (void)sample, (void)e;
    for (int i = 0; i < c->n_nodes; i++)
        if (sums[i].n)
            metric_stat_add(&c->stats[plan * c->n_nodes + i], metric_of(c->metric, &sums[i]));
    return 0;
}

static int measure(struct curves *c, int samples, struct err *e)
{
    struct arena *a = job_arena(c->d->job);
    const struct plan *p = c->d->plan;
    const struct plan **plans = arena_array(a, (size_t)c->n, sizeof *plans);
    int *calibs = arena_array(a, (size_t)p->n_calibs + 1, sizeof *calibs);
    for (int s = 0; s < c->n; s++) {
        int n = 0;
        for (int k = 0; k < p->n_calibs; k++)
            if (c->list[s].on[k])
                calibs[n++] = k;
        plans[s] = plan_only(p, calibs, n, a);
    }
    size_t cells = (size_t)c->n * (size_t)c->n_nodes + 1;
    c->stats = arena_array(a, cells, sizeof *c->stats);
    c->y = arena_array(a, cells, sizeof *c->y);
    struct node_errors errors = {c->d->graph, c->d->data, c->n, samples, plans, take, c};
    if (node_errors_run(c->d->job, &errors, "accumulated", e))
        return -1;
    for (size_t i = 0; i + 1 < cells; i++) {
        double v = metric_stat_mean(&c->stats[i]);
        c->y[i] = isinf(v) ? NAN : v;
    }
    return 0;
}

/* ---- the picture ---- */

static const char *tail_of(struct arena *a, const char *name)
{
    size_t n = strlen(name);
    return n <= NAME_KEPT ? name : arena_printf(a, "...%s", name + n - NAME_KEPT + 3);
}

static void name_nodes(const struct curves *c, const struct chart *h)
{
    int step = (c->n_nodes + NAMES_SHOWN - 1) / NAMES_SHOWN;
    double bottom = h->top + h->height;
    for (int i = 0; i<c->n_nodes; i += step> 0 ? step : 1) {
        double x = chart_x(h, i);
        svg_line(h->b, x, bottom, x, bottom + 4, "stroke=\"#888\"");
        svg_text(h->b, x + 3, bottom + 13, 10, "end", -50, 0,
                 tail_of(job_arena(c->d->job), c->d->graph->nodes[i].name));
    }
}

static void draw(const struct curves *c, int samples, struct buf *b)
{
    struct arena *a = job_arena(c->d->job);
    double *x = arena_array(a, (size_t)c->n_nodes + 1, sizeof *x);
    struct chart h = {.b = b,
                      .left = LEFT,
                      .top = TOP,
                      .width = WIDTH - LEFT - RIGHT,
                      .height = PANEL,
                      .x0 = -0.5,
                      .x1 = c->n_nodes - 0.5,
                      .y0 = INFINITY,
                      .y1 = -INFINITY};
    for (int i = 0; i < c->n * c->n_nodes; i++) {
        h.y0 = fmin(h.y0, c->y[i]);
        h.y1 = fmax(h.y1, c->y[i]);
    }
    if (!(h.y0 <= h.y1))
        h.y0 = h.y1 = 0;
    chart_pad(&h);
    for (int i = 0; i < c->n_nodes; i++)
        x[i] = i;
    const char *metric = metric_rows[c->metric].name;
    svg_begin(b, WIDTH, HEIGHT, "Accumulated error",
              arena_printf(a,
                           "%s of each node's output, partly quantized against float, %d nodes in "
                           "topological order, %s %d sample%s",
                           metric, c->n_nodes, samples > 1 ? "mean over" : "of", samples,
                           samples > 1 ? "s" : ""));
    chart_axes(&h, "", metric, false);
    name_nodes(c, &h);
    for (int s = 0; s < c->n; s++) {
        const char *style = arena_printf(a, "stroke=\"%s\" stroke-width=\"1.5\"", svg_colour(s));
        chart_path(&h, x, c->y + (size_t)s * (size_t)c->n_nodes, c->n_nodes, style);
        chart_legend(&h, h.left + h.width + 16, h.top, s, svg_colour(s), c->list[s].name);
    }
    svg_end(b);
}

static json_t *curves_json(const struct curves *c, int samples)
{
    json_t *nodes = json_array(), *list = json_array();
    for (int i = 0; i < c->n_nodes; i++)
        json_array_append_new(nodes, json_string(c->d->graph->nodes[i].name));
    for (int s = 0; s < c->n; s++) {
        json_t *y = json_array();
        for (int i = 0; i < c->n_nodes; i++)
            json_array_append_new(y, json_real_or_null(c->y[s * c->n_nodes + i]));
        json_array_append_new(list, json_pack("{s:s, s:o}", "name", c->list[s].name, "scores", y));
    }
    return json_pack("{s:s, s:i, s:o, s:o}", "metric", metric_rows[c->metric].name, "samples",
                     samples, "nodes", nodes, "curves", list);
}

int plot_acc_error(struct debugging *d, json_t **ret, struct err *e)
{
    struct curves c = {.d = d, .n_nodes = d->graph->n_nodes};
    int samples = json_flag(d->options, "average_mode", 0) ? d->data->n_samples : 1;
    if (debug_metric(d->options, "metric", &c.metric, e) || read_all(&c, e) ||
        measure(&c, samples, e))
        return -1;
    struct buf b;
    buf_init(&b, SVG_MAX);
    draw(&c, samples, &b);
    const char *name = arena_printf(job_arena(d->job), "%s.svg", metric_rows[c.metric].name);
    int rc = debug_file(d, name, "image/svg+xml", &b, e);
    buf_done(&b);
    if (!rc)
        *ret = curves_json(&c, samples);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, plot_acc_error, ret_result, e);
}

extern const struct job_kind job_plot_acc_error;
const struct job_kind job_plot_acc_error = {
    .name = "plot-acc-error",
    .run = run,
    .text = "Draws how the error grows from node to node, with parts of the model quantized.",
};
