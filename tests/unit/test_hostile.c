/* Models that mean harm: each is refused (or runs) within seconds and without much memory, and the
 * refusal says where. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/onnx_maker.h"
#include "tests/test.h"
#include "tests/unit/hostile.h"

enum { IR = 8, OPSET = 13 };

/* One node "bad" between input x and output y; a weight w of 4,4,3,3. */
static void check_node(const char *op, const char *inputs, const char *attrs)
{
    struct onnx_maker m;
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "1,4,8,8");
    maker_ramp(&m, "w", "4,4,3,3", 1);
    maker_node(&m, op, "bad", inputs, "y", attrs);
    maker_output(&m, "y", "?,?,?,?");
    hostile_refused(&m, "bad");
}

void test_hostile__absurd_attributes_of_windows_are_refused(void)
{
    static const char *const attrs[] = {
        "kernel_shape=is:3,3 strides=is:0,1",
        "kernel_shape=is:3,3 strides=is:-1,1",
        "kernel_shape=is:3,3 dilations=is:0,1",
        "kernel_shape=is:3,3 dilations=is:4611686018427387904,1",
        "kernel_shape=is:3,3 dilations=is:9223372036854775807,9223372036854775807",
        "kernel_shape=is:3,3 pads=is:0,0,4611686018427387904,4611686018427387904",
        "kernel_shape=is:3,3 pads=is:9223372036854775807,9223372036854775807,0,0",
        "kernel_shape=is:3,3 pads=is:-9,-9,-9,-9",
        "kernel_shape=is:3,3 pads=is:1000000,1000000,1000000,1000000",
        "kernel_shape=is:3,3 pads=is:1,1",
        "kernel_shape=is:3",
        "kernel_shape=is:0,0",
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++) {
        check_node("Conv", "x w", attrs[i]);
        check_node("MaxPool", "x", attrs[i]);
    }
    check_node("MaxPool", "x", "kernel_shape=is:9223372036854775807,9223372036854775807");
    check_node("AveragePool", "x", "kernel_shape=is:100,100");
}

void test_hostile__groups_that_do_not_divide_are_refused(void)
{
    check_node("Conv", "x w", "group=i:3");
    check_node("Conv", "x w", "group=i:0");
    check_node("Conv", "x w", "group=i:-1");
    check_node("Conv", "x w", "group=i:9223372036854775807");
    check_node("ConvTranspose", "x w", "group=i:4611686018427387905");
    check_node("ConvTranspose", "x w", "group=i:3");
    check_node("ConvTranspose", "x w", "strides=is:4611686018427387904,4611686018427387904");
    check_node("ConvTranspose", "x w", "output_shape=is:9223372036854775807,1");
}

/* An operator whose shape comes from a list of constants. */
static void check_list(const char *op, const char *inputs, int n, const int64_t *list,
                       const char *attrs)
{
    struct onnx_maker m;
    char dims[8];
    snprintf(dims, sizeof dims, "%d", n);
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2,3");
    maker_ints(&m, "list", dims, list);
    maker_node(&m, op, "bad", inputs, "y", attrs);
    maker_output(&m, "y", "?,?");
    hostile_refused(&m, "bad");
}

void test_hostile__shapes_that_overflow_are_refused(void)
{
    const int64_t huge[] = {(int64_t)1 << 33, (int64_t)1 << 33}, negative[] = {-5, 3},
                  large[] = {1 << 20, 1 << 15}, extreme[] = {INT64_MIN, INT64_MAX};
    const int64_t *const lists[] = {huge, negative, large, extreme};
    for (int i = 0; i < 4; i++) {
        check_list("Reshape", "x list", 2, lists[i], NULL);
        check_list("Expand", "x list", 2, lists[i], NULL);
        check_list("Tile", "x list", 2, lists[i], NULL);
        check_list("ConstantOfShape", "list", 2, lists[i], NULL);
    }
    const int64_t pads[] = {(int64_t)1 << 62, 0, (int64_t)1 << 62, 0};
    check_list("Pad", "x list", 4, pads, NULL);
}

void test_hostile__indices_out_of_range_are_refused(void)
{
    const int64_t index[] = {7, -9};
    check_list("Gather", "x list", 2, index, NULL);
    check_list("Split", "x list", 2, index, NULL);
    check_list("Squeeze", "x list", 1, index, NULL);
    check_list("Concat", "x x", 1, index, "axis=i:9223372036854775807");
    check_list("Transpose", "x", 1, index, "perm=is:0,7");
    check_list("Transpose", "x", 1, index, "perm=is:0,0");
    check_list("Softmax", "x", 1, index, "axis=i:-9223372036854775808");
}

void test_hostile__a_cycle_is_refused_by_a_node_of_it(void)
{
    struct onnx_maker m;
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_node(&m, "Add", "ring_a", "x c", "a", NULL);
    maker_node(&m, "Neg", "ring_b", "a", "b", NULL);
    maker_node(&m, "Abs", "ring_c", "b", "c", NULL);
    maker_output(&m, "c", "2");
    hostile_refused(&m, "ring_");
}

