#include "server/run.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/sha256.h"
#include "server/adopt.h"
#include "server/conf.h"
#include "server/known.h"
#include "server/pool.h"
#include "server/store.h"

enum {
    HELLO_MS = 30000,
    GRACE_MS = 3000,
    RATE_MAX = 20000, /* messages/s */
    WRITES_MAX = 256, /* results on their way to the disk before the worker has to wait */
    RESULT_MAX = 1 << 20,
    EVENT_JSON_MAX = 1 << 20,
    ARTIFACTS_MAX = 1000
};
static const uint64_t bytes_max = (uint64_t)64 << 30;

struct run {
    struct server *server;
    struct arena arena;
    const char *owner, *out_dir;
    int64_t attempt;
    struct run_calls calls;
    void *ctx;
    struct worker *worker;
    int writing; /* results handed to the writer, not yet told */
    bool held;   /* paused because of that */
    struct run_end end;
    bool finished;
    struct run_artifact *artifacts;
    struct run_artifact coming; /* being adopted */
    struct task_write *task;    /* whose file is being adopted */
    int refs;                   /* the worker, and each write */
};

static void unref(struct run *r)
{
    if (--r->refs)
        return;
    json_decref(r->end.result);
    free(r->artifacts);
    arena_done(&r->arena);
    free(r);
}

static void reject(struct run *r, const char *why)
{
    worker_reject(r->worker, ERR_WORKER_PROTOCOL, why);
}

/* ---- task results ---- */

struct task_write {
    struct run *run;
    struct digest digest;
    char *kind;
    void *result; /* or */
    size_t len;
    char sha256[SHA256_HEX]; /* of a blob */
    uint64_t size;
    int64_t cpu_us;
    bool fresh;
};

static int write_task(struct tx *tx, void *ctx, struct err *e)
{
    struct task_write *t = ctx;
    bool is_blob = *t->sha256;
    if (is_blob && blob_add(tx, t->sha256, t->size, e))
        return -1;
    struct stmt *s = tx_stmt(tx,
                             "INSERT INTO tasks(digest,kind,result,blob,job_id,attempt,cpu_us,"
                             "at_ms) VALUES(?1,?2,?3,?4,?5,?6,?7,?8) "
                             "ON CONFLICT(digest) DO UPDATE SET times=times+1 RETURNING times",
                             e);
    if (!s)
        return -1;
    db_put_blob(s, t->digest.bytes, SHA256_BYTES);
    db_put_text(s, t->kind);
    if (is_blob)
        db_put_null(s);
    else
        db_put_blob(s, t->result, t->len);
    db_put_text(s, is_blob ? t->sha256 : NULL);
    db_put_text(s, t->run->owner);
    db_put_int(s, t->run->attempt);
    db_put_int(s, t->cpu_us);
    db_put_int(s, clock_wall_ms());
    int r = db_step(s, e);
    t->fresh = r == 1 && db_int(s, 0) == 1;
    if (r == 1)
        r = db_step(s, e);
    db_end(s);
    return r;
}

static void task_free(struct task_write *t)
{
    free(t->kind);
    free(t->result);
    free(t);
}

static void task_written(void *ctx, const struct err *e)
{
    struct task_write *t = ctx;
    struct run *r = t->run;
    r->writing--;
    r->end.tasks += t->fresh;
    if (!e && !t->fresh) /* by another job at the same time, or in vain */
        log_event(LOG_WARN, "task.again",
                  "a finished task (%s) was computed again by %s, attempt %lld", t->kind, r->owner,
                  (long long)r->attempt);
    task_free(t);
    if (e && r->worker)
        worker_reject(r->worker, e->code, e->detail);
    if (r->worker && r->held && r->writing < WRITES_MAX / 2) {
        r->held = false;
        worker_resume(r->worker);
    }
    unref(r);
}

