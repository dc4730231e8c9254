/* The daemon as a whole, with a worker that fails in every way there is. */
#include "tests/unit/service.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

static json_t *job_field(const char *job, const char *key)
{
    struct answer a = get(text("/v1/jobs/%s", job));
    CHECK_INT(a.status, 200);
    return json_object_get(a.json, key);
}

static const char *error_type(const char *job)
{
    const char *type = json_string_value(json_object_get(job_field(job, "error"), "type"));
    return type ? type : "";
}

static int attempts(const char *job)
{
    return (int)json_integer_value(job_field(job, "attempt"));
}

static int count(const char *text_of, const char *what)
{
    int n = 0;
    for (const char *p = text_of; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

static int files_in(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    CHECK(d != NULL);
    for (struct dirent *f; (f = readdir(d));)
        n += *f->d_name != '.';
    closedir(d);
    return n;
}

void test_service__a_job_runs_from_its_post_to_its_result(void)
{
    service_start(2);
    service_fill();
    const char *job = submit("calibrate", "ok");
    CHECK_STR(wait_end(job), "succeeded");
    struct answer r = get(text("/v1/jobs/%s/results", job));
    CHECK_INT(r.status, 200);
    CHECK(has_header(&r, "immutable"));
    const char *calibrated = field(&r, "calibrated_model_id");
    struct answer m = get(text("/v1/models/%s", calibrated));
    CHECK_INT(m.status, 200);
    CHECK_STR(field(&m, "state"), "ready");
    struct answer list = get(text("/v1/jobs/%s/artifacts", job));
    CHECK_INT(json_array_size(json_object_get(list.json, "items")), 2);
    struct answer part =
        ask("GET", text("/v1/jobs/%s/artifacts/notes.txt", job), "Range: bytes=1-3\r\n", NULL);
    CHECK_INT(part.status, 206);
    CHECK_STR(part.body, "ell");
    CHECK_STR(json_string_value(job_field(job, "engine")), "fake-1");
    const json_t *cache = job_field(job, "cache");
    CHECK_INT(json_integer_value(json_object_get(cache, "misses")), 20);
    service_stop();
    CHECK_INT(files_in(test_path("data/work")), 0);
}

void test_service__an_equal_job_finds_the_tasks_of_the_first(void)
{
    service_start(1);
    service_fill();
    CHECK_STR(wait_end(submit("calibrate", "ok")), "succeeded");
    const char *second = submit("evaluate", "ok");
    CHECK_STR(wait_end(second), "succeeded");
    const json_t *cache = job_field(second, "cache");
    CHECK_INT(json_integer_value(json_object_get(cache, "misses")), 0);
    CHECK_INT(json_integer_value(json_object_get(cache, "hits")), 20);
    service_stop();
}

/* ---- workers that fail ---- */

static void check_failure(const char *how, const char *type, int n_attempts)
{
    service_start(2);
    service_fill();
    const char *job = submit("calibrate", how);
    CHECK_STR(wait_end(job), "failed");
    CHECK_STR(error_type(job), type);
    CHECK_INT(attempts(job), n_attempts);
    struct answer r = get(text("/v1/jobs/%s/results", job));
    CHECK_INT(r.status, 409);
    struct answer events = get(text("/v1/jobs/%s/events", job));
    CHECK_INT(count(events.body, "\"type\":\"done\""), 1);
    CHECK_INT(get("/healthz").status, 200);
    service_stop();
}

void test_service__the_same_crash_twice_is_the_model_s_own_fault(void)
{
    check_failure("aborted", "/problems/worker-crash", 2);
}

void test_service__a_crash_in_mid_frame_is_one_too(void)
{
    check_failure("torn", "/problems/worker-crash", 2);
}

void test_service__a_worker_lost_again_and_again_is_given_up(void)
{
    check_failure("killed", "/problems/worker-lost", 5);
}

void test_service__garbage_is_given_up(void)
{
    check_failure("garbage", "/problems/worker-protocol", 5);
}

void test_service__an_end_without_a_result_is_given_up(void)
{
    check_failure("silent", "/problems/worker-protocol", 5);
}

void test_service__a_length_over_the_limit_is_given_up(void)
{
    check_failure("too-long", "/problems/worker-protocol", 5);
}

void test_service__a_file_outside_of_the_folder_is_refused(void)
{
    check_failure("liar", "/problems/worker-protocol", 5);
}

void test_service__out_of_memory_fails_at_once(void)
{
    check_failure("out-of-memory", "/problems/memory-limit", 1);
}

void test_service__a_failure_by_its_own_account_fails_at_once(void)
{
    check_failure("failing", "/problems/unsupported", 1);
}

void test_service__a_crash_after_progress_is_resumed_to_the_same_end(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "segv-once");
    CHECK_STR(wait_end(job), "succeeded");
    CHECK_INT(attempts(job), 2);
    struct answer events = get(text("/v1/jobs/%s/events", job));
    CHECK_INT(count(events.body, "\"type\":\"node_result\""), 20); /* each of them once */
    struct answer r = get(text("/v1/jobs/%s/results", job));
    CHECK_INT(json_integer_value(json_object_get(r.json, "recorded")), 10);
    service_stop();
}

/* ---- cancel ---- */

static void wait_state(const char *job, const char *state)
{
    for (;;) {
        const char *now = json_string_value(job_field(job, "state"));
        if (!strcmp(now, state))
            return;
        usleep(5000);
    }
}

void test_service__cancelling_lasts_until_the_worker_is_reaped(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "deaf");
    wait_state(job, "running");
    while (access(test_path("data/work/%s/pid", job), F_OK))
        usleep(2000);
    int pid = atoi(test_read(test_path("data/work/%s/pid", job), NULL));
    struct answer a = ask("POST", text("/v1/jobs/%s:cancel", job), NULL, NULL);
    CHECK_INT(a.status, 202);
    CHECK_STR(field(&a, "state"), "cancelling");
    CHECK_INT(kill(pid, 0), 0);
    CHECK_STR(wait_end(job), "cancelled");
    CHECK(kill(pid, 0) != 0);
    CHECK_INT(ask("POST", text("/v1/jobs/%s:cancel", job), NULL, NULL).status, 200);
    service_stop();
}

