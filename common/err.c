#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *slug;
    int status;
    bool retry;
    const char *title;
} rows[ERR_COUNT] = {
#define X(code, slug, status, retry, title) [code] = {slug, status, retry, title},
    ERR_MAP(X)
#undef X
};

/* snprintf may cut a UTF-8 sequence in two: drop what is left of it. */
static void trim_utf8(char *s)
{
    size_t n = strlen(s), i = n;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xC0) == 0x80)
        i--;
    if (i == 0)
        return;
    unsigned char lead = (unsigned char)s[i - 1];
    size_t want = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (n - (i - 1) < want)
        s[i - 1] = '\0';
}

/* The length of the UTF-8 sequence at s, 0 if it is none (RFC 3629: no overlong forms, no
 * surrogates, nothing over U+10FFFF). */
static size_t utf8_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xC2 && s[0] < 0xE0   ? 2
               : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
               : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    bool bad = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
               (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return bad ? 0 : n;
}

/* Names come from strangers' files: what is no text becomes '?'. */
static void make_text(char *s)
{
    for (unsigned char *p = (unsigned char *)s; *p;) {
        size_t n = utf8_length(p);
        if (!n || (*p < ' ' && *p != '\n') || *p == 0x7F)
            *p = '?';
        p += n ? n : 1;
    }
}

int err_vset(struct err *e, enum err_code code, const char *at, const char *fmt, va_list ap)
{
    if (e->code != ERR_NONE)
        return -1;
    e->code = code;
    snprintf(e->at, sizeof e->at, "%s", at ? at : "");
    vsnprintf(e->detail, sizeof e->detail, fmt, ap);
    trim_utf8(e->at);
    trim_utf8(e->detail);
    make_text(e->at);
    make_text(e->detail);
    return -1;
}

int err_set(struct err *e, enum err_code code, const char *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(e, code, at, fmt, ap);
    va_end(ap);
    return -1;
}

int err_in(struct err *e, const char *place)
{
    char tail[ERR_AT_MAX];
    memcpy(tail, e->at, sizeof tail);
    snprintf(e->at, sizeof e->at, "%s%s", place, tail);
    trim_utf8(e->at);
    return -1;
}

int err_errno(struct err *e, const char *at, const char *what)
{
    int no = errno;
    enum err_code code = no == ENOSPC || no == EDQUOT ? ERR_DISK_FULL : ERR_IO;
    return err_set(e, code, at, "%s: %s", what, strerror(no));
}

const char *err_slug(enum err_code code)
{
    return rows[code].slug;
}

const char *err_title(enum err_code code)
{
    return rows[code].title;
}

int err_status(enum err_code code)
{
    return rows[code].status;
}

bool err_retryable(enum err_code code)
{
    return rows[code].retry;
}

enum err_code err_from_slug(const char *slug)
{
    for (int i = 0; i < ERR_COUNT; i++)
        if (!strcmp(rows[i].slug, slug))
            return (enum err_code)i;
    return ERR_INTERNAL;
}
