/* tensor-analysis: how well each tensor that a node reads, and its output, fit their types. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/gather.h"
#include "worker/jobs/svg.h"
#include "worker/quant/fakequant.h"

enum {
    WIDTH = 1000,
    ROW = 22,
    LEFT = 430,
    RIGHT = 70,
    TOP = 80,
    LEVELS = 1 << 16,
    NAME_SHOWN = 58
};

static const struct json_field options_fields[] = {
    {"node_names", JSON_K_ANY, 1, 0, 0}, {"data_num", JSON_K_INT, 0, 1, 1e9}, {0}};

/* ---- numbers ---- */

static int by_size(const void *a, const void *b)
{
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x > y) - (x < y);
}

/* Of an integer type: the share of its levels that occur, and of values at its ends. */
static void add_levels(json_t *o, const struct calib *k, const struct gathered *g)
{
    struct fq_param q;
    bool *seen = xcalloc(LEVELS, sizeof *seen);
    int64_t used = 0, ends = 0;
    fq_of_calib(k, 0, &q);
    for (int64_t i = 0; i < g->n; i++) {
        int64_t level = isnan(g->after[i]) ? q.zero_point
                                           : (int64_t)rintf(g->after[i] / q.scale) + q.zero_point;
        level = level < q.qmin ? q.qmin : level > q.qmax ? q.qmax : level;
        ends += level == q.qmin || level == q.qmax;
        used += !seen[level - q.qmin];
        seen[level - q.qmin] = true;
    }
    free(seen);
    json_object_set_new(o, "scale", json_real((double)q.scale));
    json_object_set_new(o, "levels_used", json_real((double)used / (q.qmax - q.qmin + 1)));
    json_object_set_new(o, "at_ends", json_real(g->n ? (double)ends / (double)g->n : 0));
}

static json_t *reduce(void *ctx, const struct subject *s, const struct gathered *g)
{
    struct debugging *d = ctx;
    struct metric_sums sums;
    int64_t zeros = 0;
    json_t *o = json_pack("{s:s, s:I, s:i}", "tensor", s->name, "elements", (json_int_t)g->n,
                          "samples", g->samples);
    metric_sum(g->before, g->after, g->n, &sums);
    for (int i = 0; i < METRIC_COUNT; i++)
        json_object_set_new(o, metric_rows[i].name,
                            json_real_or_null(metric_of((enum metric)i, &sums)));
    const struct calib *k = s->calib >= 0 ? &d->plan->calibs[s->calib] : NULL;
    if (k)
        json_object_set_new(o, "qtype", json_string(qtype_name(k->qtype)));
    if (k && k->n_thresholds && k->qtype <= Q_INT16 && (k->axis < 0 || k->n_thresholds == 1))
        add_levels(o, k, g);
    for (int64_t i = 0; i < g->n; i++)
        zeros += g->before[i] == 0;
    qsort(g->before, (size_t)g->n, sizeof *g->before, by_size);
    double most = g->n ? fabs((double)g->before[g->n - 1]) : 0;
    double usual = g->n ? fabs((double)g->before[(int64_t)(0.999 * (double)(g->n - 1))]) : 0;
    json_object_set_new(o, "largest", json_real_or_null(most));
    json_object_set_new(o, "p99_9", json_real_or_null(usual));
    json_object_set_new(o, "outlier_ratio", json_real_or_null(usual > 0 ? most / usual : NAN));
    json_object_set_new(o, "zeros", json_real(g->n ? (double)zeros / (double)g->n : 0));
    return o;
}

/* ---- which tensors ---- */

static bool add_once(struct subject *list, int *n, struct subject s)
{
    for (int i = 0; i < *n; i++)
        if (!strcmp(list[i].name, s.name))
            return false;
    list[(*n)++] = s;
    return true;
}

