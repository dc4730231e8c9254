/*
 * Graphs for tests, from a few lines of text:
 *   input x 1,3,8,8          a graph input
 *   const w 4,3,3,3 [v …]    a float32 constant; the values given repeat, default 1
 *   ints i 2 [v …]           an int64 constant
 *   output y
 *   name Op a,b -> c,d [attr=1 | attr=[1,2] | attr=text …]
 * Operators' rows are the real ones. Values that the text gives no shape are float32 of rank 4.
 */
#ifndef PTQ_TESTS_UNIT_MINI_H
#define PTQ_TESTS_UNIT_MINI_H

#include "worker/load/graph.h"

struct graph *mini_graph(struct arena *a, const char *text);

#endif
