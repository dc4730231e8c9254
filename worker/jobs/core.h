/*
 * Inside of jobs/: what a job is made of, and the two worlds it may run in. struct job_io is the
 * only way from a job to its surroundings: jobs/pipe.c talks to ptqd, jobs/local.c keeps files.
 */
#ifndef PTQ_WORKER_JOBS_CORE_H
#define PTQ_WORKER_JOBS_CORE_H

#include "worker/jobs/job.h"

enum { TASK_RESULT_MAX = 1 << 20, TASK_TIMEOUT_MS = 30 * 60 * 1000 };

struct found {
    char *bytes; /* malloc'ed, the caller's; NULL: the store has no such result */
    size_t len;
};

struct artifact {
    const char *name, *media_type, *file; /* file: its name in out_dir */
    char sha256[SHA256_HEX];
    uint64_t size;
};

struct job_io {
    /* Stored results of n digests, in order. */
    int (*lookup)(void *ctx, const struct digest *digests, int n, struct found *ret, struct err *e);
    int (*store)(void *ctx, const struct digest *d, const char *kind, const void *result,
                 size_t len, int64_t cpu_us, struct err *e);
    /* ordinal -1: no part of the history. */
    int (*event)(void *ctx, int64_t ordinal, const char *type, const json_t *data, struct err *e);
    int (*artifact)(void *ctx, const struct artifact *a, struct err *e);
    /* fd (below) is readable: takes what came. ERR_CANCELLED; ERR_WORKER_LOST if the other side
     * is gone. NULL when there is nobody to listen to. */
    int (*listen)(void *ctx, struct err *e);
};

struct recorded {
    const char *type;
    json_t *data;
};

struct job {
    struct arena arena;
    const struct job_io *io;
    void *io_ctx;
    int io_fd; /* to wait on beside the children, or -1 */
    const char *id;
    json_t *spec;
    const struct job_input *inputs;
    int n_inputs;
    const char *out_dir;
    int slots; /* 0: tasks run in this process, for a debugger */
    uint64_t memory;
    bool local; /* external data may lie beside the model */
    const struct backend *backend;
    const char *profile;
    int task_timeout_ms;
    struct recorded *recorded; /* [ordinal] */
    int n_recorded;
    int64_t next_event;
    struct err broken; /* the first failure of job_event, which cannot return it */
};

/* Runs kind's program; *ret_result is the job's result (new reference). */
int job_run(struct job *j, const struct job_kind *kind, json_t **ret_result,
            const char **ret_verdict, struct err *e);
void job_done(struct job *j); /* frees what the job holds */

/* Tells how far a phase is, as an event outside of the history. rate, eta_s: negative = unknown. */
int job_progress(struct job *j, const char *phase, int done, int total, double rate, double eta_s,
                 struct err *e);

/* Tells what happened to this run, as an event outside of the history; takes the reference. */
int job_log(struct job *j, json_t *data, struct err *e);

/* Finds a kind by its name in a table closed by NULL. */
const struct job_kind *job_kind_in(const struct job_kind *const *kinds, const char *name);

/* Hashes and measures a file. */
int job_hash_file(const char *path, char ret_hex[SHA256_HEX], uint64_t *ret_size, struct err *e);

/* ---- children (jobs/slots.c) ---- */

/* One child process computes one task at a time. */
struct slot;
struct slots;

enum { SLOT_IDLE = -1, SLOT_STAGE = -2, LEASE_MAX = 64 };
struct slot_result {
    int index; /* the task, or SLOT_STAGE - n: stage n was entered */
    int rc;    /* 0, or -1 with e */
    struct err e;
    char *bytes; /* malloc'ed, the caller's */
    size_t len;
    int64_t cpu_us;
};

/* Forks n children that run the kind's tasks. They die with this process. */
struct slots *slots_open(int n, const struct task_kind *kind, void *ctx, int timeout_ms,
                         struct err *e);
void slots_close(struct slots *s); /* ends the children, also in the middle of a task */
/* Gives tasks (at most LEASE_MAX) to an idle child, which answers each as it is done; or the one
 * "task" SLOT_STAGE - n. False: none is idle. */
bool slots_give(struct slots *s, const int *tasks, int n);
int slots_busy(const struct slots *s);
/*
 * Waits for the first of: a result (1, *ret filled), fd readable (2), the time over (0), -1. A
 * child that ended or took too long is a result with rc -1 that names the task: its place stays
 * empty, since the job fails.
 */
int slots_wait(struct slots *s, int fd, int timeout_ms, struct slot_result *ret, struct err *e);

#endif
