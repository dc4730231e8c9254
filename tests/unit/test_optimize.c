/* Each pass: the pattern is taken, the names are those of the spec, the outputs stay. */
#include "tests/onnx_maker.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/exec/exec.h"
#include "worker/load/model.h"

static struct model *open_made(struct onnx_maker *m)
{
    struct model *model;
    struct err e = ERR_INIT;
    const char *path = maker_save(m, "m.onnx");
    CHECK_OK(model_open(&(struct model_source){.path = path}, &model, &e), e);
    maker_done(m);
    return model;
}

/* A float input for the graph, with a number for its unknown dims. */
static struct tensor make_input(struct arena *a, const struct value *v, int64_t unknown)
{
    struct tensor t = {.type = DT_F32, .rank = v->type.rank};
    for (int d = 0; d < t.rank; d++)
        t.dims[d] = v->type.dims[d] < 0 ? unknown : v->type.dims[d];
    float *p = t.data = arena_alloc(a, tensor_bytes(&t));
    for (int64_t i = 0; i < tensor_count(&t); i++)
        p[i] = 6 * sinf(0.7f * (float)i) + 0.01f * (float)i;
    return t;
}

static struct exec *run(struct arena *a, const struct graph *g, int64_t unknown,
                        const struct backend *backend)
{
    struct exec *x;
    struct err e = ERR_INIT;
    struct tensor *inputs = arena_array(a, (size_t)g->n_inputs + 1, sizeof *inputs);
    for (int i = 0; i < g->n_inputs; i++)
        inputs[i] = make_input(a, &g->values[g->inputs[i]], unknown);
    struct exec_opts opts = {.backend = backend};
    CHECK_OK(exec_new(g, inputs, &opts, &x, &e), e);
    CHECK_OK(exec_run(x, inputs, NULL, NULL, &e), e);
    return x;
}

static void check_near(const struct tensor *x, const struct tensor *y, double tolerance)
{
    double largest = 0;
    CHECK(tensor_same_shape(x, y));
    for (int64_t k = 0; k < tensor_count(x); k++)
        largest = fmax(largest, fabs(tensor_num(x, k)));
    for (int64_t k = 0; k < tensor_count(x); k++)
        CHECK_NEAR(tensor_num(y, k), tensor_num(x, k), tolerance * largest + 1e-6);
}

/* Both graphs on the same input. */
static void check_both(const struct model *m, int64_t unknown, const struct backend *backend,
                       double tolerance)
{
    struct arena a = ARENA_INIT;
    struct exec *before = run(&a, m->original, unknown, backend);
    struct exec *after = run(&a, m->float_graph, unknown, backend);
    CHECK_INT(m->original->n_outputs, m->float_graph->n_outputs);
    for (int i = 0; i < m->original->n_outputs; i++)
        check_near(exec_output(before, i), exec_output(after, i), tolerance);
    exec_free(before);
    exec_free(after);
    arena_done(&a);
}

static void check_same_outputs(const struct model *m)
{
    check_both(m, 3, &backend_plain, 2e-6);
}

static const struct node *only(const struct model *m, const char *name, const char *op_type)
{
    int i = graph_node(m->float_graph, name);
    CHECK(i >= 0);
    CHECK_STR(m->float_graph->nodes[i].op_type, op_type);
    return &m->float_graph->nodes[i];
}

static void check_origin(const struct model *m, const char *original, const char *optimized,
                         const char *how)
{
    for (int i = 0; i < m->float_graph->n_origins; i++) {
        const struct origin *o = &m->float_graph->origins[i];
        if (strcmp(o->original, original))
            continue;
        CHECK_STR(o->how, how);
        CHECK_STR(o->optimized ? o->optimized : "(none)", optimized ? optimized : "(none)");
        return;
    }
    FAIL("%s has no origin row", original);
}

static void begin(struct onnx_maker *m, int opset, const char *in, const char *out)
{
    maker_init(m, 8, opset);
    maker_input(m, "x", in);
    maker_output(m, "y", out);
}

void test_optimize__constants_fold(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,3", "2,3");
    maker_ramp(&m, "a", "3", 1);
    maker_ramp(&m, "b", "3", 2);
    maker_node(&m, "Add", "sum", "a b", "c", NULL);
    maker_node(&m, "Mul", "product", "x c", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 1);
    check_origin(model, "sum", NULL, "folded");
    check_origin(model, "product", "product", "kept");
    check_same_outputs(model);
    model_free(model);
}

