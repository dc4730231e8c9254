#include "tests/onnx_maker.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

enum { FILE_MAX = 64 << 20, DIMS_MAX = 16, TYPE_FLOAT = 1, TYPE_INT64 = 7 };

void wire_varint(struct buf *b, uint64_t v)
{
    do {
        char byte = (char)((v & 127) | (v > 127 ? 128 : 0));
        buf_add(b, &byte, 1);
        v >>= 7;
    } while (v);
}

void wire_number(struct buf *b, int field, uint64_t v)
{
    wire_varint(b, (uint64_t)field << 3);
    wire_varint(b, v);
}

void wire_bytes(struct buf *b, int field, const void *data, size_t len)
{
    wire_varint(b, (uint64_t)field << 3 | 2);
    wire_varint(b, len);
    buf_add(b, data, len);
}

void wire_text(struct buf *b, int field, const char *s)
{
    wire_bytes(b, field, s, strlen(s));
}

static void wire_message(struct buf *b, int field, struct buf *inner)
{
    wire_bytes(b, field, inner->data, inner->len);
    buf_done(inner);
}

static void wire_float(struct buf *b, int field, float v)
{
    wire_varint(b, (uint64_t)field << 3 | 5);
    buf_add(b, &v, sizeof v);
}

void maker_import(struct onnx_maker *m, const char *domain, int version)
{
    struct buf o;
    buf_init(&o, FILE_MAX);
    wire_text(&o, 1, domain);
    wire_number(&o, 2, (uint64_t)version);
    wire_message(&m->model, 8, &o);
}

void maker_init(struct onnx_maker *m, int ir_version, int opset)
{
    buf_init(&m->graph, FILE_MAX);
    buf_init(&m->model, FILE_MAX);
    buf_init(&m->file, FILE_MAX);
    buf_init(&m->attrs, FILE_MAX);
    m->node_field = 1;
    wire_number(&m->model, 1, (uint64_t)ir_version);
    wire_text(&m->model, 2, "maker");
    wire_text(&m->graph, 2, "g");
    maker_import(m, "", opset);
}

void maker_done(struct onnx_maker *m)
{
    buf_done(&m->graph);
    buf_done(&m->model);
    buf_done(&m->file);
    buf_done(&m->attrs);
}

/* The next piece of a list; NULL at its end. */
static char *piece(char **at, const char *separators)
{
    char *p;
    while ((p = strsep(at, separators)) && !*p)
        ;
    return p;
}

static void wire_value_info(struct onnx_maker *m, int field, const char *name, int elem,
                            const char *dims)
{
    struct buf shape, tensor, type, info, dim;
    char *copy = strdup(dims ? dims : ""), *at = copy, *d;
    buf_init(&shape, FILE_MAX);
    while ((d = piece(&at, ","))) {
        buf_init(&dim, FILE_MAX);
        if (*d >= '0' && *d <= '9')
            wire_number(&dim, 1, strtoull(d, NULL, 10));
        else if (*d != '?')
            wire_text(&dim, 2, d);
        wire_message(&shape, 1, &dim);
    }
    free(copy);
    buf_init(&tensor, FILE_MAX);
    wire_number(&tensor, 1, (uint64_t)elem);
    if (dims)
        wire_bytes(&tensor, 2, shape.data, shape.len);
    buf_done(&shape);
    buf_init(&type, FILE_MAX);
    wire_message(&type, 1, &tensor);
    buf_init(&info, FILE_MAX);
    wire_text(&info, 1, name);
    wire_message(&info, 2, &type);
    wire_message(&m->graph, field, &info);
}

void maker_input(struct onnx_maker *m, const char *name, const char *dims)
{
    wire_value_info(m, 11, name, TYPE_FLOAT, dims);
}

void maker_typed_input(struct onnx_maker *m, const char *name, int type, const char *dims)
{
    wire_value_info(m, 11, name, type, dims);
}

void maker_typed_output(struct onnx_maker *m, const char *name, int type, const char *dims)
{
    wire_value_info(m, 12, name, type, dims);
}

void maker_output(struct onnx_maker *m, const char *name, const char *dims)
{
    wire_value_info(m, 12, name, TYPE_FLOAT, dims);
}

static size_t wire_dims(struct buf *t, const char *dims)
{
    char *copy = strdup(dims), *at = copy, *d;
    size_t count = 1;
    while ((d = piece(&at, ","))) {
        uint64_t v = strtoull(d, NULL, 10);
        wire_number(t, 1, v);
        count *= v;
    }
    free(copy);
    return count;
}

static void wire_tensor(struct onnx_maker *m, const char *name, const char *dims, int type,
                        const void *data)
{
    struct buf t;
    buf_init(&t, FILE_MAX);
    size_t count = wire_dims(&t, dims);
    wire_number(&t, 2, (uint64_t)type);
    wire_text(&t, 8, name);
    wire_bytes(&t, 9, data, count * (type == TYPE_INT64 ? 8 : 4));
    wire_message(&m->graph, 5, &t);
}

void maker_floats(struct onnx_maker *m, const char *name, const char *dims, const float *data)
{
    wire_tensor(m, name, dims, TYPE_FLOAT, data);
}

void maker_ints(struct onnx_maker *m, const char *name, const char *dims, const int64_t *data)
{
    wire_tensor(m, name, dims, TYPE_INT64, data);
}

