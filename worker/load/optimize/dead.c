/* Nodes whose outputs nothing needs. */
#include "worker/load/optimize/edit.h"

static bool needed(const struct graph *g, const bool *read, const struct node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && (read[n->out[i]] || g->values[n->out[i]].is_output))
            return true;
    return false;
}

/* What a node that stays reads, its subgraphs included, stays. */
static void mark(bool *read, const struct node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] >= 0)
            read[n->in[i]] = true;
    for (int k = 0; k < n->n_attrs; k++)
        if (n->attrs[k].type == ATTR_GRAPH)
            for (int v = 0; v < n->attrs[k].g->n_values; v++)
                if (n->attrs[k].g->values[v].outer >= 0)
                    read[n->attrs[k].g->values[v].outer] = true;
}

int pass_dead(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct arena scratch = ARENA_INIT;
    bool *read = arena_alloc(&scratch, (size_t)g->n_values + 1);
    struct edit ed;
    edit_init(&ed, g, e);
    for (int i = g->n_nodes - 1; i >= 0; i--)
        if (needed(g, read, &g->nodes[i]))
            mark(read, &g->nodes[i]);
        else
            build_drop(edit_builder(&ed), i, -1, "removed");
    arena_done(&scratch);
    return edit_done(&ed, ret);
}
