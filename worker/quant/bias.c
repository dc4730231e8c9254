#include "worker/quant/bias.h"

#include <string.h>

#include "worker/load/build.h"
#include "worker/quant/compensate.h"
#include "worker/quant/place.h"

enum { BIAS_INPUT = 2 };

static bool is_corrected(const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node];
    return (!strcmp(n->op_type, "Conv") || !strcmp(n->op_type, "ConvTranspose")) &&
           !strcmp(n->domain, ONNX) && compensate_of_low(g, node) < 0;
}

static int given_bias(const struct node *n)
{
    return n->n_in > BIAS_INPUT ? n->in[BIAS_INPUT] : VALUE_NONE;
}

int bias_of(const struct graph *g, int node)
{
    int v = is_corrected(g, node) ? given_bias(&g->nodes[node]) : VALUE_NONE;
    bool own = v != VALUE_NONE && place_is_constant(&g->values[v]) && g->values[v].n_readers == 1 &&
               g->values[v].type.type == DT_F32;
    return own ? v : VALUE_NONE;
}

/* Output channels: dim 1 of what the node gives. 0 where it is not known. */
static int64_t channels_of(const struct graph *g, const struct node *n)
{
    const struct tensor *t = &g->values[n->out[0]].type;
    return t->type == DT_F32 && t->rank >= 3 && t->dims[1] > 0 ? t->dims[1] : 0;
}

static void read_bias(struct build *b, int node, int v)
{
    struct build_node *n = &b->nodes[node];
    int *in = arena_array(b->arena, BIAS_INPUT + 1, sizeof *in);
    memcpy(in, n->in, (size_t)BIAS_INPUT * sizeof *in);
    in[BIAS_INPUT] = v;
    n->in = in;
    n->n_in = BIAS_INPUT + 1;
}

static void give_bias(struct build *b, const struct graph *g, int node)
{
    const struct node *n = &g->nodes[node];
    int v = given_bias(n);
    bool there = v != VALUE_NONE;
    if ((there && (!place_is_constant(&g->values[v]) || g->values[v].n_readers == 1)) ||
        (!there && !channels_of(g, n)))
        return;
    struct tensor t = {.type = DT_F32, .rank = 1, .dims = {channels_of(g, n)}};
    if (there)
        t = g->values[v].type;
    else
        t.data = memset(arena_alloc(b->arena, tensor_bytes(&t)), 0, tensor_bytes(&t));
    read_bias(b, node, build_const(b, arena_printf(b->arena, "%s_bias", n->name), &t));
}

int bias_graph(const struct graph *g, struct arena *a, struct graph **ret, struct err *e)
{
    struct build *b = build_from(g, a);
    for (int i = 0; i < g->n_nodes; i++)
        if (is_corrected(g, i))
            give_bias(b, g, i);
    return build_freeze(b, ret, e);
}
