/*
 * HTTP: one libmicrohttpd daemon in external-epoll mode inside the one libuv loop. The handlers
 * see requests and replies only; http.c is the only file that sees microhttpd.
 *
 * Everything here runs on the loop thread. A handler gets its request when the headers have been
 * judged (framing, Host, size, method) and the body is in, and must see to exactly one reply_*,
 * now or later: until then the connection is suspended. If the client goes away first, the reply
 * is thrown away; `on_close` tells who wants to know. A request lives until its reply has been
 * sent or thrown away.
 */
#ifndef PTQ_SERVER_HTTP_H
#define PTQ_SERVER_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>
#include <uv.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/err.h"

struct http;
struct req;
struct server; /* server/main.c: what all handlers share */

enum body_kind {
    BODY_NONE, /* a body is refused */
    BODY_JSON, /* read whole (at most JSON_TEXT_MAX), parsed strictly; any Content-Type or none,
                  so that `curl -d @job.json` works; multipart is refused */
    BODY_JSON_OR_TEXT, /* as BODY_JSON; but text/…: UTF-8 that req_json() gives as a string */
    BODY_JSON_OR_FILE, /* application/json: as BODY_JSON; anything else: as BODY_FILE */
    BODY_FILE          /* streamed to a temporary file while it is hashed (server/upload.c) */
};

struct route {
    const char *method;    /* "GET"; GET rows answer HEAD too */
    const char *pattern;   /* "/v1/jobs/{id}/events": a {name} takes one segment, percent-decoded
                              after the split; "{name...}" at the end takes the rest */
    const char *operation; /* operationId of api/openapi.yaml */
    enum body_kind body;
    void (*handle)(struct req *r);
};
/* Each api_*.c ends with its rows, closed by an empty one; routes.c lists the tables. */
extern const struct route *const route_tables[];

/* A finished upload. The file is removed with the reply unless upload_keep() took it before. */
struct upload {
    const char *path; /* in the data folder's tmp/, flushed to disk */
    char sha256[65];
    uint64_t size;
};

/* ---- the request ---- */
struct server *req_server(const struct req *r);
struct arena *req_arena(struct req *r); /* dies with the request */
const char *req_method(const struct req *r);
const char *req_path(const struct req *r);                     /* as sent, without the query */
const char *req_id(const struct req *r);                       /* X-Request-Id, given or made */
const char *req_param(const struct req *r, const char *name);  /* of the pattern; never NULL */
const char *req_query(const struct req *r, const char *name);  /* NULL if absent */
const char *req_header(const struct req *r, const char *name); /* NULL if absent */
/* Refuses every query parameter that is not among the n names: replies 422 and returns -1. */
int req_only_query(struct req *r, const char *const *names, size_t n);
const json_t *req_json(const struct req *r);          /* BODY_JSON; never NULL there */
const struct upload *req_upload(const struct req *r); /* NULL if the body was JSON */
/* The file is the caller's from now on, to be moved or removed. */
void upload_keep(struct req *r);
/* The file becomes the blob of its digest (server/blobs.h); then done, on the loop thread. */
void upload_to_blobs(struct req *r, void (*done)(struct req *r, const struct err *e));
/* The raw body's SHA-256 in hex (BODY_JSON), for Idempotency-Key. */
const char *req_body_sha256(const struct req *r);
void req_on_close(struct req *r, void (*fn)(struct req *r, void *ctx), void *ctx);
void req_set_ctx(struct req *r, void *ctx);
void *req_ctx(const struct req *r);
/* Seconds of `Prefer: wait=n`, 0 … max; -1 if absent. *ret_async: `Prefer: respond-async`. */
int req_prefer_wait(const struct req *r, int max, bool *ret_async);

/* ---- the reply ---- */
void reply_header(struct req *r, const char *name, const char *value); /* before the reply */
/* Takes the reference. Sets a strong ETag from `etag` when it is not NULL, and answers 304 when
 * If-None-Match has it. */
void reply_json(struct req *r, int status, json_t *body, const char *etag);
void reply_text(struct req *r, int status, const char *media_type, const char *text);
void reply_problem(struct req *r, const struct err *e); /* server/problem.c makes the body */
/* A file, with Range, ETag and If-None-Match, sent by sendfile; immutable: cached for ever. */
void reply_file(struct req *r, const char *path, const char *media_type, const char *etag,
                bool immutable, const char *download_name);
void reply_empty(struct req *r, int status);

/*
 * A stream: `more` is called when the client can take bytes: it adds some to out and returns
 * true, or adds none and returns true to be called again only after stream_wake(), or returns
 * false for the end (after what it added). `closed` is called once, last.
 */
struct stream; /* valid until `closed` is called */
struct stream *reply_stream(struct req *r, const char *media_type,
                            bool (*more)(void *ctx, struct buf *out), void (*closed)(void *ctx),
                            void *ctx);
void stream_wake(struct stream *s);

/* ---- the server's side ---- */
struct http_opts {
    const char *host; /* loopback addresses only, for now: anything else is refused */
    int port;         /* 0: any free one */
    const char *tmp_dir;
    uint64_t upload_max; /* bytes */
    int connections_max;
    /* Against slow clients: a request's headers must be in after header_deadline_ms; a body must
     * bring body_min_rate bytes/s over every idle_ms; a reader must take something, and a client
     * that keeps its connection must ask something, within idle_ms. 0: 4 s, 64 KiB/s, 30 s. */
    int header_deadline_ms, body_min_rate, idle_ms;
    const struct route *const *tables; /* NULL: route_tables */
};
int http_start(uv_loop_t *loop, struct server *s, const struct http_opts *o, struct http **ret,
               struct err *e);
int http_port(const struct http *h);
/* Stops accepting, ends streams, lets replies finish (at most deadline_ms), then calls done. Asked
 * again, it only takes the new deadline. */
void http_drain(struct http *h, int deadline_ms, void (*done)(void *ctx), void *ctx);
bool http_draining(const struct http *h);
/* Last of all, when nobody is left who might still reply to a request. */
void http_free(struct http *h);

#endif
