#include "worker/quant/edit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/quant/compensate.h"
#include "worker/quant/fakequant.h"

struct editing {
    struct plan *p;
    const struct march *march;
    bool *on; /* n_calibs: selected by the whole select so far */
    bool *by; /* n_calibs: selected by the key at hand */
    struct err *e;
};

/* ---- select ---- */

static int unknown(struct editing *x, const char *at, const char *what, const char *name,
                   const char *const *known, int n)
{
    char near[256];
    json_nearest(name, known, (size_t)n, near, sizeof near);
    return err_set(x->e, ERR_UNKNOWN_NAME, at, "There is no %s \"%.100s\"%s%s%s.", what, name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

static int by_name(struct editing *x, const char *name, const char *at)
{
    const struct plan *p = x->p;
    int k = plan_find(p, name);
    if (k >= 0) {
        x->by[k] = true;
        return 0;
    }
    const char **known = arena_array(p->arena, (size_t)p->n_calibs + 1, sizeof *known);
    for (int i = 0; i < p->n_calibs; i++)
        known[i] = p->calibs[i].name;
    return unknown(x, at, "calibration", name, known, p->n_calibs);
}

static int by_type(struct editing *x, const char *name, const char *at)
{
    static const char *const types[] = {[CALIB_FEATURE] = "feature", [CALIB_WEIGHT] = "weight"};
    bool known = false;
    for (int t = 0; t < 2; t++)
        for (int k = 0; k < x->p->n_calibs && !strcmp(name, types[t]); k++) {
            x->by[k] |= (int)x->p->calibs[k].kind == t;
            known = true;
        }
    return known ? 0 : unknown(x, at, "tensor type", name, types, 2);
}

static int find_node(struct editing *x, const char *name, const char *at)
{
    const struct graph *g = x->p->graph;
    int node = graph_node(g, name);
    if (node >= 0)
        return node;
    const char **known = arena_array(x->p->arena, (size_t)g->n_nodes + 1, sizeof *known);
    for (int i = 0; i < g->n_nodes; i++)
        known[i] = g->nodes[i].name;
    return unknown(x, at, "node", name, known, g->n_nodes);
}

static void take(struct editing *x, int k)
{
    if (k >= 0)
        x->by[k] = true;
}

static void take_inputs(struct editing *x, int node)
{
    for (int i = 0; i < x->p->graph->nodes[node].n_in; i++)
        take(x, plan_find_input(x->p, node, i));
}

static int by_inputs(struct editing *x, const char *name, const char *at)
{
    int node = find_node(x, name, at);
    if (node < 0)
        return -1;
    take_inputs(x, node);
    return 0;
}

static int by_output(struct editing *x, const char *name, const char *at)
{
    int node = find_node(x, name, at);
    if (node < 0)
        return -1;
    take(x, plan_find_output(x->p, node));
    return 0;
}

static int by_op_type(struct editing *x, const char *name, const char *at)
{
    const struct graph *g = x->p->graph;
    const char **known = arena_array(x->p->arena, (size_t)g->n_nodes + 1, sizeof *known);
    bool there = false;
    for (int i = 0; i < g->n_nodes; i++) {
        known[i] = g->nodes[i].op_type;
        if (strcmp(known[i], name))
            continue;
        take_inputs(x, i);
        there = true;
    }
    return there ? 0 : unknown(x, at, "operator type in the model", name, known, g->n_nodes);
}

static int by_ec_port(struct editing *x, const char *name, const char *at)
{
    const struct graph *g = x->p->graph;
    int node = find_node(x, name, at);
    for (int i = 0; node >= 0 && i < g->nodes[node].n_in; i++) {
        const struct march_row *row = march_row(x->march, g, &g->nodes[node], i);
        int k = row && row->may_compensate ? plan_find_input(x->p, node, i) : -1;
        if (k < 0 || (i > 0 && x->p->calibs[k].kind != CALIB_WEIGHT))
            continue;
        take(x, k);
        if (i == 0 && compensate_lifts_output(g, node))
            take(x, plan_find_output(x->p, node));
    }
    return node < 0 ? -1 : 0;
}

static const struct {
    const char *key;
    int (*select)(struct editing *x, const char *name, const char *at);
} selectors[] = {
    {"name", by_name},        {"tensor_type", by_type},   {"inputs_of", by_inputs},
    {"output_of", by_output}, {"ec_port_of", by_ec_port}, {"inputs_of_op_type", by_op_type},
};

static const struct json_field select_fields[] = {
    {"name", JSON_K_ANY, 0, 0, 0},
    {"tensor_type", JSON_K_ANY, 0, 0, 0},
    {"inputs_of", JSON_K_ANY, 0, 0, 0},
    {"output_of", JSON_K_ANY, 0, 0, 0},
    {"ec_port_of", JSON_K_ANY, 0, 0, 0},
    {"inputs_of_op_type", JSON_K_ANY, 0, 0, 0},
    {0},
};

/* One name, or a list of them. */
static int select_by(struct editing *x, size_t selector, const json_t *v, const char *at)
{
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    char place[ERR_AT_MAX];
    memset(x->by, 0, (size_t)x->p->n_calibs * sizeof *x->by);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(v) ? json_array_get(v, i) : v;
        snprintf(place, sizeof place, json_is_array(v) ? "%s/%zu" : "%s", at, i);
        if (!json_is_string(one))
            return err_set(x->e, ERR_INVALID, place, "This must be a name, or a list of names.");
        if (selectors[selector].select(x, json_string_value(one), place))
            return -1;
    }
    for (int k = 0; k < x->p->n_calibs; k++)
        x->on[k] &= x->by[k];
    return 0;
}

static int select_all(struct editing *x, const json_t *select, const char *at)
{
    char place[ERR_AT_MAX];
    bool any = false;
    if (json_check(select, select_fields, at, x->e))
        return -1;
    for (int k = 0; k < x->p->n_calibs; k++)
        x->on[k] = true;
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        const json_t *v = json_object_get(select, selectors[i].key);
        json_pointer_add(place, sizeof place, at, selectors[i].key);
        if (v && select_by(x, i, v, place))
            return -1;
    }
    for (int k = 0; k < x->p->n_calibs; k++)
        any |= x->on[k];
    return any ? 0 : err_set(x->e, ERR_INVALID, at, "No calibration is selected.");
}

