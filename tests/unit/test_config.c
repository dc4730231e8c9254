#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tests/unit/mini.h"
#include "worker/quant/config.h"
#include "worker/quant/dialect.h"

static struct arena arena;

/* ---- the dialect ---- */

static const char *as_json(const char *text, size_t *ret_warnings)
{
    struct err e = ERR_INIT;
    json_t *w = json_array(), *v = dialect_parse(text, strlen(text), w, &e);
    if (ret_warnings)
        *ret_warnings = json_array_size(w);
    json_decref(w);
    if (!v)
        return arena_printf(&arena, "%s", e.detail);
    char *s = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    json_decref(v);
    char *copy = arena_strdup(&arena, s);
    free(s);
    return copy;
}

void test_dialect__reads_json_and_what_the_chapter_prints(void)
{
    CHECK_STR(as_json("{\"a\": [1, 2.5, -3e2, true, false, null, \"x\\u00e9\\n\"]}", NULL),
              "{\"a\":[1,2.5,-300.0,true,false,null,\"xé\\n\"]}");
    CHECK_STR(as_json("quant_config = {'a': True, 'b': False, 'c': None,}", NULL),
              "{\"a\":true,\"b\":false,\"c\":null}");
    CHECK_STR(as_json("// one\n{ # two\n 'a': /* 'three' } */ [1, 2,], \"b\": .5, }\n# four", NULL),
              "{\"a\":[1,2],\"b\":0.5}");
    CHECK_STR(as_json("{'it''s': 1}", NULL), "Line 1, column 6: a colon was expected here.");
    CHECK_STR(as_json("{'it\\'s // no # comment': 1}", NULL), "{\"it's // no # comment\":1}");
    CHECK_STR(as_json("\"\\ud83d\\ude00\"", NULL), "\"😀\"");
}

void test_dialect__repeated_keys(void)
{
    size_t warnings;
    CHECK_STR(as_json("{'a': {'q': 1}, 'b': 2, 'a': {'q': 1}}", &warnings),
              "{\"a\":{\"q\":1},\"b\":2}");
    CHECK_INT(warnings, 1);
    CHECK_STR(as_json("{'a': 1,\n 'a': 2}", &warnings),
              "Line 2, column 8: a key is repeated here with another value.");
}

void test_dialect__refuses_with_line_and_column(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "[1,",
        "{'a' 1}",
        "{'a': }",
        "[1 2]",
        "[,]",
        "{,}",
        "1 2",
        "tru",
        "Truely",
        "nan",
        "NaN",
        "1e999",
        "--1",
        "'a",
        "'\\q'",
        "'\\ud800'",
        "/* ",
        "{1: 2}",
        "quant_config {}",
        "config = {}",
        "0x10",
        "[1]]",
        "'\n'",
        "99999999999999999999",
        "'\\u0000'",
        "{'a\\u0000': 1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = ERR_INIT;
        if (dialect_parse(bad[i], strlen(bad[i]), NULL, &e))
            FAIL("%s is accepted", bad[i]);
        CHECK_INT(e.code, ERR_BAD_JSON);
        CHECK(strstr(e.detail, "Line "));
    }
    char deep[200];
    memset(deep, '[', sizeof deep);
    struct err e = ERR_INIT;
    CHECK(!dialect_parse(deep, sizeof deep, NULL, &e));
    CHECK(strstr(e.detail, "too deep"));
}

/* ---- configurations ---- */

#define GRAPH                                                                                      \
    "input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nConv_1 Conv x,w -> a\nMul_2 Mul a,a -> b\n"       \
    "Softmax_3 Softmax b -> c\nConv_4 Conv c,w -> o\n"

static struct quant_config *config_of(const char *text, struct err *e)
{
    struct quant_config *c = NULL;
    json_t *v = json_string(text);
    config_parse(v, "/quant_config", mini_graph(&arena, GRAPH), &march_nash_e, &arena, &c, e);
    json_decref(v);
    return c;
}

