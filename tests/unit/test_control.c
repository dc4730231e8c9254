/* If, Loop and Scan: bodies that read the graph around them, shapes that change, limits. */
#include <string.h>

#include "tests/onnx_maker.h"
#include "tests/test.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"

enum { OPSET = 16, BOOL = 9, FLOAT = 1, INT64 = 7, IR = 8 };

static struct model *open_made(struct onnx_maker *m)
{
    struct model *model;
    struct err e = ERR_INIT;
    const char *path = maker_save(m, "m.onnx");
    CHECK_OK(model_open(&(struct model_source){.path = path}, &model, &e), e);
    maker_done(m);
    return model;
}

static struct exec *run_limited(const struct model *m, const struct tensor *in, uint64_t memory_max)
{
    struct exec *x;
    struct err e = ERR_INIT;
    struct exec_opts opts = {.memory_max = memory_max};
    CHECK_OK(exec_new(m->float_graph, in, &opts, &x, &e), e);
    CHECK_OK(exec_run(x, in, NULL, NULL, &e), e);
    return x;
}

static struct exec *run(const struct model *m, const struct tensor *in)
{
    return run_limited(m, in, 0);
}

static const float *floats(const struct exec *x, int i)
{
    return exec_output(x, i)->data;
}

/* for i in range(trips): a = concat(a, w·x); scan a's sum. `x` and `w` are from outside. */
static void make_growing_loop(struct onnx_maker *m)
{
    struct onnx_maker body;
    maker_init(&body, IR, OPSET);
    maker_typed_input(&body, "i", INT64, "");
    maker_typed_input(&body, "go", BOOL, "");
    maker_typed_input(&body, "a", FLOAT, NULL);
    maker_node(&body, "Identity", "", "go", "go_on", NULL);
    maker_node(&body, "MatMul", "", "x w", "xw", NULL);
    maker_node(&body, "Concat", "", "a xw", "longer", "axis=i:0");
    maker_node(&body, "ReduceSum", "", "longer", "sum", "keepdims=i:0");
    maker_typed_output(&body, "go_on", BOOL, "");
    maker_typed_output(&body, "longer", FLOAT, NULL);
    maker_typed_output(&body, "sum", FLOAT, NULL);

    maker_init(m, IR, OPSET);
    maker_typed_input(m, "trips", INT64, "");
    maker_input(m, "x", "1,2");
    maker_floats(m, "w", "2,2", (const float[]){1, 2, 3, 4});
    maker_floats(m, "first", "1,2", (const float[]){10, 20});
    maker_body(m, "body", &body);
    maker_node(m, "Loop", "grow", "trips - first", "all sums", NULL);
    maker_typed_output(m, "all", FLOAT, NULL);
    maker_typed_output(m, "sums", FLOAT, NULL);
    maker_done(&body);
}

void test_control__a_loop_carries_a_growing_value_and_piles_up_scan_outputs(void)
{
    struct onnx_maker maker;
    make_growing_loop(&maker);
    struct model *m = open_made(&maker);
    int64_t trips = 7;
    float x[] = {1, 2};
    struct tensor in[] = {{.type = DT_I64, .data = &trips},
                          {.type = DT_F32, .rank = 2, .dims = {1, 2}, .data = x}};
    struct exec *e = run(m, in);
    CHECK_INT(exec_output(e, 0)->dims[0], 8);
    for (int i = 0; i < 7; i++) {
        CHECK_NEAR(floats(e, 0)[2 + 2 * i], 7, 0);
        CHECK_NEAR(floats(e, 0)[3 + 2 * i], 10, 0);
        CHECK_NEAR(floats(e, 1)[i], 30 + 17 * (i + 1), 0);
    }
    exec_free(e);
    model_free(m);
}

void test_control__a_loop_runs_again_with_other_data(void)
{
    struct onnx_maker maker;
    make_growing_loop(&maker);
    struct model *m = open_made(&maker);
    int64_t trips = 3;
    float x[] = {1, 2};
    struct err err = ERR_INIT;
    struct tensor in[] = {{.type = DT_I64, .data = &trips},
                          {.type = DT_F32, .rank = 2, .dims = {1, 2}, .data = x}};
    struct exec *e = run(m, in);
    x[0] = 0;
    trips = 5;
    CHECK_OK(exec_run(e, in, NULL, NULL, &err), err);
    CHECK_INT(exec_output(e, 0)->dims[0], 6);
    CHECK_NEAR(floats(e, 0)[10], 6, 0);
    CHECK_NEAR(floats(e, 0)[11], 8, 0);
    trips = 0;
    CHECK_OK(exec_run(e, in, NULL, NULL, &err), err);
    CHECK_INT(exec_output(e, 0)->dims[0], 1);
    CHECK_INT(exec_output(e, 1)->rank, 1);
    CHECK_INT(exec_output(e, 1)->dims[0], 0);
    exec_free(e);
    model_free(m);
}

