/* Top-1 accuracy of the collection's digit classifiers: float, int8 as the default search finds it,
 * int16, with the interval of the paired difference; as a table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json.h"
#include "tests/test.h"
#include "worker/exec/backend.h"
#include "worker/jobs/host.h"
#include "worker/load/model.h"
#include "worker/load/npy.h"

enum { IMAGES = 2000, PIXELS = 28 * 28 };

/* As SOURCE.txt beside each model says: what a pixel is divided by. */
static const struct {
    const char *name;
    float divisor;
} models[] = {{"mnist8_cntk", 1},
              {"mnist_mbv3_hswish", 255},
              {"mnist_stn_gridsample", 255},
              {"mnist_vit_gelu", 255}};

static struct arena arena;

static void make_folder(const char *path)
{
    CHECK(!mkdir(path, 0777));
}

static void read_array(const char *model, const char *file, struct tensor *ret)
{
    struct err e = ERR_INIT;
    size_t len, offset;
    const char *path = arena_printf(&arena, "%s/eval/%s", model, file);
    char *bytes = test_read(test_model(path), &len);
    CHECK_OK(npy_parse(bytes, len, ret, &offset, &e), e);
}

/* The images of the evaluation as a folder of samples with labels. */
static void write_images(const char *model, float divisor, const char *input)
{
    struct err e = ERR_INIT;
    struct tensor x, y, one = {.type = DT_F32, .rank = 4, .dims = {1, 1, 28, 28}};
    float pixels[PIXELS];
    const char *folder = test_path("%s", model);
    read_array(model, "x.npy", &x);
    read_array(model, "y.npy", &y);
    CHECK(x.type == DT_U8 && tensor_count(&x) == IMAGES * PIXELS && tensor_count(&y) == IMAGES);
    make_folder(folder);
    make_folder(arena_printf(&arena, "%s/%s", folder, input));
    one.data = pixels;
    for (int i = 0; i < IMAGES; i++) {
        for (int k = 0; k < PIXELS; k++)
            pixels[k] = (float)((const uint8_t *)x.data)[i * PIXELS + k] / divisor;
        CHECK_OK(npy_write(arena_printf(&arena, "%s/%s/%04d.npy", folder, input, i), &one, &e), e);
    }
    CHECK_OK(npy_write(arena_printf(&arena, "%s/labels.npy", folder), &y, &e), e);
}

static const char *input_of(const char *model)
{
    struct err e = ERR_INIT;
    struct model *m;
    const char *path = test_model(arena_printf(&arena, "%s/model.onnx", model));
    CHECK_OK(model_open(&(struct model_source){.path = path}, &m, &e), e);
    const char *name = arena_strdup(&arena, m->float_graph->values[m->float_graph->inputs[0]].name);
    model_free(m);
    return name;
}

static json_t *accuracy(const char *model, const char *data, const char *config)
{
    struct err e = ERR_INIT;
    struct host h = {.kinds = job_kinds, .profile = "test"};
    const char *at = arena_printf(&arena, "%s", test_model(model));
    json_t *job =
        json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", "evaluate", "model",
                  arena_printf(&arena, "%s/model.onnx", at), "data", data, "calibration_data",
                  arena_printf(&arena, "%s/calibration_data", at), "quant_config", config);
    char *text = json_text(job);
    const char *file = arena_printf(&arena, "%s.json", data);
    test_write(file, text, strlen(text));
    free(text);
    json_decref(job);
    CHECK_OK(backend_find(NULL, &h.backend, &e), e);
    const char *out = arena_printf(&arena, "%s.out", data);
    struct local_opts o = {.job_file = file, .out_dir = out, .slots = 1};
    CHECK_INT(local_main(&h, &o), 0);
    size_t len;
    char *result = test_read(arena_printf(&arena, "%s/result.json", out), &len);
    json_t *v = json_parse(result, len, &e);
    CHECK(v);
    return json_object_get(v, "accuracy");
}

static double end(const json_t *a, size_t i)
{
    return json_number_value(json_array_get(json_object_get(a, "difference_interval"), i));
}

void test_models_accuracy__of_the_digit_classifiers(void)
{
    char table[4096];
    int n = snprintf(
        table, sizeof table,
        "| model | float | int8 (default search) | float - int8 | int16 | float - int16 |\n"
        "|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *name = models[i].name;
        write_images(name, models[i].divisor, input_of(name));
        const char *data = arena_printf(&arena, "%s/%s", test_dir(), name);
        json_t *int8 = accuracy(name, data, "{}"),
               *int16 = accuracy(name, data, "{'model_config': {'all_node_type': 'int16'}}");
        n += snprintf(table + n, sizeof table - (size_t)n,
                      "| %s | %.2f %% | %.2f %% | %.2f to %.2f | %.2f %% | %.2f to %.2f |\n", name,
                      100 * json_num(int8, "float", NAN), 100 * json_num(int8, "quantized", NAN),
                      -100 * end(int8, 1), -100 * end(int8, 0),
                      100 * json_num(int16, "quantized", NAN), -100 * end(int16, 1),
                      -100 * end(int16, 0));
        CHECK_INT(json_int(int16, "samples", 0), IMAGES);
        CHECK(-end(int16, 1) <= 0.002); /* the loss may be 0.2 points or less */
        CHECK(json_num(int8, "float", 0) > 0.95);
    }
    const char *folder = getenv("PTQ_TABLES");
    if (folder)
        test_write(arena_printf(&arena, "%s/accuracy.md", folder), table, strlen(table));
    printf("%s", table);
}
