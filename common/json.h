/*
 * JSON beyond what jansson gives. jansson's json_t is this project's word for a JSON value and
 * may be used anywhere; parsing text from outside happens here only.
 */
#ifndef PTQ_COMMON_JSON_H
#define PTQ_COMMON_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/err.h"

enum { JSON_DEPTH_MAX = 64, JSON_TEXT_MAX = 8 << 20 };

/* Strict: duplicate keys, depth over JSON_DEPTH_MAX, trailing bytes, NaN and bad UTF-8 are
 * ERR_BAD_JSON with line and column in the detail. Owned by the caller; NULL on error. */
json_t *json_parse(const char *text, size_t len, struct err *e);

/* Canonical text: sorted keys, no white space, reals with 17 significant digits: equal values
 * give equal bytes. malloc'ed. */
char *json_text(const json_t *v);

/* One field a request or configuration may have. Rows end with { 0 }. */
enum json_kind {
    JSON_K_STRING,
    JSON_K_INT,
    JSON_K_REAL,
    JSON_K_BOOL,
    JSON_K_OBJECT,
    JSON_K_ARRAY,
    JSON_K_ANY
};
struct json_field {
    const char *key;
    enum json_kind kind; /* JSON_K_REAL takes integers too */
    int required;
    double min, max; /* for numbers; both 0 = any. For strings and arrays: the length */
};

/* Checks that o is an object with these fields only, each of its kind and in its bounds; a field
 * that is not required may be null, which is as if it were absent. The error's place is
 * pointer + "/key"; an unknown key's detail names the nearest known ones. */
int json_check(const json_t *o, const struct json_field *fields, const char *pointer,
               struct err *e);

/* Adds "/" and the key with ~ and / escaped (RFC 6901). ret has ret_size bytes. */
void json_pointer_add(char *ret, size_t ret_size, const char *pointer, const char *key);

const char *json_str(const json_t *o, const char *key, const char *otherwise);
int64_t json_int(const json_t *o, const char *key, int64_t otherwise);
double json_num(const json_t *o, const char *key, double otherwise);
int json_flag(const json_t *o, const char *key, int otherwise);

/* NaN and infinities have no JSON: null for them. */
json_t *json_real_or_null(double v);

/* Of the n names the (at most 3) nearest to `name` by edit distance, as "a", "b" or "c"; "" if
 * none is near. ret has ret_size bytes. */
void json_nearest(const char *name, const char *const *names, size_t n, char *ret, size_t ret_size);

#endif
