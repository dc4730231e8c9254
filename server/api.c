#include "server/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/json.h"
#include "common/sha256.h"

enum { LIMIT_DEFAULT = 20, LIMIT_MAX = 100, NAMES_MAX = 8 };

void api_etag(const json_t *v, char ret[API_ETAG_MAX])
{
    struct digest d;
    char hex[SHA256_HEX], *text = json_text(v);
    sha256_of(text, strlen(text), &d);
    free(text);
    digest_hex(&d, hex);
    memcpy(ret, hex, 32);
    ret[32] = '\0';
}

void api_reply(struct req *r, int status, json_t *body)
{
    char etag[API_ETAG_MAX];
    api_etag(body, etag);
    reply_json(r, status, body, etag);
}

void api_not_found(struct req *r, const char *what, const char *id)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_NOT_FOUND, NULL, "There is no %s %.100s.", what, id);
    reply_problem(r, &e);
}

bool api_header_has(const struct req *r, const char *header, const char *item)
{
    const char *v = req_header(r, header);
    size_t len = strlen(item);
    while (v && *v) {
        v += strspn(v, " \t,;");
        size_t n = strcspn(v, ",;");
        size_t word = n;
        while (word && (v[word - 1] == ' ' || v[word - 1] == '\t'))
            word--;
        if (word == len && !strncasecmp(v, item, len))
            return true;
        v += n;
    }
    return false;
}

/* ---- queries ---- */

static int refuse(struct req *r, const char *name, const char *why)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_INVALID, NULL, "The parameter \"%s\" %s.", name, why);
    reply_problem(r, &e);
    return -1;
}

static int read_limit(struct req *r, struct page *ret)
{
    const char *v = req_query(r, "limit");
    ret->limit = LIMIT_DEFAULT;
    if (!v)
        return 0;
    char *end;
    long n = strtol(v, &end, 10);
    if (!*v || *end || n < 1 || n > LIMIT_MAX)
        return refuse(r, "limit", "must be an integer from 1 to 100");
    ret->limit = (int)n;
    return 0;
}

static int read_after(struct req *r, struct page *ret)
{
    const char *v = req_query(r, "after");
    ret->after_ms = INT64_MAX;
    ret->after_id = "";
    if (!v)
        return 0;
    char *end;
    ret->after_ms = strtoll(v, &end, 10);
    ret->after_id = end + 1;
    if (end == v || *end != '.' || strlen(end + 1) > ID_MAX)
        return refuse(r, "after", "is no cursor of a list");
    return 0;
}

int page_read(struct req *r, const char *const *names, size_t n, struct page *ret)
{
    const char *all[NAMES_MAX] = {"limit", "after"};
    for (size_t i = 0; i < n; i++)
        all[i + 2] = names[i];
    if (req_only_query(r, all, n + 2))
        return -1;
    return read_limit(r, ret) || read_after(r, ret) ? -1 : 0;
}

int query_word(struct req *r, const char *name, const char *const *words, const char **ret)
{
    *ret = req_query(r, name);
    for (; *ret && *words; words++)
        if (!strcmp(*ret, *words))
            return 0;
    return *ret ? refuse(r, name, "has a value that is not known") : 0;
}

int query_flag(struct req *r, const char *name, bool otherwise, bool *ret)
{
    static const char *const words[] = {"true", "false", NULL};
    const char *v;
    *ret = otherwise;
    if (query_word(r, name, words, &v))
        return -1;
    if (v)
        *ret = *v == 't';
    return 0;
}

/* ---- pages ---- */

static json_t *page_json(struct req *r, const struct page *p, struct stmt *s, page_item *item,
                         struct err *e)
{
    json_t *items = json_array(), *next = NULL;
    const char *id = NULL;
    int64_t ms = 0;
    int step;
    while ((step = db_step(s, e)) == 1) {
        if ((int)json_array_size(items) == p->limit) {
            next = json_sprintf("%lld.%s", (long long)ms, id);
            break;
        }
        json_t *one = item(r, s, &id, &ms, e);
        if (!one) {
            step = -1;
            break;
        }
        json_array_append_new(items, one);
    }
    if (step < 0) {
        json_decref(items);
        return NULL;
    }
    return json_pack("{s:o, s:b, s:o}", "items", items, "has_more", next != NULL, "next",
                     next ? next : json_null());
}

void page_reply(struct req *r, const struct page *p, struct stmt *s, page_item *item)
{
    struct err e = ERR_INIT;
    json_t *body = page_json(r, p, s, item, &e);
    db_end(s);
    if (body)
        api_reply(r, 200, body);
    else
        reply_problem(r, &e);
}
