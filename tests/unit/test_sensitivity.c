/* The sensitivity job as a whole: the same bytes with any number of children, what is stored and
 * found again, what its result says; and the table that the client prints of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/sensitivity.h"
#include "common/json.h"
#include "tests/test.h"
#include "tests/unit/random_net.h"
#include "worker/exec/backend.h"
#include "worker/jobs/health.h"
#include "worker/jobs/host.h"
#include "worker/jobs/sensitivity.h"
#include "worker/load/model.h"
#include "worker/load/npy.h"
#include "worker/quant/candidates.h"

static struct arena arena; /* to the test's end */

/* ---- a job ---- */

enum { NET = 31, SAMPLES = 4 };

static void write_many(int samples)
{
    struct random_net r;
    struct err e = ERR_INIT;
    random_net(NET, &arena, &r);
    CHECK_OK(model_write(r.graph, r.plan, test_path("model.onnx"), &e), e);
    CHECK(!mkdir(test_path("data"), 0777) && !mkdir(test_path("data/v0"), 0777));
    for (int i = 0; i < samples; i++) {
        struct tensor t = random_input((unsigned)i, &arena);
        CHECK_OK(npy_write(test_path("data/v0/%d.npy", i), &t, &e), e);
    }
}

static void write_inputs(void)
{
    write_many(SAMPLES);
}

static const char *backend; /* by name; NULL: the best */

/* Takes the options. The result's text. */
static char *run_job(const char *name, int slots, bool store, json_t *options)
{
    struct err e = ERR_INIT;
    struct host h = {.kinds = job_kinds, .profile = "test"};
    json_t *job = json_pack("{s:s, s:s, s:s, s:o}", "kind", "sensitivity", "model",
                            test_path("model.onnx"), "data", test_path("data"), "options", options);
    char *text = json_text(job);
    test_write(test_path("%s.json", name), text, strlen(text));
    free(text);
    json_decref(job);
    CHECK_OK(backend_find(backend, &h.backend, &e), e);
    struct local_opts o = {.job_file = test_path("%s.json", name),
                           .out_dir = test_path("%s", name),
                           .store_dir = store ? test_path("store") : NULL,
                           .slots = slots};
    CHECK_INT(local_main(&h, &o), 0);
    size_t len;
    return test_read(test_path("%s/result.json", name), &len);
}

static json_t *parsed(const char *text)
{
    struct err e = ERR_INIT;
    json_t *v = json_parse(text, strlen(text), &e);
    CHECK(v);
    return v;
}

void test_sensitivity__gives_the_same_bytes_with_any_number_of_children(void)
{
    write_inputs();
    const char *one = run_job("one", 1, false, json_pack("{s:i}", "data_num", 3));
    CHECK_STR(run_job("two", 2, false, json_pack("{s:i}", "data_num", 3)), one);
    CHECK_STR(run_job("five", 5, false, json_pack("{s:i}", "data_num", 3)), one);
    CHECK_STR(run_job("none", 0, false, json_pack("{s:i}", "data_num", 3)), one);
}

void test_sensitivity__gives_the_figures_of_whole_runs(void)
{
    write_inputs();
    json_t *fast = parsed(run_job("fast", 2, false, json_pack("{s:i}", "data_num", 2)));
    json_t *naive =
        parsed(run_job("naive", 2, false, json_pack("{s:i, s:b}", "data_num", 2, "naive", 1)));
    json_t *tight =
        parsed(run_job("tight", 2, false, json_pack("{s:i, s:i}", "data_num", 2, "keep_bytes", 9)));
    CHECK(json_array_size(json_object_get(fast, "rows")) > 3);
    CHECK(json_equal(json_object_get(fast, "rows"), json_object_get(naive, "rows")));
    CHECK(json_equal(json_object_get(fast, "rows"), json_object_get(tight, "rows")));
    double share = json_num(json_object_get(fast, "operations"), "share", 1);
    CHECK(share < json_num(json_object_get(naive, "operations"), "share", 0));
    json_decref(fast);
    json_decref(naive);
    json_decref(tight);
}

