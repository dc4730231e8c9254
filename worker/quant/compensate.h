/*
 * Error compensation, "ec" (spec §7): an int8-only port of node N reads V = high + low. N keeps
 * the high part; a twin `N_split_low` of the same operator reads what int8 left over, and
 * `N_split_add` sums both under the name of N's old output. A constant V is two constants; of a
 * computed one `N_split_sub` takes away what N's port really gave. The parts are ordinary nodes
 * of the graph and are known by their names and their places, so a file needs no more to say them.
 */
#ifndef PTQ_WORKER_QUANT_COMPENSATE_H
#define PTQ_WORKER_QUANT_COMPENSATE_H

#include "worker/quant/plan.h"

#define SPLIT_LOW "_split_low"
#define SPLIT_ADD "_split_add"
#define SPLIT_SUB "_split_sub"

/* Graph g with the parts of all marked nodes: input[n] is the port that is compensated, or -1.
 * Constants are not split yet: high is the whole and low is zero. ERR_INVALID for a node whose
 * parts are there already, or one without an output of its own. */
int compensate_graph(const struct graph *g, const int *input, struct arena *a, struct graph **ret,
                     struct err *e);

/* The compensated node whose part `node` is, or -1. */
int compensate_of_low(const struct graph *g, int node);
int compensate_of_add(const struct graph *g, int node);
int compensate_of_sub(const struct graph *g, int node);
/* The twin of a compensated node, or -1. */
int compensate_low(const struct graph *g, int node);
/* The input of a compensated node in which it differs from its twin. */
int compensate_input(const struct graph *g, int node);
/* Can its output be int16? Resize and GridSample can in mode nearest only. */
bool compensate_lifts_output(const struct graph *g, int node);

/* Thresholds for the low parts, from those of the high ones; and the constants are split, for which
 * the plan gets a graph of its own when there are any. */
void compensate_thresholds(struct plan *p);

#endif
