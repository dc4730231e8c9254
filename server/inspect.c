#include "server/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "server/adopt.h"
#include "server/blobs.h"
#include "server/collect.h"
#include "server/conf.h"
#include "server/inputs.h"
#include "server/run.h"
#include "server/store.h"

enum { TRIES = 2, LIMIT_MS = 600000 };

struct inspect_wait {
    struct inspect_wait *next, **back;
    void (*fn)(void *ctx, const struct err *e);
    void *ctx;
};

struct inspection {
    struct inspection *next;
    struct inspections *all;
    struct arena arena;
    const char *id, *name, *sha256, *external;
    const char *file; /* where the upload stands now; NULL: the blob is in place */
    uint64_t size;
    bool is_model, published;
    int tries;
    struct run *run;
    struct inspect_wait *waits;
    /* The outcome. */
    struct err err;
    const char *state, *summary;
    const char *blob; /* of a data set's stored form */
    uint64_t blob_size;
    struct part {         /* what else the worker wrote of a model */
        const char *blob; /* NULL: nothing */
        uint64_t size;
    } skeleton, calibrations;
};

struct inspections {
    struct server *server;
    struct inspection *first; /* the queue; the first one is running */
    bool stopping;
};

static void begin(struct inspection *i);

/* Begins the first one, unless it is being dealt with already. */
static void begin_first(struct inspections *all)
{
    struct inspection *i = all->first;
    if (i && !i->tries && !all->stopping)
        begin(i);
}

static void begin_soon(void *ctx, const struct err *e)
{
    (void)e;
    begin_first(ctx);
}

/* ---- the end of one ---- */

static void tell_waits(struct inspection *i, const struct err *e)
{
    struct inspect_wait *w;
    while ((w = i->waits)) {
        void (*fn)(void *, const struct err *) = w->fn;
        void *ctx = w->ctx;
        inspect_leave(w);
        fn(ctx, e);
    }
}

static void leave_queue(struct inspection *i)
{
    struct inspection **p = &i->all->first;
    while (*p != i)
        p = &(*p)->next;
    *p = i->next;
}

/* Takes it out of the queue, tells everybody, and begins the next one. */
static void conclude(struct inspection *i, const struct err *e, bool keep_files)
{
    struct inspections *all = i->all;
    leave_queue(i);
    tell_waits(i, e);
    if (e)
        collect_kick(all->server->collect);
    if (!keep_files)
        remove_tree(all->server, run_path(all->server, &i->arena, i->id, ""));
    arena_done(&i->arena);
    free(i);
    begin_first(all);
}

static int add_part(struct tx *tx, const struct part *p, struct err *e)
{
    return p->blob ? blob_add(tx, p->blob, p->size, e) : 0;
}

static int write_model(struct tx *tx, const struct inspection *i, const char *error, struct err *e)
{
    if (blob_add(tx, i->sha256, i->size, e) || add_part(tx, &i->skeleton, e) ||
        add_part(tx, &i->calibrations, e))
        return -1;
    return tx_run(tx, e,
                  "INSERT INTO models(id,blob,external,name,state,summary,error,created_ms,"
                  "skeleton,calibrations) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10) "
                  "ON CONFLICT(id) DO UPDATE SET state=excluded.state, summary=excluded.summary, "
                  "error=excluded.error, skeleton=excluded.skeleton, "
                  "calibrations=excluded.calibrations",
                  "tttttttitt", i->id, i->sha256, i->external, i->name, i->state, i->summary, error,
                  clock_wall_ms(), i->skeleton.blob, i->calibrations.blob);
}

static int write_dataset(struct tx *tx, const struct inspection *i, const char *error,
                         struct err *e)
{
    if (i->blob && blob_add(tx, i->blob, i->blob_size, e))
        return -1;
    return tx_run(tx, e,
                  "INSERT INTO datasets(id,upload,blob,name,state,summary,error,created_ms) "
                  "VALUES(?1,?2,?3,?4,?5,?6,?7,?8) ON CONFLICT(id) DO UPDATE SET "
                  "blob=excluded.blob, state=excluded.state, summary=excluded.summary, "
                  "error=excluded.error",
                  "ttttttti", i->id, i->sha256, i->blob, i->name, i->state, i->summary, error,
                  clock_wall_ms());
}

