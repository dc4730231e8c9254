#include "tests/onnx_maker.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/load/model.h"
#include "worker/load/scan.h"

static int scan_of(const struct buf *b, struct scan_result *ret, struct err *e)
{
    *e = (struct err)ERR_INIT;
    return scan_onnx(b->data, b->len, ret, e);
}

static void refused(const struct buf *b, enum err_code code, const char *at, const char *text)
{
    struct scan_result r;
    struct err e;
    CHECK(scan_of(b, &r, &e) != 0);
    CHECK_STR(err_slug(e.code), err_slug(code));
    if (at)
        CHECK_STR(e.at, at);
    if (!strstr(e.detail, text))
        FAIL("\"%s\" is not in \"%s\"", text, e.detail);
}

static void small_model(struct onnx_maker *m)
{
    static const float w[] = {1, 2, 3, 4};
    maker_init(m, 8, 13);
    maker_input(m, "x", "N,4");
    maker_floats(m, "w", "4", w);
    maker_node(m, "Add", "add", "x w", "y", NULL);
    maker_node(m, "LeakyRelu", "act", "y", "z", "alpha=f:0.25");
    maker_output(m, "z", "N,4");
}

void test_scan__payloads_are_left_in_the_file(void)
{
    struct onnx_maker m;
    struct scan_result r;
    struct err e;
    small_model(&m);
    const struct buf *file = maker_file(&m);
    CHECK_OK(scan_of(file, &r, &e), e);
    CHECK_INT(r.payload_bytes, 16);
    float second = 2;
    CHECK(memmem(file->data, file->len, &second, 4) != NULL);
    CHECK(memmem(r.skeleton.data, r.skeleton.len, &second, 4) == NULL);
    buf_done(&r.skeleton);
    maker_done(&m);
}

/* Every prefix is either a whole model by chance or an error; reading past the end would be seen
 * by the sanitizers, for each prefix is in a block of its own. */
void test_scan__survives_truncation_at_every_byte(void)
{
    struct onnx_maker m;
    small_model(&m);
    const struct buf *file = maker_file(&m);
    for (size_t n = 0; n < file->len; n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, file->data, n);
        struct scan_result r;
        struct err e = ERR_INIT;
        if (scan_onnx(cut, n, &r, &e))
            CHECK_STR(err_slug(e.code), "bad-model");
        else
            buf_done(&r.skeleton);
        const char *path = test_path("cut.onnx");
        test_write(path, cut, n);
        struct model *model;
        struct err oe = ERR_INIT;
        CHECK(model_open(&(struct model_source){.path = path}, &model, &oe) != 0);
        CHECK(oe.code == ERR_BAD_MODEL || oe.code == ERR_UNSUPPORTED);
        free(cut);
    }
    maker_done(&m);
}

/* graph { node { attribute { g { node { … */
void test_scan__refuses_a_depth_bomb(void)
{
    struct buf inner, outer;
    buf_init(&inner, 1 << 20);
    static const int fields[] = {6, 5, 1}; /* g, attribute, node: from the inside out */
    for (int i = 0; i <= 3000; i++) {
        buf_init(&outer, 1 << 20);
        wire_bytes(&outer, i == 3000 ? 7 : fields[i % 3], inner.data, inner.len);
        buf_done(&inner);
        inner = outer;
    }
    refused(&inner, ERR_LIMIT, NULL, "deeper than 64");
    buf_done(&inner);
}

void test_scan__refuses_a_wide_bomb(void)
{
    struct buf graph, model;
    buf_init(&graph, 8 << 20);
    buf_init(&model, 8 << 20);
    for (int i = 0; i < SCAN_NODES_MAX + 1; i++)
        buf_add(&graph, "\x0a\0", 2);
    wire_number(&model, 1, 8);
    wire_bytes(&model, 7, graph.data, graph.len);
    refused(&model, ERR_LIMIT, NULL, "more than 100000 nodes");
    buf_done(&graph);
    buf_done(&model);
}

/* Empty graph inputs, whose number nothing else limits: their unpacked form is larger than the
 * budget. */
