#include "worker/load/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char npy_magic[] = "\x93NUMPY";
enum { MAGIC_LEN = 6, PREFIX_V1 = 10, PREFIX_V2 = 12, NPY_ALIGN = 64 };

/* The types that are read; descr without its byte order. */
static const struct {
    const char *descr;
    enum dtype type;
} npy_types[] = {
    {"f2", DT_F16}, {"f4", DT_F32}, {"f8", DT_F64}, {"i1", DT_I8},  {"i2", DT_I16}, {"i4", DT_I32},
    {"i8", DT_I64}, {"u1", DT_U8},  {"u2", DT_U16}, {"u4", DT_U32}, {"u8", DT_U64}, {"b1", DT_BOOL},
};
enum { N_TYPES = sizeof npy_types / sizeof npy_types[0] };

/* ---- the header's text ---- */

struct scan {
    const char *at, *end;
    struct err *e;
};

static int bad(struct err *e, const char *what)
{
    return err_set(e, ERR_BAD_DATA, "",
                   "The npy header is malformed: %s. Write the file with numpy.save.", what);
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t'))
        s->at++;
}

/* Takes the word if it comes next. */
static bool take(struct scan *s, const char *word)
{
    skip_space(s);
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return false;
    s->at += n;
    return true;
}

/* A quoted string without escapes. */
static int take_string(struct scan *s, char *ret, size_t ret_size)
{
    skip_space(s);
    if (s->at == s->end || (*s->at != '\'' && *s->at != '"'))
        return bad(s->e, "a quoted string is missing");
    char quote = *s->at++;
    size_t n = 0;
    for (; s->at < s->end && *s->at != quote; s->at++) {
        if (*s->at == '\\' || n + 1 >= ret_size)
            return bad(s->e, "a string is too long or has escapes");
        ret[n++] = *s->at;
    }
    if (s->at == s->end)
        return bad(s->e, "a string has no end");
    s->at++;
    ret[n] = '\0';
    return 0;
}

static int parse_descr(struct scan *s, struct tensor *t)
{
    char d[32];
    skip_space(s);
    if (s->at < s->end && *s->at == '[')
        return err_set(s->e, ERR_BAD_DATA, "", "Arrays of records are not read: save one array.");
    if (take_string(s, d, sizeof d))
        return -1;
    for (int i = 0; i < N_TYPES && d[0]; i++) {
        if (strcmp(d + 1, npy_types[i].descr) != 0)
            continue;
        t->type = npy_types[i].type;
        if (d[0] == '<' || (d[0] == '|' && dtype_size(t->type) == 1))
            return 0;
        return err_set(s->e, ERR_BAD_DATA, "",
                       "The data is big-endian (%s): save x.astype('<%s') instead.", d, d + 1);
    }
    if (strstr(d, "O"))
        return err_set(s->e, ERR_BAD_DATA, "",
                       "Object arrays are not read: they are programs, not numbers. Save an array "
                       "of one numeric type.");
    return err_set(s->e, ERR_BAD_DATA, "",
                   "The type '%s' is not read; bool, (u)int8 to 64 and float16 to 64 are.", d);
}

static int parse_order(struct scan *s)
{
    if (take(s, "False"))
        return 0;
    if (take(s, "True"))
        return err_set(s->e, ERR_BAD_DATA, "",
                       "The array is in Fortran order: save numpy.ascontiguousarray(x) instead.");
    return bad(s->e, "fortran_order is neither True nor False");
}

static int take_dim(struct scan *s, int64_t *ret)
{
    skip_space(s);
    int64_t v = 0;
    const char *first = s->at;
    for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->at - '0', &v))
            return bad(s->e, "a dimension is too large");
    if (s->at == first)
        return bad(s->e, "a dimension is not a number");
    *ret = v;
    return 0;
}

static int parse_shape(struct scan *s, struct tensor *t)
{
    if (!take(s, "("))
        return bad(s->e, "the shape is not a tuple");
    t->rank = 0;
    while (!take(s, ")")) {
        if (t->rank == NPY_RANK_MAX)
            return err_set(s->e, ERR_BAD_DATA, "", "The array has more than %d dimensions.",
                           NPY_RANK_MAX);
        if (take_dim(s, &t->dims[t->rank]))
            return -1;
        t->rank++;
        if (take(s, ","))
            continue;
        if (t->rank == 1 || !take(s, ")")) /* "(3)" is a number, not a tuple */
            return bad(s->e, "the shape is not a tuple");
        break;
    }
    return 0;
}

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static int parse_entry(struct scan *s, struct tensor *t, int *seen)
{
    char key[32];
    if (take_string(s, key, sizeof key))
        return -1;
    if (!take(s, ":"))
        return bad(s->e, "a colon is missing");
    int which = !strcmp(key, "descr")           ? KEY_DESCR
                : !strcmp(key, "fortran_order") ? KEY_ORDER
                : !strcmp(key, "shape")         ? KEY_SHAPE
                                                : 0;
    if (!which || (*seen & which))
        return bad(s->e, "it has other keys than descr, fortran_order and shape, once each");
    *seen |= which;
    return which == KEY_DESCR   ? parse_descr(s, t)
           : which == KEY_ORDER ? parse_order(s)
                                : parse_shape(s, t);
}

