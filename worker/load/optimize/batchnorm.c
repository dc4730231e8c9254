/*
 * BatchNormalization (inference): y = (x - mean) · scale / sqrt(var + epsilon) + B, that is
 * y = a·x + c a channel. Behind Conv or ConvTranspose it goes into their weights and bias; behind a
 * Concat of such Convs, that nothing else reads, into each of them; what stands alone becomes a
 * depthwise 1×1 Conv. Sums are made in double and rounded once.
 */
#include <math.h>
#include <string.h>

#include "worker/load/optimize/edit.h"

struct affine {
    int64_t channels;
    double *a, *c;
};

static bool is_inference(const struct node *n)
{
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] >= 0)
            return false;
    return node_is(n, "BatchNormalization") && n->out[0] >= 0 &&
           (n->opset >= 7 || node_int(n, "is_test", 0)) && !node_int(n, "training_mode", 0) &&
           node_int(n, "spatial", 1);
}

/* False unless all four parameters are float constants of one length. */
static bool affine_of(const struct graph *g, const struct node *n, struct affine *ret)
{
    const float *p[4];
    double epsilon = node_float(n, "epsilon", 1e-5f);
    if (!is_inference(n))
        return false;
    for (int i = 0; i < 4; i++) {
        const struct tensor *t = edit_const(g, n, i + 1);
        if (!t || t->type != DT_F32 || t->rank != 1 || (i && t->dims[0] != ret->channels))
            return false;
        ret->channels = t->dims[0];
        p[i] = t->data;
    }
    ret->a = arena_array(g->arena, (size_t)ret->channels + 1, sizeof *ret->a);
    ret->c = arena_array(g->arena, (size_t)ret->channels + 1, sizeof *ret->c);
    for (int64_t i = 0; i < ret->channels; i++) {
        ret->a[i] = p[0][i] / sqrt(p[3][i] + epsilon);
        ret->c[i] = p[1][i] - p[2][i] * ret->a[i];
    }
    return true;
}

/* ---- into a Conv or ConvTranspose ---- */

/* Which output channel weight element i belongs to: Conv has them on axis 0, ConvTranspose
 * (Cin × Cout/groups × …) spread over groups. */
struct weight_shape {
    bool transposed;
    int64_t groups, dim0, dim1, inner, channels;
};

static int64_t channel_of(const struct weight_shape *s, int64_t i)
{
    int64_t at0 = i / (s->inner * s->dim1), at1 = i / s->inner % s->dim1;
    return s->transposed ? at0 / (s->dim0 / s->groups) * s->dim1 + at1 : at0;
}

/* A Conv whose weight and bias are float constants; *ret_shape.channels output channels. */
static bool takes_affine(const struct graph *g, const struct node *n, struct weight_shape *s)
{
    s->transposed = node_is(n, "ConvTranspose");
    if (!s->transposed && !node_is(n, "Conv"))
        return false;
    const struct tensor *w = edit_const(g, n, 1), *bias = edit_const(g, n, 2);
    if (!w || w->type != DT_F32 || w->rank < 3 || !tensor_count(w))
        return false;
    s->groups = node_int(n, "group", 1);
    s->dim0 = w->dims[0];
    s->dim1 = w->dims[1];
    s->inner = tensor_count(w) / (s->dim0 * s->dim1);
    if (s->groups < 1 || s->dim0 % s->groups)
        return false;
    s->channels = s->transposed ? s->dim1 * s->groups : s->dim0;
    bool has_bias = n->n_in > 2 && n->in[2] >= 0;
    return !has_bias || (bias && bias->type == DT_F32 && tensor_count(bias) == s->channels);
}

static int scale_weight(struct edit *ed, int node, const struct weight_shape *s,
                        const struct affine *f, int64_t first)
{
    struct tensor t = *edit_const(ed->g, &ed->g->nodes[node], 1);
    const float *from = t.data;
    float *to = t.data = arena_try(ed->g->arena, tensor_bytes(&t));
    if (!to)
        return err_set(ed->e, ERR_MEMORY_LIMIT, ed->g->nodes[node].name,
                       "The weight needs %zu bytes.", tensor_bytes(&t));
    for (int64_t i = 0, n = tensor_count(&t); i < n; i++)
        to[i] = (float)(from[i] * f->a[first + channel_of(s, i)]);
    edit_replace_const(ed, node, 1, &t);
    return 0;
}

static void set_bias(struct edit *ed, int node, const struct weight_shape *s,
                     const struct affine *f, int64_t first)
{
    struct build *b = edit_builder(ed);
    const struct node *n = &ed->g->nodes[node];
    const struct tensor *old = edit_const(ed->g, n, 2);
    struct tensor t = {.type = DT_F32, .rank = 1, .dims = {s->channels}};
    float *to = t.data = arena_array(ed->g->arena, (size_t)s->channels, sizeof *to);
    for (int64_t i = 0; i < s->channels; i++) {
        double before = old ? ((const float *)old->data)[i] : 0;
        to[i] = (float)(before * f->a[first + i] + f->c[first + i]);
    }
    if (old) {
        edit_replace_const(ed, node, 2, &t);
        return;
    }
    const char *name = arena_printf(ed->g->arena, "%s_bias", n->name);
    const int in[] = {b->nodes[node].in[0], b->nodes[node].in[1], build_const(b, name, &t)};
    b->nodes[node].in = arena_copy(ed->g->arena, in, sizeof in);
    b->nodes[node].n_in = 3;
}

