#include "server/http_priv.h"

#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>

#include "common/json.h"
#include "common/sha256.h"

enum { DISK_RESERVE = 64 << 20 }; /* bytes left for the database when uploads fill the disk */

static bool is_json_type(const char *type)
{
    size_t n = type ? strcspn(type, "; \t") : 0;
    return (n == 16 && !strncasecmp(type, "application/json", n)) ||
           (n > 5 && !strncasecmp(type + n - 5, "+json", 5));
}

/* Text that is not JSON, where the route takes that too. */
static bool is_text(const struct req *r)
{
    const char *type = req_header(r, "Content-Type");
    return r->route->body == BODY_JSON_OR_TEXT && type && !strncasecmp(type, "text/", 5);
}

static int check_type(struct req *r, struct err *e)
{
    const char *type = req_header(r, "Content-Type"), *coding = req_header(r, "Content-Encoding");
    if (coding && strcasecmp(coding, "identity"))
        return err_set(e, ERR_MEDIA_TYPE, NULL, "Content-Encoding is not read: send plain bytes.");
    if (type && !strncasecmp(type, "multipart/", 10))
        return err_set(e, ERR_MEDIA_TYPE, NULL,
                       "Multipart forms are not read: send the file itself as the body.");
    r->to_file =
        r->route->body == BODY_FILE || (r->route->body == BODY_JSON_OR_FILE && !is_json_type(type));
    return 0;
}

static int check_room(const struct req *r, struct err *e)
{
    struct statvfs fs;
    uint64_t want = r->length == UINT64_MAX ? 0 : r->length;
    if (statvfs(r->http->opts.tmp_dir, &fs))
        return err_errno(e, NULL, "The disk's free space cannot be told");
    if ((uint64_t)fs.f_bavail * fs.f_frsize < want + DISK_RESERVE)
        return err_set(e, ERR_DISK_FULL, NULL, "The disk has no room for %llu bytes more.",
                       (unsigned long long)want);
    return 0;
}

static void on_room(void *ctx)
{
    struct req *r = ctx;
    if (r->conn)
        conn_resume(r->conn);
}

static void on_upload_done(void *ctx);

static int sink_begin(struct req *r, struct err *e)
{
    const struct http_opts *o = &r->http->opts;
    if (upload_count() >= HTTP_UPLOADS_MAX)
        return err_set(e, ERR_UNAVAILABLE, NULL, "%d uploads run already.", HTTP_UPLOADS_MAX);
    if (check_room(r, e))
        return -1;
    struct upload_events events = {on_room, on_upload_done, r};
    r->sink = upload_new(r->http->loop, o->tmp_dir, o->upload_max, r->length, &events, e);
    return r->sink ? 0 : -1;
}

int body_begin(struct req *r, struct err *e)
{
    if (r->route->body == BODY_NONE && r->has_body)
        return err_set(e, ERR_BAD_REQUEST, NULL, "This request takes no body.");
    if (r->route->body == BODY_NONE)
        return 0;
    if (check_type(r, e) || check_digest_headers(r, e))
        return -1;
    uint64_t max = r->to_file ? r->http->opts.upload_max : JSON_TEXT_MAX;
    if (r->length != UINT64_MAX && r->length > max)
        return err_set(e, ERR_TOO_LARGE, NULL,
                       "The body of %llu bytes is larger than the limit of %llu.",
                       (unsigned long long)r->length, (unsigned long long)max);
    if (r->to_file)
        return sink_begin(r, e);
    buf_init(&r->text, JSON_TEXT_MAX);
    return 0;
}

static void refuse(struct req *r, enum err_code code, const char *why)
{
    struct err e = ERR_INIT;
    err_set(&e, code, NULL, "%s", why);
    request_refuse_body(r, &e);
}

static void file_part(struct req *r, const char *data, size_t *size)
{
    struct err e = ERR_INIT;
    int64_t n = upload_write(r->sink, data, *size);
    if (n >= 0) {
        *size -= (size_t)n;
        if (*size)
            conn_suspend(r->conn);
        return;
    }
    if (upload_error(r->sink))
        e = *upload_error(r->sink);
    else
        err_set(&e, ERR_TOO_LARGE, NULL, "The body is larger than the limit of %llu bytes.",
                (unsigned long long)r->http->opts.upload_max);
    *size = 0;
    request_refuse_body(r, &e);
}

static void text_part(struct req *r, const char *data, size_t size)
{
    if (buf_add(&r->text, data, size)) {
        refuse(r, ERR_TOO_LARGE, "The body is larger than JSON texts may be.");
        return;
    }
    r->text_counted += size;
    r->http->text_bytes += size;
    if (r->http->text_bytes > HTTP_TEXT_BYTES_MAX)
        refuse(r, ERR_UNAVAILABLE, "Too many large requests come in at the same time.");
}

enum MHD_Result body_part(struct req *r, const char *data, size_t *size)
{
    if (r->conn->phase != CONN_BODY) {
        *size = 0; /* answered already */
        return MHD_YES;
    }
    size_t before = *size;
    if (r->sink) {
        file_part(r, data, size);
    } else {
        text_part(r, data, *size);
        *size = 0;
    }
    r->received += before - *size;
    return MHD_YES;
}

void body_forget_text(struct req *r)
{
    r->http->text_bytes -= r->text_counted;
    r->text_counted = 0;
    buf_done(&r->text);
}

/* ---- the whole body is in ---- */

void request_dispatch(struct req *r)
{
    r->route->handle(r);
}

static bool digest_refused(struct req *r, const char *sha256)
{
    struct err e = ERR_INIT;
    if (!r->want_sha256[0] || !strcmp(r->want_sha256, sha256))
        return false;
    err_set(&e, ERR_DIGEST_MISMATCH, NULL, "The body's SHA-256 is %s, not %s.", sha256,
            r->want_sha256);
    reply_problem(r, &e);
    return true;
}

static void on_upload_done(void *ctx)
{
    struct req *r = ctx;
    const struct err *bad = upload_error(r->sink);
    if (!r->conn) { /* the client has gone in between: there is nobody to act for */
        req_bury(r);
        return;
    }
    if (bad)
        reply_problem(r, bad);
    else if (!digest_refused(r, upload_result(r->sink)->sha256))
        request_dispatch(r);
}

static void text_end(struct req *r)
{
    struct err e = ERR_INIT;
    struct digest d;
    const char *text = r->text.len ? r->text.data : "";
    sha256_of(text, r->text.len, &d);
    digest_hex(&d, r->text_sha256);
    if (digest_refused(r, r->text_sha256))
        return;
    r->json = is_text(r) ? json_stringn(text, r->text.len) : json_parse(text, r->text.len, &e);
    if (!r->json)
        err_set(&e, ERR_BAD_REQUEST, NULL, "The body is not UTF-8.");
    body_forget_text(r);
    if (r->json)
        request_dispatch(r);
    else
        reply_problem(r, &e);
}

void body_end(struct req *r)
{
    if (r->sink)
        upload_finish(r->sink);
    else if (r->route->body == BODY_NONE)
        request_dispatch(r);
    else
        text_end(r);
}