/* Fails; returns what it says. */
static const char *refusal(const char *name, json_t *options)
{
    struct err e = ERR_INIT;
    struct host h = {.kinds = job_kinds, .profile = "test"};
    json_t *job = json_pack("{s:s, s:s, s:s, s:o}", "kind", "sensitivity", "model",
                            test_path("model.onnx"), "data", test_path("data"), "options", options);
    char *text = json_text(job);
    test_write(test_path("%s.json", name), text, strlen(text));
    free(text);
    json_decref(job);
    CHECK_OK(backend_find(NULL, &h.backend, &e), e);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    CHECK(freopen(test_path("%s.err", name), "w", stderr));
    struct local_opts o = {
        .job_file = test_path("%s.json", name), .out_dir = test_path("%s", name), .slots = 1};
    CHECK_INT(local_main(&h, &o), 1);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    size_t len;
    return test_read(test_path("%s.err", name), &len);
}

void test_sensitivity__keeps_within_a_budget_with_the_same_figures(void)
{
    write_inputs();
    json_t *free_run = parsed(run_job("free", 2, false, json_pack("{s:i}", "data_num", 2)));
    /* the program's own share is 64 MiB; the rest is for this small graph */
    json_t *tight = parsed(run_job(
        "tight", 2, false, json_pack("{s:i, s:i}", "data_num", 2, "memory", (64 << 20) + 300000)));
    CHECK(json_equal(json_object_get(free_run, "rows"), json_object_get(tight, "rows")));
    CHECK(json_num(json_object_get(tight, "operations"), "executed", 0) >=
          json_num(json_object_get(free_run, "operations"), "executed", 0));
    CHECK_INT(json_num(json_object_get(tight, "operations"), "naive", 0),
              json_num(json_object_get(free_run, "operations"), "naive", 1));
    CHECK(strstr(refusal("low", json_pack("{s:i}", "memory", 100000)), "/options/memory"));
    json_decref(free_run);
    json_decref(tight);
}

/* ---- the fast mode ---- */

void test_sensitivity__the_fast_mode_leaves_the_harmless_and_tells_what_it_saw(void)
{
    write_many(32);
    json_t *all = parsed(
        run_job("all", 2, true, json_pack("{s:i, s:[s]}", "data_num", 32, "metrics", "mse")));
    json_t *fast = parsed(
        run_job("fast", 2, false,
                json_pack("{s:i, s:[s], s:b}", "data_num", 32, "metrics", "mse", "fast", 1)));
    const json_t *rows = json_object_get(fast, "rows"), *row;
    CHECK_INT(json_array_size(rows), json_array_size(json_object_get(all, "rows")));
    int whole = 0, cut = 0;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        int n = (int)json_int(row, "samples_seen", 0);
        const json_t *at = json_object_get(row, "interval");
        double low = json_number_value(json_array_get(at, 0)),
               high = json_number_value(json_array_get(at, 1)), mse = json_num(row, "mse", -1);
        CHECK(n >= 4 && n <= 32);
        CHECK(low <= mse && mse <= high);
        whole += n == 32;
        cut += n < 32;
    }
    CHECK(whole >= 4 && cut >= 3);
    /* who saw all samples has the figures of the whole sweep, and the worst is the same */
    CHECK_STR(json_str(json_array_get(rows, 0), "node", "-"),
              json_str(json_array_get(json_object_get(all, "rows"), 0), "node", "+"));
    CHECK_NEAR(json_num(json_array_get(rows, 0), "mse", -1),
               json_num(json_array_get(json_object_get(all, "rows"), 0), "mse", -2), 0);
    CHECK(json_array_size(json_object_get(fast, "rounds")) == 4);
    char *one = json_text(fast);
    CHECK_STR(run_job("fast1", 1, false,
                      json_pack("{s:i, s:[s], s:b}", "data_num", 32, "metrics", "mse", "fast", 1)),
              one);
    free(one);
    json_decref(all);
    json_decref(fast);
}

void test_sensitivity__an_interval_is_students(void)
{
    const double v[] = {1, 2, 3, 4};
    struct interval at = sensitivity_interval(v, 4);
    CHECK_NEAR(at.mean, 2.5, 1e-15);
    CHECK_NEAR(at.high - at.mean, 3.1824 * sqrt(5.0 / 3 / 4), 1e-12);
    CHECK_NEAR(at.mean - at.low, at.high - at.mean, 1e-12);
    CHECK(isinf(sensitivity_interval(v, 1).high));
}

/* The store's rows: "<inode>" of each, so that one that was written again is another. */
static int count_rows(char ret[SHA256_HEX])
{
    char line[256];
    int n = 0;
    char command[512];
    snprintf(command, sizeof command, "find %s -type f -printf '%%i %%f\\n' | sort",
             test_path("store"));
    FILE *f = popen(command, "r");
    struct sha256 *h = sha256_new();
    while (f && fgets(line, sizeof line, f)) {
        sha256_field(h, line, strlen(line));
        n++;
    }
    struct digest d;
    sha256_finish(h, &d);
    digest_hex(&d, ret);
    pclose(f);
    return n;
}

