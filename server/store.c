#include "server/store.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "server/stream.h"

struct stmt *from_stmt(struct from f, const char *sql, struct err *e)
{
    return f.tx ? tx_stmt(f.tx, sql, e) : db_stmt(f.db, sql, e);
}

static void put_all(struct stmt *s, const char *kinds, va_list ap)
{
    for (const char *k = kinds; *k; k++) {
        if (*k == 't') {
            db_put_text(s, va_arg(ap, const char *));
        } else if (*k == 'i') {
            db_put_int(s, va_arg(ap, int64_t));
        } else {
            const void *p = va_arg(ap, const void *);
            db_put_blob(s, p, va_arg(ap, size_t));
        }
    }
}

int tx_run(struct tx *tx, struct err *e, const char *sql, const char *kinds, ...)
{
    struct stmt *s = tx_stmt(tx, sql, e);
    if (!s)
        return -1;
    va_list ap;
    va_start(ap, kinds);
    put_all(s, kinds, ap);
    va_end(ap);
    int r = db_step(s, e);
    db_end(s);
    return r < 0 ? -1 : 0;
}

static const char *text(struct stmt *s, struct arena *a, int column)
{
    const char *v = db_text(s, column);
    return v ? arena_strdup(a, v) : NULL;
}

/* Runs `sql` with one parameter and reads its first row. 1, 0 or -1. */
typedef void read_fn(struct stmt *s, struct arena *a, void *ret);
static int load(struct from f, const char *sql, const char *id, read_fn *read, struct arena *a,
                void *ret, struct err *e)
{
    struct stmt *s = from_stmt(f, sql, e);
    if (!s)
        return -1;
    db_put_text(s, id);
    int r = db_step(s, e);
    if (r == 1)
        read(s, a, ret);
    db_end(s);
    return r;
}

/* ---- jobs ---- */

void job_read(struct stmt *s, struct arena *a, struct job_row *ret)
{
    *ret = (struct job_row){.id = text(s, a, 0),
                            .kind = text(s, a, 1),
                            .state = text(s, a, 2),
                            .spec = text(s, a, 3),
                            .spec_sha256 = text(s, a, 4),
                            .labels = text(s, a, 5),
                            .progress = text(s, a, 6),
                            .verdict = text(s, a, 7),
                            .retry_of = text(s, a, 8),
                            .engine = text(s, a, 9),
                            .result = text(s, a, 10),
                            .error = text(s, a, 11),
                            .priority = db_int(s, 12),
                            .attempt = db_int(s, 13),
                            .created_ms = db_int(s, 14),
                            .started_ms = db_int(s, 15),
                            .finished_ms = db_int(s, 16),
                            .version = db_int(s, 17)};
}

static void job_read_any(struct stmt *s, struct arena *a, void *ret)
{
    job_read(s, a, ret);
}

int job_load(struct from f, const char *id, struct arena *a, struct job_row *ret, struct err *e)
{
    return load(f, "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?1", id, job_read_any, a, ret, e);
}

bool job_is_terminal(const char *state)
{
    return !strcmp(state, "succeeded") || !strcmp(state, "failed") || !strcmp(state, "cancelled");
}

/* ---- models and data sets ---- */

void model_read(struct stmt *s, struct arena *a, struct model_row *ret)
{
    *ret = (struct model_row){.id = text(s, a, 0),
                              .blob = text(s, a, 1),
                              .external = text(s, a, 2),
                              .name = text(s, a, 3),
                              .state = text(s, a, 4),
                              .summary = text(s, a, 5),
                              .error = text(s, a, 6),
                              .created_ms = db_int(s, 7),
                              .size = db_int(s, 8),
                              .skeleton = text(s, a, 9),
                              .calibrations = text(s, a, 10)};
}

static void model_read_any(struct stmt *s, struct arena *a, void *ret)
{
    model_read(s, a, ret);
}

