#include "worker/jobs/shapes.h"

#include "worker/exec/exec.h"
#include "worker/ops/op.h"

int shapes_open(struct shapes *s, const struct graph *g, struct err *e)
{
    size_t n = (size_t)g->n_values + 1;
    s->g = g;
    s->types = arena_array(&s->arena, n, sizeof *s->types);
    s->folded = arena_array(&s->arena, n, sizeof *s->folded);
    return exec_fold(g, &s->arena, s->types, s->folded, NULL, e);
}

void shapes_done(struct shapes *s)
{
    arena_done(&s->arena);
}

/* The types of a node's values in a list of n; false when one is not known. */
static bool known_types(const struct shapes *s, const int *values, int n, struct tensor **ret)
{
    for (int i = 0; i < n; i++) {
        ret[i] = values[i] == VALUE_NONE ? NULL : &s->types[values[i]];
        if (ret[i] && (ret[i]->type == DT_NONE || !tensor_known(ret[i])))
            return false;
    }
    return true;
}

int64_t shapes_macs(const struct shapes *s, const struct node *n)
{
    if (!n->op || !n->op->macs)
        return 0;
    struct arena work = ARENA_INIT;
    struct tensor **in = arena_array(&work, (size_t)n->n_in + 1, sizeof *in);
    struct tensor **out = arena_array(&work, (size_t)n->n_out + 1, sizeof *out);
    int64_t macs = -1;
    if (known_types(s, n->in, n->n_in, in) && known_types(s, n->out, n->n_out, out))
        macs = n->op->macs(&(struct op_ctx){.node = n,
                                            .attr = n->attr,
                                            .n_in = n->n_in,
                                            .n_out = n->n_out,
                                            .in = (const struct tensor **)in,
                                            .out = out});
    arena_done(&work);
    return macs;
}
