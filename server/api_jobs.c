/* /v1/jobs: create, list, read, change, cancel, retry, delete. */
#include "server/api.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/sha256.h"
#include "server/checks.h"
#include "server/collect.h"
#include "server/dispatch.h"
#include "server/job_wait.h"
#include "server/jobspec.h"
#include "server/stream.h"

enum { WAIT_MAX = 60, KEY_MAX = 255 };

/* ---- create ---- */

struct creating {
    struct change change;
    struct req *req;
    struct jobspec spec;
    const char *key, *request; /* NULL: no Idempotency-Key */
    const char *retry_of;
    bool existing; /* Prefer: return=existing */
    bool replayed, found;
    char id[ID_MAX];
};

/* 1 with *ret_id when the key was used for the same request. */
static int find_key(struct from f, const char *key, const char *request, char ret_id[ID_MAX],
                    struct err *e)
{
    struct stmt *s =
        from_stmt(f, "SELECT request, job_id FROM idempotency WHERE key=?1 AND created_ms>?2", e);
    if (!s)
        return -1;
    db_put_text(s, key);
    db_put_int(s, clock_wall_ms() - IDEMPOTENCY_MS);
    int r = db_step(s, e);
    if (r == 1 && strcmp(db_text(s, 0), request))
        r = err_set(e, ERR_IDEM_MISMATCH, "Idempotency-Key",
                    "This key came with another request before; take a new key.");
    if (r == 1)
        strncpy(ret_id, db_text(s, 1), ID_MAX - 1);
    db_end(s);
    return r;
}

static int find_equal(struct tx *tx, const char *spec_sha256, char ret_id[ID_MAX], struct err *e)
{
    struct stmt *s = tx_stmt(tx,
                             "SELECT id FROM jobs WHERE spec_sha256=?1 AND state NOT IN "
                             "('failed','cancelled','cancelling') ORDER BY id DESC LIMIT 1",
                             e);
    if (!s)
        return -1;
    db_put_text(s, spec_sha256);
    int r = db_step(s, e);
    if (r == 1)
        strncpy(ret_id, db_text(s, 0), ID_MAX - 1);
    db_end(s);
    return r;
}

static int insert_job(struct tx *tx, struct creating *c, struct err *e)
{
    const struct jobspec *j = &c->spec;
    int64_t now = clock_wall_ms();
    if (tx_run(tx, e,
               "INSERT INTO jobs(id,kind,state,spec,spec_sha256,priority,labels,retry_of,attempt,"
               "progress,created_ms,version) VALUES(?1,?2,'queued',?3,?4,?5,?6,?7,0,'{}',?8,1)",
               "ttttitti", c->change.job, j->kind, j->spec, j->spec_sha256, j->priority, j->labels,
               c->retry_of, now))
        return -1;
    if (c->key && tx_run(tx, e,
                         "INSERT OR REPLACE INTO idempotency(key,request,job_id,created_ms) "
                         "VALUES(?1,?2,?3,?4)",
                         "ttti", c->key, c->request, c->change.job, now))
        return -1;
    return change_event(tx, &c->change, -1, "state", "{\"state\":\"queued\"}", e);
}

static int write_job(struct tx *tx, struct change *change, struct err *e)
{
    struct creating *c = (struct creating *)change;
    int r = c->key ? find_key(FROM_TX(tx), c->key, c->request, c->id, e) : 0;
    c->replayed = r == 1;
    if (!r && c->existing) {
        r = find_equal(tx, c->spec.spec_sha256, c->id, e);
        c->found = r == 1;
    }
    if (r)
        return r < 0 ? -1 : 0;
    strcpy(c->id, change->job); /* both ID_MAX */
    return insert_job(tx, c, e);
}

static void reply_created(struct req *r, const char *id, bool replayed, int status)
{
    bool async;
    int wait = req_prefer_wait(r, WAIT_MAX, &async);
    reply_header(r, "Location", arena_printf(req_arena(r), "/v1/jobs/%s", id));
    if (replayed)
        reply_header(r, "Idempotent-Replayed", "true");
    job_reply_later(r, status, id, wait);
}

static void created(struct change *change, const struct err *e)
{
    struct creating *c = (struct creating *)change;
    if (e) {
        reply_problem(c->req, e);
        return;
    }
    dispatch_kick(change->server->dispatch);
    reply_created(c->req, c->id, c->replayed, c->found ? 200 : 202);
}

static struct creating *creating_new(struct req *r)
{
    char id[ID_MAX];
    id_new_job(id);
    struct creating *c = change_new(req_server(r), id, sizeof *c);
    c->req = r;
    c->change.write = write_job;
    c->change.done = created;
    return c;
}

