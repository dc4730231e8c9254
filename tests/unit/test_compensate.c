/* Error compensation: the parts that "ec" adds, their precision, and what comes back from a file.
 */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "tests/unit/mini.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"
#include "worker/quant/compensate.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/place.h"
#include "worker/quant/survey.h"

static struct arena arena;
static struct quant_config *config;

static int parse(const char *text, const char *json, struct err *e)
{
    json_t *v = json_string(json);
    int rc = config_parse(v, "", mini_graph(&arena, text), &march_nash_e, &arena, &config, e);
    json_decref(v);
    return rc;
}

static struct resolved resolved(const char *text, const char *json)
{
    struct err e = ERR_INIT;
    struct resolved r;
    CHECK_OK(parse(text, json, &e), e);
    resolve(config, config->graph, &march_nash_e, &arena, &r);
    return r;
}

/* Thresholds of 1 everywhere: no data needed. */
static struct plan *planned(const char *text, const char *nodes)
{
    struct err e = ERR_INIT;
    struct plan *p;
    struct resolved r = resolved(
        text, arena_printf(&arena,
                           "{'model_config': {'activation': {'calibration_type': 'fixed'}}, "
                           "'node_config': {%s}}",
                           nodes));
    struct survey *s = survey_new(&r, config, &march_nash_e, 1);
    CHECK(survey_next(s) == NULL);
    CHECK_OK(survey_plan(s, &config->candidates[0], &arena, config->warnings, &p, &e), e);
    survey_free(s);
    CHECK_INT(json_array_size(config->warnings), 0);
    return p;
}

static const struct calib *calib(const struct plan *p, const char *name)
{
    int k = plan_find(p, name);
    return k < 0 ? NULL : &p->calibs[k];
}

static const struct ledger_line *line(const struct resolved *r, const char *node, int input)
{
    int n = graph_node(r->plan->graph, node);
    for (int i = 0; i < r->ledger.n; i++)
        if (r->ledger.lines[i].node == n && r->ledger.lines[i].input == input)
            return &r->ledger.lines[i];
    FAIL("no ledger line for input %d of %s", input, node);
}

/* ---- running ---- */

enum { N_IN = 4 * 8 * 8 };

/* The graph's first output, with the plan's weights (or all calibrations) on. */
static float *run(const struct graph *g, struct plan *p, bool features, int64_t *ret_n)
{
    struct err e = ERR_INIT;
    struct tensor in[2] = {g->values[g->inputs[0]].type};
    float *x = arena_array(&arena, N_IN, sizeof *x);
    struct exec *exec;
    for (int i = 0; i < N_IN; i++)
        x[i] = sinf((float)i * 1.7f);
    for (int k = 0; p && k < p->n_calibs; k++)
        p->calibs[k].on = features || p->calibs[k].kind == CALIB_WEIGHT;
    in[0].data = x;
    if (g->n_inputs > 1) {
        in[1] = g->values[g->inputs[1]].type;
        in[1].data = x;
    }
    CHECK_OK(exec_new(g, in, &(struct exec_opts){.backend = &backend_plain, .plan = p}, &exec, &e),
             e);
    CHECK_OK(exec_run(exec, in, NULL, NULL, &e), e);
    const struct tensor *out = exec_output(exec, 0);
    *ret_n = tensor_count(out);
    float *y = arena_copy(&arena, out->data, (size_t)*ret_n * sizeof *y);
    exec_free(exec);
    return y;
}

static double error_of(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum / (double)n);
}

/* Root mean square error of the output against the float graph. */
static double loss(const char *text, const char *nodes, bool features)
{
    int64_t n;
    float *exact = run(mini_graph(&arena, text), NULL, false, &n);
    struct plan *p = planned(text, nodes);
    return error_of(exact, run(p->graph, p, features, &n), n);
}

/* ---- graphs ---- */

