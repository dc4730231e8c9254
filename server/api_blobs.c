/* /v1/blobs/sha256:<hex>: content by its digest, immutable. */
#include "server/http.h"

#include <string.h>

#include "common/sha256.h"
#include "server/blobs.h"
#include "server/server.h"

static const char *digest_param(struct req *r)
{
    const char *name = req_param(r, "digest");
    struct digest d;
    struct err e = ERR_INIT;
    if (!strncmp(name, "sha256:", 7) && digest_parse(name + 7, &d) == 0)
        return name + 7;
    err_set(&e, ERR_INVALID, NULL, "A blob's name is sha256: and 64 lower-case hex digits.");
    reply_problem(r, &e);
    return NULL;
}

static void get_blob(struct req *r)
{
    struct err e = ERR_INIT;
    if (req_only_query(r, NULL, 0))
        return;
    const char *hex = digest_param(r);
    if (!hex)
        return;
    struct blobs *b = req_server(r)->blobs;
    if (blobs_has(b, hex, NULL)) {
        reply_file(r, blobs_path(b, req_arena(r), hex), "application/octet-stream", hex, true,
                   NULL);
        return;
    }
    err_set(&e, ERR_NOT_FOUND, NULL, "There is no blob sha256:%s.", hex);
    reply_problem(r, &e);
}

static void on_stored(struct req *r, const struct err *e)
{
    if (e) {
        reply_problem(r, e);
        return;
    }
    const struct upload *u = req_upload(r);
    bool was_there = req_ctx(r) != NULL;
    json_t *body = json_object();
    json_object_set_new(body, "digest", json_sprintf("sha256:%s", u->sha256));
    json_object_set_new(body, "size_bytes", json_integer((json_int_t)u->size));
    if (!was_there)
        reply_header(r, "Location", req_path(r));
    reply_json(r, was_there ? 200 : 201, body, NULL);
}

static void put_blob(struct req *r)
{
    static char there;
    struct err e = ERR_INIT;
    if (req_only_query(r, NULL, 0))
        return;
    const char *hex = digest_param(r);
    if (!hex)
        return;
    const struct upload *u = req_upload(r);
    if (strcmp(hex, u->sha256)) {
        err_set(&e, ERR_DIGEST_MISMATCH, NULL, "The body's SHA-256 is %s.", u->sha256);
        reply_problem(r, &e);
        return;
    }
    if (blobs_has(req_server(r)->blobs, hex, NULL))
        req_set_ctx(r, &there);
    upload_to_blobs(r, on_stored);
}

extern const struct route api_blobs_routes[];
const struct route api_blobs_routes[] = {
    {"GET", "/v1/blobs/{digest}", "getBlob", BODY_NONE, get_blob},
    {"PUT", "/v1/blobs/{digest}", "putBlob", BODY_FILE, put_blob},
    {0}};