void maker_ramp(struct onnx_maker *m, const char *name, const char *dims, float scale)
{
    struct buf ignored;
    buf_init(&ignored, FILE_MAX);
    size_t n = wire_dims(&ignored, dims);
    float *data = calloc(n + 1, sizeof *data);
    for (size_t i = 0; i < n; i++)
        data[i] = scale * sinf(1.3f * (float)i + (float)strlen(name));
    maker_floats(m, name, dims, data);
    free(data);
    buf_done(&ignored);
}

static void wire_entry(struct buf *t, const char *key, const char *value)
{
    struct buf entry;
    if (!value)
        return;
    buf_init(&entry, FILE_MAX);
    wire_text(&entry, 1, key);
    wire_text(&entry, 2, value);
    wire_message(t, 13, &entry);
}

void maker_external(struct onnx_maker *m, const char *name, const char *dims, const char *location,
                    const char *offset, const char *length)
{
    struct buf t;
    buf_init(&t, FILE_MAX);
    wire_dims(&t, dims);
    wire_number(&t, 2, TYPE_FLOAT);
    wire_text(&t, 8, name);
    wire_entry(&t, "location", location);
    wire_entry(&t, "offset", offset);
    wire_entry(&t, "length", length);
    wire_number(&t, 14, 1);
    wire_message(&m->graph, 5, &t);
}

static void wire_names(struct buf *n, int field, const char *names)
{
    char *copy = strdup(names), *at = copy, *name;
    while ((name = piece(&at, " ")))
        wire_text(n, field, strcmp(name, "-") ? name : "");
    free(copy);
}

/* "i:3" and so on, by the letter of the kind. */
static void wire_attr_value(struct buf *a, char *kind, char *value)
{
    static const struct {
        const char *kind;
        int field, type;
    } kinds[] = {{"f", 2, 1}, {"i", 3, 2}, {"s", 4, 3}, {"fs", 7, 6}, {"is", 8, 7}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strcmp(kinds[k].kind, kind))
            continue;
        char *at = value, *v;
        if (kinds[k].type == 3)
            wire_text(a, kinds[k].field, value);
        else
            while ((v = piece(&at, ",")))
                if (*kind == 'f')
                    wire_float(a, kinds[k].field, strtof(v, NULL));
                else
                    wire_number(a, kinds[k].field, (uint64_t)strtoll(v, NULL, 10));
        wire_number(a, 20, (uint64_t)kinds[k].type);
        return;
    }
    FAIL("attribute kind %s", kind);
}

void maker_node(struct onnx_maker *m, const char *op_type, const char *name, const char *in,
                const char *out, const char *attrs)
{
    struct buf n, a;
    const char *colon = strchr(op_type, ':');
    buf_init(&n, FILE_MAX);
    wire_names(&n, 1, in);
    wire_names(&n, 2, out);
    wire_text(&n, 3, name);
    wire_text(&n, 4, colon ? colon + 1 : op_type);
    if (colon)
        wire_bytes(&n, 7, op_type, (size_t)(colon - op_type));
    char *copy = strdup(attrs ? attrs : ""), *at = copy, *text;
    while ((text = piece(&at, " "))) {
        char *key = strsep(&text, "="), *kind = strsep(&text, ":");
        buf_init(&a, FILE_MAX);
        wire_text(&a, 1, key);
        wire_attr_value(&a, kind, text);
        wire_message(&n, 5, &a);
    }
    free(copy);
    buf_add(&n, m->attrs.data, m->attrs.len);
    buf_clear(&m->attrs);
    wire_message(&m->graph, m->node_field, &n);
}

void maker_body(struct onnx_maker *m, const char *attr, const struct onnx_maker *body)
{
    struct buf a;
    buf_init(&a, FILE_MAX);
    wire_text(&a, 1, attr);
    wire_bytes(&a, 6, body->graph.data, body->graph.len);
    wire_number(&a, 20, 5);
    wire_message(&m->attrs, 5, &a);
}

void maker_ref(struct onnx_maker *m, const char *attr, const char *of, int type)
{
    struct buf a;
    buf_init(&a, FILE_MAX);
    wire_text(&a, 1, attr);
    wire_number(&a, 20, (uint64_t)type);
    wire_text(&a, 21, of);
    wire_message(&m->attrs, 5, &a);
}

void maker_function_init(struct onnx_maker *f, const char *domain, const char *name,
                         const char *inputs, const char *outputs, const char *attrs, int opset)
{
    struct buf o;
    maker_init(f, 8, opset);
    buf_clear(&f->graph);
    f->node_field = 7;
    wire_text(&f->graph, 1, name);
    wire_text(&f->graph, 10, domain);
    wire_names(&f->graph, 4, inputs);
    wire_names(&f->graph, 5, outputs);
    wire_names(&f->graph, 6, attrs);
    buf_init(&o, FILE_MAX);
    wire_text(&o, 1, "");
    wire_number(&o, 2, (uint64_t)opset);
    wire_message(&f->graph, 9, &o);
    buf_init(&o, FILE_MAX);
    wire_text(&o, 1, domain);
    wire_number(&o, 2, 1);
    wire_message(&f->graph, 9, &o);
}

void maker_function(struct onnx_maker *m, const struct onnx_maker *f)
{
    wire_bytes(&m->model, 25, f->graph.data, f->graph.len);
}

const struct buf *maker_file(struct onnx_maker *m)
{
    buf_clear(&m->file);
    buf_add(&m->file, m->model.data, m->model.len);
    wire_bytes(&m->file, 7, m->graph.data, m->graph.len);
    return &m->file;
}

const char *maker_save(struct onnx_maker *m, const char *name)
{
    const struct buf *file = maker_file(m);
    const char *path = test_path("%s", name);
    test_write(path, file->data, file->len);
    return path;
}