/* Uniform between -1 and 1. */
#define WEIGHTS                                                                                    \
    "-0.35233 -0.69830 0.30187 -0.85513 0.07176 -0.26862 -0.88400 0.01487 -0.92501 "               \
    "-0.13271 -0.86029 -0.81857 -0.15096 0.65370 -0.75240 -0.55352 0.25487 0.89542 "               \
    "0.15421 -0.20664 0.95251 -0.90683 0.71694 -0.42078 -0.71149 -0.76442 -0.38304 "               \
    "0.63225 -0.63855 0.16320 0.27783 -0.25520 0.09549 -0.87442 -0.88080 -0.58808 "                \
    "0.36080 -0.14482 -0.37171 0.17112 -0.09363 -0.40047 0.58876 0.39799 -0.51181 "                \
    "0.14885 0.05039 0.75027 0.45889 -0.42412 0.96035 -0.76387 -0.16375 0.51428 "                  \
    "-0.69603 -0.02207 -0.92159 0.33643 0.52914 0.14605 "
#define CONV                                                                                       \
    "input x 1,4,8,8\nconst w 4,4,3,3 " WEIGHTS                                                    \
    "\nconst b 4 0.5 -1 2 0.25\noutput o\nc Conv x,w,b -> y\nr Relu y -> o\n"
#define EC "'c': {'input1': 'ec'}"

static void quantized_weight(const struct plan *p, const char *name, float *ret)
{
    const struct tensor *t = &p->graph->values[graph_value(p->graph, name)].type;
    struct tensor out = *t;
    out.data = ret;
    fq_tensor(calib(p, arena_printf(&arena, "%s_HzCalibration", name)), t, &out);
}

void test_compensate__error_of_a_conv_weight_falls_below_a_200th(void)
{
    const struct graph *g = mini_graph(&arena, CONV);
    const float *whole = g->values[graph_value(g, "w")].type.data;
    enum { N = 4 * 4 * 3 * 3 };
    float int8[N], high[N], low[N];
    double most_int8 = 0, most_ec = 0;
    quantized_weight(planned(CONV, ""), "w", int8);
    struct plan *p = planned(CONV, EC);
    quantized_weight(p, "w", high);
    quantized_weight(p, "w_split_low", low);
    for (int i = 0; i < N; i++) {
        most_int8 = fmax(most_int8, fabs((double)whole[i] - int8[i]));
        most_ec = fmax(most_ec, fabs((double)whole[i] - high[i] - low[i]));
    }
    CHECK(most_int8 > 0.4 / 127);
    CHECK(most_ec < most_int8 / 200);
    CHECK(loss(CONV, EC, false) < loss(CONV, "", false) / 150); /* as the output shows it */
}

void test_compensate__equals_the_edit_to_int16_in_effect(void)
{
    int64_t n;
    struct plan *p = planned(CONV, "");
    ((struct calib *)calib(p, "w_HzCalibration"))->qtype = Q_INT16;
    float *int16 = run(p->graph, p, false, &n), *exact = run(p->graph, NULL, false, &n);
    double edited = error_of(exact, int16, n), ec = loss(CONV, EC, false);
    CHECK(ec < 3 * edited && edited < 3 * ec);
}

void test_compensate__sums_to_the_whole_when_all_is_off(void)
{
    int64_t n;
    float *exact = run(mini_graph(&arena, CONV), NULL, false, &n);
    struct plan *p = planned(CONV, EC);
    CHECK(error_of(exact, run(p->graph, NULL, false, &n), n) < 1e-6);
}

void test_compensate__twin_has_no_bias_and_the_sum_has_the_old_name(void)
{
    struct plan *p = planned(CONV, EC);
    const struct graph *g = p->graph;
    const struct node *low = &g->nodes[graph_node(g, "c_split_low")];
    CHECK_STR(low->op_type, "Conv");
    CHECK_INT(low->n_in, 2);
    CHECK_STR(g->values[g->nodes[graph_node(g, "c_split_add")].out[0]].name, "y");
    CHECK(calib(p, "w_split_low_HzCalibration") != NULL);
}

