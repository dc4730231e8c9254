/* The service about itself, and what its replies are made of. */
#include "tests/unit/http_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "server/db.h"
#include "server/metrics.h"
#include "server/problem.h"
#include "server/ulid.h"

#define HOST "Host: localhost\r\n"

static struct reply get(struct kit *k, const char *path)
{
    return kit_ask(k, "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
}

void test_http_meta__health_needs_nothing_and_readiness_names_what_fails(void)
{
    struct kit k;
    struct err e = ERR_INIT;
    kit_init(&k);
    kit_start(&k);
    CHECK_STR(get(&k, "/healthz").body, "{\"status\":\"ok\"}\n");
    struct reply r = get(&k, "/readyz");
    CHECK_INT(r.status, 503);
    CHECK(strstr(r.body, "{\"detail\":\"The database is not open.\",\"name\":\"database\","
                         "\"ok\":false}") != NULL);
    CHECK(strstr(r.body, "{\"detail\":null,\"name\":\"disk\",\"ok\":true}") != NULL);
    CHECK_OK(db_open(&k.loop, test_path("db.sqlite"), &k.server.db, &e), e);
    r = get(&k, "/readyz");
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body, "\"ready\":true") != NULL);
    k.server.draining = true;
    CHECK_INT(get(&k, "/readyz").status, 503);
    CHECK_INT(get(&k, "/healthz").status, 200);
    db_close(k.server.db);
    k.server.db = NULL;
    kit_stop(&k);
}

void test_http_meta__metrics_count_by_route_and_never_by_path(void)
{
    struct kit k;
    kit_init(&k);
    kit_start(&k);
    get(&k, "/v1/version");
    get(&k, "/secret-name");
    get(&k, "/v1/blobs/sha256:secret-name");
    struct reply r = get(&k, "/metrics");
    CHECK_INT(r.status, 200);
    CHECK_STR(reply_value(&r, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    CHECK(strstr(r.body, "ptq_http_requests_total{route=\"/v1/version\",method=\"GET\","
                         "code=\"200\"} 1\n") != NULL);
    CHECK(strstr(r.body, "{route=\"none\",method=\"GET\",code=\"404\"} 1\n") != NULL);
    CHECK(strstr(r.body, "{route=\"/v1/blobs/{digest}\",method=\"GET\",code=\"422\"} 1\n") != NULL);
    CHECK(strstr(r.body, "ptq_http_connections 1\n") != NULL);
    CHECK(strstr(r.body, "ptq_build_info{version=\"" PTQ_VERSION "\"} 1\n") != NULL);
    CHECK(strstr(r.body, "secret") == NULL);
    kit_stop(&k);
}

void test_http_meta__the_document_and_the_root_are_served(void)
{
    struct kit k;
    kit_init(&k);
    kit_start(&k);
    struct reply r = get(&k, "/v1/openapi.json");
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body, "\"openapi\":\"3.1.0\"") != NULL);
    r = get(&k, "/");
    CHECK_INT(r.status, 200);
    CHECK_STR(reply_value(&r, "Link"), "</v1/openapi.json>; rel=\"service-desc\"");
    CHECK_INT(get(&k, "/v1/version?x=1").status, 422);
    CHECK_INT(get(&k, "/v1/version?").status, 200);
    kit_stop(&k);
}

/* ---- limits of the process ---- */

/* On a file system of 8 MiB, which goes with the test's own mount space. */
void test_http_meta__a_full_disk_is_507_before_the_body(void)
{
    struct kit k;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", test_dir(), "tmpfs", 0, "size=8m"))
        SKIP("file systems cannot be mounted here");
    kit_init(&k);
    kit_start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd,
             "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST
             "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n");
    struct reply r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 507);
    CHECK(strstr(r.body, "/problems/disk-full") != NULL);
    struct reply ready = get(&k, "/readyz");
    CHECK_INT(ready.status, 503);
    CHECK(strstr(ready.body, "\"name\":\"disk\",\"ok\":false") != NULL);
    close(fd);
    kit_stop(&k);
}

