#include "tests/unit/calibrate_kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/json.h"
#include "tests/test.h"
#include "tests/unit/mini.h"
#include "worker/exec/backend.h"
#include "worker/jobs/host.h"
#include "worker/load/npy.h"

static struct arena arena; /* to the test's end */

static float noise(unsigned *seed)
{
    return (float)(rand_r(seed) % 20001 - 10000) / 10000.0f;
}

static void add_const(struct buf *b, const char *name, const char *dims, int n, float size,
                      unsigned seed)
{
    buf_addf(b, "const %s %s", name, dims);
    for (int i = 0; i < n; i++)
        buf_addf(b, " %.5f", (double)(noise(&seed) * size));
    buf_addf(b, "\n");
}

static struct graph *kit_graph(void)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_addf(&b, "input x 1,4,8,8\n");
    add_const(&b, "w1", "6,4,3,3", 216, 0.4f, 1);
    add_const(&b, "b1", "6", 6, 0.2f, 2);
    add_const(&b, "w2", "6,3,2,2", 72, 0.5f, 3);
    add_const(&b, "w3", "6,1,3,3", 54, 0.02f, 4); /* small beside what the Concat ties it to */
    unsigned seed = 5;
    buf_addf(&b, "const w4 5,9,1,1");
    for (int i = 0; i < 45; i++)
        buf_addf(&b, " %.5f", (double)noise(&seed) * (i % 9 < 3 ? 0.02 : 5));
    buf_addf(&b, "\n");
    add_const(&b, "b4", "5", 5, 0.3f, 6);
    add_const(&b, "w5", "3,5,3,3", 135, 0.3f, 7);
    buf_addf(&b, "output o\noutput side\n"
                 "c1 Conv x,w1,b1 -> y1 pads=[1,1,1,1]\n"
                 "r1 Relu y1 -> a1\n"
                 "t2 ConvTranspose a1,w2 -> a2 strides=[2,2]\n"
                 "d3 Conv a1,w3 -> a3 group=6 pads=[1,1,1,1]\n"
                 "p2 MaxPool a2 -> q2 kernel_shape=[2,2] strides=[2,2]\n"
                 "k Concat q2,a3 -> cat axis=1\n"
                 "c4 Conv cat,w4,b4 -> y4\n"
                 "s4 Sigmoid y4 -> a4\n"
                 "m4 Mul y4,a4 -> z4\n"
                 "c5 Conv z4,w5 -> o\n"
                 "g GlobalAveragePool z4 -> side\n");
    struct graph *g = mini_graph(&arena, b.data);
    buf_done(&b);
    return g;
}

/* One value in 97 is an outlier: methods differ. */
static void write_sample(int i)
{
    struct err e = ERR_INIT;
    unsigned seed = (unsigned)i * 77 + 5;
    float x[256];
    for (int k = 0; k < 256; k++) {
        x[k] = noise(&seed);
        x[k] *= k % 97 == 13 ? 9.0f : x[k] * x[k];
    }
    struct tensor t = {.type = DT_F32, .rank = 4, .dims = {1, 4, 8, 8}, .data = x};
    CHECK_OK(npy_write(test_path("data/x/%02d.npy", i), &t, &e), e);
}

void kit_write(void)
{
    struct err e = ERR_INIT;
    CHECK_OK(model_write(kit_graph(), NULL, test_path("kit.onnx"), &e), e);
    CHECK(!mkdir(test_path("data"), 0777) && !mkdir(test_path("data/x"), 0777));
    for (int i = 0; i < KIT_SAMPLES; i++)
        write_sample(i);
}

int kit_try(const char *name, const char *kind, const char *model, const char *config,
            json_t *options, int slots, bool store)
{
    struct err e = ERR_INIT;
    struct host h = {.kinds = job_kinds, .profile = "test"};
    json_t *job = json_pack("{s:s, s:s, s:s}", "kind", kind, "model", test_path("%s", model),
                            "data", test_path("data"));
    if (config)
        json_object_set_new(job, "quant_config", json_string(config));
    if (options)
        json_object_set_new(job, "options", options);
    char *text = json_text(job);
    test_write(test_path("%s.json", name), text, strlen(text));
    free(text);
    json_decref(job);
    CHECK_OK(backend_find(NULL, &h.backend, &e), e);
    struct local_opts o = {.job_file = test_path("%s.json", name),
                           .out_dir = test_path("%s", name),
                           .store_dir = store ? test_path("store") : NULL,
                           .slots = slots};
    return local_main(&h, &o);
}

/* Results live to the test's end: they are known from here. */
static json_t *results;

json_t *kit_run(const char *name, const char *kind, const char *model, const char *config,
                json_t *options)
{
    struct err e = ERR_INIT;
    size_t len;
    CHECK_INT(kit_try(name, kind, model, config, options, 0, false), 0);
    char *text = test_read(test_path("%s/result.json", name), &len);
    json_t *v = json_parse(text, len, &e);
    CHECK(v);
    if (!results)
        results = json_array();
    json_array_append_new(results, v);
    return v;
}

struct model *kit_model(const char *name)
{
    struct err e = ERR_INIT;
    struct model *m;
    const char *path = test_path("%s/calibrated_model.onnx", name);
    CHECK_OK(model_open(&(struct model_source){.path = path}, &m, &e), e);
    return m;
}

json_t *kit_calibration(const json_t *result, const char *name)
{
    json_t *v;
    size_t i;
    json_array_foreach(json_object_get(result, "calibrations"), i, v)
    {
        if (!strcmp(json_str(v, "name", ""), name))
            return v;
    }
    FAIL("no calibration %s", name);
}