/* Fusion ends behind the sum, and the old fused end keeps its calibration. */
void test_compensate__sum_and_old_end_have_calibrations_of_their_own(void)
{
    static const char text[] =
        "input x 1,4,8,8\nconst w 4,4,3,3 " WEIGHTS "\nconst v 4,4,1,1 " WEIGHTS
        "\noutput o\nc Conv x,w -> y\nr Relu y -> z\nd Conv z,v -> o\n";
    CHECK(calib(planned(text, ""), "y_HzCalibration") == NULL);
    struct plan *p = planned(text, EC);
    CHECK(calib(p, "y_HzCalibration") != NULL);
    CHECK(calib(p, "z_HzCalibration") != NULL);
    int add = graph_node(p->graph, "c_split_add");
    CHECK_INT(plan_find_input(p, add, 0), -1);
    CHECK_INT(plan_find_input(p, add, 1), -1);
}

void test_compensate__low_threshold_is_at_most_half_a_step(void)
{
    struct plan *p = planned(CONV, EC);
    const struct calib *low = calib(p, "w_split_low_HzCalibration");
    CHECK_INT(low->n_thresholds, 4);
    for (int c = 0; c < 4; c++)
        CHECK(low->thresholds[c] > 0.3 / 127 && low->thresholds[c] <= 0.5f / 127);
}

void test_compensate__twin_takes_a_configuration_of_its_own(void)
{
    struct resolved r = resolved(CONV, "{'node_config': {'c': {'input1': 'ec', 'qtype': 'int16'}, "
                                       "'c_split_low': {'qtype': 'int16'}}}");
    CHECK_STR(line(&r, "c", 1)->rule, "ec");
    CHECK_INT(line(&r, "c", 1)->effective, Q_INT8);
    CHECK_INT(line(&r, "c_split_low", 0)->effective, Q_INT16);
    CHECK_INT(line(&r, "c", 0)->effective, Q_INT16);
}

void test_compensate__comes_back_from_a_file_as_it_was(void)
{
    struct err e = ERR_INIT;
    struct model *m;
    int64_t n;
    struct plan *p = planned(CONV, EC);
    float *before = run(p->graph, p, true, &n);
    const char *path = test_path("ec.onnx");
    CHECK_OK(model_write(p->graph, p, path, &e), e);
    CHECK_OK(model_open(&(struct model_source){.path = path}, &m, &e), e);
    float *after = run(m->float_graph, m->plan, true, &n);
    CHECK_MEM(before, after, (size_t)n * sizeof *after);
    CHECK(compensate_low(m->float_graph, graph_node(m->float_graph, "c")) >= 0);
    model_free(m);
}

#define MATMUL "input x 1,4,8,8\ninput z 1,4,8,8\noutput o\nm MatMul x,z -> o\n"

/* x is left in float: what remains is the loss of the second input. */
void test_compensate__computed_second_input_of_a_matmul(void)
{
    double int8 = loss(MATMUL, "'m': {'input0': 'float32'}", true);
    double ec = loss(MATMUL, "'m': {'input0': 'float32', 'input1': 'ec'}", true);
    CHECK(int8 > 1e-4);
    CHECK(ec < int8 / 100);
}

void test_compensate__low_part_of_a_value_has_a_254th_of_the_step(void)
{
    struct plan *p = planned(MATMUL, "'m': {'input1': 'ec'}");
    const struct calib *low = calib(p, "m_split_residual_HzCalibration");
    CHECK_NEAR(low->thresholds[0] / 127, 1.0 / 127 / 254, 1e-9);
    CHECK_INT(low->qtype, Q_INT8);
}

#define RESIZE(attrs)                                                                              \
    "input x 1,4,8,8\nconst s 4 1 1 2 2\nconst w 4,4,1,1\noutput o\nz Resize x,-,s -> y " attrs    \
    "\nc Conv y,w -> o\n"