static const char *request_digest(struct req *r)
{
    struct sha256 *h = sha256_new();
    struct digest d;
    char hex[SHA256_HEX];
    const char *parts[] = {req_method(r), req_path(r), req_body_sha256(r)};
    for (int i = 0; i < 3; i++)
        sha256_field(h, parts[i], strlen(parts[i]));
    sha256_finish(h, &d);
    digest_hex(&d, hex);
    return arena_strdup(req_arena(r), hex);
}

static int check_key(const char *key, struct err *e)
{
    size_t n = 0;
    for (; key[n] > ' ' && key[n] < 127; n++)
        ;
    if (n > 0 && n <= KEY_MAX && !key[n])
        return 0;
    return err_set(e, ERR_INVALID, "Idempotency-Key",
                   "The key must be 1 to %d printable ASCII characters.", KEY_MAX);
}

/* 1: the request was answered before, and is so again. */
static int replay(struct req *r, const char *key, const char *request, struct err *e)
{
    char id[ID_MAX] = "";
    int found = check_key(key, e);
    if (!found)
        found = find_key(FROM_DB(req_server(r)->db), key, request, id, e);
    if (found == 1)
        reply_created(r, id, true, 202);
    return found;
}

/* In the request's arena while its quant_config is being checked. */
struct submission {
    struct req *req;
    struct jobspec spec;
    const char *key, *request;
};

static void submit(const struct submission *x)
{
    struct creating *c = creating_new(x->req);
    c->spec = x->spec;
    c->key = x->key;
    c->request = x->request;
    c->existing = api_header_has(x->req, "Prefer", "return=existing");
    change_submit(&c->change);
}

static void config_checked(void *ctx, const char *text, const struct err *e)
{
    const struct submission *x = ctx;
    (void)text;
    if (e)
        reply_problem(x->req, e);
    else
        submit(x);
}

/* A configuration that says something is tried out before the job is taken; {} is always right. */
static void check_and_submit(struct submission *x)
{
    struct err e = ERR_INIT;
    json_t *spec = json_parse(x->spec.spec, strlen(x->spec.spec), &e);
    const json_t *config = json_object_get(spec, "quant_config");
    struct check_question q = {.model = json_object_get(spec, "model"),
                               .quant_config = config,
                               .march = json_str(json_object_get(spec, "options"), "march", NULL)};
    if (e.code != ERR_NONE)
        reply_problem(x->req, &e);
    else if (json_is_string(config) || json_object_size(config))
        check_config(req_server(x->req)->checks, &q, config_checked, x);
    else
        submit(x);
    json_decref(spec);
}

static void create_job(struct req *r)
{
    struct err e = ERR_INIT;
    struct server *s = req_server(r);
    const char *key = req_header(r, "Idempotency-Key");
    struct submission *x = arena_alloc(req_arena(r), sizeof *x);
    *x = (struct submission){.req = r, .key = key, .request = key ? request_digest(r) : NULL};
    if (req_only_query(r, NULL, 0))
        return;
    if (s->draining)
        err_set(&e, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    else if (key && replay(r, key, x->request, &e) == 1)
        return;
    if (e.code != ERR_NONE || jobspec_read(s, req_json(r), req_arena(r), &x->spec, &e))
        reply_problem(r, &e);
    else
        check_and_submit(x);
}

/* ---- read and list ---- */

static void get_job(struct req *r)
{
    bool async;
    if (req_only_query(r, NULL, 0) == 0)
        job_reply_later(r, 200, req_param(r, "id"), req_prefer_wait(r, WAIT_MAX, &async));
}

static json_t *job_item(struct req *r, struct stmt *s, const char **ret_id, int64_t *ret_ms,
                        struct err *e)
{
    struct job_row j;
    job_read(s, req_arena(r), &j);
    *ret_id = j.id;
    *ret_ms = j.created_ms;
    return job_json(req_server(r)->db, &j, e);
}

/* "key:value" into its two halves. */
static int read_label(struct req *r, const char **ret_key, const char **ret_value)
{
    const char *v = req_query(r, "label");
    *ret_key = *ret_value = NULL;
    if (!v)
        return 0;
    const char *colon = strchr(v, ':');
    if (!colon || colon == v) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_INVALID, NULL, "The parameter \"label\" must be key:value.");
        reply_problem(r, &e);
        return -1;
    }
    *ret_key = arena_strndup(req_arena(r), v, (size_t)(colon - v));
    *ret_value = colon + 1;
    return 0;
}

