/* Random graphs with calibrations, for the tests of sweeps: the same number, the same graph. */
#ifndef PTQ_TESTS_UNIT_RANDOM_NET_H
#define PTQ_TESTS_UNIT_RANDOM_NET_H

#include "worker/load/graph.h"
#include "worker/quant/plan.h"

struct random_net {
    struct graph *graph;
    struct plan *plan;
    struct tensor input;
};

/* 4 to 24 operators on one input [1, 4, 8, 8]; every value that nobody reads is an output. */
void random_net(unsigned number, struct arena *a, struct random_net *ret);
/* Another input for it. */
struct tensor random_input(unsigned number, struct arena *a);

/* Calibrations where they stand, of random types, with thresholds near what a run shows. */
struct plan *random_plan(const struct graph *g, const struct tensor *inputs, struct arena *a);

#endif
