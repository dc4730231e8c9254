#include "server/http_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/sha256.h"
#include "server/problem.h"

void reply_header(struct req *r, const char *name, const char *value)
{
    struct header *h = arena_alloc(&r->arena, sizeof *h);
    h->name = arena_strdup(&r->arena, name);
    h->value = arena_strdup(&r->arena, value);
    h->next = r->headers;
    r->headers = h;
}

static bool header_is_set(const struct req *r, const char *name)
{
    for (const struct header *h = r->headers; h; h = h->next)
        if (!strcmp(h->name, name))
            return true;
    return false;
}

struct MHD_Response *response_copy(const char *text, size_t len)
{
    return MHD_create_response_from_buffer(len, (void *)text, MHD_RESPMEM_MUST_COPY);
}

/* The one way out: every reply, also one that nobody waits for any more, ends here. */
void reply_take(struct req *r, int status, struct MHD_Response *response)
{
    assert(!r->replied && response);
    r->replied = true;
    r->status = status;
    r->response = response;
    if (r->sink)
        upload_discard(r->sink); /* what was refused is gone when the client hears of it */
    if (!r->conn) {
        req_bury(r);
        return;
    }
    if (r->close || r->http->draining)
        reply_header(r, "Connection", "close");
    reply_header(r, "X-Request-Id", r->id);
    reply_header(r, "X-Content-Type-Options", "nosniff");
    if (!header_is_set(r, "Cache-Control"))
        reply_header(r, "Cache-Control", status < 300 ? "no-cache" : "no-store");
    for (const struct header *h = r->headers; h; h = h->next)
        MHD_add_response_header(response, h->name, h->value);
    if (!r->in_call)
        conn_resume(r->conn);
}

void reply_empty(struct req *r, int status)
{
    reply_take(r, status, response_copy("", 0));
}

void reply_text(struct req *r, int status, const char *media_type, const char *text)
{
    reply_header(r, "Content-Type", media_type);
    reply_take(r, status, response_copy(text, strlen(text)));
}

static bool reads_only(const struct req *r)
{
    return r->head || !strcmp(r->method, "GET");
}

void reply_json(struct req *r, int status, json_t *body, const char *etag)
{
    char *text = json_text(body), made[SHA256_HEX];
    json_decref(body);
    size_t len = strlen(text);
    text[len++] = '\n'; /* in place of the zero byte: for people at a terminal */
    if (!etag && status == 200 && reads_only(r)) {
        struct digest d;
        sha256_of(text, len, &d);
        digest_hex(&d, made);
        made[32] = 0;
        etag = made;
    }
    const char *quoted = etag ? arena_printf(&r->arena, "\"%s\"", etag) : NULL;
    if (quoted)
        reply_header(r, "ETag", quoted);
    if (quoted && status == 200 && reads_only(r) && etag_matches(r, quoted)) {
        free(text);
        reply_empty(r, 304);
        return;
    }
    reply_header(r, "Content-Type", "application/json");
    reply_take(r, status, MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
}

void reply_problem(struct req *r, const struct err *e)
{
    json_t *body = problem_json(e, r->path, r->id);
    char *text = json_text(body);
    json_decref(body);
    size_t len = strlen(text);
    text[len++] = '\n';
    reply_header(r, "Content-Type", "application/problem+json");
    int status = err_status(e->code);
    if (status == 429 || status == 503)
        reply_header(r, "Retry-After", "1");
    if (status >= 500)
        log_event(e->code == ERR_UNAVAILABLE ? LOG_INFO : LOG_ERROR, "http.problem",
                  "%s %s %s: %s (%s)", r->id, r->method, r->path, e->detail, e->at);
    if (status == 401)
        reply_header(r, "WWW-Authenticate", "Bearer");
    reply_take(r, status, MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
}
