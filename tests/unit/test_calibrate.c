/* The calibrate job as a whole: load, the search per layer, bias correction, the dump of the data;
 * and the same bytes with any number of children and from the store. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/json.h"
#include "common/sha256.h"
#include "tests/test.h"
#include "tests/unit/calibrate_kit.h"
#include "worker/exec/exec.h"
#include "worker/jobs/dump.h"
#include "worker/load/dataset.h"
#include "worker/quant/plan.h"

#define MAX_INT8 "{'model_config': {'activation': {'calibration_type': 'max'}}}"
#define LOADED(more)                                                                               \
    "{'model_config': {" more "'activation': {'calibration_type': 'load'}, "                       \
    "'weight': {'calibration_type': 'load'}}}"

static struct arena arena;

static const char *file_text(const char *path)
{
    size_t len;
    return test_read(test_path("%s", path), &len);
}

/* ---- load ---- */

void test_calibrate__load_takes_the_thresholds_of_the_calibrated_model(void)
{
    kit_write();
    json_t *first = kit_run("first", "calibrate", "kit.onnx", MAX_INT8, NULL);
    json_t *again = kit_run("again", "calibrate", "first/calibrated_model.onnx",
                            LOADED("'all_node_type': 'int16', "), NULL);
    json_t *v;
    size_t i;
    json_array_foreach(json_object_get(first, "calibrations"), i, v)
    {
        const json_t *now = kit_calibration(again, json_str(v, "name", ""));
        CHECK(json_equal(json_object_get(v, "thresholds"), json_object_get(now, "thresholds")));
        bool weight = !strcmp(json_str(v, "tensor_type", ""), "weight");
        CHECK_STR(json_str(now, "qtype", ""), weight ? "int8" : "int16");
    }
    CHECK(i > 10);
}

void test_calibrate__load_takes_a_list_with_edited_thresholds(void)
{
    kit_write();
    json_t *first = kit_run("first", "calibrate", "kit.onnx", MAX_INT8, NULL);
    json_t *list = json_deep_copy(json_object_get(first, "calibrations"));
    json_t *edited = kit_calibration(first, "a1_HzCalibration");
    json_array_set_new(json_object_get(edited, "thresholds"), 0, json_real(0.25));
    json_decref(list);
    json_t *now = kit_run("again", "calibrate", "kit.onnx", LOADED(""),
                          json_pack("{s:O}", "thresholds", json_object_get(first, "calibrations")));
    CHECK(json_equal(json_object_get(now, "calibrations"), json_object_get(first, "calibrations")));
    CHECK_STR(json_str(json_object_get(
                           json_object_get(json_object_get(now, "quant_config"), "model_config"),
                           "activation"),
                       "calibration_type", ""),
              "load");
}

void test_calibrate__load_is_refused_without_what_it_loads(void)
{
    kit_write();
    CHECK_INT(kit_try("none", "calibrate", "kit.onnx", LOADED(""), NULL, 0, false), 1);
    json_t *one =
        json_pack("{s:[{s:s, s:[f]}]}", "thresholds", "name", "x_HzCalibration", "thresholds", 1.0);
    CHECK_INT(kit_try("one", "calibrate", "kit.onnx", LOADED(""), json_incref(one), 0, false), 1);
    /* given, but nothing loads */
    CHECK_INT(kit_try("idle", "calibrate", "kit.onnx", MAX_INT8, one, 0, false), 1);
}

/* ---- the search per layer ---- */

#define TWO_METHODS "'activation': {'calibration_type': ['max', 'kl'], 'asymmetric': false}"

static double row_score(const json_t *sweep, const char *name)
{
    json_t *v;
    size_t i;
    json_array_foreach(json_object_get(sweep, "rows"), i, v)
    {
        if (!strcmp(json_str(v, "node", ""), name))
            return json_num(v, "cosine-similarity", NAN);
    }
    return NAN;
}