#define RESIZE_EC "{'node_config': {'z': {'input0': 'ec'}, 'c': {'input0': 'int16'}}}"

void test_compensate__nearest_resize_lifts_its_output(void)
{
    struct resolved r = resolved(RESIZE("mode=nearest"), RESIZE_EC);
    CHECK_STR(line(&r, "z", 0)->rule, "ec");
    CHECK_INT(line(&r, "c", 0)->effective, Q_INT16);
}

void test_compensate__interpolating_resize_keeps_its_output_at_int8_and_says_so(void)
{
    struct resolved r = resolved(RESIZE("mode=linear"), RESIZE_EC);
    CHECK_STR(line(&r, "z", 0)->rule, "ec-input-only");
    CHECK_INT(line(&r, "c", 0)->effective, Q_INT8);
    CHECK_STR(line(&r, "c", 0)->rule, "ec-output");
}

void test_compensate__resize_of_int16_reads_the_second_calibration(void)
{
    struct resolved r =
        resolved(RESIZE("mode=nearest"), "{'model_config': {'all_node_type': 'int16'}, "
                                         "'node_config': {'z': {'input0': 'ec'}}}");
    const struct plan *p = r.plan;
    const struct graph *g = p->graph;
    const struct node *sub = &g->nodes[graph_node(g, "z_split_sub")];
    int port = p->port[g->nodes[graph_node(g, "z")].first_port];
    CHECK_STR(p->calibs[port].name, "x_calibrated_HzCalibration");
    CHECK_INT(p->port[sub->first_port], -1);
    CHECK_INT(p->port[sub->first_port + 1], port);
}

void test_compensate__refuses_inputs_that_are_not_limited(void)
{
    struct err e = ERR_INIT;
    CHECK_INT(parse(CONV, "{'node_config': {'c': {'input0': 'ec'}}}", &e), -1);
    CHECK_STR(e.at, "/node_config/c/input0");
    CHECK_INT(e.code, ERR_INVALID);
}

/* ---- the twins of every operator that §7 of the domain names ---- */

struct twin_case {
    const char *text, *node, *op_type;
    int port, n_in; /* of the twin */
    bool computed;  /* the compensated value is no constant */
};

static const struct twin_case twin_cases[] = {
    {CONV, "c", "Conv", 1, 2, false},
    {"input x 1,4,8,8\nconst w 4,3,3,3 " WEIGHTS "\nconst b 3 0.5 -1 2\noutput o\n"
     "t ConvTranspose x,w,b -> o strides=[2,2]\n",
     "t", "ConvTranspose", 1, 2, false},
    {"input x 32,8\nconst w 8,6 " WEIGHTS "\nconst b 6 0.5 -1 2 1\noutput o\nf Gemm x,w,b -> o\n",
     "f", "Gemm", 1, 2, false},
    {"input x 32,8\nconst w 8,6 " WEIGHTS "\noutput o\nm MatMul x,w -> o\n", "m", "MatMul", 1, 2,
     false},
    {"input x 1,4,8,8\ninput z 1,4,8,8\noutput o\nm MatMul x,z -> o\n", "m", "MatMul", 1, 2, true},
    {"input x 1,4,8,8\nconst s 4 1 1 2 2\noutput o\nz Resize x,-,s -> o mode=nearest\n", "z",
     "Resize", 0, 3, true},
    {"input x 1,4,8,8\nconst s 4 1 1 2 2\noutput o\nz Resize x,-,s -> o mode=linear\n", "z",
     "Resize", 0, 3, true},
    {"input x 1,4,8,8\nconst g 1,8,8,2 " WEIGHTS "\noutput o\ns GridSample x,g -> o\n", "s",
     "GridSample", 0, 2, true},
    {"input x 1,4,8,8\nconst g 1,8,8,2 " WEIGHTS "\noutput o\ns GridSample x,g -> o mode=nearest\n",
     "s", "GridSample", 0, 2, true},
};

