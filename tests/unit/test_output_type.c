/* model_output_type: calibrations behind graph outputs, from the configuration to a file. */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "tests/unit/mini.h"
#include "worker/exec/exec.h"
#include "worker/exec/sweep.h"
#include "worker/load/model.h"
#include "worker/quant/candidates.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/survey.h"

static struct arena arena;
static struct quant_config *config;

/* y is read by c2 and goes out as well; o is an end. */
#define READ_AND_OUT                                                                               \
    "input x 1,4,8,8\nconst w 4,4,1,1 0.5 -0.25 0.125\nconst v 4,4,1,1 0.3 -0.7\noutput y\n"       \
    "output o\nc1 Conv x,w -> y\nc2 Conv y,v -> o\n"

static struct resolved resolved(const char *text, const char *json)
{
    struct err e = ERR_INIT;
    struct resolved r;
    json_t *v = json_string(json);
    CHECK_OK(config_parse(v, "", mini_graph(&arena, text), &march_nash_e, &arena, &config, &e), e);
    json_decref(v);
    resolve(config, config->graph, &march_nash_e, &arena, &r);
    return r;
}

static struct plan *planned(const char *text, const char *json)
{
    struct err e = ERR_INIT;
    struct plan *p;
    struct resolved r = resolved(text, json);
    struct survey *s = survey_new(&r, config, &march_nash_e, 1);
    CHECK(survey_next(s) == NULL);
    CHECK_OK(survey_plan(s, &config->candidates[0], &arena, NULL, &p, &e), e);
    survey_free(s);
    return p;
}

static const struct calib *behind(const struct plan *p, int output)
{
    return p->output[output] < 0 ? NULL : &p->calibs[p->output[output]];
}

static const struct ledger_line *end_line(const struct resolved *r, const char *node)
{
    int n = graph_node(r->plan->graph, node);
    for (int i = r->ledger.n - 1; i >= 0; i--)
        if (r->ledger.lines[i].node == n && r->ledger.lines[i].input == REQUEST_OUTPUT)
            return &r->ledger.lines[i];
    FAIL("no line for the output of %s", node);
}

void test_output_type__every_float_output_has_one_and_no_reader_is_touched(void)
{
    struct resolved r = resolved(READ_AND_OUT, "{'model_config': {'model_output_type': 'int16'}}");
    const struct graph *g = r.plan->graph;
    CHECK_STR(behind(r.plan, 0)->name, "y_output_HzCalibration");
    CHECK_STR(behind(r.plan, 1)->name, "o_HzCalibration");
    CHECK_INT(behind(r.plan, 0)->qtype, Q_INT16);
    CHECK_INT(behind(r.plan, 1)->qtype, Q_INT16);
    int read = plan_find_input(r.plan, graph_node(g, "c2"), 0);
    CHECK_STR(r.plan->calibs[read].name, "y_HzCalibration");
    CHECK_INT(r.plan->calibs[read].qtype, Q_INT8);
    CHECK_INT(r.like[r.plan->output[0]], read); /* one set of thresholds */
    CHECK_INT(end_line(&r, "c1")->requested, Q_INT16);
    CHECK_INT(end_line(&r, "c1")->effective, Q_INT16);
    CHECK_STR(end_line(&r, "c1")->decided_by, "default");
    CHECK_STR(end_line(&r, "c1")->rule, "model-output");
}

void test_output_type__unset_leaves_outputs_in_float(void)
{
    struct resolved r = resolved(READ_AND_OUT, "{}");
    CHECK(!behind(r.plan, 0) && !behind(r.plan, 1));
    CHECK_INT(plan_find(r.plan, "o_HzCalibration"), -1);
}

void test_output_type__a_concat_that_ends_the_graph_raises_none_of_its_inputs(void)
{
    struct resolved r = resolved("input a 1,2,4,4\ninput b 1,2,4,4\noutput o\nk Concat a,b -> o "
                                 "axis=1\n",
                                 "{'model_config': {'model_output_type': 'int16'}}");
    CHECK_INT(behind(r.plan, 0)->qtype, Q_INT16);
    CHECK_INT(r.plan->calibs[plan_find(r.plan, "a_HzCalibration")].qtype, Q_INT8);
}

#define RESIZE "input x 1,4,8,8\nconst s 4 1 1 2 2\noutput o\nrs Resize x,,s -> o mode=nearest\n"

void test_output_type__march_and_a_finer_request_are_told(void)
{
    struct resolved r = resolved(RESIZE, "{'model_config': {'model_output_type': 'int16'}}");
    CHECK_INT(behind(r.plan, 0)->qtype, Q_INT8);
    CHECK_STR(end_line(&r, "rs")->decided_by, "constraint");
    r = resolved(READ_AND_OUT, "{'model_config': {'model_output_type': 'int8'}, "
                               "'node_config': {'c2': {'OutputType': 'int16'}}}");
    CHECK_INT(behind(r.plan, 1)->qtype, Q_INT16);
    CHECK_STR(end_line(&r, "c2")->rule, "output-type");
    r = resolved("input x 1,4,8,8\noutput o\nu Det x -> o\n",
                 "{'model_config': {'model_output_type': 'int8'}}");
    CHECK(!behind(r.plan, 0));
    CHECK_STR(end_line(&r, "u")->rule, "cpu");
}

