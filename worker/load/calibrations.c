#include "worker/load/calibrations.h"

#include <math.h>
#include <string.h>

#include "worker/load/build.h"
#include "worker/load/fold_weight.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/plan.h"

static bool is_calibration(const struct node *n)
{
    return !strcmp(n->op_type, CALIBRATION_OP) && !strcmp(n->domain, HORIZON);
}

bool calibrations_any(const struct graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (is_calibration(&g->nodes[i]))
            return true;
    return false;
}

/* Files hold w·r of a weight behind an activation with one scale a channel. */
static int unfold(struct build *b, const struct graph *g, const struct node *n, struct err *e)
{
    const struct calibration_attrs *c = n->attr;
    const struct value *v = &g->values[n->in[0]];
    if (!c->fold.n)
        return 0;
    if (v->producer >= 0 || !v->type.data || v->n_readers != 1)
        return err_set(e, ERR_BAD_MODEL, n->name, "Only a constant of its own can be folded.");
    if (unfold_weight(&v->type, c->fold.v, (int)c->fold.n, b->arena, &b->values[n->in[0]].type, e))
        return err_in(e, n->name);
    return 0;
}

/* A graph output that is taken behind calibrations is what they calibrate. */
static int behind_calibrations(const struct graph *g, int v)
{
    while (g->values[v].producer >= 0 && is_calibration(&g->nodes[g->values[v].producer]))
        v = g->nodes[g->values[v].producer].in[0];
    return v;
}

int calibrations_strip(const struct graph *g, struct graph **ret, struct err *e)
{
    struct build *b = build_from(g, g->arena);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (!is_calibration(n))
            continue;
        if (n->out[0] < 0)
            return err_set(e, ERR_BAD_MODEL, n->name, "This calibration has no output.");
        if (unfold(b, g, n, e))
            return -1;
        build_use(b, n->out[0], n->in[0]);
        build_drop(b, i, -1, "removed");
    }
    for (int i = 0; i < b->n_outputs; i++)
        b->outputs[i] = behind_calibrations(g, b->outputs[i]);
    return build_freeze(b, ret, e);
}

struct import {
    const struct graph *from, *to;
    struct plan *plan;
    int *calib; /* per value of `from`: the calibration that it is the output of, or -1 */
    struct err *e;
};

static const float *floats_copy(struct arena *a, const float *v, size_t n)
{
    return n ? arena_copy(a, v, n * sizeof *v) : NULL;
}

/* [lo, hi] of a tensor, or T along an axis with the zero point of unsigned values. */
static bool is_affine(const struct calibration_attrs *c)
{
    if (c->axis == CALIBRATION_PER_TENSOR)
        return c->thresholds.n == 2;
    return c->zero_point.n && c->zero_point.v[0] != 0;
}

static bool is_weight(const struct calibration_attrs *c)
{
    if (c->tensor_type)
        return !strcmp(c->tensor_type, "weight");
    for (size_t i = 0; i < c->info.n; i++)
        if (!strcmp(c->info.v[i], "weight"))
            return true;
    return false;
}

static int check_thresholds(const struct import *m, const struct node *n, const struct calib *k)
{
    const struct tensor *t = &m->to->values[k->value].type;
    int rank = t->type ? t->rank : TENSOR_RANK_MAX;
    if (k->axis < -1 || k->axis >= rank)
        return err_set(m->e, ERR_BAD_MODEL, n->name, "Axis %d is not one of the tensor.", k->axis);
    int64_t channels = t->type && k->axis >= 0 ? t->dims[k->axis] : -1;
    int most = k->affine && k->axis < 0 ? 2 : 1;
    bool fits = k->axis < 0 ? k->n_thresholds <= most
                            : channels < 0 || !k->n_thresholds || k->n_thresholds == channels;
    return fits ? 0
                : err_set(m->e, ERR_BAD_MODEL, n->name, "%d thresholds do not fit the tensor.",
                          k->n_thresholds);
}

/* A scale that was fixed without a threshold says the threshold. */
static void threshold_from_scale(struct arena *a, const struct calibration_attrs *c,
                                 struct calib *k)
{
    float steps = k->qtype == Q_INT16 ? 32767 : 127;
    float *t = arena_array(a, c->scales.n, sizeof *t);
    for (size_t i = 0; i < c->scales.n; i++)
        t[i] = c->scales.v[i] * steps;
    k->thresholds = t;
    k->n_thresholds = (int)c->scales.n;
}

