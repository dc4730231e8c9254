/*
 * A sample through a graph: an exec kept as long as the samples' shapes stay the same, under one
 * plan or in float. What the parent process has prepared before job_map forks is shared by the
 * children; a sample of another shape gets an exec of its own in the child that meets it.
 */
#ifndef PTQ_WORKER_JOBS_RUNNER_H
#define PTQ_WORKER_JOBS_RUNNER_H

#include "worker/exec/exec.h"
#include "worker/load/dataset.h"
#include "worker/quant/plan.h"

struct runner {
    const struct graph *graph;
    const struct plan *plan; /* NULL: float */
    const struct backend *backend;
    const struct runner *share; /* a float runner of the same graph whose packed weights it may
                                   use; asked for the same sample before, and kept alive */
    uint64_t memory_max;
    struct exec *exec; /* for `dims` */
    struct tensor *dims;
};

/* Ready for the shapes of a sample. */
int runner_prepare(struct runner *r, const struct dataset *d, int sample, struct err *e);
/* The sample through the graph; outputs by exec_output(r->exec, i). The error tells the sample. */
int runner_run(struct runner *r, const struct dataset *d, int sample, exec_watch *watch, void *ctx,
               struct err *e);
void runner_done(struct runner *r);

#endif
