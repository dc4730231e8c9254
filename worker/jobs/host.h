/* The two surroundings of a job: ptqd over a pipe, or the local machine. */
#ifndef PTQ_WORKER_JOBS_HOST_H
#define PTQ_WORKER_JOBS_HOST_H

#include <stdbool.h>

#include "worker/jobs/job.h"

struct backend;

struct host {
    const struct job_kind *const *kinds; /* closed by NULL */
    const struct backend *backend;
    const char *profile; /* engine_profile(backend) */
};

/* Speaks frames of proto/worker.proto on the two descriptors: says hello, runs the one job that
 * comes, says how it ended. Returns the exit status: 0 when all was said. */
int pipe_main(const struct host *h, int in, int out);

struct local_opts {
    const char *job_file;  /* {"kind","model","data",…} */
    const char *out_dir;   /* made if it is not there */
    const char *store_dir; /* results of tasks, by digest; NULL: none are kept */
    int slots;             /* 0: no children */
    bool json;             /* events as NDJSON on standard output */
};
/* Runs a job file. Returns the exit status: 0, 1 the job failed, 4 its target was not met. */
int local_main(const struct host *h, const struct local_opts *o);

/* What a worker process gives up before it reads anything from outside: memory_bytes for the
 * process (0: no limit), core files, descriptors, new privileges. */
int limits_begin(bool close_inherited, struct err *e);
int limits_memory(uint64_t memory_bytes, struct err *e);

#endif