static void refused(const char *text, enum err_code code, const char *at, const char *says)
{
    struct err e = ERR_INIT;
    if (config_of(text, &e))
        FAIL("%s is accepted", text);
    CHECK_STR(e.at, at);
    CHECK_INT(e.code, code);
    if (!strstr(e.detail, says))
        FAIL("\"%s\" does not say \"%s\"", e.detail, says);
}

void test_config__typos_are_refused_with_pointer_and_nearest_name(void)
{
    refused("{'model_confg': {}}", ERR_INVALID, "/quant_config/model_confg", "model_config");
    refused("{'model_config': {'all_node_typ': 'int8'}}", ERR_INVALID,
            "/quant_config/model_config/all_node_typ", "all_node_type");
    refused("{'model_config': {'all_node_type': 'int4'}}", ERR_INVALID,
            "/quant_config/model_config/all_node_type", "int16");
    refused("{'node_config': {'Conv_11': {'qtype': 'int16'}}}", ERR_UNKNOWN_NAME,
            "/quant_config/node_config/Conv_11", "\"Conv_1\"");
    refused("{'node_config': {'Conv_1': {'qtyp': 'int16'}}}", ERR_INVALID,
            "/quant_config/node_config/Conv_1/qtyp", "qtype");
    refused("{'node_config': {'Conv_1': {'qtype': 16}}}", ERR_INVALID,
            "/quant_config/node_config/Conv_1/qtype", "int8");
    refused("{'node_config': {'Conv_1': 'int16'}}", ERR_INVALID, "/quant_config/node_config/Conv_1",
            "object");
    refused("{'node_config': {'Conv_1': {'input2': 'int16'}}}", ERR_INVALID,
            "/quant_config/node_config/Conv_1/input2", "has 2 inputs");
    refused("{'node_config': {'Conv_1': {'ON': 'GPU'}}}", ERR_INVALID,
            "/quant_config/node_config/Conv_1/ON", "BPU");
    refused("{'op_config': {'Convv': {'qtype': 'int16'}}}", ERR_UNKNOWN_NAME,
            "/quant_config/op_config/Convv", "\"Conv\"");
    refused("{'op_config': {'Conv': {'input0': 'int16'}}}", ERR_INVALID,
            "/quant_config/op_config/Conv/input0", "input0");
    refused("{'subgraph_config': {'h': {'inputs': ['Conv_1'], 'outputs': ['Conv_5'],"
            " 'qtype': 'int16'}}}",
            ERR_UNKNOWN_NAME, "/quant_config/subgraph_config/h/outputs/0", "Conv_4");
    refused("{'subgraph_config': {'h': {'inputs': ['Conv_4'], 'outputs': ['Conv_1'],"
            " 'qtype': 'int16'}}}",
            ERR_INVALID, "/quant_config/subgraph_config/h", "No path");
    refused("{'subgraph_config': {'h': {'inputs': ['Conv_1'], 'qtype': 'int16'}}}", ERR_INVALID,
            "/quant_config/subgraph_config/h/outputs", "required");
    refused("[1]", ERR_INVALID, "/quant_config", "object");
    refused("{'node_config': {'a/b~c': {}}}", ERR_UNKNOWN_NAME, "/quant_config/node_config/a~1b~0c",
            "no node");
}