void test_scan__unpacking_stays_within_its_budget(void)
{
    struct buf graph, model;
    buf_init(&graph, 8 << 20);
    buf_init(&model, 8 << 20);
    for (int i = 0; i < 3000000; i++)
        buf_add(&graph, "\x5a\0", 2);
    wire_number(&model, 1, 8);
    wire_bytes(&model, 7, graph.data, graph.len);
    const char *path = test_path("wide.onnx");
    test_write(path, model.data, model.len);
    struct model *m;
    struct err e = ERR_INIT;
    CHECK(model_open(&(struct model_source){.path = path}, &m, &e) != 0);
    CHECK_STR(err_slug(e.code), "limit");
    buf_done(&graph);
    buf_done(&model);
}

void test_scan__unknown_fields_cost_nothing(void)
{
    struct buf model;
    struct scan_result r;
    struct err e;
    buf_init(&model, 32 << 20);
    wire_number(&model, 1, 8);
    for (int i = 0; i < 1000000; i++)
        wire_number(&model, 3000 + i % 100, 7);
    wire_number(&model, 1000, 9); /* the skeleton's own fields are unknown in a file */
    CHECK_OK(scan_of(&model, &r, &e), e);
    CHECK_INT(r.skeleton.len, 2);
    buf_done(&r.skeleton);
    buf_done(&model);
}

void test_scan__refuses_lengths_that_overflow(void)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
    } cases[] = {
        {"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, "claims"},
        {"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 12, "claims"},
        {"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 13, "longer than 64 bits"},
        {"\x08\x08\x3a\x05\x0a\x7f", 6, "claims 5 bytes"},
        {"\x08\x08\x3b", 3, "Wire type 3"},
        {"\x08\x08\x02\x00", 4, "no field number"},
        {"\x08\x08\x38\x01", 4, "wire type 0, not 2"},
        {"\x08\x08\x08\x08", 4, "given twice"},
        {"\x08\x08\x12\x02\xc0\x80", 6, "not UTF-8"},
        {"\x08\x08\x12\x01\x00", 5, "not UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b;
        buf_init(&b, 64);
        buf_add(&b, cases[i].bytes, cases[i].n);
        refused(&b, ERR_BAD_MODEL, NULL, cases[i].text);
        buf_done(&b);
    }
}

void test_scan__an_error_names_its_byte(void)
{
    struct buf b;
    buf_init(&b, 64);
    buf_add(&b, "\x08\x08\x3a\x05\x0a\x7f", 6);
    refused(&b, ERR_BAD_MODEL, "byte 2", "Field 7 claims 5 bytes, but its message ends after 2.");
    buf_done(&b);
}

static void refused_tensor(const struct buf *tensor, enum err_code code, const char *text)
{
    struct buf graph, model;
    buf_init(&graph, 1 << 20);
    buf_init(&model, 1 << 20);
    wire_bytes(&graph, 5, tensor->data, tensor->len);
    wire_bytes(&model, 7, graph.data, graph.len);
    refused(&model, code, NULL, text);
    buf_done(&graph);
    buf_done(&model);
}

void test_scan__refuses_too_many_dims_packed_or_not(void)
{
    for (int packed = 0; packed < 2; packed++) {
        struct buf t;
        buf_init(&t, 1 << 10);
        for (int i = 0; i < 13 && !packed; i++)
            wire_number(&t, 1, 1);
        if (packed)
            wire_bytes(&t, 1, "\1\1\1\1\1\1\1\1\1\1\1\1\1", 13);
        refused_tensor(&t, ERR_LIMIT, "more than 12");
        buf_done(&t);
    }
}

void test_scan__refuses_data_given_twice(void)
{
    struct buf t;
    buf_init(&t, 1 << 10);
    wire_bytes(&t, 4, "\0\0\0\0", 4);
    wire_bytes(&t, 9, "\0\0\0\0", 4);
    refused_tensor(&t, ERR_BAD_MODEL, "given twice");
    buf_done(&t);
}

void test_scan__refuses_a_long_name(void)
{
    struct buf t;
    char *name = malloc(SCAN_NAME_MAX + 2);
    memset(name, 'n', SCAN_NAME_MAX + 1);
    name[SCAN_NAME_MAX + 1] = '\0';
    buf_init(&t, 1 << 16);
    wire_text(&t, 8, name);
    refused_tensor(&t, ERR_LIMIT, "the most is 4096");
    buf_done(&t);
    free(name);
}
