/* What the parts of a sweep share: sweep.c sets up and does whole runs, sweep_float.c makes the
 * float pass and keeps its values, sweep_run.c runs the changed part of a candidate. */
#ifndef PTQ_WORKER_EXEC_SWEEP_INNER_H
#define PTQ_WORKER_EXEC_SWEEP_INNER_H

#include "worker/exec/inner.h"
#include "worker/exec/sweep.h"
#include "worker/exec/sweep_memo.h"

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
    char *memory; /* the next four, float outputs, values: shared if `shared` */
    size_t memory_bytes;
    bool shared, all_kept;
    pid_t populated;             /* whose page table has all of it */
    struct kept *kept;           /* per value */
    float **exact_out;           /* per chosen output, plain; malloc'ed if not shared */
    struct tensor *exact_type;   /* its type and shape */
    struct metric_sums *no_loss; /* per chosen output: the float values against themselves */
    char *values_at;             /* in memory */
    uint64_t kept_bytes;

    bool whole_only; /* the graph has nodes that run graphs: every candidate is a full run */
    int *output_of;  /* value → chosen output, or NONE */

    struct memo *memo; /* of this process and sample */
    char *slab;        /* of this process, for one candidate after the other */
    size_t slab_bytes;
    pid_t slab_owner;
};

/* The process's slab becomes the exec's: fresh pages cost more than a node. */
int sweep_use_slab(struct sweep *s, struct exec *x, struct err *e);
int sweep_make_room(struct sweep *s, struct err *e);
void sweep_drop_sample(struct sweep *s);
/* An exec of the candidate; `plan` and what it points to are made in a. */
int sweep_exec(struct sweep *s, const int *calibs, int n, bool naive, struct arena *a,
               struct exec **ret, struct err *e);
/* Chosen output o, float against t. */
void sweep_compare(const struct sweep *s, int o, const struct tensor *t, struct metric_sums *ret);
int sweep_count_nodes(const struct exec *x);

#endif
