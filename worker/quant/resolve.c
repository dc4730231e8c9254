#include "worker/quant/resolve.h"

#include <string.h>

#include "worker/quant/compensate.h"
#include "worker/quant/place.h"

static bool is_float(enum qtype q)
{
    return q == Q_FLOAT16 || q == Q_FLOAT32;
}

/* The finer level wins; at one level the more precise type. */
static bool beats(struct wish a, struct wish b)
{
    return a.level != b.level ? a.level > b.level : a.qtype > b.qtype;
}

static void take_wish(struct wish *to, struct wish w)
{
    if (beats(w, *to))
        *to = w;
}

/* int8 and int16 requests never touch weights; float16 and float32 take them along. */
static struct wish for_calib(const struct calib *k, struct wish w)
{
    if (k->kind == CALIB_WEIGHT && !is_float(w.qtype))
        w.qtype = Q_INT8;
    return w;
}

static int port_of(const struct resolving *s, int node, int input)
{
    return s->g->nodes[node].first_port + input;
}

static bool holds_port(const struct resolving *s, int node, int input)
{
    return !s->off_device[node] && place_is_port(s->g, &s->g->nodes[node], input);
}

/* ---- requests ---- */

static void wish_ports(struct resolving *s)
{
    for (int i = 0; i < s->g->n_ports; i++)
        s->port[i] = (struct wish){s->config->all, LEVEL_DEFAULT};
    for (int i = 0; i < s->config->n_requests; i++) {
        const struct request *r = &s->config->requests[i];
        for (int k = 0; k < s->g->nodes[r->node].n_in && !r->compensate; k++)
            if (r->input == k || r->input == REQUEST_ALL)
                take_wish(&s->port[port_of(s, r->node, k)], (struct wish){r->qtype, r->level});
    }
}

/* What the search per layer raises, it raises for all that read it. */
static void wish_raised(struct resolving *s)
{
    for (int n = 0; s->config->raised && n < s->g->n_nodes; n++)
        for (int i = 0; i < s->g->nodes[n].n_in; i++) {
            int k = holds_port(s, n, i) ? plan_find_input(s->plan, n, i) : -1;
            if (k >= 0 && s->plan->calibs[k].kind == CALIB_FEATURE &&
                s->config->raised[s->plan->calibs[k].value])
                take_wish(&s->port[port_of(s, n, i)],
                          (struct wish){s->config->layer.qtype, LEVEL_SEARCH});
        }
}

/* The wish of the first port that reads a calibration replaces the zero it starts with. */
static void wish_calibs(struct resolving *s)
{
    bool *met = arena_array(s->arena, (size_t)s->plan->n_calibs, sizeof *met);
    for (int n = 0; n < s->g->n_nodes; n++)
        for (int i = 0; i < s->g->nodes[n].n_in; i++) {
            int k = holds_port(s, n, i) ? plan_find_input(s->plan, n, i) : -1;
            if (k < 0)
                continue;
            struct wish w = for_calib(&s->plan->calibs[k], s->port[port_of(s, n, i)]);
            if (!met[k])
                s->calib[k] = w;
            met[k] = true;
            take_wish(&s->calib[k], w);
        }
}

static void wish_outputs(struct resolving *s)
{
    for (int i = 0; i < s->config->n_requests; i++) {
        const struct request *r = &s->config->requests[i];
        int k = r->input == REQUEST_OUTPUT ? plan_find_output(s->plan, r->node) : -1;
        if (k >= 0)
            take_wish(&s->calib[k],
                      for_calib(&s->plan->calibs[k], (struct wish){r->qtype, r->level}));
    }
}

static bool meets_calib(const struct resolving *s, const struct request *r)
{
    if (s->off_device[r->node])
        return false;
    if (r->input == REQUEST_OUTPUT)
        return plan_find_output(s->plan, r->node) >= 0;
    for (int i = 0; i < s->g->nodes[r->node].n_in; i++)
        if ((r->input == i || r->input == REQUEST_ALL) && plan_find_input(s->plan, r->node, i) >= 0)
            return true;
    return false;
}

