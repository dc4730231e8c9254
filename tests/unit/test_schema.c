/* The JSON Schema of quant_config and the worker's tables have the same keys. */
#include "tests/test.h"

#include <string.h>

#include "tests/unit/mini.h"
#include "worker/quant/config.h"

extern const char quant_config_schema_json[];

static struct arena arena;

static const json_t *follow(const json_t *root, const json_t *s)
{
    const char *ref = json_str(s, "$ref", NULL);
    return ref ? json_object_get(json_object_get(root, "$defs"), ref + strlen("#/$defs/")) : s;
}

/* The schema of the object at "a/b" of a configuration; * is a name of the user's own. */
static const json_t *schema_at(const json_t *root, const char *place)
{
    const json_t *s = root;
    for (const char *p = place; *p;) {
        size_t len = strcspn(p, "/");
        const char *key = arena_strndup(&arena, p, len);
        s = !strcmp(key, "*") ? json_object_get(s, "additionalProperties")
                              : json_object_get(json_object_get(s, "properties"), key);
        s = follow(root, s);
        if (!s)
            FAIL("the schema has no place %s", place);
        p += len + (p[len] == '/');
    }
    return s;
}

static void check_keys(const json_t *root, const struct config_keys *k)
{
    const json_t *s = schema_at(root, k->place);
    const json_t *properties = json_object_get(s, "properties");
    size_t n = 0;
    CHECK(json_is_false(json_object_get(s, "additionalProperties")));
    for (const struct json_field *f = k->fields; f->key; f++, n++)
        if (!json_object_get(properties, f->key))
            FAIL("the schema lacks %s/%s", k->place, f->key);
    if (n != json_object_size(properties))
        FAIL("the schema has %zu keys at %s, the worker %zu", json_object_size(properties),
             k->place, n);
}

static json_t *schema(void)
{
    json_t *root = json_loads(quant_config_schema_json, JSON_REJECT_DUPLICATES, NULL);
    CHECK(root != NULL);
    return root;
}

void test_schema__has_the_keys_that_the_worker_knows_and_no_others(void)
{
    json_t *root = schema();
    for (const struct config_keys *k = config_model_keys; k->place; k++)
        check_keys(root, k);
    for (const struct config_keys *k = config_nodes_keys; k->place; k++)
        check_keys(root, k);
    json_decref(root);
}

static enum err_code parsed(const char *fmt, const char *word)
{
    struct err e = ERR_INIT;
    struct quant_config *c;
    json_t *v = json_sprintf(fmt, word);
    const struct graph *g =
        mini_graph(&arena, "input x 1,4,8,8\nconst w 4,4,1,1\noutput y\nc Conv x,w -> y\n");
    if (!config_parse(v, "", g, &march_nash_e, &arena, &c, &e))
        config_done(c);
    json_decref(v);
    return e.code;
}

/* Every word is known, though what it asks for may need more than this graph has. */
static void check_words(const json_t *root, const char *def, const char *fmt)
{
    const json_t *words =
        json_object_get(json_object_get(json_object_get(root, "$defs"), def), "enum");
    CHECK(json_array_size(words) > 0);
    for (size_t i = 0; i < json_array_size(words); i++) {
        enum err_code code = parsed(fmt, json_string_value(json_array_get(words, i)));
        if (code == ERR_UNKNOWN_NAME)
            FAIL("%s: the worker does not know %s", def,
                 json_string_value(json_array_get(words, i)));
    }
}

void test_schema__has_words_that_the_worker_takes(void)
{
    json_t *root = schema();
    check_words(root, "qtype", "{'model_config': {'all_node_type': '%s'}}");
    check_words(root, "method", "{'model_config': {'activation': {'calibration_type': '%s'}}}");
    check_words(root, "metric", "{'model_config': {'modelwise_search': {'metric': '%s'}}}");
    CHECK_INT(parsed("{'model_config': {'modelwise_search': {'metric': '%s'}}}", "none"),
              ERR_UNKNOWN_NAME);
    json_decref(root);
}

static bool has_word(const json_t *words, const char *word)
{
    for (size_t i = 0; i < json_array_size(words); i++)
        if (!strcmp(json_string_value(json_array_get(words, i)), word))
            return true;
    return false;
}

void test_schema__has_every_method_metric_and_type(void)
{
    json_t *root = schema(), *defs = json_object_get(root, "$defs");
    for (int m = 0; m < METHOD_COUNT; m++)
        CHECK(has_word(json_object_get(json_object_get(defs, "method"), "enum"),
                       method_name((enum method)m)));
    for (int m = 0; m < METRIC_COUNT; m++)
        CHECK(has_word(json_object_get(json_object_get(defs, "metric"), "enum"),
                       metric_rows[m].name));
    for (int q = 0; q < Q_COUNT; q++)
        CHECK(has_word(json_object_get(json_object_get(defs, "qtype"), "enum"),
                       qtype_name((enum qtype)q)));
    json_decref(root);
}