/* What single activations cost in a model that is calibrated by one method. */
static json_t *swept(const char *name, const char *activation)
{
    kit_run(name, "calibrate", "kit.onnx",
            arena_printf(&arena, "{'model_config': {'activation': {%s}}}", activation), NULL);
    return kit_run(arena_printf(&arena, "%s_sweep", name), "sensitivity",
                   arena_printf(&arena, "%s/calibrated_model.onnx", name), NULL,
                   json_pack("{s:s}", "node_type", "activation"));
}

void test_calibrate__each_chosen_layer_gets_the_method_that_scores_best_alone(void)
{
    kit_write();
    json_t *r =
        kit_run("layers", "calibrate", "kit.onnx",
                "{'model_config': {'layerwise_search': {'topk': 4}, " TWO_METHODS "}}", NULL);
    json_t *by_max = swept("max", "'calibration_type': 'max'"),
           *by_kl = swept("kl", "'calibration_type': 'kl'"), *v;
    json_t *list = json_object_get(json_object_get(r, "search"), "layers");
    size_t i;
    int different = 0;
    const char *best =
        json_str(json_object_get(json_object_get(r, "search"), "chosen"), "calibration_type", "");
    CHECK_INT(json_array_size(list), 4);
    json_array_foreach(list, i, v)
    {
        const json_t *names = json_object_get(v, "calibrations");
        const char *method = json_str(json_object_get(v, "activation"), "calibration_type", "");
        if (json_array_size(names) != 1) /* tied by the Concat: no row of its own */
            continue;
        const char *name = json_string_value(json_array_get(names, 0));
        double x = row_score(by_max, name), y = row_score(by_kl, name);
        CHECK_NEAR(json_num(v, "after", NAN), x > y ? x : y, 0);
        CHECK_NEAR(json_num(v, "before", NAN), !strcmp(best, "max") ? x : y, 0);
        if (x != y)
            CHECK_STR(method, x > y ? "max" : "kl");
        different += strcmp(method, best) != 0;
        CHECK(json_equal(json_object_get(kit_calibration(r, name), "thresholds"),
                         json_object_get(kit_calibration(kit_run("again", "calibrate", "kit.onnx",
                                                                 arena_printf(&arena,
                                                                              "{'model_config': "
                                                                              "{'activation': "
                                                                              "{'calibration_type'"
                                                                              ": '%s'}}}",
                                                                              method),
                                                                 NULL),
                                                         name),
                                         "thresholds")));
    }
    CHECK(different > 0);
}

void test_calibrate__layers_are_the_worst_and_are_raised(void)
{
    kit_write();
    json_t *r = kit_run("raised", "calibrate", "kit.onnx",
                        "{'model_config': {'search': {'layer': {'topk': 2, 'qtype': 'int16'}}, "
                        "'activation': {'calibration_type': 'max'}}}",
                        NULL);
    json_t *list = json_object_get(json_object_get(r, "search"), "layers"), *v;
    json_t *sweep = swept("max", "'calibration_type': 'max'");
    size_t i;
    int lines = 0, int16 = 0;
    double worst = 2;
    CHECK_INT(json_array_size(list), 2);
    json_array_foreach(json_object_get(sweep, "rows"), i, v) worst =
        fmin(worst, json_num(v, "cosine-similarity", 2));
    CHECK_NEAR(json_num(json_array_get(list, 0), "before", NAN), worst, 0);
    json_array_foreach(list, i, v)
    {
        CHECK_STR(json_str(v, "qtype", ""), "int16");
        CHECK(json_num(v, "after", 0) > json_num(v, "before", 1));
    }
    json_array_foreach(json_object_get(r, "ledger"), i, v)
    {
        bool raised = !strcmp(json_str(v, "decided_by", ""), "search");
        CHECK(!raised || !strcmp(json_str(v, "effective", ""), "int16"));
        lines += raised;
    }
    json_array_foreach(json_object_get(r, "calibrations"), i, v) int16 +=
        !strcmp(json_str(v, "qtype", ""), "int16");
    CHECK(lines >= 2 && int16 >= 2 && int16 < 6);
    json_t *model = json_object_get(json_object_get(r, "quant_config"), "model_config");
    CHECK(json_object_get(json_object_get(model, "search"), "layer")); /* to be pasted again */
}