static int write_outcome(struct tx *tx, void *ctx, struct err *e)
{
    const struct inspection *i = ctx;
    struct arena a = ARENA_INIT;
    const char *error = i->err.code == ERR_NONE ? NULL : error_text(&a, &i->err);
    int r = (i->is_model ? write_model : write_dataset)(tx, i, error, e);
    arena_done(&a);
    return r;
}

static void outcome_written(void *ctx, const struct err *e)
{
    struct inspection *i = ctx;
    conclude(i, i->err.code != ERR_NONE ? &i->err : e, false);
}

static void settle(struct inspection *i)
{
    if (i->err.code != ERR_NONE && !i->published) {
        conclude(i, &i->err, false);
        return;
    }
    i->state = i->err.code == ERR_NONE ? "ready" : "invalid";
    if (!i->summary)
        i->summary = "{}";
    db_write(i->all->server->db, write_outcome, outcome_written, i);
}

static void upload_placed(void *ctx, const struct err *e)
{
    struct inspection *i = ctx;
    if (e)
        i->err = *e;
    settle(i);
}

static struct part find_part(struct inspection *i, const struct run_end *end, const char *name)
{
    for (int k = 0; k < end->n_artifacts; k++)
        if (!strcmp(end->artifacts[k].name, name))
            return (struct part){arena_strdup(&i->arena, end->artifacts[k].sha256),
                                 end->artifacts[k].size};
    return (struct part){0};
}

static void take_result(struct inspection *i, const struct run_end *end)
{
    char *text = json_text(end->result);
    i->summary = arena_strdup(&i->arena, text);
    free(text);
    if (i->is_model) {
        i->skeleton = find_part(i, end, "skeleton.onnx");
        i->calibrations = find_part(i, end, "calibrations.json");
        return;
    }
    if (!end->n_artifacts) {
        err_set(&i->err, ERR_WORKER_PROTOCOL, "", "The inspection made no data set.");
        return;
    }
    i->blob = arena_strdup(&i->arena, end->artifacts[0].sha256);
    i->blob_size = end->artifacts[0].size;
}

static void on_end(void *ctx, const struct run_end *end)
{
    struct inspection *i = ctx;
    struct inspections *all = i->all;
    i->run = NULL;
    if (all->stopping) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_UNAVAILABLE, "", "The service is shutting down.");
        conclude(i, &e, true);
        return;
    }
    if (end->err.code != ERR_NONE && !end->own && i->tries < TRIES) {
        log_event(LOG_WARN, "inspect.again", "%s: %s %s", i->id, end->err.detail, end->tail);
        begin(i);
        return;
    }
    i->err = end->err;
    if (end->err.code == ERR_NONE)
        take_result(i, end);
    else if (!end->own)
        log_event(LOG_ERROR, "inspect.lost", "%s: %s %s", i->id, end->err.detail, end->tail);
    if (i->err.code == ERR_NONE && i->is_model && i->file)
        blobs_put(all->server->blobs, i->file, i->sha256, upload_placed, i);
    else
        settle(i);
}

/* ---- the start of one ---- */

static int fill_inputs(struct inspection *i, struct arena *a, Ptq__Start *start, struct err *e)
{
    struct server *s = i->all->server;
    const char *path = i->file ? i->file : blobs_path(s->blobs, a, i->sha256);
    if (!i->is_model) {
        inputs_add(a, start, "upload", path, i->name, i->sha256);
        return 0;
    }
    json_t *external = json_parse(i->external, strlen(i->external), e);
    if (!external)
        return -1;
    inputs_add_model(s, a, start, path, i->sha256, external);
    json_decref(external);
    return 0;
}

