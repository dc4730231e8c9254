#include "server/http_priv.h"

#include <errno.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "server/tcp.h"

enum {
    HEADER_DEADLINE_MS = 4000,
    BODY_MIN_RATE = 64 * 1024,
    IDLE_MS = 30000,
    SWEEP_MS = 500,
    FD_RESERVE = 256, /* for files, pipes and the database, whatever the clients do */
    BACKLOG = 511
};

/* ---- one connection ---- */

static uint64_t bytes_in(const struct conn *c)
{
    struct tcp_facts t;
    return tcp_look(c->fd, &t) ? 0 : t.bytes_in;
}

void conn_phase(struct conn *c, enum conn_phase phase)
{
    c->phase = phase;
    c->since_ms = clock_mono_ms();
    c->asked_ms = 0;
    c->mark = phase == CONN_IDLE ? bytes_in(c) : 0;
    c->stalled = false;
}

void conn_suspend(struct conn *c)
{
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
}

void conn_resume(struct conn *c)
{
    if (!c->suspended)
        return;
    c->suspended = false;
    c->since_ms = clock_mono_ms();
    MHD_resume_connection(c->mhd);
    http_wake(c->http);
}

void conn_cut(struct conn *c)
{
    if (c->cut)
        return;
    c->cut = true;
    shutdown(c->fd, SHUT_RDWR);
    conn_resume(c);
    http_wake(c->http);
}

static void conn_open(struct http *h, struct MHD_Connection *mhd, void **socket_ctx)
{
    struct conn *c = xcalloc(1, sizeof *c);
    c->http = h;
    c->mhd = mhd;
    c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->next = h->conns;
    c->at = &h->conns;
    if (c->next)
        c->next->at = &c->next;
    h->conns = c;
    h->n_conns++;
    conn_phase(c, CONN_IDLE);
    *socket_ctx = c;
}

static void conn_closed(struct conn *c)
{
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    if (c->http->n_conns-- >= c->http->opts.connections_max)
        http_wake(c->http); /* MHD begins to accept again in its next turn */
    free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_ctx,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        conn_open(cls, mhd, socket_ctx);
    else
        conn_closed(*socket_ctx);
}

/* ---- deadlines ---- */

static bool idle_too_long(struct conn *c, int64_t now_ms)
{
    const struct http_opts *o = &c->http->opts;
    if (c->requests == 0)
        return now_ms - c->since_ms >= o->header_deadline_ms;
    if (!c->asked_ms && bytes_in(c) > c->mark)
        c->asked_ms = now_ms;
    if (c->asked_ms)
        return now_ms - c->asked_ms >= o->header_deadline_ms;
    return now_ms - c->since_ms >= o->idle_ms;
}

static bool body_too_slow(struct conn *c, int64_t now_ms)
{
    const struct http_opts *o = &c->http->opts;
    if (c->suspended)
        c->stalled = true;
    if (now_ms - c->since_ms < o->idle_ms)
        return false;
    uint64_t got = c->req->received - c->mark;
    bool slow = !c->stalled && got < (uint64_t)o->body_min_rate * (uint64_t)o->idle_ms / 1000;
    c->mark = c->req->received;
    c->since_ms = now_ms;
    c->stalled = c->suspended;
    return slow;
}

static bool reader_stands_still(struct conn *c, int64_t now_ms)
{
    struct tcp_facts t;
    if (tcp_look(c->fd, &t))
        return true;
    if (c->suspended) /* a stream with nothing to say: MHD does not see the client leave */
        return t.reset || t.half_closed;
    if (t.bytes_acked != c->mark) {
        c->mark = t.bytes_acked;
        c->since_ms = now_ms;
    }
    return now_ms - c->since_ms >= c->http->opts.idle_ms;
}

static bool waiter_gone(const struct conn *c)
{
    struct tcp_facts t;
    return tcp_look(c->fd, &t) || t.reset;
}

/* MHD takes a short read for the end of what there is, and then does not hear of a FIN that came
 * with those bytes. Two sweeps without progress behind a FIN mean that nothing more will come. */
static bool sender_gone(struct conn *c)
{
    struct tcp_facts t;
    if (c->suspended || tcp_look(c->fd, &t) || !(t.half_closed || t.reset))
        return false;
    uint64_t progress = 1 + c->requests + (c->req ? c->req->received : 0);
    bool stuck = c->fin_progress == progress;
    c->fin_progress = progress;
    return stuck;
}

