/* The service about itself. */
#include "server/http.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/json.h"
#include "server/blobs.h"
#include "server/db.h"
#include "server/metrics.h"
#include "server/server.h"

enum {
    METRICS_TEXT_MAX = 4 << 20,
    DISK_LOW = 256 << 20,
    LIST_ITEMS_MAX = 100,
    WRITES_WAITING_MAX = 10000
};

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

static int check_database(struct server *s, struct err *e)
{
    if (!s->db)
        return err_set(e, ERR_UNAVAILABLE, NULL, "The database is not open.");
    struct stmt *q = db_stmt(s->db, "SELECT 1", e);
    if (!q)
        return -1;
    int r = db_step(q, e);
    db_end(q);
    return r < 0 ? -1 : 0;
}

/* Writes that have waited long for their commit: the writer hangs, or the disk does. */
static int check_writer(struct server *s, struct err *e)
{
    struct db_stats st = {0};
    if (s->db)
        db_stats(s->db, &st);
    if (st.queued > WRITES_WAITING_MAX)
        return err_set(e, ERR_UNAVAILABLE, NULL, "%lld writes wait for the database.",
                       (long long)st.queued);
    return 0;
}

static const struct ready_check checks[] = {
    {"not_draining", check_drain},     {"disk", check_disk},
    {"data_folder", check_folder},     {"database", check_database},
    {"database_writer", check_writer}, {0}};

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

static void sample_build(struct gauge_out *out, void *ctx)
{
    (void)ctx;
    gauge_sample(out, 1, (const char *const[]){PTQ_VERSION});
}

static void sample_disk(struct gauge_out *out, void *ctx)
{
    struct server *s = ctx;
    struct statvfs fs;
    if (statvfs(s->data_dir, &fs) == 0)
        gauge_sample(out, (double)fs.f_bavail * (double)fs.f_frsize, NULL);
}

#define DB_SAMPLE(name, value)                                                                     \
    static void name(struct gauge_out *out, void *ctx)                                             \
    {                                                                                              \
        struct server *s = ctx;                                                                    \
        struct db_stats st;                                                                        \
        if (!s->db)                                                                                \
            return;                                                                                \
        db_stats(s->db, &st);                                                                      \
        gauge_sample(out, (double)(value), NULL);                                                  \
    }
DB_SAMPLE(sample_commits, st.commits)
DB_SAMPLE(sample_writes, st.writes)
DB_SAMPLE(sample_queued, st.queued)
DB_SAMPLE(sample_wal, st.wal_bytes)
DB_SAMPLE(sample_last_commit, (double)st.last_commit_us / 1e6)
DB_SAMPLE(sample_max_commit, (double)st.max_commit_us / 1e6)

static struct gauge gauges[] = {
    {"ptq_build_info", "The version that runs.", {"version"}, sample_build, NULL, NULL, NULL},
    {"ptq_disk_free_bytes", "Free on the data disk.", {0}, sample_disk, NULL, NULL, NULL},
    {"ptq_db_commits_total", "Commits.", {0}, sample_commits, NULL, "counter", NULL},
    {"ptq_db_writes_total", "Writes in them.", {0}, sample_writes, NULL, "counter", NULL},
    {"ptq_db_writes_waiting", "Writes that wait.", {0}, sample_queued, NULL, NULL, NULL},
    {"ptq_db_wal_bytes", "Size of the write-ahead log.", {0}, sample_wal, NULL, NULL, NULL},
    {"ptq_db_commit_seconds_last", "The last commit.", {0}, sample_last_commit, NULL, NULL, NULL},
    {"ptq_db_commit_seconds_max", "The longest commit.", {0}, sample_max_commit, NULL, NULL, NULL},
};

static void get_metrics(struct req *r)
{
    struct buf text;
    if (req_only_query(r, NULL, 0))
        return;
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++) {
        gauges[i].ctx = req_server(r);
        gauge_add(&gauges[i]);
    }
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