/* Shape → Gather → Concat → Reshape with a batch of unknown size stays; what is known folds. */
void test_optimize__shapes_fold_as_far_as_they_are_known(void)
{
    struct onnx_maker m;
    static const int64_t zero = 0, one = 1, rest = -1;
    begin(&m, 13, "N,4,5", "N,20");
    maker_ints(&m, "zero", "1", &zero);
    maker_ints(&m, "one", "1", &one);
    maker_ints(&m, "rest", "1", &rest);
    maker_node(&m, "Shape", "shape", "x", "s", NULL);
    maker_node(&m, "Gather", "batch", "s zero", "n", NULL);
    maker_node(&m, "Gather", "channels", "s one", "c", NULL);
    maker_node(&m, "Concat", "to", "n rest", "t", "axis=i:0");
    maker_node(&m, "Reshape", "flat", "x t", "f", NULL);
    maker_node(&m, "Cast", "number", "c", "cf", "to=i:1");
    maker_node(&m, "Mul", "scaled", "f cf", "y", NULL);
    struct model *model = open_made(&m);
    check_origin(model, "channels", NULL, "folded");
    check_origin(model, "number", NULL, "folded");
    check_origin(model, "batch", "batch", "kept");
    const struct graph *g = model->float_graph;
    const struct tensor *y = &g->values[g->outputs[0]].type;
    CHECK_INT(y->rank, 2);
    CHECK_INT(y->dims[0], -1);
    CHECK_INT(y->dims[1], 20);
    check_same_outputs(model);
    model_free(model);
}

/* With 3 or more rows the slice has 3, but one row is possible too: no shape may be folded. */
void test_optimize__a_clamped_extent_is_not_taken_for_known(void)
{
    struct onnx_maker m;
    static const int64_t zero = 0, three = 3;
    begin(&m, 13, "N,4", "M");
    maker_ints(&m, "zero", "1", &zero);
    maker_ints(&m, "three", "1", &three);
    maker_node(&m, "Slice", "top", "x zero three", "t", NULL);
    maker_node(&m, "Shape", "shape", "t", "s", NULL);
    maker_node(&m, "Cast", "number", "s", "y", "to=i:1");
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 3);
    model_free(model);
}

void test_optimize__identity_and_dropout_go_and_output_names_stay(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,3", "2,3");
    maker_node(&m, "Identity", "i1", "x", "a", NULL);
    maker_node(&m, "Dropout", "d", "a", "b", NULL);
    maker_node(&m, "Relu", "r", "b", "c", NULL);
    maker_node(&m, "Identity", "i2", "c", "y", NULL);
    struct model *model = open_made(&m);
    const struct graph *g = model->float_graph;
    CHECK_INT(g->n_nodes, 1);
    CHECK_STR(g->values[g->outputs[0]].name, "y");
    check_origin(model, "i2", NULL, "removed");
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__an_identity_from_input_to_output_stays(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,3", "2,3");
    maker_node(&m, "Identity", "i", "x", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 1);
    check_same_outputs(model);
    model_free(model);
}

static void add_batchnorm(struct onnx_maker *m, const char *name, const char *in, const char *out,
                          const char *channels)
{
    static const float var[] = {0.5f, 2, 1.5f, 0.25f, 3, 1, 0.75f, 0.1f};
    maker_ramp(m, "scale", channels, 1.5f);
    maker_ramp(m, "shift", channels, 0.5f);
    maker_ramp(m, "mean", channels, 0.7f);
    maker_floats(m, "var", channels, var);
    char inputs[64];
    snprintf(inputs, sizeof inputs, "%s scale shift mean var", in);
    maker_node(m, "BatchNormalization", name, inputs, out, "epsilon=f:0.001");
}

void test_optimize__batchnorm_folds_into_the_conv_before_it(void)
{
    struct onnx_maker m;
    begin(&m, 13, "1,2,5,5", "1,4,3,3");
    maker_ramp(&m, "w", "4,2,3,3", 1);
    maker_ramp(&m, "b", "4", 1);
    maker_node(&m, "Conv", "conv", "x w b", "c", NULL);
    add_batchnorm(&m, "bn", "c", "y", "4");
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 1);
    only(model, "conv", "Conv");
    CHECK(graph_value(model->float_graph, "w") >= 0);
    check_origin(model, "bn", "conv", "fused");
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__batchnorm_folds_into_a_grouped_convtranspose_without_bias(void)
{
    struct onnx_maker m;
    begin(&m, 13, "1,4,3,3", "1,6,7,7");
    maker_ramp(&m, "w", "4,3,3,3", 1);
    maker_node(&m, "ConvTranspose", "up", "x w", "c", "group=i:2 strides=is:2,2");
    add_batchnorm(&m, "bn", "c", "y", "6");
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 1);
    CHECK_INT(only(model, "up", "ConvTranspose")->n_in, 3);
    check_same_outputs(model);
    model_free(model);
}

