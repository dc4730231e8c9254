/* The rows as the API shows them (api/openapi.yaml says the shapes). */
#include "server/store.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "server/problem.h"

static json_t *parse_stored(const char *text)
{
    struct err e = ERR_INIT;
    json_t *v = text ? json_parse(text, strlen(text), &e) : NULL;
    return v ? v : json_null();
}

static json_t *time_json(int64_t ms)
{
    char iso[CLOCK_ISO_MAX];
    if (!ms)
        return json_null();
    clock_iso(ms, iso);
    return json_string(iso);
}

static json_t *string_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

char *error_text(struct arena *a, const struct err *e)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s}", "code", err_slug(e->code), "at", e->at, "detail", e->detail);
    char *text = o ? json_text(o) : NULL;
    char *ret = arena_strdup(a, text ? text : "{\"code\":\"internal\"}");
    json_decref(o);
    free(text);
    return ret;
}

void error_parse(const char *text, struct err *ret)
{
    json_t *o = parse_stored(text);
    *ret = (struct err)ERR_INIT;
    err_set(ret, err_from_slug(json_str(o, "code", "internal")), json_str(o, "at", ""), "%s",
            json_str(o, "detail", ""));
    json_decref(o);
}

static json_t *error_json(const char *text)
{
    if (!text)
        return json_null();
    struct err e;
    error_parse(text, &e);
    return problem_json(&e, NULL, NULL);
}

static void set_link(json_t *links, const char *name, const char *id, const char *tail)
{
    json_object_set_new(links, name, json_sprintf("/v1/jobs/%s%s", id, tail));
}

static json_t *job_links(const char *id)
{
    json_t *links = json_object();
    set_link(links, "self", id, "");
    set_link(links, "events", id, "/events");
    set_link(links, "results", id, "/results");
    set_link(links, "artifacts", id, "/artifacts");
    set_link(links, "cancel", id, ":cancel");
    return links;
}

static int count_tasks(struct db *db, const char *job, int64_t *ret, struct err *e)
{
    struct stmt *s = db_stmt(db, "SELECT count(*) FROM tasks WHERE job_id = ?1", e);
    if (!s)
        return -1;
    db_put_text(s, job);
    int r = db_step(s, e);
    *ret = r == 1 ? db_int(s, 0) : 0;
    db_end(s);
    return r < 0 ? -1 : 0;
}

/* The progress column holds {"progress": as told or absent, "hits": n}. */
static void set_progress(json_t *o, const char *text, int64_t misses)
{
    json_t *stored = parse_stored(text);
    json_t *progress = json_object_get(stored, "progress");
    json_object_set(o, "progress", progress ? progress : json_null());
    json_object_set_new(o, "cache",
                        json_pack("{s:I, s:I}", "hits", (json_int_t)json_int(stored, "hits", 0),
                                  "misses", (json_int_t)misses));
    json_decref(stored);
}

json_t *job_json(struct db *db, const struct job_row *j, struct err *e)
{
    int64_t misses;
    if (count_tasks(db, j->id, &misses, e))
        return NULL;
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(j->id));
    json_object_set_new(o, "kind", json_string(j->kind));
    json_object_set_new(o, "state", json_string(j->state));
    json_object_set_new(o, "verdict", string_or_null(j->verdict));
    json_object_set_new(o, "spec", parse_stored(j->spec));
    json_object_set_new(o, "priority", json_integer(j->priority));
    json_object_set_new(o, "labels", parse_stored(j->labels));
    json_object_set_new(o, "retry_of", string_or_null(j->retry_of));
    json_object_set_new(o, "attempt", json_integer(j->attempt));
    json_object_set_new(o, "engine", string_or_null(j->engine));
    set_progress(o, j->progress, misses);
    json_t *times = json_object();
    json_object_set_new(times, "created", time_json(j->created_ms));
    json_object_set_new(times, "started", time_json(j->started_ms));
    json_object_set_new(times, "finished", time_json(j->finished_ms));
    json_object_set_new(o, "timestamps", times);
    json_object_set_new(o, "error", error_json(j->error));
    json_object_set_new(o, "links", job_links(j->id));
    return o;
}

/* What models and data sets have in common. */
static json_t *resource_json(const char *id, const char *name, const char *state,
                             int64_t created_ms, const char *summary, const char *error)
{
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "state", json_string(state));
    json_object_set_new(o, "created", time_json(created_ms));
    json_object_set_new(o, "summary", strcmp(state, "ready") ? json_null() : parse_stored(summary));
    json_object_set_new(o, "error", error_json(error));
    return o;
}

json_t *model_json(const struct model_row *m)
{
    json_t *o = resource_json(m->id, m->name, m->state, m->created_ms, m->summary, m->error);
    json_object_set_new(o, "blob", json_sprintf("sha256:%s", m->blob));
    json_object_set_new(o, "size_bytes", json_integer(m->size));
    json_object_set_new(o, "external_data", parse_stored(m->external));
    json_t *links = json_object();
    json_object_set_new(links, "self", json_sprintf("/v1/models/%s", m->id));
    json_object_set_new(links, "jobs", json_string("/v1/jobs"));
    json_object_set_new(o, "links", links);
    return o;
}

json_t *dataset_json(const struct dataset_row *d, bool with_digests)
{
    json_t *o = resource_json(d->id, d->name, d->state, d->created_ms, d->summary, d->error);
    json_object_set_new(o, "size_bytes", d->blob ? json_integer(d->size) : json_null());
    if (!with_digests)
        json_object_del(json_object_get(o, "summary"), "sample_digests");
    json_t *links = json_object();
    json_object_set_new(links, "self", json_sprintf("/v1/datasets/%s", d->id));
    json_object_set_new(links, "content", json_sprintf("/v1/datasets/%s/content", d->id));
    json_object_set_new(o, "links", links);
    return o;
}
