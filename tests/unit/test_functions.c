/* Functions that a model defines: calls are read as the nodes of the function. */
#include <string.h>

#include "tests/onnx_maker.h"
#include "tests/test.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"

enum { OPSET = 16, BOOL = 9, IR = 8, ATTR_IS_FLOAT = 1 };

static int try_open(struct onnx_maker *m, struct model **ret, struct err *e)
{
    const char *path = maker_save(m, "m.onnx");
    maker_done(m);
    return model_open(&(struct model_source){.path = path}, ret, e);
}

/* leaky(x; slope) = LeakyRelu(x, alpha=slope); twice(x, a; slope) = leaky(leaky(x)), and x + a if
 * there is an a. The names inside are the same as those outside. */
static void add_functions(struct onnx_maker *m)
{
    struct onnx_maker leaky, twice;
    maker_function_init(&leaky, "my", "leaky", "x", "y", "slope", OPSET);
    maker_ref(&leaky, "alpha", "slope", ATTR_IS_FLOAT);
    maker_node(&leaky, "LeakyRelu", "n", "x", "y", NULL);
    maker_function_init(&twice, "my", "twice", "x more", "y", "slope", OPSET);
    maker_ref(&twice, "slope", "slope", ATTR_IS_FLOAT);
    maker_node(&twice, "my:leaky", "a", "x", "t", NULL);
    maker_ref(&twice, "slope", "slope", ATTR_IS_FLOAT);
    maker_node(&twice, "my:leaky", "b", "t", "u", NULL);
    maker_node(&twice, "Sum", "s", "u x", "y", NULL);
    maker_function(m, &leaky);
    maker_function(m, &twice);
    maker_done(&leaky);
    maker_done(&twice);
}

static void check_run(const struct model *m, float in, float out)
{
    struct exec *x;
    struct err e = ERR_INIT;
    struct tensor t = {.type = DT_F32, .rank = 1, .dims = {1}, .data = &in};
    CHECK_OK(exec_new(m->float_graph, &t, NULL, &x, &e), e);
    CHECK_OK(exec_run(x, &t, NULL, NULL, &e), e);
    CHECK_NEAR(*(const float *)exec_output(x, 0)->data, out, 1e-6);
    exec_free(x);
}

void test_functions__calls_in_calls_become_nodes_with_names_of_their_own(void)
{
    struct onnx_maker m;
    struct model *model;
    struct err e = ERR_INIT;
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    add_functions(&m);
    maker_input(&m, "x", "1");
    maker_node(&m, "my:twice", "first", "x", "t", "slope=f:0.5");
    maker_node(&m, "my:twice", "", "t", "y", "slope=f:0.25");
    maker_output(&m, "y", "1");
    CHECK_OK(try_open(&m, &model, &e), e);
    CHECK_INT(model->float_graph->n_nodes, 6);
    CHECK(graph_node(model->float_graph, "first/a/n") >= 0);
    CHECK(graph_value(model->float_graph, "first/u") >= 0);
    check_run(model, 3, 12);
    check_run(model, -4, -5 * (1 + 1.0f / 16));
    model_free(model);
}

void test_functions__an_attribute_that_the_call_leaves_out_is_absent(void)
{
    struct onnx_maker m;
    struct model *model;
    struct err e = ERR_INIT;
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    add_functions(&m);
    maker_input(&m, "x", "1");
    maker_node(&m, "my:leaky", "call", "x", "y", NULL);
    maker_output(&m, "y", "1");
    CHECK_OK(try_open(&m, &model, &e), e);
    check_run(model, -2, -0.02f);
    model_free(model);
}

