#include "server/jobspec.h"

#include <string.h>

#include "common/json.h"
#include "server/blobs.h"
#include "server/conf.h"
#include "server/db.h"
#include "server/id.h"
#include "tests/test.h"

static uv_loop_t loop;
static struct server server;
static struct arena arena;
static int written;

static const char *const rows[] = {
    "INSERT INTO blobs VALUES"
    "('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,1)",
    "INSERT INTO models(id,blob,external,name,state,summary,error,created_ms) "
    "VALUES('mdl_ready','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaa','[]','','ready','{}',NULL,1),('mdl_new','"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaa','[]','','inspecting','{}',NULL,1)",
    "INSERT INTO datasets VALUES('dat_ready','x',NULL,'','ready','{\"samples\":4}',NULL,1)"};

static int fill(struct tx *tx, void *ctx, struct err *e)
{
    (void)ctx;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stmt *s = tx_stmt(tx, rows[i], e);
        if (!s || db_step(s, e) < 0)
            return -1;
        db_end(s);
    }
    return 0;
}

static void filled(void *ctx, const struct err *e)
{
    (void)ctx;
    CHECK(e == NULL);
    written = 1;
}

/* The code, and the place in e.at, of reading this body; ERR_NONE fills *ret. */
static struct err read_body(const char *body, struct jobspec *ret)
{
    struct err e = ERR_INIT;
    if (!server.db) {
        uv_loop_init(&loop);
        server.loop = &loop;
        CHECK_OK(db_open(&loop, test_path("ptqd.sqlite"), &server.db, &e), e);
        CHECK_OK(blobs_open(&loop, test_dir(), &server.blobs, &e), e);
        db_write(server.db, fill, filled, NULL);
        while (!written)
            uv_run(&loop, UV_RUN_ONCE);
    }
    json_t *v = json_parse(body, strlen(body), &e);
    CHECK(v != NULL);
    jobspec_read(&server, v, &arena, ret, &e);
    json_decref(v);
    return e;
}

static void stop(void)
{
    db_close(server.db);
    uv_run(&loop, UV_RUN_DEFAULT);
    blobs_free(server.blobs);
    arena_done(&arena);
}

void test_jobspec__every_fault_is_told_with_its_place(void)
{
    static const struct {
        const char *body, *at;
        enum err_code code;
    } faults[] = {
        {"{\"model\":\"mdl_ready\",\"data\":\"dat_ready\"}", "/kind", ERR_INVALID},
        {"{\"kind\":\"cook\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\"}", "/kind",
         ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_no\",\"data\":\"dat_ready\"}", "/model",
         ERR_UNKNOWN_NAME},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_new\",\"data\":\"dat_ready\"}", "/model",
         ERR_CONFLICT},
        {"{\"kind\":\"calibrate\",\"model\":7,\"data\":\"dat_ready\"}", "/model", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":{\"blob\":\"sha256:00\"},\"data\":\"dat_ready\"}",
         "/model/blob", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":{\"from_job\":\"j\",\"artifact\":\"a\"},\"data\":"
         "\"dat_ready\"}",
         "/model", ERR_UNKNOWN_NAME},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_no\"}", "/data",
         ERR_UNKNOWN_NAME},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"x\":1}", "/x",
         ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\","
         "\"calibration_data\":\"dat_ready\"}",
         "/calibration_data", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"options\":"
         "{\"samples\":5}}",
         "/options/samples", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"options\":"
         "{\"samples\":0}}",
         "/options/samples", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"options\":"
         "{\"labels\":false}}",
         "/options/labels", ERR_INVALID},
        {"{\"kind\":\"evaluate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"options\":"
         "{\"labels\":true}}",
         "/options/labels", ERR_INVALID},
        {"{\"kind\":\"evaluate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"labels\":"
         "{\"a\":1}}",
         "/labels/a", ERR_INVALID},
        {"{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\","
         "\"quant_config\":[]}",
         "/quant_config", ERR_INVALID},
        {"{\"kind\":\"evaluate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\",\"priority\":101}",
         "/priority", ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct jobspec spec;
        struct err e = read_body(faults[i].body, &spec);
        if (e.code != faults[i].code || strcmp(e.at, faults[i].at))
            FAIL("%s: %s at \"%s\"", faults[i].body, err_slug(e.code), e.at);
    }
    stop();
}

