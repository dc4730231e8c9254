#include "tests/onnx_maker.h"
#include "tests/test.h"

#include <string.h>

#include "common/sha256.h"
#include "worker/load/model.h"
#include "worker/quant/plan.h"

static struct model *open_path(const char *path)
{
    struct model *model;
    struct err e = ERR_INIT;
    CHECK_OK(model_open(&(struct model_source){.path = path}, &model, &e), e);
    return model;
}

/* x → Conv → c → LeakyRelu → y; both c and x may be calibrated. */
static struct model *small_model(void)
{
    struct onnx_maker m;
    maker_init(&m, 8, 13);
    maker_input(&m, "x", "N,2,5,5");
    maker_ramp(&m, "w", "4,2,3,3", 1);
    maker_node(&m, "Conv", "conv", "x w", "c", "pads=is:1,1,1,1 strides=is:1,1");
    maker_node(&m, "LeakyRelu", "act", "c", "y", "alpha=f:0.125");
    maker_output(&m, "y", "N,4,5,5");
    struct model *model = open_path(maker_save(&m, "small.onnx"));
    maker_done(&m);
    return model;
}

static int port(const struct graph *g, const char *node, int input)
{
    return g->nodes[graph_node(g, node)].first_port + input;
}

/* An int16 input with an int8 child for the Conv, a weight per channel switched off, and an affine
 * activation without a reader of its own number. */
static struct plan *sample_plan(const struct graph *g, struct arena *a)
{
    static const float t[] = {2.5f}, tw[] = {0.5f, 1, 1.5f, 2}, ta[] = {-0.25f, 3};
    struct plan *p = plan_new(g, a, 4);
    p->calibs[0] = (struct calib){.name = "x_HzCalibration",
                                  .value = graph_value(g, "x"),
                                  .parent = -1,
                                  .qtype = Q_INT16,
                                  .on = true,
                                  .axis = -1,
                                  .group = 1,
                                  .n_thresholds = 1,
                                  .thresholds = t};
    p->calibs[1] = p->calibs[0];
    p->calibs[1].name = "x_calibrated_HzCalibration";
    p->calibs[1].parent = 0;
    p->calibs[1].qtype = Q_INT8;
    p->calibs[2] = (struct calib){.name = "w_HzCalibration",
                                  .value = graph_value(g, "w"),
                                  .parent = -1,
                                  .kind = CALIB_WEIGHT,
                                  .on = false,
                                  .group = 1,
                                  .n_thresholds = 4,
                                  .thresholds = tw};
    p->calibs[3] = (struct calib){.name = "c_HzCalibration",
                                  .value = graph_value(g, "c"),
                                  .parent = -1,
                                  .on = true,
                                  .affine = true,
                                  .fixed_threshold = true,
                                  .axis = -1,
                                  .group = 1,
                                  .n_thresholds = 2,
                                  .thresholds = ta};
    p->n_calibs = 4;
    p->port[port(g, "conv", 0)] = 1;
    p->port[port(g, "conv", 1)] = 2;
    p->port[port(g, "act", 0)] = 3;
    return p;
}

static void check_same_graph(const struct graph *a, const struct graph *b)
{
    struct digest da, db;
    graph_digest(a, &da);
    graph_digest(b, &db);
    CHECK_MEM(da.bytes, db.bytes, sizeof da.bytes);
}

static void check_same_plan(const struct plan *a, const struct plan *b)
{
    struct digest da, db;
    CHECK_INT(a->n_calibs, b->n_calibs);
    for (int i = 0; i < a->n_calibs; i++) {
        CHECK_STR(a->calibs[i].name, b->calibs[i].name);
        CHECK_INT(a->calibs[i].on, b->calibs[i].on);
        CHECK_INT(a->calibs[i].n_thresholds, b->calibs[i].n_thresholds);
    }
    plan_digest(a, &da);
    plan_digest(b, &db);
    CHECK_MEM(da.bytes, db.bytes, sizeof da.bytes);
}

static void write_to(const struct graph *g, const struct plan *p, const char *path)
{
    struct err e = ERR_INIT;
    CHECK_OK(model_write(g, p, path, &e), e);
}

void test_write__a_float_graph_reads_back_the_same(void)
{
    struct model *m = small_model();
    const char *path = test_path("written.onnx");
    write_to(m->float_graph, NULL, path);
    struct model *back = open_path(path);
    check_same_graph(m->float_graph, back->float_graph);
    CHECK(back->plan == NULL);
    model_free(back);
    model_free(m);
}

