#include "tests/onnx_maker.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/load/model.h"

static int open_with(struct onnx_maker *m, struct model_source src, struct model **ret,
                     struct err *e)
{
    *e = (struct err)ERR_INIT;
    src.path = maker_save(m, "m.onnx");
    maker_done(m);
    return model_open(&src, ret, e);
}

static struct model *opened(struct onnx_maker *m)
{
    struct model *model;
    struct err e;
    CHECK_OK(open_with(m, (struct model_source){0}, &model, &e), e);
    return model;
}

static void refused(struct onnx_maker *m, struct model_source src, const char *code, const char *at,
                    const char *text)
{
    struct model *model;
    struct err e;
    CHECK(open_with(m, src, &model, &e) != 0);
    CHECK(model == NULL);
    CHECK_STR(err_slug(e.code), code);
    CHECK_STR(e.at, at);
    if (!strstr(e.detail, text))
        FAIL("\"%s\" is not in \"%s\"", text, e.detail);
}

static void begin(struct onnx_maker *m)
{
    maker_init(m, 8, 13);
    maker_input(m, "x", "N,4");
    maker_output(m, "y", "N,4");
}

void test_model__has_what_the_file_says(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_ramp(&m, "w", "4", 1);
    maker_node(&m, "Add", "add", "x w", "a", NULL);
    maker_node(&m, "LeakyRelu", "", "a", "y", "alpha=f:0.25");
    struct model *model = opened(&m);
    const struct graph *g = model->original;
    CHECK_INT(model->ir_version, 8);
    CHECK_STR(model->producer, "maker");
    CHECK(model->plan == NULL);
    CHECK_INT(g->n_nodes, 2);
    CHECK_INT(g->n_inputs, 1);
    CHECK_INT(g->n_ports, 3);
    const struct value *x = &g->values[g->inputs[0]];
    CHECK_STR(x->dim_names[0], "N");
    CHECK_INT(x->type.dims[0], -1);
    CHECK_INT(x->type.dims[1], 4);
    const struct value *a = &g->values[graph_value(g, "a")];
    CHECK_INT(a->producer, 0);
    CHECK_INT(a->n_readers, 1);
    CHECK_INT(a->readers[0], 1);
    CHECK_INT(graph_node(g, "LeakyRelu_1"), 1);
    CHECK_INT(g->nodes[1].first_port, 2);
    model_free(model);
}

void test_model__sorts_nodes_that_are_out_of_order(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_node(&m, "Relu", "third", "b", "y", NULL);
    maker_node(&m, "Relu", "second", "a", "b", NULL);
    maker_node(&m, "Relu", "first", "x", "a", NULL);
    struct model *model = opened(&m);
    CHECK_STR(model->original->nodes[0].name, "first");
    CHECK_STR(model->original->nodes[2].name, "third");
    model_free(model);
}

/* Up to IR version 3 initializers are listed as inputs, too. */
void test_model__initializers_are_no_inputs(void)
{
    struct onnx_maker m;
    maker_init(&m, 3, 8);
    maker_input(&m, "x", "1,4");
    maker_input(&m, "w", "4");
    maker_output(&m, "y", "1,4");
    maker_ramp(&m, "w", "4", 1);
    maker_node(&m, "Add", "add", "x w", "y", NULL);
    struct model *model = opened(&m);
    CHECK_INT(model->original->n_inputs, 1);
    CHECK(model->original->values[graph_value(model->original, "w")].type.data != NULL);
    model_free(model);
}

void test_model__refuses_a_cycle(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_node(&m, "Add", "a", "x c", "b", NULL);
    maker_node(&m, "Relu", "b", "b", "c", NULL);
    maker_node(&m, "Relu", "y", "c", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "a", "depends on its own output");
}

void test_model__refuses_names_that_clash_or_are_not_there(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_node(&m, "Relu", "a", "nothing", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "a", "\"nothing\" is not defined");
    begin(&m);
    maker_node(&m, "Relu", "a", "x", "y", NULL);
    maker_node(&m, "Relu", "b", "x", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "b", "one producer");
    begin(&m);
    maker_node(&m, "Relu", "a", "x", "b", NULL);
    maker_node(&m, "Relu", "a", "b", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "a", "Two nodes");
    begin(&m);
    maker_node(&m, "Relu", "a", "x", "z", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "y", "Nothing produces");
}

void test_model__refuses_attributes_that_do_not_belong(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_node(&m, "LeakyRelu", "l", "x", "y", "beta=f:1");
    refused(&m, (struct model_source){0}, "bad-model", "l", "no attribute \"beta\"");
    begin(&m);
    maker_node(&m, "LeakyRelu", "l", "x", "y", "alpha=i:1");
    refused(&m, (struct model_source){0}, "bad-model", "l", "is a float, not an int");
}

void test_model__lists_all_operators_that_are_missing(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_import(&m, "com.example", 2);
    maker_node(&m, "com.example:Foo", "f1", "x", "a", NULL);
    maker_node(&m, "Relu", "r", "a", "b", NULL);
    maker_node(&m, "com.example:Foo", "f2", "b", "c", NULL);
    maker_node(&m, "Nonesuch", "", "c", "y", NULL);
    refused(&m, (struct model_source){0}, "unsupported", "",
            "com.example.Foo of opset 2 (f1, f2); Nonesuch of opset 13 (Nonesuch_3)");
}

void test_model__refuses_a_domain_without_a_version(void)
{
    struct onnx_maker m;
    begin(&m);
    maker_node(&m, "com.example:Foo", "f", "x", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "f", "com.example");
}