void test_service__a_queued_job_is_cancelled_at_once_and_retried_as_a_new_one(void)
{
    service_start(1);
    service_fill();
    const char *busy = submit("calibrate", "slow"), *job = submit("calibrate", "ok");
    wait_state(busy, "running");
    struct answer a = ask("POST", text("/v1/jobs/%s:cancel", job), NULL, NULL);
    CHECK_INT(a.status, 202);
    CHECK_STR(field(&a, "state"), "cancelled");
    struct answer again = ask("POST", text("/v1/jobs/%s:retry", job), NULL, NULL);
    CHECK_INT(again.status, 202);
    CHECK_STR(field(&again, "retry_of"), job);
    ask("POST", text("/v1/jobs/%s:cancel", busy), NULL, NULL);
    CHECK_STR(wait_end(busy), "cancelled");
    CHECK_STR(wait_end(field(&again, "id")), "succeeded");
    service_stop();
}

/* ---- idempotency ---- */

enum { POSTS = 50 };
static char *post_body;
static struct answer posts[POSTS];

static void *post(void *i)
{
    posts[(intptr_t)i] = ask("POST", "/v1/jobs", "Idempotency-Key: one\r\n", post_body);
    return NULL;
}

void test_service__fifty_equal_posts_at_once_make_one_job(void)
{
    service_start(1);
    service_fill();
    post_body =
        text("{\"kind\":\"calibrate\",\"model\":\"%s\",\"data\":\"%s\"}", model_id, data_id);
    pthread_t threads[POSTS];
    for (intptr_t i = 0; i < POSTS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, post, (void *)i), 0);
    for (int i = 0; i < POSTS; i++)
        pthread_join(threads[i], NULL);
    int first_ones = 0;
    for (int i = 0; i < POSTS; i++) {
        CHECK_INT(posts[i].status, 202);
        CHECK_STR(field(&posts[i], "id"), field(&posts[0], "id"));
        first_ones += !has_header(&posts[i], "Idempotent-Replayed: true");
    }
    CHECK_INT(first_ones, 1);
    CHECK_INT(json_array_size(json_object_get(get("/v1/jobs").json, "items")), 1);
    struct answer other =
        ask("POST", "/v1/jobs", "Idempotency-Key: one\r\n", text("%s ", post_body));
    CHECK_INT(other.status, 422);
    CHECK_STR(field(&other, "type"), "/problems/idempotency-mismatch");
    service_stop();
}

