/* The service about itself. */
#include "server/http.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/json.h"
#include "server/blobs.h"
#include "server/metrics.h"
#include "server/server.h"

enum { METRICS_TEXT_MAX = 4 << 20, DISK_LOW = 256 << 20, LIST_ITEMS_MAX = 100 };

extern const char openapi_json[];

/* ---- /healthz, /readyz ---- */

static void get_health(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        reply_json(r, 200, json_pack("{s:s}", "status", "ok"), NULL);
}

static int check_drain(struct server *s, struct err *e)
{
    return s->draining ? err_set(e, ERR_UNAVAILABLE, NULL, "The service is shutting down.") : 0;
}

static int check_disk(struct server *s, struct err *e)
{
    struct statvfs fs;
    if (statvfs(s->data_dir, &fs))
        return err_errno(e, NULL, "The disk's free space cannot be told");
    if ((uint64_t)fs.f_bavail * fs.f_frsize < DISK_LOW)
        return err_set(e, ERR_DISK_FULL, NULL, "Less than %d MiB are free on the data disk.",
                       DISK_LOW >> 20);
    return 0;
}

static int check_folder(struct server *s, struct err *e)
{
    if (access(blobs_tmp_dir(s->blobs), W_OK | X_OK))
        return err_errno(e, NULL, "The data folder cannot be written");
    return 0;
}

static const struct ready_check checks[] = {
    {"not_draining", check_drain}, {"disk", check_disk}, {"data_folder", check_folder}, {0}};

static void get_ready(struct req *r)
{
    if (req_only_query(r, NULL, 0))
        return;
    json_t *all = json_array();
    bool ready = true;
    for (const struct ready_check *c = checks; c->name; c++) {
        struct err e = ERR_INIT;
        bool ok = c->check(req_server(r), &e) == 0;
        ready = ready && ok;
        json_array_append_new(all, json_pack("{s:s,s:b,s:s?}", "name", c->name, "ok", ok, "detail",
                                             ok ? NULL : e.detail));
    }
    reply_header(r, "Cache-Control", "no-store");
    reply_json(r, ready ? 200 : 503, json_pack("{s:b,s:o}", "ready", ready, "checks", all), NULL);
}

/* ---- /metrics ---- */

static void get_metrics(struct req *r)
{
    struct buf text;
    if (req_only_query(r, NULL, 0))
        return;
    buf_init(&text, METRICS_TEXT_MAX);
    metrics_text(&text);
    reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text.len ? text.data : "");
    buf_done(&text);
}

/* ---- the rest ---- */

static void get_version(struct req *r)
{
    if (req_only_query(r, NULL, 0))
        return;
    json_t *limits =
        json_pack("{s:I,s:i,s:i}", "upload_bytes", (json_int_t)req_server(r)->upload_max,
                  "json_bytes", JSON_TEXT_MAX, "list_items", LIST_ITEMS_MAX);
    reply_json(r, 200,
               json_pack("{s:s,s:s,s:s,s:o}", "name", "ptqd", "version", PTQ_VERSION, "api", "v1",
                         "limits", limits),
               NULL);
}

static void get_openapi(struct req *r)
{
    if (req_only_query(r, NULL, 0) == 0)
        reply_json(r, 200, json_loads(openapi_json, 0, NULL), NULL);
}

static void get_root(struct req *r)
{
    if (req_only_query(r, NULL, 0))
        return;
    reply_header(r, "Link", "</v1/openapi.json>; rel=\"service-desc\"");
    json_t *links =
        json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "openapi", "/v1/openapi.json", "models",
                  "/v1/models", "datasets", "/v1/datasets", "jobs", "/v1/jobs", "version",
                  "/v1/version", "ready", "/readyz", "metrics", "/metrics");
    reply_json(r, 200,
               json_pack("{s:s,s:s,s:s,s:o}", "name", "ptqd", "version", PTQ_VERSION, "about",
                         "Quantizes ONNX models by calibration and measures what it costs: PUT a "
                         "model, PUT data, POST a job. The whole API is in /v1/openapi.json.",
                         "links", links),
               NULL);
}

extern const struct route api_meta_routes[];
const struct route api_meta_routes[] = {
    {"GET", "/", "getRoot", BODY_NONE, get_root},
    {"GET", "/healthz", "getHealth", BODY_NONE, get_health},
    {"GET", "/readyz", "getReadiness", BODY_NONE, get_ready},
    {"GET", "/metrics", "getMetrics", BODY_NONE, get_metrics},
    {"GET", "/v1/version", "getVersion", BODY_NONE, get_version},
    {"GET", "/v1/openapi.json", "getOpenapi", BODY_NONE, get_openapi},
    {0}};