static void write_later(struct run *r, struct task_write *t)
{
    r->refs++;
    r->writing++;
    if (!r->held && r->writing >= WRITES_MAX) {
        r->held = true;
        worker_pause(r->worker);
    }
    db_write(r->server->db, write_task, task_written, t);
}

static void task_adopted(void *ctx, const char *sha256, uint64_t size, const struct err *e)
{
    struct run *r = ctx;
    struct task_write *t = r->task;
    if (e) {
        worker_reject(r->worker, e->code, e->detail);
        task_free(t);
    } else {
        memcpy(t->sha256, sha256, SHA256_HEX);
        t->size = size;
        write_later(r, t);
    }
    worker_resume(r->worker);
}

static void on_done(struct run *r, const Ptq__Done *m)
{
    if (m->digest.len != SHA256_BYTES || m->has_result == (m->file != NULL) ||
        (m->has_result && m->result.len > RESULT_MAX)) {
        reject(r, "The worker sent a task result that is none.");
        return;
    }
    struct task_write *t = xcalloc(1, sizeof *t);
    t->run = r;
    memcpy(t->digest.bytes, m->digest.data, SHA256_BYTES);
    t->kind = xstrdup(m->kind);
    t->cpu_us = (int64_t)m->cpu_us;
    if (m->file) {
        r->task = t;
        worker_pause(r->worker);
        adopt_file(r->server, r->out_dir, m->file, m->sha256, task_adopted, r);
        return;
    }
    t->len = m->result.len;
    t->result = xmalloc(t->len + 1);
    memcpy(t->result, m->result.data, t->len);
    write_later(r, t);
}

/* ---- questions ---- */

struct question {
    struct run *run;
    uint64_t request;
    size_t n;
    struct digest digests[];
};

/* After what the worker has told before is committed. */
static void answer(void *ctx, const struct err *e)
{
    (void)e;
    struct question *q = ctx;
    struct run *r = q->run;
    if (r->worker) {
        struct err bad = ERR_INIT;
        int64_t hits;
        if (known_send(r->server, r->worker, r->owner, r->out_dir, q->request, q->digests, q->n,
                       &hits, &bad))
            worker_reject(r->worker, bad.code, bad.detail);
        r->end.hits += hits;
    }
    free(q);
    unref(r);
}

static void on_want(struct run *r, const Ptq__Want *m)
{
    struct question *q = xmalloc(sizeof *q + m->n_digests * sizeof *q->digests);
    *q = (struct question){.run = r, .request = m->request, .n = m->n_digests};
    for (size_t i = 0; i < q->n; i++) {
        if (m->digests[i].len != SHA256_BYTES) {
            free(q);
            reject(r, "The worker asked for a digest of another length.");
            return;
        }
        memcpy(q->digests[i].bytes, m->digests[i].data, SHA256_BYTES);
    }
    r->refs++;
    db_write(r->server->db, NULL, answer, q);
}

/* ---- the rest of what it may say ---- */

static bool is_event_type(const char *type)
{
    size_t n = 0;
    for (; type[n]; n++)
        if (!islower((unsigned char)type[n]) && type[n] != '_')
            return false;
    return n > 0 && n <= 32 && strcmp(type, "state") && strcmp(type, "done");
}

static void on_event(struct run *r, const Ptq__Event *m)
{
    struct err e = ERR_INIT;
    size_t len = strlen(m->json);
    json_t *v =
        is_event_type(m->type) && len <= EVENT_JSON_MAX ? json_parse(m->json, len, &e) : NULL;
    if (!v) {
        reject(r, "The worker sent an event that is none.");
        return;
    }
    char *text = json_text(v);
    json_decref(v);
    if (r->calls.event)
        r->calls.event(r->ctx, m->has_ordinal ? (int64_t)m->ordinal : -1, m->type, text);
    free(text);
}

