#include "worker/quant/place.h"

#include <string.h>

#include "worker/quant/compensate.h"

bool place_is_constant(const struct value *v)
{
    return v->producer < 0 && !v->is_input && v->type.data;
}

static struct port port_row(const struct op *op, int input)
{
    int i = input < OP_PORTS ? input : OP_PORTS - 1;
    if (op->traits & T_VARIADIC) {
        int last = OP_PORTS - 1;
        while (last > 0 && op->in[last].kind == P_NONE)
            last--;
        if (i > last)
            i = last;
    } else if (input >= OP_PORTS) {
        return (struct port)PLAIN_PORT;
    }
    return op->in[i];
}

struct port place_port(const struct graph *g, const struct node *n, int input)
{
    if (!n->op || input >= n->n_in || n->in[input] == VALUE_NONE ||
        g->values[n->in[input]].type.type != DT_F32)
        return (struct port)PLAIN_PORT;
    struct port p = port_row(n->op, input);
    if (p.kind == P_WEIGHT && p.axis == PORT_AXIS_BY_OP)
        p.axis = n->op->weight_axis(n);
    return p;
}

/* The sum and the difference that error compensation adds compute in float: no ports. */
static bool is_part(const struct graph *g, int node)
{
    return compensate_of_add(g, node) >= 0 || compensate_of_sub(g, node) >= 0;
}

bool place_is_port(const struct graph *g, const struct node *n, int input)
{
    if (is_part(g, (int)(n - g->nodes)))
        return false;
    enum port_kind kind = place_port(g, n, input).kind;
    return kind == P_FEATURE || kind == P_WEIGHT;
}

static bool has_trait(const struct node *n, unsigned traits)
{
    return n->op && n->op->traits & traits;
}

/* Could value v be a link of a chain: one reader, no graph output, made by one of `traits`? */
static bool is_link(const struct graph *g, int v, unsigned traits, const bool *off_device)
{
    if (v == VALUE_NONE)
        return false;
    const struct value *value = &g->values[v];
    return value->producer >= 0 && !value->is_output && value->n_readers == 1 &&
           !(off_device && off_device[value->producer]) &&
           compensate_of_add(g, value->producer) < 0 && /* fusion ends behind it */
           has_trait(&g->nodes[value->producer], traits);
}

void place_chains(const struct graph *g, const bool *off_device, bool *ret_inside)
{
    memset(ret_inside, 0, (size_t)g->n_values * sizeof *ret_inside);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (off_device && off_device[i])
            continue;
        if (compensate_of_add(g, i) >= 0) {
            ret_inside[n->in[0]] = ret_inside[n->in[1]] = true;
        } else if (has_trait(n, T_CHAIN_ADD)) {
            int fused = VALUE_NONE; /* of two such inputs the one that is made later */
            for (int k = 0; k < n->n_in; k++)
                if (is_link(g, n->in[k], T_CHAIN_HEAD, off_device) &&
                    (fused == VALUE_NONE ||
                     g->values[n->in[k]].producer > g->values[fused].producer))
                    fused = n->in[k];
            if (fused != VALUE_NONE)
                ret_inside[fused] = true;
        } else if (has_trait(n, T_CHAIN_ACT) && n->n_in > 0 &&
                   is_link(g, n->in[0], T_CHAIN_HEAD | T_CHAIN_ADD, off_device)) {
            ret_inside[n->in[0]] = true;
        }
    }
}

struct placing {
    const struct graph *g;
    const bool *off_device;
    bool *inside; /* of a chain */
    int *on;      /* the feature calibration of a value, or -1 */
    struct plan *p;
};

static bool holds_ports(const struct placing *s, int node)
{
    return s->g->nodes[node].op && !(s->off_device && s->off_device[node]) && !is_part(s->g, node);
}

/* Does a quantizable port read v as a feature? (A constant weight is none.) */
static bool read_as_feature(const struct placing *s, int v)
{
    const struct value *value = &s->g->values[v];
    for (int r = 0; r < value->n_readers; r++) {
        const struct node *n = &s->g->nodes[value->readers[r]];
        if (!holds_ports(s, value->readers[r]))
            continue;
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] != v)
                continue;
            enum port_kind kind = place_port(s->g, n, i).kind;
            if (kind == P_FEATURE || (kind == P_WEIGHT && !place_is_constant(value)))
                return true;
        }
    }
    return false;
}

/* Does v come from the sum of a compensated operator, where a fused chain was cut? */
static bool is_cut(const struct placing *s, int v)
{
    const struct value *value = &s->g->values[v];
    return value->producer >= 0 && value->n_readers == 1 && !value->is_output &&
           compensate_of_add(s->g, value->producer) >= 0;
}

/* A chain's end shows its own value although Relu and Clip keep values else. */
static bool makes_own(const struct placing *s, int node)
{
    const struct node *n = &s->g->nodes[node];
    if (is_part(s->g, node))
        return true;
    if (!holds_ports(s, node))
        return false;
    if (has_trait(n, T_CHAIN_ACT) && n->n_in > 0 && n->in[0] != VALUE_NONE &&
        (s->inside[n->in[0]] || is_cut(s, n->in[0])))
        return true;
    return has_trait(n, T_QUANT) && !has_trait(n, T_PRESERVES);
}

