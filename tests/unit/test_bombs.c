/* Small files that ask for much: names, attributes and bytes copied many times, constants to be
 * folded, loops that do not end, shapes beyond all bounds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/resource.h>

#include "tests/onnx_maker.h"
#include "tests/test.h"
#include "tests/unit/big_nets.h"
#include "tests/unit/hostile.h"
#include "worker/load/model.h"
#include "worker/load/scan.h"

enum { IR = 8, OPSET = 18, BOOL = 9, INT64 = 7 };

/* ---- large nets ---- */

void test_bombs__large_nets_of_all_kinds_open_and_run(void)
{
    for (const struct big_net *b = big_nets; b->name; b++) {
        struct onnx_maker m;
        struct err e = ERR_INIT;
        b->make(&m, 1000);
        if (hostile_try(&m, &e))
            FAIL("%s: %s (at \"%s\")", b->name, e.detail, e.at);
    }
    CHECK(hostile_peak_mb() < 1024);
}

/* In a process of its own: what it takes. */
static void measure(const struct big_net *b, int n, double *ret_seconds, long *ret_mb)
{
    int status;
    struct rusage used;
    pid_t child = fork();
    if (!child) {
        struct onnx_maker m;
        struct err e = ERR_INIT;
        struct model *model;
        b->make(&m, n);
        const char *path = maker_save(&m, "big.onnx");
        maker_done(&m);
        _exit(model_open(&(struct model_source){.path = path}, &model, &e) ? 1 : 0);
    }
    CHECK(child > 0 && wait4(child, &status, 0, &used) == child);
    if (status)
        FAIL("%s of %d nodes does not open", b->name, n);
    *ret_seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    *ret_mb = used.ru_maxrss / 1024;
}

void test_long_bombs__the_largest_nets_open_within_seconds_and_bounded_memory(void)
{
    for (const struct big_net *b = big_nets; b->name; b++) {
        double took;
        long mb;
        measure(b, SCAN_NODES_MAX - 10, &took, &mb);
        printf("%s: %.0f s, %ld MB\n", b->name, took, mb);
        CHECK(took < 30 && mb < 2048);
    }
}

void test_bombs__a_million_nodes_are_refused_at_once(void)
{
    struct onnx_maker m, one;
    struct err e = ERR_INIT;
    maker_init(&m, IR, OPSET);
    maker_init(&one, IR, OPSET);
    size_t head = one.graph.len;
    maker_input(&m, "x", "2");
    maker_node(&one, "Neg", "", "x", "y", NULL);
    for (int i = 0; i < 1000000; i++)
        buf_add(&m.graph, one.graph.data + head, one.graph.len - head);
    maker_done(&one);
    CHECK_INT(hostile_try(&m, &e), -1);
    CHECK_STR(e.detail, "The model has more than 100000 nodes.");
    CHECK(hostile_seconds() < 5 && hostile_peak_mb() < 512);
}

void test_bombs__a_node_of_a_hundred_thousand_inputs_opens_and_runs(void)
{
    struct onnx_maker m;
    struct err e = ERR_INIT;
    enum { WIDE = 100000 };
    char *inputs = malloc(2 * WIDE + 1);
    for (int i = 0; i < WIDE; i++)
        memcpy(inputs + 2 * i, "x ", 3);
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2");
    maker_node(&m, "Concat", "wide", inputs, "y", "axis=i:0");
    maker_output(&m, "y", "?");
    CHECK_OK(hostile_try(&m, &e), e);
    free(inputs);
    CHECK(hostile_seconds() < 10);
}

/* ---- functions ---- */

/* f0 calls f1 `times` times, f1 f2 …; the last one has a node. */
static void make_calls(struct onnx_maker *m, int depth, int times, const char *call_name)
{
    char type[24], name[24], out[24];
    maker_init(m, IR, OPSET);
    maker_import(m, "f", 1);
    for (int i = 0; i < depth; i++) {
        struct onnx_maker f;
        snprintf(name, sizeof name, "f%d", i);
        snprintf(type, sizeof type, i == depth - 1 ? "Neg" : "f:f%d", i + 1);
        maker_function_init(&f, "f", name, "a", "b", "", OPSET);
        maker_import(&f, "f", 1);
        for (int k = 0; k < times; k++) {
            snprintf(out, sizeof out, k == times - 1 ? "b" : "c%d", k);
            maker_node(&f, type, "", "a", out, NULL);
        }
        maker_function(m, &f);
        maker_done(&f);
    }
    maker_input(m, "x", "2");
    maker_node(m, "f:f0", call_name ? call_name : "start", "x", "y", NULL);
    maker_output(m, "y", "2");
}

void test_bombs__functions_that_call_each_other_exponentially_are_refused(void)
{
    struct onnx_maker m;
    make_calls(&m, 30, 2, NULL);
    hostile_refused(&m, "start");
    make_calls(&m, 40, 1, NULL);
    hostile_refused(&m, "start");
    CHECK(hostile_seconds() < 10 && hostile_peak_mb() < 1024);
}