void test_service__an_existing_job_is_given_to_who_prefers_it(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "ok");
    char *body = text("{\"kind\":\"calibrate\",\"model\":\"%s\",\"data\":\"%s\",\"quant_config\":"
                      "{\"fake\":\"ok\"}}",
                      model_id, data_id);
    struct answer same = ask("POST", "/v1/jobs", "Prefer: return=existing\r\n", body);
    CHECK_INT(same.status, 200);
    CHECK_STR(field(&same, "id"), job);
    struct answer fresh = ask("POST", "/v1/jobs", NULL, body);
    CHECK_INT(fresh.status, 202);
    CHECK(strcmp(field(&fresh, "id"), job) != 0);
    wait_end(job);
    wait_end(field(&fresh, "id"));
    service_stop();
}

/* ---- streams ---- */

/* All rows by reconnecting after every few of them. */
static char *by_pieces(const char *job, int rows)
{
    char *all = text("%s", "");
    long long seq = 0;
    for (;;) {
        struct answer a = get(text("/v1/jobs/%s/events?follow=false&after=%lld", job, seq));
        CHECK_INT(a.status, 200);
        char *line = a.body, *end;
        int n = 0;
        for (; n < rows && (end = strchr(line, '\n')); n++, line = end + 1) {
            CHECK_INT(sscanf(line, "{\"seq\":%lld,", &seq), 1);
            all = text("%s%.*s\n", all, (int)(end - line), line);
        }
        if (!n)
            return all;
    }
}

void test_service__a_stream_in_pieces_is_the_stream_in_one(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "ok");
    struct answer live = get(text("/v1/jobs/%s/events", job)); /* from the queue to the end */
    struct answer late = get(text("/v1/jobs/%s/events", job));
    CHECK_STR(live.body, late.body);
    CHECK_STR(by_pieces(job, 7), late.body);
    CHECK(count(late.body, "\n") >= 25);
    CHECK(strstr(strrchr(late.body, '{') - 120, "\"type\":\"done\"") != NULL);
    struct answer sse =
        ask("GET", text("/v1/jobs/%s/events", job), "Accept: text/event-stream\r\n", NULL);
    CHECK(has_header(&sse, "text/event-stream"));
    CHECK_INT(count(sse.body, "\nevent: "), count(late.body, "\n"));
    service_stop();
}

void test_service__one_stream_carries_several_jobs(void)
{
    service_start(2);
    service_fill();
    const char *a = submit("calibrate", "ok"), *b = submit("evaluate", "ok");
    struct answer both = get(text("/v1/events?jobs=%s,%s", a, b));
    CHECK_INT(both.status, 200);
    CHECK_INT(count(both.body, "\"type\":\"done\""), 2);
    CHECK_INT(count(both.body, "\"type\":\"node_result\""), 40);
    long long last = 0, seq;
    for (char *line = both.body; *line; line = strchr(line, '\n') + 1) {
        CHECK_INT(sscanf(line, "{\"seq\":%lld,", &seq), 1);
        CHECK(seq > last);
        last = seq;
    }
    service_stop();
}

enum { LISTENERS = 100 };
static struct answer heard[LISTENERS];
static const char *heard_job;

