/* From what a survey has seen to a plan's thresholds, by one candidate (spec §2). */
#include "worker/quant/survey_inner.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "worker/quant/compensate.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/given.h"
#include "worker/quant/place.h"

#define FLOAT16_MAX 65504.0f

/* ---- what one tensor or channel gives ---- */

/* Quantiles stand in order of target and channel. */
static int first_quantile(const struct survey *s, int target, int channel)
{
    int from = 0, to = s->n_quantiles;
    while (from < to) {
        int middle = from + (to - from) / 2;
        const struct quantile *q = &s->quantiles[middle];
        if (q->target < target || (q->target == target && q->channel < channel))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The end of a tensor on one side, by the method. */
static float end_of(const struct survey *s, const struct calib_method *a, int target, int channel,
                    enum side side)
{
    const struct range *r = &s->seen->targets[target].ranges[channel];
    float up = r->max, down = -r->min;
    float most = side == SIDE_UP ? up : side == SIDE_DOWN ? down : up > down ? up : down;
    if (a->method != METHOD_MAX || a->max_percentile >= 1)
        return most;
    for (int i = first_quantile(s, target, channel); i < s->n_quantiles; i++) {
        const struct quantile *q = &s->quantiles[i];
        if (q->target != target || q->channel != channel)
            break;
        if (q->side == side && q->p == a->max_percentile)
            return q->value;
    }
    return most;
}

static float binned_end(const struct survey *s, const struct calib_method *a, int k, enum side side)
{
    const struct found *f = &s->found[k];
    float most = end_of(s, a, f->upper, 0, side);
    for (int i = 0; i < f->n_bins; i++) {
        const struct bins *b = &f->bins[i];
        if (b->num_bin != a->num_bin || b->max_num_bin != a->max_num_bin || !b->counts[side])
            continue;
        int used = b->bins; /* the ends of [lo, hi] differ: no empty bins behind the last */
        while (used > 1 && !b->counts[side][used - 1])
            used--;
        return a->method == METHOD_KL ? kl_threshold(b->counts[side], used, b->width, most)
                                      : mse_threshold(b->counts[side], used, b->width, most);
    }
    return most;
}

static float method_end(const struct survey *s, const struct calib_method *a, int k, enum side side)
{
    if (a->method == METHOD_KL || a->method == METHOD_MSE)
        return binned_end(s, a, k, side);
    return end_of(s, a, s->found[k].upper, 0, side);
}

static void set_thresholds(struct plan *p, struct calib *k, const float *v, int n, bool affine)
{
    k->thresholds = arena_copy(p->arena, v, (size_t)n * sizeof *v);
    k->n_thresholds = n;
    k->affine = affine;
}

static bool is_affine(const struct calib_method *a)
{
    return a->method == METHOD_MIN_MAX || (a->asymmetric && a->method != METHOD_FIXED);
}

static void seen_thresholds(const struct survey *s, const struct calib_method *a, struct plan *p,
                            int k)
{
    const struct range *r = &s->seen->targets[s->found[k].upper].ranges[0];
    float ends[2];
    if (!is_affine(a)) {
        ends[0] = method_end(s, a, k, SIDE_ABS);
        set_thresholds(p, &p->calibs[k], ends, 1, false);
        return;
    }
    ends[0] = r->min >= 0 ? 0 : -method_end(s, a, k, SIDE_DOWN);
    ends[1] = method_end(s, a, k, SIDE_UP);
    ends[0] = ends[0] < 0 ? ends[0] : 0;
    ends[1] = ends[1] > 0 ? ends[1] : 0;
    set_thresholds(p, &p->calibs[k], ends, 2, true);
}

/* A float constant on a feature port: its own range, never a percentile. */
static void constant_thresholds(const struct calib_method *a, struct plan *p, int k)
{
    const struct tensor *t = &p->graph->values[p->calibs[k].value].type;
    const float *x = t->data;
    float ends[2] = {0, 0}, t_max;
    for (int64_t i = 0, n = tensor_count(t); i < n; i++) {
        ends[0] = x[i] < ends[0] || isnan(x[i]) ? x[i] : ends[0];
        ends[1] = x[i] > ends[1] ? x[i] : ends[1];
    }
    t_max = isnan(ends[0]) || -ends[0] > ends[1] ? -ends[0] : ends[1];
    if (is_affine(a) && !isnan(t_max))
        set_thresholds(p, &p->calibs[k], ends, 2, true);
    else
        set_thresholds(p, &p->calibs[k], &t_max, 1, false);
}

/* ---- scales by channel ---- */

static bool is_own_weight(const struct resolved *r, const struct node *n)
{
    const struct graph *g = r->plan->graph;
    if (n->n_in < 2 || n->in[1] == VALUE_NONE)
        return false;
    int k = r->plan->port[n->first_port + 1];
    return k >= 0 && r->plan->calibs[k].kind == CALIB_WEIGHT &&
           g->values[n->in[1]].n_readers == 1 && g->values[n->in[1]].type.rank >= 2;
}

bool survey_folds(const struct resolved *r, const struct march *m, int k)
{
    const struct graph *g = r->plan->graph;
    const struct value *v = &g->values[r->plan->calibs[k].value];
    if (v->is_output || v->n_readers == 0 || v->type.rank < 2 || r->like[k] >= 0)
        return false;
    if (v->producer >= 0 && g->nodes[v->producer].op->traits & T_CONCAT)
        return false; /* one threshold with the Concat's inputs */
    for (int i = 0; i < v->n_readers; i++) {
        const struct node *n = &g->nodes[v->readers[i]];
        const struct march_row *row = march_row(m, g, n, 0);
        if (!row || !row->folds || r->plan->port[n->first_port] != k || !is_own_weight(r, n))
            return false;
        for (int in = 1; in < n->n_in; in++)
            if (n->in[in] == r->plan->calibs[k].value)
                return false;
    }
    return true;
}

static void channel_thresholds(const struct survey *s, const struct calib_method *a, struct plan *p,
                               int k)
{
    int target = s->found[k].upper_channels, n = s->seen->targets[target].channels;
    const struct range *whole = &s->seen->targets[s->found[k].upper].ranges[0];
    float *t = arena_array(p->arena, (size_t)n, sizeof *t);
    for (int c = 0; c < n; c++)
        t[c] = end_of(s, a, target, c, SIDE_ABS);
    set_thresholds(p, &p->calibs[k], t, n, a->asymmetric && whole->min >= 0);
    p->calibs[k].axis = 1;
}

/* After the thresholds are repaired: r of each channel for the weights of all readers. */
static void fold_scales(struct plan *p, int k)
{
    struct calib *c = &p->calibs[k];
    const struct graph *g = p->graph;
    float *r = arena_array(p->arena, (size_t)c->n_thresholds, sizeof *r), max = 0;
    for (int i = 0; i < c->n_thresholds; i++) {
        struct fq_param q;
        fq_of_calib(c, i, &q);
        r[i] = q.scale;
        max = r[i] > max ? r[i] : max;
    }
    for (int i = 0; i < c->n_thresholds; i++)
        r[i] /= max;
    c->dequantize_scale = max;
    const struct value *v = &g->values[c->value];
    for (int i = 0; i < v->n_readers; i++) {
        struct calib *w = &p->calibs[p->port[g->nodes[v->readers[i]].first_port + 1]];
        w->fold = r;
        w->n_fold = c->n_thresholds;
    }
}

/* ---- weights ---- */

static float fold_of(const struct calib *k, const struct tensor *w, int64_t i, int64_t inner)
{
    if (!k->n_fold)
        return 1;
    int64_t per_group = w->dims[1], groups = k->n_fold / per_group;
    int64_t group = i / inner / per_group * groups / w->dims[0];
    return k->fold[group * per_group + i / inner % per_group];
}

static void weight_thresholds(struct plan *p, int k, double factor)
{
    struct calib *c = &p->calibs[k];
    const struct tensor *t = &p->graph->values[c->value].type;
    const float *x = t->data;
    int64_t count = tensor_count(t), inner = 1, below = 1;
    int n = c->axis < 0 ? 1 : (int)t->dims[c->axis];
    for (int d = c->axis < 0 ? 0 : c->axis + 1; d < t->rank; d++)
        inner *= t->dims[d];
    for (int d = 2; d < t->rank; d++)
        below *= t->dims[d];
    float *max = arena_array(p->arena, (size_t)(n ? n : 1), sizeof *max);
    for (int64_t i = 0; i < count; i++) {
        float size = fabsf(x[i] * fold_of(c, t, i, below));
        int at = c->axis < 0 ? 0 : (int)(i / inner % n);
        max[at] = size > max[at] || isnan(size) ? size : max[at];
    }
    for (int i = 0; i < n; i++)
        max[i] = (float)(max[i] * factor);
    set_thresholds(p, c, max, n, false);
}

/* ---- loaded ---- */

/* The low part of a compensated weight, which is zero until the high part has its thresholds. */
static bool is_low_weight(const struct graph *g, int v)
{
    return g->values[v].n_readers == 1 && compensate_of_low(g, g->values[v].readers[0]) >= 0;
}

/* Its own name, or NULL: what is computed from another's thresholds has none. */
static const struct given_one *loaded_for(const struct survey *s, const struct plan *p, int k,
                                          const struct calib_method *a)
{
    bool weight = p->calibs[k].kind == CALIB_WEIGHT;
    bool asked = weight ? s->c->weight_load : a->method == METHOD_LOAD && s->r->like[k] < 0;
    return asked ? given_find(s->c->given, p->calibs[k].name) : NULL;
}

static void load_thresholds(const struct survey *s, struct plan *p, int k)
{
    const struct given_one *g = given_find(s->c->given, p->calibs[k].name);
    set_thresholds(p, &p->calibs[k], g->thresholds, g->n, g->affine);
    if (p->calibs[k].kind == CALIB_FEATURE)
        p->calibs[k].axis = g->axis;
}

/* As many as the calibration takes: 1, [lo, hi], or one a channel where that may be. */
static bool given_fits(const struct survey *s, const struct plan *p, int k,
                       const struct given_one *g)
{
    const struct calib *c = &p->calibs[k];
    const struct tensor *t = &p->graph->values[c->value].type;
    if (c->kind == CALIB_WEIGHT)
        return !g->affine && g->axis == c->axis && g->n == (c->axis < 0 ? 1 : t->dims[c->axis]);
    if (g->axis < 0)
        return g->affine ? g->n == 2 && g->thresholds[0] <= 0 && g->thresholds[1] >= 0 : g->n == 1;
    return g->axis == 1 && survey_folds(s->r, s->march, k) &&
           (t->dims[1] < 0 || g->n == t->dims[1]);
}

/* All that "load" asks for is there and fits. */
static int check_given(const struct survey *s, const struct plan *p,
                       const struct calib_method *const *method, struct err *e)
{
    for (int k = 0; k < p->n_calibs; k++) {
        bool weight = p->calibs[k].kind == CALIB_WEIGHT;
        if (weight ? !s->c->weight_load || is_low_weight(p->graph, p->calibs[k].value)
                   : method[k]->method != METHOD_LOAD || s->r->like[k] >= 0)
            continue;
        const char *at = weight ? "/quant_config/model_config/weight/calibration_type"
                                : "/quant_config/model_config/activation/calibration_type";
        const struct given_one *g = loaded_for(s, p, k, method[k]);
        if (!s->c->given)
            return err_set(e, ERR_INVALID, at,
                           "\"load\" takes thresholds from a calibrated model, or from the option "
                           "\"thresholds\": there is neither.");
        if (!g)
            return err_set(e, ERR_INVALID, at, "There are no thresholds for \"%.200s\" to load.",
                           p->calibs[k].name);
        if (!given_fits(s, p, k, g))
            return err_set(e, ERR_INVALID, at,
                           "The %d threshold%s given for \"%.200s\" do not fit it.", g->n,
                           g->n == 1 ? "" : "s", g->name);
    }
    return 0;
}

/* ---- all together ---- */

static float abs_largest(const struct range *r)
{
    return -r->min > r->max ? -r->min : r->max;
}

static float larger(float a, float b)
{
    return a > b ? a : b;
}

/* The ends of a calibration whichever way it has them: affine and symmetric may share a group. */
static void ends_of(const struct calib *k, float *lo, float *hi)
{
    *lo = k->affine ? k->thresholds[0] : -k->thresholds[0];
    *hi = k->affine ? k->thresholds[1] : k->thresholds[0];
}

/* A Concat's inputs and output take the largest of their thresholds. */
static void share_groups(struct plan *p, const int *group)
{
    for (int root = 0; root < p->n_calibs; root++) {
        float lo = 0, hi = 0, a, b;
        int members = 0;
        bool affine = false;
        for (int k = 0; k < p->n_calibs; k++) {
            if (group[k] != root || p->calibs[k].n_thresholds == 0)
                continue;
            ends_of(&p->calibs[k], &a, &b);
            lo = -larger(-lo, -a);
            hi = larger(hi, b);
            affine |= p->calibs[k].affine;
            members++;
        }
        for (int k = 0; k < p->n_calibs && members > 1; k++)
            if (group[k] == root && affine)
                set_thresholds(p, &p->calibs[k], (float[]){lo, hi}, 2, true);
            else if (group[k] == root)
                set_thresholds(p, &p->calibs[k], &hi, 1, false);
    }
}

static void warn(json_t *warnings, const char *name, int n, const char *what)
{
    if (warnings && n)
        json_array_append_new(
            warnings, json_sprintf("%s: %d threshold%s %s.", name, n, n == 1 ? "" : "s", what));
}

static float repair_one(float t, int *infinite, int *empty)
{
    if (isinf(t)) {
        ++*infinite;
        return t > 0 ? FLT_MAX : -FLT_MAX;
    }
    if (t > 0)
        return t;
    ++*empty;
    return 1;
}

/* Infinite becomes FLT_MAX, not above zero becomes 1, NaN is an error. */
static int repair(struct plan *p, int k, json_t *warnings, struct err *e)
{
    struct calib *c = &p->calibs[k];
    float *t = arena_copy(p->arena, c->thresholds, (size_t)c->n_thresholds * sizeof *t);
    int infinite = 0, empty = 0;
    bool ends = c->affine && c->axis < 0;
    for (int i = 0; i < c->n_thresholds; i++) {
        if (isnan(t[i]))
            return err_set(e, ERR_BAD_DATA, p->graph->values[c->value].name,
                           "A value of this tensor is NaN: it has no threshold.");
        if (!ends || isinf(t[i]))
            t[i] = repair_one(t[i], &infinite, &empty);
    }
    if (ends && t[0] == 0 && t[1] == 0) {
        t[1] = 1;
        empty++;
    }
    c->thresholds = t;
    warn(warnings, c->name, infinite, "infinite, set to the largest float");
    warn(warnings, c->name, empty, "not above zero, set to 1");
    return 0;
}

static void feature_thresholds(const struct survey *s, const struct calib_method *a, struct plan *p,
                               int k)
{
    bool constant = s->found[k].upper < 0;
    if (a->method == METHOD_FIXED)
        set_thresholds(p, &p->calibs[k], (float[]){1}, 1, false);
    else if (a->method == METHOD_LOAD)
        load_thresholds(s, p, k);
    else if (constant)
        constant_thresholds(a, p, k);
    else if (s->seen->targets[s->found[k].upper].channels == 0)
        set_thresholds(p, &p->calibs[k], (float[]){0}, 1, false); /* never computed */
    else if (a->per_channel && s->found[k].upper_channels >= 0 &&
             s->seen->targets[s->found[k].upper_channels].channels > 1)
        channel_thresholds(s, a, p, k);
    else
        seen_thresholds(s, a, p, k);
}

static void copy_thresholds(struct plan *p, int k, int from)
{
    const struct calib *f = &p->calibs[from];
    set_thresholds(p, &p->calibs[k], f->thresholds, f->n_thresholds, f->affine);
    p->calibs[k].axis = f->axis;
}

/* 1 for every channel of a weight. */
static void unit_thresholds(struct plan *p, int k)
{
    const struct calib *c = &p->calibs[k];
    int n = c->axis < 0 ? 1 : (int)p->graph->values[c->value].type.dims[c->axis];
    float *ones = arena_array(p->arena, (size_t)n + 1, sizeof *ones);
    for (int i = 0; i < n; i++)
        ones[i] = 1;
    set_thresholds(p, &p->calibs[k], ones, n, false);
}

/* float16 holds up to 65504; what is larger is cut off there. */
static void warn_of_float16(const struct survey *s, const struct plan *p, int k, json_t *warnings)
{
    const struct calib *c = &p->calibs[k];
    float most = 0;
    if (c->qtype != Q_FLOAT16)
        return;
    for (int i = 0; i < c->n_thresholds; i++)
        most = fabsf(c->thresholds[i]) > most ? fabsf(c->thresholds[i]) : most;
    if (s->found[k].upper >= 0 && s->seen && s->seen->targets[s->found[k].upper].channels)
        most = larger(most, abs_largest(&s->seen->targets[s->found[k].upper].ranges[0]));
    if (most > FLOAT16_MAX && warnings)
        json_array_append_new(warnings,
                              json_sprintf("%s: values up to %g are cut off at 65504 in float16.",
                                           c->name, (double)most));
}

static int features(const struct survey *s, const struct calib_method *const *method,
                    struct plan *p, json_t *warnings, struct err *e)
{
    int *group = arena_array(p->arena, (size_t)p->n_calibs + 1, sizeof *group);
    for (int k = 0; k < p->n_calibs; k++)
        if (p->calibs[k].kind == CALIB_FEATURE && s->r->like[k] < 0)
            feature_thresholds(s, method[k], p, k);
    place_groups(p, group);
    share_groups(p, group);
    for (int k = 0; k < p->n_calibs; k++) {
        if (p->calibs[k].kind != CALIB_FEATURE || s->r->like[k] >= 0)
            continue;
        if (repair(p, k, warnings, e))
            return -1;
        if (p->calibs[k].axis >= 0)
            fold_scales(p, k);
    }
    return 0;
}

static int weight(const struct survey *s, const struct calib_method *method, struct plan *p, int k,
                  json_t *warnings, struct err *e)
{
    if (is_low_weight(p->graph, p->calibs[k].value))
        unit_thresholds(p, k);
    else if (s->c->weight_load)
        load_thresholds(s, p, k);
    else if (method->method == METHOD_FIXED)
        unit_thresholds(p, k);
    else
        weight_thresholds(p, k, s->c->weight_percentile);
    return repair(p, k, warnings, e);
}

int survey_plan_each(const struct survey *s, const struct calib_method *method, const int *own,
                     struct arena *a, json_t *warnings, struct plan **ret, struct err *e)
{
    struct plan *p = plan_copy(s->r->plan, a);
    const struct calib_method **by = arena_array(a, (size_t)p->n_calibs + 1, sizeof *by);
    for (int k = 0; k < p->n_calibs; k++)
        by[k] = own && own[k] >= 0 ? &s->c->candidates[own[k]] : method;
    if (check_given(s, p, by, e) || features(s, by, p, warnings, e))
        return -1;
    for (int k = 0; k < p->n_calibs; k++) {
        if (p->calibs[k].kind == CALIB_WEIGHT && weight(s, method, p, k, warnings, e))
            return -1;
        if (p->calibs[k].kind == CALIB_FEATURE && s->r->like[k] >= 0)
            copy_thresholds(p, k, s->r->like[k]);
        warn_of_float16(s, p, k, warnings);
    }
    compensate_thresholds(p);
    *ret = p;
    return 0;
}

int survey_plan(const struct survey *s, const struct calib_method *method, struct arena *a,
                json_t *warnings, struct plan **ret, struct err *e)
{
    return survey_plan_each(s, method, NULL, a, warnings, ret, e);
}