void test_model__a_constant_must_have_its_bytes(void)
{
    struct onnx_maker m;
    struct buf t;
    begin(&m);
    buf_init(&t, 1024);
    wire_number(&t, 1, 4);
    wire_number(&t, 2, 1);
    wire_text(&t, 8, "w");
    wire_bytes(&t, 9, "123456", 6);
    wire_bytes(&m.graph, 5, t.data, t.len);
    buf_done(&t);
    maker_node(&m, "Add", "a", "x w", "y", NULL);
    refused(&m, (struct model_source){0}, "bad-model", "w", "takes 16 bytes, but there are 6");
}

/* ---- external data ---- */

static void external_model(struct onnx_maker *m, const char *location, const char *offset,
                           const char *length)
{
    begin(m);
    maker_external(m, "w", "4", location, offset, length);
    maker_node(m, "Add", "add", "x w", "y", NULL);
}

static const struct model_source local = {.local = true};

static void write_data(const char *path)
{
    static const float data[] = {9, 1, 2, 3, 4};
    test_write(path, data, sizeof data);
}

static void check_external(const struct model *m)
{
    const float *w = m->original->values[graph_value(m->original, "w")].type.data;
    CHECK_NEAR(w[0], 1, 0);
    CHECK_NEAR(w[3], 4, 0);
}

void test_model__reads_external_data_beside_the_file(void)
{
    struct onnx_maker m;
    struct model *model;
    struct err e;
    mkdir(test_path("sub"), 0700);
    write_data(test_path("sub/w.bin"));
    external_model(&m, "sub/w.bin", "4", "16");
    CHECK_OK(open_with(&m, local, &model, &e), e);
    check_external(model);
    model_free(model);
}

void test_model__reads_external_data_from_the_given_files_only(void)
{
    struct onnx_maker m;
    struct model *model;
    struct err e;
    write_data(test_path("blob"));
    const struct external files[] = {{"any/where.bin", test_path("blob")}};
    const struct model_source src = {.external = files, .n_external = 1};
    external_model(&m, "any/where.bin", "4", NULL);
    CHECK_OK(open_with(&m, src, &model, &e), e);
    check_external(model);
    model_free(model);
    external_model(&m, "blob", "4", NULL);
    refused(&m, src, "bad-model", "blob", "not among the files");
}

void test_model__external_data_cannot_leave_the_folder(void)
{
    static const char *const paths[] = {
        "../w.bin", "/etc/hostname", "sub/../../w.bin", "./w.bin", "sub//w.bin", "", ".."};
    struct onnx_maker m;
    mkdir(test_path("sub"), 0700);
    write_data(test_path("w.bin"));
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        external_model(&m, paths[i], "4", "16");
        refused(&m, local, "bad-model", paths[i], "plain path");
    }
}

void test_model__external_data_cannot_follow_links(void)
{
    struct onnx_maker m;
    mkdir(test_path("real"), 0700);
    write_data(test_path("real/w.bin"));
    CHECK_INT(symlink("real", test_path("linked")), 0);
    CHECK_INT(symlink("real/w.bin", test_path("linked.bin")), 0);
    external_model(&m, "linked/w.bin", "4", "16");
    refused(&m, local, "bad-model", "linked/w.bin", "through a link");
    external_model(&m, "linked.bin", "4", "16");
    refused(&m, local, "bad-model", "linked.bin", "through a link");
    external_model(&m, "real", "4", "16");
    refused(&m, local, "bad-model", "real", "not a regular file");
}

void test_model__external_ranges_stay_in_the_file(void)
{
    static const struct {
        const char *offset, *length, *text;
    } cases[] = {{"8", "16", "lie outside"},
                 {"18446744073709551600", "16", "lie outside"},
                 {"99999999999999999999", "16", "no number"},
                 {"-4", "16", "no number"},
                 {"4 ", "16", "no number"},
                 {"4", "12", "takes 16 bytes, but there are 12"}};
    struct onnx_maker m;
    write_data(test_path("w.bin"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        external_model(&m, "w.bin", cases[i].offset, cases[i].length);
        refused(&m, local, "bad-model", "w", cases[i].text);
    }
}

/* ---- the collection ---- */

static void check_model(const char *name, int n_nodes)
{
    char path[128];
    struct model *m;
    struct err e = ERR_INIT;
    snprintf(path, sizeof path, "%s/model.onnx", name);
    CHECK_OK(model_open(&(struct model_source){.path = test_model(path)}, &m, &e), e);
    CHECK_INT(m->original->n_nodes, n_nodes);
    CHECK(m->float_graph->n_nodes <= n_nodes);
    CHECK_INT(m->float_graph->n_origins, n_nodes);
    for (int i = 0; i < n_nodes; i++) {
        const struct origin *o = &m->float_graph->origins[i];
        CHECK(o->how != NULL);
        CHECK(!o->optimized || graph_node(m->float_graph, o->optimized) >= 0);
    }
    model_free(m);
}

#define MODEL(name, n_nodes)                                                                       \
    void test_models_load__##name(void)                                                            \
    {                                                                                              \
        check_model(#name, n_nodes);                                                               \
    }
MODEL(basic_pitch_nmp, 248)
MODEL(dtln_denoise_1, 36)
MODEL(mnist8_cntk, 12)
MODEL(mnist_mbv3_hswish, 97)
MODEL(mnist_stn_gridsample, 30)
MODEL(mnist_vit_gelu, 310)
MODEL(prisma_portrait_seg, 176)
MODEL(sinet_portrait_seg, 243)
MODEL(superres_espcn, 12)
MODEL(ultraface_rfb320, 242)
MODEL(yunet_n_320, 115)