static bool overdue(struct conn *c, int64_t now_ms)
{
    switch (c->phase) {
    case CONN_IDLE:
        return idle_too_long(c, now_ms) || sender_gone(c);
    case CONN_BODY:
        return body_too_slow(c, now_ms) || sender_gone(c);
    case CONN_WAITING:
        return waiter_gone(c);
    case CONN_SENDING:
        return reader_stands_still(c, now_ms);
    case CONN_LINGER:
        return now_ms - c->since_ms >= c->http->opts.header_deadline_ms;
    }
    return false;
}

/* With all connections taken, new clients would wait in the backlog for ever, those that look
 * after the service too: those that have kept theirs idle longest make room. */
static void make_room(struct http *h, int64_t now_ms)
{
    int64_t longest_ms = 0;
    for (struct conn *c = h->conns; c; c = c->next)
        if (c->phase == CONN_IDLE && now_ms - c->since_ms > longest_ms)
            longest_ms = now_ms - c->since_ms;
    for (struct conn *c = h->conns; c && longest_ms; c = c->next)
        if (c->phase == CONN_IDLE && now_ms - c->since_ms > longest_ms / 2)
            conn_cut(c);
}

static void on_sweep(uv_timer_t *t)
{
    struct http *h = t->data;
    int64_t now_ms = clock_mono_ms();
    bool drain_over = h->draining && now_ms >= h->drain_until_ms;
    stats_loop_lag(now_ms - h->swept_ms - h->sweep_ms);
    h->swept_ms = now_ms;
    for (struct conn *c = h->conns; c; c = c->next)
        if (!c->cut && (drain_over || overdue(c, now_ms)))
            conn_cut(c);
    if (h->n_conns >= h->opts.connections_max)
        make_room(h, now_ms);
    if (h->draining)
        http_wake(h);
}

/* ---- MHD in the loop ---- */

static void on_timer(uv_timer_t *t);
static void drain_check(struct http *h);

static void arm(struct http *h)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (h->need_run)
        uv_timer_start(&h->timer, on_timer, 0, 0);
    else if (MHD_get_timeout(h->daemon, &ms) == MHD_YES)
        uv_timer_start(&h->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&h->timer);
}

static void bury_dead(struct http *h)
{
    while (h->dead)
        req_free(h->dead);
}

static void pump(struct http *h)
{
    if (h->stopped)
        return;
    h->need_run = false;
    MHD_run(h->daemon);
    bury_dead(h);
    arm(h);
    drain_check(h);
}

static void on_timer(uv_timer_t *t)
{
    pump(t->data);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    (void)status, (void)events;
    pump(p->data);
}

/* MHD_resume_connection does not wake an external loop by itself. */
void http_wake(struct http *h)
{
    if (h->need_run || h->stopped)
        return;
    h->need_run = true;
    uv_timer_start(&h->timer, on_timer, 0, 0);
}

/* ---- start ---- */

static int address_of(const char *host, int port, struct sockaddr_storage *ret, socklen_t *ret_len,
                      struct err *e)
{
    struct sockaddr_in *in = (struct sockaddr_in *)ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
    memset(ret, 0, sizeof *ret);
    if (!strcmp(host, "localhost"))
        host = "127.0.0.1";
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *ret_len = sizeof *in;
        if (ntohl(in->sin_addr.s_addr) >> 24 == 127)
            return 0;
    } else if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *ret_len = sizeof *in6;
        if (IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr))
            return 0;
    } else {
        return err_set(e, ERR_INVALID, host, "\"%s\" is not an IP address nor localhost.", host);
    }
    return err_set(e, ERR_INVALID, host,
                   "%s is not a loopback address. The service has no access control yet and "
                   "listens on 127.0.0.0/8 or ::1 only; put a proxy in front that has some.",
                   host);
}