static struct calib *add_calib(struct placing *s, int v, const char *tail, enum calib_kind kind,
                               int axis)
{
    struct plan *p = s->p;
    struct calib *k = &p->calibs[p->n_calibs];
    *k = (struct calib){
        .name = arena_printf(p->arena, "%s%s_HzCalibration", s->g->values[v].name, tail),
        .value = v,
        .parent = -1,
        .kind = kind,
        .qtype = Q_INT8,
        .on = true,
        .axis = axis,
        .group = 1,
    };
    for (int n = 1; plan_find(p, k->name) >= 0; n++)
        k->name = arena_printf(p->arena, "%s_%d_HzCalibration", s->g->values[v].name, n);
    p->n_calibs++;
    return k;
}

static void add_feature(struct placing *s, int v)
{
    if (s->on[v] >= 0 || s->g->values[v].type.type != DT_F32 || !read_as_feature(s, v))
        return;
    s->on[v] = s->p->n_calibs;
    add_calib(s, v, "", CALIB_FEATURE, -1);
}

/* A constant that weights share along one axis is one calibration. */
static int weight_calib(struct placing *s, int v, int axis)
{
    struct plan *p = s->p;
    for (int i = 0; i < p->n_calibs; i++)
        if (p->calibs[i].value == v && p->calibs[i].kind == CALIB_WEIGHT &&
            p->calibs[i].axis == axis)
            return i;
    add_calib(s, v, "", CALIB_WEIGHT, axis);
    return p->n_calibs - 1;
}

/* The ports of one node; its constants get their calibrations on the way. */
static void place_node(struct placing *s, int node)
{
    const struct node *n = &s->g->nodes[node];
    for (int i = 0; holds_ports(s, node) && i < n->n_in; i++) {
        struct port port = place_port(s->g, n, i);
        if (port.kind != P_FEATURE && port.kind != P_WEIGHT)
            continue;
        int v = n->in[i];
        bool constant = place_is_constant(&s->g->values[v]);
        if (constant && port.kind == P_WEIGHT) {
            s->p->port[n->first_port + i] = weight_calib(s, v, port.axis);
            continue;
        }
        if (constant)
            add_feature(s, v);
        s->p->port[n->first_port + i] = s->on[v];
    }
}

static void place_outputs(struct placing *s, int node)
{
    const struct node *n = &s->g->nodes[node];
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o] != VALUE_NONE && !s->inside[n->out[o]] && makes_own(s, node))
            add_feature(s, n->out[o]);
}

struct plan *place(const struct graph *g, const bool *off_device, struct arena *a)
{
    struct arena tmp = ARENA_INIT;
    struct placing s = {.g = g, .off_device = off_device};
    s.inside = arena_array(&tmp, (size_t)g->n_values, sizeof *s.inside);
    s.on = arena_array(&tmp, (size_t)g->n_values, sizeof *s.on);
    for (int v = 0; v < g->n_values; v++)
        s.on[v] = -1;
    /* A value has at most one feature calibration, a port at most one weight's. */
    s.p = plan_new(g, a, g->n_values + g->n_ports);
    place_chains(g, off_device, s.inside);
    for (int i = 0; i < g->n_inputs; i++)
        add_feature(&s, g->inputs[i]);
    for (int i = 0; i < g->n_nodes; i++) {
        place_node(&s, i);
        place_outputs(&s, i);
    }
    arena_done(&tmp);
    return s.p;
}

struct plan *place_ends(const struct plan *p, enum qtype q, const bool *off_device, struct arena *a)
{
    const struct graph *g = p->graph;
    struct placing s = {.g = g, .p = plan_copy_room(p, a, g->n_outputs)};
    for (int i = 0; i < g->n_outputs; i++) {
        int v = g->outputs[i], from = g->values[v].producer;
        if (from < 0 || off_device[from] || g->values[v].type.type != DT_F32)
            continue;
        s.p->output[i] = s.p->n_calibs;
        for (int k = 0; k < i; k++)
            if (g->outputs[k] == v)
                s.p->output[i] = s.p->output[k];
        if (s.p->output[i] == s.p->n_calibs)
            add_calib(&s, v, place_on(p, v) < 0 ? "" : "_output", CALIB_FEATURE, -1)->qtype = q;
    }
    return s.p;
}

int place_on(const struct plan *p, int value)
{
    for (int i = 0; i < p->n_calibs; i++)
        if (p->calibs[i].value == value && p->calibs[i].parent < 0 &&
            p->calibs[i].kind == CALIB_FEATURE && !plan_is_output(p, i))
            return i;
    return -1;
}

static int root_of(const int *up, int k)
{
    while (up[k] != k)
        k = up[k];
    return k;
}

static void join(int *up, int a, int b)
{
    if (a < 0 || b < 0)
        return;
    a = root_of(up, a);
    b = root_of(up, b);
    up[a > b ? a : b] = a < b ? a : b;
}

void place_groups(const struct plan *p, int *ret)
{
    const struct graph *g = p->graph;
    for (int k = 0; k < p->n_calibs; k++)
        ret[k] = k;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (!has_trait(n, T_CONCAT))
            continue;
        int first = n->n_out > 0 && n->out[0] != VALUE_NONE ? place_on(p, n->out[0]) : -1;
        for (int k = 0; k < n->n_in; k++) {
            int in = plan_find_input(p, i, k);
            join(ret, first, in);
            first = first < 0 ? in : first;
        }
    }
    for (int k = 0; k < p->n_calibs; k++)
        ret[k] = root_of(ret, k);
}
