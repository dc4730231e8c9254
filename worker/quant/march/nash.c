/* The conditions of the Nash family's rules: sizes and attributes of a node. */
#include "worker/quant/march/nash.h"

#include <string.h>

#include "worker/ops/op.h"

enum { REDUCED_MAX = 65535, ARG_AXIS_MAX = 32767, RNN_DIM_MAX = 2097151 };

static const struct attr *find_attr(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}

static int64_t int_attr(const struct node *n, const char *name, int64_t otherwise)
{
    const struct attr *a = find_attr(n, name);
    return a && a->type == ATTR_INT ? a->i : otherwise;
}

/* Elements of dims [from, to), 0 if one is not known. */
static int64_t span(const struct tensor *t, int from, int to)
{
    int64_t n = 1;
    for (int d = from; d < to; d++)
        n = t->dims[d] < 0 ? 0 : n * t->dims[d];
    return n;
}

static const struct tensor *type_in(const struct graph *g, const struct node *n, int i)
{
    static const struct tensor none;
    return i < n->n_in && n->in[i] != VALUE_NONE ? &g->values[n->in[i]].type : &none;
}

/* A size that is not known yet (0) is taken for one that fits. */
static bool reduced_fits(int64_t size)
{
    return size <= REDUCED_MAX;
}

static int norm_axis(const struct node *n, const struct tensor *t, int64_t otherwise)
{
    int64_t axis = int_attr(n, "axis", otherwise);
    axis += axis < 0 ? t->rank : 0;
    return axis < 0 || axis > t->rank ? t->rank : (int)axis;
}

bool nash_softmax_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    bool flattens = n->opset < 13;
    int axis = norm_axis(n, t, flattens ? 1 : -1);
    int end = flattens || axis == t->rank ? t->rank : axis + 1;
    return reduced_fits(span(t, axis, end));
}

bool nash_layer_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    return reduced_fits(span(t, norm_axis(n, t, -1), t->rank));
}

bool nash_instance_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    return t->rank < 2 || reduced_fits(span(t, 2, t->rank));
}

bool nash_group_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    int64_t groups = int_attr(n, "num_groups", 1);
    return t->rank < 2 || groups < 1 || reduced_fits(span(t, 1, t->rank) / groups);
}

bool nash_reduce_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *in = type_in(g, n, 0), *out = &g->values[n->out[0]].type;
    int64_t before = span(in, 0, in->rank), after = span(out, 0, out->rank);
    return before == 0 || after == 0 || reduced_fits(before / after);
}

bool nash_arg_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    int axis = norm_axis(n, t, 0);
    return axis >= t->rank || t->dims[axis] <= ARG_AXIS_MAX;
}

bool nash_rnn_fits(const struct graph *g, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const struct tensor *t = type_in(g, n, i);
        for (int d = 0; d < t->rank; d++)
            if (t->dims[d] > RNN_DIM_MAX)
                return false;
    }
    return true;
}

bool nash_grid_padding_fits(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct attr *a = find_attr(n, "padding_mode");
    return !a || a->type != ATTR_STRING || !strcmp(a->s, "zeros") || !strcmp(a->s, "border");
}

/* An even stride other than 2: the depthwise unit does not do it in int16. */
bool nash_odd_depthwise(const struct graph *g, const struct node *n)
{
    const struct tensor *w = type_in(g, n, 1);
    const struct attr *s = find_attr(n, "strides");
    if (w->rank < 3 || w->dims[1] != 1 || int_attr(n, "group", 1) != w->dims[0] || !s)
        return false;
    for (size_t i = 0; s->type == ATTR_INTS && i < s->n; i++)
        if (s->ints[i] % 2 == 0 && s->ints[i] != 2)
            return true;
    return false;
}
