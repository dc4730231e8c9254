#include "server/collect.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "server/background.h"
#include "server/blobs.h"
#include "server/conf.h"
#include "server/inspect.h"
#include "server/store.h"

enum { BATCH = 64, PERIOD_MIN_MS = 500, PERIOD_MAX_MS = 30 * 60 * 1000, SOON_MS = 20 };

struct collect {
    struct server *server;
    uv_timer_t timer;
    uv_work_t work;
    bool running, began, again, stopping;
    char *used_sql; /* whether any row refers to blob ?1 */
    int64_t grace_ms;
    struct blob_list old;   /* written before the grace */
    int at, n, removed;     /* the batch is old.sha256[at … at + n) */
    bool free_to_go[BATCH]; /* of the batch, by the rows as committed */
};

static void next_batch(struct collect *c);

/* ---- which blobs no row refers to ---- */

/* Every foreign key to blobs in the schema, the references in JSON, and the results of jobs. */
static int make_used_sql(struct collect *c, struct err *e)
{
    static const char rest[] =
        " UNION ALL SELECT 1 FROM jobs WHERE result=?1"
        " UNION ALL SELECT 1 FROM models WHERE external<>'[]' AND instr(external,?1)>0"
        " UNION ALL SELECT 1 FROM jobs WHERE state IN ('queued','running','waiting','cancelling')"
        " AND instr(spec,?1)>0 LIMIT 1";
    struct stmt *s = db_stmt(c->server->db,
                             "SELECT group_concat('SELECT 1 FROM '||m.name||' WHERE '||f.\"from\"||"
                             "'=?1',' UNION ALL ') FROM sqlite_schema m, "
                             "pragma_foreign_key_list(m.name) f WHERE m.type='table' AND "
                             "f.\"table\"='blobs'",
                             e);
    int r = s ? db_step(s, e) : -1;
    if (r == 1) {
        struct arena a = ARENA_INIT;
        c->used_sql = xstrdup(arena_printf(&a, "%s%s", db_text(s, 0), rest));
        arena_done(&a);
    }
    db_end(s);
    return r == 1 ? 0 : -1;
}

/* 1: a row refers to it. */
static int is_used(struct tx *tx, const struct collect *c, const char *sha256, struct err *e)
{
    struct stmt *s = tx_stmt(tx, c->used_sql, e);
    if (!s)
        return -1;
    db_put_text(s, sha256);
    int r = db_step(s, e);
    db_end(s);
    return r;
}

static int write_batch(struct tx *tx, void *ctx, struct err *e)
{
    struct collect *c = ctx;
    if (c->at == 0 && tx_run(tx, e, "DELETE FROM idempotency WHERE created_ms<=?1", "i",
                             clock_wall_ms() - IDEMPOTENCY_MS))
        return -1;
    for (int i = 0; i < c->n; i++) {
        const char *sha256 = c->old.sha256[c->at + i];
        int used = is_used(tx, c, sha256, e);
        if (used < 0)
            return -1;
        c->free_to_go[i] = !used;
        if (!used && tx_run(tx, e, "DELETE FROM blobs WHERE sha256=?1", "t", sha256))
            return -1;
    }
    return 0;
}

/* ---- one turn: scan in the pool, look in the rows, put aside, remove in the pool ---- */

static void finish(struct collect *c)
{
    if (c->removed)
        log_event(LOG_INFO, "blobs.collected", "%d blobs that nothing refers to were removed.",
                  c->removed);
    blob_list_done(&c->old);
    c->running = false;
    if (c->again)
        collect_kick(c);
}

static void on_empty(uv_work_t *w)
{
    background_thread();
    blobs_empty_aside(((struct collect *)w->data)->server->blobs);
}

static void after_empty(uv_work_t *w, int status)
{
    (void)status; /* what is left in DIR/tmp is swept at the next start */
    finish(w->data);
}

/* After the commit, on the loop thread: who meanwhile has found the blob and means to refer to it
 * has touched it. A commit that failed may bring back a row: then nothing goes. */
static void batch_written(void *ctx, const struct err *e)
{
    struct collect *c = ctx;
    if (e)
        log_event(LOG_WARN, "blobs.collect", "%s", e->detail);
    for (int i = 0; !e && i < c->n; i++) {
        const char *sha256 = c->old.sha256[c->at + i];
        if (c->free_to_go[i] && !inspections_use(c->server->inspections, sha256))
            c->removed += blobs_put_aside(c->server->blobs, sha256, c->grace_ms);
    }
    c->at += c->n;
    if (e)
        c->at = c->old.n;
    next_batch(c);
}

/* The first batch is written even if it is empty: for the keys. */
static void next_batch(struct collect *c)
{
    int left = c->old.n - c->at;
    c->n = left < BATCH ? left : BATCH;
    if (!c->stopping && (c->n || !c->began)) {
        c->began = true;
        db_write(c->server->db, write_batch, batch_written, c);
    } else if (c->removed) {
        uv_queue_work(c->server->loop, &c->work, on_empty, after_empty);
    } else {
        finish(c);
    }
}

static void on_scan(uv_work_t *w)
{
    struct collect *c = w->data;
    background_thread();
    blobs_list_old(c->server->blobs, c->grace_ms, &c->old);
}

static void after_scan(uv_work_t *w, int status)
{
    struct collect *c = w->data;
    c->stopping = c->stopping || status;
    next_batch(c);
}

static void begin(struct collect *c)
{
    c->running = true;
    c->again = c->began = false;
    c->at = c->removed = 0;
    uv_queue_work(c->server->loop, &c->work, on_scan, after_scan);
}

/* ---- when ---- */

static void on_timer(uv_timer_t *t)
{
    struct collect *c = t->data;
    int64_t period_ms = c->grace_ms / 2;
    if (period_ms < PERIOD_MIN_MS)
        period_ms = PERIOD_MIN_MS;
    if (period_ms > PERIOD_MAX_MS)
        period_ms = PERIOD_MAX_MS;
    uv_timer_start(t, on_timer, (uint64_t)period_ms, 0);
    if (c->running)
        c->again = true;
    else if (!c->stopping)
        begin(c);
}

void collect_kick(struct collect *c)
{
    if (!c->stopping)
        uv_timer_start(&c->timer, on_timer, SOON_MS, 0);
}

int collect_new(struct server *s, struct collect **ret, struct err *e)
{
    struct collect *c = xcalloc(1, sizeof *c);
    c->server = s;
    c->grace_ms = s->conf->blob_grace_s * 1000;
    c->timer.data = c->work.data = c;
    uv_timer_init(s->loop, &c->timer);
    *ret = c;
    if (make_used_sql(c, e))
        return -1;
    collect_kick(c);
    return 0;
}

void collect_stop(struct collect *c)
{
    c->stopping = true;
    uv_timer_stop(&c->timer);
}

bool collect_idle(const struct collect *c)
{
    return !c->running;
}

static void on_closed(uv_handle_t *h)
{
    struct collect *c = h->data;
    free(c->used_sql);
    free(c);
}

void collect_free(struct collect *c)
{
    if (c)
        uv_close((uv_handle_t *)&c->timer, on_closed);
}
