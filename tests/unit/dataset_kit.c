#include "tests/unit/dataset_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/test.h"
#include "worker/load/npy.h"

/* A graph of up to two float32 inputs [1, 2]; only what matching reads. */
struct graph *kit_graph(const char *a, const char *b)
{
    static struct value values[2];
    static int inputs[2] = {0, 1};
    static struct graph g;
    int64_t dims[2] = {-1, 2};
    struct err e = ERR_INIT;
    values[0] = (struct value){.name = a};
    values[1] = (struct value){.name = b};
    tensor_set(&values[0].type, DT_F32, 2, (int64_t[]){1, 2}, &e);
    values[0].type.dims[0] = dims[0];
    values[1].type = values[0].type;
    g = (struct graph){.n_inputs = b ? 2 : 1, .n_values = 2, .values = values, .inputs = inputs};
    return &g;
}

/* An npy file of float32 [1, 2] in memory. */
size_t kit_array(struct buf *ret, enum dtype type, float x, float y)
{
    struct tensor t;
    struct err e = ERR_INIT;
    int64_t dims[2] = {1, 2};
    double f8[2] = {(double)x, (double)y};
    float f4[2] = {x, y};
    tensor_set(&t, type, 2, dims, &e);
    buf_init(ret, 4096);
    CHECK_OK(npy_put_header(ret, &t, &e), e);
    buf_add(ret, type == DT_F64 ? (void *)f8 : (void *)f4, tensor_bytes(&t));
    return ret->len;
}

void kit_put_sample(const char *path, float x, float y)
{
    struct buf b;
    kit_array(&b, DT_F32, x, y);
    test_write(path, b.data, b.len);
    buf_done(&b);
}

void kit_put_labels(const char *path, int n)
{
    int64_t data[16] = {0}, dims[1] = {n};
    struct tensor t;
    struct err e = ERR_INIT;
    for (int i = 0; i < n; i++)
        data[i] = i;
    tensor_set(&t, DT_I64, 1, dims, &e);
    t.data = data;
    CHECK_OK(npy_write(path, &t, &e), e);
}

void kit_folder(const char *input, int n)
{
    mkdir(test_path("data"), 0755);
    mkdir(test_path("data/%s", input), 0755);
    for (int i = 0; i < n; i++)
        kit_put_sample(test_path("data/%s/%d.npy", input, i), (float)i, 2);
}

void kit_expect_bad(const char *path, const struct graph *g, const char *at, const char *word)
{
    struct dataset *d;
    struct err e = ERR_INIT;
    if (!dataset_open(path, g, &d, &e))
        FAIL("%s was opened", path);
    CHECK_INT(e.code, ERR_BAD_DATA);
    if (!strstr(e.at, at) || !strstr(e.detail, word))
        FAIL("\"%s\" (at \"%s\") does not say \"%s\" at \"%s\"", e.detail, e.at, word, at);
}
