/* Activations of recurrent cells. */
#ifndef PTQ_WORKER_OPS_RNN_H
#define PTQ_WORKER_OPS_RNN_H

#include "worker/ops/op.h"

struct rnn_act {
    double (*value)(double x, double alpha, double beta);
    double alpha, beta;
};

/* The k-th functions of a node: by its attributes, else the defaults (closed by NULL), repeated.
 * `alphas` and `betas` go in order to the functions that take one. */
int rnn_activations(const struct strings *names, const struct floats *alphas,
                    const struct floats *betas, const char *const *defaults, int n,
                    struct rnn_act *ret, struct err *e);

#endif