/* A single node that was named and has nothing to set: never in silence. */
static void warn_of_empty(struct resolving *s)
{
    for (int i = 0; i < s->config->n_requests; i++) {
        const struct request *r = &s->config->requests[i];
        if (r->level < LEVEL_NODE || meets_calib(s, r))
            continue;
        const char *text = arena_printf(
            s->arena, "%s: no calibration stands there (%s); the request has no effect.",
            r->pointer,
            s->off_device[r->node] ? "the operator runs on the CPU, in float"
                                   : "the node is fused or its tensors are not quantized");
        json_array_append_new(s->config->warnings, json_string(text));
    }
}

/* ---- the march ---- */

static const struct march_row *row_of(const struct resolving *s, int node, int port)
{
    return march_row(s->march, s->g, &s->g->nodes[node], port);
}

static bool raise_calib(struct resolving *s, int k, enum qtype to, const char *rule,
                        const char *text)
{
    if (k < 0 || s->calib[k].qtype >= to)
        return false;
    s->calib[k].qtype = to;
    s->cause[k] = (struct cause){rule, text};
    return true;
}

static bool raise_groups(struct resolving *s, const int *group)
{
    bool changed = false;
    for (int k = 0; k < s->plan->n_calibs; k++) {
        enum qtype q = s->calib[k].qtype, to = s->calib[group[k]].qtype;
        const char *text = "a Concat's inputs and output share one type, the widest asked for";
        changed |= raise_calib(s, group[k], q, "concat", text);
        changed |= raise_calib(s, k, to, "concat", text);
    }
    return changed;
}

/* Both inputs of Add, Sub, Mul take the wider type; a fused input has none. */
static bool raise_same_type(struct resolving *s, int node)
{
    enum qtype widest = Q_INT8;
    bool changed = false;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < s->g->nodes[node].n_in; i++) {
            int k = holds_port(s, node, i) ? plan_find_input(s->plan, node, i) : -1;
            if (k < 0)
                continue;
            if (pass == 0)
                widest = s->calib[k].qtype > widest ? s->calib[k].qtype : widest;
            else
                changed |= raise_calib(s, k, widest, "same-type",
                                       "both inputs of this operator have one type, the wider");
        }
    return changed;
}

/* A port that takes int16 only. */
static bool raise_ports(struct resolving *s, int node)
{
    bool changed = false;
    for (int i = 0; i < s->g->nodes[node].n_in; i++) {
        const struct march_row *row = holds_port(s, node, i) ? row_of(s, node, i) : NULL;
        if (row && row->allowed == Q16)
            changed |=
                raise_calib(s, plan_find_input(s->plan, node, i), Q_INT16, row->rule, row->text);
    }
    return changed;
}

static void raise_all(struct resolving *s)
{
    int *group = arena_array(s->arena, (size_t)s->plan->n_calibs, sizeof *group);
    place_groups(s->plan, group);
    for (bool changed = true; changed;) {
        changed = raise_groups(s, group);
        for (int i = 0; i < s->g->n_nodes; i++) {
            changed |= raise_ports(s, i);
            if (!s->off_device[i] && s->g->nodes[i].op->traits & T_SAMETYPE)
                changed |= raise_same_type(s, i);
        }
    }
}

/* A port that takes int8 only, on a tensor that is calibrated wider. */
static void limit_ports(struct resolving *s, int node)
{
    for (int i = 0; i < s->g->nodes[node].n_in; i++) {
        const struct march_row *row = holds_port(s, node, i) ? row_of(s, node, i) : NULL;
        int k = row && row->allowed == Q8 ? plan_find_input(s->plan, node, i) : -1;
        if (k < 0 || s->plan->calibs[k].kind == CALIB_WEIGHT)
            continue;
        int port = port_of(s, node, i);
        s->limited[port] = !is_float(s->port[port].qtype) && s->calib[k].qtype > Q_INT8;
    }
}

/* Is what a node's input 0 reads an integer, and if so which? Q_COUNT: float, or no calibration. */
static enum qtype reads(const struct resolving *s, int node)
{
    int k = s->g->nodes[node].n_in ? plan_find_input(s->plan, node, 0) : -1;
    if (k < 0)
        return Q_COUNT;
    if (s->limited[port_of(s, node, 0)])
        return Q_INT8;
    return is_float(s->calib[k].qtype) ? Q_COUNT : s->calib[k].qtype;
}