void test_hostile__names_that_are_there_twice_are_refused(void)
{
    struct onnx_maker m;
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_node(&m, "Neg", "one", "x", "y", NULL);
    maker_node(&m, "Abs", "two", "x", "y", NULL);
    maker_output(&m, "y", "2");
    hostile_refused(&m, "two");
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_node(&m, "Neg", "same", "x", "a", NULL);
    maker_node(&m, "Abs", "same", "a", "y", NULL);
    maker_output(&m, "y", "2");
    hostile_refused(&m, "same");
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_ramp(&m, "w", "2", 1);
    maker_ramp(&m, "w", "2", 1);
    maker_node(&m, "Add", "add", "x w", "y", NULL);
    maker_output(&m, "y", "2");
    hostile_refused(&m, "w");
}

/* Dims of an initializer that its bytes do not fill. */
void test_hostile__initializers_of_a_wrong_size_are_refused(void)
{
    static const uint64_t dims[][2] = {
        {5, 1}, {0, 9}, {1ull << 40, 1ull << 40}, {(uint64_t)-1, 4}, {1ull << 32, 1ull << 32}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        struct onnx_maker m;
        struct buf t;
        maker_init(&m, IR, OPSET);
        buf_init(&t, 1 << 10);
        wire_number(&t, 1, dims[i][0]);
        wire_number(&t, 1, dims[i][1]);
        wire_number(&t, 2, 1);
        wire_text(&t, 8, "weight");
        wire_bytes(&t, 9, "0123456789abcdef", 16);
        wire_bytes(&m.graph, 5, t.data, t.len);
        buf_done(&t);
        maker_input(&m, "x", "4");
        maker_node(&m, "Add", "add", "x weight", "y", NULL);
        maker_output(&m, "y", "?");
        hostile_refused(&m, "weight");
    }
}

/* x → Neg → Neg → … in one line. */
static void make_chain(struct onnx_maker *m, int n)
{
    char in[24] = "x", out[24];
    maker_init(m, IR, OPSET);
    maker_input(m, "x", "2");
    for (int i = 0; i < n; i++) {
        snprintf(out, sizeof out, i == n - 1 ? "y" : "v%d", i);
        maker_node(m, "Neg", "", in, out, NULL);
        memcpy(in, out, sizeof in);
    }
    maker_output(m, "y", "2");
}

void test_hostile__a_deep_chain_opens_and_runs(void)
{
    struct onnx_maker m;
    struct err e = ERR_INIT;
    make_chain(&m, 10000);
    CHECK_OK(hostile_try(&m, &e), e);
    CHECK(hostile_seconds() < 10);
}

void test_hostile__a_wide_node_opens_and_runs(void)
{
    struct onnx_maker m;
    struct err e = ERR_INIT;
    enum { WIDE = 5000 };
    static char inputs[3 * WIDE];
    for (int i = 0; i < WIDE; i++)
        memcpy(inputs + 2 * i, "x ", 3);
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_node(&m, "Concat", "wide", inputs, "y", "axis=i:0");
    maker_output(&m, "y", "?");
    CHECK_OK(hostile_try(&m, &e), e);
    CHECK(hostile_seconds() < 10);
}

/* Each Concat doubles: 2^60 elements. */
void test_hostile__doubling_is_refused_at_its_node(void)
{
    struct onnx_maker m;
    char in[24] = "x x", out[24], name[16];
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    for (int i = 0; i < 60; i++) {
        snprintf(out, sizeof out, i == 59 ? "y" : "v%d", i);
        snprintf(name, sizeof name, "double%d", i);
        maker_node(&m, "Concat", name, in, out, "axis=i:0");
        snprintf(in, sizeof in, "v%d v%d", i, i);
    }
    maker_output(&m, "y", "?");
    hostile_refused(&m, "double");
    CHECK(hostile_peak_mb() < 1024);
}

/* Branches in branches: the file's depth is limited before anything is built. */
void test_hostile__subgraphs_nested_too_deep_are_refused(void)
{
    struct onnx_maker inner, outer;
    struct err e = ERR_INIT;
    maker_init(&inner, IR, OPSET);
    maker_node(&inner, "Neg", "", "x", "y0", NULL);
    maker_output(&inner, "y0", "2");
    for (int i = 1; i < 40; i++) {
        char out[16];
        snprintf(out, sizeof out, "y%d", i);
        maker_init(&outer, IR, OPSET);
        if (i == 39) {
            maker_typed_input(&outer, "c", 9, "");
            maker_input(&outer, "x", "2");
        }
        maker_body(&outer, "then_branch", &inner);
        maker_body(&outer, "else_branch", &inner);
        maker_done(&inner);
        maker_node(&outer, "If", "", "c", out, NULL);
        maker_output(&outer, out, "2");
        inner = outer;
        if (inner.graph.len > 8 << 20)
            break;
    }
    CHECK_INT(hostile_try(&inner, &e), -1);
    CHECK(e.code == ERR_LIMIT || e.code == ERR_BAD_MODEL);
    CHECK(hostile_peak_mb() < 1024);
}