static void list_jobs(struct req *r)
{
    static const char *const names[] = {"state", "kind", "label"};
    static const char *const states[] = {"queued",    "running", "waiting",   "cancelling",
                                         "succeeded", "failed",  "cancelled", NULL};
    struct page p;
    struct err e = ERR_INIT;
    const char *state, *kind = req_query(r, "kind"), *key, *value;
    if (page_read(r, names, 3, &p) || query_word(r, "state", states, &state) ||
        read_label(r, &key, &value))
        return;
    struct stmt *s = NULL;
    if (kind && !jobspec_is_kind(kind))
        err_set(&e, ERR_INVALID, NULL, "There is no kind \"%.100s\".", kind);
    else
        s = db_stmt(req_server(r)->db,
                    "SELECT " JOB_COLUMNS " FROM jobs WHERE (?1 IS NULL OR state=?1) AND "
                    "(?2 IS NULL OR kind=?2) AND (?3 IS NULL OR EXISTS (SELECT 1 FROM "
                    "json_each(labels) WHERE key=?3 AND value=?4)) AND (?5='' OR id<?5) "
                    "ORDER BY id DESC LIMIT ?6",
                    &e);
    if (!s) {
        reply_problem(r, &e);
        return;
    }
    db_put_text(s, state);
    db_put_text(s, kind);
    db_put_text(s, key);
    db_put_text(s, value);
    db_put_text(s, p.after_id);
    db_put_int(s, p.limit + 1);
    page_reply(r, &p, s, job_item);
}

/* ---- change ---- */

struct altering {
    struct change change;
    struct req *req;
    const char *labels; /* patch */
    int64_t priority, version;
    char state[16]; /* cancel, delete: as found */
    bool changed;
};

static struct altering *altering_new(struct req *r,
                                     int (*write)(struct tx *, struct change *, struct err *),
                                     void (*done)(struct change *, const struct err *))
{
    struct altering *x = change_new(req_server(r), req_param(r, "id"), sizeof *x);
    x->req = r;
    x->change.write = write;
    x->change.done = done;
    return x;
}

static int write_patch(struct tx *tx, struct change *c, struct err *e)
{
    struct altering *x = (struct altering *)c;
    if (tx_run(tx, e,
               "UPDATE jobs SET labels=?2, priority=?3, version=version+1 WHERE id=?1 AND "
               "version=?4",
               "ttii", c->job, x->labels, x->priority, x->version))
        return -1;
    if (tx_changes(tx))
        return 0;
    return err_set(e, ERR_PRECONDITION, "If-Match", "The job has changed meanwhile.");
}

static void patched(struct change *c, const struct err *e)
{
    struct altering *x = (struct altering *)c;
    if (e) {
        reply_problem(x->req, e);
        return;
    }
    hub_touch(c->server->hub, c->job);
    job_reply(x->req, 200, c->job);
}

static int check_match(struct req *r, const struct job_row *j, struct err *e)
{
    const char *given = req_header(r, "If-Match");
    char etag[API_ETAG_MAX];
    if (!given)
        return err_set(e, ERR_PRECOND_NEEDED, "If-Match",
                       "Send the ETag of what you have read as If-Match.");
    json_t *v = job_json(req_server(r)->db, j, e);
    if (!v)
        return -1;
    api_etag(v, etag);
    json_decref(v);
    if (!strcmp(given, "*") || strstr(given, arena_printf(req_arena(r), "\"%s\"", etag)))
        return 0;
    return err_set(e, ERR_PRECONDITION, "If-Match", "The job has changed since.");
}

static void update_job(struct req *r)
{
    struct err e = ERR_INIT;
    struct job_row j;
    const char *id = req_param(r, "id");
    if (req_only_query(r, NULL, 0))
        return;
    int found = job_load(FROM_DB(req_server(r)->db), id, req_arena(r), &j, &e);
    if (found == 0) {
        api_not_found(r, "job", id);
        return;
    }
    if (found < 0 || check_match(r, &j, &e) ||
        jobspec_patch(req_json(r), req_arena(r), &j.labels, &j.priority, &e)) {
        reply_problem(r, &e);
        return;
    }
    struct altering *x = altering_new(r, write_patch, patched);
    x->labels = j.labels;
    x->priority = j.priority;
    x->version = j.version;
    change_submit(&x->change);
}

/* ---- cancel ---- */

static int load_state(struct tx *tx, struct altering *x, struct err *e)
{
    struct job_row j;
    int r = job_load(FROM_TX(tx), x->change.job, &x->change.arena, &j, e);
    if (r == 0)
        return err_set(e, ERR_NOT_FOUND, NULL, "There is no job %s.", x->change.job);
    if (r == 1)
        strncpy(x->state, j.state, sizeof x->state - 1);
    return r < 0 ? -1 : 0;
}

