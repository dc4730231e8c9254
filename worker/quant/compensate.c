#include "worker/quant/compensate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/load/build.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/place.h"

/* ---- parts by name and place ---- */

/* The node whose name is that of `node` without the tail, or -1. */
static int without_tail(const struct graph *g, int node, const char *tail)
{
    const char *name = g->nodes[node].name;
    size_t n = strlen(name), t = strlen(tail);
    char head[4096];
    if (n <= t || n - t >= sizeof head || strcmp(name + n - t, tail))
        return -1;
    memcpy(head, name, n - t);
    head[n - t] = '\0';
    return graph_node(g, head);
}

static int with_tail(const struct graph *g, int node, const char *tail)
{
    char name[4096];
    int n = snprintf(name, sizeof name, "%s%s", g->nodes[node].name, tail);
    return n < (int)sizeof name ? graph_node(g, name) : -1;
}

static bool reads_of(const struct graph *g, int reader, int input, int producer)
{
    const struct node *n = &g->nodes[reader];
    return producer >= 0 && input < n->n_in && n->in[input] != VALUE_NONE &&
           g->values[n->in[input]].producer == producer;
}

int compensate_low(const struct graph *g, int node)
{
    int low = with_tail(g, node, SPLIT_LOW), add = with_tail(g, node, SPLIT_ADD);
    bool is = low >= 0 && add >= 0 && !strcmp(g->nodes[add].op_type, "Add") &&
              !strcmp(g->nodes[low].op_type, g->nodes[node].op_type) && reads_of(g, add, 0, node) &&
              reads_of(g, add, 1, low);
    return is ? low : -1;
}

int compensate_of_low(const struct graph *g, int node)
{
    int of = without_tail(g, node, SPLIT_LOW);
    return of >= 0 && compensate_low(g, of) == node ? of : -1;
}

int compensate_of_add(const struct graph *g, int node)
{
    int of = without_tail(g, node, SPLIT_ADD);
    return of >= 0 && compensate_low(g, of) >= 0 ? of : -1;
}

int compensate_of_sub(const struct graph *g, int node)
{
    int of = without_tail(g, node, SPLIT_SUB);
    int low = of >= 0 ? compensate_low(g, of) : -1;
    return low >= 0 && reads_of(g, low, compensate_input(g, of), node) ? of : -1;
}

int compensate_input(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node], *low = &g->nodes[compensate_low(g, node)];
    for (int i = 0; i < n->n_in && i < low->n_in; i++)
        if (n->in[i] != low->in[i])
            return i;
    return 0;
}

static const char *mode_of(const struct node *n)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, "mode") && n->attrs[i].type == ATTR_STRING)
            return n->attrs[i].s;
    return strcmp(n->op_type, "Resize") ? "bilinear" : "nearest";
}

bool compensate_lifts_output(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node];
    bool samples = !strcmp(n->op_type, "Resize") || !strcmp(n->op_type, "GridSample");
    return !samples || !strcmp(mode_of(n), "nearest");
}

/* ---- the rewrite ---- */

struct rewrite {
    const struct graph *g;
    struct build *b;
    struct err *e;
};

static const char *part_name(const struct rewrite *w, int node, const char *tail)
{
    return arena_printf(w->b->arena, "%s%s", w->g->nodes[node].name, tail);
}

static int fresh_like(const struct rewrite *w, int node, const char *tail, const struct tensor *t)
{
    int v = build_fresh(w->b, arena_printf(w->b->arena, "%s%s", w->g->nodes[node].name, tail));
    w->b->values[v].type = *t;
    w->b->values[v].type.data = NULL;
    return v;
}

/* A constant of zeros; the node reads a whole of its own from now on. */
static int split_constant(const struct rewrite *w, int node, int input)
{
    const struct value *v = &w->g->values[w->g->nodes[node].in[input]];
    struct build *b = w->b;
    struct tensor zero = v->type;
    size_t bytes = tensor_bytes(&zero) + 1;
    zero.data = memset(arena_alloc(b->arena, bytes), 0, bytes);
    if (v->n_readers > 1) {
        int own = build_const(
            b, arena_printf(b->arena, "%s_of_%s", v->name, w->g->nodes[node].name), &v->type);
        b->nodes[node].in[input] = own;
    }
    return build_const(b, arena_printf(b->arena, "%s" SPLIT_LOW, v->name), &zero);
}

