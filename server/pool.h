/*
 * Worker processes. One struct worker is one ptq-worker in a session and process group of its own,
 * with frames (proto/worker.proto) on its pipes. Everything runs on the loop thread.
 *
 * A worker is gone when its pipe has ended AND the process has been reaped, in whichever order;
 * what it left in the pipe is delivered before. Its whole group is killed with it.
 */
#ifndef PTQ_SERVER_POOL_H
#define PTQ_SERVER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "worker.pb-c.h"

enum { WORKER_TAIL_MAX = 2048 };

struct worker_opts {
    const char *path;     /* the program; it gets the one argument --pipe */
    const char *pid_file; /* written at the start, removed at the end; NULL: none */
    int64_t limit_ms;     /* for the whole run; 0: none */
    int64_t hello_ms;     /* until its first message */
    int64_t grace_ms;     /* from TERM to KILL, and from a cancel to TERM */
    uint64_t bytes_max;   /* of all it may say; more is ERR_WORKER_PROTOCOL */
    int nice;             /* added to the daemon's, so that the daemon comes first */
    int rate_max;         /* messages/s that are read; a faster one waits. 0: any */
};

/* How it ended. code is ERR_NONE for exit status 0 with nothing torn; what it said before
 * (Finish, Failure) is the caller's to know. */
struct worker_end {
    enum err_code code; /* else WORKER_CRASH, WORKER_LOST, WORKER_PROTOCOL, MEMORY_LIMIT, TIMEOUT,
                           CANCELLED */
    int signal, status; /* as reaped; -1 status for one that was never started */
    char detail[512];
    char tail[WORKER_TAIL_MAX + 1]; /* the end of its standard error */
};

struct worker_calls {
    /* One message; m dies with the call. worker_pause() in here holds back the next ones. */
    void (*message)(void *ctx, const Ptq__FromWorker *m);
    /* Last call, never from within worker_start. The worker is freed afterwards. */
    void (*gone)(void *ctx, const struct worker_end *end);
};

struct worker *worker_start(uv_loop_t *loop, const struct worker_opts *o,
                            const struct worker_calls *calls, void *ctx, struct err *e);
/* Queues one message; a worker that does not read for 64 MiB is stopped. */
void worker_send(struct worker *w, const Ptq__ToWorker *m);
/* Nested: as many resumes as pauses. While paused nothing is read. */
void worker_pause(struct worker *w);
void worker_resume(struct worker *w);
/* Asks it to end (Cancel frame), then TERM, then KILL. The first reason stays. */
void worker_cancel(struct worker *w);
/* Ends it for breaking its word: KILL at once. */
void worker_reject(struct worker *w, enum err_code code, const char *detail);
int worker_pid(const struct worker *w);

/* Kills the group that an earlier daemon's pid file names, if that very process still lives (its
 * start time is in the file), waits until it is gone, and removes the file. */
void pool_reap_leftover(const char *pid_file);

#endif