void test_control__a_loop_stays_below_the_memory_limit(void)
{
    struct onnx_maker maker;
    make_growing_loop(&maker);
    struct model *m = open_made(&maker);
    int64_t trips = 1 << 20;
    float x[] = {1, 2};
    struct err err = ERR_INIT;
    struct tensor in[] = {{.type = DT_I64, .data = &trips},
                          {.type = DT_F32, .rank = 2, .dims = {1, 2}, .data = x}};
    struct exec *e;
    struct exec_opts opts = {.memory_max = 150 << 10};
    CHECK_OK(exec_new(m->float_graph, in, &opts, &e, &err), err);
    CHECK_INT(exec_run(e, in, NULL, NULL, &err), -1);
    CHECK_INT(err.code, ERR_MEMORY_LIMIT);
    CHECK(strstr(err.at, "grow") != NULL);
    exec_free(e);
    model_free(m);
}

/* cond ? x + c : Neg(x), the inner ones twice as deep as needed. */
static void make_if(struct onnx_maker *m, bool constant)
{
    struct onnx_maker yes, no, deep;
    const char *at = constant ? "always" : "c";
    maker_init(&deep, IR, OPSET);
    maker_node(&deep, "Add", "", "twice x", "deep_out", NULL);
    maker_output(&deep, "deep_out", "2");
    maker_init(&yes, IR, OPSET);
    maker_node(&yes, "Add", "twice_x", "x x", "twice", NULL);
    maker_body(&yes, "then_branch", &deep);
    maker_body(&yes, "else_branch", &deep);
    maker_node(&yes, "If", "", "c", "yes_out", NULL);
    maker_output(&yes, "yes_out", "2");
    maker_init(&no, IR, OPSET);
    maker_node(&no, "Neg", "", "x", "no_out", NULL);
    maker_output(&no, "no_out", "2");

    maker_init(m, IR, OPSET);
    maker_typed_input(m, "c", BOOL, "");
    maker_input(m, "x", "2");
    maker_ints(m, "one", "1", (const int64_t[]){1});
    maker_node(m, "Cast", "", "one", "always", "to=i:9");
    maker_body(m, "then_branch", &yes);
    maker_body(m, "else_branch", &no);
    maker_node(m, "If", "choose", at, "y", NULL);
    maker_node(m, "Identity", "", "y", "z", NULL);
    maker_output(m, "z", "2");
    maker_done(&deep);
    maker_done(&yes);
    maker_done(&no);
}

static void check_if(const struct model *m, bool c, float first, float second)
{
    float x[] = {1, 2};
    struct tensor in[] = {{.type = DT_BOOL, .data = &c},
                          {.type = DT_F32, .rank = 1, .dims = {2}, .data = x}};
    struct exec *e = run(m, in);
    CHECK_NEAR(floats(e, 0)[0], first, 0);
    CHECK_NEAR(floats(e, 0)[1], second, 0);
    exec_free(e);
}

void test_control__if_takes_the_branch_that_its_condition_says(void)
{
    struct onnx_maker maker;
    make_if(&maker, false);
    struct model *m = open_made(&maker);
    check_if(m, true, 3, 6);
    check_if(m, false, -1, -2);
    model_free(m);
}

void test_control__an_if_with_a_constant_condition_is_inlined(void)
{
    struct onnx_maker maker;
    make_if(&maker, true);
    struct model *m = open_made(&maker);
    CHECK(graph_node(m->original, "choose") >= 0);
    CHECK_INT(graph_node(m->float_graph, "choose"), -1);
    CHECK(graph_node(m->float_graph, "twice_x") >= 0);
    check_if(m, true, 3, 6);
    model_free(m);
}

