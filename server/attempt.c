#include "server/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "server/blobs.h"
#include "server/conf.h"
#include "server/inputs.h"

enum { LOOSE_EVENTS_MAX = 1000, RATE_AFTER_MS = 1000, JOB_NICE = 10 /* checks come first */ };

static void run_worker(struct attempt *a);

/* ---- the claim ---- */

struct claim {
    struct change change;
    struct attempt *attempt;
    bool got;
};

static int write_claim(struct tx *tx, struct change *c, struct err *e)
{
    struct claim *claim = (struct claim *)c;
    struct attempt *a = claim->attempt;
    if (tx_run(tx, e,
               "UPDATE jobs SET state='running', attempt=attempt+1, version=version+1, "
               "started_ms=coalesce(started_ms,?2) WHERE id=?1 AND state='queued'",
               "ti", c->job, clock_wall_ms()))
        return -1;
    if (!tx_changes(tx))
        return 0;
    if (job_load(FROM_TX(tx), c->job, &a->arena, &a->row, e) != 1)
        return -1;
    claim->got = true;
    return change_event(tx, c, -1, "state",
                        arena_printf(&c->arena, "{\"attempt\":%lld,\"state\":\"running\"}",
                                     (long long)a->row.attempt),
                        e);
}

static void claimed(struct change *c, const struct err *e)
{
    struct claim *claim = (struct claim *)c;
    struct attempt *a = claim->attempt;
    if (e)
        log_event(LOG_ERROR, "job.claim", "%s: %s", c->job, e->detail);
    if (e || !claim->got)
        a->over(a->ctx, a, false);
    else if (a->stopping)
        attempt_requeue(a, "the service is shutting down");
    else
        run_worker(a);
}

struct attempt *attempt_start(struct server *s, const char *id, int slots,
                              void (*over)(void *ctx, struct attempt *a, bool lost), void *ctx)
{
    struct attempt *a = xcalloc(1, sizeof *a);
    a->server = s;
    a->slots = slots;
    a->over = over;
    a->ctx = ctx;
    strncpy(a->id, id, sizeof a->id - 1);
    struct claim *c = change_new(s, id, sizeof *c);
    c->attempt = a;
    c->change.write = write_claim;
    c->change.done = claimed;
    change_submit(&c->change);
    return a;
}

void attempt_free(struct attempt *a)
{
    json_decref(a->progress);
    json_decref(a->result);
    arena_done(&a->arena);
    free(a);
}

/* ---- what the worker says ---- */

static int write_engine(struct tx *tx, struct change *c, struct err *e)
{
    return tx_run(tx, e,
                  "UPDATE jobs SET engine=?2, version=version+1 WHERE id=?1 AND engine IS NULL",
                  "tt", c->job, (const char *)(c + 1));
}

static void on_hello(void *ctx, const char *engine)
{
    struct attempt *a = ctx;
    if (a->row.engine)
        return; /* pinned: a worker of another profile refuses by itself */
    struct change *c = change_new(a->server, a->id, sizeof *c + strlen(engine) + 1);
    strcpy((char *)(c + 1), engine);
    c->write = write_engine;
    change_submit(c);
}

struct event_change {
    struct change change;
    int64_t ordinal;
    const char *type, *data;
};

static int write_event(struct tx *tx, struct change *c, struct err *e)
{
    struct event_change *v = (struct event_change *)c;
    return change_event(tx, c, v->ordinal, v->type, v->data, e);
}

static struct event_change *event_change_new(struct attempt *a, int64_t ordinal, const char *type,
                                             const char *data)
{
    struct event_change *v = change_new(a->server, a->id, sizeof *v);
    v->ordinal = ordinal;
    v->type = arena_strdup(&v->change.arena, type);
    v->data = arena_strdup(&v->change.arena, data);
    v->change.write = write_event;
    return v;
}

/* The progress as the API shows it: every field there, rate and rest of time reckoned here when
 * the worker does not tell them. */