void test_config__activation_values_are_bounded(void)
{
#define ACT "/quant_config/model_config/activation/"
    refused("{'model_config': {'activation': {'calibration_type': 'maxx'}}}", ERR_UNKNOWN_NAME,
            ACT "calibration_type", "\"max\"");
    refused("{'model_config': {'activation': {'calibration_type': ['max', 'kll']}}}",
            ERR_UNKNOWN_NAME, ACT "calibration_type/1", "\"kl\"");
    refused("{'model_config': {'activation': {'max_percentile': 0.49}}}", ERR_INVALID,
            ACT "max_percentile", "0.5");
    refused("{'model_config': {'activation': {'max_percentile': [0.9, 1.1]}}}", ERR_INVALID,
            ACT "max_percentile/1", "1.1");
    refused("{'model_config': {'activation': {'num_bin': 128}}}", ERR_INVALID, ACT "num_bin",
            "129");
    refused("{'model_config': {'activation': {'calibration_type': 'kl', 'num_bin': 2048,"
            " 'max_num_bin': 1024}}}",
            ERR_INVALID, ACT "max_num_bin", "2048");
    refused("{'model_config': {'activation': {'per_channel': 1}}}", ERR_INVALID, ACT "per_channel",
            "true or false");
    refused("{'model_config': {'activation': {'asymmetric': []}}}", ERR_INVALID, ACT "asymmetric",
            "1 to");
    refused("{'model_config': {'modelwise_search': {'metric': 'mze'}}}", ERR_UNKNOWN_NAME,
            "/quant_config/model_config/modelwise_search/metric", "mse");
    refused("{'model_config': {'weight': {'max_percentile': 0}}}", ERR_INVALID,
            "/quant_config/model_config/weight/max_percentile", "above 0");
}

static struct quant_config *accepted(const char *text)
{
    struct err e = ERR_INIT;
    struct quant_config *c = config_of(text, &e);
    if (!c)
        FAIL("%s: %s", text, e.detail);
    return c;
}

void test_config__searches_and_corrections_are_bounded(void)
{
#define MODEL "/quant_config/model_config/"
    refused("{'model_config': {'layerwise_search': {'topk': 0}}}", ERR_INVALID,
            MODEL "layerwise_search/topk", "");
    refused("{'model_config': {'layerwise_search': {'qtype': 'float16'}}}", ERR_INVALID,
            MODEL "layerwise_search/qtype", "int16");
    refused("{'model_config': {'layerwise_search': {'top': 3}}}", ERR_INVALID,
            MODEL "layerwise_search/top", "topk");
    refused("{'model_config': {'search': {'layer': {'metric': 'cosine-similarit'}}}}",
            ERR_UNKNOWN_NAME, MODEL "search/layer/metric", "cosine-similarity");
    refused("{'model_config': {'search': {'layer': {'topk': 3}}, 'layerwise_search': {'topk': 4}}}",
            ERR_INVALID, MODEL "layerwise_search", "search.layer");
    refused("{'model_config': {'weight': {'bias_correction': {'num_sample': 0}}}}", ERR_INVALID,
            MODEL "weight/bias_correction/num_sample", "");
    refused("{'model_config': {'weight': {'bias_correction': {'metric': 'mes'}}}}",
            ERR_UNKNOWN_NAME, MODEL "weight/bias_correction/metric", "mse");
    refused("{'model_config': {'weight': {'calibration_type': 'kl'}}}", ERR_UNKNOWN_NAME,
            MODEL "weight/calibration_type", "weight calibration");
    refused("{'model_config': {'weight': {'calibration_type': 'load', 'max_percentile': 0.9}}}",
            ERR_INVALID, MODEL "weight/max_percentile", "loaded");
    refused("{'model_config': {'model_output_type': 'int4'}}", ERR_INVALID,
            MODEL "model_output_type", "int8");
}

void test_config__a_search_per_layer_overrides_the_one_over_the_model(void)
{
    struct quant_config *c = accepted("{'model_config': {'layerwise_search': {'metric': 'mse', "
                                      "'topk': 7, 'qtype': 'int16'}, 'modelwise_search': {}, "
                                      "'activation': {'calibration_type': ['kl', 'max'], "
                                      "'per_channel': [true, false]}}}");
    CHECK(c->layer.asked);
    CHECK_INT(c->layer.metric, M_MSE);
    CHECK_INT(c->layer.topk, 7);
    CHECK_INT(c->layer.qtype, Q_INT16);
    CHECK_INT(c->search.metric, M_MSE);
    CHECK_INT(json_array_size(c->warnings), 1);
    CHECK_INT(c->n_candidates, 3); /* kl takes no channels; those with channels come last */
    CHECK(!c->candidates[0].per_channel && !c->candidates[1].per_channel);
    CHECK(c->candidates[2].per_channel);
    config_done(c);
}