void test_calibrate__mix_tries_the_default_methods_for_each_lossy_layer(void)
{
    kit_write();
    json_t *r = kit_run("mix", "calibrate", "kit.onnx",
                        "{'model_config': {'activation': {'calibration_type': 'mix'}}}", NULL);
    const json_t *search = json_object_get(r, "search");
    json_t *v;
    size_t i;
    CHECK_INT(json_array_size(json_object_get(search, "candidates")), 10);
    json_array_foreach(json_object_get(search, "layers"), i, v)
    {
        CHECK(json_num(v, "before", 1) < 0.999);
        CHECK(json_num(v, "after", 0) >= json_num(v, "before", 1));
    }
    CHECK(i > 0);
}

/* ---- bias correction ---- */

#define BIAS(n)                                                                                    \
    "{'model_config': {'activation': {'calibration_type': 'max'}, "                                \
    "'weight': {'bias_correction': {'num_sample': " #n ", 'metric': 'mse'}}}}"

/* The first c1 output of that sample, under the plan or in float, per channel mean. */
static void channel_means(const struct model *m, const struct plan *p, int samples, double *ret)
{
    struct err e = ERR_INIT;
    struct dataset *d;
    CHECK_OK(dataset_open(test_path("data"), m->float_graph, &d, &e), e);
    int keep = graph_value(m->float_graph, "y1");
    for (int i = 0; i < samples; i++) {
        struct tensor in;
        struct exec *x;
        dataset_sample(d, i, 0, &in);
        CHECK_OK(exec_new(m->float_graph, &in,
                          &(struct exec_opts){.plan = p, .keep = &keep, .n_keep = 1}, &x, &e),
                 e);
        CHECK_OK(exec_run(x, &in, NULL, NULL, &e), e);
        const struct tensor *t = exec_value(x, keep);
        for (int64_t k = 0; k < tensor_count(t); k++) {
            int64_t c = t->layout == LAYOUT_CL ? k % t->dims[1] : k / (t->dims[2] * t->dims[3]);
            ret[c] +=
                (double)((const float *)t->data)[k] / (double)(t->dims[2] * t->dims[3]) / samples;
        }
        exec_free(x);
    }
    dataset_free(d);
}

static const float *bias_of_c1(const struct model *m)
{
    const struct graph *g = m->float_graph;
    return g->values[g->nodes[graph_node(g, "c1")].in[2]].type.data;
}

void test_calibrate__a_bias_takes_the_mean_of_what_quantization_takes_away(void)
{
    double exact[6] = {0}, quantized[6] = {0};
    kit_write();
    kit_run("plain", "calibrate", "kit.onnx", MAX_INT8, NULL);
    json_t *r = kit_run("bias", "calibrate", "kit.onnx", BIAS(3), NULL);
    struct model *plain = kit_model("plain"), *corrected = kit_model("bias");
    const json_t *told = json_object_get(r, "bias_correction");
    CHECK(json_is_true(json_object_get(told, "kept")));
    CHECK(json_num(told, "after", 1) < json_num(told, "before", 0));
    CHECK_INT(json_array_size(json_object_get(told, "nodes")), 5);
    const json_t *first = json_array_get(json_object_get(told, "nodes"), 0);
    CHECK_STR(json_str(first, "node", ""), "c1");
    CHECK(json_is_true(json_object_get(first, "kept")));
    channel_means(plain, NULL, 3, exact);
    channel_means(plain, plain->plan, 3, quantized);
    for (int c = 0; c < 6; c++) {
        CHECK(fabs(exact[c] - quantized[c]) > 1e-7);
        CHECK_NEAR(bias_of_c1(corrected)[c], bias_of_c1(plain)[c] + exact[c] - quantized[c], 1e-6);
    }
    model_free(plain);
    model_free(corrected);
}

