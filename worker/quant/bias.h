/* Bias correction (spec §2): what the pass over the graph needs; jobs/bias.c measures. */
#ifndef PTQ_WORKER_QUANT_BIAS_H
#define PTQ_WORKER_QUANT_BIAS_H

#include "worker/quant/plan.h"

/* The graph with a constant bias of its own for each Conv and ConvTranspose that may be corrected:
 * made of zeros where there was none, a copy where another node reads it too. The low part of a
 * compensated node has none; a computed bias stays as it is. */
int bias_graph(const struct graph *g, struct arena *a, struct graph **ret, struct err *e);
/* The value of that bias, or VALUE_NONE. */
int bias_of(const struct graph *g, int node);

#endif
