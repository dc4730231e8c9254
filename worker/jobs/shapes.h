/* A graph's shapes as far as they can be known without data, and what its nodes cost. */
#ifndef PTQ_WORKER_JOBS_SHAPES_H
#define PTQ_WORKER_JOBS_SHAPES_H

#include "worker/load/graph.h"

struct shapes {
    const struct graph *g;
    struct arena arena;
    struct tensor *types;   /* of every value; DT_NONE: not known */
    struct tensor **folded; /* constants that shapes gave */
};

/* *s is zeroed before. Shapes that contradict each other are an error. shapes_done in any case. */
int shapes_open(struct shapes *s, const struct graph *g, struct err *e);
void shapes_done(struct shapes *s);

/* A node's multiply-accumulates; 0 when its operator has none, -1 when a shape is not known. */
int64_t shapes_macs(const struct shapes *s, const struct node *n);

#endif