void test_jobspec__a_configuration_may_be_text_as_people_write_it(void)
{
    struct jobspec spec;
    struct err e =
        read_body("{\"kind\":\"calibrate\",\"model\":\"mdl_ready\",\"data\":\"dat_ready\","
                  "\"quant_config\":\"quant_config = {'model_config': {},} # as is\"}",
                  &spec);
    CHECK_INT(e.code, ERR_NONE);
    CHECK(strstr(spec.spec, "\"quant_config = {'model_config': {},} # as is\"") != NULL);
    stop();
}

void test_jobspec__the_spec_is_resolved_and_canonical(void)
{
    struct jobspec a, b, c;
    struct err e = read_body("{\"kind\":\"evaluate\",\"model\":\"mdl_ready\",\"data\":"
                             "\"dat_ready\",\"options\":{\"samples\":2},\"priority\":3}",
                             &a);
    CHECK_INT(e.code, ERR_NONE);
    CHECK_STR(a.spec,
              "{\"data\":\"dat_ready\",\"model\":{\"blob\":\"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
              "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"external_data\":[],\"id\":\"mdl_ready\"},"
              "\"options\":{\"label_output\":null,\"labels\":\"auto\",\"march\":\"nash-e\","
              "\"nodes\":false,\"samples\":2}}");
    CHECK_INT(a.priority, 3);
    CHECK_STR(a.labels, "{}");
    read_body("{\"data\":\"dat_ready\",\"options\":{\"labels\":\"auto\",\"march\":\"nash-e\","
              "\"nodes\":false,"
              "\"samples\":2},\"model\":"
              "\"mdl_ready\",\"kind\":\"evaluate\",\"labels\":{\"x\":\"y\"}}",
              &b);
    CHECK_STR(b.spec_sha256, a.spec_sha256);
    read_body("{\"data\":\"dat_ready\",\"options\":{\"samples\":3},\"model\":\"mdl_ready\","
              "\"kind\":\"evaluate\"}",
              &c);
    CHECK(strcmp(c.spec_sha256, a.spec_sha256) != 0);
    stop();
}

void test_jobspec__a_patch_merges_labels(void)
{
    struct err e = ERR_INIT;
    const char *labels = "{\"keep\":\"1\",\"old\":\"2\"}";
    int64_t priority = 7;
    json_t *patch = json_pack("{s:{s:n, s:s}}", "labels", "old", "new", "3");
    CHECK_OK(jobspec_patch(patch, &arena, &labels, &priority, &e), e);
    CHECK_STR(labels, "{\"keep\":\"1\",\"new\":\"3\"}");
    CHECK_INT(priority, 7);
    json_decref(patch);
    arena_done(&arena);
}

void test_id__follows_from_the_digest(void)
{
    struct digest d = {{0x00, 0x44, 0x32, 0x14, 0xc7}}; /* base32 of these: aBCDEFGH … */
    char id[ID_MAX];
    id_of_digest("mdl_", &d, id);
    CHECK_STR(id, "mdl_abcdefghaaaaaaaaaaaaaaaaaa"); /* RFC 4648, lower case */
}

void test_conf__knows_its_options_and_their_bounds(void)
{
    static const struct {
        const char *arg, *value;
        int result;
    } cases[] = {{"--port", "0", 0},         {"--port", "65536", -1}, {"--workers", "0", -1},
                 {"--workers", "3", 0},      {"--prot", "1", -1},     {"--log-level", "loud", -1},
                 {"--log-level", "warn", 0}, {"--data", "", -1},      {"--port", "1x", -1},
                 {"--port", NULL, -1},       {"--port=81", NULL, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = {(char *)"ptqd", (char *)cases[i].arg, (char *)cases[i].value, NULL};
        struct conf c;
        struct err e = ERR_INIT;
        if (conf_parse(&c, cases[i].value ? 3 : 2, argv, &e) != cases[i].result)
            FAIL("%s %s: %s", cases[i].arg, cases[i].value, e.detail);
    }
}