void test_calibrate__a_correction_that_does_not_pay_is_not_kept(void)
{
    static const char *const metrics[] = {"chebyshev", "mre", "mae"};
    int kept = 0, all = 0;
    kit_write();
    for (int m = 0; m < 3; m++) {
        json_t *r = kit_run(metrics[m], "calibrate", "kit.onnx",
                            arena_printf(&arena,
                                         "{'model_config': {'activation': {'calibration_type': "
                                         "'max'}, 'weight': {'bias_correction': {'metric': "
                                         "'%s'}}}}",
                                         metrics[m]),
                            NULL);
        const json_t *told = json_object_get(r, "bias_correction");
        json_t *v;
        size_t i;
        json_array_foreach(json_object_get(told, "nodes"), i, v)
        {
            bool better = json_num(v, "after", 1) < json_num(v, "before", 1);
            CHECK(json_is_true(json_object_get(v, "kept")) == better);
            kept += better;
            all++;
        }
        CHECK(json_is_true(json_object_get(told, "kept")) ==
              (json_num(told, "after", 0) < json_num(told, "before", 0)));
    }
    CHECK(kept > 0 && kept < all);
}

/* ---- the data ---- */

void test_calibrate__dump_is_a_tree_that_reads_back_as_the_samples(void)
{
    struct err e = ERR_INIT;
    struct dataset *before, *after, *folder;
    struct digest x, y;
    kit_write();
    kit_run("dump", "calibrate", "kit.onnx", MAX_INT8,
            json_pack("{s:s, s:i}", "debug_mode", "dump_calibration_data", "samples", 4));
    CHECK_OK(dataset_open(test_path("data"), NULL, &before, &e), e);
    CHECK_OK(dataset_normalize(test_path("dump/calibration_data.tar"), test_dir(), 1 << 20,
                               test_path("again.tar"), &arena, NULL, &e),
             e);
    CHECK_OK(dataset_open(test_path("again.tar"), NULL, &after, &e), e);
    CHECK_INT(system(arena_printf(&arena, "cd %s/dump && tar xf calibration_data.tar", test_dir())),
              0);
    CHECK_OK(dataset_open(test_path("dump/calibration_data"), NULL, &folder, &e), e);
    CHECK_INT(after->n_samples, 4);
    CHECK_INT(folder->n_samples, 4);
    for (int i = 0; i < 4; i++) {
        dataset_sample_digest(before, i, &x);
        dataset_sample_digest(after, i, &y);
        CHECK_MEM(&x, &y, sizeof x);
        dataset_sample_digest(folder, i, &y);
        CHECK_MEM(&x, &y, sizeof x);
    }
    size_t len;
    char *original = test_read(test_path("data/x/02.npy"), &len);
    CHECK_MEM(test_read(test_path("dump/calibration_data/x/02.npy"), &len), original, len);
    dataset_free(before);
    dataset_free(after);
    dataset_free(folder);
    CHECK_INT(kit_try("typo", "calibrate", "kit.onnx", MAX_INT8,
                      json_pack("{s:s}", "debug_mode", "dump"), 0, false),
              1);
}

/* ---- any number of children, and the store ---- */

#define ALL_OF_IT                                                                                  \
    "{'model_config': {'activation': {'calibration_type': 'mix'}, 'layerwise_search': {'topk': "   \
    "3, 'qtype': 'int16'}, 'model_output_type': 'int16', 'weight': {'bias_correction': "           \
    "{'num_sample': 2}}}, 'node_config': {'c4': {'input1': 'ec'}}}"