static void *listen_in(void *i)
{
    heard[(intptr_t)i] = get(text("/v1/jobs/%s/events", heard_job));
    return NULL;
}

void test_service__a_hundred_listeners_hear_every_row(void)
{
    service_start(1);
    service_fill();
    pthread_t threads[LISTENERS];
    const char *first = submit("calibrate", "slow");
    heard_job = submit("evaluate", "ok");
    for (intptr_t i = 0; i < LISTENERS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, listen_in, (void *)i), 0);
    ask("POST", text("/v1/jobs/%s:cancel", first), NULL, NULL);
    for (int i = 0; i < LISTENERS; i++)
        pthread_join(threads[i], NULL);
    struct answer all = get(text("/v1/jobs/%s/events", heard_job));
    for (int i = 0; i < LISTENERS; i++)
        CHECK_STR(heard[i].body, all.body);
    service_stop();
}

/* ---- uploads ---- */

void test_service__a_refused_upload_leaves_nothing_behind(void)
{
    service_start(1);
    struct answer a = ask("PUT", "/v1/models", NULL, "bad model");
    CHECK_INT(a.status, 422);
    CHECK_STR(field(&a, "type"), "/problems/bad-model");
    CHECK_INT(json_array_size(json_object_get(get("/v1/models").json, "items")), 0);
    service_stop();
    CHECK_INT(files_in(test_path("data/blobs")), 0);
    CHECK_INT(files_in(test_path("data/tmp")), 0);
    CHECK_INT(files_in(test_path("data/work")), 0);
}

void test_service__the_same_content_is_the_same_model(void)
{
    service_start(1);
    struct answer a = ask("PUT", "/v1/models?name=x", NULL, "good model");
    CHECK_INT(a.status, 201);
    CHECK_STR(field(&a, "state"), "ready");
    struct answer b = ask("POST", "/v1/models", NULL, "good model");
    CHECK_INT(b.status, 200);
    CHECK_STR(field(&b, "id"), field(&a, "id"));
    CHECK_STR(field(&b, "name"), "x");
    struct answer content = get(text("/v1/models/%s/content", field(&a, "id")));
    CHECK_STR(content.body, "good model");
    service_stop();
}

void test_service__who_does_not_wait_finds_the_outcome_later(void)
{
    service_start(1);
    struct answer a = ask("PUT", "/v1/models", "Prefer: respond-async\r\n", "bad model");
    CHECK_INT(a.status, 201);
    char *path = text("/v1/models/%s", field(&a, "id"));
    for (;;) {
        a = get(path);
        CHECK_INT(a.status, 200);
        if (strcmp(field(&a, "state"), "inspecting"))
            break;
        usleep(5000);
    }
    CHECK_STR(field(&a, "state"), "invalid");
    CHECK(json_is_object(json_object_get(a.json, "error")));
    CHECK_INT(ask("DELETE", path, NULL, NULL).status, 204);
    CHECK_INT(get(path).status, 404);
    service_stop();
}

void test_service__what_a_job_uses_is_not_deleted(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "slow");
    CHECK_INT(ask("DELETE", text("/v1/models/%s", model_id), NULL, NULL).status, 409);
    CHECK_INT(ask("DELETE", text("/v1/datasets/%s", data_id), NULL, NULL).status, 409);
    CHECK_INT(ask("DELETE", text("/v1/jobs/%s", job), NULL, NULL).status, 409);
    ask("POST", text("/v1/jobs/%s:cancel", job), NULL, NULL);
    CHECK_STR(wait_end(job), "cancelled");
    CHECK_INT(ask("DELETE", text("/v1/jobs/%s", job), NULL, NULL).status, 204);
    CHECK_INT(ask("DELETE", text("/v1/models/%s", model_id), NULL, NULL).status, 204);
    CHECK_INT(ask("DELETE", text("/v1/datasets/%s", data_id), NULL, NULL).status, 204);
    service_stop();
}

/* ---- lists and changes ---- */

