/* api/openapi.yaml against the tables it describes: routes and errors. */
#include "tests/test.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "common/err.h"
#include "server/http.h"

extern const char openapi_json[];

/* The document; held so that it is no leak. */
static json_t *document(void)
{
    static json_t *doc;
    if (!doc)
        doc = json_loads(openapi_json, 0, NULL);
    CHECK(doc);
    return doc;
}

static const char *lower(const char *method)
{
    static char text[16];
    size_t i = 0;
    for (; method[i] && i + 1 < sizeof text; i++)
        text[i] = (char)tolower((unsigned char)method[i]);
    text[i] = 0;
    return text;
}

static const json_t *operation(const char *method, const char *path)
{
    const json_t *item = json_object_get(json_object_get(document(), "paths"), path);
    return json_object_get(item, lower(method));
}

static const struct route *find_route(const char *method, const char *path)
{
    for (const struct route *const *t = route_tables; *t; t++)
        for (const struct route *r = *t; r->method; r++)
            if (strcmp(lower(r->method), method) == 0 && strcmp(r->pattern, path) == 0)
                return r;
    return NULL;
}

void test_openapi__says_every_route_under_its_operation(void)
{
    for (const struct route *const *t = route_tables; *t; t++)
        for (const struct route *r = *t; r->method; r++) {
            const json_t *op = operation(r->method, r->pattern);
            if (!op)
                FAIL("%s %s is not in api/openapi.yaml", r->method, r->pattern);
            CHECK_STR(r->operation, json_string_value(json_object_get(op, "operationId")));
        }
}

void test_openapi__says_no_operation_that_is_not_routed(void)
{
    static const char *const methods[] = {"get", "put", "post", "patch", "delete", NULL};
    const char *path;
    json_t *item;
    if (!find_route("post", "/v1/jobs"))
        SKIP("the routes of jobs are not there yet");
    json_object_foreach(json_object_get(document(), "paths"), path, item)
    {
        for (const char *const *m = methods; *m; m++)
            if (json_object_get(item, *m) && !find_route(*m, path))
                FAIL("%s %s is in api/openapi.yaml, but not routed", *m, path);
        if (json_object_get(item, "head") && !find_route("get", path))
            FAIL("head %s is in api/openapi.yaml, but there is no get", path);
    }
}

/* A route with a body says so, and one without does not. */
void test_openapi__says_which_operations_take_a_body(void)
{
    for (const struct route *const *t = route_tables; *t; t++)
        for (const struct route *r = *t; r->method; r++) {
            bool has_body = json_object_get(operation(r->method, r->pattern), "requestBody");
            if (has_body != (r->body != BODY_NONE))
                FAIL("%s %s: a body in %s only", r->method, r->pattern,
                     has_body ? "api/openapi.yaml" : "the route");
        }
}

static const json_t *problem_types(void)
{
    static const char *const way[] = {"components", "schemas", "Problem", "properties",
                                      "type",       "enum",    NULL};
    const json_t *v = document();
    for (const char *const *key = way; *key; key++)
        v = json_object_get(v, *key);
    return v;
}

void test_openapi__says_the_errors_of_the_table(void)
{
    const json_t *types = problem_types();
    CHECK_INT(json_array_size(types), ERR_COUNT - 1);
    for (int code = ERR_NONE + 1; code < ERR_COUNT; code++) {
        char type[128];
        snprintf(type, sizeof type, "/problems/%s", err_slug((enum err_code)code));
        CHECK_STR(type, json_string_value(json_array_get(types, (size_t)code - 1)));
    }
}
