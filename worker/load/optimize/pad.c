/*
 * A Pad with zeros in front of a Conv becomes the Conv's own padding, which is zeros too. Exact
 * only if nothing but spatial axes grows, nothing is cut, and the Conv says its padding itself.
 */
#include <string.h>

#include "worker/load/optimize/edit.h"

enum { SPATIAL_MAX = 3 };

/* Pads of all axes: begins, then ends. */
struct pads {
    int rank;
    int64_t begin[TENSOR_RANK_MAX], end[TENSOR_RANK_MAX];
};

static bool pads_attr(const struct node *n, int rank, struct pads *ret)
{
    const struct attr *a = node_attr(n, n->opset < 2 ? "paddings" : "pads");
    if (!a || a->type != ATTR_INTS || a->n != 2 * (size_t)rank)
        return false;
    for (int i = 0; i < rank; i++) {
        ret->begin[i] = a->ints[i];
        ret->end[i] = a->ints[rank + i];
    }
    return node_float(n, "value", 0) == 0;
}

static bool pads_input(const struct graph *g, const struct node *n, int rank, struct pads *ret)
{
    const struct tensor *p = edit_const(g, n, 1), *axes = edit_const(g, n, 3);
    bool has_value = n->n_in > 2 && n->in[2] >= 0, has_axes = n->n_in > 3 && n->in[3] >= 0;
    float value = 0;
    if (!p || (has_value && (!edit_scalar(g, n, 2, &value) || value != 0)) || (has_axes && !axes))
        return false;
    int64_t count = has_axes ? tensor_count(axes) : rank;
    if (tensor_count(p) != 2 * count)
        return false;
    for (int64_t i = 0; i < count; i++) {
        int64_t d = has_axes ? tensor_int(axes, i) : i;
        if (d < -rank || d >= rank)
            return false;
        d += d < 0 ? rank : 0;
        ret->begin[d] = tensor_int(p, i);
        ret->end[d] = tensor_int(p, count + i);
    }
    return true;
}

static bool zero_pads(const struct graph *g, const struct node *n, int rank, struct pads *ret)
{
    const struct attr *mode = node_attr(n, "mode");
    *ret = (struct pads){.rank = rank};
    if (!node_is(n, "Pad") || (mode && strcmp(mode->s, "constant")))
        return false;
    if (!(n->opset < 11 ? pads_attr(n, rank, ret) : pads_input(g, n, rank, ret)))
        return false;
    for (int i = 0; i < rank; i++)
        if (ret->begin[i] < 0 || ret->end[i] < 0 || (i < 2 && (ret->begin[i] || ret->end[i])))
            return false;
    return true;
}

/* The Conv's own pads; false if it lets the library choose. */
static bool conv_pads(const struct node *n, int spatial, int64_t ret[2 * SPATIAL_MAX])
{
    const struct attr *choice = node_attr(n, "auto_pad"), *a = node_attr(n, "pads");
    memset(ret, 0, 2 * SPATIAL_MAX * sizeof *ret);
    if (choice && !strcmp(choice->s, "VALID"))
        return true;
    if ((choice && strcmp(choice->s, "NOTSET")) || (a && a->n != 2 * (size_t)spatial))
        return false;
    if (a)
        memcpy(ret, a->ints, a->n * sizeof *ret);
    return true;
}

static void fold_pad(struct edit *ed, int conv)
{
    const struct node *n = &ed->g->nodes[conv];
    const struct tensor *w = edit_const(ed->g, n, 1);
    int pad = node_is(n, "Conv") ? edit_sole_producer(ed, n, 0) : -1;
    int64_t own[2 * SPATIAL_MAX];
    struct pads p;
    if (pad < 0 || !w || w->rank < 3 || w->rank > 2 + SPATIAL_MAX)
        return;
    int spatial = w->rank - 2;
    if (!conv_pads(n, spatial, own) || !zero_pads(ed->g, &ed->g->nodes[pad], w->rank, &p))
        return;
    for (int i = 0; i < spatial; i++)
        if (__builtin_add_overflow(own[i], p.begin[2 + i], &own[i]) ||
            __builtin_add_overflow(own[spatial + i], p.end[2 + i], &own[spatial + i]))
            return;
    struct build *b = edit_builder(ed);
    if (node_attr(n, "auto_pad"))
        build_attr_string(b, conv, "auto_pad", "NOTSET");
    build_attr_ints(b, conv, "pads", own, 2 * (size_t)spatial);
    b->nodes[conv].in[0] = ed->g->nodes[pad].in[0];
    build_drop(b, pad, conv, "fused");
    edit_touch(ed, conv);
    edit_touch(ed, pad);
}

int pass_pad(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++)
        fold_pad(&ed, i);
    return edit_done(&ed, ret);
}