/* What stands on a value for its readers, and what a graph output is taken behind. */
static void limit_to_int8(struct resolving *s, int value, bool floats, const char *rule,
                          const char *text)
{
    for (int end = 0; end < 2; end++) {
        int k = value == VALUE_NONE ? -1 : end ? s->end[value] : s->on[value];
        if (k < 0 || s->calib[k].qtype == Q_INT8 || (is_float(s->calib[k].qtype) && !floats))
            continue;
        s->calib[k].qtype = Q_INT8;
        s->cause[k] = (struct cause){rule, text};
    }
}

/* What is left of a value is int8; so is the sum behind an operator that gives int8. */
static void limit_parts(struct resolving *s, int node)
{
    const struct node *n = &s->g->nodes[node];
    int of = compensate_of_add(s->g, node);
    if (compensate_of_sub(s->g, node) >= 0)
        limit_to_int8(s, n->out[0], false, "ec-low", "the low part of a compensated value is int8");
    else if (of >= 0 && !compensate_lifts_output(s->g, of))
        limit_to_int8(s, n->out[0], false, "ec-output",
                      "the output of an interpolating operator is int8 and cannot be compensated");
}

static void limit_outputs(struct resolving *s, int node)
{
    const struct node *n = &s->g->nodes[node];
    const struct march_row *row = s->off_device[node] ? NULL : row_of(s, node, MARCH_OUT);
    enum qtype in = row ? reads(s, node) : Q_COUNT;
    if (!row || row->allowed != Q8 || in == Q_COUNT || (row->reads_int8 && in != Q_INT8))
        return;
    for (int o = 0; o < n->n_out; o++)
        limit_to_int8(s, n->out[o], true, row->rule, row->text);
}

/* ---- second calibrations ---- */

struct seconds {
    struct plan *p;
    int *placed; /* p's calibration → the placed plan's, or -1 for a second one */
    int *like;   /* → the placed plan's whose thresholds it takes, or -1 */
};

/* The second calibration for what that port reads: one a tensor, shared by its limited ports. */
static int add_second(const struct resolving *s, struct seconds *to, int node, int input)
{
    const struct graph *g = s->g;
    int v = g->nodes[node].in[input], first = plan_find_input(s->plan, node, input);
    bool direct = s->plan->port[port_of(s, node, input)] == first;
    for (int k = 0; k < to->p->n_calibs; k++)
        if (to->placed[k] < 0 && to->p->calibs[k].value == v)
            return k;
    struct calib *k = &to->p->calibs[to->p->n_calibs];
    *k = s->plan->calibs[first];
    k->name = arena_printf(s->arena, direct ? "%s_calibrated_HzCalibration" : "%s_HzCalibration",
                           g->values[v].name);
    k->value = v;
    k->parent = direct ? first : -1;
    k->qtype = Q_INT8;
    to->placed[to->p->n_calibs] = -1;
    to->like[to->p->n_calibs] = first;
    return to->p->n_calibs++;
}

/* The low part of a computed value is taken from what the high port really gives. */
static void link_parts(const struct graph *g, struct plan *p)
{
    for (int i = 0; i < g->n_nodes; i++) {
        int of = compensate_of_sub(g, i);
        if (of >= 0)
            p->port[g->nodes[i].first_port + 1] =
                p->port[g->nodes[of].first_port + compensate_input(g, of)];
    }
}

/* Its thresholds follow from those of the high port: it is not observed. */
static void link_thresholds(const struct graph *g, struct seconds *t)
{
    for (int i = 0; i < g->n_nodes; i++) {
        int of = compensate_of_sub(g, i), input = of < 0 ? 0 : compensate_input(g, of);
        if (of < 0)
            continue;
        int low = t->p->port[g->nodes[compensate_low(g, of)].first_port + input];
        int high = t->p->port[g->nodes[of].first_port + input];
        if (low >= 0 && high >= 0)
            t->like[low] = high;
    }
}

