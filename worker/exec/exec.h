/*
 * The executor: a graph bound to concrete input shapes and a plan, ready to run.
 *
 * exec_new shapes every node, folds what depends on shapes only, assigns layouts (channels-last
 * inside), places the plan's calibrations that are ON as quantize steps, packs the weights
 * (quantized where the plan says so), and plans one slab of memory by liveness. exec_run then
 * allocates nothing but what nodes of data-dependent shape need. Read-only parts may be shared by
 * forked processes; the slab is mapped at the first run, so each process touches its own.
 */
#ifndef PTQ_WORKER_EXEC_EXEC_H
#define PTQ_WORKER_EXEC_EXEC_H

#include "worker/exec/backend.h"
#include "worker/load/graph.h"

struct plan;
struct exec;

struct exec_opts {
    const struct backend *backend; /* NULL: the best */
    const struct plan *plan;       /* NULL: float. Must outlive the exec */
    const struct exec *share;      /* an exec of the same graph and shapes: packed weights that are
                                      the same under both plans are taken from it; it must outlive
                                      this one. NULL: none */
    const struct exec *share_also; /* asked for what `share` has not; needs `share` */
    const int *keep;               /* values that must survive the run beside the outputs */
    int n_keep;
    uint64_t memory_max; /* bytes for slab and packed weights; 0: no limit */
};

/* inputs: one tensor per graph input, in order; type and dims are used (data may be NULL).
 * ERR_BAD_DATA names an input that does not fit the model; ERR_MEMORY_LIMIT tells the bytes. */
int exec_new(const struct graph *g, const struct tensor *inputs, const struct exec_opts *opts,
             struct exec **ret, struct err *e);
void exec_free(struct exec *x);

struct exec_size {
    uint64_t slab_bytes, packed_bytes, shared_bytes;
    int64_t macs;
};
void exec_size(const struct exec *x, struct exec_size *ret);
/* The backend that a node runs on; NULL: none (no convolution or GEMM, or folded). */
const struct backend *exec_backend(const struct exec *x, int node);

/* Called in the run, right after a value is computed, before any reader; graph inputs count as
 * computed at the start, constants of the graph never. The tensor is valid only during the call and
 * may be channels-last. `quantized` tells the fake-quantized copy (value is
 * then a calibration's index) from the value itself. Non-zero stops the run with *e set. */
typedef int exec_watch(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e);

/* inputs: plain layout, with data. watch may be NULL. */
int exec_run(struct exec *x, const struct tensor *inputs, exec_watch *watch, void *ctx,
             struct err *e);

/* After a run: graph output i (plain layout), or a kept value (its own layout). */
const struct tensor *exec_output(const struct exec *x, int i);
const struct tensor *exec_value(const struct exec *x, int value);

/* What a run was spent on. After exec_time(x), each run notes the processor time of its steps;
 * exec_cost tells step i of the last one, false behind the last step. */
struct exec_cost {
    const char *name;    /* the node's, the calibration's, or the reordered value's */
    const char *type;    /* operator, "(quantize)" or "(reorder)" */
    const char *backend; /* NULL: none */
    int64_t begin_ns, ns;
    int64_t bytes; /* of all tensors that it reads and writes */
    int64_t macs;  /* 0: not counted for this operator */
};
void exec_time(struct exec *x);
bool exec_cost(const struct exec *x, int i, struct exec_cost *ret);

/* Constant folding and shape inference without data, for load/: as far as it goes. Sets dims of
 * values that become known; *ret_folded[v] is the constant that value v has, or NULL. Dims that
 * depend on the data stay -1. Everything allocated in `a`. A node whose folding costs more than is
 * left of the graph's fold_left stays; ret_left (may be NULL): what is left then. */
int exec_fold(const struct graph *g, struct arena *a, struct tensor *ret_types,
              struct tensor **ret_folded, int64_t *ret_left, struct err *e);

#endif