/* A node stands for the calibrations of its inputs and for its output. */
static int spread(struct debugging *d, const struct subject *s, int n, struct subject **ret)
{
    int most = 0, count = 0;
    for (int i = 0; i < n; i++)
        most += 1 + (s[i].node >= 0 ? d->graph->nodes[s[i].node].n_in : 0);
    *ret = arena_array(job_arena(d->job), (size_t)most + 1, sizeof **ret);
    for (int i = 0; i < n; i++) {
        for (int k = 0; s[i].node >= 0 && k < d->graph->nodes[s[i].node].n_in; k++) {
            int c = plan_find_input(d->plan, s[i].node, k);
            if (c >= 0)
                add_once(
                    *ret, &count,
                    (struct subject){d->plan->calibs[c].name, c, -1, d->plan->calibs[c].value});
        }
        add_once(*ret, &count, s[i]);
    }
    return count;
}

/* ---- the picture ---- */

static void draw(struct debugging *d, const json_t *list, struct buf *b)
{
    size_t n = json_array_size(list);
    struct chart c = {.b = b,
                      .left = LEFT,
                      .top = TOP,
                      .width = WIDTH - LEFT - RIGHT,
                      .height = (double)(n * ROW),
                      .x0 = 0,
                      .x1 = 1,
                      .y1 = 1};
    for (size_t i = 0; i < n; i++) {
        double v = 2 * json_num(json_array_get(list, i), "sqnr", 0);
        c.x1 = fmax(c.x1, v * 1.1);
        c.x0 = fmin(c.x0, v * 1.1);
    }
    svg_begin(b, WIDTH, TOP + (int)n * ROW + 60, "Signal to quantization noise of each tensor",
              arena_printf(job_arena(d->job), "tensors by their own calibration, outputs of nodes "
                                              "in the calibrated model; dB, more is better"));
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i), *v = json_object_get(o, "sqnr");
        double y = c.top + (double)(i * ROW),
               db = json_is_number(v) ? 2 * json_number_value(v) : NAN;
        const char *qtype = json_str(o, "qtype", "output");
        svg_text(b, LEFT - 10, y + 15, 11, "end", 0, NAME_SHOWN, json_str(o, "tensor", ""));
        if (isnan(db)) {
            svg_text(b, LEFT + 6, y + 15, 11, "start", 0, 0, "no error");
            continue;
        }
        double zero = chart_x(&c, 0), x = chart_x(&c, db);
        svg_rect(b, fmin(zero, x), y + 4, fabs(x - zero), ROW - 8,
                 !strcmp(qtype, "output") ? "fill=\"" SVG_GREEN "\"" : "fill=\"" SVG_BLUE "\"");
        svg_text(b, fmax(zero, x) + 5, y + 15, 11, "start", 0, 0,
                 arena_printf(job_arena(d->job), "%.1f dB %s", db, qtype));
    }
    svg_line(b, chart_x(&c, 0), c.top, chart_x(&c, 0), c.top + c.height, "stroke=\"#888\"");
    svg_end(b);
}

int tensor_analysis(struct debugging *d, json_t **ret, struct err *e)
{
    struct subject *s, *all;
    int n;
    json_t *list;
    if (debug_subjects(d, json_object_get(d->options, "node_names"), "/options/node_names", &s, &n,
                       e))
        return -1;
    n = spread(d, s, n, &all);
    if (gather_run(d, all, n, debug_samples(d, "data_num", 1), "tensors", reduce, d, &list, e))
        return -1;
    struct buf b;
    buf_init(&b, SVG_MAX);
    draw(d, list, &b);
    int rc = debug_file(d, "tensors.svg", "image/svg+xml", &b, e);
    buf_done(&b);
    *ret = json_pack("{s:o}", "tensors", list);
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, tensor_analysis, ret_result, e);
}

extern const struct job_kind job_tensor_analysis;
const struct job_kind job_tensor_analysis = {
    .name = "tensor-analysis",
    .run = run,
    .text = "Tells how well tensors fit the types that they are quantized to.",
};