static void take_progress(struct attempt *a, const char *text)
{
    struct err e = ERR_INIT;
    json_t *told = json_parse(text, strlen(text), &e);
    const char *phase = json_str(told, "phase", "");
    double done = json_num(told, "done", 0), total = json_num(told, "total", -1);
    int64_t now = clock_mono_ms();
    if (!a->progress || strcmp(phase, json_str(a->progress, "phase", ""))) {
        a->phase_ms = now;
        a->phase_done = done;
    }
    double seconds = (double)(now - a->phase_ms) / 1000, rate = -1;
    if (now - a->phase_ms >= RATE_AFTER_MS && done > a->phase_done)
        rate = (done - a->phase_done) / seconds;
    json_t *p = json_object();
    json_object_set_new(p, "phase", json_string(phase));
    json_object_set_new(p, "done", json_real(done < 0 ? 0 : done));
    json_object_set_new(p, "total", total < 0 ? json_null() : json_real(total));
    json_object_set_new(p, "unit", json_string(json_str(told, "unit", "tasks")));
    rate = json_num(told, "rate", rate);
    json_object_set_new(p, "rate", rate < 0 ? json_null() : json_real(rate));
    double eta = json_num(told, "eta_s", rate > 0 && total >= done ? (total - done) / rate : -1);
    json_object_set_new(p, "eta_s", eta < 0 ? json_null() : json_real(eta));
    json_decref(told);
    json_decref(a->progress);
    a->progress = p;
    a->progress_dirty = true;
}

static void on_event(void *ctx, int64_t ordinal, const char *type, const char *data)
{
    struct attempt *a = ctx;
    if (!strcmp(type, "progress")) {
        take_progress(a, data);
        return;
    }
    if (ordinal < 0 && a->loose_events++ >= LOOSE_EVENTS_MAX)
        return;
    change_submit(&event_change_new(a, ordinal, type, data)->change);
}

static int write_progress(struct tx *tx, struct change *c, struct err *e)
{
    struct event_change *v = (struct event_change *)c;
    const char *column =
        arena_printf(&c->arena, "{\"progress\":%s,\"hits\":%lld}", v->data, (long long)v->ordinal);
    if (tx_run(tx, e, "UPDATE jobs SET progress=?2, version=version+1 WHERE id=?1", "tt", c->job,
               column))
        return -1;
    return change_event(tx, c, -1, "progress", v->data, e);
}

void attempt_store_progress(struct attempt *a)
{
    if (!a->progress_dirty)
        return;
    a->progress_dirty = false;
    if (a->run)
        a->hits = run_hits(a->run);
    char *text = json_text(a->progress);
    struct event_change *v = event_change_new(a, a->hits, "progress", text);
    v->change.write = write_progress;
    free(text);
    change_submit(&v->change);
}

struct artifact_change {
    struct change change;
    struct run_artifact artifact;
};

static int write_artifact(struct tx *tx, struct change *c, struct err *e)
{
    const struct run_artifact *x = &((struct artifact_change *)c)->artifact;
    if (blob_add(tx, x->sha256, x->size, e))
        return -1;
    return tx_run(tx, e,
                  "INSERT OR REPLACE INTO artifacts(job_id,name,media_type,blob,size) "
                  "VALUES(?1,?2,?3,?4,?5)",
                  "tttti", c->job, x->name, x->media_type, x->sha256, (int64_t)x->size);
}

static void on_artifact(void *ctx, const struct run_artifact *x)
{
    struct attempt *a = ctx;
    struct artifact_change *v = change_new(a->server, a->id, sizeof *v);
    struct arena *arena = &v->change.arena;
    v->artifact = (struct run_artifact){.name = arena_strdup(arena, x->name),
                                        .media_type = arena_strdup(arena, x->media_type),
                                        .sha256 = arena_strdup(arena, x->sha256),
                                        .size = x->size};
    v->change.write = write_artifact;
    change_submit(&v->change);
}

static void on_end(void *ctx, const struct run_end *end)
{
    struct attempt *a = ctx;
    a->run = NULL;
    a->hits = end->hits;
    attempt_store_progress(a);
    attempt_end(a, end);
}

/* ---- the start of the worker ---- */

static int add_dataset(struct attempt *a, struct arena *arena, Ptq__Start *start, const char *role,
                       const char *id, struct err *e)
{
    struct dataset_row d;
    if (!id)
        return 0;
    int r = dataset_load(FROM_DB(a->server->db), id, arena, &d, e);
    if (r < 0)
        return -1;
    if (r == 0 || !d.blob)
        return err_set(e, ERR_GONE, "/data", "The data set %s is gone.", id);
    inputs_add(arena, start, role, blobs_path(a->server->blobs, arena, d.blob), d.id, d.blob);
    return 0;
}

