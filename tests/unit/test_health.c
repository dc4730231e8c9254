/* How far a ranking can be trusted: constructed rankings and nets that mislead, and one that does
 * not. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/json.h"
#include "tests/test.h"
#include "tests/unit/mini.h"
#include "tests/unit/random_net.h"
#include "worker/exec/backend.h"
#include "worker/jobs/health.h"
#include "worker/jobs/host.h"
#include "worker/load/model.h"
#include "worker/load/npy.h"

static struct arena arena; /* to the test's end */

/* ---- rankings ---- */

enum { N = 12, OUTPUTS = 2 };
struct made {
    struct ranking r;
    const char *names[N], *outputs[OUTPUTS];
    int same[N];
    bool widest[N];
    double means[N][METRIC_COUNT], even[N][METRIC_COUNT], odd[N][METRIC_COUNT];
    double per_output[N * OUTPUTS], sqnr[N * OUTPUTS];
};

/* All is well: every metric orders the candidates as they stand, every output and half agrees. */
static struct made *make(void)
{
    struct made *m = arena_alloc(&arena, sizeof *m);
    m->outputs[0] = "det";
    m->outputs[1] = "seg";
    for (int i = 0; i < N; i++) {
        double loss = pow(2, -i);
        const double v[METRIC_COUNT] = {
            [M_COSINE] = 1 - loss / 4, [M_MSE] = loss,         [M_MAE] = sqrt(loss),
            [M_MRE] = loss / 3,        [M_SQNR] = 5 + 1.5 * i, [M_CHEBYSHEV] = 2 * sqrt(loss)};
        m->names[i] = arena_printf(&arena, "node_%d", i);
        m->same[i] = i;
        memcpy(m->means[i], v, sizeof v);
        memcpy(m->even[i], v, sizeof v);
        memcpy(m->odd[i], v, sizeof v);
        for (int o = 0; o < OUTPUTS; o++) {
            m->per_output[i * OUTPUTS + o] = v[M_COSINE];
            m->sqnr[i * OUTPUTS + o] = v[M_SQNR] + 3 * o;
        }
    }
    m->r = (struct ranking){
        .n = N,
        .n_outputs = OUTPUTS,
        .n_samples = 8,
        .first = M_COSINE,
        .names = m->names,
        .outputs = m->outputs,
        .same = m->same,
        .widest = m->widest,
        .means = (const double(*)[METRIC_COUNT])m->means,
        .per_output = m->per_output,
        .sqnr = m->sqnr,
        .halves = {(const double(*)[METRIC_COUNT])m->even, (const double(*)[METRIC_COUNT])m->odd}};
    return m;
}

static json_t *health_of(const struct made *m)
{
    int worst;
    return health_json(&m->r, &worst);
}

static int advices(const json_t *health)
{
    return (int)json_array_size(json_object_get(health, "advice"));
}

static bool advises(const json_t *health, const char *words)
{
    const json_t *line;
    size_t i;
    json_array_foreach(json_object_get(health, "advice"), i,
                       line) if (strstr(json_string_value(line), words)) return true;
    return false;
}

void test_health__a_sound_ranking_raises_no_alarm(void)
{
    json_t *h = health_of(make());
    CHECK_INT(advices(h), 0);
    CHECK_NEAR(json_num(h, "ties", -1), 0, 0);
    CHECK_NEAR(json_num(h, "split_half", -1), 1, 0);
    CHECK_NEAR(json_num(h, "outputs_agreement", -1), 1, 0);
    CHECK_STR(json_str(h, "worst_output", ""), "det");
    json_decref(h);
}

void test_health__a_saturated_cosine_names_the_metric_that_tells_apart(void)
{
    struct made *m = make();
    for (int i = 0; i < N; i++)
        m->means[i][M_COSINE] = i < 3 ? 0.99 + 0.001 * i : 0.99999;
    json_t *h = health_of(m);
    CHECK_NEAR(json_num(h, "cosine_saturation", -1), 9.0 / N, 1e-12);
    CHECK_NEAR(json_num(h, "ties", -1), 9.0 / N, 1e-12);
    CHECK(strcmp(json_str(h, "best_metric", "cosine-similarity"), "cosine-similarity") != 0);
    CHECK(advises(h, arena_printf(&arena, "rank by %s", json_str(h, "best_metric", "-"))));
    json_decref(h);
}

/* Small figures are no ties: five digits count, not five decimals. */
void test_health__a_small_error_is_not_a_tie(void)
{
    struct made *m = make();
    m->r.first = M_MSE;
    for (int i = 0; i < N; i++)
        m->means[i][M_MSE] *= 1e-9;
    json_t *h = health_of(m);
    CHECK_NEAR(json_num(h, "ties", -1), 0, 0);
    CHECK_INT(advices(h), 0);
    json_decref(h);
}

void test_health__shared_calibrations_are_no_ties(void)
{
    struct made *m = make();
    for (int i = 0; i < N; i += 2) {
        m->same[i + 1] = i;
        memcpy(m->means[i + 1], m->means[i], sizeof m->means[i]);
    }
    json_t *h = health_of(m);
    CHECK_NEAR(json_num(h, "ties", -1), 0, 0);
    CHECK_NEAR(json_num(h, "shared_calibrations", -1), 1, 0);
    json_decref(h);
}

void test_health__outputs_that_disagree_are_named_and_the_worst_of_them(void)
{
    struct made *m = make();
    for (int i = 0; i < N; i++) {
        m->per_output[i * OUTPUTS + 1] = m->means[N - 1 - i][M_COSINE];
        m->sqnr[i * OUTPUTS + 1] = 1;
    }
    json_t *h = health_of(m);
    CHECK_NEAR(json_num(h, "outputs_agreement", 9), -1, 0);
    CHECK(advises(h, "\"det\" and \"seg\"") && advises(h, "\"seg\" loses most"));
    CHECK_STR(json_str(h, "worst_output", ""), "seg");
    json_decref(h);
}