void test_config__mix_is_the_default_methods_and_a_search_per_layer(void)
{
    struct quant_config *c =
        accepted("{'model_config': {'activation': {'calibration_type': 'mix'}}}");
    CHECK_INT(c->n_candidates, 10);
    CHECK(c->layer.asked);
    CHECK_INT(c->layer.qtype, Q_INT8);
    CHECK_INT(c->layer.topk, 0);
    config_done(c);
}

void test_config__ec_is_for_int8_only_ports(void)
{
    refused("{'node_config': {'Conv_1': {'input0': 'ec'}}}", ERR_INVALID,
            "/quant_config/node_config/Conv_1/input0", "ec");
    refused("{'node_config': {'Mul_2': {'input1': 'ec'}}}", ERR_INVALID,
            "/quant_config/node_config/Mul_2/input1", "ec");
}

void test_config__without_a_method_ten_candidates_are_searched(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c = config_of("{}", &e);
    CHECK(c);
    CHECK_INT(c->n_candidates, 10);
    int tensors = 0;
    for (int i = 0; i < c->n_candidates; i++)
        tensors += !c->candidates[i].per_channel;
    CHECK_INT(tensors, 6);
    for (int i = 0; i < tensors; i++)
        CHECK(!c->candidates[i].per_channel); /* they come first */
    CHECK(c->search.similarity == 0.995 && c->search.metric == M_COSINE);
}

void test_config__methods_by_name(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c =
        config_of("{'model_config': {'activation': {'calibration_type': 'percentile'}}}", &e);
    CHECK(c && c->n_candidates == 1);
    CHECK_INT(c->candidates[0].method, METHOD_MAX);
    CHECK(c->candidates[0].max_percentile == 0.99995);
    c = config_of("{'model_config': {'activation': {'calibration_type': 'max'}}}", &e);
    CHECK(c && c->n_candidates == 1 && c->candidates[0].max_percentile == 1);
    c = config_of("{'model_config': {'activation': {'calibration_type': ['max', 'kl', 'kl'],"
                  " 'max_percentile': [0.99995, 1.0]}}}",
                  &e);
    CHECK(c && c->n_candidates == 3);
    CHECK(c->search.similarity == 1);
}

void test_config__requests_by_level(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c = config_of(
        "{'op_config': {'Conv': {'InputType': 'int16'}},"
        " 'subgraph_config': {'s': {'inputs': ['Mul_2'], 'outputs': ['Conv_4'], 'qtype': 'int16'}},"
        " 'node_config': {'Conv_4': {'qtype': 'int16', 'input1': 'float16', 'OutputType': 'int8'},"
        " 'Mul_2': {'InputType1': 'int16'}}}",
        &e);
    CHECK(c);
    CHECK_INT(c->n_requests, 2 + 3 + 3 + 1);
    int of[LEVEL_COUNT] = {0};
    for (int i = 0; i < c->n_requests; i++)
        of[c->requests[i].level]++;
    CHECK_INT(of[LEVEL_OP], 2);
    CHECK_INT(of[LEVEL_SUBGRAPH], 3);
    CHECK_INT(of[LEVEL_NODE], 2);
    CHECK_INT(of[LEVEL_INPUT], 2);
}

void test_config__a_known_type_that_the_model_lacks_is_a_warning(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c = config_of("{'op_config': {'ConvTranspose': {'qtype': 'int16'}}}", &e);
    CHECK(c && c->n_requests == 0);
    CHECK_INT(json_array_size(c->warnings), 1);
}

void test_config__resolved_says_the_method_and_parses_again(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c = config_of("{'node_config': {'Conv_1': {'qtype': 'int16'}}}", &e), *d;
    CHECK(c);
    json_t *v = config_resolved(c, &c->candidates[2]);
    CHECK_OK(config_parse(v, "", mini_graph(&arena, GRAPH), &march_nash_e, &arena, &d, &e), e);
    CHECK_INT(d->n_candidates, 1);
    CHECK(calib_method_same(&d->candidates[0], &c->candidates[2]));
    CHECK_INT(d->n_requests, 1);
    json_decref(v);
}

