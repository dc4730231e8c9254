/* What the candidates of a sweep have in common, found as they run; see sweep_memo.c. */
#ifndef PTQ_WORKER_EXEC_SWEEP_MEMO_H
#define PTQ_WORKER_EXEC_SWEEP_MEMO_H

#include "worker/exec/inner.h"
#include "worker/quant/metrics.h"

/* Of one process and one sample. */
struct memo;
struct memo *memo_new(int n_values);
void memo_clear(struct memo *m, int n_values); /* for the next sample */
void memo_free(struct memo *m);
int64_t memo_hits(const struct memo *m);

enum { MEMO_POINTS = 8 };
struct memo_output {
    int output;
    struct metric_sums sums;
};
struct memo_point {
    int value, n_outputs; /* outputs told before it */
    int64_t executed;     /* nodes run before it */
    uint64_t hash[2];
};
/* One candidate's run. */
struct memo_run {
    struct memo *memo; /* NULL: nothing is remembered */
    bool closed;       /* no further point is looked at */
    int n_outputs, n_points;
    struct memo_output *outputs;
    struct memo_point points[MEMO_POINTS];
};

void memo_begin(struct memo_run *r, struct memo *m, int n_outputs, struct arena *a);
/* The run compared an output. */
void memo_output(struct memo_run *r, int output, const struct metric_sums *sums);
/*
 * All that differs from float is this value, and it is t. True: a run has been here, *executed and
 * ret are as after its end. False: go on. The signature tells how the steps behind lie in memory.
 */
bool memo_at(struct memo_run *r, int value, const struct tensor *t, uint64_t signature,
             int64_t *executed, struct metric_sums *ret);
void memo_end(struct memo_run *r, int64_t executed);

/* Of a node's step and those behind it. layouts: of what it reads and writes. */
uint64_t memo_signature(uint64_t behind, int node, const unsigned char *layouts, int n);

#endif