static int import_one(struct import *m, const struct node *n)
{
    const struct calibration_attrs *c = n->attr;
    struct arena *a = m->plan->arena;
    struct calib *k = &m->plan->calibs[m->plan->n_calibs];
    int parent = m->calib[n->in[0]], value = n->in[0];
    const char *source = parent >= 0 ? m->to->values[m->plan->calibs[parent].value].name
                                     : m->from->values[value].name;
    *k = (struct calib){
        .name = n->name,
        .value = graph_value(m->to, source),
        .parent = parent,
        .kind = is_weight(c) ? CALIB_WEIGHT : CALIB_FEATURE,
        .on = !strcmp(c->on, "ON"),
        .fixed_threshold = c->constant == CALIBRATION_FIXED_THRESHOLD,
        .fixed_scale = c->constant == CALIBRATION_FIXED_SCALE,
        .affine = is_affine(c),
        .axis = c->axis == CALIBRATION_PER_TENSOR ? -1 : (int)c->axis,
        .group = (int)c->group,
        .n_thresholds = (int)c->thresholds.n,
        .thresholds = floats_copy(a, c->thresholds.v, c->thresholds.n),
        .dequantize_scale = c->dequantize_scale,
        .n_fold = (int)c->fold.n,
        .fold = floats_copy(a, c->fold.v, c->fold.n),
    };
    qtype_parse(c->qtype, &k->qtype);
    if (!k->n_thresholds && k->fixed_scale && c->scales.n)
        threshold_from_scale(a, c, k);
    if (k->value < 0)
        return err_set(m->e, ERR_BAD_MODEL, n->name, "Nothing uses what this calibrates.");
    m->calib[n->out[0]] = m->plan->n_calibs++;
    return check_thresholds(m, n, k);
}

static void import_ports(struct import *m, const struct node *n)
{
    const struct node *to = &m->to->nodes[graph_node(m->to, n->name)];
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0)
            m->plan->port[to->first_port + i] = m->calib[n->in[i]];
}

/* In the order of their values; sorting is stable, so a child stays behind its parent. */
static void sort_calibs(struct plan *p, struct arena *a)
{
    int n = p->n_calibs, at = 0;
    int *to = arena_array(a, (size_t)n + 1, sizeof *to);
    struct calib *sorted = arena_array(p->arena, (size_t)n + 1, sizeof *sorted);
    int *count = arena_array(a, (size_t)p->graph->n_values + 1, sizeof *count);
    for (int i = 0; i < n; i++)
        count[p->calibs[i].value]++;
    for (int v = 0; v < p->graph->n_values; v++) {
        int here = count[v];
        count[v] = at;
        at += here;
    }
    for (int i = 0; i < n; i++)
        sorted[to[i] = count[p->calibs[i].value]++] = p->calibs[i];
    p->calibs = sorted;
    plan_renumber(p, to);
}

/* Graph outputs that the file takes behind a calibration. */
static void import_outputs(struct import *m)
{
    for (int i = 0; i < m->from->n_outputs && i < m->to->n_outputs; i++)
        m->plan->output[i] = m->calib[m->from->outputs[i]];
}

int calibrations_plan(const struct graph *original, const struct graph *stripped, struct plan **ret,
                      struct err *e)
{
    struct arena scratch = ARENA_INIT;
    struct import m = {.from = original, .to = stripped, .e = e};
    int rc = 0;
    m.plan = plan_new(stripped, stripped->arena, original->n_nodes);
    m.calib = arena_array(&scratch, (size_t)original->n_values + 1, sizeof *m.calib);
    for (int v = 0; v < original->n_values; v++)
        m.calib[v] = -1;
    for (int i = 0; i < original->n_nodes && !rc; i++)
        if (is_calibration(&original->nodes[i]))
            rc = import_one(&m, &original->nodes[i]);
        else
            import_ports(&m, &original->nodes[i]);
    import_outputs(&m);
    if (!rc)
        sort_calibs(m.plan, &scratch);
    arena_done(&scratch);
    *ret = rc ? NULL : m.plan;
    return rc;
}