static int into_conv(struct edit *ed, int conv, const struct weight_shape *s,
                     const struct affine *f, int64_t first)
{
    if (scale_weight(ed, conv, s, f, first))
        return -1;
    set_bias(ed, conv, s, f, first);
    edit_touch(ed, conv);
    return 0;
}

static int fold_behind_conv(struct edit *ed, int bn, const struct affine *f)
{
    struct weight_shape s;
    int conv = edit_sole_producer(ed, &ed->g->nodes[bn], 0);
    if (conv < 0 || !takes_affine(ed->g, &ed->g->nodes[conv], &s) || s.channels != f->channels)
        return 0;
    if (into_conv(ed, conv, &s, f, 0))
        return -1;
    edit_fuse_behind(ed, conv, bn);
    return 0;
}

/* All inputs are Convs of their own, and their channels fill the normalization's. */
static bool concat_of_convs(const struct edit *ed, int concat, const struct affine *f)
{
    const struct node *n = &ed->g->nodes[concat];
    int64_t channels = 0;
    const struct attr *axis = node_attr(n, "axis");
    if (!node_is(n, "Concat") || !axis || axis->i != 1)
        return false;
    for (int i = 0; i < n->n_in; i++) {
        struct weight_shape s;
        int conv = edit_sole_producer(ed, n, i);
        if (conv < 0 || !takes_affine(ed->g, &ed->g->nodes[conv], &s))
            return false;
        channels += s.channels;
    }
    return channels == f->channels;
}

static int fold_behind_concat(struct edit *ed, int bn, const struct affine *f)
{
    int concat = edit_sole_producer(ed, &ed->g->nodes[bn], 0);
    if (concat < 0 || !concat_of_convs(ed, concat, f))
        return 0;
    int64_t first = 0;
    const struct node *n = &ed->g->nodes[concat];
    for (int i = 0; i < n->n_in; i++) {
        struct weight_shape s;
        int conv = ed->g->values[n->in[i]].producer;
        takes_affine(ed->g, &ed->g->nodes[conv], &s);
        if (into_conv(ed, conv, &s, f, first))
            return -1;
        first += s.channels;
    }
    edit_fuse_behind(ed, concat, bn);
    ed->b->nodes[bn].into = ed->g->values[n->in[0]].producer;
    return 0;
}

int pass_batchnorm(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++) {
        struct affine f = {0};
        if (!affine_of(g, &g->nodes[i], &f))
            continue;
        if (fold_behind_conv(&ed, i, &f))
            return -1;
        if (!(ed.touched && ed.touched[i]) && fold_behind_concat(&ed, i, &f))
            return -1;
    }
    return edit_done(&ed, ret);
}

/* ---- alone ---- */

static void become_conv(struct edit *ed, int bn, const struct affine *f, int rank)
{
    struct build *b = edit_builder(ed);
    struct arena *a = ed->g->arena;
    const struct node *n = &ed->g->nodes[bn];
    const char *name = arena_printf(a, "UNIT_CONV_FOR_%s", n->name);
    struct tensor w = {.type = DT_F32, .rank = rank, .dims = {f->channels, 1, 1, 1, 1}};
    struct tensor bias = {.type = DT_F32, .rank = 1, .dims = {f->channels}};
    float *scale = w.data = arena_array(a, (size_t)f->channels, sizeof *scale);
    float *shift = bias.data = arena_array(a, (size_t)f->channels, sizeof *shift);
    for (int64_t i = 0; i < f->channels; i++) {
        scale[i] = (float)f->a[i];
        shift[i] = (float)f->c[i];
    }
    const int in[] = {n->in[0], build_const(b, arena_printf(a, "%s_weight", name), &w),
                      build_const(b, arena_printf(a, "%s_bias", name), &bias)};
    const int64_t ones[] = {1, 1, 1};
    build_retype(b, bn, "", "Conv", n->opset, in, 3);
    build_attr_int(b, bn, "group", f->channels);
    build_attr_ints(b, bn, "kernel_shape", ones, (size_t)rank - 2);
    b->nodes[bn].name = name;
}

int pass_batchnorm_unit(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        struct affine f = {0};
        if (!affine_of(g, n, &f) || !f.channels)
            continue;
        const struct tensor *x = &g->values[n->in[0]].type;
        if (x->type == DT_F32 && x->rank >= 3 && x->rank <= 5)
            become_conv(&ed, i, &f, x->rank);
    }
    return edit_done(&ed, ret);
}
