/* Where the time of a model goes: `ptq-worker run --profile`. */
#ifndef PTQ_WORKER_JOBS_PROFILE_H
#define PTQ_WORKER_JOBS_PROFILE_H

#include "worker/exec/exec.h"

/*
 * Runs the exec on these inputs until the medians are steady enough, and tells what each step cost
 * in processor time: a table on standard output, the dearest step first, then the sums by operator;
 * and `path` as a Chrome trace (chrome://tracing, Perfetto), whose otherData has forward_ms, gflop
 * and runs.
 */
int profile_exec(struct exec *x, const struct tensor *inputs, const char *path, struct err *e);

#endif
