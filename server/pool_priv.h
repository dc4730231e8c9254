/* What the pool*.c files share: a worker process as it is inside. pool.c starts it and keeps its
 * deadlines, pool_read.c hears it, pool_end.c tells how it ended. */
#ifndef PTQ_SERVER_POOL_PRIV_H
#define PTQ_SERVER_POOL_PRIV_H

#include "common/buf.h"
#include "server/pool.h"

/* Why the process is being ended by us; what it says afterwards does not change that. */
struct reason {
    enum err_code code;
    char detail[256];
};

struct worker {
    struct worker_opts opts;
    struct worker_calls calls;
    void *ctx;
    char *pid_file;
    uv_process_t process;
    uv_pipe_t in, out, err_pipe; /* the worker's standard streams */
    uv_timer_t timer;            /* hello, limit, grace, the end of a rate window: the next one */
    struct buf bytes;            /* read, not yet understood */
    char tail[WORKER_TAIL_MAX];
    size_t tail_len; /* all that was ever said; the tail is a ring */
    uint64_t total;
    int64_t start_ms, kill_ms, term_ms, window_ms; /* monotonic; 0: not set */
    int64_t left; /* of a process that has ended: bytes it said that are still in the pipe */
    int window_count, paused, open_handles;
    bool reading, in_message, heard, exited, eof, held_by_rate, torn, told;
    int64_t exit_status;
    int term_signal;
    struct reason reason;
};

/* To be called after every event: hands over what is at hand, reads on, sets the timer to the next
 * thing that time will bring, and tells the end when nothing is left to be heard. */
void pool_settle(struct worker *w);
void pool_schedule(struct worker *w);

/* Starts the process with its three pipes; a libuv error code. */
int pool_spawn(struct worker *w, uv_loop_t *loop, uv_exit_cb on_exit);

/* Hands over whole frames until there is none, or until somebody pauses. */
void pool_deliver(struct worker *w);
/* Reads unless somebody holds it back. */
void pool_set_reading(struct worker *w);
void pool_read_errors(struct worker *w); /* its standard error, for the tail */
/* Notes how much of what the process has said is still to be read, now that it has ended. */
void pool_count_left(struct worker *w);

void pool_kill_group(const struct worker *w, int sig);
void pool_close(struct worker *w); /* frees it when all its handles are closed */
void pool_tell_gone(struct worker *w);

#endif