/* What is left of a computed value. The port of the second input is set with the plan. */
static int split_value(const struct rewrite *w, int node, int input)
{
    int v = w->g->nodes[node].in[input], in[2] = {v, v};
    int out = fresh_like(w, node, "_split_residual", &w->g->values[v].type);
    build_node(w->b, part_name(w, node, SPLIT_SUB), "", "Sub", build_opset(w->b, ""), in, 2, &out,
               1);
    return out;
}

static bool takes_bias(const struct node *n)
{
    return !strcmp(n->op_type, "Conv") || !strcmp(n->op_type, "ConvTranspose") ||
           !strcmp(n->op_type, "Gemm");
}

static void add_twin(const struct rewrite *w, int node, int input, int low, int out)
{
    const struct node *n = &w->g->nodes[node];
    int *in = arena_array(w->b->arena, (size_t)n->n_in + 1, sizeof *in);
    for (int i = 0; i < n->n_in; i++)
        in[i] = i == input ? low : n->in[i];
    int twin = build_node(w->b, part_name(w, node, SPLIT_LOW), n->domain, n->op_type, n->opset, in,
                          takes_bias(n) && n->n_in > 2 ? 2 : n->n_in, &out, 1);
    struct build_node *t = &w->b->nodes[twin];
    t->n_attrs = n->n_attrs;
    t->attrs = n->n_attrs ? arena_copy(w->b->arena, n->attrs, (size_t)n->n_attrs * sizeof *n->attrs)
                          : NULL;
}

static int split_node(const struct rewrite *w, int node, int input)
{
    const struct node *n = &w->g->nodes[node];
    const char *const tails[] = {SPLIT_LOW, SPLIT_ADD, SPLIT_SUB};
    for (int i = 0; i < 3; i++)
        if (with_tail(w->g, node, tails[i]) >= 0)
            return err_set(w->e, ERR_INVALID, n->name, "There is a node \"%.200s%s\" already.",
                           n->name, tails[i]);
    int whole = n->out[0];
    const struct value *v = &w->g->values[n->in[input]];
    int low = place_is_constant(v) ? split_constant(w, node, input) : split_value(w, node, input);
    int sum[2] = {fresh_like(w, node, "_split_high_out", &w->g->values[whole].type),
                  fresh_like(w, node, "_split_low_out", &w->g->values[whole].type)};
    w->b->nodes[node].out[0] = sum[0];
    add_twin(w, node, input, low, sum[1]);
    build_node(w->b, part_name(w, node, SPLIT_ADD), "", "Add", build_opset(w->b, ""), sum, 2,
               &whole, 1);
    return 0;
}

int compensate_graph(const struct graph *g, const int *input, struct arena *a, struct graph **ret,
                     struct err *e)
{
    struct rewrite w = {.g = g, .b = build_from(g, a), .e = e};
    for (int i = 0; i < g->n_nodes; i++)
        if (input[i] >= 0 && split_node(&w, i, input[i]))
            return -1;
    return build_freeze(w.b, ret, e);
}

/* ---- thresholds, constants ---- */

/* The plan's graph becomes a copy that shares all but its values. */
static struct graph *own_graph(struct plan *p, const struct graph *before)
{
    if (p->graph != before)
        return (struct graph *)p->graph;
    struct graph *g = arena_copy(p->arena, before, sizeof *g);
    g->values = arena_copy(p->arena, before->values, (size_t)g->n_values * sizeof *g->values);
    p->graph = g;
    return g;
}

static float fold_at(const struct calib *k, const struct tensor *w, int64_t i)
{
    if (!k->n_fold)
        return 1;
    int64_t inner = 1;
    for (int d = 2; d < w->rank; d++)
        inner *= w->dims[d];
    int64_t groups = k->n_fold / w->dims[1], at = i / inner;
    return k->fold[at / w->dims[1] * groups / w->dims[0] * w->dims[1] + at % w->dims[1]];
}

