/*
 * Jobs. A job is a deterministic program that asks for tasks; a task is a pure function whose
 * result is stored under the digest of its inputs. Run again after a crash, the program starts
 * from the beginning and finds the finished results in the store: that is the whole of resume.
 *
 * One process runs one job (jobs/main.c): it reads what the job needs, then job_map() forks the
 * children that compute. The store and the event log are behind struct job_io: the server's, over
 * the pipe (jobs/pipe.c), or a local one (jobs/local.c) for `ptq-worker job.json`.
 */
#ifndef PTQ_WORKER_JOBS_JOB_H
#define PTQ_WORKER_JOBS_JOB_H

#include <stdint.h>

#include <jansson.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/sha256.h"

struct job;

struct job_input {
    const char *role, *path, *name, *sha256; /* as in proto/worker.proto's Input */
};

/* One task of a job_map: what identifies it beyond what the whole map shares. */
struct task {
    struct digest digest; /* filled by job_map from kind, engine profile, common and own */
    const void *own;      /* own_len bytes: the task's own inputs, e.g. a sample's digest */
    size_t own_len;
    int stage; /* tasks of a stage follow each other; see `enter` */
    int lease; /* tasks that follow each other with the same number are given to a child at once,
                  which tells each result as it has it; 0: alone. Not part of the digest */
};

struct task_kind {
    const char *name; /* "observe", "evaluate-sample" … part of the digest; change it when the
                         meaning of the result changes */
    /* In a child: computes task `index` into ret (at most 1 MiB). A pure function of `common`,
     * the task's own bytes and what `ctx` was made from (and its digest covers). */
    int (*run)(void *ctx, int index, struct buf *ret, struct err *e);
    /* In the job's process, once, before the first task is computed: not when the store has all.
     * What it makes is there in the children, and it may still set the tasks' leases. May be
     * NULL. */
    int (*before)(void *ctx, struct err *e);
    /* In a child, once after the fork, before its first task; may be NULL. */
    int (*start)(void *ctx, struct err *e);
    /* In one child while the others wait, before the first task of a stage that is computed: fills
     * memory that `before` made for all children to share. May be NULL. */
    int (*enter)(void *ctx, int stage, struct err *e);
};

/* Takes result `index`; called in order of index, each exactly once, in the job's process. */
typedef int task_take(void *ctx, int index, const void *result, size_t len, struct err *e);

/*
 * Has n tasks done: looks them up in the store, forks children for those that are missing, stores
 * each result as it comes, and hands all to `take` in order. The children share the process's
 * memory as it is at the call. Progress is told as it goes ("phase": done of n). A child that
 * crashes fails the job with ERR_WORKER_CRASH naming the task. `common` is hashed with each task.
 */
int job_map(struct job *j, const struct task_kind *kind, const char *phase, const void *common,
            size_t common_len, struct task *tasks, int n, task_take *take, void *ctx,
            struct err *e);

const json_t *job_spec(const struct job *j); /* resolved, with defaults */
struct arena *job_arena(struct job *j);      /* the job's lifetime */
const char *job_out_dir(const struct job *j);
int job_slots(const struct job *j);
uint64_t job_memory(const struct job *j); /* bytes; 0: no limit */
const struct backend *job_backend(const struct job *j);
const struct job_input *job_input(const struct job *j, const char *role); /* first, or NULL */
const struct job_input *job_inputs(const struct job *j, int *ret_n);

/* Opens the input of role "model" with its external data; the input of role `role` ("data",
 * "calibration_data") for the graph g (NULL: any). */
struct model;
struct dataset;
struct graph;
int job_open_model(struct job *j, struct model **ret, struct err *e);
int job_open_data(struct job *j, const char *role, const struct graph *g, struct dataset **ret,
                  struct err *e);

/* An event of the replayable history; takes the reference to data. In order, deterministic. */
void job_event(struct job *j, const char *type, json_t *data);
/* A file in out_dir becomes an artifact; hashed here. */
int job_artifact(struct job *j, const char *name, const char *media_type, const char *file,
                 struct err *e);
/* For what is not a function of the inputs: the recorded event of this ordinal when there is one,
 * else `fresh` is called, its result recorded. Borrowed, lives as long as the job. */
const json_t *job_recorded(struct job *j, const char *type, json_t *(*fresh)(void *ctx), void *ctx);

/* One row a kind of job; each file in jobs/ that defines a kind ends with its row, the table is
 * in jobs/kinds.c. */
struct job_kind {
    const char *name;
    bool internal; /* asked for by the server itself, not by POST /v1/jobs: inspect-model … */
    /* The program. *ret_result: the job's result (new reference). *ret_verdict: static or NULL. */
    int (*run)(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e);
    const char *text; /* one sentence */
};
extern const struct job_kind *const job_kinds[];
const struct job_kind *job_kind_find(const char *name);

#endif