void test_http_meta__few_files_limit_the_connections_not_the_service(void)
{
    enum { N = 60 };
    struct kit k;
    int fd[N];
    kit_init(&k);
    struct rlimit few = {300, 300};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    k.opts.connections_max = 1000;
    k.opts.header_deadline_ms = 300;
    kit_start(&k);
    for (int i = 0; i < N; i++)
        fd[i] = kit_connect(&k);
    CHECK_INT(get(&k, "/healthz").status, 200);
    for (int i = 0; i < N; i++)
        close(fd[i]);
    kit_stop(&k);
}

void test_http_meta__a_write_that_fails_in_mid_body_is_told(void)
{
    struct kit k;
    struct rlimit small = {1 << 20, 1 << 20};
    char *data = calloc(1, 4 << 20);
    kit_init(&k);
    kit_start(&k);
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Content-Length: 4194304\r\n\r\n");
    kit_send(&k, fd, data, 4 << 20);
    struct reply r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 500);
    CHECK(strstr(r.body, "/problems/io") != NULL);
    close(fd);
    free(data);
    kit_stop(&k);
}

/* ---- parts ---- */

void test_ulid__ids_sort_in_the_order_made(void)
{
    char last[ULID_SIZE] = "", id[ULID_SIZE];
    for (int i = 0; i < 10000; i++) {
        ulid_make(id);
        CHECK_INT(strlen(id), 26);
        CHECK_INT(strspn(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"), 26);
        CHECK(strcmp(id, last) > 0);
        memcpy(last, id, sizeof id);
    }
}

void test_problem__a_pointer_is_listed_and_a_node_name_is_not(void)
{
    struct err e = ERR_INIT, node = ERR_INIT;
    err_set(&e, ERR_INVALID, "/options/samples", "%s", "Must be \xff 1 or more.");
    json_t *p = problem_json(&e, "/v1/jobs", "id");
    json_t *first = json_array_get(json_object_get(p, "errors"), 0);
    CHECK_STR(json_string_value(json_object_get(first, "pointer")), "/options/samples");
    CHECK_STR(json_string_value(json_object_get(first, "code")), "invalid");
    CHECK_STR(json_string_value(json_object_get(p, "detail")), "Must be ? 1 or more.");
    CHECK_INT(json_integer_value(json_object_get(p, "status")), 422);
    json_decref(p);
    err_set(&node, ERR_BAD_MODEL, "/layer1/Conv", "No weight.");
    p = problem_json(&node, "/v1/models/m", NULL);
    CHECK(json_object_get(p, "errors") == NULL);
    CHECK(json_is_null(json_object_get(p, "request_id")));
    json_decref(p);
}

static void sample_two(struct gauge_out *out, void *ctx)
{
    (void)ctx;
    gauge_sample(out, 1.5, (const char *const[]){"a\"b\\c\nd"});
    gauge_sample(out, -2, (const char *const[]){"z"});
}

void test_server_metrics__the_text_has_cumulative_buckets_and_escaped_labels(void)
{
    static struct metric count = {.name = "c_total", .help = "C.", .labels = {"k"}};
    static struct metric times = {.name = "t_seconds", .help = "T.", .buckets = {0.5, 1}};
    static struct gauge g = {.name = "g", .help = "G.", .labels = {"k"}, .fn = sample_two};
    struct buf b;
    metric_add(&count, 2, (const char *const[]){"x"});
    metric_add(&count, 1, (const char *const[]){"x"});
    metric_observe(&times, 0.1, NULL);
    metric_observe(&times, 0.75, NULL);
    metric_observe(&times, 7, NULL);
    gauge_add(&g);
    buf_init(&b, 100000);
    metrics_text(&b);
    CHECK(strstr(b.data, "# HELP c_total C.\n# TYPE c_total counter\nc_total{k=\"x\"} 3\n") !=
          NULL);
    CHECK(strstr(b.data,
                 "# TYPE t_seconds histogram\nt_seconds_bucket{le=\"0.5\"} 1\n"
                 "t_seconds_bucket{le=\"1\"} 2\nt_seconds_bucket{le=\"+Inf\"} 3\n") != NULL);
    CHECK(strstr(b.data, "t_seconds_count 3\n") != NULL);
    CHECK(strstr(b.data, "# TYPE g gauge\ng{k=\"a\\\"b\\\\c\\nd\"} 1.5\ng{k=\"z\"} -2\n") != NULL);
    gauge_remove(&g);
    buf_clear(&b);
    metrics_text(&b);
    CHECK(strstr(b.data, "g{") == NULL);
    buf_done(&b);
}