/* ---- what the chapter prints ---- */

/* A chain of Convs with these names, one behind the other. */
static struct graph *chain_of(const char *const *names, int n)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_addf(&b, "input t0 1,4,8,8\nconst w 4,4,1,1\noutput t%d\n", n);
    for (int i = 0; i < n; i++)
        buf_addf(&b, "%s Conv t%d,w -> t%d\n", names[i], i, i + 1);
    struct graph *g = mini_graph(&arena, b.data);
    buf_done(&b);
    return g;
}

static struct quant_config *chapter(const char *const *names, int n, const char *text)
{
    struct err e = ERR_INIT;
    struct quant_config *c = NULL;
    json_t *v = json_string(text);
    CHECK_OK(config_parse(v, "", chain_of(names, n), &march_nash_e, &arena, &c, &e), e);
    json_decref(v);
    return c;
}

void test_config__chapter_hybridnets_percentile_and_nodes(void)
{
    static const char *const names[] = {"/encoder/_blocks.0/_depthwise_conv/Conv",
                                        "/encoder/_swish/Mul", "/bifpn/bifpn.5/p4_downsample/Pad"};
    struct quant_config *c = chapter(
        names, 3,
        "quant_config = { \"model_config\": { \"activation\": {\"calibration_type\": \"max\","
        " \"max_percentile\": 0.99995}, }, \"node_config\": {"
        " \"/encoder/_blocks.0/_depthwise_conv/Conv\": {\"qtype\": \"int16\"},"
        " \"/encoder/_swish/Mul\": {\"qtype\": \"int16\"},"
        " \"/bifpn/bifpn.5/p4_downsample/Pad\": {\"qtype\": \"int16\"}, }, }");
    CHECK_INT(c->n_requests, 3);
    CHECK(c->n_candidates == 1 && c->candidates[0].max_percentile == 0.99995);
}

void test_config__chapter_all_int16(void)
{
    static const char *const names[] = {"Conv_1"};
    struct quant_config *c =
        chapter(names, 1, "quant_config = {\"model_config\": {\"all_node_type\": \"int16\"}}");
    CHECK_INT(c->all, Q_INT16);
}

void test_config__chapter_yolop_subgraph(void)
{
    static const char *const names[] = {"Conv_559", "Conv_707", "Conv_855", "Concat_1003"};
    struct quant_config *c =
        chapter(names, 4,
                "quant_config = { \"subgraph_config\": { \"det_head\": {"
                " \"inputs\": [\"Conv_559\", \"Conv_707\", \"Conv_855\"],"
                " \"outputs\": [\"Concat_1003\"], \"qtype\": \"int16\", }, }, }");
    CHECK_INT(c->n_requests, 4);
}

void test_config__chapter_lane_without_compensation(void)
{
    static const char *const names[] = {"Conv_265", "Conv_8", "Reshape_390", "Conv_403",
                                        "Conv_404"};
    struct quant_config *c = chapter(
        names, 5,
        "{ \"model_config\": { \"activation\": { \"calibration_type\": \"max\","
        " \"per_channel\": True, \"asymmetric\": True, }, }, \"node_config\": { # 0.99\n"
        " \"Conv_265\": {\"qtype\": \"int16\"}, \"Conv_8\": {\"qtype\": \"int16\"},"
        " # box_arrow 0.9995\n \"Conv_8\": {\"qtype\": \"int16\"}, }, \"subgraph_config\": {"
        " \"arrow_head\": { \"inputs\": [\"Reshape_390\"],"
        " \"outputs\": [\"Conv_403\", \"Conv_404\"], \"qtype\": \"int16\", } } }");
    CHECK_INT(c->n_requests, 2 + 3);
    CHECK_INT(json_array_size(c->warnings), 1); /* Conv_8 stands twice */
    CHECK(c->candidates[0].per_channel && c->candidates[0].asymmetric);
}
