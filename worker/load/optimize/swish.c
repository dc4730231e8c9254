/*
 * x·Sigmoid(x) becomes one HzSwish, and x·HardSigmoid(x) and x·Clip(x + 3, 0, 6) / 6 in each order
 * of its last two steps one HzHardSwish, with the name of the last node (spec §3). Every inner
 * value must be read by the next step only.
 */
#include <math.h>
#include <string.h>

#include "worker/load/optimize/edit.h"

enum { STEPS_MAX = 4 };

/* The nodes of a match, the last one first. */
struct match {
    int nodes[STEPS_MAX], n;
    int x; /* the value it is a function of */
};

static void step(struct match *m, int node)
{
    m->nodes[m->n++] = node;
}

/* Multiplication by 1/6 or division by 6, to the last bits of a float. */
static bool is_sixth(const struct edit *ed, const struct node *n, int *ret_in)
{
    float c;
    bool div = node_is(n, "Div");
    for (int i = 0; (div || node_is(n, "Mul")) && i < (div ? 1 : 2); i++)
        if (edit_scalar(ed->g, n, 1 - i, &c) && fabsf(div ? c - 6 : c * 6 - 1) < 1e-6f) {
            *ret_in = i;
            return true;
        }
    return false;
}

/* Is the node x + 3? */
static bool is_plus_three(const struct edit *ed, const struct node *n, int *ret_x)
{
    float c;
    for (int i = 0; node_is(n, "Add") && i < 2; i++)
        if (edit_scalar(ed->g, n, 1 - i, &c) && c == 3) {
            *ret_x = n->in[i];
            return true;
        }
    return false;
}

static bool is_clip_to_six(const struct edit *ed, const struct node *n)
{
    float low = node_float(n, "min", -INFINITY), high = node_float(n, "max", INFINITY);
    if (!node_is(n, "Clip"))
        return false;
    if (n->opset >= 11 && !(edit_scalar(ed->g, n, 1, &low) && edit_scalar(ed->g, n, 2, &high)))
        return false;
    return low == 0 && high == 6;
}

/* Clip(x + 3, 0, 6) made for this input alone. */
static bool match_relu6(const struct edit *ed, const struct node *n, int i, struct match *m)
{
    int clip = edit_sole_producer(ed, n, i);
    if (clip < 0 || !is_clip_to_six(ed, &ed->g->nodes[clip]))
        return false;
    int add = edit_sole_producer(ed, &ed->g->nodes[clip], 0);
    if (add < 0 || !is_plus_three(ed, &ed->g->nodes[add], &m->x))
        return false;
    step(m, clip);
    step(m, add);
    return true;
}

/* Clip(x + 3, 0, 6) / 6, or HardSigmoid with the numbers that say the same. */
static bool match_hard_gate(const struct edit *ed, const struct node *n, int i, struct match *m)
{
    int gate = edit_sole_producer(ed, n, i), in;
    if (gate < 0)
        return false;
    const struct node *g = &ed->g->nodes[gate];
    step(m, gate);
    if (node_is(g, "HardSigmoid")) {
        m->x = g->in[0];
        return fabsf(node_float(g, "alpha", 0.2f) * 6 - 1) < 1e-6f &&
               node_float(g, "beta", 0.5f) == 0.5f;
    }
    return is_sixth(ed, g, &in) && match_relu6(ed, g, in, m);
}

static bool match_gate(const struct edit *ed, const struct node *n, int i, struct match *m)
{
    int gate = edit_sole_producer(ed, n, i);
    if (gate < 0 || !node_is(&ed->g->nodes[gate], "Sigmoid"))
        return false;
    step(m, gate);
    m->x = ed->g->nodes[gate].in[0];
    return true;
}

typedef bool match_fn(const struct edit *ed, const struct node *n, int i, struct match *m);

/* Mul of x and a gate of x, either way round. */
static bool match_product(const struct edit *ed, int node, match_fn *gate, struct match *m)
{
    const struct node *n = &ed->g->nodes[node];
    for (int i = 0; node_is(n, "Mul") && i < 2; i++) {
        *m = (struct match){.nodes = {node}, .n = 1};
        if (gate(ed, n, i, m) && n->in[1 - i] == m->x)
            return true;
    }
    return false;
}

/* (x · Clip(x + 3, 0, 6)) / 6. */
static bool match_late_sixth(const struct edit *ed, int node, struct match *m)
{
    int in, mul;
    struct match inner;
    if (!is_sixth(ed, &ed->g->nodes[node], &in))
        return false;
    mul = edit_sole_producer(ed, &ed->g->nodes[node], in);
    if (mul < 0 || !match_product(ed, mul, match_relu6, &inner))
        return false;
    *m = (struct match){.nodes = {node}, .n = 1, .x = inner.x};
    for (int i = 0; i < inner.n; i++)
        step(m, inner.nodes[i]);
    return true;
}

static void replace(struct edit *ed, const struct match *m, const char *op_type)
{
    struct build *b = edit_builder(ed);
    build_import(b, HORIZON, 1);
    build_retype(b, m->nodes[0], HORIZON, op_type, build_opset(b, HORIZON), &m->x, 1);
    for (int i = 1; i < m->n; i++)
        build_drop(b, m->nodes[i], m->nodes[0], "fused");
    for (int i = 0; i < m->n; i++)
        edit_touch(ed, m->nodes[i]);
}

/* Float, and no scalar of higher rank has widened the shape on the way. */
static bool is_pointwise(const struct edit *ed, int node, int x)
{
    const struct tensor *in = &ed->g->values[x].type;
    const struct tensor *out = &ed->g->values[ed->g->nodes[node].out[0]].type;
    return in->type == DT_F32 && out->type == DT_F32 && in->rank == out->rank;
}

int pass_swish(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++) {
        struct match m;
        if (match_product(&ed, i, match_gate, &m) && is_pointwise(&ed, i, m.x))
            replace(&ed, &m, "HzSwish");
        else if ((match_product(&ed, i, match_hard_gate, &m) || match_late_sixth(&ed, i, &m)) &&
                 is_pointwise(&ed, i, m.x))
            replace(&ed, &m, "HzHardSwish");
    }
    return edit_done(&ed, ret);
}
