#include "server/attempt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "server/adopt.h"
#include "server/dispatch.h"
#include "server/inspect.h"

/* ---- the row that tells how it went ---- */

struct final {
    struct change change;
    struct attempt *attempt;
    const char *state; /* as written */
};

static int write_end(struct tx *tx, struct final *f, const char *state, const char *error,
                     struct err *e)
{
    struct change *c = &f->change;
    const struct outcome *o = &f->attempt->outcome;
    bool well = !strcmp(state, "succeeded");
    const char *verdict = well ? o->verdict : NULL;
    f->state = state;
    if (well && blob_add(tx, o->result, o->result_size, e))
        return -1;
    if (tx_run(tx, e,
               "UPDATE jobs SET state=?2, verdict=?3, result=?4, error=?5, finished_ms=?6, "
               "version=version+1 WHERE id=?1",
               "ttttti", c->job, state, verdict, well ? o->result : NULL, error, clock_wall_ms()))
        return -1;
    if (change_event(tx, c, -1, "state", arena_printf(&c->arena, "{\"state\":\"%s\"}", state), e))
        return -1;
    const char *quote = verdict ? "\"" : "";
    return change_event(tx, c, -1, "done",
                        arena_printf(&c->arena, "{\"state\":\"%s\",\"verdict\":%s%s%s}", state,
                                     quote, verdict ? verdict : "null", quote),
                        e);
}

static int write_queued(struct tx *tx, struct final *f, const char *reason, struct err *e)
{
    struct change *c = &f->change;
    f->state = "queued";
    if (tx_run(tx, e, "UPDATE jobs SET state='queued', version=version+1 WHERE id=?1", "t", c->job))
        return -1;
    return change_event(tx, c, -1, "state",
                        arena_printf(&c->arena, "{\"reason\":\"%s\",\"state\":\"queued\"}", reason),
                        e);
}

/* The warning that tells of a lost worker; the rows before it say how often there was one. */
static int write_lost(struct tx *tx, struct final *f, struct err *e)
{
    const struct outcome *o = &f->attempt->outcome;
    json_t *data =
        json_pack("{s:b, s:s, s:s, s:i, s:I, s:I}", "lost", 1, "code", err_slug(o->err.code),
                  "message", o->err.detail, "signal", o->signal, "attempt",
                  (json_int_t)f->attempt->row.attempt, "tasks", (json_int_t)o->tasks);
    if (!data)
        return err_set(e, ERR_INTERNAL, "", "The worker's end cannot be told.");
    char *text = json_text(data);
    int r = change_event(tx, &f->change, -1, "warning", arena_strdup(&f->change.arena, text), e);
    json_decref(data);
    free(text);
    return r;
}

/* How many workers in a row were lost without having stored anything; *ret_same: how many of the
 * last ones by this signal. */
static int count_lost(struct tx *tx, const char *job, int signal, int *ret_n, int *ret_same,
                      struct err *e)
{
    struct stmt *s = tx_stmt(tx,
                             "SELECT json_extract(data,'$.tasks'), json_extract(data,'$.signal') "
                             "FROM events WHERE job_id=?1 AND type='warning' AND "
                             "json_extract(data,'$.lost') ORDER BY seq DESC LIMIT 10",
                             e);
    if (!s)
        return -1;
    db_put_text(s, job);
    int r;
    bool same = true;
    *ret_n = *ret_same = 0;
    while ((r = db_step(s, e)) == 1 && db_int(s, 0) == 0) {
        same = same && db_int(s, 1) == signal;
        *ret_n += 1;
        *ret_same += same;
    }
    db_end(s);
    return r < 0 ? -1 : 0;
}

static int decide_lost(struct tx *tx, struct final *f, struct err *e)
{
    struct outcome *o = &f->attempt->outcome;
    struct arena *a = &f->change.arena;
    int n, same;
    if (write_lost(tx, f, e) || count_lost(tx, f->change.job, o->signal, &n, &same, e))
        return -1;
    bool crashes = o->err.code == ERR_WORKER_CRASH && same >= 2;
    if (crashes || n >= LOST_MAX)
        return write_end(tx, f, "failed", error_text(a, &o->err), e);
    return write_queued(tx, f, "the worker was lost", e);
}

static int write_outcome(struct tx *tx, struct change *c, struct err *e)
{
    struct final *f = (struct final *)c;
    const struct outcome *o = &f->attempt->outcome;
    struct job_row now;
    int r = job_load(FROM_TX(tx), c->job, &c->arena, &now, e);
    if (r != 1)
        return r < 0 ? -1 : err_set(e, ERR_GONE, "", "The job's row is gone.");
    if (!strcmp(now.state, "cancelling"))
        return write_end(tx, f, "cancelled", NULL, e);
    if (o->lost)
        return decide_lost(tx, f, e);
    if (o->reason)
        return write_queued(tx, f, o->reason, e);
    bool failed = !strcmp(o->state, "failed");
    return write_end(tx, f, o->state, failed ? error_text(&c->arena, &o->err) : NULL, e);
}

