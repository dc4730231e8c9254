#include "server/pool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/frame.h"
#include "common/log.h"
#include "server/pool_pid.h"

enum {
    READ_SIZE = 64 << 10,
    BACKLOG_MAX = 64 << 20,
    RATE_WINDOW_MS = 200,
    EOF_WAIT_MS = 1000, /* for the pipe of a process that is dead already */
    ENV_MAX = 16
};

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
    int64_t start_ms, kill_ms, term_ms, window_ms, eof_ms; /* monotonic; 0: not set */
    int window_count, paused, open_handles;
    bool reading, in_message, heard, exited, eof, held_by_rate, torn, told;
    int64_t exit_status;
    int term_signal;
    struct reason reason;
};

static void schedule(struct worker *w);
static void deliver(struct worker *w);

static void kill_group(const struct worker *w, int sig)
{
    if (w->process.pid > 1)
        kill(-w->process.pid, sig);
}

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
    kill_group(w, SIGKILL);
}

static void terminate(struct worker *w, enum err_code code, const char *detail)
{
    give_reason(w, code, detail);
    kill_group(w, SIGTERM);
    w->kill_ms = clock_mono_ms() + w->opts.grace_ms;
    w->term_ms = 0;
}

/* ---- the end ---- */

static void copy_tail(const struct worker *w, char *ret)
{
    size_t n = w->tail_len < WORKER_TAIL_MAX ? w->tail_len : WORKER_TAIL_MAX;
    for (size_t i = 0; i < n; i++) {
        char c = w->tail[(w->tail_len - n + i) % WORKER_TAIL_MAX];
        ret[i] = c ? c : ' ';
    }
    ret[n] = '\0';
}

static bool is_crash(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGABRT ||
           sig == SIGSYS;
}

/* What the way it ended means, when it was not our doing. */
static enum err_code classify(const struct worker *w, char *ret, size_t ret_size)
{
    if (is_crash(w->term_signal)) {
        snprintf(ret, ret_size, "The worker was ended by signal %d (%s).", w->term_signal,
                 strsignal(w->term_signal));
        return ERR_WORKER_CRASH;
    }
    if (w->term_signal) {
        snprintf(ret, ret_size, "The worker was killed by signal %d (%s).", w->term_signal,
                 strsignal(w->term_signal));
        return ERR_WORKER_LOST;
    }
    if (w->exit_status == ARENA_EXIT) {
        snprintf(ret, ret_size, "The worker ran out of memory.");
        return ERR_MEMORY_LIMIT;
    }
    if (w->torn) {
        snprintf(ret, ret_size, "The worker's output ended inside a frame.");
        return ERR_WORKER_PROTOCOL;
    }
    if (w->exit_status) {
        snprintf(ret, ret_size, "The worker ended with status %d.", (int)w->exit_status);
        return ERR_WORKER_LOST;
    }
    return ERR_NONE;
}

static void on_closed(uv_handle_t *h)
{
    struct worker *w = h->data;
    if (--w->open_handles)
        return;
    buf_done(&w->bytes);
    free(w->pid_file);
    free(w);
}

static void close_one(struct worker *w, void *handle)
{
    uv_handle_t *h = handle;
    h->data = w;
    if (h->type != UV_UNKNOWN_HANDLE && !uv_is_closing(h)) {
        w->open_handles++;
        uv_close(h, on_closed);
    }
}

static void close_all(struct worker *w)
{
    close_one(w, &w->process);
    close_one(w, &w->in);
    close_one(w, &w->out);
    close_one(w, &w->err_pipe);
    close_one(w, &w->timer);
}

static void tell_gone(struct worker *w)
{
    if (w->told || !w->exited || !w->eof || w->paused || w->held_by_rate || w->in_message)
        return;
    w->told = true;
    w->torn = w->bytes.len > 0;
    kill_group(w, SIGKILL); /* children that outlived it */
    struct worker_end end = {.signal = w->term_signal, .status = (int)w->exit_status};
    end.code = classify(w, end.detail, sizeof end.detail);
    if (w->reason.code != ERR_NONE) {
        end.code = w->reason.code;
        snprintf(end.detail, sizeof end.detail, "%s", w->reason.detail);
    }
    copy_tail(w, end.tail);
    if (w->pid_file)
        unlink(w->pid_file);
    close_all(w);
    w->calls.gone(w->ctx, &end);
}

