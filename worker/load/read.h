/*
 * From protobuf-c's messages (load/onnx.pb-c.h, unpacked from the scan's skeleton) to the
 * project's own: tensors, attributes, nodes, graphs. Inside load/ only.
 */
#ifndef PTQ_WORKER_LOAD_READ_H
#define PTQ_WORKER_LOAD_READ_H

#include "onnx.pb-c.h"
#include "worker/load/build.h"
#include "worker/load/mapping.h"

/* The functions that a model defines, by domain, name and overload. */
enum { FUNCTIONS_MAX = 4096, FUNCTIONS_DEEP_MAX = 32 /* calls in calls */ };
struct functions {
    Onnx__FunctionProto *const *list;
    struct map numbers;
};
int functions_init(struct functions *f, const Onnx__ModelProto *m, struct arena *a, struct err *e);
/* The number of the function that this node calls, or -1. A function goes before an operator. */
int functions_find(const struct functions *f, const Onnx__NodeProto *p);

struct reader {
    struct arena *arena;
    const struct model_source *src;
    struct model_map **maps;
    const struct model_map *file; /* the ONNX file, where payloads point to */
    const struct opset *opsets;   /* in force: the model's, or the function's that is being read */
    int n_opsets;
    const struct functions *functions;
    struct call *call;      /* the function call that is being read in place of its node */
    int n_calls, n_inlined; /* so far: numbers for unnamed calls, nodes that came of calls */
    uint64_t inlined_bytes; /* that calls took so far, up to the outermost one that is read now */
    size_t call_began;      /* where that one began in the arena */
    uint64_t dense_bytes;   /* so far, of sparse tensors */
    uint64_t tensor_bytes;  /* so far, however often a file's bytes are used */
    struct err *e;
};

/* The version of every domain, in the arena. */
int read_opsets(struct reader *r, Onnx__OperatorSetIdProto **p, size_t n, const struct opset **ret,
                int *ret_n);

/* A constant: data is a view into a mapping where that is aligned to the element size, else a
 * copy in the arena; never NULL. ERR_UNSUPPORTED for element types without a dtype. */
int read_tensor(struct reader *r, const Onnx__TensorProto *p, const char *name, struct tensor *ret);

/* A sparse constant as a dense one, in the arena. */
int read_sparse(struct reader *r, const Onnx__SparseTensorProto *p, const char *name,
                struct tensor *ret);

/* Text for the arena; ERR_BAD_MODEL if there is a zero byte in it. */
int read_text(struct reader *r, const ProtobufCBinaryData *p, const char **ret);

int read_attr(struct reader *r, const Onnx__AttributeProto *p, struct build *b, struct attr *ret);

/* parent NULL: the main graph. */
int read_graph(struct reader *r, const Onnx__GraphProto *p, struct build *parent,
               struct graph **ret);

#endif
