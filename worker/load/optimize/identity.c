/* Identity, and Dropout as inference runs it: readers take the input instead. */
#include <string.h>

#include "worker/load/optimize/edit.h"

/* Dropout passes its input on unless training is asked for; its mask must be unread. */
static bool passes_on(const struct graph *g, const struct node *n)
{
    if (node_is(n, "Identity"))
        return true;
    if (!node_is(n, "Dropout") || (n->n_out > 1 && n->out[1] >= 0))
        return false;
    if (n->opset < 7)
        return node_int(n, "is_test", 0) != 0;
    if (n->n_in < 3 || n->in[2] < 0)
        return true;
    const struct tensor *training = edit_const(g, n, 2);
    return training && tensor_int(training, 0) == 0;
}

/* The name of a graph output stays: its producer takes it over. Inputs, constants and other
 * outputs cannot give theirs up, so there the node stays. */
static bool rename_source(struct edit *ed, const struct node *n)
{
    const struct value *x = &ed->g->values[n->in[0]];
    if (x->producer < 0 || x->is_output || (ed->touched && ed->touched[x->producer]))
        return false;
    struct build *b = edit_builder(ed);
    struct build_node *from = &b->nodes[x->producer];
    for (int i = 0; i < from->n_out; i++)
        if (from->out[i] == n->in[0])
            from->out[i] = n->out[0];
    build_use(b, n->in[0], n->out[0]);
    edit_touch(ed, x->producer);
    return true;
}

static void take_out(struct edit *ed, int i)
{
    const struct node *n = &ed->g->nodes[i];
    if (n->out[0] < 0 || n->in[0] < 0 || (ed->touched && ed->touched[i]))
        return;
    if (ed->g->values[n->out[0]].is_output) {
        if (!rename_source(ed, n))
            return;
    } else {
        build_use(edit_builder(ed), n->out[0], n->in[0]);
    }
    build_drop(edit_builder(ed), i, -1, "removed");
    edit_touch(ed, i);
}

int pass_identity(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = 0; i < g->n_nodes; i++)
        if (passes_on(g, &g->nodes[i]))
            take_out(&ed, i);
    return edit_done(&ed, ret);
}
