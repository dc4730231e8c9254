#include "server/pool_priv.h"

#include <sys/ioctl.h>

#include "common/clock.h"
#include "common/frame.h"

enum { READ_SIZE = 64 << 10, RATE_WINDOW_MS = 200 };

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
void pool_deliver(struct worker *w)
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

static void on_bytes(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
    (void)b;
    struct worker *w = s->data;
    if (n > 0) {
        w->bytes.len += (size_t)n;
        w->total += (uint64_t)n;
        w->left -= w->exited ? n : 0;
        w->eof = w->exited && w->left <= 0;
        if (w->total > w->opts.bytes_max)
            worker_reject(w, ERR_WORKER_PROTOCOL, "The worker said more than it may.");
    } else if (n < 0) {
        w->eof = true;
    }
    pool_settle(w);
}

/* Reads unless somebody holds it back; the bytes at hand are always dealt with first. */
void pool_set_reading(struct worker *w)
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
    pool_set_reading(w);
}

void worker_resume(struct worker *w)
{
    if (--w->paused)
        return;
    w->held_by_rate = false;
    pool_schedule(w); /* from the loop, not from within the caller */
}

/* A child that left the group may hold the pipe open: the end of what the process itself has said
 * is known all the same. */
void pool_count_left(struct worker *w)
{
    int fd, n;
    if (uv_fileno((uv_handle_t *)&w->out, &fd) || ioctl(fd, FIONREAD, &n))
        n = INT32_MAX; /* then its end is the pipe's */
    w->left = n;
    w->eof = w->eof || !n;
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

void pool_read_errors(struct worker *w)
{
    uv_read_start((uv_stream_t *)&w->err_pipe, alloc_tail, on_tail);
}
