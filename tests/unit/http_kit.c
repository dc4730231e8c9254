#include "tests/unit/http_kit.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"

enum { WAIT_MS = 8000, FDS = 4096 };

static char last_sent[200];     /* for messages */
static struct buf waiting[FDS]; /* bytes read but not yet asked for, by fd */

static void on_limit(uv_timer_t *t)
{
    (void)t;
}

void kit_init(struct kit *k)
{
    struct err e = ERR_INIT;
    memset(k, 0, sizeof *k);
    log_init("test", LOG_DEBUG);
    uv_loop_init(&k->loop);
    uv_timer_init(&k->loop, &k->limit);
    uv_timer_start(&k->limit, on_limit, 5, 5);
    k->server.loop = &k->loop;
    k->server.data_dir = test_dir();
    k->server.upload_max = KIT_UPLOAD_MAX;
    CHECK_OK(blobs_open(&k->loop, test_dir(), &k->server.blobs, &e), e);
    k->opts = (struct http_opts){.host = "127.0.0.1",
                                 .tmp_dir = blobs_tmp_dir(k->server.blobs),
                                 .upload_max = KIT_UPLOAD_MAX,
                                 .connections_max = 200};
}

void kit_start(struct kit *k)
{
    struct err e = ERR_INIT;
    CHECK_OK(http_start(&k->loop, &k->server, &k->opts, &k->server.http, &e), e);
}

void kit_turn(struct kit *k)
{
    uv_run(&k->loop, UV_RUN_ONCE);
}

void kit_until(struct kit *k, bool (*cond)(void *arg), void *arg)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;
    while (!cond(arg)) {
        if (clock_mono_ms() > end_ms)
            FAIL("what was waited for did not come");
        kit_turn(k);
    }
}

static void on_drained(void *ctx)
{
    ((struct kit *)ctx)->drained = true;
}

static bool is_drained(void *arg)
{
    return ((struct kit *)arg)->drained;
}

void kit_stop(struct kit *k)
{
    http_drain(k->server.http, 5000, on_drained, k);
    kit_until(k, is_drained, k);
    kit_done(k);
}

void kit_done(struct kit *k)
{
    uv_close((uv_handle_t *)&k->limit, NULL);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    CHECK_INT(uv_loop_close(&k->loop), 0);
    http_free(k->server.http);
    CHECK_INT(kit_tmp_files(k), 0);
    blobs_free(k->server.blobs);
    for (int i = 0; i < FDS; i++)
        buf_done(&waiting[i]);
}

int kit_connect(struct kit *k)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)http_port(k->server.http)),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && fd < FDS);
    CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    buf_done(&waiting[fd]);
    buf_init(&waiting[fd], 64 << 20);
    return fd;
}

/* False when the server has closed. */
static bool try_send(struct kit *k, int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
        kit_turn(k);
    }
    return true;
}

void kit_send(struct kit *k, int fd, const void *data, size_t len)
{
    snprintf(last_sent, sizeof last_sent, "%.*s", (int)(len < 150 ? len : 150), (const char *)data);
    try_send(k, fd, data, len);
}

void kit_text(struct kit *k, int fd, const char *text)
{
    kit_send(k, fd, text, strlen(text));
}

/* 1: something came, 0: nothing yet, -1: closed. */
static int take(int fd)
{
    char data[65536];
    ssize_t n = recv(fd, data, sizeof data, 0);
    if (n > 0)
        CHECK_INT(buf_add(&waiting[fd], data, (size_t)n), 0);
    return n > 0 ? 1 : n < 0 && errno == EAGAIN ? 0 : -1;
}

/* Waits for more; false when the server has closed. */
static bool more(struct kit *k, int fd)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;
    int got;
    while ((got = take(fd)) == 0) {
        if (clock_mono_ms() > end_ms)
            FAIL("no answer to: %s; so far: %s", last_sent,
                 waiting[fd].data ? waiting[fd].data : "");
        kit_turn(k);
    }
    return got > 0;
}

const char *reply_value(const struct reply *r, const char *name)
{
    static char value[8][512];
    static int at;
    size_t n = strlen(name);
    for (const char *line = r->head; (line = strstr(line, "\r\n")) && line[2];) {
        line += 2;
        if (strncasecmp(line, name, n) || line[n] != ':')
            continue;
        const char *v = line + n + 1 + strspn(line + n + 1, " ");
        at = (at + 1) % 8;
        snprintf(value[at], sizeof value[at], "%.*s", (int)strcspn(v, "\r"), v);
        return value[at];
    }
    return NULL;
}

static struct arena texts;

static void take_chunks(struct kit *k, int fd, struct reply *r)
{
    struct buf *b = &waiting[fd], body;
    buf_init(&body, 64 << 20);
    for (size_t len = 1; len;) {
        char *end;
        while (!b->len || !(end = memmem(b->data, b->len, "\r\n", 2)))
            if (!more(k, fd))
                goto cut;
        len = strtoul(b->data, NULL, 16);
        size_t head = (size_t)(end - b->data) + 2;
        while (b->len < head + len + 2)
            if (!more(k, fd))
                goto cut;
        buf_add(&body, b->data + head, len);
        buf_drop(b, head + len + 2);
    }
cut:
    r->len = body.len;
    r->body = arena_strndup(&texts, body.len ? body.data : "", body.len);
    buf_done(&body);
}

static void take_length(struct kit *k, int fd, size_t len, struct reply *r)
{
    struct buf *b = &waiting[fd];
    while (b->len < len)
        if (!more(k, fd))
            break;
    r->len = b->len < len ? b->len : len;
    r->body = arena_alloc(&texts, r->len + 1);
    memcpy(r->body, b->data ? b->data : "", r->len);
    buf_drop(b, r->len);
}

struct reply kit_reply(struct kit *k, int fd, bool head_only)
{
    struct reply r = {.body = ""};
    struct buf *b = &waiting[fd];
    char *end;
    while (!b->len || !(end = memmem(b->data, b->len, "\r\n\r\n", 4)))
        if (!more(k, fd)) {
            r.closed = true;
            return r;
        }
    size_t head = (size_t)(end - b->data) + 4;
    r.head = arena_strndup(&texts, b->data, head);
    buf_drop(b, head);
    r.status = atoi(r.head + 9);
    const char *length = reply_value(&r, "Content-Length");
    const char *coding = reply_value(&r, "Transfer-Encoding");
    if (head_only || r.status == 304 || r.status == 204 || r.status == 100)
        return r;
    if (coding)
        take_chunks(k, fd, &r);
    else
        take_length(k, fd, length ? strtoul(length, NULL, 10) : (size_t)1 << 40, &r);
    return r;
}

struct reply kit_ask(struct kit *k, const char *fmt, ...)
{
    va_list ap;
    char *text;
    va_start(ap, fmt);
    int len = vasprintf(&text, fmt, ap);
    va_end(ap);
    CHECK(len > 0);
    int fd = kit_connect(k);
    kit_send(k, fd, text, (size_t)len);
    struct reply r = kit_reply(k, fd, !strncmp(text, "HEAD ", 5));
    free(text);
    close(fd);
    return r;
}

void kit_wait_closed(struct kit *k, int fd)
{
    while (more(k, fd))
        continue;
}

int kit_tmp_files(struct kit *k)
{
    int n = 0;
    DIR *d = opendir(blobs_tmp_dir(k->server.blobs));
    CHECK(d != NULL);
    for (struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}
