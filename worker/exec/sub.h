/*
 * Graphs inside a node (T_SUBGRAPHS: If, Loop, Scan). The row's shape says SHAPE_WAITS; its run is
 * called with the values of all inputs, plain, and may use what is here: it sets the outputs' types
 * and takes their memory by exec_sub_out, and runs the graphs of its attributes by exec_sub_run. A
 * graph is bound to the shapes it is given and kept, so iterations of one shape bind once. What it
 * reads of the graph around it comes by itself; subgraphs run in float.
 */
#ifndef PTQ_WORKER_EXEC_SUB_H
#define PTQ_WORKER_EXEC_SUB_H

#include "worker/ops/op.h"

enum { SUB_DEPTH_MAX = 16, SUB_KEPT = 4 /* execs of one graph */ };
enum { SUB_RUNS_MAX = 1000000 }; /* runs of subgraphs in one run of the model, loops in loops too */

/* Runs graph `g` of the node's attributes on one plain tensor per graph input. ret[i]: its output
 * i, in memory that the next run of the same graph takes back. ERR_LIMIT for too deep a nesting
 * and for more than SUB_RUNS_MAX runs. */
int exec_sub_run(const struct op_ctx *c, const struct graph *g, const struct tensor *in,
                 const struct tensor **ret, struct err *e);
/* Type and dims of output i for such inputs, as far as they can be told without running it: else
 * the declared ones with 0 for what they leave open; ERR_UNSUPPORTED without a declaration. */
int exec_sub_type(const struct op_ctx *c, const struct graph *g, const struct tensor *in, int i,
                  struct tensor *ret, struct err *e);

/* Output i of the node gets this type and shape, and memory. Nothing happens if it is unwanted. */
int exec_sub_out(const struct op_ctx *c, int i, const struct tensor *type, struct err *e);
/* Bytes that the run may still take; what the operator itself allocates is to stay below. */
size_t exec_sub_room(const struct op_ctx *c);

#endif
