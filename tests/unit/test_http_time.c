/* Slow clients, clients that go away, streams, and the end of the service. */
#include "tests/unit/http_kit.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"

#define HOST "Host: localhost\r\n"

/* ---- rows ---- */

static struct req *held; /* a request whose handler takes its time */
static int closes;

static void on_close(struct req *r, void *ctx)
{
    (void)r;
    ++*(int *)ctx;
}

static void hold(struct req *r)
{
    held = r;
    req_on_close(r, on_close, &closes);
}

static struct stream *live;
static const char *line; /* what the stream says next; NULL: nothing */
static bool stream_over;
static int streams_closed;

static bool more(void *ctx, struct buf *out)
{
    (void)ctx;
    if (line)
        buf_adds(out, line);
    line = NULL;
    return !stream_over;
}

static void closed(void *ctx)
{
    (void)ctx;
    live = NULL;
    streams_closed++;
}

static void open_stream(struct req *r)
{
    live = reply_stream(r, "text/event-stream", more, closed, NULL);
}

static bool flood(void *ctx, struct buf *out)
{
    (void)ctx;
    for (int i = 0; i < 1000; i++)
        buf_adds(out, "data: 0123456789012345678901234567890123456789012345678901234567890\n\n");
    return true;
}

static void open_flood(struct req *r)
{
    live = reply_stream(r, "text/event-stream", flood, closed, NULL);
}

static const struct route rows[] = {
    {"GET", "/hold", "t", BODY_NONE, hold},
    {"GET", "/stream", "t", BODY_NONE, open_stream},
    {"GET", "/flood", "t", BODY_NONE, open_flood},
    {0},
};
extern const struct route api_meta_routes[], api_blobs_routes[];
static const struct route *const tables[] = {rows, api_meta_routes, api_blobs_routes, NULL};

static void start(struct kit *k)
{
    kit_init(k);
    k->opts.tables = tables;
    if (!k->opts.header_deadline_ms) {
        k->opts.header_deadline_ms = 200;
        k->opts.idle_ms = 400;
        k->opts.body_min_rate = 100000;
    }
    kit_start(k);
}

static bool is_held(void *arg)
{
    (void)arg;
    return held != NULL;
}

static bool is_live(void *arg)
{
    (void)arg;
    return live != NULL;
}

static bool has_closed(void *arg)
{
    return *(int *)arg > 0;
}

/* ---- slow clients ---- */

/* Sends text a byte at a time until the server closes; returns after how many ms it did. */
static int64_t trickle(struct kit *k, int fd, const char *text, int pause_turns)
{
    int64_t begin_ms = clock_mono_ms();
    char byte;
    for (;;) {
        if (*text && send(fd, text++, 1, MSG_NOSIGNAL) < 0)
            break;
        for (int i = 0; i < pause_turns; i++)
            kit_turn(k);
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        if (n == 0)
            break;
        if (clock_mono_ms() - begin_ms > 8000)
            FAIL("a slow client was borne for 8 s");
    }
    return clock_mono_ms() - begin_ms;
}

void test_http_time__headers_that_trickle_are_cut(void)
{
    struct kit k;
    char text[4096] = "GET /healthz HTTP/1.1\r\n" HOST "X-Slow: ";
    memset(text + strlen(text), 'a', 3000);
    start(&k);
    int fd = kit_connect(&k);
    CHECK(trickle(&k, fd, text, 2) >= 200);
    close(fd);
    kit_stop(&k);
}

void test_http_time__a_second_request_that_trickles_is_cut_too(void)
{
    struct kit k;
    char text[4096] = "GET /healthz HTTP/1.1\r\n" HOST "X-Slow: ";
    memset(text + strlen(text), 'a', 3000);
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(kit_reply(&k, fd, false).status, 200);
    int64_t took = trickle(&k, fd, text, 2);
    CHECK(took >= 150 && took < 2000);
    close(fd);
    kit_stop(&k);
}

void test_http_time__silent_connections_are_closed(void)
{
    struct kit k;
    start(&k);
    int fresh = kit_connect(&k), used = kit_connect(&k);
    kit_text(&k, used, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(kit_reply(&k, used, false).status, 200);
    int64_t begin_ms = clock_mono_ms();
    kit_wait_closed(&k, fresh);
    kit_wait_closed(&k, used);
    CHECK(clock_mono_ms() - begin_ms >= 300); /* idle_ms, not the shorter deadline */
    close(fresh);
    close(used);
    kit_stop(&k);
}

void test_http_time__a_body_that_trickles_is_cut_and_leaves_nothing(void)
{
    struct kit k;
    char text[2048] = "";
    memset(text, 'x', 2000);
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    CHECK(trickle(&k, fd, text, 1) >= 400);
    close(fd);
    kit_stop(&k);
}

void test_http_time__a_reader_that_takes_nothing_is_cut(void)
{
    struct kit k;
    live = NULL;
    streams_closed = 0;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_live, NULL);
    kit_until(&k, has_closed, &streams_closed);
    close(fd);
    kit_stop(&k);
}

