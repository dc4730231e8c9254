/*
 * Inside the executor. exec_new goes through the files in this order, and each adds its part:
 *   bind.c    shapes of all values for the given inputs; folds what is constant then
 *   steps.c   places: which tensors lie in memory, in which layout; the list of steps
 *   pack.c    constants through their calibrations, then every operator's prepare
 *   slab.c    one offset in the slab for each place
 *   run.c     the loop
 *   sub.c     graphs inside nodes: an exec of their own, bound in the run
 *
 * A source is something that can be read: value v is source v, and the output of calibration k is
 * source n_values + k. A place is a source in memory in one layout; a source that is read in both
 * layouts has two, unless the bytes are the same. Places share a buffer when they may.
 */
#ifndef PTQ_WORKER_EXEC_INNER_H
#define PTQ_WORKER_EXEC_INNER_H

#include <sys/types.h>

#include "worker/exec/exec.h"
#include "worker/ops/op.h"
#include "worker/quant/plan.h"

enum { NONE = -1 };

enum place_kind {
    PLACE_CONST, /* t.data is fixed */
    PLACE_INPUT, /* t.data is the caller's, from run to run */
    PLACE_SLAB,  /* t.data is buffer's, once the slab is mapped */
    PLACE_LATE   /* shape, layout and data are known only in the run */
};

struct place {
    struct tensor t;
    enum place_kind kind;
    int source;
    int input;  /* PLACE_INPUT */
    int buffer; /* PLACE_SLAB */
};

/* Bytes of the slab, from the step that writes first to the step that reads last. */
struct buffer {
    size_t bytes, offset;
    int first, last;
    int root;    /* the buffer whose memory it shares, or itself */
    bool pinned; /* lives to the end of the run */
};

enum step_kind {
    STEP_NODE,
    STEP_QUANT,   /* in place 0 → out place 0 by calibration `index` */
    STEP_REORDER, /* in place 0 → out place 0, other layout; or a plain copy */
    STEP_FOLDED   /* nothing to do: the value was folded; told to the watch */
};

struct step {
    enum step_kind kind;
    int index; /* node, calibration, or value */
    int n_in, n_out;
    int *in, *out; /* places or NONE */
    bool late;     /* shaped and prepared in the run */
    int n_held;    /* what the node's subgraphs read of this graph, in the order in which the */
    int *held;     /* attributes' graphs have their outer values: places, plain if not late */
    struct tensor *captured; /* the same as the last run found it, plain */
    struct op_ctx ctx;       /* STEP_NODE */
    size_t prep_bytes;       /* that its prepare took */
};

struct exec {
    struct arena arena;     /* everything but what is below */
    struct arena run_arena; /* what the last run made of data-dependent shape */
    const struct graph *graph;
    const struct plan *plan;
    const struct backend *backend;
    const struct exec *share;
    struct exec_opts opts;
    int depth;        /* of nesting: 0 is a model's own graph */
    int n_inputs;     /* what comes from outside: graph inputs, in a subgraph then outer values */
    int *inputs;      /* their values */
    struct sub *subs; /* sub.c: execs of subgraphs, the one used last in front */
    int64_t own_sub_runs, *sub_runs; /* of this run, in all depths: the outermost exec counts */

    /* bind.c: per value */
    struct tensor *types; /* DT_NONE: known only in the run. With data: constant or folded */

    /* steps.c */
    int n_sources, n_places, places_cap, n_steps, steps_cap, n_buffers, buffers_cap;
    struct place **places; /* each stays where it is: contexts point to its tensor */
    struct step **steps;
    struct buffer *buffers;
    int (*at)[2];                  /* source → place by layout, or NONE */
    int *node_step;                /* node → its step, or NONE */
    int *outputs;                  /* graph output → place */
    bool *used;                    /* calibration is ON and something reads it */
    int *first_calib, *next_calib; /* value → its calibrations, in order; with a plan */

