#include "server/dispatch.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/adopt.h"
#include "server/attempt.h"
#include "server/conf.h"
#include "server/pool.h"

enum { TICK_MS = 250, CANDIDATES = 64 };

struct dispatch {
    struct server *server;
    struct attempt *all;
    int slots_free, running;
    int64_t lost;
    bool stopping, kicked;
    uv_timer_t tick;
};

/* ---- the queue ---- */

static struct attempt *find(struct dispatch *d, const char *id)
{
    struct attempt *a = d->all;
    while (a && strcmp(a->id, id))
        a = a->next;
    return a;
}

/* Up to CANDIDATES queued jobs that nobody has taken yet, the first ones first. */
static int waiting(struct dispatch *d, char ret[CANDIDATES][ID_MAX], struct err *e)
{
    struct stmt *s = db_stmt(d->server->db,
                             "SELECT id FROM jobs WHERE state='queued' "
                             "ORDER BY priority DESC, created_ms, id LIMIT ?1",
                             e);
    if (!s)
        return -1;
    db_put_int(s, CANDIDATES + d->running);
    int n = 0, r;
    while ((r = db_step(s, e)) == 1 && n < CANDIDATES)
        if (!find(d, db_text(s, 0)))
            strncpy(ret[n++], db_text(s, 0), ID_MAX - 1);
    db_end(s);
    return r < 0 ? -1 : n;
}

static void on_over(void *ctx, struct attempt *a, bool lost)
{
    struct dispatch *d = ctx;
    struct attempt **p = &d->all;
    while (*p != a)
        p = &(*p)->next;
    *p = a->next;
    d->slots_free += a->slots;
    d->running--;
    d->lost += lost;
    attempt_free(a);
    dispatch_kick(d);
}

/* The free slots are shared out among those who wait, at least one each. */
static void start_waiting(struct dispatch *d)
{
    char ids[CANDIDATES][ID_MAX] = {{0}};
    struct err e = ERR_INIT;
    int n = waiting(d, ids, &e);
    if (n < 0)
        log_event(LOG_ERROR, "dispatch.queue", "%s", e.detail);
    for (int i = 0; i < n && d->slots_free > 0; i++) {
        int share = d->slots_free / (n - i), slots = share > 0 ? share : 1;
        struct attempt *a = attempt_start(d->server, ids[i], slots, on_over, d);
        a->next = d->all;
        d->all = a;
        d->slots_free -= slots;
        d->running++;
    }
}

static void kick_now(void *ctx, const struct err *e)
{
    (void)e;
    struct dispatch *d = ctx;
    d->kicked = false;
    if (!d->stopping && d->slots_free > 0)
        start_waiting(d);
}

void dispatch_kick(struct dispatch *d)
{
    if (d->kicked || d->stopping)
        return;
    d->kicked = true;
    db_write(d->server->db, NULL, kick_now, d); /* after what is being written now */
}

void dispatch_cancel(struct dispatch *d, const char *job)
{
    struct attempt *a = find(d, job);
    if (a)
        attempt_cancel(a, false);
}

void dispatch_stop(struct dispatch *d)
{
    d->stopping = true;
    for (struct attempt *a = d->all; a; a = a->next)
        attempt_cancel(a, true);
}

bool dispatch_idle(const struct dispatch *d)
{
    return !d->all && !d->kicked;
}

static void on_tick(uv_timer_t *t)
{
    struct dispatch *d = t->data;
    for (struct attempt *a = d->all; a; a = a->next)
        attempt_tick(a);
}

struct dispatch *dispatch_new(struct server *s)
{
    struct dispatch *d = xcalloc(1, sizeof *d);
    d->server = s;
    d->slots_free = (int)s->conf->workers;
    d->tick.data = d;
    uv_timer_init(s->loop, &d->tick);
    uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
    return d;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void dispatch_free(struct dispatch *d)
{
    if (d)
        uv_close((uv_handle_t *)&d->tick, on_closed);
}

void dispatch_stats(const struct dispatch *d, struct dispatch_stats *ret)
{
    *ret = (struct dispatch_stats){.running = d->running,
                                   .slots_free = d->slots_free,
                                   .slots = (int)d->server->conf->workers,
                                   .lost = d->lost};
}

/* ---- after a start ---- */

static int write_recovered(struct tx *tx, struct change *c, struct err *e)
{
    struct job_row j;
    if (job_load(FROM_TX(tx), c->job, &c->arena, &j, e) != 1)
        return -1;
    if (strcmp(j.state, "cancelling")) {
        if (tx_run(tx, e, "UPDATE jobs SET state='queued', version=version+1 WHERE id=?1", "t",
                   c->job))
            return -1;
        return change_event(tx, c, -1, "state",
                            "{\"reason\":\"the service was started again\",\"state\":\"queued\"}",
                            e);
    }
    if (tx_run(tx, e,
               "UPDATE jobs SET state='cancelled', finished_ms=?2, version=version+1 WHERE id=?1",
               "ti", c->job, clock_wall_ms()) ||
        change_event(tx, c, -1, "state", "{\"state\":\"cancelled\"}", e))
        return -1;
    return change_event(tx, c, -1, "done", "{\"state\":\"cancelled\",\"verdict\":null}", e);
}

static int recover_jobs(struct dispatch *d, struct err *e)
{
    struct stmt *s = db_stmt(
        d->server->db, "SELECT id FROM jobs WHERE state IN ('running','waiting','cancelling')", e);
    int r = s ? 1 : -1;
    while (r == 1 && (r = db_step(s, e)) == 1) {
        struct change *c = change_new(d->server, db_text(s, 0), sizeof *c);
        c->write = write_recovered;
        change_submit(c);
    }
    db_end(s);
    return r;
}

static bool is_needed(struct dispatch *d, const char *owner)
{
    struct err e = ERR_INIT;
    struct stmt *s = db_stmt(d->server->db,
                             "SELECT 1 FROM jobs WHERE id=?1 AND state IN "
                             "('queued','running','waiting') UNION ALL SELECT 1 FROM datasets "
                             "WHERE id=?2 AND state='inspecting'",
                             &e);
    if (!s)
        return true;
    db_put_text(s, owner);
    db_put_text(s, owner);
    bool needed = db_step(s, &e) != 0;
    db_end(s);
    return needed;
}

static int recover_folders(struct dispatch *d, struct err *e)
{
    DIR *dir = opendir(d->server->work_dir);
    if (!dir)
        return err_errno(e, d->server->work_dir, "The folder cannot be read");
    struct arena a = ARENA_INIT;
    for (struct dirent *f; (f = readdir(dir));) {
        if (*f->d_name == '.')
            continue;
        pool_reap_leftover(run_path(d->server, &a, f->d_name, "pid"));
        if (!is_needed(d, f->d_name))
            remove_tree(d->server, run_path(d->server, &a, f->d_name, ""));
    }
    closedir(dir);
    arena_done(&a);
    return 0;
}

int dispatch_recover(struct dispatch *d, struct err *e)
{
    if (recover_folders(d, e) || recover_jobs(d, e))
        return -1;
    dispatch_kick(d);
    return 0;
}
