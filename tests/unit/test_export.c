/* QDQ export: the exported graph, run by our own operators, gives the calibrated model's outputs.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/onnx_maker.h"
#include "tests/test.h"
#include "tests/unit/random_net.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"
#include "worker/ops/op.h"
#include "worker/quant/export.h"

static struct arena arena; /* to the test's end */

static struct graph *exported(const struct plan *p, bool opset21)
{
    struct err e = ERR_INIT;
    struct graph *g;
    CHECK_OK(export_qdq(p, &(struct export_opts){opset21}, &arena, &g, &e), e);
    return g;
}

/* What is run or read again lives to the test's end: it is known from here. */
static const void *kept[64];
static int n_kept;

static void keep(const void *p)
{
    CHECK(n_kept < 64);
    kept[n_kept++] = p;
}

/* Output 0. */
static const struct tensor *run_graph(const struct graph *g, const struct plan *p,
                                      const struct tensor *in)
{
    struct err e = ERR_INIT;
    struct exec *x;
    CHECK_OK(exec_new(g, in, &(struct exec_opts){.plan = p}, &x, &e), e);
    CHECK_OK(exec_run(x, in, NULL, NULL, &e), e);
    keep(x);
    return exec_output(x, 0);
}

static const struct graph *reread(const struct graph *g)
{
    struct err e = ERR_INIT;
    struct model *m;
    CHECK_OK(model_write(g, NULL, test_path("qdq.onnx"), &e), e);
    CHECK_OK(model_open(&(struct model_source){.path = test_path("qdq.onnx")}, &m, &e), e);
    CHECK(!m->plan);
    keep(m);
    return m->float_graph;
}

static int count(const struct graph *g, const char *domain, const char *type)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += !strcmp(g->nodes[i].op_type, type) && !strcmp(g->nodes[i].domain, domain);
    return n;
}

/* Largest difference over the largest size. */
static double distance(const struct tensor *a, const struct tensor *b)
{
    double most = 0, size = 1e-30;
    CHECK(tensor_same_shape(a, b));
    for (int64_t i = 0; i < tensor_count(a); i++) {
        most = fmax(most, fabs(tensor_num(a, i) - tensor_num(b, i)));
        size = fmax(size, fabs(tensor_num(a, i)));
    }
    return most / size;
}

void test_export__random_nets_compute_the_same_when_exported(void)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct random_net r;
        random_net(seed, &arena, &r);
        struct tensor in = random_input(seed, &arena);
        struct graph *g = exported(r.plan, false);
        CHECK(count(g, ONNX, "DequantizeLinear") + count(g, MSFT, "DequantizeLinear") > 0);
        double d = distance(run_graph(r.graph, r.plan, &in), run_graph(reread(g), NULL, &in));
        if (!(d < 1e-5))
            FAIL("net %u: %g", seed, d);
    }
}

/* x → Conv → y, with one scale a channel of x, folded into the weight. */
static struct plan *folded_plan(struct model **ret, enum qtype q, bool affine)
{
    static const float tx[] = {1, 4}, tw[] = {0.5f, 0.25f, 2}, r[] = {0.25f, 1};
    struct onnx_maker m;
    struct err e = ERR_INIT;
    maker_init(&m, 8, 13);
    maker_input(&m, "x", "1,2,5,5");
    maker_ramp(&m, "w", "3,2,3,3", 1);
    maker_node(&m, "Conv", "conv", "x w", "y", "");
    maker_output(&m, "y", "1,3,3,3");
    CHECK_OK(model_open(&(struct model_source){.path = maker_save(&m, "m.onnx")}, ret, &e), e);
    const struct graph *g = (*ret)->float_graph;
    struct plan *p = plan_new(g, &arena, 2);
    p->calibs[0] = (struct calib){.name = "x_HzCalibration",
                                  .value = graph_value(g, "x"),
                                  .parent = -1,
                                  .qtype = q,
                                  .on = true,
                                  .axis = 1,
                                  .affine = affine,
                                  .n_thresholds = 2,
                                  .thresholds = tx,
                                  .dequantize_scale = affine         ? 4 / 255.f
                                                      : q == Q_INT16 ? 4 / 32767.f
                                                                     : 4 / 127.f};
    p->calibs[1] = (struct calib){.name = "w_HzCalibration",
                                  .value = graph_value(g, "w"),
                                  .parent = -1,
                                  .kind = CALIB_WEIGHT,
                                  .on = true,
                                  .n_thresholds = 3,
                                  .thresholds = tw,
                                  .n_fold = 2,
                                  .fold = r};
    p->n_calibs = 2;
    p->port[0] = 0;
    p->port[1] = 1;
    maker_done(&m);
    return p;
}

static struct tensor two_channels(void)
{
    static float x[50];
    for (int i = 0; i < 50; i++)
        x[i] = (float)((i * 37 % 50) / 50.0 * (i < 25 ? 1 : 4));
    return (struct tensor){.type = DT_F32, .rank = 4, .dims = {1, 2, 5, 5}, .data = x};
}

