#include "worker/quant/dialect.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"

struct lexer {
    const char *at, *end, *start;
    int depth;
    json_t *warnings;
    struct err *e;
};

static json_t *value(struct lexer *x);

static void *fail(struct lexer *x, const char *what)
{
    int line = 1, column = 1;
    for (const char *p = x->start; p < x->at; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    err_set(x->e, ERR_BAD_JSON, "", "Line %d, column %d: %s.", line, column, what);
    return NULL;
}

static bool starts(const struct lexer *x, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(x->end - x->at) >= n && !memcmp(x->at, word, n);
}

static void skip_line(struct lexer *x)
{
    while (x->at < x->end && *x->at != '\n')
        x->at++;
}

/* White space and comments; -1 for a comment that does not end. */
static int skip(struct lexer *x)
{
    while (x->at < x->end) {
        if (strchr(" \t\r\n", *x->at) && *x->at) {
            x->at++;
        } else if (*x->at == '#' || starts(x, "//")) {
            skip_line(x);
        } else if (starts(x, "/*")) {
            const char *p = x->at + 2;
            while (p + 1 < x->end && !(p[0] == '*' && p[1] == '/'))
                p++;
            if (p + 1 >= x->end) {
                fail(x, "this comment does not end");
                return -1;
            }
            x->at = p + 2;
        } else {
            break;
        }
    }
    return 0;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static json_t *keyword(struct lexer *x)
{
    static const struct {
        const char *word;
        int what;
    } words[] = {{"true", 1}, {"True", 1}, {"false", 0}, {"False", 0}, {"null", -1}, {"None", -1}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].word);
        if (!starts(x, words[i].word) || (x->at + n < x->end && is_word(x->at[n])))
            continue;
        x->at += n;
        return words[i].what < 0 ? json_null() : json_boolean(words[i].what);
    }
    return fail(x, "a value was expected here");
}

/* JSON's numbers, and Python's with a point at an end or a plus in front. */
static json_t *number(struct lexer *x)
{
    char text[64];
    size_t n = 0;
    bool real = false;
    const char *p = x->at + (*x->at == '+');
    while (p < x->end && (strchr("+-.eE", *p) || (*p >= '0' && *p <= '9')) && *p &&
           n < sizeof text - 1) {
        real |= *p == '.' || *p == 'e' || *p == 'E';
        text[n++] = *p++;
    }
    text[n] = '\0';
    char *stop;
    errno = 0;
    double d = strtod(text, &stop);
    if (n == 0 || *stop || !isfinite(d) || (p < x->end && is_word(*p)))
        return fail(x, "this is not a number");
    long long i = real ? 0 : strtoll(text, &stop, 10);
    if (!real && errno)
        return fail(x, "this number is too large");
    x->at = p;
    return real ? json_real(d) : json_integer(i);
}

static int hex4(const char *p, unsigned *ret)
{
    *ret = 0;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef",
                   c = p[i] >= 'A' && p[i] <= 'F' ? (char)(p[i] + 32) : p[i];
        const char *d = c ? strchr(digits, c) : NULL;
        if (!d)
            return -1;
        *ret = *ret << 4 | (unsigned)(d - digits);
    }
    return 0;
}

static void add_utf8(struct buf *b, unsigned c)
{
    char out[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[n] | c);
    buf_add(b, out, n);
}