void test_calibrate__gives_the_same_bytes_with_any_number_of_children(void)
{
    static const int slots[] = {0, 1, 2, 5};
    kit_write();
    for (int i = 0; i < 4; i++)
        CHECK_INT(kit_try(arena_printf(&arena, "s%d", i), "calibrate", "kit.onnx", ALL_OF_IT, NULL,
                          slots[i], i == 2),
                  0);
    CHECK_INT(kit_try("stored", "calibrate", "kit.onnx", ALL_OF_IT, NULL, 1, true), 0);
    size_t len, n;
    char *model = test_read(test_path("s0/calibrated_model.onnx"), &len);
    const char *names[] = {"s1", "s2", "s3", "stored"};
    for (int i = 0; i < 4; i++) {
        CHECK_STR(file_text(arena_printf(&arena, "%s/result.json", names[i])),
                  file_text("s0/result.json"));
        CHECK_MEM(test_read(test_path("%s/calibrated_model.onnx", names[i]), &n), model, len);
        CHECK_INT(n, len);
    }
}

/* ---- what other tools make of the file ---- */

/* All that the writer can say is in it: calibrated outputs, folded scales, twins. */
void test_calibrate__written_model_passes_the_checker_of_python_onnx(void)
{
    if (system("/usr/bin/python3 -c 'import onnx; onnx.load' 2>/dev/null"))
        SKIP("python3-onnx is not installed");
    kit_write();
    kit_run("all", "calibrate", "kit.onnx", ALL_OF_IT, NULL);
    kit_run("channels", "calibrate", "kit.onnx",
            "{'model_config': {'activation': {'calibration_type': 'max', 'per_channel': True, "
            "'asymmetric': True}}}",
            NULL);
    const char *names[] = {"all", "channels"};
    for (int i = 0; i < 2; i++) {
        const char *command =
            arena_printf(&arena,
                         "/usr/bin/python3 -c 'import onnx, sys\n"
                         "m = onnx.load(sys.argv[1])\n"
                         "onnx.checker.check_model(m)\n"
                         "h = [n for n in m.graph.node if n.op_type == \"HzCalibration\"]\n"
                         "assert len(h) > 10 and all(n.domain == \"horizon\" for n in h)\n"
                         "assert any(o.domain == \"horizon\" for o in m.opset_import)\n' "
                         "%s/%s/calibrated_model.onnx",
                         test_dir(), names[i]);
        CHECK_INT(system(command), 0);
    }
}

/* Another writer puts attributes in another order, weights into typed fields, and words of its own
 * beside them. */
void test_calibrate__a_model_that_another_tool_has_rewritten_reads_back_the_same(void)
{
    if (system("/usr/bin/python3 -c 'import onnx; onnx.load' 2>/dev/null"))
        SKIP("python3-onnx is not installed");
    kit_write();
    kit_run("ours", "calibrate", "kit.onnx", ALL_OF_IT, NULL);
    CHECK_INT(mkdir(test_path("theirs"), 0700), 0);
    const char *command = arena_printf(
        &arena,
        "cd %s && /usr/bin/python3 -c 'import onnx\n"
        "from onnx import numpy_helper, helper\n"
        "m = onnx.load(\"ours/calibrated_model.onnx\")\n"
        "m.producer_name = \"another\"\n"
        "m.metadata_props.add(key=\"tool\", value=\"another\")\n"
        "for n in m.graph.node:\n"
        "    back = list(n.attribute)[::-1]\n"
        "    del n.attribute[:]\n"
        "    n.attribute.extend(back)\n"
        "    n.doc_string = \"seen\"\n"
        "for t in m.graph.initializer:\n"
        "    a = numpy_helper.to_array(t)\n"
        "    t.CopyFrom(helper.make_tensor(t.name, t.data_type, t.dims, a.flatten().tolist()))\n"
        "onnx.save(m, \"theirs/calibrated_model.onnx\")'",
        test_dir());
    CHECK_INT(system(command), 0);
    struct model *ours = kit_model("ours"), *theirs = kit_model("theirs");
    struct digest a, b;
    plan_digest(ours->plan, &a);
    plan_digest(theirs->plan, &b);
    CHECK_MEM(a.bytes, b.bytes, sizeof a.bytes);
    CHECK(ours->plan->n_calibs > 10);
    model_free(ours);
    model_free(theirs);
}