static int listen_on(struct http *h, const char *host, int port, struct err *e)
{
    struct sockaddr_storage addr;
    socklen_t len;
    int one = 1;
    if (port < 0 || port > 65535)
        return err_set(e, ERR_INVALID, host, "%d is not a port number.", port);
    if (address_of(host, port, &addr, &len, e))
        return -1;
    h->listen_fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (h->listen_fd < 0)
        return err_errno(e, host, "No socket can be made");
    setsockopt(h->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(h->listen_fd, (struct sockaddr *)&addr, len) || listen(h->listen_fd, BACKLOG) ||
        getsockname(h->listen_fd, (struct sockaddr *)&addr, &len)) {
        err_errno(e, host, "The service cannot listen there");
        close(h->listen_fd);
        return -1;
    }
    h->port = ntohs(addr.ss_family == AF_INET ? ((struct sockaddr_in *)&addr)->sin_port
                                              : ((struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

static void set_defaults(struct http_opts *o)
{
    struct rlimit files;
    if (!o->header_deadline_ms)
        o->header_deadline_ms = HEADER_DEADLINE_MS;
    if (!o->body_min_rate)
        o->body_min_rate = BODY_MIN_RATE;
    if (!o->idle_ms)
        o->idle_ms = IDLE_MS;
    if (!o->tables)
        o->tables = route_tables;
    if (!getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur != RLIM_INFINITY) {
        long most = (long)files.rlim_cur - FD_RESERVE;
        if (most < 16)
            most = 16;
        if (o->connections_max > most || o->connections_max <= 0) {
            log_event(LOG_WARN, "http.limit", "connections limited to %ld by RLIMIT_NOFILE", most);
            o->connections_max = (int)most;
        }
    }
}

static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    struct arena a = ARENA_INIT;
    log_event(LOG_DEBUG, "http.mhd", "%s", arena_vprintf(&a, fmt, ap));
    arena_done(&a);
}

/* URLs are split before they are decoded, by this project's own code. */
static size_t unescape_nothing(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls, (void)mhd;
    return strlen(s);
}

static struct MHD_Daemon *daemon_start(struct http *h)
{
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, request_call,
        h, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, h->listen_fd,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_NOTIFY_COMPLETED,
        request_completed, h, MHD_OPTION_UNESCAPE_CALLBACK, unescape_nothing, NULL,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)h->opts.connections_max, MHD_OPTION_CONNECTION_TIMEOUT, 0u,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

static void into_loop(struct http *h)
{
    int fd = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD)->listen_fd;
    int quarter_ms = h->opts.header_deadline_ms / 4 + 1;
    h->sweep_ms = quarter_ms < SWEEP_MS ? quarter_ms : SWEEP_MS;
    h->swept_ms = clock_mono_ms();
    uv_poll_init(h->loop, &h->poll, fd);
    uv_timer_init(h->loop, &h->timer);
    uv_timer_init(h->loop, &h->sweep);
    h->poll.data = h->timer.data = h->sweep.data = h;
    h->open_handles = 3;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    uv_timer_start(&h->sweep, on_sweep, (uint64_t)h->sweep_ms, (uint64_t)h->sweep_ms);
    arm(h);
}

int http_start(uv_loop_t *loop, struct server *s, const struct http_opts *o, struct http **ret,
               struct err *e)
{
    struct http *h = xcalloc(1, sizeof *h);
    h->loop = loop;
    h->server = s;
    h->opts = *o;
    set_defaults(&h->opts);
    signal(SIGPIPE, SIG_IGN); /* sendfile would raise it */
    if (listen_on(h, o->host, o->port, e)) {
        free(h);
        return -1;
    }
    h->daemon = daemon_start(h);
    if (!h->daemon) {
        close(h->listen_fd);
        free(h);
        return err_set(e, ERR_INTERNAL, NULL, "The HTTP daemon does not start.");
    }
    into_loop(h);
    stats_start(h);
    *ret = h;
    return 0;
}

int http_port(const struct http *h)
{
    return h->port;
}

bool http_draining(const struct http *h)
{
    return h->draining;
}

/* ---- the end ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct http *h = handle->data;
    if (--h->open_handles == 0)
        h->drained(h->drained_ctx);
}

/* MHD aborts the process when it is stopped with suspended connections: there must be none. */
static void drain_check(struct http *h)
{
    if (!h->draining || h->stopped || h->n_conns || h->n_blobs || upload_busy())
        return;
    h->stopped = true;
    MHD_stop_daemon(h->daemon);
    uv_close((uv_handle_t *)&h->poll, on_handle_closed);
    uv_close((uv_handle_t *)&h->timer, on_handle_closed);
    uv_close((uv_handle_t *)&h->sweep, on_handle_closed);
}

static void drain_conn(struct conn *c)
{
    struct err e = ERR_INIT;
    if (c->phase == CONN_IDLE) {
        conn_cut(c);
    } else if (c->phase == CONN_BODY) {
        err_set(&e, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
        request_refuse_body(c->req, &e);
    } else if (c->req && c->req->stream.on) {
        stream_wake(&c->req->stream); /* the reader then ends it */
    }
}

void http_drain(struct http *h, int deadline_ms, void (*done)(void *ctx), void *ctx)
{
    h->drain_until_ms = clock_mono_ms() + deadline_ms;
    if (h->draining)
        return; /* asked again: with another deadline */
    h->draining = true;
    h->drained = done;
    h->drained_ctx = ctx;
    int fd = MHD_quiesce_daemon(h->daemon);
    if (fd >= 0)
        close(fd);
    for (struct conn *c = h->conns; c; c = c->next)
        drain_conn(c);
    http_wake(h);
}

void http_free(struct http *h)
{
    if (!h)
        return;
    stats_stop(h);
    bury_dead(h);
    while (h->orphans)
        req_free(h->orphans);
    free(h);
}
