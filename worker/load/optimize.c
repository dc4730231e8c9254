#include "worker/load/optimize.h"

#include "worker/load/build.h"

/* Two stages: a BatchNormalization becomes a Conv of its own only when nothing else takes it. */
static optimize_pass *const simplify[] = {pass_fold,      pass_inline, pass_identity, pass_dead,
                                          pass_batchnorm, pass_pad,    NULL};
static optimize_pass *const finish[] = {pass_swish, pass_batchnorm_unit, pass_fold, pass_dead,
                                        NULL};
/* Every pass leaves a graph that is right, so it may end anywhere; it does where a file was made to
 * let it go on for long: a chain of which each round takes out one. Each change copies the graph.
 */
enum { ROUNDS_MAX = 100, NODES_COPIED_MAX = 500000 };

static int run(optimize_pass *const *passes, const struct graph **g, struct err *e)
{
    bool changed = true;
    int64_t copied = 0;
    for (int round = 0; changed && round < ROUNDS_MAX; round++) {
        changed = false;
        for (optimize_pass *const *p = passes; *p && copied < NODES_COPIED_MAX; p++) {
            const struct graph *before = *g;
            if ((*p)(before, g, e))
                return -1;
            if (*g == before)
                continue;
            changed = true;
            copied += before->n_nodes;
        }
    }
    return 0;
}

int optimize(const struct graph *g, struct graph **ret, struct err *e)
{
    struct graph *typed;
    if (run(simplify, &g, e) || optimize_types(g, &typed, e))
        return -1;
    g = typed;
    return run(finish, &g, e) ? -1 : optimize_types(g, ret, e);
}
