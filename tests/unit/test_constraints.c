/* From a configuration to types: requests, levels, the march's rules, and the ledger. */
#include "tests/test.h"

#include <string.h>

#include "tests/unit/mini.h"
#include "worker/ops/op.h"
#include "worker/quant/resolve.h"

static struct arena arena;
static struct quant_config *config;

static struct resolved resolved(const char *text, const char *json)
{
    struct err e = ERR_INIT;
    struct resolved r;
    struct graph *g = mini_graph(&arena, text);
    json_t *v = json_string(json);
    CHECK_OK(config_parse(v, "", g, &march_nash_e, &arena, &config, &e), e);
    resolve(config, g, &march_nash_e, &arena, &r);
    json_decref(v);
    return r;
}

static const struct ledger_line *line(const struct resolved *r, const char *node, int input)
{
    int n = graph_node(r->plan->graph, node);
    for (int i = 0; i < r->ledger.n; i++)
        if (r->ledger.lines[i].node == n && r->ledger.lines[i].input == input)
            return &r->ledger.lines[i];
    FAIL("no ledger line for input %d of %s", input, node);
}

static const char *type(const struct resolved *r, const char *node, int input)
{
    int k = plan_find_input(r->plan, graph_node(r->plan->graph, node), input);
    return k < 0 ? "" : qtype_name(r->plan->calibs[k].qtype);
}

static void check_line(const struct resolved *r, const char *node, int input, const char *effective,
                       const char *decided_by, const char *rule)
{
    const struct ledger_line *l = line(r, node, input);
    CHECK_STR(qtype_name(l->effective), effective);
    CHECK_STR(l->decided_by, decided_by);
    CHECK_STR(l->rule ? l->rule : "", rule);
    CHECK_STR(type(r, node, input), effective);
}

#define TWO_CONVS                                                                                  \
    "input x 1,4,8,8\nconst w 4,4,1,1\nconst v 4,4,1,1\noutput o\nc1 Conv x,w -> y\n"              \
    "c2 Conv y,v -> o\n"

void test_constraints__default_is_int8(void)
{
    struct resolved r = resolved(TWO_CONVS, "{}");
    check_line(&r, "c1", 0, "int8", "default", "");
    check_line(&r, "c2", 1, "int8", "default", "");
}

void test_constraints__all_int16_leaves_weights_at_int8(void)
{
    struct resolved r = resolved(TWO_CONVS, "{'model_config': {'all_node_type': 'int16'}}");
    check_line(&r, "c1", 0, "int16", "default", "");
    check_line(&r, "c1", 1, "int8", "constraint", "nash-e/weight-int8");
    CHECK_INT(line(&r, "c1", 1)->requested, Q_INT16);
}

void test_constraints__float_takes_weights_along_and_leaves_the_bpu(void)
{
    struct resolved r = resolved(TWO_CONVS, "{'node_config': {'c2': {'ON': 'CPU'}}}");
    check_line(&r, "c2", 0, "float32", "node", "leaves-bpu");
    check_line(&r, "c2", 1, "float32", "node", "leaves-bpu");
    check_line(&r, "c1", 1, "int8", "default", "");
}

void test_constraints__finer_level_wins_over_more_precise(void)
{
    struct resolved r = resolved(
        TWO_CONVS,
        "{'op_config': {'Conv': {'qtype': 'int16'}},"
        " 'subgraph_config': {'s': {'inputs': ['c1'], 'outputs': ['c2'], 'qtype': 'float16'}},"
        " 'node_config': {'c2': {'qtype': 'int8'}}}");
    check_line(&r, "c1", 0, "float16", "subgraph", "leaves-bpu");
    check_line(&r, "c2", 0, "int8", "node", "");
    r = resolved(TWO_CONVS, "{'node_config': {'c1': {'qtype': 'int8', 'input0': 'int16'}}}");
    check_line(&r, "c1", 0, "int16", "node", "");
}

void test_constraints__readers_of_one_tensor_share_and_are_told(void)
{
    struct resolved r =
        resolved("input x 1,4,8,8\nconst w 4,4,1,1\nconst v 4,4,1,1\noutput o\noutput p\n"
                 "c1 Conv x,w -> o\nc2 Conv x,v -> p\n",
                 "{'node_config': {'c2': {'qtype': 'int16'}}}");
    check_line(&r, "c2", 0, "int16", "node", "");
    check_line(&r, "c1", 0, "int16", "sharing", "sharing");
}

void test_constraints__output_type_decides_for_the_readers(void)
{
    struct resolved r = resolved(TWO_CONVS, "{'node_config': {'c1': {'OutputType': 'int16'}}}");
    check_line(&r, "c2", 0, "int16", "sharing", "sharing");
    CHECK_INT(line(&r, "c1", REQUEST_OUTPUT)->effective, Q_INT16);
}

#define SUM                                                                                        \
    "input x 1,4,8,8\ninput y 1,4,8,8\noutput o\nm1 Mul x,x -> a\nm2 Mul y,y -> b\n"               \
    "add Add a,b -> c\nend Mul c,c -> o\n"

void test_constraints__add_raises_its_narrower_input(void)
{
    struct resolved r = resolved(SUM, "{'node_config': {'add': {'input0': 'int16'}}}");
    check_line(&r, "add", 0, "int16", "node", "");
    check_line(&r, "add", 1, "int16", "constraint", "same-type");
    check_line(&r, "end", 0, "int8", "default", "");
}

