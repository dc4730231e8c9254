/* /v1/models. */
#include "server/api.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "server/blobs.h"
#include "server/inputs.h"
#include "server/intake.h"

enum { NAME_MAX_BYTES = 255, EXTERNAL_MAX = 256, LOCATION_MAX = 4096 };

static int model_state(struct server *s, const char *id, struct arena *a, const char **ret,
                       struct err *e)
{
    struct model_row m;
    int found = model_load(FROM_DB(s->db), id, a, &m, e);
    if (found == 1)
        *ret = m.state;
    return found < 0 ? -1 : 0;
}

static json_t *model_by_id(struct server *s, const char *id, struct arena *a, struct err *e)
{
    struct model_row m;
    int found = model_load(FROM_DB(s->db), id, a, &m, e);
    if (found == 0)
        err_set(e, ERR_NOT_FOUND, NULL, "There is no model %.100s.", id);
    return found == 1 ? model_json(&m) : NULL;
}

const struct intake_kind intake_models = {"/v1/models/", model_state, model_by_id};

/* ---- external data ---- */

static const struct json_field model_fields[] = {
    {"blob", JSON_K_STRING, 1, 0, 0},
    {"name", JSON_K_STRING, 0, 0, NAME_MAX_BYTES},
    {"external_data", JSON_K_ARRAY, 0, 0, EXTERNAL_MAX},
    {0}};
static const struct json_field external_fields[] = {
    {"location", JSON_K_STRING, 1, 1, LOCATION_MAX}, {"blob", JSON_K_STRING, 1, 0, 0}, {0}};

static bool climbs(const char *location)
{
    if (*location == '/' || strchr(location, '\\'))
        return true;
    for (const char *p = location; p; p = strchr(p, '/')) {
        p += *p == '/';
        size_t len = strcspn(p, "/");
        if (len == 2 && !strncmp(p, "..", 2))
            return true;
    }
    return false;
}

static const char *known_blob(struct req *r, const json_t *o, const char *place, uint64_t *ret_size,
                              struct err *e)
{
    const char *name = json_str(o, "blob", ""), *sha = digest_of_name(req_arena(r), name);
    const char *at = arena_printf(req_arena(r), "%s/blob", place);
    if (!sha)
        err_set(e, ERR_INVALID, at, "A blob's name is sha256: and 64 lower-case hex digits.");
    else if (!blobs_has(req_server(r)->blobs, sha, ret_size))
        err_set(e, ERR_UNKNOWN_NAME, at, "There is no blob %s.", name);
    if (e->code != ERR_NONE)
        return NULL;
    blobs_touch(req_server(r)->blobs, sha);
    return sha;
}

static int by_location(const void *a, const void *b)
{
    return strcmp(json_str(*(json_t *const *)a, "location", ""),
                  json_str(*(json_t *const *)b, "location", ""));
}

static int check_external(struct req *r, const json_t *list, struct err *e)
{
    size_t i;
    json_t *x;
    json_array_foreach(list, i, x)
    {
        const char *place = arena_printf(req_arena(r), "/external_data/%zu", i);
        if (json_check(x, external_fields, place, e) || !known_blob(r, x, place, NULL, e))
            return -1;
        if (climbs(json_str(x, "location", "")))
            return err_set(e, ERR_INVALID, arena_printf(req_arena(r), "%s/location", place),
                           "The location must be a relative path without \"..\".");
    }
    return 0;
}

/* Sorted by location, each once. A new reference. */
static json_t *sort_external(const json_t *list, struct err *e)
{
    size_t n = json_array_size(list), i;
    json_t **all = xcalloc(n + 1, sizeof *all), *x, *ret = json_array();
    json_array_foreach(list, i, x) all[i] = x;
    qsort(all, n, sizeof *all, by_location);
    for (i = 0; i < n; i++) {
        if (i && !by_location(&all[i - 1], &all[i]))
            err_set(e, ERR_INVALID, "/external_data", "The location \"%.100s\" is there twice.",
                    json_str(all[i], "location", ""));
        json_array_append(ret, all[i]);
    }
    free(all);
    return ret;
}

/* Without external data the model's id is its blob's digest, else one over all of it. */
static void content_digest(const char *sha, const json_t *external, struct digest *ret)
{
    digest_parse(sha, ret);
    if (!json_array_size(external))
        return;
    struct sha256 *h = sha256_new();
    size_t i;
    json_t *x;
    sha256_field(h, sha, strlen(sha));
    json_array_foreach(external, i, x)
    {
        const char *location = json_str(x, "location", ""), *blob = json_str(x, "blob", "");
        sha256_field(h, location, strlen(location));
        sha256_field(h, blob, strlen(blob));
    }
    sha256_finish(h, ret);
}

/* ---- upload ---- */

static void take_model(struct req *r, struct inspect_opts *o, const json_t *external)
{
    struct digest d;
    char id[ID_MAX];
    content_digest(o->sha256, external, &d);
    id_of_digest("mdl_", &d, id);
    o->id = id;
    intake(r, &intake_models, o);
}

static void put_json(struct req *r, const char *name)
{
    struct err e = ERR_INIT;
    const json_t *body = req_json(r), *list = json_object_get(body, "external_data");
    json_t *external = NULL;
    struct inspect_opts o = {.name = json_str(body, "name", name)};
    if (!json_check(body, model_fields, "", &e) && !check_external(r, list, &e))
        external = sort_external(list, &e);
    if (e.code == ERR_NONE)
        o.sha256 = known_blob(r, body, "", &o.size, &e);
    if (e.code == ERR_NONE) {
        char *text = json_text(external);
        o.external = arena_strdup(req_arena(r), text);
        free(text);
        take_model(r, &o, external);
    } else {
        reply_problem(r, &e);
    }
    json_decref(external);
}

