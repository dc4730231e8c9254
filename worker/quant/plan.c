#include "worker/quant/plan.h"

#include <string.h>

#include "worker/ops/op.h"

static const char *const qtype_names[Q_COUNT] = {"int8", "int16", "float16", "float32"};

const char *qtype_name(enum qtype q)
{
    return qtype_names[q];
}

int qtype_parse(const char *name, enum qtype *ret)
{
    for (int i = 0; i < Q_COUNT; i++)
        if (!strcmp(qtype_names[i], name)) {
            *ret = (enum qtype)i;
            return 0;
        }
    return -1;
}

struct plan *plan_new(const struct graph *g, struct arena *a, int max_calibs)
{
    struct plan *p = arena_alloc(a, sizeof *p);
    *p = (struct plan){.graph = g, .arena = a};
    p->calibs = arena_array(a, (size_t)max_calibs, sizeof *p->calibs);
    p->port = arena_array(a, (size_t)g->n_ports, sizeof *p->port);
    for (int i = 0; i < g->n_ports; i++)
        p->port[i] = -1;
    p->output = arena_array(a, (size_t)g->n_outputs + 1, sizeof *p->output);
    for (int i = 0; i < g->n_outputs; i++)
        p->output[i] = -1;
    return p;
}

static const float *copy_floats(struct arena *a, const float *v, int n)
{
    return v ? arena_copy(a, v, (size_t)n * sizeof *v) : NULL;
}

struct plan *plan_copy_room(const struct plan *p, struct arena *a, int room)
{
    struct plan *q = plan_new(p->graph, a, p->n_calibs + room);
    q->n_calibs = p->n_calibs;
    for (int i = 0; i < p->n_calibs; i++) {
        struct calib *k = &q->calibs[i];
        *k = p->calibs[i];
        k->name = arena_strdup(a, k->name);
        k->thresholds = copy_floats(a, k->thresholds, k->n_thresholds);
        k->fold = copy_floats(a, k->fold, k->n_fold);
    }
    if (p->graph->n_ports)
        memcpy(q->port, p->port, (size_t)p->graph->n_ports * sizeof *p->port);
    if (p->graph->n_outputs)
        memcpy(q->output, p->output, (size_t)p->graph->n_outputs * sizeof *p->output);
    return q;
}

struct plan *plan_copy(const struct plan *p, struct arena *a)
{
    return plan_copy_room(p, a, 0);
}

struct plan *plan_only(const struct plan *p, const int *calibs, int n, struct arena *a)
{
    struct plan *q = arena_copy(a, p, sizeof *q);
    q->arena = a;
    q->calibs = arena_copy(a, p->calibs, (size_t)p->n_calibs * sizeof *p->calibs);
    for (int i = 0; i < q->n_calibs; i++)
        q->calibs[i].on = false;
    for (int i = 0; i < n; i++)
        q->calibs[calibs[i]].on = true;
    return q;
}

int plan_find(const struct plan *p, const char *calib_name)
{
    for (int i = 0; i < p->n_calibs; i++)
        if (!strcmp(p->calibs[i].name, calib_name))
            return i;
    return -1;
}

bool plan_is_output(const struct plan *p, int calib)
{
    for (int i = 0; i < p->graph->n_outputs; i++)
        if (p->output[i] == calib)
            return true;
    return false;
}

void plan_renumber(struct plan *p, const int *now)
{
    for (int k = 0; k < p->n_calibs; k++)
        if (p->calibs[k].parent >= 0)
            p->calibs[k].parent = now[p->calibs[k].parent];
    for (int i = 0; i < p->graph->n_ports; i++)
        if (p->port[i] >= 0)
            p->port[i] = now[p->port[i]];
    for (int i = 0; i < p->graph->n_outputs; i++)
        if (p->output[i] >= 0)
            p->output[i] = now[p->output[i]];
}