void test_write__a_plan_reads_back_the_same_with_switches_and_thresholds(void)
{
    struct arena a = ARENA_INIT;
    struct model *m = small_model();
    struct plan *p = sample_plan(m->float_graph, &a);
    const char *path = test_path("calibrated.onnx");
    write_to(m->float_graph, p, path);
    struct model *back = open_path(path);
    CHECK(back->plan != NULL);
    CHECK_INT(back->original->n_nodes, 6);
    check_same_graph(m->float_graph, back->float_graph);
    check_same_plan(p, back->plan);
    model_free(back);
    model_free(m);
    arena_done(&a);
}

void test_write__the_same_input_gives_the_same_bytes(void)
{
    struct arena a = ARENA_INIT;
    struct model *m = small_model();
    struct plan *p = sample_plan(m->float_graph, &a);
    const char *first = test_path("1.onnx"), *second = test_path("2.onnx");
    write_to(m->float_graph, p, first);
    struct model *back = open_path(first);
    write_to(back->float_graph, back->plan, second);
    size_t n1, n2;
    char *b1 = test_read(first, &n1), *b2 = test_read(second, &n2);
    CHECK_INT(n1, n2);
    CHECK_MEM(b1, b2, n1);
    model_free(back);
    model_free(m);
    arena_done(&a);
}

static const struct attr *attr_of(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}

void test_write__calibrations_have_the_names_and_attributes_of_the_spec(void)
{
    struct arena a = ARENA_INIT;
    struct model *m = small_model();
    write_to(m->float_graph, sample_plan(m->float_graph, &a), test_path("c.onnx"));
    struct model *back = open_path(test_path("c.onnx"));
    const struct graph *g = back->original;
    const struct node *n = &g->nodes[graph_node(g, "c_HzCalibration")];
    CHECK_STR(n->domain, "horizon");
    CHECK_STR(n->op_type, "HzCalibration");
    CHECK_STR(g->values[n->in[0]].name, "c");
    CHECK_STR(g->values[n->out[0]].name, "c_calibrated");
    CHECK_STR(attr_of(n, "qtype")->s, "int8");
    CHECK_NEAR(attr_of(n, "scales")->floats[0], 3.25f / 255, 1e-9);
    CHECK_INT(attr_of(n, "zero_point")->ints[0], 127 - 235);
    CHECK_INT(attr_of(n, "constant")->i, 1);
    CHECK(attr_of(n, "axis") == NULL);
    n = &g->nodes[graph_node(g, "w_HzCalibration")];
    CHECK_INT(attr_of(n, "axis")->i, 0);
    CHECK_INT(attr_of(n, "thresholds")->n, 4);
    CHECK_STR(attr_of(n, "switch")->s, "OFF");
    CHECK_STR(attr_of(n, "info_strings")->strings[0], "weight");
    CHECK_STR(attr_of(n, "info_strings")->strings[1], "per-channel");
    n = &g->nodes[graph_node(g, "x_calibrated_HzCalibration")];
    CHECK_STR(g->values[n->in[0]].name, "x_calibrated");
    model_free(back);
    model_free(m);
    arena_done(&a);
}

/* Behind an activation with one scale a channel the file holds w·r, and reading gives w again. */
void test_write__folded_weights_are_in_the_file_only(void)
{
    static const float r[] = {0.3f, 1}, tw[] = {0.5f, 1, 1.5f, 2};
    struct arena a = ARENA_INIT;
    struct model *m = small_model();
    const struct graph *g = m->float_graph;
    struct plan *p = plan_new(g, &a, 1);
    p->calibs[0] = (struct calib){.name = "w_HzCalibration",
                                  .value = graph_value(g, "w"),
                                  .parent = -1,
                                  .kind = CALIB_WEIGHT,
                                  .on = true,
                                  .group = 1,
                                  .n_thresholds = 4,
                                  .thresholds = tw,
                                  .n_fold = 2,
                                  .fold = r};
    p->n_calibs = 1;
    p->port[port(g, "conv", 1)] = 0;
    write_to(g, p, test_path("f.onnx"));
    struct model *back = open_path(test_path("f.onnx"));
    const float *w = g->values[graph_value(g, "w")].type.data;
    const float *in_file = back->original->values[graph_value(back->original, "w")].type.data;
    const float *again = back->float_graph->values[graph_value(back->float_graph, "w")].type.data;
    for (int i = 0; i < 72; i++) {
        CHECK(in_file[i] == w[i] * r[i / 9 % 2]);
        CHECK(again[i] * r[i / 9 % 2] == in_file[i]);
        CHECK_NEAR(again[i], w[i], 1e-7);
    }
    check_same_plan(p, back->plan);
    model_free(back);
    model_free(m);
    arena_done(&a);
}

void test_write__a_path_that_cannot_be_written_is_an_error(void)
{
    struct err e = ERR_INIT;
    struct model *m = small_model();
    CHECK(model_write(m->float_graph, NULL, test_path("no/such/folder.onnx"), &e) != 0);
    CHECK_STR(err_slug(e.code), "io");
    model_free(m);
}
