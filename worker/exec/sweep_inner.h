/* What the two halves of a sweep share: sweep.c sets up and does whole runs, sweep_run.c runs the
 * changed part of a candidate. */
#ifndef PTQ_WORKER_EXEC_SWEEP_INNER_H
#define PTQ_WORKER_EXEC_SWEEP_INNER_H

#include "worker/exec/inner.h"
#include "worker/exec/sweep.h"

/* A value of the float pass. */
struct kept {
    struct tensor t; /* data NULL: not kept */
    bool chosen;     /* to be kept: it has room in `memory`, or is allocated when its size shows */
    bool own;        /* t.data is malloc'ed */
    size_t offset;
};

struct sweep {
    struct arena arena;
    const struct graph *graph;
    struct sweep_opts opts;
    struct exec *exact, *weights; /* in float; with every constant's calibration ON */
    struct tensor *inputs;
    struct kept *kept; /* per value */
    char *memory;      /* shared by forked processes */
    size_t memory_bytes;
    uint64_t kept_bytes;
    bool whole_only; /* the graph has nodes that run graphs: every candidate is a full run */

    int *output_of;              /* value → chosen output, or NONE */
    float **exact_out;           /* per chosen output, plain; malloc'ed */
    struct tensor *exact_type;   /* its type and shape */
    struct metric_sums *no_loss; /* per chosen output: the float values against themselves */

    char *slab; /* of this process, for one candidate after the other */
    size_t slab_bytes;
    pid_t slab_owner;
};

/* An exec of the candidate; `plan` and what it points to are made in a. */
int sweep_exec(struct sweep *s, const int *calibs, int n, bool naive, struct arena *a,
               struct exec **ret, struct err *e);
/* Chosen output o, float against t. */
void sweep_compare(const struct sweep *s, int o, const struct tensor *t, struct metric_sums *ret);
int sweep_count_nodes(const struct exec *x);

#endif
