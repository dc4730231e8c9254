/* /v1/jobs/{id}/events, results, artifacts; /v1/events. */
#include "server/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "server/blobs.h"
#include "server/stream.h"

enum { STREAMS_MAX = 2000 };

/* The job of the path; false when a problem was replied. */
static bool load_job(struct req *r, struct job_row *ret)
{
    struct err e = ERR_INIT;
    const char *id = req_param(r, "id");
    int found = job_load(FROM_DB(req_server(r)->db), id, req_arena(r), ret, &e);
    if (found == 0)
        api_not_found(r, "job", id);
    if (found < 0)
        reply_problem(r, &e);
    return found == 1;
}

/* ---- events ---- */

struct follower {
    struct events *events;
    struct stream *stream;
};

static void on_news(void *ctx)
{
    struct follower *f = ctx;
    if (f->stream)
        stream_wake(f->stream);
}

static bool follower_more(void *ctx, struct buf *out)
{
    return events_more(((struct follower *)ctx)->events, out);
}

static void follower_closed(void *ctx)
{
    struct follower *f = ctx;
    events_close(f->events);
    free(f);
}

static bool wants_sse(const struct req *r)
{
    const char *accept = req_header(r, "Accept");
    return accept && strcasestr(accept, "text/event-stream");
}

/* ?after wins over Last-Event-ID. -1: a problem was replied. */
static int read_after(struct req *r, int64_t *ret)
{
    const char *v = req_query(r, "after");
    if (!v)
        v = req_header(r, "Last-Event-ID");
    *ret = 0;
    if (!v)
        return 0;
    char *end;
    *ret = strtoll(v, &end, 10);
    if (*v >= '0' && *v <= '9' && !*end && *ret < INT64_MAX)
        return 0;
    struct err e = ERR_INIT;
    err_set(&e, ERR_INVALID, NULL, "\"after\" and Last-Event-ID are sequence numbers.");
    reply_problem(r, &e);
    return -1;
}

static void follow(struct req *r, struct events_opts *o)
{
    struct hub *hub = req_server(r)->hub;
    struct err e = ERR_INIT;
    if (read_after(r, &o->after) || query_flag(r, "follow", true, &o->follow))
        return;
    if (hub_streams(hub) >= STREAMS_MAX) {
        err_set(&e, ERR_UNAVAILABLE, NULL, "There are %d streams already.", STREAMS_MAX);
        reply_problem(r, &e);
        return;
    }
    o->sse = wants_sse(r);
    struct follower *f = xcalloc(1, sizeof *f);
    f->events = events_open(hub, o, on_news, f);
    reply_header(r, "Cache-Control", "no-cache");
    f->stream = reply_stream(r, o->sse ? "text/event-stream" : "application/x-ndjson",
                             follower_more, follower_closed, f);
}

static void get_job_events(struct req *r)
{
    static const char *const names[] = {"after", "follow"};
    struct job_row j;
    if (req_only_query(r, names, 2) || !load_job(r, &j))
        return;
    struct events_opts o = {.jobs = {j.id}, .ended = {job_is_terminal(j.state)}, .n_jobs = 1};
    follow(r, &o);
}

/* Adds one id of the list. -1: a problem was replied. */
static int add_job(struct req *r, const char *id, struct events_opts *o)
{
    struct err e = ERR_INIT;
    struct job_row j;
    for (int i = 0; i < o->n_jobs; i++)
        if (!strcmp(o->jobs[i], id))
            return 0;
    int found = 0;
    if (o->n_jobs == STREAM_JOBS_MAX)
        found =
            err_set(&e, ERR_INVALID, NULL, "At most %d jobs go into one stream.", STREAM_JOBS_MAX);
    else
        found = job_load(FROM_DB(req_server(r)->db), id, req_arena(r), &j, &e);
    if (found == 0)
        api_not_found(r, "job", id);
    if (found < 0)
        reply_problem(r, &e);
    if (found != 1)
        return -1;
    o->jobs[o->n_jobs] = j.id;
    o->ended[o->n_jobs++] = job_is_terminal(j.state);
    return 0;
}