void test_service__pages_of_a_list_are_the_whole_list_once(void)
{
    service_start(1);
    service_fill();
    submit("calibrate", "slow");
    for (int i = 0; i < 6; i++)
        submit("calibrate", "ok");
    char *after = text("%s", ""), *seen = text("%s", "");
    int n = 0, pages = 0;
    for (;; pages++) {
        struct answer a = get(text("/v1/jobs?limit=3%s", after));
        CHECK_INT(a.status, 200);
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(a.json, "items"), i, item)
        {
            const char *id = json_string_value(json_object_get(item, "id"));
            CHECK(!strstr(seen, id));
            seen = text("%s %s", seen, id);
            n++;
        }
        if (json_is_null(json_object_get(a.json, "next")))
            break;
        after = text("&after=%s", field(&a, "next"));
    }
    CHECK_INT(n, 7);
    CHECK_INT(pages, 2);
    CHECK_INT(get("/v1/jobs?limit=0").status, 422);
    CHECK_INT(get("/v1/jobs?state=nonsense").status, 422);
    service_stop();
}

void test_service__a_patch_needs_the_etag_of_what_it_changes(void)
{
    service_start(1);
    service_fill();
    submit("calibrate", "slow");
    const char *job = submit("calibrate", "ok");
    char *path = text("/v1/jobs/%s", job), *body = text("{\"labels\":{\"a\":\"b\"}}");
    CHECK_INT(ask("PATCH", path, NULL, body).status, 428);
    CHECK_INT(ask("PATCH", path, "If-Match: \"x\"\r\n", body).status, 412);
    struct answer a = get(path);
    char *etag = strcasestr(a.head, "etag: ") + 6;
    etag = text("If-Match: %.*s\r\n", (int)strcspn(etag, "\r\n"), etag);
    struct answer b = ask("PATCH", path, etag, body);
    CHECK_INT(b.status, 200);
    CHECK_STR(json_string_value(json_object_get(json_object_get(b.json, "labels"), "a")), "b");
    CHECK_INT(ask("PATCH", path, etag, body).status, 412);
    CHECK_INT(json_array_size(json_object_get(get("/v1/jobs?label=a:b").json, "items")), 1);
    CHECK_INT(json_array_size(json_object_get(get("/v1/jobs?label=a:c").json, "items")), 0);
    service_stop();
}

/* ---- restarts ---- */

void test_service__a_drain_puts_the_running_job_back_into_the_queue(void)
{
    service_start(1);
    service_fill();
    const char *job = submit("calibrate", "segv-once");
    const char *slow = submit("calibrate", "slow");
    CHECK_STR(wait_end(job), "succeeded");
    wait_state(slow, "running");
    service_stop();
    service_start(1);
    wait_state(slow, "running");
    ask("POST", text("/v1/jobs/%s:cancel", slow), NULL, NULL);
    CHECK_STR(wait_end(slow), "cancelled");
    service_stop();
}

void test_service__kill_9_leaves_no_worker_and_loses_no_job(void)
{
    int daemon = service_fork(1);
    service_attach();
    service_fill();
    const char *deaf = submit("calibrate", "deaf"), *job = submit("calibrate", "ok");
    while (access(test_path("data/work/%s/pid", deaf), F_OK))
        usleep(2000);
    int worker = atoi(test_read(test_path("data/work/%s/pid", deaf), NULL));
    kill(daemon, SIGKILL);
    waitpid(daemon, NULL, 0);
    unlink(test_path("data/port"));
    daemon = service_fork(1);
    service_attach();
    for (int i = 0; i < 1000 && kill(worker, 0) == 0; i++)
        usleep(5000);
    CHECK(kill(worker, 0) != 0);
    wait_state(deaf, "running");
    ask("POST", text("/v1/jobs/%s:cancel", deaf), NULL, NULL);
    CHECK_STR(wait_end(deaf), "cancelled");
    CHECK_STR(wait_end(job), "succeeded");
    kill(daemon, SIGTERM);
    int status;
    waitpid(daemon, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