void test_export__a_scale_a_channel_is_folded_into_the_weight(void)
{
    static const struct {
        enum qtype q;
        bool affine, weight_off;
        enum dtype type;
    } cases[] = {{Q_INT8, false, false, DT_I8},
                 {Q_INT8, true, false, DT_U8},
                 {Q_INT16, false, false, DT_I16},
                 {Q_INT8, false, true, DT_I8}};
    for (int i = 0; i < 4; i++) {
        struct model *m;
        struct plan *p = folded_plan(&m, cases[i].q, cases[i].affine);
        struct tensor in = two_channels();
        p->calibs[1].on = !cases[i].weight_off;
        struct graph *g = exported(p, false);
        int read = graph_node(g, "x_DequantizeLinear");
        CHECK(read >= 0);
        CHECK_INT(tensor_count(&g->values[g->nodes[read].in[1]].type), 1);
        CHECK_INT(g->values[g->nodes[read].in[2]].type.type, cases[i].type);
        CHECK(distance(run_graph(m->float_graph, p, &in), run_graph(reread(g), NULL, &in)) < 1e-6);
    }
}

/* The activation OFF: the weight's float values are those behind fake_quant(w·r)/r. */
void test_export__a_folded_weight_alone_is_written_as_it_is_read(void)
{
    struct model *m;
    struct plan *p = folded_plan(&m, Q_INT8, false);
    struct tensor in = two_channels();
    p->calibs[0].on = false;
    struct graph *g = exported(p, false);
    CHECK_INT(count(g, ONNX, "DequantizeLinear"), 0);
    CHECK(distance(run_graph(m->float_graph, p, &in), run_graph(reread(g), NULL, &in)) < 1e-6);
}

void test_export__an_output_behind_a_calibration_keeps_its_name(void)
{
    static const float t[] = {3};
    struct model *m;
    struct plan *p = plan_copy_room(folded_plan(&m, Q_INT8, false), &arena, 1);
    struct tensor in = two_channels();
    p->calibs[2] = (struct calib){.name = "y_HzCalibration",
                                  .value = graph_value(m->float_graph, "y"),
                                  .parent = -1,
                                  .qtype = Q_INT16,
                                  .on = true,
                                  .axis = -1,
                                  .n_thresholds = 1,
                                  .thresholds = t};
    p->n_calibs = 3;
    p->output[0] = 2;
    const struct graph *g = reread(exported(p, false));
    CHECK_STR(g->values[g->outputs[0]].name, "y");
    CHECK_INT(count(g, MSFT, "QuantizeLinear"), 1);
    CHECK(distance(run_graph(m->float_graph, p, &in), run_graph(g, NULL, &in)) < 1e-6);
}

void test_export__opset_21_has_standard_pairs_only_and_refuses_what_changed(void)
{
    struct model *m;
    struct err e = ERR_INIT;
    struct plan *p = folded_plan(&m, Q_INT16, false);
    struct tensor in = two_channels();
    struct graph *g = exported(p, true);
    CHECK_INT(count(g, MSFT, "QuantizeLinear"), 0);
    CHECK_INT(count(g, ONNX, "QuantizeLinear"), 1);
    CHECK_INT(g->opsets[0].version, 21);
    CHECK(distance(run_graph(m->float_graph, p, &in), run_graph(reread(g), NULL, &in)) < 1e-6);
    CHECK_INT(count(exported(p, false), MSFT, "QuantizeLinear"), 1);

    struct onnx_maker old;
    maker_init(&old, 8, 12);
    maker_input(&old, "x", "1,2,3,3");
    maker_node(&old, "Softmax", "soft", "x", "y", "");
    maker_output(&old, "y", "1,2,3,3");
    CHECK_OK(model_open(&(struct model_source){.path = maker_save(&old, "o.onnx")}, &m, &e), e);
    CHECK_INT(export_qdq(plan_new(m->float_graph, &arena, 0), &(struct export_opts){true}, &arena,
                         &g, &e),
              -1);
    CHECK_INT(e.code, ERR_UNSUPPORTED);
    CHECK_STR(e.at, "soft");
    maker_done(&old);
}

/* Lists that became inputs move there: the float graph's values stay. */
void test_export__axes_become_inputs_in_opset_21(void)
{
    struct onnx_maker m;
    struct model *model;
    struct err e = ERR_INIT;
    maker_init(&m, 8, 11);
    maker_input(&m, "x", "1,2,5,5");
    maker_node(&m, "ReduceMean", "mean", "x", "a", "axes=is:2,3 keepdims=i:1");
    maker_node(&m, "Squeeze", "squeeze", "a", "b", "axes=is:3");
    maker_node(&m, "Unsqueeze", "back", "b", "y", "axes=is:0");
    maker_output(&m, "y", "1,1,2,1");
    CHECK_OK(model_open(&(struct model_source){.path = maker_save(&m, "m.onnx")}, &model, &e), e);
    keep(model);
    struct tensor in = two_channels();
    const struct graph *g = reread(exported(plan_new(model->float_graph, &arena, 0), true));
    CHECK(distance(run_graph(model->float_graph, NULL, &in), run_graph(g, NULL, &in)) < 1e-12);
    maker_done(&m);
}