static void outcome_written(struct change *c, const struct err *e)
{
    struct final *f = (struct final *)c;
    struct attempt *a = f->attempt;
    if (e && e->code != ERR_GONE && !a->stopping) {
        log_event(LOG_ERROR, "job.end", "%s cannot be stored yet: %s", a->id, e->detail);
        a->unwritten = true; /* attempt_tick tries again */
        return;
    }
    if (!e)
        log_event(LOG_INFO, "job.end", "%s %s%s%s", a->id, f->state,
                  a->outcome.err.code != ERR_NONE ? ": " : "", a->outcome.err.detail);
    if (!e && job_is_terminal(f->state)) {
        struct arena arena = ARENA_INIT;
        remove_tree(a->server, run_path(a->server, &arena, a->id, ""));
        arena_done(&arena);
    }
    a->over(a->ctx, a, a->outcome.lost);
}

void attempt_write_outcome(struct attempt *a)
{
    a->unwritten = false;
    struct final *f = change_new(a->server, a->id, sizeof *f);
    f->attempt = a;
    f->change.write = write_outcome;
    f->change.done = outcome_written;
    change_submit(&f->change);
}

void attempt_fail(struct attempt *a, const struct err *e)
{
    a->outcome.state = "failed";
    a->outcome.err = *e;
    attempt_write_outcome(a);
}

void attempt_requeue(struct attempt *a, const char *reason)
{
    a->outcome.reason = reason;
    attempt_write_outcome(a);
}

/* ---- success ---- */

static void result_stored(void *ctx, const char *sha256, uint64_t size, const struct err *e)
{
    struct attempt *a = ctx;
    if (e) {
        attempt_fail(a, e);
        return;
    }
    a->outcome.state = "succeeded";
    a->outcome.result = arena_strdup(&a->arena, sha256);
    a->outcome.result_size = size;
    attempt_write_outcome(a);
}

static void store_result(struct attempt *a)
{
    char *text = json_text(a->result);
    adopt_bytes(a->server, text, strlen(text), result_stored, a);
    free(text);
}

static void model_inspected(void *ctx, const struct err *e)
{
    struct attempt *a = ctx;
    if (e)
        log_event(LOG_WARN, "job.calibrated-model", "%s: %s", a->id, e->detail);
    store_result(a); /* its row says what is wrong with it */
}

/* The calibrated model becomes a model of its own, looked at like every other one. */
static int register_model(struct attempt *a, const struct run_artifact *x, struct err *e)
{
    struct digest d;
    char id[ID_MAX];
    if (digest_parse(x->sha256, &d))
        return err_set(e, ERR_INTERNAL, "", "The artifact has no digest.");
    id_of_digest("mdl_", &d, id);
    json_object_set_new(a->result, "calibrated_model_id", json_string(id));
    struct model_row m;
    int r = model_load(FROM_DB(a->server->db), id, &a->arena, &m, e);
    if (r < 0)
        return -1;
    if (r == 1 && !strcmp(m.state, "ready")) {
        store_result(a);
        return 0;
    }
    struct inspection *i = inspect_find(a->server->inspections, id);
    struct inspect_opts o = {
        .id = id, .name = x->name, .sha256 = x->sha256, .size = x->size, .published = true};
    if (!i)
        i = inspect_start(a->server->inspections, &o, e);
    if (!i)
        return -1;
    inspect_join(i, model_inspected, a);
    return 0;
}

static void succeed(struct attempt *a, const struct run_end *end)
{
    a->result = json_incref(end->result);
    a->outcome.verdict = end->verdict ? arena_strdup(&a->arena, end->verdict) : NULL;
    const struct run_artifact *model = NULL;
    for (int i = 0; !strcmp(a->row.kind, "calibrate") && i < end->n_artifacts; i++)
        if (!strcmp(end->artifacts[i].name, "calibrated_model.onnx"))
            model = &end->artifacts[i];
    struct err e = ERR_INIT;
    if (!model)
        store_result(a);
    else if (register_model(a, model, &e))
        attempt_fail(a, &e);
}

void attempt_end(struct attempt *a, const struct run_end *end)
{
    if (end->err.code == ERR_NONE) {
        succeed(a, end);
        return;
    }
    if (a->stopping && end->err.code == ERR_CANCELLED) {
        attempt_requeue(a, "the service is shutting down");
        return;
    }
    if (*end->tail)
        log_event(LOG_WARN, "job.stderr", "%s: %s", a->id, end->tail);
    /* A worker that tells of a child killed from outside is as lost as one killed itself. */
    if (end->own && end->err.code != ERR_WORKER_LOST) {
        attempt_fail(a, &end->err);
        return;
    }
    a->outcome.err = end->err;
    a->outcome.lost = true;
    a->outcome.signal = end->signal;
    a->outcome.tasks = end->tasks;
    attempt_write_outcome(a);
}
