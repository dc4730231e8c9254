/*
 * From protobuf-c's messages (load/onnx.pb-c.h, unpacked from the scan's skeleton) to the
 * project's own: tensors, attributes, nodes, graphs. Inside load/ only.
 */
#ifndef PTQ_WORKER_LOAD_READ_H
#define PTQ_WORKER_LOAD_READ_H

#include "onnx.pb-c.h"
#include "worker/load/build.h"
#include "worker/load/mapping.h"

struct reader {
    struct arena *arena;
    const struct model_source *src;
    struct model_map **maps;
    const struct model_map *file; /* the ONNX file, where payloads point to */
    const struct opset *opsets;
    int n_opsets;
    struct err *e;
};

/* A constant: data is a view into a mapping where that is aligned to the element size, else a
 * copy in the arena; never NULL. ERR_UNSUPPORTED for element types without a dtype. */
int read_tensor(struct reader *r, const Onnx__TensorProto *p, const char *name, struct tensor *ret);

/* Text for the arena; ERR_BAD_MODEL if there is a zero byte in it. */
int read_text(struct reader *r, const ProtobufCBinaryData *p, const char **ret);

/* parent NULL: the main graph. */
int read_graph(struct reader *r, const Onnx__GraphProto *p, struct build *parent,
               struct graph **ret);

#endif
