#include "server/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "server/blobs.h"
#include "server/collect.h"
#include "server/checks.h"
#include "server/conf.h"
#include "server/db.h"
#include "server/dispatch.h"
#include "server/edits.h"
#include "server/http.h"
#include "server/inspect.h"
#include "server/job_wait.h"
#include "server/server.h"
#include "server/stream.h"

enum {
    DRAIN_MS = 5000, /* for replies */
    STOP_MS = 9000,  /* for everything: then the process ends as if killed */
    CONNECTIONS = 4096,
    FD_RESERVE = 256,
    POLL_MS = 20
};

struct daemon {
    uv_loop_t loop;
    struct server server;
    struct arena arena;
    uv_signal_t term, interrupt;
    uv_timer_t poll;
    int64_t stop_ms; /* monotonic: when the signal came */
    bool http_drained;
};

static int make_dir(const char *path, struct err *e)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_errno(e, path, "The folder cannot be made");
    return 0;
}

/* The folder itself, absolute whatever becomes of the working directory. */
static int open_folder(struct daemon *d, const struct conf *c, struct err *e)
{
    struct server *s = &d->server;
    if (make_dir(c->data, e))
        return -1;
    char *path = realpath(c->data, NULL);
    if (!path)
        return err_errno(e, c->data, "The data folder cannot be opened");
    s->data_dir = arena_strdup(&d->arena, path);
    s->work_dir = arena_printf(&d->arena, "%s/work", path);
    free(path);
    return 0;
}

/* In an order that leaves the folder alone until the lock is held. */
static int open_all(struct daemon *d, const struct conf *c, struct err *e)
{
    struct server *s = &d->server;
    if (open_folder(d, c, e) ||
        db_open(s->loop, arena_printf(&d->arena, "%s/ptqd.sqlite", s->data_dir), &s->db, e) ||
        make_dir(s->work_dir, e) || blobs_open(s->loop, s->data_dir, &s->blobs, e))
        return -1;
    s->hub = hub_new(s);
    s->inspections = inspections_new(s);
    s->dispatch = dispatch_new(s);
    s->checks = checks_new(s);
    s->edits = edits_new(s);
    return 0;
}

static int listen_on(struct daemon *d, const struct conf *c, struct err *e)
{
    struct server *s = &d->server;
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int most = CONNECTIONS;
    if (files.rlim_cur < CONNECTIONS + FD_RESERVE)
        most = files.rlim_cur > 2 * FD_RESERVE ? (int)files.rlim_cur - FD_RESERVE : FD_RESERVE;
    struct http_opts o = {.host = c->host,
                          .port = (int)c->port,
                          .tmp_dir = blobs_tmp_dir(s->blobs),
                          .upload_max = (uint64_t)c->upload_max,
                          .connections_max = most};
    return http_start(s->loop, s, &o, &s->http, e);
}

/* DIR/port, whole or not at all. */
static int tell_port(struct daemon *d, struct err *e)
{
    const char *path = arena_printf(&d->arena, "%s/port", d->server.data_dir);
    const char *tmp = arena_printf(&d->arena, "%s.new", path);
    FILE *f = fopen(tmp, "we");
    if (!f)
        return err_errno(e, tmp, "The port file cannot be made");
    fprintf(f, "%d\n", http_port(d->server.http));
    if (fclose(f) || rename(tmp, path))
        return err_errno(e, path, "The port file cannot be written");
    return 0;
}

/* ---- the end ---- */

static void close_all(struct daemon *d)
{
    struct server *s = &d->server;
    db_close(s->db); /* tells what was still on its way: the others must be there */
    http_free(s->http);
    dispatch_free(s->dispatch);
    inspections_free(s->inspections);
    collect_free(s->collect);
    checks_free(s->checks);
    edits_free(s->edits);
    hub_free(s->hub);
    uv_close((uv_handle_t *)&d->term, NULL);
    uv_close((uv_handle_t *)&d->interrupt, NULL);
    uv_close((uv_handle_t *)&d->poll, NULL);
}

static void on_poll(uv_timer_t *t)
{
    struct daemon *d = t->data;
    struct server *s = &d->server;
    if (d->http_drained && dispatch_idle(s->dispatch) && inspections_idle(s->inspections) &&
        collect_idle(s->collect) && checks_idle(s->checks) && edits_idle(s->edits)) {
        close_all(d);
    } else if (clock_mono_ms() > d->stop_ms + STOP_MS) {
        log_event(LOG_WARN, "ptqd.stop", "Something did not end in time; the next start mends it.");
        _exit(0); /* nothing is lost: what was acknowledged is on the disk */
    }
}

static void on_drained(void *ctx)
{
    struct daemon *d = ctx;
    d->http_drained = true;
}

static void on_signal(uv_signal_t *sig, int number)
{
    struct daemon *d = sig->data;
    struct server *s = &d->server;
    if (s->draining)
        return;
    log_event(LOG_INFO, "ptqd.drain", "Signal %d: no new work is taken.", number);
    s->draining = true;
    d->stop_ms = clock_mono_ms();
    dispatch_stop(s->dispatch);
    inspections_stop(s->inspections);
    collect_stop(s->collect);
    checks_stop(s->checks);
    edits_stop(s->edits);
    job_waits_end();
    http_drain(s->http, DRAIN_MS, on_drained, d);
    uv_timer_start(&d->poll, on_poll, POLL_MS, POLL_MS);
}

static void watch_signals(struct daemon *d)
{
    uv_loop_t *loop = d->server.loop;
    signal(SIGPIPE, SIG_IGN);
    d->term.data = d->interrupt.data = d->poll.data = d;
    uv_timer_init(loop, &d->poll);
    uv_signal_init(loop, &d->term);
    uv_signal_init(loop, &d->interrupt);
    uv_signal_start(&d->term, on_signal, SIGTERM);
    uv_signal_start(&d->interrupt, on_signal, SIGINT);
}

static int start(struct daemon *d, const struct conf *c, struct err *e)
{
    struct server *s = &d->server;
    uv_loop_init(&d->loop);
    s->loop = &d->loop;
    s->conf = c;
    s->upload_max = (uint64_t)c->upload_max;
    if (open_all(d, c, e) || dispatch_recover(s->dispatch, e) ||
        inspections_recover(s->inspections, e) || collect_new(s, &s->collect, e) ||
        listen_on(d, c, e) || tell_port(d, e))
        return -1;
    watch_signals(d);
    log_event(LOG_INFO, "ptqd.ready", "http://%s:%d, data in %s, %lld slots", c->host,
              http_port(s->http), s->data_dir, (long long)c->workers);
    return 0;
}

struct daemon *daemon_start(const struct conf *c, struct err *e)
{
    struct daemon *d = xcalloc(1, sizeof *d);
    return start(d, c, e) ? NULL : d;
}

int daemon_port(const struct daemon *d)
{
    return http_port(d->server.http);
}

void daemon_run(struct daemon *d)
{
    uv_run(&d->loop, UV_RUN_DEFAULT);
    uv_loop_close(&d->loop);
    blobs_free(d->server.blobs);
    arena_done(&d->arena);
    free(d);
}
