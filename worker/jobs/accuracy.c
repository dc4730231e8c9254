/* Accuracy over a data set, in float and quantized, and how sure their difference is. */
#include <math.h>
#include <stdlib.h>

#include "common/json.h"
#include "worker/jobs/labels.h"

#define NORMAL_95 1.959963984540054

/* Of the paired samples: right in float, quantized, in float only, quantized only. */
struct hits {
    int64_t exact, quantized, lost, gained;
};

struct accuracy {
    struct labels l;
    const struct dataset *d;
    int n_samples;
    struct hits top1, top5;
    struct area *areas; /* of a map: sample × 2 × classes */
};

struct accuracy *accuracy_new(const struct labels *l, const struct dataset *d, int n_samples)
{
    struct accuracy *a = xcalloc(1, sizeof *a);
    *a = (struct accuracy){.l = *l, .d = d, .n_samples = n_samples};
    if (l->map)
        a->areas = xcalloc((size_t)n_samples * 2 * (size_t)l->classes + 1, sizeof *a->areas);
    return a;
}

void accuracy_free(struct accuracy *a)
{
    if (a)
        free(a->areas);
    free(a);
}

static void add_hit(struct hits *h, bool exact, bool quantized)
{
    h->exact += exact;
    h->quantized += quantized;
    h->lost += exact && !quantized;
    h->gained += quantized && !exact;
}

static bool is_among(const int32_t *top, int n, int64_t label)
{
    for (int i = 0; i < n; i++)
        if (top[i] == label)
            return label >= 0;
    return false;
}

void accuracy_top(struct accuracy *a, int sample, const int32_t top[2][LABELS_TOP])
{
    int64_t label = tensor_int(a->d->labels, sample);
    add_hit(&a->top1, is_among(top[0], 1, label), is_among(top[1], 1, label));
    add_hit(&a->top5, is_among(top[0], LABELS_TOP, label), is_among(top[1], LABELS_TOP, label));
}

static struct area *areas_at(const struct accuracy *a, int sample, int which)
{
    return a->areas + ((size_t)sample * 2 + (size_t)which) * (size_t)a->l.classes;
}

void accuracy_areas(struct accuracy *a, int sample, const struct area *const areas[2])
{
    for (int which = 0; which < 2; which++)
        for (int c = 0; c < a->l.classes; c++)
            areas_at(a, sample, which)[c] = areas[which][c];
}

/* ---- top-1, top-5 ---- */

/*
 * 95 % confidence interval of the difference of paired proportions, quantized − float (Agresti and
 * Min 2005: half an observation added to each cell of the 2 × 2 table).
 */
static json_t *hits_interval(const struct accuracy *a, const struct hits *h)
{
    double n = (double)a->n_samples + 2, lost = (double)h->lost + 0.5;
    double gained = (double)h->gained + 0.5, diff = (gained - lost) / n;
    double half = NORMAL_95 * sqrt((lost + gained) / n - diff * diff) / sqrt(n);
    return json_pack("[f, f]", fmax(-1, diff - half), fmin(1, diff + half));
}

static json_t *score_json(const struct accuracy *a, const char *metric, const char *output,
                          double exact, double quantized, json_t *interval)
{
    return json_pack("{s:s, s:s, s:f, s:f, s:i, s:o, s:o}", "metric", metric, "output", output,
                     "float", exact, "quantized", quantized, "samples", a->n_samples, "relative",
                     exact > 0 ? json_real(quantized / exact) : json_null(), "difference_interval",
                     interval);
}

static json_t *hits_json(const struct accuracy *a, const struct hits *h, const char *metric,
                         const char *output)
{
    double n = a->n_samples;
    return score_json(a, metric, output, (double)h->exact / n, (double)h->quantized / n,
                      hits_interval(a, h));
}

/* ---- mean IoU ---- */

/* Over the classes that labels or output know; without sample `but` (-1: of all). */
static double mean_iou(const struct accuracy *a, int which, const struct area *all, int but)
{
    double sum = 0;
    int n = 0;
    for (int c = 0; c < a->l.classes; c++) {
        struct area v = all[c];
        if (but >= 0) {
            v.both -= areas_at(a, but, which)[c].both;
            v.either -= areas_at(a, but, which)[c].either;
        }
        if (!v.either)
            continue;
        sum += (double)v.both / (double)v.either;
        n++;
    }
    return n ? sum / n : 0;
}

static void sum_areas(const struct accuracy *a, int which, struct area *ret)
{
    for (int i = 0; i < a->n_samples; i++)
        for (int c = 0; c < a->l.classes; c++) {
            ret[c].both += areas_at(a, i, which)[c].both;
            ret[c].either += areas_at(a, i, which)[c].either;
        }
}

/* Mean IoU is no mean over samples: its error by the jackknife, a sample left out at a time. */
static json_t *iou_interval(const struct accuracy *a, struct area *const all[2])
{
    int n = a->n_samples;
    double sum = 0, squares = 0;
    double whole = mean_iou(a, 1, all[1], -1) - mean_iou(a, 0, all[0], -1);
    if (n < 2)
        return json_null();
    for (int i = 0; i < n; i++)
        sum += mean_iou(a, 1, all[1], i) - mean_iou(a, 0, all[0], i);
    for (int i = 0; i < n; i++) {
        double d = mean_iou(a, 1, all[1], i) - mean_iou(a, 0, all[0], i) - sum / n;
        squares += d * d;
    }
    double half = NORMAL_95 * sqrt(squares * (n - 1) / n);
    return json_pack("[f, f]", fmax(-1, whole - half), fmin(1, whole + half));
}

static json_t *classes_json(const struct accuracy *a, struct area *const all[2])
{
    json_t *list = json_array();
    for (int c = 0; c < a->l.classes; c++) {
        double iou[2];
        for (int w = 0; w < 2; w++)
            iou[w] = all[w][c].either ? (double)all[w][c].both / (double)all[w][c].either : NAN;
        json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "class", c, "float",
                                              json_real_or_null(iou[0]), "quantized",
                                              json_real_or_null(iou[1])));
    }
    return list;
}

static json_t *iou_json(const struct accuracy *a, const char *output)
{
    struct area *all[2];
    for (int w = 0; w < 2; w++) {
        all[w] = xcalloc((size_t)a->l.classes + 1, sizeof *all[w]);
        sum_areas(a, w, all[w]);
    }
    json_t *o = score_json(a, "mean-iou", output, mean_iou(a, 0, all[0], -1),
                           mean_iou(a, 1, all[1], -1), iou_interval(a, all));
    json_object_set_new(o, "classes", classes_json(a, all));
    free(all[0]);
    free(all[1]);
    return o;
}

json_t *accuracy_json(const struct accuracy *a, const char *output)
{
    if (!a || a->l.output < 0)
        return json_null();
    return a->l.map ? iou_json(a, output) : hits_json(a, &a->top1, "top-1", output);
}

json_t *accuracy_top5_json(const struct accuracy *a, const char *output)
{
    if (!a || a->l.output < 0 || a->l.map || a->l.classes <= LABELS_TOP)
        return json_null();
    return hits_json(a, &a->top5, "top-5", output);
}