/* Each call's long name stands before every name inside. */
void test_bombs__long_names_of_calls_are_refused(void)
{
    struct onnx_maker m;
    char name[4001] = {0};
    memset(name, 'n', sizeof name - 1);
    make_calls(&m, 16, 2, name);
    hostile_refused(&m, "nnn");
    CHECK(hostile_seconds() < 10 && hostile_peak_mb() < 2048);
}

/* ---- folding ---- */

/* Constants that come to 60 GB are not made when the model opens; a run has no room for them. */
void test_bombs__constants_are_folded_up_to_a_bound(void)
{
    struct onnx_maker m;
    const int64_t dims[] = {1000, 4000};
    char in[24] = "x", sum[48], out[24], big[24], name[24];
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "1");
    maker_ints(&m, "dims", "2", dims);
    for (int i = 0; i < 4000; i++) {
        snprintf(big, sizeof big, "big%d", i);
        snprintf(name, sizeof name, "make%d", i);
        snprintf(out, sizeof out, i == 3999 ? "y" : "sum%d", i);
        snprintf(sum, sizeof sum, "%s %s", in, big);
        maker_node(&m, "ConstantOfShape", name, "dims", big, NULL);
        maker_node(&m, "Add", "", sum, out, NULL);
        memcpy(in, out, sizeof in);
    }
    maker_output(&m, "y", "?,?");
    hostile_refused(&m, "make");
    CHECK(hostile_seconds() < 20 && hostile_peak_mb() < 1024);
}

/* 300 products of 2·8·10⁹ steps each. */
void test_bombs__products_of_constants_do_not_hold_up_the_load(void)
{
    struct onnx_maker m;
    const int64_t dims[] = {2000, 2000};
    struct err e = ERR_INIT;
    struct model *model;
    char in[48] = "c c", out[24];
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "2000");
    maker_ints(&m, "dims", "2", dims);
    maker_node(&m, "ConstantOfShape", "", "dims", "c", NULL);
    for (int i = 0; i < 300; i++) {
        snprintf(out, sizeof out, "p%d", i);
        maker_node(&m, "MatMul", "", in, out, NULL);
        snprintf(in, sizeof in, "%s c", out);
    }
    maker_node(&m, "Add", "", "x p299", "y", NULL);
    maker_output(&m, "y", "?,?");
    const char *path = maker_save(&m, "m.onnx");
    maker_done(&m);
    CHECK_OK(model_open(&(struct model_source){.path = path}, &model, &e), e);
    CHECK(model->float_graph->n_nodes > 200);
    CHECK(hostile_seconds() < 30 && hostile_peak_mb() < 1024);
    model_free(model);
}

/* ---- loops ---- */

/* A Loop of `trips` around `inner` (NULL: a Neg); its value is v outside and w inside. */
static void loop_around(struct onnx_maker *ret, const struct onnx_maker *inner)
{
    maker_init(ret, IR, OPSET);
    maker_typed_input(ret, "i", INT64, "");
    maker_typed_input(ret, "go", BOOL, "");
    maker_input(ret, "v", "1");
    maker_node(ret, "Identity", "", "go", "go_on", NULL);
    if (inner) {
        maker_body(ret, "body", inner);
        maker_node(ret, "Loop", "", "trips go v", "w", NULL);
    } else {
        maker_node(ret, "Neg", "", "v", "w", NULL);
    }
    maker_typed_output(ret, "go_on", BOOL, "");
    maker_output(ret, "w", "1");
}

void test_bombs__loops_that_do_not_end_are_ended(void)
{
#ifdef PTQ_SAN
    SKIP("a million iterations take minutes with sanitizers");
#endif
    struct onnx_maker inner, middle, body, m;
    const int64_t trips = INT64_MAX;
    loop_around(&inner, NULL);
    loop_around(&middle, &inner);
    loop_around(&body, &middle);
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "1");
    maker_ints(&m, "trips", "", &trips);
    maker_body(&m, "body", &body);
    maker_node(&m, "Loop", "endless", "trips - x", "y", NULL);
    maker_output(&m, "y", "1");
    maker_done(&inner);
    maker_done(&middle);
    maker_done(&body);
    hostile_refused(&m, "endless");
}

/* ---- bytes that are used more than once ---- */