/* The Conv's plain output is read by another node, too: it must not change. */
void test_optimize__batchnorm_behind_a_shared_conv_stands_alone(void)
{
    struct onnx_maker m;
    begin(&m, 13, "1,2,5,5", "1,4,3,3");
    maker_ramp(&m, "w", "4,2,3,3", 1);
    maker_node(&m, "Conv", "conv", "x w", "c", NULL);
    add_batchnorm(&m, "bn", "c", "n", "4");
    maker_node(&m, "Add", "add", "n c", "y", NULL);
    struct model *model = open_made(&m);
    const struct node *unit = only(model, "UNIT_CONV_FOR_bn", "Conv");
    const struct tensor *w = &model->float_graph->values[unit->in[1]].type;
    CHECK_INT(w->dims[0], 4);
    CHECK_INT(tensor_count(w), 4);
    check_origin(model, "bn", "UNIT_CONV_FOR_bn", "kept");
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__a_weight_that_two_convs_share_is_folded_for_one(void)
{
    struct onnx_maker m;
    begin(&m, 13, "1,2,5,5", "1,4,3,3");
    maker_ramp(&m, "w", "4,2,3,3", 1);
    maker_node(&m, "Conv", "c1", "x w", "a", NULL);
    maker_node(&m, "Conv", "c2", "x w", "b", NULL);
    add_batchnorm(&m, "bn", "a", "n", "4");
    maker_node(&m, "Add", "add", "n b", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 3);
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__batchnorm_folds_through_a_concat_of_convs(void)
{
    struct onnx_maker m;
    begin(&m, 13, "1,2,5,5", "1,7,5,5");
    maker_ramp(&m, "w1", "3,2,1,1", 1);
    maker_ramp(&m, "w22", "4,2,3,3", 1);
    maker_ramp(&m, "b", "4", 1);
    maker_node(&m, "Conv", "c1", "x w1", "a", NULL);
    maker_node(&m, "Conv", "c2", "x w22 b", "bb", "pads=is:1,1,1,1");
    maker_node(&m, "Concat", "cat", "a bb", "c", "axis=i:1");
    add_batchnorm(&m, "bn", "c", "n", "7");
    maker_node(&m, "LeakyRelu", "act", "n", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 4);
    CHECK(graph_node(model->float_graph, "bn") < 0);
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__x_times_sigmoid_is_one_node_named_like_the_mul(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,50", "2,50");
    maker_node(&m, "Sigmoid", "_swish/Sigmoid", "x", "s", NULL);
    maker_node(&m, "Mul", "_swish/Mul", "s x", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 1);
    only(model, "_swish/Mul", "HzSwish");
    check_origin(model, "_swish/Sigmoid", "_swish/Mul", "fused");
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__a_sigmoid_that_is_read_twice_stays(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,50", "2,50");
    maker_node(&m, "Sigmoid", "s", "x", "s", NULL);
    maker_node(&m, "Mul", "m", "s x", "p", NULL);
    maker_node(&m, "Add", "a", "p s", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 3);
    model_free(model);
}

/* Add 3, Clip 0 … 6, and the product and the division in both orders, by bounds as inputs and as
 * attributes. */
void test_optimize__hardswish_by_hand_is_one_node_named_like_the_last(void)
{
    static const float three = 3, six = 6, zero = 0;
    for (int form = 0; form < 4; form++) {
        struct onnx_maker m;
        begin(&m, form & 1 ? 10 : 13, "2,50", "2,50");
        maker_floats(&m, "three", "", &three);
        maker_floats(&m, "six", "", &six);
        maker_floats(&m, "zero", "", &zero);
        maker_node(&m, "Add", "Add_46", "x three", "a", NULL);
        if (form & 1)
            maker_node(&m, "Clip", "Clip_47", "a", "c", "min=f:0 max=f:6");
        else
            maker_node(&m, "Clip", "Clip_47", "a zero six", "c", NULL);
        maker_node(&m, form & 2 ? "Div" : "Mul", "n48", form & 2 ? "c six" : "x c", "m", NULL);
        maker_node(&m, form & 2 ? "Mul" : "Div", "n49", form & 2 ? "m x" : "m six", "y", NULL);
        struct model *model = open_made(&m);
        CHECK_INT(model->float_graph->n_nodes, 1);
        only(model, "n49", "HzHardSwish");
        check_origin(model, "Add_46", "n49", "fused");
        check_same_outputs(model);
        model_free(model);
    }
}

void test_optimize__hardsigmoid_gates_fuse_only_with_hardswish_numbers(void)
{
    static const char *const attrs[] = {"alpha=f:0.16666667 beta=f:0.5", "alpha=f:0.2 beta=f:0.5"};
    for (int other = 0; other < 2; other++) {
        struct onnx_maker m;
        begin(&m, 13, "2,50", "2,50");
        maker_node(&m, "HardSigmoid", "h", "x", "s", attrs[other]);
        maker_node(&m, "Mul", "m", "x s", "y", NULL);
        struct model *model = open_made(&m);
        CHECK_INT(model->float_graph->n_nodes, other ? 2 : 1);
        check_same_outputs(model);
        model_free(model);
    }
}

/* A constant [1,1,1] in the place of the 3 widens the shape: not one function of x. */
void test_optimize__hardswish_with_a_widening_constant_stays(void)
{
    static const float three = 3, six = 6, zero = 0;
    struct onnx_maker m;
    begin(&m, 13, "2,5", "1,2,5");
    maker_floats(&m, "three", "1,1,1", &three);
    maker_floats(&m, "six", "", &six);
    maker_floats(&m, "zero", "", &zero);
    maker_node(&m, "Add", "a", "x three", "a", NULL);
    maker_node(&m, "Clip", "c", "a zero six", "c", NULL);
    maker_node(&m, "Mul", "m", "x c", "m", NULL);
    maker_node(&m, "Div", "d", "m six", "y", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->float_graph->n_nodes, 4);
    check_same_outputs(model);
    model_free(model);
}

static struct model *padded_conv(const char *mode, float value)
{
    static const int64_t pads[] = {0, 0, 1, 2, 0, 0, 0, 1};
    struct onnx_maker m;
    begin(&m, 13, "1,2,5,5", "?,?,?,?");
    maker_ints(&m, "pads", "8", pads);
    maker_floats(&m, "value", "", &value);
    maker_ramp(&m, "w", "4,2,3,3", 1);
    maker_node(&m, "Pad", "pad", "x pads value", "p", mode);
    maker_node(&m, "Conv", "conv", "p w", "y", "pads=is:1,0,1,0");
    return open_made(&m);
}

void test_optimize__zero_pad_goes_into_the_conv(void)
{
    struct model *model = padded_conv("mode=s:constant", 0);
    CHECK_INT(model->float_graph->n_nodes, 1);
    check_origin(model, "pad", "conv", "fused");
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__other_pads_survive(void)
{
    struct model *model = padded_conv("mode=s:constant", 1);
    CHECK_INT(model->float_graph->n_nodes, 2);
    check_same_outputs(model);
    model_free(model);
    model = padded_conv("mode=s:reflect", 0);
    CHECK_INT(model->float_graph->n_nodes, 2);
    check_same_outputs(model);
    model_free(model);
}

void test_optimize__what_nothing_needs_goes(void)
{
    struct onnx_maker m;
    begin(&m, 13, "2,3", "2,3");
    maker_node(&m, "Relu", "r", "x", "y", NULL);
    maker_node(&m, "Sigmoid", "s1", "x", "a", NULL);
    maker_node(&m, "Sigmoid", "s2", "a", "b", NULL);
    struct model *model = open_made(&m);
    CHECK_INT(model->original->n_nodes, 3);
    CHECK_INT(model->float_graph->n_nodes, 1);
    check_origin(model, "s1", NULL, "removed");
    model_free(model);
}

/* Whole networks: roundings add up over a hundred layers. */
static void check_model(const char *name)
{
    char path[128];
    struct model *m;
    struct err e = ERR_INIT;
    snprintf(path, sizeof path, "%s/model.onnx", name);
    CHECK_OK(model_open(&(struct model_source){.path = test_model(path)}, &m, &e), e);
    check_both(m, 1, NULL, 1e-4);
    model_free(m);
}

#define MODEL(name)                                                                                \
    void test_models_optimize__##name##_computes_the_same(void)                                    \
    {                                                                                              \
        check_model(#name);                                                                        \
    }
MODEL(basic_pitch_nmp)
MODEL(dtln_denoise_1)
MODEL(mnist8_cntk)
MODEL(mnist_mbv3_hswish)
MODEL(mnist_stn_gridsample)
MODEL(mnist_vit_gelu)
MODEL(prisma_portrait_seg)
MODEL(sinet_portrait_seg)
MODEL(superres_espcn)
MODEL(ultraface_rfb320)
MODEL(yunet_n_320)
