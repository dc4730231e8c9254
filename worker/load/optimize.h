/* The passes of load/optimize/ and their order. */
#ifndef PTQ_WORKER_LOAD_OPTIMIZE_H
#define PTQ_WORKER_LOAD_OPTIMIZE_H

#include "worker/load/graph.h"

/* The optimized float graph (spec §3), in the same arena, with inferred types and origins. */
int optimize(struct graph *g, struct graph **ret, struct err *e);
/* The same graph with inferred types, nothing else. */
int optimize_types(struct graph *g, struct graph **ret, struct err *e);

#endif
