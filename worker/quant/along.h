/* A tensor seen along one of its dims, in memory order: outer × channels × inner. */
#ifndef PTQ_WORKER_QUANT_ALONG_H
#define PTQ_WORKER_QUANT_ALONG_H

#include "worker/load/tensor.h"

struct along {
    int64_t outer, channels, inner;
};

/* axis -1: one channel. */
static inline struct along look_along(const struct tensor *t, int axis)
{
    struct along v = {1, axis < 0 ? 1 : t->dims[axis], 1};
    bool cl = t->layout == LAYOUT_CL && t->rank >= 3;
    for (int d = 0; d < t->rank; d++) {
        if (d == axis)
            continue;
        bool before = cl && axis == 1 ? true : cl && d == 1 ? false : d < axis;
        *(before ? &v.outer : &v.inner) *= t->dims[d];
    }
    return v;
}

#endif