/* ---- waiting ---- */

void test_http_time__a_late_reply_arrives(void)
{
    struct kit k;
    held = NULL;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_held, NULL);
    int64_t until_ms = clock_mono_ms() + 600; /* longer than any deadline for clients */
    while (clock_mono_ms() < until_ms)
        kit_turn(&k);
    reply_text(held, 200, "text/plain", "late");
    CHECK_STR(kit_reply(&k, fd, false).body, "late");
    close(fd);
    kit_stop(&k);
}

void test_http_time__who_waits_for_a_client_hears_that_it_has_gone(void)
{
    struct kit k;
    held = NULL;
    closes = 0;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_held, NULL);
    struct linger reset = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    kit_until(&k, has_closed, &closes);
    CHECK(req_header(held, "Host") == NULL);
    reply_text(held, 200, "text/plain", "nobody reads this");
    kit_turn(&k);
    CHECK_INT(closes, 1);
    kit_stop(&k);
}

void test_http_time__a_request_never_answered_is_freed_at_the_end(void)
{
    struct kit k;
    held = NULL;
    closes = 0;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_held, NULL);
    struct linger reset = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    kit_until(&k, has_closed, &closes);
    kit_stop(&k); /* the leak checker would tell */
}

/* ---- streams ---- */

void test_http_time__a_stream_sends_when_it_is_woken(void)
{
    struct kit k;
    live = NULL;
    line = NULL;
    stream_over = false;
    streams_closed = 0;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_live, NULL);
    struct reply head = kit_reply(&k, fd, true);
    CHECK_INT(head.status, 200);
    CHECK_STR(reply_value(&head, "Content-Type"), "text/event-stream");
    CHECK_STR(reply_value(&head, "Cache-Control"), "no-cache");
    CHECK_STR(reply_value(&head, "X-Accel-Buffering"), "no");
    char got[1000] = "";
    for (int i = 0; i < 3; i++) {
        line = "data: x\n\n";
        stream_wake(live);
        for (ssize_t n = 0; n <= 0;) {
            kit_turn(&k);
            n = recv(fd, got + strlen(got), 100, MSG_DONTWAIT);
        }
    }
    CHECK_STR(got, "9\r\ndata: x\n\n\r\n9\r\ndata: x\n\n\r\n9\r\ndata: x\n\n\r\n");
    line = "data: bye\n\n";
    stream_over = true;
    stream_wake(live);
    kit_until(&k, has_closed, &streams_closed);
    close(fd);
    kit_stop(&k);
}