void test_health__metrics_that_disagree_are_told(void)
{
    struct made *m = make();
    for (int i = 0; i < N; i++)
        m->means[i][M_MSE] = m->means[N - 1 - i][M_MAE];
    json_t *h = health_of(m);
    CHECK_NEAR(json_num(json_object_get(h, "agreement"), "mse", 9), -1, 0);
    CHECK(advises(h, "that by mse agree little"));
    json_decref(h);
}

void test_health__halves_that_disagree_ask_for_samples(void)
{
    struct made *m = make();
    for (int i = 0; i < N; i++)
        m->odd[i][M_COSINE] = m->even[(i * 5) % N][M_COSINE];
    json_t *h = health_of(m);
    CHECK(json_num(h, "split_half", 1) < 0.7);
    CHECK(advises(h, "use more samples"));
    m->r.n_samples = 1;
    json_t *single = health_of(m);
    CHECK(json_is_null(json_object_get(single, "split_half")));
    CHECK(!advises(single, "use more samples"));
    json_decref(h);
    json_decref(single);
}

void test_health__what_int16_cannot_hold_is_told(void)
{
    struct made *m = make();
    m->widest[1] = m->widest[9] = true; /* 9 loses little */
    json_t *h = health_of(m);
    CHECK_INT(json_array_size(json_object_get(h, "beyond_integers")), 1);
    CHECK(advises(h, "the first is \"node_1\""));
    json_decref(h);
}

/* ---- nets ---- */

static json_t *swept_health(const char *net, const char *metric)
{
    struct err e = ERR_INIT;
    struct host h = {.kinds = job_kinds, .profile = "test"};
    struct tensor t = random_input(0, &arena);
    struct graph *g = mini_graph(&arena, net);
    CHECK_OK(model_write(g, random_plan(g, &t, &arena), test_path("model.onnx"), &e), e);
    CHECK(!mkdir(test_path("data"), 0777) && !mkdir(test_path("data/x"), 0777));
    for (unsigned i = 0; i < 4; i++) {
        t = random_input(i, &arena);
        CHECK_OK(npy_write(test_path("data/x/%u.npy", i), &t, &e), e);
    }
    json_t *job = json_pack("{s:s, s:s, s:s, s:{s:i, s:[s]}}", "kind", "sensitivity", "model",
                            test_path("model.onnx"), "data", test_path("data"), "options",
                            "data_num", 4, "metrics", metric);
    char *text = json_text(job);
    test_write(test_path("job.json"), text, strlen(text));
    free(text);
    json_decref(job);
    CHECK_OK(backend_find(NULL, &h.backend, &e), e);
    struct local_opts o = {
        .job_file = test_path("job.json"), .out_dir = test_path("out"), .slots = 1};
    CHECK_INT(local_main(&h, &o), 0);
    size_t len;
    const char *result = test_read(test_path("out/result.json"), &len);
    json_t *v = json_parse(result, len, &e), *health = json_incref(json_object_get(v, "health"));
    json_decref(v);
    return health;
}

/* As YOLOP's: coordinates of hundreds beside scores below one in a single output. Its cosine hardly
 * moves, whatever happens to the scores. */
#define WIDE_HEAD                                                                                  \
    "input x 1,4,8,8\nconst w 4,4,1,1 .5 -.2 .3 .1 .2 .6 -.4 .3\nconst v 4,4,1,1 .3 .1 -.5 .2\n"   \
    "const k 1 300\nconst o 1 4000\noutput det\noutput seg\n"                                      \
    "c1 Conv x,w -> a\ns1 Sigmoid a -> b\n"                                                        \
    "m1 Mul b,k -> c\na1 Add c,o -> d\nt1 Tanh b -> e\nt2 Sigmoid e -> f\nt3 Softmax f -> g\n"     \
    "j1 Concat d,g -> det axis=1\n"                                                                \
    "c2 Conv b,v -> h\nt4 Sigmoid h -> seg\n"

void test_health__a_wide_head_is_seen_and_its_branch_named(void)
{
    json_t *h = swept_health(WIDE_HEAD, "cosine-similarity");
    const json_t *branch = json_object_get(h, "branch");
    CHECK(json_num(h, "cosine_saturation", 0) > 0.5);
    CHECK(advises(h, "cosine similarity of") && advises(h, "rank by"));
    CHECK(strcmp(json_str(h, "best_metric", "cosine-similarity"), "cosine-similarity") != 0);
    CHECK(json_is_object(branch));
    bool det = !strcmp(json_str(h, "worst_output", ""), "det");
    CHECK_STR(json_str(branch, "output", ""), det ? "det" : "seg");
    CHECK_STR(json_string_value(json_array_get(json_object_get(branch, "inputs"), 0)),
              det ? "m1" : "c2");
    CHECK_STR(json_string_value(json_array_get(json_object_get(branch, "outputs"), 0)),
              det ? "j1" : "t4");
    CHECK_INT(json_int(branch, "nodes", 0), det ? 6 : 2);
    json_decref(h);
}

void test_health__one_output_has_no_worst_and_no_branch(void)
{
    json_t *h = swept_health("input x 1,4,8,8\nconst w 4,4,1,1 .5 -.2 .3 .1\noutput y\n"
                             "c1 Conv x,w -> a\ns1 Sigmoid a -> y\n",
                             "mse");
    CHECK(json_is_null(json_object_get(h, "worst_output")));
    CHECK(json_is_null(json_object_get(h, "branch")));
    json_decref(h);
}