void test_bombs__one_file_of_weights_for_many_tensors_is_refused(void)
{
    struct onnx_maker m;
    struct err e = ERR_INIT;
    struct model *model;
    enum { BYTES = 8 << 20 };
    void *zeros = calloc(1, BYTES + 1);
    test_write(test_path("w"), zeros, BYTES + 1);
    free(zeros);
    maker_init(&m, IR, OPSET);
    maker_input(&m, "x", "1");
    for (int i = 0; i < 1000; i++) {
        char name[24];
        snprintf(name, sizeof name, "w%d", i);
        maker_external(&m, name, "2097152", "w", "1", NULL); /* not aligned: copied */
    }
    maker_node(&m, "Add", "", "x w0", "y", NULL);
    maker_output(&m, "y", "?");
    const char *path = maker_save(&m, "m.onnx");
    maker_done(&m);
    CHECK_INT(model_open(&(struct model_source){.path = path, .local = true}, &model, &e), -1);
    CHECK_STR(err_slug(e.code), "limit");
    CHECK(e.at[0] == 'w');
    CHECK(hostile_peak_mb() < 512);
}

/* ---- one node each ---- */

struct bad {
    const char *op, *inputs, *attrs;
    int64_t list[4];
    int n;
};

/* x is 2,3,4,4, i its indices; `list` the constant list. All must be refused at the node. */
static const struct bad bads[] = {
    {"Range", "zero list_0 one", NULL, {INT64_MAX}, 1},
    {"Range", "list_0 zero one", NULL, {INT64_MIN}, 1},
    {"OneHot", "zero list_0 pair", NULL, {(int64_t)1 << 60}, 1},
    {"Expand", "x list", NULL, {(int64_t)1 << 40, 2, 3, 4}, 4},
    {"Tile", "x list", NULL, {(int64_t)1 << 60, 1, 1, 1}, 4},
    {"Tile", "x list", NULL, {-1, 1, 1, 1}, 4},
    {"Reshape", "x list", NULL, {-1, -1}, 2},
    {"Resize", "x - - list", NULL, {(int64_t)1 << 40, 1, 1, 1}, 4},
    {"Resize", "x - scales", NULL, {0}, 0},
    {"Split", "x list", "axis=i:9", {1, 1}, 2},
    {"Flatten", "x", "axis=i:5", {0}, 0},
    {"Squeeze", "x list", NULL, {9}, 1},
    {"Unsqueeze", "x list", NULL, {-77}, 1},
    {"Gather", "x list", "axis=i:4", {0}, 1},
    {"GatherND", "x list", NULL, {9}, 1},
    {"TopK", "x list", NULL, {1000}, 1},
    {"TopK", "x list", NULL, {-1}, 1},
    {"ReduceMean", "x list", NULL, {4}, 1},
    {"ArgMax", "x", "axis=i:-5", {0}, 0},
    {"LayerNormalization", "x x", "axis=i:7", {0}, 0},
    {"InstanceNormalization", "x x x", NULL, {0}, 0},
    {"GroupNormalization", "x pair pair", "num_groups=i:0", {0}, 0},
    {"DepthToSpace", "x", "blocksize=i:0", {0}, 0},
    {"SpaceToDepth", "x", "blocksize=i:4611686018427387904", {0}, 0},
    {"LRN", "x", "size=i:0", {0}, 0},
    {"EyeLike", "x", NULL, {0}, 0},
    {"CumSum", "x list_0", NULL, {INT64_MAX}, 1},
    {"Trilu", "x list", NULL, {1, 2}, 2},
    {"Einsum", "x x", "equation=s:i->i", {0}, 0},
    {"ScatterElements", "x i x", "axis=i:4", {0}, 0},
    {"Pad", "x list", NULL, {1, 2, 3}, 3},
    {"LpPool", "x", "kernel_shape=is:-1,2", {0}, 0},
    {"ConstantOfShape", "list", NULL, {-1, 5}, 2},
    {"Col2Im", "x list list", NULL, {INT64_MAX, INT64_MAX}, 2},
    {"CenterCropPad", "x list", NULL, {INT64_MAX, 1, 1, 1}, 4},
};

void test_bombs__nodes_that_ask_for_what_cannot_be_are_refused_by_name(void)
{
    const float scales[] = {1e30f, 1, 1, 1}, pair[] = {0, 1};
    const int64_t zero = 0, one = 1, first[] = {0};
    for (size_t k = 0; k < sizeof bads / sizeof *bads; k++) {
        const struct bad *b = &bads[k];
        struct onnx_maker m;
        char dims[8];
        snprintf(dims, sizeof dims, "%d", b->n);
        maker_init(&m, IR, OPSET);
        maker_input(&m, "x", "2,3,4,4");
        maker_ints(&m, "i", "1", first);
        maker_ints(&m, "zero", "", &zero);
        maker_ints(&m, "one", "", &one);
        maker_ints(&m, "list", dims, b->list);
        maker_ints(&m, "list_0", "", b->list);
        maker_floats(&m, "scales", "4", scales);
        maker_floats(&m, "pair", "2", pair);
        maker_node(&m, b->op, "bad", b->inputs, "y", b->attrs);
        maker_typed_output(&m, "y", 1, NULL);
        hostile_refused(&m, "bad");
    }
    CHECK(hostile_seconds() < 10 && hostile_peak_mb() < 512);
}
