/*
 * What passes share: an edit is a frozen graph to look at and a builder that is made at the first
 * change. Within one pass a value or node is changed once: who finds it touched leaves the rest to
 * the next round.
 */
#ifndef PTQ_WORKER_LOAD_OPTIMIZE_EDIT_H
#define PTQ_WORKER_LOAD_OPTIMIZE_EDIT_H

#include "worker/load/build.h"
#include "worker/load/optimize.h"
#include "worker/ops/op.h"

struct edit {
    const struct graph *g;
    struct build *b; /* NULL until the first change */
    bool *touched;   /* per node of g */
    struct err *e;
};

void edit_init(struct edit *ed, const struct graph *g, struct err *e);
struct build *edit_builder(struct edit *ed);
int edit_done(struct edit *ed, const struct graph **ret);

bool node_is(const struct node *n, const char *op_type); /* of the ONNX domain */
/* The node that makes input i and whose output 0 only this node reads; -1 if it is not so, or if
 * the value is a graph output, or the node is touched. */
int edit_sole_producer(const struct edit *ed, const struct node *n, int i);
/* Marks nodes as changed. */
void edit_touch(struct edit *ed, int node);
/* Takes node `gone` out, whose work `into` does from now on, which gets its output 0. */
void edit_fuse_behind(struct edit *ed, int into, int gone);

/* The constant that input i is, or NULL. */
const struct tensor *edit_const(const struct graph *g, const struct node *n, int i);
/* A constant float of one element. */
bool edit_scalar(const struct graph *g, const struct node *n, int i, float *ret);
const struct attr *node_attr(const struct node *n, const char *name);
float node_float(const struct node *n, const char *name, float otherwise);
int64_t node_int(const struct node *n, const char *name, int64_t otherwise);
/* Puts a changed constant in the place of input i: the same value if only this node reads it. */
void edit_replace_const(struct edit *ed, int node, int i, const struct tensor *t);

#endif
