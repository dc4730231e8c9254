/* Which nodes mean the same in opset 21. */
#include <string.h>

#include "worker/load/build.h"
#include "worker/ops/op.h"
#include "worker/quant/export.h"

enum { TARGET = 21 };

/* Since which version an operator has the form and the meaning that it has in opset 21 (ONNX's
 * Changelog.md); for those not named here, our rows tell. */
static const struct {
    const char *type;
    int since;
} forms[] = {
    {"Softmax", 13},
    {"LogSoftmax", 13},
    {"Hardmax", 13},
    {"Squeeze", 13},
    {"Unsqueeze", 13},
    {"ReduceSum", 13},
    {"ReduceMean", 18},
    {"ReduceMax", 18},
    {"ReduceMin", 18},
    {"ReduceProd", 18},
    {"ReduceL1", 18},
    {"ReduceL2", 18},
    {"ReduceLogSum", 18},
    {"ReduceLogSumExp", 18},
    {"ReduceSumSquare", 18},
    {"Split", 18},
    {"Clip", 11},
    {"Slice", 10},
    {"Resize", 11},
    {"GridSample", 20},
    {"Pad", 11},
    {"TopK", 11},
    {"Dropout", 12},
    {"BatchNormalization", 9},
    {"GroupNormalization", 21},
    {"DFT", 20},
    {"RoiAlign", 16},
    {"ArgMax", 12},
    {"ArgMin", 12},
    {"Upsample", TARGET + 1},
    {"Scatter", TARGET + 1},
};

/* Where opset 21 says by an input what an older version says by a list of integers. */
static const struct {
    const char *type;
    int since, at; /* the input */
    const char *attr;
} moved[] = {
    {"Squeeze", 13, 1, "axes"},         {"Unsqueeze", 13, 1, "axes"},
    {"ReduceSum", 13, 1, "axes"},       {"ReduceMean", 18, 1, "axes"},
    {"ReduceMax", 18, 1, "axes"},       {"ReduceMin", 18, 1, "axes"},
    {"ReduceProd", 18, 1, "axes"},      {"ReduceL1", 18, 1, "axes"},
    {"ReduceL2", 18, 1, "axes"},        {"ReduceLogSum", 18, 1, "axes"},
    {"ReduceLogSumExp", 18, 1, "axes"}, {"ReduceSumSquare", 18, 1, "axes"},
    {"Split", 13, 1, "split"},
};

static const struct attr *find_attr(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}

static void drop_attr(struct build *b, int node, const char *name)
{
    struct build_node *n = &b->nodes[node];
    struct attr *kept = arena_array(b->arena, (size_t)n->n_attrs + 1, sizeof *kept);
    int count = 0;
    for (int i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name))
            kept[count++] = n->attrs[i];
    n->attrs = kept;
    n->n_attrs = count;
}

/* The list becomes a constant input. */
static void move_attr(struct build *b, int node, const struct attr *list, int at)
{
    struct tensor t = {.type = DT_I64, .rank = 1, .dims = {(int64_t)list->n}};
    t.data = arena_copy(b->arena, list->ints, list->n * sizeof *list->ints + 1);
    int v = build_const(b, arena_printf(b->arena, "%s_%s", b->nodes[node].name, list->name), &t);
    struct build_node *n = &b->nodes[node];
    int *in = arena_array(b->arena, (size_t)at + 1, sizeof *in);
    memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
    in[at] = v;
    n->in = in;
    n->n_in = at + 1;
    drop_attr(b, node, list->name);
}

/* 1 if the node is in the new form now. */
static int move_lists(struct build *b, const struct node *n, int node)
{
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++) {
        const struct attr *list = find_attr(n, moved[i].attr);
        if (strcmp(moved[i].type, n->op_type) || n->opset >= moved[i].since)
            continue;
        if (list && list->type == ATTR_INTS)
            move_attr(b, node, list, moved[i].at);
        return list || strcmp(n->op_type, "Split") != 0;
    }
    /* Reductions and Split of 13 to 17 with their list as an input mean what they mean in 18. */
    return !strcmp(n->op_type, "Split") && n->n_in > 1;
}

static bool same_in_target(const struct node *n)
{
    if (op_find(n->domain, n->op_type, TARGET) == NULL)
        return false;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(forms[i].type, n->op_type))
            return n->opset >= forms[i].since;
    return op_find(n->domain, n->op_type, TARGET) == op_find(n->domain, n->op_type, n->opset);
}

static int raise_node(struct build *b, const struct node *n, int node, struct err *e)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (n->attrs[i].type == ATTR_GRAPH)
            return err_set(e, ERR_UNSUPPORTED, n->name,
                           "%s has a graph of opset %d inside, which is not made one of opset %d.",
                           n->op_type, n->opset, TARGET);
    if (!move_lists(b, n, node) && !same_in_target(n))
        return err_set(e, ERR_UNSUPPORTED, n->name,
                       "%s of opset %d is not the same in opset %d: export it with the pairs of "
                       "com.microsoft.",
                       n->op_type, n->opset, TARGET);
    b->nodes[node].opset = TARGET;
    return 0;
}

int export_raise(struct build *b, const struct graph *g, struct err *e)
{
    struct opset *list = arena_array(b->arena, (size_t)b->n_opsets + 1, sizeof *list);
    for (int i = 0; i < g->n_nodes; i++)
        if (!*g->nodes[i].domain && g->nodes[i].opset < TARGET && raise_node(b, &g->nodes[i], i, e))
            return -1;
    for (int i = 0; i < b->n_opsets; i++) {
        list[i] = b->opsets[i];
        if (!*list[i].domain && list[i].version < TARGET)
            list[i].version = TARGET;
    }
    b->opsets = list;
    return 0;
}