static void put_model(struct req *r)
{
    static const char *const names[] = {"name"};
    const struct upload *u = req_upload(r);
    const char *name;
    if (req_only_query(r, names, 1) || intake_name(r, &name))
        return;
    if (!u) {
        put_json(r, name);
        return;
    }
    struct inspect_opts o = {.name = name, .sha256 = u->sha256, .file = u->path, .size = u->size};
    take_model(r, &o, NULL);
}

/* ---- read ---- */

static json_t *model_item(struct req *r, struct stmt *s, const char **ret_id, int64_t *ret_ms,
                          struct err *e)
{
    (void)e;
    struct model_row m;
    model_read(s, req_arena(r), &m);
    *ret_id = m.id;
    *ret_ms = m.created_ms;
    return model_json(&m);
}

static void list_models(struct req *r)
{
    static const char *const names[] = {"state"};
    static const char *const states[] = {"inspecting", "ready", "invalid", NULL};
    struct page p;
    struct err e = ERR_INIT;
    const char *state;
    if (page_read(r, names, 1, &p) || query_word(r, "state", states, &state))
        return;
    struct stmt *s =
        db_stmt(req_server(r)->db,
                "SELECT " MODEL_COLUMNS " FROM " MODEL_TABLES " WHERE (?1 IS NULL OR m.state=?1) "
                "AND (m.created_ms, m.id) < (?2, ?3) ORDER BY m.created_ms DESC, m.id DESC "
                "LIMIT ?4",
                &e);
    if (!s) {
        reply_problem(r, &e);
        return;
    }
    db_put_text(s, state);
    db_put_int(s, p.after_ms);
    db_put_text(s, p.after_id);
    db_put_int(s, p.limit + 1);
    page_reply(r, &p, s, model_item);
}

/* The model of the path; false when a problem was replied. */
static bool load_model(struct req *r, struct model_row *ret)
{
    struct err e = ERR_INIT;
    const char *id = req_param(r, "id");
    if (req_only_query(r, NULL, 0))
        return false;
    int found = model_load(FROM_DB(req_server(r)->db), id, req_arena(r), ret, &e);
    if (found == 0)
        api_not_found(r, "model", id);
    if (found < 0)
        reply_problem(r, &e);
    return found == 1;
}

static void get_model(struct req *r)
{
    struct model_row m;
    if (load_model(r, &m))
        api_reply(r, 200, model_json(&m));
}

static json_t *node_edges(const json_t *node)
{
    static const char *const keys[] = {"name", "op_type", "inputs", "outputs"};
    json_t *o = json_object();
    for (int i = 0; i < 4; i++)
        json_object_set(o, keys[i], json_object_get(node, keys[i]));
    return o;
}

static void get_graph(struct req *r)
{
    struct model_row m;
    struct err e = ERR_INIT;
    if (!load_model(r, &m))
        return;
    json_t *summary = NULL;
    if (strcmp(m.state, "ready"))
        err_set(&e, ERR_CONFLICT, NULL, "The model is %s: it has no graph.", m.state);
    else
        summary = json_parse(m.summary, strlen(m.summary), &e);
    if (!summary) {
        reply_problem(r, &e);
        return;
    }
    json_t *nodes = json_array(), *node;
    size_t i;
    json_array_foreach(json_object_get(summary, "nodes"), i, node)
        json_array_append_new(nodes, node_edges(node));
    json_t *graph = json_object();
    json_object_set_new(graph, "nodes", nodes);
    json_object_set(graph, "inputs", json_object_get(summary, "inputs"));
    json_object_set(graph, "outputs", json_object_get(summary, "outputs"));
    json_decref(summary);
    api_reply(r, 200, graph);
}

static void get_content(struct req *r)
{
    struct model_row m;
    if (load_model(r, &m))
        reply_file(r, blobs_path(req_server(r)->blobs, req_arena(r), m.blob),
                   "application/octet-stream", m.blob, true,
                   arena_printf(req_arena(r), "%s.onnx", m.id));
}

static void delete_model(struct req *r)
{
    static const struct removal how = {
        "model",
        "SELECT id FROM jobs WHERE state IN ('queued','running','waiting','cancelling') AND "
        "json_extract(spec,'$.model.id')=?1 LIMIT 1",
        "DELETE FROM models WHERE id=?1"};
    intake_delete(r, &how);
}

extern const struct route api_models_routes[];
const struct route api_models_routes[] = {
    {"PUT", "/v1/models", "putModel", BODY_JSON_OR_FILE, put_model},
    {"POST", "/v1/models", "createModel", BODY_JSON_OR_FILE, put_model},
    {"GET", "/v1/models", "listModels", BODY_NONE, list_models},
    {"GET", "/v1/models/{id}", "getModel", BODY_NONE, get_model},
    {"DELETE", "/v1/models/{id}", "deleteModel", BODY_NONE, delete_model},
    {"GET", "/v1/models/{id}/graph", "getModelGraph", BODY_NONE, get_graph},
    {"GET", "/v1/models/{id}/content", "getModelContent", BODY_NONE, get_content},
    {0}};