/* Largest |low·r| of each channel, at most half a step of the high part; 1 where nothing is left.
 */
static void residual_thresholds(struct plan *p, struct calib *low, const struct calib *high,
                                const struct tensor *t)
{
    int64_t inner = 1, n = low->axis < 0 ? 1 : t->dims[low->axis];
    for (int d = low->axis < 0 ? t->rank : low->axis + 1; d < t->rank; d++)
        inner *= t->dims[d];
    if (low->axis < 0)
        inner = tensor_count(t) ? tensor_count(t) : 1;
    float *max = arena_array(p->arena, (size_t)n + 1, sizeof *max);
    for (int64_t i = 0, count = tensor_count(t); i < count; i++) {
        float size = fabsf(((const float *)t->data)[i] * fold_at(low, t, i));
        int64_t c = i / inner % n;
        max[c] = size > max[c] ? size : max[c];
    }
    for (int64_t c = 0; c < n; c++) {
        struct fq_param q;
        fq_of_calib(high, (int)c, &q);
        max[c] = max[c] > q.scale / 2 ? q.scale / 2 : max[c];
        max[c] = max[c] > 0 ? max[c] : 1;
    }
    low->thresholds = max;
    low->n_thresholds = (int)n;
}

static void split_weight(struct plan *p, struct graph *g, int node)
{
    int input = compensate_input(g, node), twin = compensate_low(g, node);
    const struct calib *high = &p->calibs[p->port[g->nodes[node].first_port + input]];
    struct calib *low = &p->calibs[p->port[g->nodes[twin].first_port + input]];
    struct calib exact = *high;
    struct tensor *h = &g->values[high->value].type, *l = &g->values[low->value].type;
    float *whole = arena_alloc(p->arena, tensor_bytes(h) + 1);
    for (int64_t i = 0, n = tensor_count(h); i < n; i++) /* low: zero, but in a file split before */
        whole[i] = ((const float *)h->data)[i] + ((const float *)l->data)[i];
    exact.qtype = Q_INT8;
    exact.on = true;
    size_t bytes = tensor_bytes(h) + 1;
    struct tensor on_grid = *h, whole_tensor = *h;
    float *rest = arena_alloc(p->arena, bytes);
    on_grid.data = arena_alloc(p->arena, bytes);
    whole_tensor.data = whole;
    fq_tensor(&exact, &whole_tensor, &on_grid);
    for (int64_t i = 0, n = tensor_count(h); i < n; i++)
        rest[i] = whole[i] - ((const float *)on_grid.data)[i];
    h->data = on_grid.data;
    l->data = rest;
    residual_thresholds(p, low, &exact, l);
}

/* The rest of a computed value lies within half a step of the high part. */
static void set_residual(struct plan *p, int node)
{
    const struct graph *g = p->graph;
    int input = compensate_input(g, node), twin = compensate_low(g, node);
    int high = p->port[g->nodes[node].first_port + input];
    int low = p->port[g->nodes[twin].first_port + input];
    struct fq_param q;
    if (high < 0 || low < 0 || p->calibs[high].n_thresholds == 0)
        return;
    fq_of_calib(&p->calibs[high], 0, &q);
    float t = q.scale / 2;
    p->calibs[low].thresholds = arena_copy(p->arena, &t, sizeof t);
    p->calibs[low].n_thresholds = 1;
    p->calibs[low].affine = false;
    p->calibs[low].axis = -1;
}

void compensate_thresholds(struct plan *p)
{
    const struct graph *before = p->graph;
    for (int i = 0; i < before->n_nodes; i++) {
        const struct node *n = &before->nodes[i];
        int low = compensate_low(before, i);
        if (low < 0)
            continue;
        int v = n->in[compensate_input(before, i)];
        int k = p->port[n->first_port + compensate_input(before, i)];
        if (!place_is_constant(&before->values[v]))
            set_residual(p, i);
        else if (k >= 0 && p->calibs[k].kind == CALIB_WEIGHT)
            split_weight(p, own_graph(p, before), i);
    }
}
