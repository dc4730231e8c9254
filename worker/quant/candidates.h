/*
 * What a sensitivity sweep tries, one after the other (spec §5): a candidate is a set of
 * calibrations that are ON together while all others are OFF.
 */
#ifndef PTQ_WORKER_QUANT_CANDIDATES_H
#define PTQ_WORKER_QUANT_CANDIDATES_H

#include <jansson.h>

#include "worker/quant/plan.h"

enum node_type { BY_NODE, BY_WEIGHT, BY_ACTIVATION, NODE_TYPE_COUNT };
const char *node_type_name(enum node_type t);               /* "node" … */
int node_type_parse(const char *name, enum node_type *ret); /* -1 if unknown */

struct candidate {
    const char *name;
    int n_calibs;
    const int *calibs;   /* of the plan, ascending */
    const bool *reaches; /* chosen output → depends on this candidate */
    int same;            /* the first candidate with the same calibrations, or itself */
};

struct candidates {
    int n, n_outputs;
    struct candidate *list;          /* in topological order, or as they were asked for */
    const int *outputs;              /* values */
    const char *const *output_names; /* as asked for */
    int n_unheard;                   /* asked for, but reach none of the outputs */
    const char *const *unheard;
};

/*
 * node: a node with the calibrations that plan_find_input tells for its inputs; without any it is
 * no candidate. weight, activation: a calibration each. Who reaches none of the outputs is left
 * out.
 * outputs: NULL or null: the graph's; else names of nodes (their first output) or of values.
 * interested: NULL or null: all; else a list of names, a nested list being one candidate "a+b".
 * Pointers of errors start at /options/outputs and /options/interested_nodes. Lives in a.
 */
int candidates_find(const struct plan *p, enum node_type type, const json_t *outputs,
                    const json_t *interested, struct arena *a, struct candidates **ret,
                    struct err *e);

/* Over what the candidate does to the graph: numbers and ports of its calibrations. */
void candidate_digest(const struct plan *p, const struct candidate *c, struct digest *ret);

#endif