    /* slab.c, run.c */
    size_t slab_bytes, scratch_offset, scratch_bytes, shared_bytes;
    char *slab;
    pid_t slab_owner;
    bool slab_lent; /* by exec_use_slab */
    int64_t macs;
    int64_t *began_ns; /* profile.c: when each step of the last run began; one more for its end */
};

/* exec.c */
/* exec_new at a depth. inputs: also the outer values; those with data are constants there. */
int exec_make(const struct graph *g, const struct tensor *inputs, const struct exec_opts *opts,
              int depth, struct exec **ret, struct err *e);
/* All memory that it holds now: slab, constants, the last run, subgraphs. */
uint64_t exec_bytes(const struct exec *x);
/* ERR_MEMORY_LIMIT if that and so many bytes more are over the limit. */
int exec_check_room(const struct exec *x, uint64_t more, struct err *e);

/* bind.c */
int exec_bind(struct exec *x, const struct tensor *inputs, struct err *e);
/* The calibration that input i of the node really reads: the plan's, or its nearest parent that is
 * ON; NONE: the value itself. */
int exec_port(const struct exec *x, const struct node *n, int i);

/* The source that graph output i is taken from: its value, or the calibration behind it. */
int exec_output_source(const struct exec *x, int i);

/* steps.c */
int exec_steps(struct exec *x, struct err *e);
/* A new place for the source: dims and type from t, in that layout. */
int exec_place(struct exec *x, enum place_kind kind, int source, const struct tensor *t,
               enum layout layout);
/* An input on offer: which layouts of it lie ready. */
struct offer {
    const struct tensor *t; /* NULL: absent */
    bool ready[2];          /* by layout */
    bool neutral;           /* a constant, or the same bytes in both: nothing to keep to */
};
/* The layouts that an operator reads its inputs in. */
void exec_want(const struct op *op, const struct offer *in, int n_in, enum layout *ret);
/* The layout of output i, whose rank is known, when the inputs lie as they do. */
enum layout exec_gives(const struct op *op, const struct tensor *const *in, int n_in,
                       const struct tensor *out, int i);
/* Both layouts of t are the same bytes. */
bool exec_same_bytes(const struct tensor *t);

/* pack.c */
int exec_pack(struct exec *x, struct err *e);
/* The place of a constant source in that layout, made if there is none. */
int exec_const_place(struct exec *x, int source, enum layout layout, struct err *e);
bool exec_is_const(const struct exec *x, int source);
/* What calibration k reads: its value, or its nearest parent that is ON. */
int exec_calib_source(const struct exec *x, int k);

/* run.c */
/* *t as it is read in that layout: itself, or a copy in the run's memory. */
int exec_turn(struct exec *x, const struct tensor **t, enum layout layout, struct err *e);
/* Memory of the run for a tensor whose shape is known. */
int exec_allot(struct exec *x, struct tensor *t, struct err *e);

/* sub.c */
int exec_capture(struct exec *x, struct step *s, struct err *e);
void exec_free_subs(struct exec *x);
uint64_t exec_subs_bytes(const struct exec *x);

/* profile.c: the thread's processor time. */
int64_t exec_clock_ns(void);

/* slab.c */
void exec_plan_slab(struct exec *x);
/* slab_time.c: gives each of many buffers its offset, in the order of their first steps. */
void exec_place_in_time(struct buffer **list, int n, struct arena *a);
/* The caller's memory for the slab, of slab_bytes and aligned as pages; not unmapped by exec_free.
 */
void exec_use_slab(struct exec *x, char *memory);
/* Maps the slab in this process and points the places into it. */
int exec_map_slab(struct exec *x, struct err *e);
void exec_unmap_slab(struct exec *x);

/* run.c: exec_run in pieces, without a watch */
int exec_load_inputs(struct exec *x, const struct tensor *inputs, struct err *e);
int exec_run_step(struct exec *x, struct step *s, struct err *e);

#endif
