/* Nets that are large in one way or another, for tests of time and memory: make_<kind>(m, n) has
 * about n nodes. Inputs are one small float tensor x, or none. */
#ifndef PTQ_TESTS_UNIT_BIG_NETS_H
#define PTQ_TESTS_UNIT_BIG_NETS_H

#include "tests/onnx_maker.h"

struct big_net {
    const char *name;
    void (*make)(struct onnx_maker *m, int n);
};
/* All kinds, closed by an empty row. */
extern const struct big_net big_nets[];

#endif
