/*
 * The sweep: many candidates on one sample, each a set of calibrations that are ON alone. The
 * float pass is done once and its values kept in memory that forked processes read. A candidate
 * is an executor of its own, the very one that a full run would use, of which only the steps that
 * its calibrations change are run, as far as the chosen outputs need them; the rest is taken from
 * the float pass, and a branch whose tensors are the float ones again bit by bit is left. So the
 * outputs are those of the full run, bit by bit.
 *
 * Kept are the smallest values that fit the budget; those that do not fit are computed again from
 * kept ones when a candidate needs them.
 *
 * One process makes a sweep and forks; then, sample after sample, one of them loads it and the
 * others follow, and each runs candidates.
 */
#ifndef PTQ_WORKER_EXEC_SWEEP_H
#define PTQ_WORKER_EXEC_SWEEP_H

#include "worker/exec/exec.h"
#include "worker/quant/metrics.h"

struct sweep;

struct sweep_opts {
    const struct backend *backend; /* NULL: the best */
    const struct plan *plan;       /* whose calibrations are tried; their switches do not matter */
    const int *outputs;            /* values to compare */
    int n_outputs;
    uint64_t keep_max; /* bytes of float values to keep; 0: all */
    uint64_t budget;   /* bytes that the makings and two processes with it may take, if keep_max is
                          0: what they leave is for float values; 0: no limit */
    uint64_t memory_max; /* as in exec_opts, for each exec */
};

struct sweep_counts {
    int64_t executed, whole; /* nodes run, those of a run that it shares included; of a full run */
};

/* For samples of these shapes. */
int sweep_new(const struct graph *g, const struct tensor *inputs, const struct sweep_opts *opts,
              struct sweep **ret, struct err *e);
void sweep_free(struct sweep *s);

/* The float pass, for all processes if they can share one. The inputs' data must stay until the
 * next, at the same address in each. */
int sweep_load(struct sweep *s, const struct tensor *inputs, struct err *e);
/* Not where shapes depend on data: then the first pass is to be left to sweep_follow. */
bool sweep_shares(const struct sweep *s);
/* Ready to run candidates on what another process has loaded. */
int sweep_follow(struct sweep *s, const struct tensor *inputs, struct err *e);

/* ret[i]: chosen output i, float against the candidate's; without elements where their shapes
 * differ. */
int sweep_run(struct sweep *s, const int *calibs, int n, struct metric_sums *ret,
              struct sweep_counts *counts, struct err *e);
/* The same by a full run of the executor. */
int sweep_run_naive(struct sweep *s, const int *calibs, int n, struct metric_sums *ret,
                    struct sweep_counts *counts, struct err *e);

/* Candidates of this process whose run ended early since another's came to the same. */
int64_t sweep_shared_runs(const struct sweep *s);
int64_t sweep_macs(const struct sweep *s);  /* of a full run */
uint64_t sweep_room(const struct sweep *s); /* that processes share: float values and outputs */
uint64_t sweep_kept_bytes(const struct sweep *s); /* by the last float pass */

#endif
