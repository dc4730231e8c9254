#include "worker/load/optimize.h"

#include "worker/load/build.h"

int optimize_types(struct graph *g, struct graph **ret, struct err *e)
{
    return build_freeze(build_from(g, g->arena), ret, e);
}

int optimize(struct graph *g, struct graph **ret, struct err *e)
{
    return optimize_types(g, ret, e);
}