static int write_cancel(struct tx *tx, struct change *c, struct err *e)
{
    struct altering *x = (struct altering *)c;
    if (load_state(tx, x, e))
        return -1;
    if (job_is_terminal(x->state) || !strcmp(x->state, "cancelling"))
        return 0;
    bool at_once = !strcmp(x->state, "queued");
    const char *state = at_once ? "cancelled" : "cancelling";
    x->changed = true;
    if (tx_run(tx, e,
               at_once ? "UPDATE jobs SET state='cancelled', version=version+1, finished_ms=?2 "
                         "WHERE id=?1"
                       : "UPDATE jobs SET state='cancelling', version=version+1 WHERE id=?1 AND "
                         "?2 > 0",
               "ti", c->job, clock_wall_ms()))
        return -1;
    if (change_event(tx, c, -1, "state", arena_printf(&c->arena, "{\"state\":\"%s\"}", state), e))
        return -1;
    if (!at_once)
        return 0;
    return change_event(tx, c, -1, "done", "{\"state\":\"cancelled\",\"verdict\":null}", e);
}

static void cancelled(struct change *c, const struct err *e)
{
    struct altering *x = (struct altering *)c;
    if (e) {
        reply_problem(x->req, e);
        return;
    }
    if (x->changed)
        dispatch_cancel(c->server->dispatch, c->job);
    job_reply(x->req, job_is_terminal(x->state) ? 200 : 202, c->job);
}

static void cancel_job(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        change_submit(&altering_new(r, write_cancel, cancelled)->change);
}

/* ---- retry ---- */

static void retry_job(struct req *r)
{
    struct err e = ERR_INIT;
    struct job_row j;
    const char *id = req_param(r, "id");
    if (req_only_query(r, NULL, 0))
        return;
    int found = job_load(FROM_DB(req_server(r)->db), id, req_arena(r), &j, &e);
    if (found == 0) {
        api_not_found(r, "job", id);
        return;
    }
    if (found == 1 && strcmp(j.state, "failed") && strcmp(j.state, "cancelled"))
        err_set(&e, ERR_CONFLICT, NULL, "The job is %s; only a failed or cancelled one is retried.",
                j.state);
    if (found == 1 && req_server(r)->draining)
        err_set(&e, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    if (e.code != ERR_NONE) {
        reply_problem(r, &e);
        return;
    }
    struct creating *c = creating_new(r);
    c->spec = (struct jobspec){j.kind, j.spec, j.spec_sha256, j.labels, j.priority};
    c->retry_of = j.id;
    change_submit(&c->change);
}

/* ---- delete ---- */

static int write_delete(struct tx *tx, struct change *c, struct err *e)
{
    static const char *const statements[] = {
        "DELETE FROM events WHERE job_id=?1", "DELETE FROM artifacts WHERE job_id=?1",
        "DELETE FROM idempotency WHERE job_id=?1", "DELETE FROM jobs WHERE id=?1"};
    struct altering *x = (struct altering *)c;
    if (load_state(tx, x, e))
        return -1;
    if (!job_is_terminal(x->state))
        return err_set(e, ERR_CONFLICT, NULL, "The job is %s; cancel it first.", x->state);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (tx_run(tx, e, statements[i], "t", c->job))
            return -1;
    return 0;
}

static void deleted(struct change *c, const struct err *e)
{
    struct altering *x = (struct altering *)c;
    if (e) {
        reply_problem(x->req, e);
        return;
    }
    collect_kick(c->server->collect);
    reply_empty(x->req, 204);
}

static void delete_job(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        change_submit(&altering_new(r, write_delete, deleted)->change);
}

extern const struct route api_jobs_routes[];
const struct route api_jobs_routes[] = {
    {"POST", "/v1/jobs", "createJob", BODY_JSON, create_job},
    {"GET", "/v1/jobs", "listJobs", BODY_NONE, list_jobs},
    {"GET", "/v1/jobs/{id}", "getJob", BODY_NONE, get_job},
    {"PATCH", "/v1/jobs/{id}", "updateJob", BODY_JSON, update_job},
    {"DELETE", "/v1/jobs/{id}", "deleteJob", BODY_NONE, delete_job},
    {"POST", "/v1/jobs/{id}:cancel", "cancelJob", BODY_NONE, cancel_job},
    {"POST", "/v1/jobs/{id}:retry", "retryJob", BODY_NONE, retry_job},
    {0}};
