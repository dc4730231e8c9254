/* March nash-e (spec §4). */
#include <string.h>

#include "worker/ops/op.h"
#include "worker/quant/march.h"

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

static bool softmax_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    bool flattens = n->opset < 13;
    int axis = norm_axis(n, t, flattens ? 1 : -1);
    int end = flattens || axis == t->rank ? t->rank : axis + 1;
    return reduced_fits(span(t, axis, end));
}

static bool layer_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    return reduced_fits(span(t, norm_axis(n, t, -1), t->rank));
}

static bool instance_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    return t->rank < 2 || reduced_fits(span(t, 2, t->rank));
}

static bool group_norm_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    int64_t groups = int_attr(n, "num_groups", 1);
    return t->rank < 2 || groups < 1 || reduced_fits(span(t, 1, t->rank) / groups);
}

static bool reduce_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *in = type_in(g, n, 0), *out = &g->values[n->out[0]].type;
    int64_t before = span(in, 0, in->rank), after = span(out, 0, out->rank);
    return before == 0 || after == 0 || reduced_fits(before / after);
}

static bool arg_fits(const struct graph *g, const struct node *n)
{
    const struct tensor *t = type_in(g, n, 0);
    int axis = norm_axis(n, t, 0);
    return axis >= t->rank || t->dims[axis] <= ARG_AXIS_MAX;
}

static bool rnn_fits(const struct graph *g, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++) {
        const struct tensor *t = type_in(g, n, i);
        for (int d = 0; d < t->rank; d++)
            if (t->dims[d] > RNN_DIM_MAX)
                return false;
    }
    return true;
}

static bool grid_padding_fits(const struct graph *g, const struct node *n)
{
    (void)g;
    const struct attr *a = find_attr(n, "padding_mode");
    return !a || a->type != ATTR_STRING || !strcmp(a->s, "zeros") || !strcmp(a->s, "border");
}

/* An even stride other than 2: the depthwise unit does not do it in int16. */
static bool odd_depthwise(const struct graph *g, const struct node *n)
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

/* clang-format off */
#define ANY (Q8 | Q16)
#define SAME(name, rule) \
    {name, MARCH_REST, ANY, false, false, NULL, "nash-e/" rule, "int8 or int16", false}
#define SIZED(name, fits, text) \
    {name, MARCH_REST, ANY, false, false, fits, "nash-e/reduce", "int8 or int16, over " text, false}
#define WEIGHTED(name, rule) \
    {name, 1, Q8, false, true, NULL, "nash-e/" rule, \
     "the second input is int8; more only by error compensation (\"ec\")", false}, \
    {name, MARCH_REST, ANY, false, false, NULL, "nash-e/conv-feature", "int8 or int16", false}
#define REDUCED "at most 65535 elements"

static const struct march_row rows[] = {
    {"Conv", 0, ANY, false, false, NULL, "nash-e/conv-feature", "int8 or int16", true},
    WEIGHTED("Conv", "weight-int8"),
    WEIGHTED("ConvTranspose", "weight-int8"),
    WEIGHTED("Gemm", "weight-int8"),
    WEIGHTED("MatMul", "matmul-input1-int8"),

    {"Resize", 0, Q8, false, true, NULL, "nash-e/resize-int8", "Resize reads int8", false},
    {"Resize", MARCH_OUT, Q8, false, false, NULL, "nash-e/resize-int8", "Resize gives int8", false},
    {"GridSample", 0, Q8, false, true, grid_padding_fits, "nash-e/grid-sample-int8",
     "GridSample reads int8, with padding zeros or border", false},
    {"GridSample", 1, Q16, false, false, grid_padding_fits, "nash-e/grid-int16",
     "the grid of GridSample is int16", false},
    {"GridSample", MARCH_OUT, Q8, false, false, grid_padding_fits, "nash-e/grid-sample-int8",
     "GridSample gives int8", false},

    SAME("Add", "same-type"),
    SAME("Sub", "same-type"),
    SAME("Mul", "same-type"),

    SAME("Div", "lut"),
    {"Div", MARCH_OUT, Q8, true, false, NULL, "nash-e/lut-output",
     "a look-up table that reads int8 gives int8", false},
    SAME("Lut", "lut"),
    {"Lut", MARCH_OUT, Q8, true, false, NULL, "nash-e/lut-output",
     "a look-up table that reads int8 gives int8", false},

    SIZED("Softmax", softmax_fits, REDUCED),
    SIZED("LogSoftmax", softmax_fits, REDUCED),
    SIZED("LayerNormalization", layer_norm_fits, REDUCED),
    SIZED("InstanceNormalization", instance_norm_fits, REDUCED),
    SIZED("GroupNormalization", group_norm_fits, REDUCED),
    SIZED("ReduceL1", reduce_fits, REDUCED),
    SIZED("ReduceL2", reduce_fits, REDUCED),
    SIZED("ReduceMean", reduce_fits, REDUCED),
    SIZED("ReduceSum", reduce_fits, REDUCED),
    SIZED("ReduceMax", reduce_fits, REDUCED),
    SIZED("ArgMax", arg_fits, "an axis of at most 32767"),
    SIZED("ArgMin", arg_fits, "an axis of at most 32767"),
    SIZED("LSTM", rnn_fits, "dims below 2097152"),
    SIZED("GRU", rnn_fits, "dims below 2097152"),

    SAME("AveragePool", "pool"),
    SAME("GlobalAveragePool", "pool"),
    SAME("Pad", "move"),
    SAME("Expand", "move"),
    SAME("Tile", "move"),
    SAME("DepthToSpace", "move"),
    SAME("SpaceToDepth", "move"),
    SAME("Concat", "concat"),

    SAME("MaxPool", "value-preserving"),
    SAME("GlobalMaxPool", "value-preserving"),
    SAME("Relu", "value-preserving"),
    SAME("Clip", "value-preserving"),
    SAME("Reshape", "value-preserving"),
    SAME("Flatten", "value-preserving"),
    SAME("Squeeze", "value-preserving"),
    SAME("Unsqueeze", "value-preserving"),
    SAME("Transpose", "value-preserving"),
    SAME("Split", "value-preserving"),
    SAME("Slice", "value-preserving"),
    SAME("Gather", "value-preserving"),
    SAME("ScatterND", "scatter"),
    {0},
};
/* clang-format on */

static const struct march_note notes[] = {
    {"Conv", Q_INT16, odd_depthwise, "nash-e/depthwise-int16-stride",
     "an int16 depthwise Conv with an even stride other than 2 runs as an ordinary Conv: it costs "
     "more, its values are the same"},
    {0},
};

const struct march march_nash_e = {"nash-e", rows, notes, 512, 10};