static void digest_calib(struct sha256 *h, const struct calib *k)
{
    const int32_t ints[] = {k->value, k->parent,          k->kind,        k->qtype,
                            k->on,    k->fixed_threshold, k->fixed_scale, k->affine,
                            k->axis,  k->group,           k->n_thresholds};
    sha256_field(h, k->name, strlen(k->name));
    sha256_field(h, ints, sizeof ints);
    sha256_field(h, k->thresholds, (size_t)k->n_thresholds * sizeof *k->thresholds);
    sha256_field(h, k->fold, (size_t)k->n_fold * sizeof *k->fold);
    sha256_field(h, &k->dequantize_scale, sizeof k->dequantize_scale);
}

void plan_digest(const struct plan *p, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    for (int i = 0; i < p->n_calibs; i++)
        digest_calib(h, &p->calibs[i]);
    sha256_field(h, p->port, (size_t)p->graph->n_ports * sizeof *p->port);
    for (int i = 0; i < p->graph->n_outputs; i++)
        if (p->output[i] >= 0) {
            const int32_t pair[] = {i, p->output[i]};
            sha256_field(h, pair, sizeof pair);
        }
    sha256_finish(h, ret);
}

/* The finders' list: the value-preserving operators, and those that they look through although
 * they have a calibration of their own (ReduceMax, ScatterND). */
static bool looks_through(const struct node *n)
{
    return n->op && n->op->traits & (T_LOOKTHRU | T_PRESERVES);
}

int plan_find_input(const struct plan *p, int node, int input)
{
    const struct graph *g = p->graph;
    const struct node *n = &g->nodes[node];
    for (int i = input; i < n->n_in && n->in[i] != VALUE_NONE; i = 0) {
        int k = p->port[n->first_port + i];
        if (k >= 0)
            return k;
        int from = g->values[n->in[i]].producer;
        if (from < 0 || !looks_through(&g->nodes[from]))
            return -1;
        n = &g->nodes[from];
    }
    return -1;
}

/* The calibration that reads value v itself, or -1. */
static int calib_on(const struct plan *p, int v)
{
    for (int i = 0; i < p->n_calibs; i++)
        if (p->calibs[i].value == v && p->calibs[i].parent < 0)
            return i;
    return -1;
}

/* A chain's operators stand before its calibration: the finder walks to the end. A residual Add is
 * passed only when its value comes straight from a chain's head. */
static bool out_looks_through(const struct node *from, const struct node *to)
{
    if (looks_through(to))
        return true;
    return from->op && from->op->traits & T_CHAIN_HEAD && to->op && to->op->traits & T_CHAIN_ADD;
}

/* Puts the nodes behind `from` that may be looked through into the queue. */
static int push_readers(const struct graph *g, int from, bool first, int *queue, int tail,
                        bool *seen)
{
    const struct node *n = &g->nodes[from];
    for (int o = 0; o < n->n_out; o++) {
        if (n->out[o] == VALUE_NONE)
            continue;
        const struct value *v = &g->values[n->out[o]];
        for (int r = 0; r < v->n_readers; r++) {
            int to = v->readers[r];
            const struct node *t = &g->nodes[to];
            if (seen[to] || !(first ? out_looks_through(n, t) : looks_through(t)))
                continue;
            seen[to] = true;
            queue[tail++] = to;
        }
    }
    return tail;
}

int plan_find_output(const struct plan *p, int node)
{
    const struct graph *g = p->graph;
    struct arena a = ARENA_INIT;
    int *queue = arena_array(&a, (size_t)g->n_nodes + 1, sizeof *queue), found = -1;
    bool *seen = arena_array(&a, (size_t)g->n_nodes, sizeof *seen);
    int head = 0, tail = 0;
    queue[tail++] = node;
    seen[node] = true;
    while (head < tail && found < 0) {
        const struct node *n = &g->nodes[queue[head]];
        for (int o = 0; o < n->n_out && found < 0; o++)
            if (n->out[o] != VALUE_NONE)
                found = calib_on(p, n->out[o]);
        tail = push_readers(g, queue[head], head == 0, queue, tail, seen);
        head++;
    }
    arena_done(&a);
    return found;
}