static const char *ec_of(const struct twin_case *t)
{
    return arena_printf(&arena, "'%s': {'input%d': 'ec'}", t->node, t->port);
}

/* Only what the compensated port and its twin read is ON. */
static double port_loss(const struct twin_case *t, const char *nodes)
{
    struct err e = ERR_INIT;
    int64_t n;
    float *exact = run(mini_graph(&arena, t->text), NULL, false, &n);
    struct plan *p = planned(t->text, nodes);
    const struct graph *g = p->graph;
    int node = graph_node(g, t->node), low = compensate_low(g, node);
    int on[2] = {p->port[g->nodes[node].first_port + t->port],
                 low < 0 ? -1 : p->port[g->nodes[low].first_port + t->port]};
    run(g, p, true, &n); /* sets all switches; then these alone */
    for (int k = 0; k < p->n_calibs; k++)
        p->calibs[k].on = k == on[0] || k == on[1];
    struct tensor in[2] = {g->values[g->inputs[0]].type};
    struct exec *x;
    float *data = arena_array(&arena, N_IN, sizeof *data);
    for (int i = 0; i < N_IN; i++)
        data[i] = sinf((float)i * 1.7f);
    for (int i = 0; i < g->n_inputs; i++) {
        in[i] = g->values[g->inputs[i]].type;
        in[i].data = data;
    }
    CHECK_OK(exec_new(g, in, &(struct exec_opts){.backend = &backend_plain, .plan = p}, &x, &e), e);
    CHECK_OK(exec_run(x, in, NULL, NULL, &e), e);
    double loss_of = error_of(exact, exec_output(x, 0)->data, n);
    exec_free(x);
    return loss_of;
}

void test_compensate__every_operator_has_its_twin_by_name(void)
{
    for (size_t i = 0; i < sizeof twin_cases / sizeof *twin_cases; i++) {
        const struct twin_case *t = &twin_cases[i];
        const struct graph *g = planned(t->text, ec_of(t))->graph;
        int low = graph_node(g, arena_printf(&arena, "%s_split_low", t->node)),
            add = graph_node(g, arena_printf(&arena, "%s_split_add", t->node)),
            sub = graph_node(g, arena_printf(&arena, "%s_split_sub", t->node));
        CHECK(low >= 0 && add >= 0);
        CHECK_INT(sub >= 0, t->computed);
        CHECK_STR(g->nodes[low].op_type, t->op_type);
        CHECK_STR(g->nodes[add].op_type, "Add");
        CHECK_INT(g->nodes[low].n_in, t->n_in);
    }
}

void test_compensate__every_operator_loses_a_hundredth_and_less(void)
{
    for (size_t i = 0; i < sizeof twin_cases / sizeof *twin_cases; i++) {
        const struct twin_case *t = &twin_cases[i];
        double int8 = port_loss(t, ""), ec = port_loss(t, ec_of(t));
        printf("%s: int8 %.3g, ec %.3g\n", t->text, int8, ec);
        CHECK(int8 > 1e-5);
        CHECK(ec < int8 / 100);
    }
}

void test_compensate__every_twin_takes_a_configuration_of_its_own(void)
{
    for (size_t i = 0; i < sizeof twin_cases / sizeof *twin_cases; i++) {
        const struct twin_case *t = &twin_cases[i];
        int other = t->port ? 0 : 1;
        const char *low = arena_printf(&arena, "%s_split_low", t->node);
        struct resolved r = resolved(
            t->text,
            arena_printf(&arena, "{'node_config': {%s, '%s': {'qtype': 'int16'}}}", ec_of(t), low));
        CHECK(!strncmp(line(&r, t->node, t->port)->rule, "ec", 2));
        if (t->port == 0 && strcmp(t->op_type, "GridSample"))
            continue; /* Resize has no other quantizable input */
        CHECK_INT(line(&r, low, other)->effective, Q_INT16);
    }
}