static int parse_dict(struct scan *s, struct tensor *t)
{
    int seen = 0;
    if (!take(s, "{"))
        return bad(s->e, "it is not a dict");
    while (!take(s, "}")) {
        if (parse_entry(s, t, &seen))
            return -1;
        if (take(s, ","))
            continue;
        if (!take(s, "}"))
            return bad(s->e, "the dict has no end");
        break;
    }
    skip_space(s);
    if (s->at != s->end)
        return bad(s->e, "something follows the dict");
    return seen == KEY_ALL ? 0 : bad(s->e, "descr, fortran_order or shape is missing");
}

/* ---- reading ---- */

/* The prefix: magic, version, header length. */
static int parse_prefix(const unsigned char *f, size_t len, size_t *ret_prefix, size_t *ret_header,
                        struct err *e)
{
    if (len < PREFIX_V2 || memcmp(f, npy_magic, MAGIC_LEN) != 0)
        return err_set(e, ERR_BAD_DATA, "", "This is not an npy file. Write it with numpy.save.");
    if (f[6] < 1 || f[6] > 3 || f[7] != 0)
        return err_set(e, ERR_BAD_DATA, "", "npy version %d.%d is not read; 1.0 to 3.0 are.", f[6],
                       f[7]);
    *ret_prefix = f[6] == 1 ? PREFIX_V1 : PREFIX_V2;
    *ret_header = (size_t)f[8] | (size_t)f[9] << 8;
    if (f[6] > 1)
        *ret_header |= (size_t)f[10] << 16 | (size_t)f[11] << 24;
    if (*ret_header > NPY_HEADER_MAX)
        return err_set(e, ERR_BAD_DATA, "", "The npy header says it has %zu bytes, over %d.",
                       *ret_header, NPY_HEADER_MAX);
    if (*ret_header > len - *ret_prefix)
        return err_set(e, ERR_BAD_DATA, "", "The file ends inside its npy header.");
    return 0;
}

int npy_header(const void *file, size_t len, struct tensor *ret, size_t *ret_offset, struct err *e)
{
    size_t prefix = 0, header = 0;
    if (parse_prefix(file, len, &prefix, &header, e))
        return -1;
    const char *text = (const char *)file + prefix;
    struct scan s = {text, text + header, e};
    struct tensor t = {0};
    if (parse_dict(&s, &t))
        return -1;
    if (tensor_set(ret, t.type, t.rank, t.dims, e)) {
        e->code = ERR_BAD_DATA;
        return -1;
    }
    *ret_offset = prefix + header;
    return 0;
}

int npy_parse(void *file, size_t len, struct tensor *ret, size_t *ret_offset, struct err *e)
{
    if (npy_header(file, len, ret, ret_offset, e))
        return -1;
    size_t want = tensor_bytes(ret), have = len - *ret_offset;
    if (have != want) {
        char text[TENSOR_TEXT_MAX];
        return err_set(e, ERR_BAD_DATA, "",
                       "The header says %s, %zu bytes, but %zu bytes follow it: the file is "
                       "%s. Write it again.",
                       tensor_text(ret, text), want, have, have < want ? "cut short" : "too long");
    }
    ret->data = (char *)file + *ret_offset;
    return 0;
}

/* ---- writing ---- */

static const char *descr_of(enum dtype type)
{
    for (int i = 0; i < N_TYPES; i++)
        if (npy_types[i].type == type)
            return npy_types[i].descr;
    return NULL;
}

int npy_put_header(struct buf *ret, const struct tensor *t, struct err *e)
{
    const char *descr = descr_of(t->type);
    if (!descr)
        return err_set(e, ERR_UNSUPPORTED, "", "numpy has no type for %s.", dtype_name(t->type));
    char dict[512];
    int n = snprintf(dict, sizeof dict, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                     dtype_size(t->type) == 1 ? '|' : '<', descr);
    for (int i = 0; i < t->rank; i++)
        n += snprintf(dict + n, sizeof dict - (size_t)n, "%s%" PRId64 "%s", i ? " " : "",
                      t->dims[i], i + 1 < t->rank || t->rank == 1 ? "," : "");
    n += snprintf(dict + n, sizeof dict - (size_t)n, "), }");
    size_t total = (PREFIX_V1 + (size_t)n + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    size_t header = total - PREFIX_V1;
    unsigned char head[4] = {1, 0, (unsigned char)header, (unsigned char)(header >> 8)};
    buf_add(ret, npy_magic, MAGIC_LEN);
    buf_add(ret, head, sizeof head);
    buf_add(ret, dict, (size_t)n);
    for (size_t i = (size_t)n; i + 1 < header; i++)
        buf_add(ret, " ", 1);
    buf_add(ret, "\n", 1);
    return ret->full ? err_set(e, ERR_LIMIT, "", "There is no room for an npy header.") : 0;
}

int npy_write(const char *path, const struct tensor *t, struct err *e)
{
    struct buf head;
    buf_init(&head, 1024);
    int rc = npy_put_header(&head, t, e);
    FILE *f = rc ? NULL : fopen(path, "wbe");
    if (!rc && !f)
        rc = err_errno(e, path, "The file cannot be made");
    if (f) {
        size_t bytes = tensor_bytes(t);
        bool ok = fwrite(head.data, 1, head.len, f) == head.len &&
                  (!bytes || fwrite(t->data, 1, bytes, f) == bytes);
        if (fclose(f) != 0 || !ok)
            rc = err_errno(e, path, "The file cannot be written");
    }
    buf_done(&head);
    return rc;
}