int model_load(struct from f, const char *id, struct arena *a, struct model_row *ret, struct err *e)
{
    return load(f, "SELECT " MODEL_COLUMNS " FROM " MODEL_TABLES " WHERE m.id = ?1", id,
                model_read_any, a, ret, e);
}

void dataset_read(struct stmt *s, struct arena *a, struct dataset_row *ret)
{
    *ret = (struct dataset_row){.id = text(s, a, 0),
                                .upload = text(s, a, 1),
                                .name = text(s, a, 2),
                                .state = text(s, a, 3),
                                .summary = text(s, a, 4),
                                .blob = text(s, a, 5),
                                .error = text(s, a, 6),
                                .created_ms = db_int(s, 7),
                                .size = db_int(s, 8)};
}

static void dataset_read_any(struct stmt *s, struct arena *a, void *ret)
{
    dataset_read(s, a, ret);
}

int dataset_load(struct from f, const char *id, struct arena *a, struct dataset_row *ret,
                 struct err *e)
{
    return load(f, "SELECT " DATASET_COLUMNS " FROM " DATASET_TABLES " WHERE d.id = ?1", id,
                dataset_read_any, a, ret, e);
}

int blob_add(struct tx *tx, const char *sha256, uint64_t size, struct err *e)
{
    return tx_run(tx, e, "INSERT OR IGNORE INTO blobs(sha256,size,created_ms) VALUES(?1,?2,?3)",
                  "tii", sha256, (int64_t)size, clock_wall_ms());
}

/* ---- events and changes ---- */

int event_add(struct tx *tx, const char *job, int64_t ordinal, const char *type, const char *data,
              struct event_row *ret, struct err *e)
{
    *ret = (struct event_row){.at_ms = clock_wall_ms(), .type = type, .data = data};
    strncpy(ret->job, job, sizeof ret->job - 1);
    struct stmt *s = tx_stmt(tx,
                             "INSERT OR IGNORE INTO events(job_id,ordinal,type,data,at_ms) "
                             "VALUES(?1,?2,?3,?4,?5) RETURNING seq",
                             e);
    if (!s)
        return -1;
    db_put_text(s, job);
    if (ordinal < 0)
        db_put_null(s);
    else
        db_put_int(s, ordinal);
    db_put_text(s, type);
    db_put_text(s, data);
    db_put_int(s, ret->at_ms);
    int r = db_step(s, e);
    if (r == 1) {
        ret->seq = db_int(s, 0);
        r = db_step(s, e);
    }
    db_end(s);
    return r;
}

void *change_new(struct server *s, const char *job, size_t size)
{
    struct change *c = xcalloc(1, size);
    c->server = s;
    strncpy(c->job, job, sizeof c->job - 1);
    return c;
}

int change_event(struct tx *tx, struct change *c, int64_t ordinal, const char *type,
                 const char *data, struct err *e)
{
    if (c->n_events == CHANGE_EVENTS_MAX)
        return err_set(e, ERR_INTERNAL, "", "A change tells more than %d events.",
                       CHANGE_EVENTS_MAX);
    struct event_row *row = &c->events[c->n_events];
    if (event_add(tx, c->job, ordinal, type, data, row, e))
        return -1;
    c->n_events += row->seq > 0;
    return 0;
}

static int change_write(struct tx *tx, void *ctx, struct err *e)
{
    struct change *c = ctx;
    return c->write(tx, c, e);
}

static void change_done(void *ctx, const struct err *e)
{
    struct change *c = ctx;
    for (int i = 0; !e && i < c->n_events; i++)
        hub_publish(c->server->hub, &c->events[i]);
    if (e && !c->done)
        log_event(LOG_ERROR, "store.write", "%s: %s", c->job, e->detail);
    if (c->done)
        c->done(c, e);
    arena_done(&c->arena);
    free(c);
}

void change_submit(struct change *c)
{
    db_write(c->server->db, change_write, change_done, c);
}
