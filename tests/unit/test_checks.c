/* Checks of configurations, with a worker that answers as it is told. */
#include "tests/unit/service.h"

#include <string.h>

#include "tests/test.h"

static struct answer check(const char *config)
{
    return ask("POST", "/v1/configs:check", NULL,
               text("{\"model\":\"%s\",\"quant_config\":%s}", model_id, config));
}

static struct answer post_job(const char *config)
{
    return ask("POST", "/v1/jobs", NULL,
               text("{\"kind\":\"calibrate\",\"model\":\"%s\",\"data\":\"%s\","
                    "\"quant_config\":%s}",
                    model_id, data_id, config));
}

/* Processes that were started for checks. */
static int started(void)
{
    struct answer m = get("/metrics");
    const char *at = strstr(m.body, "\nptq_checks_started_total ");
    int n = -1;
    CHECK(at != NULL && sscanf(at, "\nptq_checks_started_total %d", &n) == 1);
    return n;
}

void test_checks__the_same_question_starts_one_process(void)
{
    service_start(1);
    service_fill();
    for (int i = 0; i < 3; i++) {
        struct answer a = check("{\"check\":\"right\"}");
        CHECK_INT(a.status, 200);
        CHECK(json_is_array(json_object_get(a.json, "ledger")));
    }
    CHECK_INT(started(), 1);
    CHECK_INT(check("{\"check\":\"other\"}").status, 200);
    CHECK_INT(started(), 2);
    service_stop();
}

void test_checks__a_wrong_configuration_is_refused_and_remembered(void)
{
    service_start(1);
    service_fill();
    for (int i = 0; i < 2; i++) {
        struct answer a = check("{\"check\":\"wrong\"}");
        CHECK_INT(a.status, 422);
        CHECK_STR(field(&a, "type"), "/problems/invalid");
    }
    CHECK_INT(started(), 1);
    service_stop();
}

void test_checks__a_job_with_a_wrong_configuration_is_none(void)
{
    service_start(1);
    service_fill();
    struct answer a = post_job("{\"check\":\"wrong\"}");
    CHECK_INT(a.status, 422);
    CHECK_INT(json_array_size(json_object_get(get("/v1/jobs").json, "items")), 0);
    CHECK_INT(post_job("{\"check\":\"wrong\"}").status, 422);
    CHECK_INT(started(), 1);
    service_stop();
}

void test_checks__a_job_without_a_configuration_starts_no_check(void)
{
    service_start(1);
    service_fill();
    struct answer a = post_job("{}"), b = post_job("null");
    CHECK_INT(a.status, 202);
    CHECK_INT(b.status, 202);
    CHECK_INT(started(), 0);
    service_stop();
}

void test_checks__a_dead_worker_is_no_answer(void)
{
    service_start(1);
    service_fill();
    struct answer a = check("{\"check\":\"killed\"}");
    CHECK_INT(a.status, 500);
    CHECK_STR(field(&a, "type"), "/problems/worker-lost");
    CHECK_INT(started(), 2); /* tried again once */
    CHECK_INT(check("{\"check\":\"killed\"}").status, 500);
    CHECK_INT(started(), 4); /* and not remembered */
    service_stop();
}

void test_checks__text_is_the_configuration_itself(void)
{
    service_start(1);
    service_fill();
    struct answer a = ask("POST", text("/v1/configs:check?model=%s&march=nash-m", model_id),
                          "Content-Type: text/plain\r\n", "quant_config = {} # all defaults\n");
    CHECK_INT(a.status, 200);
    a = ask("POST", "/v1/configs:check", "Content-Type: text/plain\r\n", "{}");
    CHECK_INT(a.status, 422);
    CHECK_STR(field(&a, "at"), "/model");
    a = ask("POST", text("/v1/configs:check?model=%s", model_id), "Content-Type: text/plain\r\n",
            "\xff");
    CHECK_INT(a.status, 400);
    service_stop();
}

void test_checks__a_march_is_known_by_its_name(void)
{
    service_start(1);
    service_fill();
    struct answer a = ask("POST", "/v1/configs:check", NULL,
                          text("{\"model\":\"%s\",\"march\":\"nash-n\"}", model_id));
    CHECK_INT(a.status, 422);
    CHECK_STR(field(&a, "at"), "/march");
    CHECK_INT(started(), 0);
    struct answer list = get("/v1/profiles");
    CHECK_INT(json_array_size(json_object_get(list.json, "items")), 2);
    struct answer one = get("/v1/profiles/nash-m");
    CHECK_STR(field(&one, "march"), "nash-m");
    CHECK(json_array_size(json_object_get(one.json, "rules")) > 50);
    CHECK_INT(get("/v1/profiles/nash-n").status, 404);
    service_stop();
}