/* The name that a body knows a value by follows the value. */
void test_control__a_written_model_with_subgraphs_opens_again(void)
{
    struct onnx_maker maker;
    struct model *again;
    struct err e = ERR_INIT;
    make_if(&maker, false);
    struct model *m = open_made(&maker);
    const char *path = test_path("written.onnx");
    CHECK_OK(model_write(m->float_graph, NULL, path, &e), e);
    CHECK_OK(model_open(&(struct model_source){.path = path}, &again, &e), e);
    check_if(again, true, 3, 6);
    check_if(again, false, -1, -2);
    model_free(again);
    model_free(m);
}

/* Identity in front of what a body reads goes away, and the body reads what was in front of it. */
void test_control__a_value_renamed_outside_is_renamed_inside(void)
{
    struct onnx_maker m, body;
    struct model *model, *again;
    struct err e = ERR_INIT;
    maker_init(&body, IR, OPSET);
    maker_node(&body, "Neg", "", "same", "out", NULL);
    maker_output(&body, "out", "2");
    maker_init(&m, IR, OPSET);
    maker_typed_input(&m, "c", BOOL, "");
    maker_input(&m, "x", "2");
    maker_node(&m, "Abs", "", "x", "abs", NULL);
    maker_node(&m, "Identity", "", "abs", "same", NULL);
    maker_body(&m, "then_branch", &body);
    maker_body(&m, "else_branch", &body);
    maker_node(&m, "If", "", "c", "z", NULL);
    maker_output(&m, "z", "2");
    maker_done(&body);
    model = open_made(&m);
    CHECK_INT(graph_value(model->float_graph, "same"), -1);
    check_if(model, true, -1, -2);
    const char *path = test_path("written.onnx");
    CHECK_OK(model_write(model->float_graph, NULL, path, &e), e);
    CHECK_OK(model_open(&(struct model_source){.path = path}, &again, &e), e);
    check_if(again, false, -1, -2);
    model_free(again);
    model_free(model);
}

void test_control__a_branch_that_does_not_fit_is_refused_by_name(void)
{
    struct onnx_maker m, body;
    struct model *model;
    struct err e = ERR_INIT;
    maker_init(&body, IR, OPSET);
    maker_node(&body, "Neg", "", "x", "inner", NULL);
    maker_init(&m, IR, OPSET);
    maker_typed_input(&m, "c", BOOL, "");
    maker_input(&m, "x", "2");
    maker_body(&m, "then_branch", &body);
    maker_body(&m, "else_branch", &body);
    maker_node(&m, "If", "empty", "c", "y", NULL);
    maker_output(&m, "y", "2");
    const char *path = maker_save(&m, "m.onnx");
    CHECK_INT(model_open(&(struct model_source){.path = path}, &model, &e), -1);
    CHECK_INT(e.code, ERR_BAD_MODEL);
    CHECK(strstr(e.at, "empty") != NULL);
    maker_done(&body);
    maker_done(&m);
}

/* Running sums over axis 1, from the back to the front, put in front. */
void test_control__a_scan_walks_an_axis_backwards(void)
{
    struct onnx_maker m, body;
    maker_init(&body, IR, OPSET);
    maker_input(&body, "sum", "2");
    maker_input(&body, "v", "2");
    maker_node(&body, "Add", "", "sum v", "next", NULL);
    maker_node(&body, "Identity", "", "next", "copy", NULL);
    maker_output(&body, "next", "2");
    maker_output(&body, "copy", "2");
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2,3");
    maker_floats(&m, "zero", "2", (const float[]){0, 0});
    maker_body(&m, "body", &body);
    maker_node(&m, "Scan", "", "zero x", "total sums",
               "num_scan_inputs=i:1 scan_input_axes=is:1 scan_input_directions=is:1 "
               "scan_output_axes=is:1 scan_output_directions=is:1");
    maker_output(&m, "total", "2");
    maker_output(&m, "sums", "2,3");
    maker_done(&body);
    struct model *model = open_made(&m);
    float x[] = {1, 2, 3, 10, 20, 30};
    struct tensor in = {.type = DT_F32, .rank = 2, .dims = {2, 3}, .data = x};
    struct exec *e = run(model, &in);
    CHECK_MEM(floats(e, 0), ((const float[]){6, 60}), 8);
    CHECK_MEM(floats(e, 1), ((const float[]){6, 5, 3, 60, 50, 30}), 24);
    exec_free(e);
    model_free(model);
}