static void begin(struct inspection *i)
{
    static const struct run_calls calls = {.end = on_end};
    struct server *s = i->all->server;
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    Ptq__Start start = PTQ__START__INIT;
    start.job_id = (char *)i->id;
    start.kind = (char *)(i->is_model ? "inspect-model" : "inspect-data");
    start.spec = (char *)"{}";
    start.slots = 1;
    start.memory_bytes = (uint64_t)s->conf->memory / 2;
    struct run_opts o = {
        .owner = i->id, .start = &start, .attempt = ++i->tries, .limit_ms = LIMIT_MS};
    if (!fill_inputs(i, &a, &start, &e))
        i->run = run_start(s, &o, &calls, i, &e);
    arena_done(&a);
    if (!i->run) {
        i->err = e;
        settle(i);
    }
}

static int move_upload(struct inspection *i, const char *from, struct err *e)
{
    struct server *s = i->all->server;
    if (run_make_dir(s, i->id, e))
        return -1;
    i->file = run_path(s, &i->arena, i->id, "upload");
    if (!strcmp(from, i->file) || rename(from, i->file) == 0)
        return 0;
    return err_errno(e, i->file, "The upload cannot be moved");
}

struct inspection *inspect_start(struct inspections *all, const struct inspect_opts *o,
                                 struct err *e)
{
    struct inspection *i = xcalloc(1, sizeof *i);
    i->all = all;
    i->is_model = !strncmp(o->id, "mdl_", 4);
    i->id = arena_strdup(&i->arena, o->id);
    i->name = arena_strdup(&i->arena, o->name);
    i->sha256 = arena_strdup(&i->arena, o->sha256);
    i->external = arena_strdup(&i->arena, o->external ? o->external : "[]");
    i->size = o->size;
    i->published = o->published;
    if (o->file && move_upload(i, o->file, e)) {
        arena_done(&i->arena);
        free(i);
        return NULL;
    }
    struct inspection **p = &all->first;
    while (*p)
        p = &(*p)->next;
    *p = i;
    db_write(all->server->db, NULL, begin_soon, all); /* after the caller has joined */
    return i;
}

struct inspection *inspect_find(struct inspections *all, const char *id)
{
    struct inspection *i = all->first;
    while (i && strcmp(i->id, id))
        i = i->next;
    return i;
}

/* ---- waiting and publishing ---- */

struct inspect_wait *inspect_join(struct inspection *i, void (*fn)(void *ctx, const struct err *e),
                                  void *ctx)
{
    struct inspect_wait *w = xcalloc(1, sizeof *w);
    *w = (struct inspect_wait){.next = i->waits, .back = &i->waits, .fn = fn, .ctx = ctx};
    if (w->next)
        w->next->back = &w->next;
    i->waits = w;
    return w;
}

void inspect_leave(struct inspect_wait *w)
{
    *w->back = w->next;
    if (w->next)
        w->next->back = w->back;
    free(w);
}

/* A copy of what the row needs: the inspection may end before the row is written. */
struct publishing {
    struct server *server;
    struct inspection row;
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
};

static int write_published(struct tx *tx, void *ctx, struct err *e)
{
    const struct inspection *i = &((struct publishing *)ctx)->row;
    if (!i->is_model)
        return tx_run(tx, e,
                      "INSERT INTO datasets(id,upload,name,state,summary,created_ms) "
                      "VALUES(?1,?2,?3,'inspecting','{}',?4) ON CONFLICT(id) DO NOTHING",
                      "ttti", i->id, i->sha256, i->name, clock_wall_ms());
    if (blob_add(tx, i->sha256, i->size, e))
        return -1;
    return tx_run(tx, e,
                  "INSERT INTO models(id,blob,external,name,state,summary,created_ms) "
                  "VALUES(?1,?2,?3,?4,'inspecting','{}',?5) ON CONFLICT(id) DO NOTHING",
                  "tttti", i->id, i->sha256, i->external, i->name, clock_wall_ms());
}

static void published(void *ctx, const struct err *e)
{
    struct publishing *p = ctx;
    p->done(p->ctx, e);
    arena_done(&p->row.arena);
    free(p);
}

