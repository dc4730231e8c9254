/*
 * From the graph of a file to the optimized float graph (spec §3): the passes of load/optimize/,
 * one file each, in the order of the table in optimize.c, until nothing changes. A pass is a
 * function from a graph to a graph; nothing it does may change the outputs beyond float rounding.
 * What a bounded number of rounds does not come to stays as the file has it.
 */
#ifndef PTQ_WORKER_LOAD_OPTIMIZE_H
#define PTQ_WORKER_LOAD_OPTIMIZE_H

#include "worker/load/graph.h"

/* The optimized float graph, in the same arena, with inferred types and origins. */
int optimize(const struct graph *g, struct graph **ret, struct err *e);
/* The same graph with inferred types, nothing else. */
int optimize_types(const struct graph *g, struct graph **ret, struct err *e);

/* *ret = g if there was nothing to do. */
typedef int optimize_pass(const struct graph *g, const struct graph **ret, struct err *e);

optimize_pass pass_fold;           /* constants, shape arithmetic */
optimize_pass pass_inline;         /* If with a constant condition */
optimize_pass pass_identity;       /* Identity, Dropout */
optimize_pass pass_dead;           /* nodes that nothing needs */
optimize_pass pass_batchnorm;      /* into the Convs before it */
optimize_pass pass_pad;            /* zero Pad into the Conv behind it */
optimize_pass pass_swish;          /* x·Sigmoid(x), x·HardSigmoid(x), x·Clip(x+3)/6 */
optimize_pass pass_batchnorm_unit; /* what stands alone becomes a depthwise Conv */

#endif
