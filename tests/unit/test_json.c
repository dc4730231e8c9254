#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

static const struct json_field fields[] = {{"name", JSON_K_STRING, 1, 1, 8},
                                           {"count", JSON_K_INT, 0, 1, 10},
                                           {"rate", JSON_K_REAL, 0, 0, 0},
                                           {0}};

/* "" when the text passes, else the error's place; its detail goes to *ret_detail. */
static const char *place_of(const char *text, const char **ret_detail)
{
    static struct err e;
    e = (struct err)ERR_INIT;
    json_t *v = json_parse(text, strlen(text), &e);
    CHECK(v);
    int rc = json_check(v, fields, "/x", &e);
    json_decref(v);
    CHECK(rc == 0 || (e.code == ERR_INVALID && e.at[0]));
    *ret_detail = e.detail;
    return rc ? e.at : "";
}

void test_json__check_names_the_place_and_the_nearest_key(void)
{
    const char *detail;
    CHECK_STR(place_of("{\"name\":\"a\",\"count\":10,\"rate\":1}", &detail), "");
    CHECK_STR(place_of("{\"name\":\"a\",\"coun\":1}", &detail), "/x/coun");
    CHECK(strstr(detail, "\"count\""));
    CHECK_STR(place_of("{\"count\":1}", &detail), "/x/name");
    CHECK_STR(place_of("{\"name\":\"123456789\"}", &detail), "/x/name");
    CHECK_STR(place_of("{\"name\":\"a\",\"count\":11}", &detail), "/x/count");
    CHECK_STR(place_of("{\"name\":\"a\",\"count\":1.5}", &detail), "/x/count");
}

void test_json__null_is_absence_where_absence_is_allowed(void)
{
    const char *detail;
    CHECK_STR(place_of("{\"name\":\"a\",\"count\":null,\"rate\":null}", &detail), "");
    CHECK_STR(place_of("{\"name\":null}", &detail), "/x/name");
}

void test_json__equal_values_give_equal_text(void)
{
    struct err e = ERR_INIT;
    static const char a[] = "{\"b\": [1, 0.1, 1e22], \"a\": {\"y\": null, \"x\": \"\\u00fc\"}}";
    static const char b[] =
        "{\"a\":{\"x\":\"\xc3\xbc\",\"y\":null},\"b\":[1,0.1,10000000000000000000000.0]}";
    json_t *x = json_parse(a, strlen(a), &e), *y = json_parse(b, strlen(b), &e);
    CHECK(x && y);
    char *text_x = json_text(x), *text_y = json_text(y);
    CHECK_STR(text_x, text_y);
    free(text_x);
    free(text_y);
    json_decref(x);
    json_decref(y);
}

void test_json__what_is_no_strict_json_is_refused(void)
{
    static const char *const bad[] = {"",        "{",           "{\"a\":1,\"a\":2}", "[1] 2", "NaN",
                                      "[1e999]", "\"\\ud800\"", "{\"a\":\"\xff\"}",  "[01]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = ERR_INIT;
        json_t *v = json_parse(bad[i], strlen(bad[i]), &e);
        if (v || e.code != ERR_BAD_JSON || !e.detail[0])
            FAIL("%s was not refused as bad JSON", bad[i]);
    }
}

void test_json__depth_has_a_limit(void)
{
    char text[2 * (JSON_DEPTH_MAX + 1) + 1];
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        struct err e = ERR_INIT;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        json_t *v = json_parse(text, (size_t)depth * 2, &e);
        CHECK_INT(v != NULL, depth == JSON_DEPTH_MAX);
        json_decref(v);
    }
}

void test_json__infinities_and_nan_become_null(void)
{
    json_t *v = json_pack("[o,o,o]", json_real_or_null(NAN), json_real_or_null(INFINITY),
                          json_real_or_null(1.5));
    CHECK(json_is_null(json_array_get(v, 0)) && json_is_null(json_array_get(v, 1)));
    CHECK_NEAR(json_real_value(json_array_get(v, 2)), 1.5, 0);
    json_decref(v);
}