static void check_stream_ends(struct kit *k, bool by_reset)
{
    live = NULL;
    line = NULL;
    stream_over = false;
    streams_closed = 0;
    int fd = kit_connect(k);
    kit_text(k, fd, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    kit_until(k, is_live, NULL);
    CHECK_INT(kit_reply(k, fd, true).status, 200);
    struct linger reset = {1, 0};
    if (by_reset)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    kit_until(k, has_closed, &streams_closed);
}

void test_http_time__a_silent_stream_notices_that_its_client_has_gone(void)
{
    struct kit k;
    start(&k);
    check_stream_ends(&k, false);
    check_stream_ends(&k, true);
    kit_stop(&k);
}

void test_http_time__head_of_a_stream_has_no_body(void)
{
    struct kit k;
    live = NULL;
    line = NULL;
    stream_over = false;
    streams_closed = 0;
    start(&k);
    CHECK_INT(kit_ask(&k, "HEAD /stream HTTP/1.1\r\n" HOST "\r\n").status, 200);
    kit_until(&k, has_closed, &streams_closed);
    kit_stop(&k);
}

void test_http_time__streams_have_a_limit_below_that_of_connections(void)
{
    enum { MOST = 20 };
    struct kit k;
    int fd[MOST / 2];
    line = NULL;
    stream_over = false;
    streams_closed = 0;
    kit_init(&k);
    k.opts.connections_max = MOST;
    k.opts.tables = tables;
    kit_start(&k);
    for (int i = 0; i < MOST / 2; i++) {
        fd[i] = kit_connect(&k);
        kit_text(&k, fd[i], "GET /stream HTTP/1.1\r\n" HOST "\r\n");
        CHECK_INT(kit_reply(&k, fd[i], true).status, 200);
    }
    struct reply r = kit_ask(&k, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 503);
    CHECK_STR(reply_value(&r, "Retry-After"), "1");
    kit_until(&k, has_closed, &streams_closed);
    CHECK_INT(streams_closed, 1);
    for (int i = 0; i < MOST / 2; i++)
        close(fd[i]);
    kit_stop(&k);
    CHECK_INT(streams_closed, MOST / 2 + 1);
}

/* ---- limits and the end ---- */

void test_http_time__idle_connections_make_room_for_new_ones(void)
{
    enum { MOST = 20 };
    struct kit k;
    int fd[MOST];
    kit_init(&k);
    k.opts.connections_max = MOST;
    k.opts.tables = tables;
    k.opts.header_deadline_ms = 400; /* the sweep comes every 100 ms */
    k.opts.idle_ms = 60000;
    kit_start(&k);
    for (int i = 0; i < MOST; i++) {
        fd[i] = kit_connect(&k);
        kit_text(&k, fd[i], "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
        CHECK_INT(kit_reply(&k, fd[i], false).status, 200);
    }
    int64_t begin_ms = clock_mono_ms();
    CHECK_INT(kit_ask(&k, "GET /healthz HTTP/1.1\r\n" HOST "\r\n").status, 200);
    CHECK(clock_mono_ms() - begin_ms < 5000);
    for (int i = 0; i < MOST; i++)
        close(fd[i]);
    kit_stop(&k);
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

static bool is_set(void *arg)
{
    return *(bool *)arg;
}

/* The client leaves while its file is on the way into the blobs: the file gets there, nobody is
 * told, and the drain waits for the pool. */
void test_http_time__a_client_may_leave_while_its_blob_is_stored(void)
{
    static const char hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct kit k;
    bool drained = false;
    char head[300];
    start(&k);
    for (int i = 0; i < 20; i++) {
        int fd = kit_connect(&k);
        snprintf(head, sizeof head,
                 "PUT /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", hex);
        kit_text(&k, fd, head);
        for (int turn = 0; turn < i; turn++)
            uv_run(&k.loop, UV_RUN_NOWAIT);
        struct linger reset = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
    }
    http_drain(k.server.http, 5000, set_flag, &drained);
    kit_until(&k, is_set, &drained);
    kit_done(&k);
}

/* An idle connection, a stream, an upload half way, and a request that waits. */
void test_http_time__draining_ends_streams_and_lets_replies_finish(void)
{
    struct kit k;
    bool drained = false;
    live = NULL;
    line = NULL;
    held = NULL;
    stream_over = false;
    streams_closed = 0;
    kit_init(&k);
    k.opts.tables = tables;
    kit_start(&k);
    int idle = kit_connect(&k), stream = kit_connect(&k), upload = kit_connect(&k),
        waiting = kit_connect(&k);
    kit_text(&k, idle, "GET /healthz HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(kit_reply(&k, idle, false).status, 200);
    kit_text(&k, stream, "GET /stream HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_live, NULL);
    CHECK_INT(kit_reply(&k, stream, true).status, 200);
    kit_text(&k, upload, "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nab");
    kit_text(&k, waiting, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_held, NULL);
    http_drain(k.server.http, 5000, set_flag, &drained);
    CHECK(http_draining(k.server.http));
    kit_wait_closed(&k, idle);
    kit_wait_closed(&k, stream);
    CHECK_INT(streams_closed, 1);
    struct reply r = kit_reply(&k, upload, false);
    CHECK_INT(r.status, 503);
    CHECK_STR(reply_value(&r, "Connection"), "close");
    close(upload);
    CHECK(!drained);
    reply_text(held, 200, "text/plain", "done");
    r = kit_reply(&k, waiting, false);
    CHECK_STR(r.body, "done");
    CHECK_STR(reply_value(&r, "Connection"), "close");
    kit_until(&k, is_set, &drained);
    close(idle);
    close(stream);
    close(waiting);
    kit_done(&k);
}

void test_http_time__draining_does_not_wait_longer_than_its_deadline(void)
{
    struct kit k;
    bool drained = false;
    held = NULL;
    closes = 0;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /hold HTTP/1.1\r\n" HOST "\r\n");
    kit_until(&k, is_held, NULL);
    http_drain(k.server.http, 100, set_flag, &drained);
    kit_until(&k, is_set, &drained);
    CHECK_INT(closes, 1);
    close(fd);
    kit_done(&k);
}