/* Puts the appended second calibrations where they belong: new[k] is old k's place. */
static void sort_calibs(struct seconds *t, struct arena *a)
{
    int n = t->p->n_calibs;
    int *order = arena_array(a, (size_t)n, sizeof *order),
        *now = arena_array(a, (size_t)n, sizeof *now);
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && t->p->calibs[order[at - 1]].value > t->p->calibs[i].value; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int i = 0; i < n; i++)
        now[order[i]] = i;
    struct calib *calibs = arena_copy(a, t->p->calibs, (size_t)n * sizeof *calibs);
    int *placed = arena_copy(a, t->placed, (size_t)n * sizeof *placed);
    int *like = arena_copy(a, t->like, (size_t)n * sizeof *like);
    for (int i = 0; i < n; i++) {
        t->p->calibs[i] = calibs[order[i]];
        t->placed[i] = placed[order[i]];
        t->like[i] = like[order[i]] < 0 ? -1 : now[like[order[i]]];
    }
    plan_renumber(t->p, now);
}

static void add_seconds(const struct resolving *s, struct seconds *t)
{
    const struct graph *g = s->g;
    int most = s->plan->n_calibs + g->n_ports;
    t->p = plan_copy_room(s->plan, s->arena, g->n_ports);
    t->placed = arena_array(s->arena, (size_t)most, sizeof *t->placed);
    t->like = arena_array(s->arena, (size_t)most, sizeof *t->like);
    for (int k = 0; k < s->plan->n_calibs; k++) {
        int v = s->plan->calibs[k].value;
        t->p->calibs[k].qtype = s->calib[k].qtype;
        t->placed[k] = k;
        t->like[k] = s->end[v] == k ? s->on[v] : -1;
    }
    for (int n = 0; n < g->n_nodes; n++)
        for (int i = 0; i < g->nodes[n].n_in; i++)
            if (s->limited[port_of(s, n, i)])
                t->p->port[port_of(s, n, i)] = add_second(s, t, n, i);
    link_parts(g, t->p);
    sort_calibs(t, s->arena);
    link_thresholds(g, t);
}

static void start(struct resolving *s)
{
    const struct graph *g = s->g;
    s->off_device = arena_array(s->arena, (size_t)g->n_nodes, sizeof *s->off_device);
    march_off_device(s->march, g, s->off_device);
    s->plan = place(g, s->off_device, s->arena);
    if (s->config->output_given)
        s->plan = place_ends(s->plan, s->config->output, s->off_device, s->arena);
    s->port = arena_array(s->arena, (size_t)g->n_ports, sizeof *s->port);
    s->limited = arena_array(s->arena, (size_t)g->n_ports, sizeof *s->limited);
    s->calib = arena_array(s->arena, (size_t)s->plan->n_calibs, sizeof *s->calib);
    s->cause = arena_array(s->arena, (size_t)s->plan->n_calibs, sizeof *s->cause);
    s->on = arena_array(s->arena, (size_t)g->n_values, sizeof *s->on);
    s->end = arena_array(s->arena, (size_t)g->n_values, sizeof *s->end);
    for (int v = 0; v < g->n_values; v++)
        s->on[v] = s->end[v] = -1;
    for (int k = 0; k < s->plan->n_calibs; k++) {
        const struct calib *c = &s->plan->calibs[k];
        bool end = plan_is_output(s->plan, k);
        if (c->kind == CALIB_FEATURE)
            *(end ? &s->end[c->value] : &s->on[c->value]) = k;
        if (end)
            s->calib[k] = (struct wish){c->qtype, LEVEL_DEFAULT};
    }
}

void resolve(struct quant_config *c, const struct graph *g, const struct march *m, struct arena *a,
             struct resolved *ret)
{
    struct resolving s = {.config = c, .g = g, .march = m, .arena = a};
    struct seconds t;
    start(&s);
    wish_ports(&s);
    wish_raised(&s);
    wish_calibs(&s);
    wish_outputs(&s);
    warn_of_empty(&s);
    raise_all(&s);
    for (int i = 0; i < g->n_nodes; i++) {
        limit_parts(&s, i);
        limit_ports(&s, i);
        limit_outputs(&s, i);
    }
    add_seconds(&s, &t);
    *ret = (struct resolved){.plan = t.p, .like = t.like};
    ledger_make(&s, ret, t.placed, &ret->ledger);
}