static void artifact_adopted(void *ctx, const char *sha256, uint64_t size, const struct err *e)
{
    struct run *r = ctx;
    if (e) {
        worker_reject(r->worker, e->code, e->detail);
    } else {
        r->coming.sha256 = arena_strdup(&r->arena, sha256);
        r->coming.size = size;
        int n = r->end.n_artifacts++;
        r->artifacts = xrealloc(r->artifacts, (size_t)(n + 1) * sizeof *r->artifacts);
        r->artifacts[n] = r->coming;
        if (r->calls.artifact)
            r->calls.artifact(r->ctx, &r->coming);
    }
    worker_resume(r->worker);
}

static bool is_artifact_name(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++)
        if (!isalnum((unsigned char)name[n]) && !strchr("._-", name[n]))
            return false;
    return n > 0 && n <= 128 && *name != '.';
}

static void on_artifact(struct run *r, const Ptq__Artifact *m)
{
    if (!is_artifact_name(m->name) || r->end.n_artifacts == ARTIFACTS_MAX ||
        strpbrk(m->media_type, "\r\n") || strlen(m->media_type) > 128) {
        reject(r, "The worker told of an artifact that cannot be one.");
        return;
    }
    r->coming = (struct run_artifact){.name = arena_strdup(&r->arena, m->name),
                                      .media_type = arena_strdup(&r->arena, m->media_type)};
    worker_pause(r->worker);
    adopt_file(r->server, r->out_dir, m->file, m->sha256, artifact_adopted, r);
}

static void on_finish(struct run *r, const Ptq__Finish *m)
{
    struct err e = ERR_INIT;
    const char *v = m->verdict;
    bool known = !v || !strcmp(v, "met") || !strcmp(v, "not_met") || !strcmp(v, "undecided");
    json_t *result = m->file ? known_read_json(r->out_dir, m->file, &e)
                             : json_parse(m->result, strlen(m->result), &e);
    if (!known || !result || r->finished || r->end.own) {
        json_decref(result);
        reject(r, "The worker sent a result that is none.");
        return;
    }
    r->finished = true;
    r->end.result = result;
    r->end.verdict = v ? arena_strdup(&r->arena, v) : NULL;
}

static void on_failure(struct run *r, const Ptq__Failure *m)
{
    if (r->finished || r->end.own) {
        reject(r, "The worker ended twice.");
        return;
    }
    r->end.own = true;
    err_set(&r->end.err, err_from_slug(m->code), m->at, "%s", m->detail);
    if (r->end.err.code == ERR_NONE)
        r->end.err.code = ERR_INTERNAL;
}

static void on_message(void *ctx, const Ptq__FromWorker *m)
{
    struct run *r = ctx;
    switch (m->message_case) {
    case PTQ__FROM_WORKER__MESSAGE_HELLO:
        if (r->calls.hello)
            r->calls.hello(r->ctx, m->hello->engine_profile);
        break;
    case PTQ__FROM_WORKER__MESSAGE_WANT:
        on_want(r, m->want);
        break;
    case PTQ__FROM_WORKER__MESSAGE_DONE:
        on_done(r, m->done);
        break;
    case PTQ__FROM_WORKER__MESSAGE_EVENT:
        on_event(r, m->event);
        break;
    case PTQ__FROM_WORKER__MESSAGE_ARTIFACT:
        on_artifact(r, m->artifact);
        break;
    case PTQ__FROM_WORKER__MESSAGE_FINISH:
        on_finish(r, m->finish);
        break;
    case PTQ__FROM_WORKER__MESSAGE_FAILURE:
        on_failure(r, m->failure);
        break;
    default:
        reject(r, "The worker sent a message of an unknown kind.");
    }
}

/* ---- from start to end ---- */