/* ---- set ---- */

/* Scales follow from the thresholds; what is kept of them is the largest of a folded activation. */
static void set_qtype(struct calib *k, enum qtype q)
{
    float max = 0;
    k->qtype = q;
    k->fixed_scale = false;
    if (!(k->dequantize_scale > 0) || (q != Q_INT8 && q != Q_INT16))
        return;
    for (int c = 0; c < k->n_thresholds; c++) {
        struct fq_param f;
        fq_of_calib(k, c, &f);
        max = f.scale > max ? f.scale : max;
    }
    k->dequantize_scale = max;
}

static int set_thresholds(struct editing *x, struct calib *k, const json_t *v, const char *at)
{
    size_t n = json_array_size(v);
    if ((int)n != k->n_thresholds)
        return err_set(x->e, ERR_INVALID, at, "%s has %d thresholds, not %zu.", k->name,
                       k->n_thresholds, n);
    if (k->dequantize_scale > 0)
        return err_set(x->e, ERR_UNSUPPORTED, at,
                       "The thresholds of %s are folded into weights: calibrate anew to change "
                       "them.",
                       k->name);
    float *t = arena_array(x->p->arena, n + 1, sizeof *t);
    bool ends = k->affine && k->axis < 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(v, i);
        t[i] = (float)json_number_value(one);
        if (!json_is_number(one) || !isfinite(t[i]) || (!ends && t[i] <= 0))
            return err_set(x->e, ERR_INVALID, at, "Thresholds are finite numbers above zero.");
    }
    if (ends && !(t[0] <= 0 && t[1] >= 0 && t[0] < t[1]))
        return err_set(x->e, ERR_INVALID, at, "[lo, hi] must hold zero, and lo be below hi.");
    k->thresholds = t;
    k->fixed_threshold = true;
    k->fixed_scale = false;
    return 0;
}