static void get_events(struct req *r)
{
    static const char *const names[] = {"jobs", "after", "follow"};
    struct events_opts o = {.n_jobs = 0};
    if (req_only_query(r, names, 3))
        return;
    const char *jobs = req_query(r, "jobs");
    if (!jobs || !*jobs) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_INVALID, NULL, "The parameter \"jobs\" names one or more jobs.");
        reply_problem(r, &e);
        return;
    }
    char *rest = arena_strdup(req_arena(r), jobs), *id;
    while ((id = strsep(&rest, ",")))
        if (add_job(r, id, &o))
            return;
    follow(r, &o);
}

/* ---- results and artifacts ---- */

static void get_results(struct req *r)
{
    struct job_row j;
    if (req_only_query(r, NULL, 0) || !load_job(r, &j))
        return;
    if (j.result) {
        reply_file(r, blobs_path(req_server(r)->blobs, req_arena(r), j.result), "application/json",
                   j.result, true, NULL);
        return;
    }
    struct err e = ERR_INIT;
    err_set(&e, ERR_CONFLICT, NULL, "The job is %s: it has no result%s.", j.state,
            job_is_terminal(j.state) ? "" : " yet");
    reply_problem(r, &e);
}

static json_t *artifact_json(const char *job, struct stmt *s)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(db_text(s, 0)));
    json_object_set_new(o, "media_type", json_string(db_text(s, 1)));
    json_object_set_new(o, "sha256", json_string(db_text(s, 2)));
    json_object_set_new(o, "size_bytes", json_integer(db_int(s, 3)));
    json_object_set_new(
        o, "links",
        json_pack("{s:o}", "self", json_sprintf("/v1/jobs/%s/artifacts/%s", job, db_text(s, 0))));
    return o;
}

static struct stmt *select_artifacts(struct req *r, const char *job, const char *name,
                                     struct err *e)
{
    struct stmt *s = db_stmt(req_server(r)->db,
                             "SELECT name,media_type,blob,size FROM artifacts WHERE job_id=?1 AND "
                             "(?2 IS NULL OR name=?2) ORDER BY name",
                             e);
    if (s) {
        db_put_text(s, job);
        db_put_text(s, name);
    }
    return s;
}

static void list_artifacts(struct req *r)
{
    struct err e = ERR_INIT;
    struct job_row j;
    if (req_only_query(r, NULL, 0) || !load_job(r, &j))
        return;
    struct stmt *s = select_artifacts(r, j.id, NULL, &e);
    json_t *items = json_array();
    int step = s ? 1 : -1;
    while (step == 1 && (step = db_step(s, &e)) == 1)
        json_array_append_new(items, artifact_json(j.id, s));
    db_end(s);
    json_t *body = json_pack("{s:o}", "items", items);
    if (step == 0) {
        api_reply(r, 200, body);
        return;
    }
    json_decref(body);
    reply_problem(r, &e);
}

static void get_artifact(struct req *r)
{
    struct err e = ERR_INIT;
    struct job_row j;
    const char *name = req_param(r, "name");
    if (req_only_query(r, NULL, 0) || !load_job(r, &j))
        return;
    struct stmt *s = select_artifacts(r, j.id, name, &e);
    int step = s ? db_step(s, &e) : -1;
    const char *media = NULL, *sha = NULL;
    if (step == 1) {
        media = arena_strdup(req_arena(r), db_text(s, 1));
        sha = arena_strdup(req_arena(r), db_text(s, 2));
    }
    db_end(s);
    if (step == 1)
        reply_file(r, blobs_path(req_server(r)->blobs, req_arena(r), sha), media, sha, true, name);
    else if (step == 0)
        api_not_found(r, "artifact", name);
    else
        reply_problem(r, &e);
}

extern const struct route api_results_routes[];
const struct route api_results_routes[] = {
    {"GET", "/v1/jobs/{id}/events", "getJobEvents", BODY_NONE, get_job_events},
    {"GET", "/v1/events", "getEvents", BODY_NONE, get_events},
    {"GET", "/v1/jobs/{id}/results", "getJobResults", BODY_NONE, get_results},
    {"GET", "/v1/jobs/{id}/artifacts", "listArtifacts", BODY_NONE, list_artifacts},
    {"GET", "/v1/jobs/{id}/artifacts/{name}", "getArtifact", BODY_NONE, get_artifact},
    {0}};
