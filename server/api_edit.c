/* /v1/models/{id}/calibrations and :edit: what a calibrated model says, and changing it. */
#include "server/api.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "server/blobs.h"
#include "server/edits.h"
#include "server/intake.h"
#include "server/profiles.h"

enum { EDITS_MAX = 10000, NAME_MAX_BYTES = 255, OFFSET_MAX = 100000000 };

/* A model that is ready; false when a problem was replied. */
static bool load_ready(struct req *r, struct model_row *ret)
{
    struct err e = ERR_INIT;
    const char *id = req_param(r, "id");
    int found = model_load(FROM_DB(req_server(r)->db), id, req_arena(r), ret, &e);
    if (found == 0) {
        api_not_found(r, "model", id);
        return false;
    }
    if (found == 1 && strcmp(ret->state, "ready"))
        err_set(&e, ERR_CONFLICT, NULL, "The model is %s.", ret->state);
    if (e.code != ERR_NONE)
        reply_problem(r, &e);
    return e.code == ERR_NONE;
}

/* ---- list ---- */

struct wanted {
    const char *name, *tensor_type, *op_type, *node, *qtype; /* NULL: any */
};

/* Is it what the finder gives for an input of such a node? */
static bool is_input_of(const json_t *calibration, const char *key, const char *value)
{
    size_t i;
    json_t *x;
    json_array_foreach(json_object_get(calibration, "input_of"), i, x)
    {
        if (!strcmp(json_str(x, key, ""), value))
            return true;
    }
    return false;
}

static bool fits(const json_t *c, const struct wanted *w)
{
    return (!w->name || !strcmp(w->name, json_str(c, "name", ""))) &&
           (!w->tensor_type || !strcmp(w->tensor_type, json_str(c, "tensor_type", ""))) &&
           (!w->qtype || !strcmp(w->qtype, json_str(c, "qtype", ""))) &&
           (!w->op_type || is_input_of(c, "op_type", w->op_type)) &&
           (!w->node || is_input_of(c, "node", w->node));
}

/* Those that fit, from number `after` of the model's calibrations on. */
static json_t *page_of(const json_t *all, const struct wanted *w, size_t after, int limit)
{
    json_t *items = json_array();
    size_t next = 0;
    for (size_t i = after; i < json_array_size(all) && !next; i++) {
        json_t *c = json_array_get(all, i);
        if (!fits(c, w))
            continue;
        if ((int)json_array_size(items) == limit)
            next = i;
        else
            json_array_append(items, c);
    }
    return json_pack("{s:o, s:b, s:o}", "items", items, "has_more", next > 0, "next",
                     next ? json_sprintf("0.%zu", next) : json_null());
}

static int read_wanted(struct req *r, struct wanted *w)
{
    static const char *const tensor_types[] = {"feature", "weight", NULL};
    static const char *const qtypes[] = {"int8", "int16", "float16", "float32", NULL};
    w->name = req_query(r, "name");
    w->op_type = req_query(r, "op_type");
    w->node = req_query(r, "node");
    return query_word(r, "tensor_type", tensor_types, &w->tensor_type) ||
                   query_word(r, "qtype", qtypes, &w->qtype)
               ? -1
               : 0;
}

static bool is_calibrated(const struct model_row *m)
{
    struct err e = ERR_INIT;
    json_t *summary = json_parse(m->summary, strlen(m->summary), &e);
    bool is = json_is_true(json_object_get(summary, "calibrated"));
    json_decref(summary);
    return is;
}

static json_t *read_calibrations(struct req *r, const struct model_row *m, struct err *e)
{
    if (!m->calibrations && is_calibrated(m)) {
        err_set(e, ERR_CONFLICT, NULL,
                "The model was inspected by an earlier version: delete it and upload it again.");
        return NULL;
    }
    if (!m->calibrations)
        return json_array();
    json_t *all =
        json_load_file(blobs_path(req_server(r)->blobs, req_arena(r), m->calibrations), 0, NULL);
    if (!all)
        err_set(e, ERR_INTERNAL, NULL, "The model's calibrations cannot be read.");
    return all;
}

static void list_calibrations(struct req *r)
{
    static const char *const names[] = {"name", "tensor_type", "op_type", "node", "qtype"};
    struct page p;
    struct wanted w;
    struct model_row m;
    struct err e = ERR_INIT;
    if (page_read(r, names, 5, &p) || read_wanted(r, &w) || !load_ready(r, &m))
        return;
    json_t *all = read_calibrations(r, &m, &e);
    long after = *p.after_id ? strtol(p.after_id, NULL, 10) : 0;
    if (!all)
        reply_problem(r, &e);
    else
        api_reply(r, 200,
                  page_of(all, &w, after > 0 && after < OFFSET_MAX ? (size_t)after : 0, p.limit));
    json_decref(all);
}

/* ---- edit ---- */

static const struct json_field edit_fields[] = {{"edits", JSON_K_ARRAY, 1, 1, EDITS_MAX},
                                                {"name", JSON_K_STRING, 0, 0, NAME_MAX_BYTES},
                                                {"march", JSON_K_STRING, 0, 0, 0},
                                                {0}};

/* What was written is taken in like an upload whose blob is in place. */
static void edited(void *ctx, const char *sha256, uint64_t size, const struct err *e)
{
    struct req *r = ctx;
    struct digest d;
    char id[ID_MAX];
    struct inspect_opts o = {.id = id, .sha256 = sha256, .size = size};
    if (e) {
        reply_problem(r, e);
        return;
    }
    digest_parse(sha256, &d);
    id_of_digest("mdl_", &d, id);
    o.name = json_str(req_json(r), "name", "");
    intake(r, &intake_models, &o);
}

static void begin(struct req *r, const struct model_row *m, const json_t *body)
{
    struct err e = ERR_INIT;
    const char *march = json_str(body, "march", profiles_default());
    json_t *external = json_parse(m->external, strlen(m->external), &e);
    json_t *spec = json_pack("{s:O, s:{s:s}}", "edits", json_object_get(body, "edits"), "options",
                             "march", march);
    int rc = !external || edit_model(req_server(r)->edits, m->blob, external, spec, edited, r, &e);
    json_decref(external);
    json_decref(spec);
    if (rc)
        reply_problem(r, &e);
}

static void edit(struct req *r)
{
    struct err e = ERR_INIT;
    struct model_row m;
    const json_t *body = req_json(r);
    if (req_only_query(r, NULL, 0) || !load_ready(r, &m))
        return;
    if (json_check(body, edit_fields, "", &e) ||
        profiles_check(json_str(body, "march", NULL), "/march", &e))
        reply_problem(r, &e);
    else
        begin(r, &m, body);
}

extern const struct route api_edit_routes[];
const struct route api_edit_routes[] = {
    {"GET", "/v1/models/{id}/calibrations", "listModelCalibrations", BODY_NONE, list_calibrations},
    {"POST", "/v1/models/{id}:edit", "editModel", BODY_JSON, edit},
    {0}};
