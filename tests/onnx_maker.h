/*
 * Small ONNX files for tests, encoded by hand (not by the project's own writer), so that reader
 * and writer are not tested by each other alone. Parts may come in any order.
 */
#ifndef PTQ_TESTS_ONNX_MAKER_H
#define PTQ_TESTS_ONNX_MAKER_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

struct onnx_maker {
    struct buf graph, model, file;
    struct buf attrs; /* the next node's, beside those of its text */
    int node_field;   /* what a node is in `graph`: 1 of a graph, 7 of a function */
};

void maker_init(struct onnx_maker *m, int ir_version, int opset);
void maker_done(struct onnx_maker *m);

/* Another domain's opset. */
void maker_import(struct onnx_maker *m, const char *domain, int version);
/* Float tensors. dims as text: "1,3,N,?" – a name is symbolic, ? is unknown. */
void maker_input(struct onnx_maker *m, const char *name, const char *dims);
void maker_output(struct onnx_maker *m, const char *name, const char *dims);
/* Initializers; data as raw bytes. maker_ramp: a smooth, reproducible filling, not constant. */
void maker_floats(struct onnx_maker *m, const char *name, const char *dims, const float *data);
void maker_ramp(struct onnx_maker *m, const char *name, const char *dims, float scale);
void maker_ints(struct onnx_maker *m, const char *name, const char *dims, const int64_t *data);
/* An initializer whose bytes are in another file; offset and length as text, NULL: left out. */
void maker_external(struct onnx_maker *m, const char *name, const char *dims, const char *location,
                    const char *offset, const char *length);
/*
 * A node: op_type may be "domain:Type"; inputs and outputs are separated by spaces, "-" is an
 * absent one; attributes as text, separated by spaces: "axis=i:1 alpha=f:0.5 mode=s:linear
 * pads=is:0,0,1,1 scales=fs:1,2". attrs may be NULL, name "".
 */
void maker_node(struct onnx_maker *m, const char *op_type, const char *name, const char *in,
                const char *out, const char *attrs);

/* A graph or function that another file's maker takes in; maker_init's ir_version and opset do not
 * matter then. The next node of m gets `body` as an attribute. */
void maker_body(struct onnx_maker *m, const char *attr, const struct onnx_maker *body);
/* The next node of m gets an attribute that stands for one of the function around it. */
void maker_ref(struct onnx_maker *m, const char *attr, const char *of, int type);
/* Names separated by spaces. */
void maker_function_init(struct onnx_maker *f, const char *domain, const char *name,
                         const char *inputs, const char *outputs, const char *attrs, int opset);
void maker_function(struct onnx_maker *m, const struct onnx_maker *f);
/* Inputs and outputs of another type than float32; dims NULL: not even the rank is said. */
void maker_typed_input(struct onnx_maker *m, const char *name, int type, const char *dims);
void maker_typed_output(struct onnx_maker *m, const char *name, int type, const char *dims);

/* The whole file; valid until maker_done. */
const struct buf *maker_file(struct onnx_maker *m);
/* Writes it to a path of the test's folder and returns that path. */
const char *maker_save(struct onnx_maker *m, const char *name);

/* Wire format, for malformed files. */
void wire_varint(struct buf *b, uint64_t v);
void wire_number(struct buf *b, int field, uint64_t v);
void wire_bytes(struct buf *b, int field, const void *data, size_t len);
void wire_text(struct buf *b, int field, const char *s);

#endif