static float *run(const struct graph *g, const struct plan *p, int output, int64_t *ret_n)
{
    struct err e = ERR_INIT;
    struct tensor in = g->values[g->inputs[0]].type;
    float *x = arena_array(&arena, 256, sizeof *x);
    struct exec *exec;
    for (int i = 0; i < 256; i++)
        x[i] = 0.8f * sinf((float)i * 1.7f);
    in.data = x;
    CHECK_OK(exec_new(g, &in, &(struct exec_opts){.plan = p}, &exec, &e), e);
    CHECK_OK(exec_run(exec, &in, NULL, NULL, &e), e);
    const struct tensor *t = exec_output(exec, output);
    *ret_n = tensor_count(t);
    float *y = arena_copy(&arena, t->data, tensor_bytes(t));
    exec_free(exec);
    return y;
}

#define FIXED_INT8                                                                                 \
    "{'model_config': {'model_output_type': 'int8', 'activation': {'calibration_type': 'fixed'}}}"

void test_output_type__output_is_what_the_calibration_makes_of_the_float_one(void)
{
    struct plan *p = planned(READ_AND_OUT, FIXED_INT8);
    int64_t n;
    for (int k = 0; k < p->n_calibs; k++)
        p->calibs[k].on = k == p->output[0] || k == p->output[1];
    for (int o = 0; o < 2; o++) {
        float *exact = run(p->graph, NULL, o, &n), *have = run(p->graph, p, o, &n);
        struct fq_param q;
        fq_of_calib(behind(p, o), 0, &q);
        CHECK(memcmp(exact, have, (size_t)n * sizeof *have));
        fq_run(&q, exact, exact, n);
        CHECK_MEM(have, exact, (size_t)n * sizeof *have);
    }
}

void test_output_type__comes_back_from_a_file(void)
{
    struct plan *p = planned(READ_AND_OUT, FIXED_INT8);
    struct err e = ERR_INIT;
    struct model *m;
    struct digest before, after;
    int64_t n;
    CHECK_OK(model_write(p->graph, p, test_path("m.onnx"), &e), e);
    CHECK_OK(model_open(&(struct model_source){.path = test_path("m.onnx")}, &m, &e), e);
    const struct graph *file = m->original;
    CHECK_STR(file->values[file->outputs[0]].name, "y_output_calibrated");
    CHECK_STR(file->values[file->outputs[1]].name, "o_calibrated");
    CHECK_STR(m->float_graph->values[m->float_graph->outputs[1]].name, "o");
    CHECK_STR(behind(m->plan, 0)->name, "y_output_HzCalibration");
    CHECK_STR(behind(m->plan, 1)->name, "o_HzCalibration");
    plan_digest(p, &before);
    plan_digest(m->plan, &after);
    CHECK_MEM(&before, &after, sizeof before);
    float *have = run(p->graph, p, 1, &n), *back = run(m->float_graph, m->plan, 1, &n);
    CHECK_MEM(have, back, (size_t)n * sizeof *have);
    model_free(m);
}

void test_output_type__a_sweep_tells_what_the_calibration_costs_its_output(void)
{
    struct plan *p = planned(READ_AND_OUT, FIXED_INT8);
    struct candidates *all;
    struct err e = ERR_INIT;
    struct tensor in = p->graph->values[p->graph->inputs[0]].type;
    float x[256];
    struct sweep *s;
    struct metric_sums sums[2];
    struct sweep_counts counts;
    int found = -1;
    for (int i = 0; i < 256; i++)
        x[i] = 0.8f * sinf((float)i);
    in.data = x;
    CHECK_OK(candidates_find(p, BY_ACTIVATION, NULL, NULL, &arena, &all, &e), e);
    for (int i = 0; i < all->n; i++)
        if (!strcmp(all->list[i].name, "o_HzCalibration"))
            found = i;
    CHECK(found >= 0 && all->list[found].reaches[1] && !all->list[found].reaches[0]);
    struct sweep_opts opts = {.plan = p, .outputs = all->outputs, .n_outputs = all->n_outputs};
    CHECK_OK(sweep_new(p->graph, &in, &opts, &s, &e), e);
    CHECK_OK(sweep_load(s, &in, &e), e);
    CHECK_OK(sweep_run(s, all->list[found].calibs, 1, sums, &counts, &e), e);
    CHECK(sums[0].dd == 0);
    CHECK(sums[1].dd > 0 && sums[1].largest <= 0.5 / 127 + 1e-6);
    sweep_free(s);
}
