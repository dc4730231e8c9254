/* Streams: a suspended connection that is woken when there is something to send. */
#include "server/http_priv.h"

#include <string.h>

enum { STREAM_BLOCK = 4096, STREAM_KEEP = 64 * 1024 };

static void refill(struct stream *s)
{
    buf_clear(&s->out);
    s->sent = 0;
    if (!s->ended)
        s->ended = !s->more(s->ctx, &s->out) || s->req->http->draining;
}

static void shrink(struct stream *s)
{
    if (s->out.cap <= STREAM_KEEP)
        return;
    buf_done(&s->out);
    buf_init(&s->out, HTTP_STREAM_OUT_MAX);
    s->sent = 0;
}

static ssize_t on_read(void *cls, uint64_t pos, char *to, size_t max)
{
    struct req *r = cls;
    struct stream *s = &r->stream;
    (void)pos;
    if (!r->conn || r->conn->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (s->sent == s->out.len)
        refill(s);
    if (s->out.len == 0) {
        if (s->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        conn_suspend(r->conn);
        return 0;
    }
    size_t n = s->out.len - s->sent < max ? s->out.len - s->sent : max;
    memcpy(to, s->out.data + s->sent, n);
    s->sent += n;
    if (s->sent == s->out.len) {
        buf_clear(&s->out);
        s->sent = 0;
        shrink(s);
    }
    return (ssize_t)n;
}

struct stream *reply_stream(struct req *r, const char *media_type,
                            bool (*more)(void *ctx, struct buf *out), void (*closed)(void *ctx),
                            void *ctx)
{
    struct stream *s = &r->stream;
    *s = (struct stream){.req = r, .more = more, .closed = closed, .ctx = ctx, .on = true};
    buf_init(&s->out, HTTP_STREAM_OUT_MAX);
    r->http->n_streams++;
    if (r->http->n_streams > r->http->opts.connections_max / 2) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_UNAVAILABLE, NULL, "%d streams are open already.", r->http->n_streams - 1);
        reply_problem(r, &e);
        return s;
    }
    reply_header(r, "Content-Type", media_type);
    reply_header(r, "X-Accel-Buffering", "no");
    reply_take(r, 200,
               MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_read, r, NULL));
    return s;
}

void stream_wake(struct stream *s)
{
    if (s->on && s->req->conn && s->req->queued)
        conn_resume(s->req->conn);
}

void stream_close(struct req *r)
{
    struct stream *s = &r->stream;
    if (!s->on)
        return;
    s->on = false;
    r->http->n_streams--;
    buf_done(&s->out);
    s->closed(s->ctx);
}
