#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson stops at depth 2048; ours is lower, so brackets are counted outside of strings first. */
static int check_depth(const char *text, size_t len, struct err *e)
{
    int depth = 0, in_string = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return err_set(e, ERR_BAD_JSON, "", "The nesting is deeper than %d.",
                               JSON_DEPTH_MAX);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 0;
}

json_t *json_parse(const char *text, size_t len, struct err *e)
{
    if (len > JSON_TEXT_MAX) {
        err_set(e, ERR_TOO_LARGE, "", "JSON text is limited to %d bytes.", JSON_TEXT_MAX);
        return NULL;
    }
    if (check_depth(text, len, e))
        return NULL;
    json_error_t je;
    json_t *v = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (!v)
        err_set(e, ERR_BAD_JSON, "", "Line %d, column %d: %s.", je.line, je.column, je.text);
    return v;
}

char *json_text(const json_t *v)
{
    return json_dumps(v, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

static const char *const kind_names[] = {"a string",  "an integer", "a number", "true or false",
                                         "an object", "an array",   "a value"};

static int has_kind(const json_t *v, enum json_kind kind)
{
    switch (kind) {
    case JSON_K_STRING:
        return json_is_string(v);
    case JSON_K_INT:
        return json_is_integer(v);
    case JSON_K_REAL:
        return json_is_number(v);
    case JSON_K_BOOL:
        return json_is_boolean(v);
    case JSON_K_OBJECT:
        return json_is_object(v);
    case JSON_K_ARRAY:
        return json_is_array(v);
    case JSON_K_ANY:
        return 1;
    }
    return 0;
}

static int check_bounds(const json_t *v, const struct json_field *f, const char *at, struct err *e)
{
    if (f->min == 0 && f->max == 0)
        return 0;
    int sized = json_is_string(v) || json_is_array(v);
    double x = json_is_string(v)  ? (double)json_string_length(v)
               : json_is_array(v) ? (double)json_array_size(v)
                                  : json_number_value(v);
    if (x >= f->min && x <= f->max)
        return 0;
    return err_set(e, ERR_INVALID, at, "%s must be between %.15g and %.15g, not %.15g.",
                   sized ? "The length" : "The value", f->min, f->max, x);
}

static int unknown_key(const char *key, const struct json_field *fields, const char *at,
                       struct err *e)
{
    const char *names[64];
    size_t n = 0;
    for (; fields[n].key && n < 64; n++)
        names[n] = fields[n].key;
    char near[256];
    json_nearest(key, names, n, near, sizeof near);
    return err_set(e, ERR_INVALID, at, "There is no key \"%.100s\" here%s%s%s.", key,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

int json_check(const json_t *o, const struct json_field *fields, const char *pointer, struct err *e)
{
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, pointer, "This must be an object.");
    char at[ERR_AT_MAX];
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        json_pointer_add(at, sizeof at, pointer, key);
        const struct json_field *f = fields;
        while (f->key && strcmp(f->key, key))
            f++;
        if (!f->key)
            return unknown_key(key, fields, at, e);
        if (json_is_null(v) && !f->required)
            continue;
        if (!has_kind(v, f->kind))
            return err_set(e, ERR_INVALID, at, "This must be %s.", kind_names[f->kind]);
        if (check_bounds(v, f, at, e))
            return -1;
    }
    for (const struct json_field *f = fields; f->key; f++)
        if (f->required && !json_object_get(o, f->key)) {
            json_pointer_add(at, sizeof at, pointer, f->key);
            return err_set(e, ERR_INVALID, at, "This key is required.");
        }
    return 0;
}

void json_pointer_add(char *ret, size_t ret_size, const char *pointer, const char *key)
{
    size_t n = (size_t)snprintf(ret, ret_size, "%s/", pointer);
    for (; *key && n + 3 < ret_size; key++) {
        if (*key == '~' || *key == '/') {
            ret[n++] = '~';
            ret[n++] = *key == '~' ? '0' : '1';
        } else {
            ret[n++] = *key;
        }
    }
    if (n < ret_size)
        ret[n] = '\0';
}

const char *json_str(const json_t *o, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : otherwise;
}

int64_t json_int(const json_t *o, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

double json_num(const json_t *o, const char *key, double otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : otherwise;
}

int json_flag(const json_t *o, const char *key, int otherwise)
{
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

json_t *json_real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* Levenshtein distance, cut off at names longer than the row. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { ROW = 128 };
    size_t row[ROW + 1], n = strlen(b);
    if (n > ROW || strlen(a) > ROW)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

void json_nearest(const char *name, const char *const *names, size_t n, char *ret, size_t ret_size)
{
    enum { MOST = 3 };
    size_t best[MOST], at[MOST], found = 0, limit = strlen(name) / 3 + 1;
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(name, names[i]), k;
        if (d > limit)
            continue;
        if (found < MOST)
            found++;
        else if (d >= best[MOST - 1])
            continue;
        for (k = found - 1; k > 0 && best[k - 1] > d; k--) {
            best[k] = best[k - 1];
            at[k] = at[k - 1];
        }
        best[k] = d;
        at[k] = i;
    }
    size_t len = 0;
    ret[0] = '\0';
    for (size_t k = 0; k < found && len < ret_size; k++)
        len += (size_t)snprintf(ret + len, ret_size - len, "%s\"%.60s\"",
                                k == 0           ? ""
                                : k + 1 == found ? " or "
                                                 : ", ",
                                names[at[k]]);
}