void test_sensitivity__computes_only_what_is_missing(void)
{
    char before[SHA256_HEX], after[SHA256_HEX];
    write_inputs();
    run_job("a", 2, true, json_pack("{s:i}", "data_num", 1));
    int rows = count_rows(before);
    CHECK(rows > 3);
    run_job("again", 1, true, json_pack("{s:i, s:[s,s]}", "data_num", 1, "metrics", "mse", "mre"));
    CHECK_INT(count_rows(after), rows);
    CHECK_STR(after, before); /* other metrics: nothing is written */
    const char *wide = run_job("wide", 2, true, json_pack("{s:i}", "data_num", 3));
    CHECK_INT(count_rows(before), 3 * rows);
    CHECK_STR(run_job("fresh", 2, false, json_pack("{s:i}", "data_num", 3)), wide);
    run_job("wide2", 2, true, json_pack("{s:i}", "data_num", 3));
    CHECK_INT(count_rows(after), 3 * rows);
    CHECK_STR(after, before);
}

void test_sensitivity__sorts_worst_first_and_tells_who_shares(void)
{
    write_inputs();
    json_t *v = parsed(run_job("a", 1, false, json_pack("{s:[s]}", "metrics", "mse")));
    json_t *rows = json_object_get(v, "rows");
    for (size_t i = 0; i + 1 < json_array_size(rows); i++) {
        const json_t *a = json_array_get(rows, i), *b = json_array_get(rows, i + 1);
        CHECK(json_num(a, "mse", -1) >= json_num(b, "mse", -1));
        CHECK_INT(json_int(a, "rank", 0), (int)i + 1);
    }
    CHECK(json_is_object(json_object_get(v, "health")));
    json_decref(v);
}

/* ---- how far a ranking can be trusted ---- */

void test_sensitivity__kendalls_tau_is_one_zero_and_minus_one_where_it_must_be(void)
{
    const double up[] = {1, 2, 3, 4}, down[] = {4, 3, 2, 1}, flat[] = {2, 2, 2, 2};
    const double ties[] = {1, 1, 2, 2};
    CHECK_NEAR(kendall_tau(up, up, 4), 1, 0);
    CHECK_NEAR(kendall_tau(up, down, 4), -1, 0);
    CHECK(isnan(kendall_tau(up, flat, 4)));
    CHECK_NEAR(kendall_tau(up, ties, 4), 4 / sqrt(4 * 6), 1e-15);
}

/* ---- the client's table ---- */

static const char *table_of(const char *json, bool full)
{
    static struct buf b;
    json_t *v = parsed(json);
    buf_init(&b, 1 << 20);
    sensitivity_table(v, full, &b);
    json_decref(v);
    return b.data;
}

#define ROWS                                                                                       \
    "{\"node_type\":\"node\",\"metrics\":[\"cosine-similarity\",\"mse\",\"sqnr\"],\"rows\":["      \
    "{\"node\":\"Conv_265\",\"cosine-similarity\":0.434268,\"mse\":32.42019,\"sqnr\":0.37585},"    \
    "{\"node\":\"model/backbone/layer_with_a_long_name/number_17/Conv_output\","                   \
    "\"cosine-similarity\":0.9798,\"mse\":27710.517578125,\"sqnr\":2.9},"                          \
    "{\"node\":\"Odd\",\"cosine-similarity\":null,\"mse\":null,\"sqnr\":null},"                    \
    "{\"node\":\"Slice_1\",\"cosine-similarity\":1,\"mse\":0.0000001,\"sqnr\":null,"               \
    "\"exact\":true}]}"

void test_sensitivity__the_table_is_the_golden_one(void)
{
    CHECK_STR(table_of(ROWS, false), "======================================node "
                                     "sensitivity=======================================\n"
                                     "node                                                "
                                     "cosine-similarity  mse          sqnr     \n"
                                     "-------------------------------------------------------------"
                                     "--------------------------------\n"
                                     "Conv_265                                            0.43427  "
                                     "          32.42019     0.37585  \n"
                                     "...ne/layer_with_a_long_name/number_17/Conv_output  0.9798   "
                                     "          27710.51758  2.9      \n"
                                     "Odd                                                 nan      "
                                     "          nan          nan      \n"
                                     "Slice_1                                             1.0      "
                                     "          0.0          inf      \n");
}