static void on_exit_status(uv_process_t *p, int64_t status, int sig)
{
    struct worker *w = p->data;
    w->exited = true;
    w->exit_status = status;
    w->term_signal = sig;
    kill_group(w, SIGKILL);
    w->eof_ms = clock_mono_ms() + EOF_WAIT_MS;
    schedule(w);
    tell_gone(w);
}

/* ---- reading ---- */

/* True if this message may still be taken in the present window of time. */
static bool within_rate(struct worker *w)
{
    if (!w->opts.rate_max)
        return true;
    int64_t now = clock_mono_ms();
    if (now >= w->window_ms) {
        w->window_ms = now + RATE_WINDOW_MS;
        w->window_count = 0;
    }
    int most = w->opts.rate_max * RATE_WINDOW_MS / 1000;
    w->held_by_rate = w->window_count >= (most ? most : 1);
    return !w->held_by_rate;
}

static void take_frame(struct worker *w, const char *payload, size_t len)
{
    Ptq__FromWorker *m = ptq__from_worker__unpack(NULL, len, (const uint8_t *)payload);
    if (!m || m->message_case == PTQ__FROM_WORKER__MESSAGE__NOT_SET) {
        worker_reject(w, ERR_WORKER_PROTOCOL, "The worker sent a frame that is no message.");
    } else {
        w->heard = true;
        w->window_count++;
        w->calls.message(w->ctx, m);
    }
    if (m)
        ptq__from_worker__free_unpacked(m, NULL);
}

/* Hands over whole frames until there is none, or until somebody pauses. After a reason to end it
 * what it says is not heard any more. */
static void deliver(struct worker *w)
{
    if (w->in_message)
        return;
    w->in_message = true;
    size_t at = 0;
    while (!w->paused && w->reason.code == ERR_NONE) {
        const char *payload;
        size_t len;
        struct err e = ERR_INIT;
        int got = frame_next(w->bytes.data + at, w->bytes.len - at, &payload, &len, &e);
        if (got < 0)
            worker_reject(w, e.code, e.detail);
        if (got <= 0 || !within_rate(w))
            break;
        take_frame(w, payload, len);
        at += FRAME_HEAD + len;
    }
    if (w->reason.code != ERR_NONE && !w->paused)
        at = w->bytes.len;
    buf_drop(&w->bytes, at);
    w->in_message = false;
}

static void alloc_bytes(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
    (void)suggested;
    struct worker *w = h->data;
    char *room = buf_room(&w->bytes, READ_SIZE);
    *ret = uv_buf_init(room, room ? READ_SIZE : 0);
}

static void set_reading(struct worker *w);

static void on_bytes(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    (void)b;
    struct worker *w = s->data;
    if (n > 0) {
        w->bytes.len += (size_t)n;
        w->total += (uint64_t)n;
        if (w->total > w->opts.bytes_max)
            worker_reject(w, ERR_WORKER_PROTOCOL, "The worker said more than it may.");
    } else if (n < 0) {
        w->eof = true;
    }
    deliver(w);
    set_reading(w);
    schedule(w);
    tell_gone(w);
}

/* Reads unless somebody holds it back; the bytes at hand are always dealt with first. */
static void set_reading(struct worker *w)
{
    bool want = !w->eof && !w->told && !w->paused && !w->held_by_rate;
    if (want == w->reading)
        return;
    w->reading = want;
    if (want)
        uv_read_start((uv_stream_t *)&w->out, alloc_bytes, on_bytes);
    else
        uv_read_stop((uv_stream_t *)&w->out);
}

void worker_pause(struct worker *w)
{
    w->paused++;
    set_reading(w);
}

void worker_resume(struct worker *w)
{
    if (--w->paused)
        return;
    w->held_by_rate = false;
    schedule(w); /* from the loop, not from within the caller */
}

