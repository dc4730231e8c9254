/*
 * Iterations: what Loop and Scan share. What lives from one iteration to the next is copied out of
 * the body's memory: carried values into slots, scan outputs into piles that are turned to their
 * axis at the end.
 */
#ifndef PTQ_WORKER_OPS_TURNS_H
#define PTQ_WORKER_OPS_TURNS_H

#include "common/buf.h"
#include "worker/exec/sub.h"
#include "worker/ops/walk.h"

#define TURNS_NOTE "its graphs run in float, nested at most 16 deep"

/* Equal tensors, one behind the other; a carried value is a pile of one. */
struct pile {
    struct tensor t; /* of one piece; data: the first */
    struct buf bytes;
    int64_t n;
};

/* A pile of one: `t`. */
int pile_set(const struct op_ctx *c, struct pile *p, const struct tensor *t, struct err *e);
void pile_clear(struct pile *p);
/* The type of n pieces along a new axis; *ret_axis in [0, rank]. */
int pile_type(const struct tensor *t, int64_t n, int64_t axis, struct tensor *ret, int *ret_axis,
              struct err *e);
/* Output i: the pieces along `axis`, the last one first when backward. */
int pile_out(const struct op_ctx *c, int i, const struct pile *p, int64_t axis, bool backward,
             struct err *e);

struct turns {
    const struct op_ctx *c;
    const struct graph *body;
    int n_states, n_scans;   /* outputs behind `first_out`: states, then scan outputs */
    int first_in, first_out; /* where the states begin in the body's inputs and outputs */
    struct pile *states, *scans;
    struct tensor *in;         /* the body's inputs */
    const struct tensor **out; /* the body's outputs */
};

void turns_init(struct turns *t, const struct op_ctx *c, const struct graph *body, int n_states,
                int first_in, int first_out);
void turns_done(struct turns *t);
/* Runs the body once: inputs from t->in and the states; takes the states and scan outputs up. */
int turns_run(struct turns *t, struct err *e);
/* The type of scan outputs that no iteration made; they have no piece. */
int turns_type_scans(struct turns *t, struct err *e);
/* The states become the node's first outputs. */
int turns_states_out(const struct turns *t, struct err *e);

/* The shape function of operators with graphs: known when they ran. */
int turns_shape(struct op_ctx *c, struct err *e);
/* Output i (if it is wanted): the bytes of `from`. */
int turns_copy_out(const struct op_ctx *c, int i, const struct tensor *from, struct err *e);

#endif
