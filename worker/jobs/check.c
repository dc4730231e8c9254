/* check-config: what a quant_config gives on a graph, without data and without weights. */
#include <string.h>

#include "common/json.h"
#include "worker/jobs/calibration.h"
#include "worker/jobs/shapes.h"
#include "worker/load/model.h"
#include "worker/quant/compensate.h"
#include "worker/quant/place.h"
#include "worker/quant/resolve.h"

/* ---- cost ---- */

/* What a node's multiply-accumulates are done in. P_EC: the second operator of a compensated one,
 * whatever its types; P_CPU: outside of the march; P_NO_PORT: a node without ports. */
enum precision {
    P_INT8 = Q_INT8,
    P_INT16 = Q_INT16,
    P_FLOAT16 = Q_FLOAT16,
    P_FLOAT32 = Q_FLOAT32,
    P_EC,
    P_CPU,
    P_NO_PORT,
    PRECISIONS
};
static const char *const precision_names[PRECISIONS] = {
    [P_INT8] = "int8", [P_INT16] = "int16", [P_FLOAT16] = "float16",    [P_FLOAT32] = "float32",
    [P_EC] = "ec",     [P_CPU] = "cpu",     [P_NO_PORT] = "unquantized"};
/* Spec §4: an int16 feature costs twice the multiply-accumulates of int8. */
static const double int16_factor = 2;

struct costs {
    const struct graph *g;
    const struct plan *plan;
    const bool *off_device;
    int64_t macs[PRECISIONS];
    int nodes[PRECISIONS], unknown; /* nodes whose shapes are not known */
    double weighted;
};

/* The widest type that one of its ports reads; -1: it has no calibrated port. */
static int widest_port(const struct costs *c, int node)
{
    int widest = -1;
    for (int i = 0; i < c->g->nodes[node].n_in; i++) {
        bool is = place_is_port(c->g, &c->g->nodes[node], i);
        int k = is ? plan_find_input(c->plan, node, i) : -1;
        if (k >= 0 && (int)c->plan->calibs[k].qtype > widest)
            widest = (int)c->plan->calibs[k].qtype;
    }
    return widest;
}

static void add_node(struct costs *c, const struct shapes *s, int node)
{
    const struct node *n = &c->g->nodes[node];
    int64_t macs = shapes_macs(s, n);
    int widest = c->off_device[node] ? -1 : widest_port(c, node);
    bool moves = n->op && n->op->traits & T_VALUEFREE;
    enum precision p = widest >= 0 ? (enum precision)widest : P_NO_PORT;
    if (c->off_device[node] && !moves)
        p = P_CPU;
    if (widest >= 0 && compensate_of_low(c->g, node) >= 0)
        p = P_EC;
    c->nodes[p]++;
    c->unknown += macs < 0;
    if (macs <= 0)
        return;
    c->macs[p] += macs;
    if (widest == Q_INT8 || widest == Q_INT16)
        c->weighted += (double)macs * (widest == Q_INT16 ? int16_factor : 1);
}

static json_t *precision_json(const struct costs *c, enum precision p, int64_t total)
{
    return json_pack("{s:i, s:I, s:o}", "nodes", c->nodes[p], "macs", (json_int_t)c->macs[p],
                     "share", total ? json_real((double)c->macs[p] / (double)total) : json_null());
}

static json_t *costs_json(const struct costs *c)
{
    json_t *by = json_object();
    int64_t total = 0, on_device = c->macs[P_INT8] + c->macs[P_INT16];
    for (int p = 0; p < PRECISIONS; p++)
        total += c->macs[p];
    for (int p = 0; p < PRECISIONS; p++)
        json_object_set_new(by, precision_names[p], precision_json(c, (enum precision)p, total));
    return json_pack("{s:I, s:i, s:o, s:f, s:o}", "macs", (json_int_t)total, "unknown_nodes",
                     c->unknown, "precisions", by, "int16_factor", int16_factor, "relative",
                     on_device ? json_real(c->weighted / (double)on_device) : json_null());
}

static int count_cost(const struct resolved *r, const struct march *march, struct arena *a,
                      json_t **ret, struct err *e)
{
    const struct graph *g = r->plan->graph;
    bool *off = arena_array(a, (size_t)g->n_nodes + 1, sizeof *off);
    struct costs c = {.g = g, .plan = r->plan, .off_device = off};
    struct shapes s = {0};
    march_off_device(march, g, off);
    int rc = shapes_open(&s, g, e);
    for (int i = 0; i < g->n_nodes && !rc; i++)
        add_node(&c, &s, i);
    shapes_done(&s);
    *ret = rc ? NULL : costs_json(&c);
    return rc;
}

/* ---- what else it tells ---- */

/* Each rule once, in the order of the ledger, with the number of its lines. */
static json_t *rules_json(const struct ledger *l)
{
    json_t *list = json_array(), *seen = json_object();
    for (int i = 0; i < l->n; i++) {
        const char *rule = l->lines[i].rule;
        json_t *row = rule ? json_object_get(seen, rule) : NULL;
        if (!rule)
            continue;
        if (!row) {
            row = json_pack("{s:s, s:s, s:i}", "rule", rule, "text", l->lines[i].text, "ports", 0);
            json_object_set_new(seen, rule, row);
            json_array_append(list, row);
        }
        json_object_set_new(row, "ports", json_integer(json_int(row, "ports", 0) + 1));
    }
    json_decref(seen);
    return list;
}

static json_t *candidates_json(const struct quant_config *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->n_candidates; i++)
        json_array_append_new(list, calib_method_json(&c->candidates[i]));
    return list;
}

static json_t *compensated_json(const struct graph *g)
{
    json_t *list = json_array();
    for (int i = 0; i < g->n_nodes; i++)
        if (compensate_low(g, i) >= 0)
            json_array_append_new(list, json_string(g->nodes[i].name));
    return list;
}

static int check(struct job *j, const struct graph *g, json_t **ret, struct err *e)
{
    struct arena *a = job_arena(j);
    const struct march *march;
    struct quant_config *c;
    struct resolved r;
    json_t *cost;
    if (calibration_march(j, &march, e) ||
        config_parse(json_object_get(job_spec(j), "quant_config"), "/quant_config", g, march, a, &c,
                     e))
        return -1;
    resolve(c, c->graph, march, a, &r);
    int rc = count_cost(&r, march, a, &cost, e);
    if (!rc)
        *ret = json_pack("{s:s, s:o, s:O, s:o, s:o, s:o, s:o}", "march", march->name, "ledger",
                         ledger_json(&r.ledger, r.plan), "warnings", c->warnings, "rules",
                         rules_json(&r.ledger), "compensated", compensated_json(c->graph),
                         "candidates", candidates_json(c), "cost", cost);
    config_done(c);
    return rc;
}

/* The skeleton where there is one, else the whole model. */
static int open_graph(struct job *j, struct model **ret, struct err *e)
{
    const struct job_input *in = job_input(j, "skeleton");
    if (!in)
        return job_open_model(j, ret, e);
    return model_open(&(struct model_source){.path = in->path, .skeleton = true}, ret, e);
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m;
    (void)ret_verdict;
    if (open_graph(j, &m, e))
        return -1;
    int rc = check(j, m->float_graph, ret_result, e);
    model_free(m);
    return rc;
}

extern const struct job_kind job_check_config;
const struct job_kind job_check_config = {
    .name = "check-config",
    .internal = true,
    .run = run,
    .text = "Tells what a quant_config gives on a model: every port's type, rules and cost.",
};
