/* /v1/configs:check, /v1/profiles, /v1/schemas: what a quant_config may say and what it gives. */
#include "server/api.h"

#include <string.h>

#include "common/json.h"
#include "server/checks.h"
#include "server/jobspec.h"
#include "server/profiles.h"

/* ---- the dry run ---- */

static const struct json_field check_fields[] = {{"model", JSON_K_ANY, 1, 0, 0},
                                                 {"quant_config", JSON_K_ANY, 0, 0, 0},
                                                 {"march", JSON_K_STRING, 0, 0, 0},
                                                 {0}};

static void checked(void *ctx, const char *text, const struct err *e)
{
    struct req *r = ctx;
    if (e)
        reply_problem(r, e);
    else
        reply_text(r, 200, "application/json", text);
}

static int read_question(struct req *r, const json_t *body, struct check_question *q, struct err *e)
{
    const json_t *config = json_object_get(body, "quant_config");
    if (json_check(body, check_fields, "", e) || jobspec_check_config(config, e))
        return -1;
    q->march = json_str(body, "march", profiles_default());
    q->quant_config = json_is_null(config) ? NULL : config;
    if (profiles_check(q->march, "/march", e))
        return -1;
    q->model = jobspec_model(req_server(r), json_object_get(body, "model"), req_arena(r), e);
    return q->model ? 0 : -1;
}

static void ask(struct req *r, const json_t *body)
{
    struct err e = ERR_INIT;
    struct check_question q = {0};
    if (read_question(r, body, &q, &e))
        reply_problem(r, &e);
    else
        check_config(req_server(r)->checks, &q, checked, r);
    json_decref((json_t *)q.model);
}

/* As JSON, or the configuration itself as text with ?model= and ?march=. */
static void check_request(struct req *r)
{
    static const char *const names[] = {"model", "march"};
    bool is_text = json_is_string(req_json(r));
    if (req_only_query(r, names, is_text ? 2 : 0))
        return;
    json_t *body = is_text ? json_pack("{s:s?, s:O, s:s?}", "model", req_query(r, "model"),
                                       "quant_config", req_json(r), "march", req_query(r, "march"))
                           : json_incref((json_t *)req_json(r));
    ask(r, body);
    json_decref(body);
}

/* ---- profiles and schemas ---- */

static void list_profiles(struct req *r)
{
    if (req_only_query(r, NULL, 0))
        return;
    json_t *items = json_array(), *one;
    size_t i;
    json_array_foreach(profiles_all(), i, one) json_array_append_new(
        items,
        json_pack("{s:O, s:O, s:O, s:{s:o}}", "march", json_object_get(one, "march"), "default",
                  json_object_get(one, "default"), "text", json_object_get(one, "text"), "links",
                  "self", json_sprintf("/v1/profiles/%s", json_str(one, "march", ""))));
    api_reply(r, 200, json_pack("{s:o, s:b, s:n}", "items", items, "has_more", false, "next"));
}

static void get_profile(struct req *r)
{
    const char *name = req_param(r, "march");
    if (req_only_query(r, NULL, 0))
        return;
    json_t *one = profiles_find(name);
    if (one)
        api_reply(r, 200, json_incref(one));
    else
        api_not_found(r, "profile of a march", name);
}

extern const char quant_config_schema_json[];

static void get_schema(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        api_reply(r, 200, json_loads(quant_config_schema_json, 0, NULL));
}

extern const char operators_json[];

static void list_operators(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        api_reply(r, 200,
                  json_pack("{s:o, s:b, s:n}", "items", json_loads(operators_json, 0, NULL),
                            "has_more", false, "next"));
}

extern const struct route api_configs_routes[];
const struct route api_configs_routes[] = {
    {"POST", "/v1/configs:check", "checkConfig", BODY_JSON_OR_TEXT, check_request},
    {"GET", "/v1/profiles", "listProfiles", BODY_NONE, list_profiles},
    {"GET", "/v1/profiles/{march}", "getProfile", BODY_NONE, get_profile},
    {"GET", "/v1/operators", "listOperators", BODY_NONE, list_operators},
    {"GET", "/v1/schemas/quant_config", "getQuantConfigSchema", BODY_NONE, get_schema},
    {0}};