void test_constraints__concat_takes_its_widest_request(void)
{
    struct resolved r = resolved("input x 1,4,8,8\ninput y 1,4,8,8\noutput o\nm1 Mul x,x -> a\n"
                                 "m2 Mul y,y -> b\nk Concat a,b -> c axis=1\nend Mul c,c -> o\n",
                                 "{'node_config': {'end': {'qtype': 'int16'}}}");
    check_line(&r, "k", 0, "int16", "constraint", "concat");
    check_line(&r, "k", 1, "int16", "constraint", "concat");
    check_line(&r, "m1", 0, "int8", "default", "");
}

#define RESIZE                                                                                     \
    "input x 1,4,8,8\nconst w 4,4,1,1\nconst s 4 1 1 2 2\noutput o\noutput p\nc1 Conv x,w -> y\n"  \
    "rs Resize y,-,s -> z\nm Mul z,z -> o\nn Mul y,y -> p\n"

void test_constraints__int8_port_on_a_wide_tensor_gets_a_second_calibration(void)
{
    struct resolved r = resolved(RESIZE, "{'model_config': {'all_node_type': 'int16'}}");
    check_line(&r, "rs", 0, "int8", "constraint", "nash-e/resize-int8");
    check_line(&r, "n", 0, "int16", "default", "");
    check_line(&r, "m", 0, "int8", "constraint", "nash-e/resize-int8"); /* Resize gives int8 */
    int k = plan_find(r.plan, "y_calibrated_HzCalibration");
    CHECK(k > 0);
    CHECK_STR(r.plan->calibs[r.plan->calibs[k].parent].name, "y_HzCalibration");
    CHECK_INT(r.like[k], r.plan->calibs[k].parent);
    CHECK_INT(r.plan->port[r.plan->graph->nodes[graph_node(r.plan->graph, "rs")].first_port], k);
    r = resolved(RESIZE, "{}");
    CHECK_INT(plan_find(r.plan, "y_calibrated_HzCalibration"), -1);
    check_line(&r, "rs", 0, "int8", "default", "");
}

void test_constraints__int8_port_behind_a_preserving_operator_is_limited_on_what_it_reads(void)
{
    struct resolved r =
        resolved("input x 4,4\ninput y 4,4\noutput o\nm Mul y,y -> a\nt Transpose a -> b\n"
                 "mm MatMul x,b -> c\nend Mul c,c -> o\n",
                 "{'model_config': {'all_node_type': 'int16'}}");
    check_line(&r, "mm", 1, "int8", "constraint", "nash-e/matmul-input1-int8");
    check_line(&r, "t", 0, "int16", "default", "");
    int k = plan_find(r.plan, "b_HzCalibration");
    CHECK(k >= 0);
    CHECK_INT(r.plan->calibs[k].parent, -1);
    CHECK_STR(r.plan->calibs[r.like[k]].name, "a_HzCalibration");
}

void test_constraints__lut_that_reads_int8_gives_int8(void)
{
    const char *text =
        "input x 1,4,8,8\noutput o\nm Mul x,x -> a\ns Sigmoid a -> b\nend Mul b,b -> o\n";
    struct resolved r = resolved(text, "{'node_config': {'end': {'qtype': 'int16'}}}");
    check_line(&r, "end", 0, "int8", "constraint", "nash-e/lut-output");
    r = resolved(text, "{'node_config': {'end': {'qtype': 'int16'}, 's': {'qtype': 'int16'}}}");
    check_line(&r, "end", 0, "int16", "node", "");
    r = resolved(text, "{'op_config': {'Lut': {'qtype': 'int16', 'OutputType': 'int16'}}}");
    check_line(&r, "s", 0, "int16", "op", "");
    check_line(&r, "end", 0, "int16", "sharing", "sharing");
}

void test_constraints__grid_is_int16_and_odd_padding_leaves_the_device(void)
{
    const char *text =
        "input x 1,4,8,8\ninput g 1,8,8,2\noutput o\na Mul x,x -> y\nb Mul g,g -> h\n"
        "gs GridSample y,h -> z padding_mode=%s\nend Mul z,z -> o\n";
    struct resolved r = resolved(arena_printf(&arena, text, "border"), "{}");
    check_line(&r, "gs", 0, "int8", "default", "");
    check_line(&r, "gs", 1, "int16", "constraint", "nash-e/grid-int16");
    r = resolved(arena_printf(&arena, text, "reflection"), "{}");
    CHECK_STR(line(&r, "gs", REQUEST_ALL)->rule, "cpu");
    CHECK_STR(type(&r, "end", 0), "");
}

void test_constraints__softmax_over_too_much_runs_on_the_cpu(void)
{
    struct resolved r = resolved("input x 1,65535\noutput o\ns Softmax x -> o\n", "{}");
    check_line(&r, "s", 0, "int8", "default", "");
    r = resolved("input x 1,65536\noutput o\ns Softmax x -> o\n", "{}");
    CHECK_STR(line(&r, "s", REQUEST_ALL)->rule, "cpu");
}

void test_constraints__request_without_effect_is_a_warning(void)
{
    resolved("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nc1 Conv x,w -> a\nr Relu a -> b\n"
             "c2 Conv b,w -> o\n",
             "{'node_config': {'r': {'qtype': 'int16'}}}");
    CHECK_INT(json_array_size(config->warnings), 1);
    CHECK(strstr(json_string_value(json_array_get(config->warnings, 0)), "/node_config/r/qtype"));
}