static int add_inputs(struct attempt *a, struct arena *arena, Ptq__Start *start, struct err *e)
{
    json_t *spec = json_parse(a->row.spec, strlen(a->row.spec), e);
    const json_t *model = json_object_get(spec, "model");
    const char *sha = digest_of_name(arena, json_str(model, "blob", ""));
    int r = 0;
    if (!spec)
        r = -1;
    else if (!sha || !blobs_has(a->server->blobs, sha, NULL))
        r = err_set(e, ERR_GONE, "/model", "The model is gone.");
    if (!r) {
        inputs_add_model(a->server, arena, start, blobs_path(a->server->blobs, arena, sha), sha,
                         json_object_get(model, "external_data"));
        const char *data = json_str(spec, "data", NULL);
        const char *other = json_str(spec, "calibration_data", NULL);
        r = add_dataset(a, arena, start, "data", data, e);
        if (!r)
            r = add_dataset(a, arena, start, "calibration_data", other, e);
    }
    json_decref(spec);
    return r;
}

static void add_recorded(struct arena *arena, Ptq__Start *start, struct stmt *s)
{
    size_t n = start->n_recorded;
    if ((n & (n - 1)) == 0) { /* 0, 1, 2, 4 …: double the room */
        Ptq__Recorded **more = arena_array(arena, n ? 2 * n : 1, sizeof *more);
        if (n)
            memcpy(more, start->recorded, n * sizeof *more);
        start->recorded = more;
    }
    Ptq__Recorded *one = arena_alloc(arena, sizeof *one);
    ptq__recorded__init(one);
    one->ordinal = (uint64_t)db_int(s, 0);
    one->type = arena_strdup(arena, db_text(s, 1));
    one->json = arena_strdup(arena, db_text(s, 2));
    start->recorded[start->n_recorded++] = one;
}

static int load_recorded(struct attempt *a, struct arena *arena, Ptq__Start *start, struct err *e)
{
    struct stmt *s = db_stmt(a->server->db,
                             "SELECT ordinal,type,data FROM events WHERE job_id=?1 AND "
                             "ordinal IS NOT NULL ORDER BY ordinal",
                             e);
    if (!s)
        return -1;
    db_put_text(s, a->id);
    int r;
    while ((r = db_step(s, e)) == 1)
        add_recorded(arena, start, s);
    db_end(s);
    return r;
}

static int try_run(struct attempt *a, struct arena *arena, struct err *e)
{
    static const struct run_calls calls = {on_hello, on_event, on_artifact, on_end};
    const struct conf *conf = a->server->conf;
    Ptq__Start start = PTQ__START__INIT;
    start.job_id = a->id;
    start.kind = (char *)a->row.kind;
    start.spec = (char *)a->row.spec;
    start.slots = (uint32_t)a->slots;
    start.memory_bytes = (uint64_t)(conf->memory / conf->workers * a->slots);
    start.engine_profile = (char *)a->row.engine;
    if (add_inputs(a, arena, &start, e) || load_recorded(a, arena, &start, e))
        return -1;
    struct run_opts o = {.owner = a->id,
                         .start = &start,
                         .attempt = a->row.attempt,
                         .limit_ms = conf->job_timeout_s * 1000,
                         .nice = JOB_NICE};
    a->run = run_start(a->server, &o, &calls, a, e);
    return a->run ? 0 : -1;
}

static void run_worker(struct attempt *a)
{
    struct arena arena = ARENA_INIT;
    struct err e = ERR_INIT;
    if (try_run(a, &arena, &e)) {
        struct run_end end = {.err = e, .own = e.code != ERR_WORKER_LOST, .tail = ""};
        attempt_end(a, &end);
    } else {
        log_event(LOG_INFO, "job.start", "%s %s, attempt %lld, %d slots", a->id, a->row.kind,
                  (long long)a->row.attempt, a->slots);
    }
    arena_done(&arena);
}

void attempt_cancel(struct attempt *a, bool stopping)
{
    a->stopping = a->stopping || stopping;
    a->cancelled = a->cancelled || !stopping;
    if (a->run)
        run_cancel(a->run);
}

void attempt_tick(struct attempt *a)
{
    attempt_store_progress(a);
    if (a->unwritten)
        attempt_write_outcome(a);
}