/* A branch inside a function reads the function's values and its caller's input. */
void test_functions__subgraphs_inside_see_the_names_of_their_function(void)
{
    struct onnx_maker m, f, yes, no;
    struct model *model;
    struct err e = ERR_INIT;
    maker_init(&yes, IR, OPSET);
    maker_node(&yes, "Add", "", "half x", "out", NULL);
    maker_output(&yes, "out", "1");
    maker_init(&no, IR, OPSET);
    maker_node(&no, "Neg", "", "x", "out_no", NULL);
    maker_output(&no, "out_no", "1");
    maker_function_init(&f, "my", "choose", "x", "y", "", OPSET);
    maker_node(&f, "Mul", "", "x x", "half", NULL);
    maker_node(&f, "Less", "", "x half", "c", NULL);
    maker_body(&f, "then_branch", &yes);
    maker_body(&f, "else_branch", &no);
    maker_node(&f, "If", "", "c", "y", NULL);
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    maker_function(&m, &f);
    maker_input(&m, "outside", "1");
    maker_node(&m, "my:choose", "", "outside", "y", NULL);
    maker_output(&m, "y", "1");
    CHECK_OK(try_open(&m, &model, &e), e);
    check_run(model, 3, 12);
    check_run(model, 0.5f, -0.5f);
    model_free(model);
    maker_done(&f);
    maker_done(&yes);
    maker_done(&no);
}

void test_functions__one_that_calls_itself_is_refused(void)
{
    struct onnx_maker m, f, g;
    struct model *model;
    struct err e = ERR_INIT;
    maker_function_init(&f, "my", "f", "x", "y", "", OPSET);
    maker_node(&f, "my:g", "", "x", "y", NULL);
    maker_function_init(&g, "my", "g", "x", "y", "", OPSET);
    maker_node(&g, "my:f", "", "x", "y", NULL);
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    maker_function(&m, &f);
    maker_function(&m, &g);
    maker_input(&m, "x", "1");
    maker_node(&m, "my:f", "outermost", "x", "y", NULL);
    maker_output(&m, "y", "1");
    CHECK_INT(try_open(&m, &model, &e), -1);
    CHECK_INT(e.code, ERR_BAD_MODEL);
    CHECK(strstr(e.detail, "calls itself") != NULL);
    CHECK(strstr(e.at, "outermost") != NULL);
    maker_done(&f);
    maker_done(&g);
}

/* Each function calls the one before it ten times: 10^16 nodes. */
void test_functions__a_bomb_of_calls_is_refused(void)
{
    struct onnx_maker m, f;
    struct model *model;
    struct err e = ERR_INIT;
    char name[] = "f0", callee[] = "my:f0";
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    for (int i = 0; i < 16; i++) {
        name[1] = (char)('a' + i);
        callee[4] = (char)('a' + i - 1);
        maker_function_init(&f, "my", name, "x", "y", "", OPSET);
        for (int k = 0; k < 10; k++)
            maker_node(&f, i ? callee : "Neg", "", "x", k ? "-" : "y", NULL);
        maker_function(&m, &f);
        maker_done(&f);
    }
    maker_input(&m, "x", "1");
    maker_node(&m, "my:fp", "bomb", "x", "y", NULL);
    maker_output(&m, "y", "1");
    CHECK_INT(try_open(&m, &model, &e), -1);
    CHECK_INT(e.code, ERR_LIMIT);
    CHECK(strstr(e.at, "bomb") != NULL);
}

void test_functions__operators_missing_inside_are_listed(void)
{
    struct onnx_maker m, f;
    struct model *model;
    struct err e = ERR_INIT;
    maker_function_init(&f, "my", "f", "x", "y", "", OPSET);
    maker_node(&f, "NoSuchThing", "", "x", "y", NULL);
    maker_init(&m, IR, OPSET);
    maker_import(&m, "my", 1);
    maker_function(&m, &f);
    maker_input(&m, "x", "1");
    maker_node(&m, "my:f", "", "x", "y", NULL);
    maker_output(&m, "y", "1");
    CHECK_INT(try_open(&m, &model, &e), -1);
    CHECK_INT(e.code, ERR_UNSUPPORTED);
    CHECK(strstr(e.detail, "NoSuchThing") != NULL);
    maker_done(&f);
}
