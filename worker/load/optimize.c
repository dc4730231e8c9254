#include "worker/load/optimize.h"

#include "worker/load/build.h"

/* Two stages: a BatchNormalization becomes a Conv of its own only when nothing else takes it. */
static optimize_pass *const simplify[] = {pass_fold,      pass_inline, pass_identity, pass_dead,
                                          pass_batchnorm, pass_pad,    NULL};
static optimize_pass *const finish[] = {pass_swish, pass_batchnorm_unit, pass_fold, pass_dead,
                                        NULL};
enum { ROUNDS_MAX = 100 }; /* every change takes a node out or makes one simpler */

static int run(optimize_pass *const *passes, const struct graph **g, struct err *e)
{
    bool changed = true;
    for (int round = 0; changed; round++) {
        changed = false;
        if (round == ROUNDS_MAX)
            return err_set(e, ERR_INTERNAL, "", "The optimizer does not come to an end.");
        for (optimize_pass *const *p = passes; *p; p++) {
            const struct graph *before = *g;
            if ((*p)(before, g, e))
                return -1;
            changed = changed || *g != before;
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