static void published_blob(void *ctx, const struct err *e)
{
    struct publishing *p = ctx;
    if (e)
        published(p, e);
    else
        db_write(p->server->db, write_published, published, p);
}

static struct publishing *publishing_new(const struct inspection *i)
{
    struct publishing *p = xcalloc(1, sizeof *p);
    p->server = i->all->server;
    p->row.is_model = i->is_model;
    p->row.size = i->size;
    p->row.id = arena_strdup(&p->row.arena, i->id);
    p->row.name = arena_strdup(&p->row.arena, i->name);
    p->row.sha256 = arena_strdup(&p->row.arena, i->sha256);
    p->row.external = arena_strdup(&p->row.arena, i->external);
    return p;
}

void inspect_publish(struct inspection *i, void (*done)(void *ctx, const struct err *e), void *ctx)
{
    struct publishing *p = publishing_new(i);
    p->done = done;
    p->ctx = ctx;
    i->published = true;
    if (!i->is_model || !i->file) {
        published_blob(p, NULL);
        return;
    }
    /* The worker reads the upload; a second name of the same file becomes the blob. */
    const char *second =
        arena_printf(&p->row.arena, "%s/publish-%s", blobs_tmp_dir(p->server->blobs), i->id);
    struct err e = ERR_INIT;
    if (link(i->file, second) && errno != EEXIST) {
        err_errno(&e, second, "The upload cannot be linked");
        published(p, &e);
        return;
    }
    blobs_put(p->server->blobs, second, i->sha256, published_blob, p);
}

/* ---- all of them ---- */

struct inspections *inspections_new(struct server *s)
{
    struct inspections *all = xcalloc(1, sizeof *all);
    all->server = s;
    return all;
}

static int recover_one(struct inspections *all, struct stmt *s, bool is_model, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct inspect_opts o = {.id = arena_strdup(&a, db_text(s, 0)),
                             .name = arena_strdup(&a, db_text(s, 1)),
                             .sha256 = arena_strdup(&a, db_text(s, 2)),
                             .external = arena_strdup(&a, db_text(s, 3)),
                             .size = (uint64_t)db_int(s, 4),
                             .published = true};
    if (!is_model)
        o.file = run_path(all->server, &a, o.id, "upload");
    bool ok = inspect_start(all, &o, e);
    arena_done(&a);
    return ok ? 0 : -1;
}

static int recover(struct inspections *all, const char *sql, bool is_model, struct err *e)
{
    struct stmt *s = db_stmt(all->server->db, sql, e);
    int r = s ? 1 : -1;
    while (r == 1 && (r = db_step(s, e)) == 1)
        r = recover_one(all, s, is_model, e) ? -1 : 1;
    db_end(s);
    return r;
}

int inspections_recover(struct inspections *all, struct err *e)
{
    if (recover(all,
                "SELECT m.id, m.name, m.blob, m.external, b.size FROM models m JOIN blobs b ON "
                "b.sha256 = m.blob WHERE m.state = 'inspecting'",
                true, e))
        return -1;
    return recover(all, "SELECT id, name, upload, '[]', 0 FROM datasets WHERE state = 'inspecting'",
                   false, e);
}

void inspections_stop(struct inspections *all)
{
    all->stopping = true;
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNAVAILABLE, "", "The service is shutting down.");
    if (all->first && all->first->run)
        run_cancel(all->first->run);
    for (struct inspection *i = all->first, *next; i; i = next) {
        next = i->next;
        if (i->tries)
            tell_waits(i, &e); /* the running one, or one being settled: goes by itself */
        else
            conclude(i, &e, true);
    }
}

bool inspections_idle(const struct inspections *all)
{
    return !all->first;
}

bool inspections_use(const struct inspections *all, const char *sha256)
{
    for (const struct inspection *i = all->first; i; i = i->next)
        if (!strcmp(i->sha256, sha256) || strstr(i->external, sha256))
            return true;
    return false;
}

void inspections_free(struct inspections *all)
{
    free(all);
}
