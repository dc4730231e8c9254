#include "server/db_conn.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"

enum { BATCH_MAX = 512 };

struct op {
    struct op *next;
    int (*write)(struct tx *, void *, struct err *);
    void (*done)(void *, const struct err *);
    void *ctx;
    struct err *err; /* NULL: went well */
};

struct list {
    struct op *first, **last;
    int64_t count;
};

struct writer {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct list queued, told; /* waiting to be written; waiting for their done */
    bool stopping;
    struct conn *conn; /* the thread's own */
    bool suspect;      /* the thread's own: a sync failed, nothing may be written any more */
    uv_async_t wake;
    struct db_stats stats;
};

static void list_init(struct list *l)
{
    *l = (struct list){.last = &l->first};
}

static void list_add(struct list *l, struct op *op)
{
    op->next = NULL;
    *l->last = op;
    l->last = &op->next;
    l->count++;
}

static struct op *list_take(struct list *l)
{
    struct op *op = l->first;
    if (!op)
        return NULL;
    l->first = op->next;
    if (!l->first)
        l->last = &l->first;
    l->count--;
    return op;
}

static void list_append(struct list *to, struct list *from)
{
    struct op *op;
    while ((op = list_take(from)))
        list_add(to, op);
}

static void op_fail(struct op *op, const struct err *e)
{
    if (op->err)
        return;
    op->err = xmalloc(sizeof *op->err);
    *op->err = *e;
}

/* Runs one write in its savepoint. False if the whole transaction is gone with it. */
static bool run_one(struct writer *w, struct op *op)
{
    struct tx tx = {w->conn};
    struct err e = ERR_INIT;
    int bad = conn_run(w->conn, "SAVEPOINT one", &e);
    if (!bad)
        bad = op->write(&tx, op->ctx, &e);
    if (!conn_end_all(w->conn))
        log_event(LOG_WARN, "db.open-statement", "A write left a statement open.");
    if (!conn_in_transaction(w->conn)) {
        err_set(&e, ERR_INTERNAL, "", "The transaction was lost.");
        op_fail(op, &e);
        return false;
    }
    struct err after = ERR_INIT;
    if (bad) {
        err_set(&e, ERR_INTERNAL, "", "The write failed and did not say why.");
        op_fail(op, &e);
        conn_run(w->conn, "ROLLBACK TO one", &after);
    }
    conn_run(w->conn, "RELEASE one", &after);
    return conn_in_transaction(w->conn);
}

static void fail_all(struct list *l, const struct err *e)
{
    for (struct op *op = l->first; op; op = op->next)
        op_fail(op, e);
}

static void roll_back(struct writer *w)
{
    struct err ignored = ERR_INIT;
    if (conn_in_transaction(w->conn))
        conn_run(w->conn, "ROLLBACK", &ignored);
}

static void commit(struct writer *w, struct list *ran)
{
    struct err e = ERR_INIT;
    int64_t start = clock_mono_us();
    if (conn_run(w->conn, "COMMIT", &e)) {
        if (conn_io_failed(w->conn)) {
            w->suspect = true;
            log_event(LOG_ERROR, "db.suspect", "%s Writing stops until a restart.", e.detail);
        }
        roll_back(w);
        fail_all(ran, &e);
        return;
    }
    int64_t us = clock_mono_us() - start;
    pthread_mutex_lock(&w->lock);
    w->stats.commits++;
    w->stats.last_commit_us = us;
    if (us > w->stats.max_commit_us)
        w->stats.max_commit_us = us;
    pthread_mutex_unlock(&w->lock);
}

/* One transaction with the writes of the batch, up to the one that loses it. Moves what it has
 * dealt with to `ran`. */
static void run_batch(struct writer *w, struct list *batch, struct list *ran)
{
    struct err e = ERR_INIT;
    if (w->suspect)
        err_set(&e, ERR_UNAVAILABLE, "", "Storage failed; the service must be started again.");
    else
        conn_run(w->conn, "BEGIN IMMEDIATE", &e);
    if (e.code != ERR_NONE) {
        fail_all(batch, &e);
        list_append(ran, batch);
        return;
    }
    bool whole = true;
    struct op *op;
    while (whole && (op = list_take(batch))) {
        list_add(ran, op);
        if (op->write)
            whole = run_one(w, op);
        if (!whole)
            fail_all(ran, op->err);
    }
    if (whole)
        commit(w, ran);
    else
        roll_back(w);
}

static bool only_barriers(const struct list *l)
{
    for (const struct op *op = l->first; op; op = op->next)
        if (op->write)
            return false;
    return true;
}

/* Waits for work; false at the end. */
static bool next_batch(struct writer *w, struct list *batch)
{
    pthread_mutex_lock(&w->lock);
    while (!w->queued.first && !w->stopping)
        pthread_cond_wait(&w->more, &w->lock);
    while (w->queued.first && batch->count < BATCH_MAX)
        list_add(batch, list_take(&w->queued));
    w->stats.queued = w->queued.count + batch->count;
    pthread_mutex_unlock(&w->lock);
    return batch->first;
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    struct list batch, ran;
    list_init(&batch);
    list_init(&ran);
    while (next_batch(w, &batch)) {
        if (only_barriers(&batch))
            list_append(&ran, &batch);
        while (batch.first)
            run_batch(w, &batch, &ran);
        pthread_mutex_lock(&w->lock);
        w->stats.writes += ran.count;
        list_append(&w->told, &ran);
        pthread_mutex_unlock(&w->lock);
        uv_async_send(&w->wake);
    }
    return NULL;
}

/* On the loop thread: the news, in order. */
static void tell(struct writer *w)
{
    struct list news;
    list_init(&news);
    pthread_mutex_lock(&w->lock);
    list_append(&news, &w->told);
    pthread_mutex_unlock(&w->lock);
    struct op *op;
    while ((op = list_take(&news))) {
        if (op->done)
            op->done(op->ctx, op->err);
        free(op->err);
        free(op);
    }
}

static void on_wake(uv_async_t *a)
{
    tell(a->data);
}

struct writer *writer_start(uv_loop_t *loop, struct conn *c)
{
    struct writer *w = xcalloc(1, sizeof *w);
    w->conn = c;
    list_init(&w->queued);
    list_init(&w->told);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->wake.data = w;
    if (uv_async_init(loop, &w->wake, on_wake) || pthread_create(&w->thread, NULL, writer_main, w))
        abort(); /* no descriptors or no thread at the very start */
    return w;
}

void writer_add(struct writer *w, int (*write)(struct tx *, void *, struct err *),
                void (*done)(void *, const struct err *), void *ctx)
{
    struct op *op = xcalloc(1, sizeof *op);
    op->write = write;
    op->done = done;
    op->ctx = ctx;
    pthread_mutex_lock(&w->lock);
    list_add(&w->queued, op);
    w->stats.queued++;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

static void on_closed(uv_handle_t *h)
{
    struct writer *w = h->data;
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->more);
    free(w);
}

struct conn *writer_stop(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    tell(w);
    while (w->queued.first) { /* what those callbacks have queued */
        writer_main(w);
        tell(w);
    }
    uv_close((uv_handle_t *)&w->wake, on_closed);
    return w->conn;
}

void writer_stats(struct writer *w, struct db_stats *ret)
{
    pthread_mutex_lock(&w->lock);
    *ret = w->stats;
    pthread_mutex_unlock(&w->lock);
}
