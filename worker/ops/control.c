/* If and Loop. Their graphs run in float by exec/sub.h. */
#include "worker/ops/turns.h"

static struct tensor scalar_for(const struct graph *g, int i, enum dtype type, void *data)
{
    const struct tensor *want = &g->values[g->inputs[i]].type;
    struct tensor t = {.type = type, .data = data};
    if (want->type && want->rank == 1) {
        t.rank = 1;
        t.dims[0] = 1;
    }
    return t;
}

static int truth(const struct tensor *t, bool *ret, struct err *e)
{
    char text[TENSOR_TEXT_MAX];
    if (t->type != DT_BOOL || tensor_count(t) != 1)
        return err_set(e, ERR_BAD_MODEL, "", "a condition must be one bool, not %s",
                       tensor_text(t, text));
    *ret = *(const uint8_t *)t->data != 0;
    return 0;
}

/* ---- If ---- */

struct if_attr {
    const struct graph *then_branch, *else_branch;
};

static int if_check(const struct node *n, void *attr, struct err *e)
{
    const struct if_attr *a = attr;
    const struct graph *const branches[] = {a->then_branch, a->else_branch};
    for (int i = 0; i < 2; i++)
        if (n->n_in != 1 || branches[i]->n_inputs || branches[i]->n_outputs < n->n_out)
            return err_set(e, ERR_BAD_MODEL, "",
                           "The branch \"%.100s\" has %d inputs and %d outputs, the node has %d "
                           "outputs.",
                           branches[i]->name, branches[i]->n_inputs, branches[i]->n_outputs,
                           n->n_out);
    return 0;
}

static int if_run(const struct op_ctx *c, struct err *e)
{
    const struct if_attr *a = c->attr;
    bool yes;
    if (truth(c->in[0], &yes, e))
        return -1;
    const struct graph *g = yes ? a->then_branch : a->else_branch;
    const struct tensor **out = arena_array(c->arena, (size_t)g->n_outputs + 1, sizeof *out);
    if (exec_sub_run(c, g, NULL, out, e))
        return -1;
    for (int i = 0; i < c->n_out; i++)
        if (turns_copy_out(c, i, out[i], e))
            return -1;
    return 0;
}

/* ---- Loop ---- */

struct loop_attr {
    const struct graph *body;
};

static int loop_states(const struct node *n)
{
    return n->n_in > 2 ? n->n_in - 2 : 0;
}

static int loop_check(const struct node *n, void *attr, struct err *e)
{
    const struct graph *g = ((const struct loop_attr *)attr)->body;
    int states = loop_states(n);
    for (int i = 2; i < n->n_in; i++)
        if (n->in[i] < 0)
            return err_set(e, ERR_BAD_MODEL, "", "Input %d of Loop is missing.", i);
    if (g->n_inputs != states + 2 || g->n_outputs < states + 1 || n->n_out > g->n_outputs - 1)
        return err_set(e, ERR_BAD_MODEL, "",
                       "The body has %d inputs and %d outputs: that does not fit %d carried values "
                       "and %d outputs of the node.",
                       g->n_inputs, g->n_outputs, states, n->n_out);
    return 0;
}

static int loop_turns(struct turns *t, int64_t trips, bool go, struct err *e)
{
    const struct op_ctx *c = t->c;
    int64_t i = 0;
    for (int k = 0; k < t->n_states; k++)
        if (pile_set(c, &t->states[k], c->in[2 + k], e))
            return -1;
    t->in[0] = scalar_for(t->body, 0, DT_I64, &i);
    t->in[1] = scalar_for(t->body, 1, DT_BOOL, &go);
    for (; go && i < trips; i++) {
        if (turns_run(t, e) || truth(t->out[0], &go, e))
            return -1;
    }
    if (turns_type_scans(t, e) || turns_states_out(t, e))
        return -1;
    for (int k = 0; k < t->n_scans; k++)
        if (pile_out(c, t->n_states + k, &t->scans[k], 0, false, e))
            return -1;
    return 0;
}

static int loop_run(const struct op_ctx *c, struct err *e)
{
    const struct loop_attr *a = c->attr;
    struct turns t;
    int64_t trips = INT64_MAX;
    bool go = true;
    if (c->n_in > 0 && c->in[0] && op_input_int(c, 0, &trips, e))
        return -1;
    if (c->n_in > 1 && c->in[1] && truth(c->in[1], &go, e))
        return -1;
    turns_init(&t, c, a->body, loop_states(c->node), 2, 1);
    int rc = loop_turns(&t, trips, go, e);
    turns_done(&t);
    return rc;
}

/* ---- the rows ---- */

static const struct attr_def if_attrs[] = {ATTR(GRAPH, if_attr, then_branch, .required = true),
                                           ATTR(GRAPH, if_attr, else_branch, .required = true),
                                           {0}};
static const struct attr_def loop_attrs[] = {ATTR(GRAPH, loop_attr, body, .required = true), {0}};

#define CONTROL(stem, run_)                                                                        \
    .domain = ONNX, .since = 1, .max_in = -1, .max_out = -1, .traits = T_SUBGRAPHS,                \
    .layout = L_PLAIN, .attrs = stem##_attrs, .attr_size = sizeof(struct stem##_attr),             \
    .check = stem##_check, .shape = turns_shape, .run = run_

const struct op ops_control[] = {
    {"If", CONTROL(if, if_run), .min_in = 1,
     .note = TURNS_NOTE "; one whose condition is constant is inlined", .types = TYPE(BOOL)},
    {"Loop", CONTROL(loop, loop_run), .note = TURNS_NOTE, .types = TYPE(I32) | TYPE(I64)},
    {0}};
