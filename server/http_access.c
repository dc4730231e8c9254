/* What handlers may ask of a request. */
#include "server/http_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/blobs.h"
#include "server/server.h"

struct server *req_server(const struct req *r)
{
    return r->http->server;
}

struct arena *req_arena(struct req *r)
{
    return &r->arena;
}

const char *req_method(const struct req *r)
{
    return r->method;
}

const char *req_path(const struct req *r)
{
    return r->path;
}

const char *req_id(const struct req *r)
{
    return r->id;
}

const char *req_param(const struct req *r, const char *name)
{
    for (int i = 0; i < r->n_params; i++)
        if (!strcmp(r->param_name[i], name))
            return r->param_value[i];
    abort(); /* the handler and its row disagree */
}

const char *req_query(const struct req *r, const char *name)
{
    for (int i = 0; i < r->n_query; i++)
        if (!strcmp(r->query[i].name, name))
            return r->query[i].value;
    return NULL;
}

const char *req_header(const struct req *r, const char *name)
{
    /* The headers stand in the connection's memory: they go with the client. */
    return r->conn ? MHD_lookup_connection_value(r->conn->mhd, MHD_HEADER_KIND, name) : NULL;
}

static bool is_among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

int req_only_query(struct req *r, const char *const *names, size_t n)
{
    struct err e = ERR_INIT;
    for (int i = 0; i < r->n_query && !e.code; i++) {
        const char *name = r->query[i].name;
        if (!is_among(name, names, n))
            err_set(&e, ERR_UNKNOWN_NAME, NULL, "There is no query parameter \"%s\" here.", name);
        else if (req_query(r, name) != r->query[i].value)
            err_set(&e, ERR_INVALID, NULL, "The query parameter \"%s\" comes twice.", name);
    }
    if (!e.code)
        return 0;
    reply_problem(r, &e);
    return -1;
}

const json_t *req_json(const struct req *r)
{
    return r->json;
}

const struct upload *req_upload(const struct req *r)
{
    return r->sink ? upload_result(r->sink) : NULL;
}

const char *req_body_sha256(const struct req *r)
{
    return r->sink ? upload_result(r->sink)->sha256 : r->text_sha256;
}

void upload_keep(struct req *r)
{
    upload_leave_file(r->sink);
}

static void on_blob(void *ctx, const struct err *e)
{
    struct req *r = ctx;
    r->http->n_blobs--;
    r->blob_done(r, e);
}

void upload_to_blobs(struct req *r, void (*done)(struct req *r, const struct err *e))
{
    const struct upload *u = req_upload(r);
    upload_keep(r);
    r->blob_done = done;
    r->http->n_blobs++;
    blobs_put(r->http->server->blobs, u->path, u->sha256, on_blob, r);
}

void req_on_close(struct req *r, void (*fn)(struct req *r, void *ctx), void *ctx)
{
    r->on_close = fn;
    r->on_close_ctx = ctx;
}

void req_set_ctx(struct req *r, void *ctx)
{
    r->ctx = ctx;
}

void *req_ctx(const struct req *r)
{
    return r->ctx;
}

/* One word of Prefer (RFC 7240): "respond-async" or "wait=10". */
static void take_preference(const char *p, size_t len, int *wait, bool *async)
{
    if (len == 13 && !strncasecmp(p, "respond-async", len))
        *async = true;
    if (len > 5 && !strncasecmp(p, "wait=", 5) && strspn(p + 5, "0123456789") >= len - 5)
        *wait = len > 12 ? 9999999 : atoi(p + 5);
}

int req_prefer_wait(const struct req *r, int max, bool *ret_async)
{
    const char *p = req_header(r, "Prefer");
    int wait = -1;
    bool async = false;
    while (p && *p) {
        p += strspn(p, ", \t;");
        size_t len = strcspn(p, ", \t;");
        take_preference(p, len, &wait, &async);
        p += len;
    }
    if (ret_async)
        *ret_async = async;
    return wait > max ? max : wait;
}