/* The whole way on a model: plain loops, whose bits no machine changes. Nodes that read the same
 * tensor have the same figures, worst first, ties in the order of the graph. */
void test_sensitivity__the_printed_table_of_a_model_is_the_golden_file(void)
{
    size_t len;
    backend = "plain";
    write_inputs();
    char *text = run_job("golden", 2, false,
                         json_pack("{s:i, s:[s,s,s,s,s,s]}", "data_num", 2, "metrics", "mse",
                                   "cosine-similarity", "mae", "mre", "sqnr", "chebyshev"));
    const char *table = table_of(text, false);
    test_write(test_path("table.txt"), table, strlen(table));
    CHECK_STR(table, test_read("tests/unit/golden/node_sensitivity.txt", &len));
    json_t *v = parsed(text), *rows = json_object_get(v, "rows"), *row;
    int shared = 0;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const char *first = json_str(row, "tied_with", NULL);
        const json_t *other;
        size_t k;
        json_array_foreach(rows, k, other) if (first && !strcmp(json_str(other, "node", ""), first))
        {
            CHECK(json_equal(json_object_get(row, "mse"), json_object_get(other, "mse")));
            shared++;
        }
    }
    CHECK(shared > 0);
    json_decref(v);
}

void test_sensitivity__the_fast_mode_s_table_tells_how_many_samples_a_row_saw(void)
{
    CHECK_STR(table_of("{\"node_type\":\"node\",\"metrics\":[\"mse\"],\"rounds\":[],\"rows\":["
                       "{\"node\":\"Conv_1\",\"mse\":0.5,\"samples_seen\":16},"
                       "{\"node\":\"Conv_2\",\"mse\":0.25,\"samples_seen\":4}]}",
                       false),
              "===node sensitivity====\n"
              "node    mse   samples  \n"
              "-----------------------\n"
              "Conv_1  0.5   16       \n"
              "Conv_2  0.25  4        \n");
}

void test_sensitivity__full_names_are_not_cut(void)
{
    CHECK(strstr(table_of(ROWS, true), "\nmodel/backbone/layer_with_a_long_name/number_17/Conv_o"));
}

void test_sensitivity__numbers_have_five_decimals_and_no_exponent(void)
{
    CHECK_STR(number_text(&arena, 16.2646), "16.2646");
    CHECK_STR(number_text(&arena, 12526.428714), "12526.42871");
    CHECK_STR(number_text(&arena, 0.97980004), "0.9798");
    CHECK_STR(number_text(&arena, 1e-9), "0.0");
    CHECK_STR(number_text(&arena, -1e-9), "0.0");
    CHECK_STR(number_text(&arena, 1), "1.0");
    CHECK_STR(number_text(&arena, 1e22), "10000000000000000000000.0");
}

/* ---- lists on the command line ---- */

static const char *list_of(const char *text, bool nested)
{
    struct err e = ERR_INIT;
    json_t *v = list_parse(text, nested, &e);
    char *out = v ? json_text(v) : NULL;
    const char *ret = arena_strdup(&arena, out ? out : "-");
    free(out);
    json_decref(v);
    return ret;
}

void test_sensitivity__lists_are_read_as_python_and_the_shell_leave_them(void)
{
    CHECK_STR(list_of("['a','b']", false), "[\"a\",\"b\"]");
    CHECK_STR(list_of("[a,b]", false), "[\"a\",\"b\"]");
    CHECK_STR(list_of("[ 'a' , \"b c\" ]", false), "[\"a\",\"b c\"]");
    CHECK_STR(list_of("Conv_404", false), "[\"Conv_404\"]");
    CHECK_STR(list_of("[[a,b],[c]]", true), "[[\"a\",\"b\"],[\"c\"]]");
    CHECK_STR(list_of("[a,[b,c]]", true), "[\"a\",[\"b\",\"c\"]]");
    CHECK_STR(list_of("[[a,b]]", false), "-");
    CHECK_STR(list_of("[[[a]]]", true), "-");
    CHECK_STR(list_of("[a,b", false), "-");
    CHECK_STR(list_of("[a,,b]", false), "-");
    CHECK_STR(list_of("[]", false), "-");
    CHECK_STR(list_of("[a] b", false), "-");
    CHECK_STR(list_of("['a]", false), "-");
}
