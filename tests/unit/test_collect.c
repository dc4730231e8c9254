/* What nothing refers to is removed, what anything refers to stays. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/sha256.h"
#include "tests/test.h"
#include "tests/unit/service.h"

static int files_below(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    if (!d)
        return 0;
    for (struct dirent *f; (f = readdir(d));) {
        if (*f->d_name == '.')
            continue;
        n += f->d_type == DT_DIR ? files_below(text("%s/%s", path, f->d_name)) : 1;
    }
    closedir(d);
    return n;
}

static int blob_files(void)
{
    return files_below(test_path("data/blobs"));
}

/* The grace has to go by first. */
static void wait_for_blobs(int n)
{
    while (blob_files() != n || files_below(test_path("data/tmp")))
        usleep(20000);
}

static const char *put_blob(const char *body)
{
    struct digest d;
    char hex[SHA256_HEX];
    sha256_of(body, strlen(body), &d);
    digest_hex(&d, hex);
    const char *path = text("/v1/blobs/sha256:%s", hex);
    CHECK_INT(ask("PUT", path, NULL, body).status, 201);
    return path;
}

void test_collect__deleted_models_and_data_leave_no_files(void)
{
    service_grace_s = 1;
    service_start(1);
    service_fill();
    int full = blob_files();
    CHECK(full >= 2);
    CHECK_INT(ask("DELETE", text("/v1/models/%s", model_id), NULL, NULL).status, 204);
    CHECK_INT(ask("DELETE", text("/v1/datasets/%s", data_id), NULL, NULL).status, 204);
    wait_for_blobs(0);
    service_fill(); /* the same content may come again */
    CHECK_INT(blob_files(), full);
    service_stop();
}

void test_collect__what_a_job_made_goes_with_it(void)
{
    service_grace_s = 1;
    service_start(1);
    service_fill();
    int before = blob_files();
    const char *job = submit("evaluate", "ok");
    CHECK_STR(wait_end(job), "succeeded");
    CHECK(blob_files() > before);
    CHECK_INT(ask("DELETE", text("/v1/jobs/%s", job), NULL, NULL).status, 204);
    wait_for_blobs(before);
    CHECK_INT(get(text("/v1/models/%s/content", model_id)).status, 200);
    service_stop();
}

void test_collect__a_blob_without_a_row_goes_after_the_grace_and_not_before(void)
{
    service_start(1);
    const char *path = put_blob("stray");
    service_stop();
    CHECK_INT(blob_files(), 1);
    service_grace_s = 3600;
    service_start(1);
    CHECK_INT(get(path).status, 200);
    service_stop();
    CHECK_INT(blob_files(), 1);
    service_grace_s = 1;
    service_start(1);
    wait_for_blobs(0);
    CHECK_INT(get(path).status, 404);
    service_stop();
}

void test_collect__what_is_referred_to_outlives_every_grace(void)
{
    service_grace_s = 1;
    service_start(1);
    service_fill();
    const char *job = submit("evaluate", "ok");
    CHECK_STR(wait_end(job), "succeeded");
    int kept = blob_files();
    put_blob("stray"); /* goes when all others are old enough, too */
    wait_for_blobs(kept);
    CHECK_INT(get(text("/v1/jobs/%s/results", job)).status, 200);
    CHECK_INT(get(text("/v1/jobs/%s/artifacts/notes.txt", job)).status, 200);
    CHECK_INT(get(text("/v1/models/%s/content", model_id)).status, 200);
    CHECK_INT(get(text("/v1/datasets/%s/content", data_id)).status, 200);
    service_stop();
}

void test_collect__an_idempotency_key_is_over_after_a_day(void)
{
    enum { HOUR_MS = 60 * 60 * 1000 };
    service_start(1);
    service_fill();
    const char *body = text("{\"kind\":\"evaluate\",\"model\":\"%s\",\"data\":\"%s\","
                            "\"quant_config\":{\"fake\":\"ok\"}}",
                            model_id, data_id);
    const char *key = "Idempotency-Key: once\r\n";
    struct answer first = ask("POST", "/v1/jobs", key, body);
    CHECK_INT(first.status, 202);
    clock_wall_move(23 * HOUR_MS);
    struct answer again = ask("POST", "/v1/jobs", key, body);
    CHECK_INT(again.status, 202);
    CHECK_STR(field(&again, "id"), field(&first, "id"));
    CHECK(has_header(&again, "Idempotent-Replayed: true"));
    clock_wall_move(2 * HOUR_MS);
    struct answer later = ask("POST", "/v1/jobs", key, body);
    CHECK_INT(later.status, 202);
    CHECK(strcmp(field(&later, "id"), field(&first, "id")) != 0);
    struct answer more = ask("POST", "/v1/jobs", key, body);
    CHECK_STR(field(&more, "id"), field(&later, "id"));
    service_stop();
}
