/* A model's skeleton: kilobytes that give the ledger that the whole model gives. */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/onnx_maker.h"
#include "worker/load/model.h"
#include "worker/quant/resolve.h"

static struct arena arena;

static struct model *opened(const char *path, bool skeleton)
{
    struct err e = ERR_INIT;
    struct model *m;
    CHECK_OK(model_open(&(struct model_source){.path = path, .skeleton = skeleton, .local = true},
                        &m, &e),
             e);
    return m;
}

static struct model *skeleton_of(const struct model *m)
{
    struct err e = ERR_INIT;
    const char *path = test_path("skeleton.onnx");
    CHECK_OK(model_write_skeleton(m->float_graph, path, &e), e);
    return opened(path, true);
}

/* The ledger, the warnings and the number of calibrations, as one text. */
static char *decisions(const struct graph *g, const char *config)
{
    struct err e = ERR_INIT;
    struct quant_config *c;
    struct resolved r;
    json_t *text = json_string(config);
    CHECK_OK(config_parse(text, "", g, &march_nash_e, &arena, &c, &e), e);
    resolve(c, c->graph, &march_nash_e, &arena, &r);
    json_t *all = json_pack("{s:o, s:O, s:i}", "ledger", ledger_json(&r.ledger, r.plan), "warnings",
                            c->warnings, "calibrations", r.plan->n_calibs);
    char *ret = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS);
    json_decref(all);
    json_decref(text);
    config_done(c);
    return ret;
}

static void check_same(const struct model *m, const struct model *s, const char *config)
{
    char *whole = decisions(m->float_graph, config), *bare = decisions(s->float_graph, config);
    CHECK_STR(bare, whole);
    free(whole);
    free(bare);
}

static const char *conv_model(void)
{
    struct onnx_maker m;
    static const int64_t shape[] = {1, -1};
    maker_init(&m, 8, 13);
    maker_input(&m, "x", "1,3,8,8");
    maker_ramp(&m, "w", "64,3,3,3", 0.5f);
    maker_ramp(&m, "w2", "4096,10", 0.1f);
    maker_ints(&m, "shape", "2", shape);
    maker_node(&m, "Conv", "conv", "x w", "a", "pads=is:1,1,1,1");
    maker_node(&m, "Relu", "relu", "a", "b", NULL);
    maker_node(&m, "Reshape", "flat", "b shape", "c", NULL);
    maker_node(&m, "MatMul", "dense", "c w2", "y", NULL);
    maker_output(&m, "y", "1,10");
    const char *path = maker_save(&m, "model.onnx");
    maker_done(&m);
    return path;
}

void test_skeleton__holds_shapes_but_no_weights(void)
{
    struct model *m = opened(conv_model(), false), *s = skeleton_of(m);
    struct stat st;
    CHECK(!stat(test_path("skeleton.onnx"), &st) && st.st_size < 2048);
    int w2 = graph_value(s->float_graph, "w2"), y = graph_value(s->float_graph, "y");
    CHECK_INT(s->float_graph->values[w2].type.dims[0], 4096);
    CHECK_INT(s->float_graph->values[y].type.dims[1], 10);
    CHECK(((const float *)s->float_graph->values[w2].type.data)[4096 * 10 - 1] == 0);
    const struct tensor *shape = &s->float_graph->values[graph_value(s->float_graph, "shape")].type;
    CHECK_INT(tensor_int(shape, 1), -1);
    model_free(s);
    model_free(m);
}

void test_skeleton__gives_the_ledger_of_the_model(void)
{
    struct model *m = opened(conv_model(), false), *s = skeleton_of(m);
    check_same(m, s, "{}");
    check_same(m, s, "{'model_config': {'all_node_type': 'int16'}}");
    check_same(m, s,
               "{'node_config': {'conv': {'qtype': 'int16', 'input1': 'ec'}, "
               "'dense': {'input1': 'ec'}, 'conv_split_low': {'qtype': 'int16'}}}");
    model_free(s);
    model_free(m);
}

void test_skeleton__is_no_model_for_anybody_else(void)
{
    struct err e = ERR_INIT;
    struct model *m = opened(conv_model(), false), *other;
    CHECK_OK(model_write_skeleton(m->float_graph, test_path("s.onnx"), &e), e);
    CHECK(
        model_open(&(struct model_source){.path = test_path("s.onnx"), .local = true}, &other, &e));
    CHECK_INT(e.code, ERR_BAD_MODEL);
    model_free(m);
}

/* "ec" on every Conv and MatMul that has a weight. */
static const char *all_compensated(const struct graph *g)
{
    const char *text = "{'node_config': {";
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (!strcmp(n->op_type, "Conv") || !strcmp(n->op_type, "ConvTranspose"))
            text = arena_printf(&arena, "%s'%s': {'input1': 'ec'}, ", text, n->name);
    }
    return arena_printf(&arena, "%s}}", text);
}

static void check_model(const char *path)
{
    struct model *m = opened(test_model(path), false), *s = skeleton_of(m);
    CHECK_INT(s->float_graph->n_nodes, m->float_graph->n_nodes);
    CHECK_INT(s->float_graph->n_values, m->float_graph->n_values);
    check_same(m, s, "{}");
    check_same(m, s, "{'model_config': {'all_node_type': 'int16'}}");
    check_same(m, s, all_compensated(m->float_graph));
    model_free(s);
    model_free(m);
}

void test_models_skeleton__gives_every_models_ledger(void)
{
    static const char *const names[] = {
        "mnist8_cntk",    "mnist_mbv3_hswish",   "mnist_stn_gridsample",
        "mnist_vit_gelu", "prisma_portrait_seg", "sinet_portrait_seg",
        "superres_espcn", "ultraface_rfb320",    "yunet_n_320"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(arena_printf(&arena, "%s/model.onnx", names[i]));
}