/* What a worker writes may be any bytes; rows and JSON take UTF-8 only. */
static void keep_utf8(char *text)
{
    json_t *v = json_string(text);
    if (!v)
        for (char *c = text; *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
    json_decref(v);
}

/* Its own word counts if it left in order; else the way it ended does. */
static void judge(struct run *r, const struct worker_end *end)
{
    bool in_order = end->code == ERR_NONE || (r->end.own && !end->signal);
    if (!in_order) {
        r->end.own = end->code == ERR_MEMORY_LIMIT;
        r->end.err = (struct err)ERR_INIT;
        err_set(&r->end.err, end->code, "", "%s", end->detail);
    } else if (!r->finished && !r->end.own) {
        err_set(&r->end.err, ERR_WORKER_PROTOCOL, "", "The worker ended without a result.");
    }
    keep_utf8(r->end.err.at);
    keep_utf8(r->end.err.detail);
    r->end.signal = end->signal;
    r->end.tail = end->tail;
    r->end.artifacts = r->artifacts;
}

struct ending {
    struct run *run;
    struct worker_end end;
};

/* After all that it has told is committed, so that `tasks` counts every one. */
static void tell_end(void *ctx, const struct err *e)
{
    (void)e;
    struct ending *x = ctx;
    struct run *r = x->run;
    judge(r, &x->end);
    r->calls.end(r->ctx, &r->end);
    free(x);
    unref(r);
}

static void on_gone(void *ctx, const struct worker_end *end)
{
    struct run *r = ctx;
    struct ending *x = xcalloc(1, sizeof *x);
    *x = (struct ending){.run = r, .end = *end};
    r->worker = NULL;
    db_write(r->server->db, NULL, tell_end, x);
}

const char *run_path(const struct server *s, struct arena *a, const char *owner, const char *name)
{
    return arena_printf(a, "%s/%s%s%s", s->work_dir, owner, *name ? "/" : "", name);
}

static int make_dir(const char *path, struct err *e)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return err_errno(e, path, "The folder cannot be made");
    return 0;
}

int run_make_dir(const struct server *s, const char *owner, struct err *e)
{
    struct arena a = ARENA_INIT;
    int r = make_dir(run_path(s, &a, owner, ""), e);
    arena_done(&a);
    return r;
}

static int launch(struct run *r, const struct run_opts *o, struct err *e)
{
    static const struct worker_calls calls = {on_message, on_gone};
    struct worker_opts wo = {.path = r->server->conf->worker_path,
                             .pid_file = run_path(r->server, &r->arena, r->owner, "pid"),
                             .limit_ms = o->limit_ms,
                             .hello_ms = HELLO_MS,
                             .grace_ms = GRACE_MS,
                             .bytes_max = bytes_max,
                             .nice = o->nice,
                             .rate_max = RATE_MAX};
    if (run_make_dir(r->server, r->owner, e) || make_dir(r->out_dir, e))
        return -1;
    r->worker = worker_start(r->server->loop, &wo, &calls, r, e);
    return r->worker ? 0 : -1;
}

static void send_start(struct run *r, const Ptq__Start *from)
{
    Ptq__Start start = *from;
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    start.out_dir = (char *)r->out_dir;
    m.message_case = PTQ__TO_WORKER__MESSAGE_START;
    m.start = &start;
    worker_send(r->worker, &m);
}

struct run *run_start(struct server *s, const struct run_opts *o, const struct run_calls *calls,
                      void *ctx, struct err *e)
{
    struct run *r = xcalloc(1, sizeof *r);
    r->server = s;
    r->refs = 1;
    r->owner = arena_strdup(&r->arena, o->owner);
    r->out_dir = run_path(s, &r->arena, o->owner, "out");
    r->attempt = o->attempt;
    r->calls = *calls;
    r->ctx = ctx;
    if (launch(r, o, e)) {
        unref(r);
        return NULL;
    }
    send_start(r, o->start);
    return r;
}

void run_cancel(struct run *r)
{
    if (r->worker)
        worker_cancel(r->worker);
}

int64_t run_hits(const struct run *r)
{
    return r->end.hits;
}