static const struct json_field set_fields[] = {
    {"qtype", JSON_K_STRING, 0, 0, 0},
    {"thresholds", JSON_K_ARRAY, 0, 1, 1e6},
    {"switch", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int set_all(struct editing *x, const json_t *set, const char *at)
{
    const char *qtype = json_str(set, "qtype", NULL), *on = json_str(set, "switch", NULL);
    const json_t *thresholds = json_object_get(set, "thresholds");
    char place[ERR_AT_MAX];
    enum qtype q = Q_INT8;
    if (json_check(set, set_fields, at, x->e))
        return -1;
    if (qtype && qtype_parse(qtype, &q)) {
        json_pointer_add(place, sizeof place, at, "qtype");
        return err_set(x->e, ERR_INVALID, place,
                       "This must be \"int8\", \"int16\", \"float16\" or \"float32\".");
    }
    if (on && strcmp(on, "ON") && strcmp(on, "OFF")) {
        json_pointer_add(place, sizeof place, at, "switch");
        return err_set(x->e, ERR_INVALID, place, "This must be \"ON\" or \"OFF\".");
    }
    if (!qtype && !on && !thresholds)
        return err_set(x->e, ERR_INVALID, at, "There is nothing to set.");
    json_pointer_add(place, sizeof place, at, "thresholds");
    for (int k = 0; k < x->p->n_calibs; k++) {
        struct calib *c = &x->p->calibs[k];
        if (x->on[k] && thresholds && set_thresholds(x, c, thresholds, place))
            return -1;
        if (x->on[k] && qtype)
            set_qtype(c, q);
        if (x->on[k] && on)
            c->on = !strcmp(on, "ON");
    }
    return 0;
}

/* ---- all together ---- */

static const struct json_field edit_fields[] = {
    {"select", JSON_K_OBJECT, 1, 0, 0},
    {"set", JSON_K_OBJECT, 1, 0, 0},
    {0},
};

static int edit_one(struct editing *x, const json_t *edit, const char *at)
{
    char select[ERR_AT_MAX], set[ERR_AT_MAX];
    if (!json_is_object(edit))
        return err_set(x->e, ERR_INVALID, at, "This must be an object with select and set.");
    json_pointer_add(select, sizeof select, at, "select");
    json_pointer_add(set, sizeof set, at, "set");
    if (json_check(edit, edit_fields, at, x->e) ||
        select_all(x, json_object_get(edit, "select"), select))
        return -1;
    return set_all(x, json_object_get(edit, "set"), set);
}

int plan_edit(const struct plan *p, const json_t *edits, const char *pointer, const struct march *m,
              struct arena *a, struct plan **ret, struct err *e)
{
    struct editing x = {.p = plan_copy(p, a), .march = m, .e = e};
    char at[ERR_AT_MAX];
    if (!json_is_array(edits))
        return err_set(e, ERR_INVALID, pointer, "Edits are a list of {\"select\", \"set\"}.");
    x.on = arena_array(a, (size_t)p->n_calibs + 1, sizeof *x.on);
    x.by = arena_array(a, (size_t)p->n_calibs + 1, sizeof *x.by);
    for (size_t i = 0; i < json_array_size(edits); i++) {
        snprintf(at, sizeof at, "%s/%zu", pointer, i);
        if (edit_one(&x, json_array_get(edits, i), at))
            return -1;
    }
    *ret = x.p;
    return 0;
}