static void on_tail(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    struct worker *w = s->data;
    for (ssize_t i = 0; i < n; i++)
        w->tail[w->tail_len++ % WORKER_TAIL_MAX] = b->base[i];
    if (n < 0)
        uv_read_stop(s);
}

static void alloc_tail(uv_handle_t *h, size_t suggested, uv_buf_t *ret)
{
    static char scratch[READ_SIZE]; /* copied out before the next use: one loop thread */
    (void)h, (void)suggested;
    *ret = uv_buf_init(scratch, sizeof scratch);
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
        kill_group(w, SIGKILL);
        w->kill_ms = now + o->grace_ms;
    }
}

static void on_timer(uv_timer_t *t)
{
    struct worker *w = t->data;
    int64_t now = clock_mono_ms();
    if (!w->exited)
        check_deadlines(w, now);
    else if (now >= w->eof_ms)
        w->eof = true; /* somebody who left the group holds the pipe open */
    if (now >= w->window_ms)
        w->held_by_rate = false;
    if (!w->paused)
        deliver(w);
    set_reading(w);
    schedule(w);
    tell_gone(w);
}

static void sooner(int64_t *next, int64_t t)
{
    if (t && (!*next || t < *next))
        *next = t;
}

/* Sets the timer to the next thing that time will bring. */
static void schedule(struct worker *w)
{
    if (w->told)
        return;
    const struct worker_opts *o = &w->opts;
    int64_t next = 0, now = clock_mono_ms();
    struct err ignored = ERR_INIT;
    const char *payload;
    size_t len;
    if (w->exited) {
        sooner(&next, w->eof ? 0 : w->eof_ms);
    } else if (w->reason.code == ERR_NONE) {
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
    schedule(w);
}

int worker_pid(const struct worker *w)
{
    return w->process.pid;
}

/* ---- starting ---- */

/* The environment is the daemon's, cut down to what a worker has a use for. */
static void make_env(char **ret, struct arena *a)
{
    static const char *const kept[] = {"PATH",         "HOME",          "TMPDIR",
                                       "ASAN_OPTIONS", "UBSAN_OPTIONS", "OPENBLAS_CORETYPE",
                                       "PTQ_BACKEND"};
    int n = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (getenv(kept[i]))
            ret[n++] = arena_printf(a, "%s=%s", kept[i], getenv(kept[i]));
    ret[n++] = arena_strdup(a, "LC_ALL=C");
    ret[n++] = arena_strdup(a, "OPENBLAS_NUM_THREADS=1");
    ret[n] = NULL;
}

static int spawn(struct worker *w, uv_loop_t *loop)
{
    struct arena a = ARENA_INIT;
    char *env[ENV_MAX];
    make_env(env, &a);
    char *args[] = {(char *)w->opts.path, (char *)"--pipe", NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&w->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&w->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&w->err_pipe}};
    uv_process_options_t po = {.file = w->opts.path,
                               .args = args,
                               .env = env,
                               .exit_cb = on_exit_status,
                               .flags = UV_PROCESS_DETACHED,
                               .stdio = stdio,
                               .stdio_count = 3};
    int rc = uv_spawn(loop, &w->process, &po);
    arena_done(&a);
    return rc;
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
    buf_init(&w->bytes, FRAME_MAX + FRAME_HEAD + READ_SIZE);
    init_handles(w, loop);
    int rc = spawn(w, loop);
    w->start_ms = clock_mono_ms();
    w->opts.path = NULL;
    if (rc) {
        err_set(e, ERR_WORKER_LOST, o->path, "The worker cannot be started: %s.", uv_strerror(rc));
        w->told = true;
        close_all(w);
        return NULL;
    }
    w->pid_file = o->pid_file ? xstrdup(o->pid_file) : NULL;
    w->opts.pid_file = NULL;
    if (w->pid_file && pid_file_write(w->pid_file, w->process.pid, e)) {
        log_event(LOG_WARN, "worker.pid-file", "%s", e->detail);
        *e = (struct err)ERR_INIT;
    }
    uv_read_start((uv_stream_t *)&w->err_pipe, alloc_tail, on_tail);
    set_reading(w);
    schedule(w);
    return w;
}