/* \uXXXX, with its other half when it is the first of a pair. */
static int unicode(struct lexer *x, struct buf *b)
{
    unsigned c, low;
    if (x->end - x->at < 4 || hex4(x->at, &c) || c == 0 || (c >= 0xDC00 && c < 0xE000))
        return -1;
    x->at += 4;
    if (c >= 0xD800 && c < 0xDC00) {
        if (x->end - x->at < 6 || !starts(x, "\\u") || hex4(x->at + 2, &low) || low < 0xDC00 ||
            low >= 0xE000)
            return -1;
        x->at += 6;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    add_utf8(b, c);
    return 0;
}

static int escape(struct lexer *x, struct buf *b)
{
    static const char from[] = "\"\\/'bfnrt", to[] = "\"\\/'\b\f\n\r\t";
    char c = x->at < x->end ? *x->at : '\0';
    const char *found = c ? strchr(from, c) : NULL;
    x->at += c != '\0';
    if (found)
        return buf_add(b, &to[found - from], 1);
    return c == 'u' ? unicode(x, b) : -1;
}

/* The text of a string in either kind of quotes into b. */
static int string_text(struct lexer *x, struct buf *b)
{
    char quote = *x->at++;
    while (x->at < x->end && *x->at != quote) {
        char c = *x->at;
        if ((unsigned char)c < 0x20) {
            fail(x, "a control character in a string must be escaped");
            return -1;
        }
        x->at++;
        if (c != '\\') {
            buf_add(b, &c, 1);
        } else if (escape(x, b)) {
            fail(x, "this escape is not known");
            return -1;
        }
    }
    if (x->at == x->end) {
        fail(x, "this string does not end");
        return -1;
    }
    x->at++;
    return 0;
}

static json_t *string(struct lexer *x)
{
    struct buf b;
    buf_init(&b, JSON_TEXT_MAX);
    json_t *v = NULL;
    if (!string_text(x, &b)) {
        v = json_stringn(b.data, b.len);
        if (!v)
            fail(x, "this string is not UTF-8");
    }
    buf_done(&b);
    return v;
}

/* After an element: 1 = another follows, 0 = the end was read, -1 = error. */
static int separator(struct lexer *x, char close)
{
    if (skip(x))
        return -1;
    bool comma = x->at < x->end && *x->at == ',';
    x->at += comma;
    if (comma && skip(x))
        return -1;
    if (x->at < x->end && *x->at == close) {
        x->at++;
        return 0;
    }
    if (comma && x->at < x->end)
        return 1;
    fail(x, close == '}' ? "a comma or } was expected here" : "a comma or ] was expected here");
    return -1;
}

static json_t *array(struct lexer *x)
{
    json_t *list = json_array();
    int more = 1;
    if (skip(x) == 0 && x->at < x->end && *x->at == ']') {
        x->at++;
        return list;
    }
    while (more == 1) {
        json_t *v = value(x);
        if (!v || json_array_append_new(list, v))
            more = -1;
        else
            more = separator(x, ']');
    }
    if (more == 0)
        return list;
    json_decref(list);
    return fail(x, "the text ends in a list");
}

/* Takes the reference to v. */
static int set_member(struct lexer *x, json_t *o, const char *key, json_t *v)
{
    const json_t *before = json_object_get(o, key);
    if (before && !json_equal(before, v)) {
        json_decref(v);
        fail(x, "a key is repeated here with another value");
        return -1;
    }
    if (before && x->warnings)
        json_array_append_new(x->warnings,
                              json_sprintf("The key \"%s\" stands twice, with one value.", key));
    return json_object_set_new(o, key, v);
}

static int member(struct lexer *x, json_t *o)
{
    if (skip(x) || x->at == x->end || (*x->at != '"' && *x->at != '\'')) {
        fail(x, "a key in quotes was expected here");
        return -1;
    }
    json_t *key = string(x);
    int r = -1;
    if (key && strlen(json_string_value(key)) != json_string_length(key)) {
        fail(x, "a key must not hold a zero byte");
    } else if (key && !skip(x)) {
        json_t *v = NULL;
        if (x->at < x->end && *x->at == ':') {
            x->at++;
            v = value(x);
        } else {
            fail(x, "a colon was expected here");
        }
        r = v ? set_member(x, o, json_string_value(key), v) : -1;
    }
    json_decref(key);
    return r;
}

static json_t *object(struct lexer *x)
{
    json_t *o = json_object();
    int more = 1;
    if (skip(x) == 0 && x->at < x->end && *x->at == '}') {
        x->at++;
        return o;
    }
    while (more == 1)
        more = member(x, o) ? -1 : separator(x, '}');
    if (more == 0)
        return o;
    json_decref(o);
    return fail(x, "the text ends in an object");
}

static json_t *nested(struct lexer *x, json_t *(*read)(struct lexer *))
{
    if (++x->depth > JSON_DEPTH_MAX)
        return fail(x, "the nesting is too deep");
    x->at++;
    json_t *v = read(x);
    x->depth--;
    return v;
}

static json_t *value(struct lexer *x)
{
    if (skip(x))
        return NULL;
    char c = x->at < x->end ? *x->at : '\0';
    if (c == '{')
        return nested(x, object);
    if (c == '[')
        return nested(x, array);
    if (c == '"' || c == '\'')
        return string(x);
    if (c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9'))
        return number(x);
    return keyword(x);
}

static int skip_name(struct lexer *x)
{
    static const char name[] = "quant_config";
    if (skip(x))
        return -1;
    if (!starts(x, name))
        return 0;
    x->at += strlen(name);
    if (skip(x) || x->at == x->end || *x->at != '=') {
        fail(x, "an equals sign was expected here");
        return -1;
    }
    x->at++;
    return 0;
}

json_t *dialect_parse(const char *text, size_t len, json_t *warnings, struct err *e)
{
    struct lexer x = {text, text + len, text, 0, warnings, e};
    if (len > JSON_TEXT_MAX)
        return fail(&x, "the text is too long");
    if (skip_name(&x))
        return NULL;
    json_t *v = value(&x);
    if (v && !skip(&x) && x.at == x.end)
        return v;
    json_decref(v);
    return fail(&x, "nothing may follow here");
}
