#include "server/pool_priv.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/frame.h"
#include "common/log.h"
#include "server/pool_pid.h"

enum { BACKLOG_MAX = 64 << 20, MESSAGE_MAX = FRAME_MAX + FRAME_HEAD + (64 << 10) };

static void give_reason(struct worker *w, enum err_code code, const char *detail)
{
    if (w->reason.code != ERR_NONE)
        return;
    w->reason.code = code;
    snprintf(w->reason.detail, sizeof w->reason.detail, "%.255s", detail);
}

void worker_reject(struct worker *w, enum err_code code, const char *detail)
{
    give_reason(w, code, detail);
    pool_kill_group(w, SIGKILL);
}

static void terminate(struct worker *w, enum err_code code, const char *detail)
{
    give_reason(w, code, detail);
    pool_kill_group(w, SIGTERM);
    w->kill_ms = clock_mono_ms() + w->opts.grace_ms;
    w->term_ms = 0;
}

/* ---- time ---- */

static void check_deadlines(struct worker *w, int64_t now)
{
    const struct worker_opts *o = &w->opts;
    bool ending = w->reason.code != ERR_NONE;
    if (!ending && !w->heard && now >= w->start_ms + o->hello_ms)
        terminate(w, ERR_TIMEOUT, "The worker did not say hello in time.");
    else if (!ending && o->limit_ms && now >= w->start_ms + o->limit_ms)
        terminate(w, ERR_TIMEOUT, "The worker did not end in time.");
    else if (w->term_ms && now >= w->term_ms)
        terminate(w, ERR_CANCELLED, "The job was cancelled.");
    else if (w->kill_ms && now >= w->kill_ms) {
        pool_kill_group(w, SIGKILL);
        w->kill_ms = now + o->grace_ms;
    }
}

static void on_timer(uv_timer_t *t)
{
    struct worker *w = t->data;
    int64_t now = clock_mono_ms();
    if (!w->exited)
        check_deadlines(w, now);
    if (now >= w->window_ms)
        w->held_by_rate = false;
    pool_settle(w);
}

static void sooner(int64_t *next, int64_t t)
{
    if (t && (!*next || t < *next))
        *next = t;
}

void pool_schedule(struct worker *w)
{
    if (w->told)
        return;
    const struct worker_opts *o = &w->opts;
    int64_t next = 0, now = clock_mono_ms();
    struct err ignored = ERR_INIT;
    const char *payload;
    size_t len;
    if (!w->exited && w->reason.code == ERR_NONE) {
        sooner(&next, w->heard ? 0 : w->start_ms + o->hello_ms);
        sooner(&next, o->limit_ms ? w->start_ms + o->limit_ms : 0);
    }
    if (!w->exited) {
        sooner(&next, w->term_ms);
        sooner(&next, w->kill_ms);
    }
    if (w->held_by_rate)
        sooner(&next, w->window_ms);
    else if (!w->paused && ((!w->reading && !w->eof) || (w->exited && w->eof) ||
                            frame_next(w->bytes.data, w->bytes.len, &payload, &len, &ignored)))
        next = now;
    if (next) /* never 0: libuv would not leave its timers as long as one is due */
        uv_timer_start(&w->timer, on_timer, next > now ? (uint64_t)(next - now) : 1, 0);
    else
        uv_timer_stop(&w->timer);
}

void pool_settle(struct worker *w)
{
    pool_deliver(w);
    pool_set_reading(w);
    pool_schedule(w);
    pool_tell_gone(w);
}

/* ---- sending ---- */

struct sending {
    uv_write_t req;
    struct buf bytes;
};

static void on_sent(uv_write_t *req, int status)
{
    (void)status; /* a broken pipe shows as the worker's end */
    struct sending *s = (struct sending *)req;
    buf_done(&s->bytes);
    free(s);
}

void worker_send(struct worker *w, const Ptq__ToWorker *m)
{
    if (w->told || uv_is_closing((uv_handle_t *)&w->in))
        return;
    size_t len = ptq__to_worker__get_packed_size(m);
    uint8_t *payload = xmalloc(len + 1);
    ptq__to_worker__pack(m, payload);
    struct sending *s = xcalloc(1, sizeof *s);
    buf_init(&s->bytes, len + FRAME_HEAD);
    struct err e = ERR_INIT;
    int bad = frame_add(&s->bytes, payload, len, &e);
    free(payload);
    if (!bad && w->in.write_queue_size + s->bytes.len > BACKLOG_MAX)
        bad = err_set(&e, ERR_WORKER_PROTOCOL, "", "The worker does not read what it is told.");
    uv_buf_t b = uv_buf_init(s->bytes.data, (unsigned)s->bytes.len);
    if (bad)
        worker_reject(w, e.code, e.detail);
    if (bad || uv_write(&s->req, (uv_stream_t *)&w->in, &b, 1, on_sent))
        on_sent(&s->req, 0);
}

void worker_cancel(struct worker *w)
{
    if (w->reason.code != ERR_NONE || w->term_ms)
        return;
    Ptq__Cancel cancel = PTQ__CANCEL__INIT;
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    m.message_case = PTQ__TO_WORKER__MESSAGE_CANCEL;
    m.cancel = &cancel;
    worker_send(w, &m);
    w->term_ms = clock_mono_ms() + w->opts.grace_ms;
    pool_schedule(w);
}

int worker_pid(const struct worker *w)
{
    return w->process.pid;
}

/* ---- starting ---- */

static void on_exit_status(uv_process_t *p, int64_t status, int sig)
{
    struct worker *w = p->data;
    w->exited = true;
    w->exit_status = status;
    w->term_signal = sig;
    pool_kill_group(w, SIGKILL);
    pool_count_left(w);
    pool_settle(w);
}

static void init_handles(struct worker *w, uv_loop_t *loop)
{
    uv_pipe_init(loop, &w->in, 0);
    uv_pipe_init(loop, &w->out, 0);
    uv_pipe_init(loop, &w->err_pipe, 0);
    uv_timer_init(loop, &w->timer);
    w->process.data = w->in.data = w->out.data = w->err_pipe.data = w->timer.data = w;
}

struct worker *worker_start(uv_loop_t *loop, const struct worker_opts *o,
                            const struct worker_calls *calls, void *ctx, struct err *e)
{
    struct worker *w = xcalloc(1, sizeof *w);
    w->opts = *o;
    w->calls = *calls;
    w->ctx = ctx;
    buf_init(&w->bytes, MESSAGE_MAX);
    init_handles(w, loop);
    int rc = pool_spawn(w, loop, on_exit_status);
    w->start_ms = clock_mono_ms();
    w->opts.path = NULL;
    if (rc) {
        err_set(e, ERR_WORKER_LOST, o->path, "The worker cannot be started: %s.", uv_strerror(rc));
        w->told = true;
        pool_close(w);
        return NULL;
    }
    w->pid_file = o->pid_file ? xstrdup(o->pid_file) : NULL;
    w->opts.pid_file = NULL;
    if (w->pid_file && pid_file_write(w->pid_file, w->process.pid, e)) {
        log_event(LOG_WARN, "worker.pid-file", "%s", e->detail);
        *e = (struct err)ERR_INIT;
    }
    pool_read_errors(w);
    pool_set_reading(w);
    pool_schedule(w);
    return w;
}
