/*
 * The graph: built once by load/model.c and the passes of load/optimize/, then frozen and only
 * read. Nodes are in topological order. A value is a name with one producer: a node's output, a
 * graph input, or a constant. Values are in topological order too: inputs, outer values, then per
 * node the constants it is the first to read, and its outputs. Everything lives in the graph's
 * arena; constants may be views into the mapped file, aligned to their element size.
 */
#ifndef PTQ_WORKER_LOAD_GRAPH_H
#define PTQ_WORKER_LOAD_GRAPH_H

#include "common/arena.h"
#include "common/err.h"
#include "common/map.h"
#include "worker/load/tensor.h"

struct op;
struct graph;

enum attr_type {
    ATTR_FLOAT = 1,
    ATTR_INT = 2,
    ATTR_STRING = 3,
    ATTR_TENSOR = 4,
    ATTR_GRAPH = 5,
    ATTR_FLOATS = 6,
    ATTR_INTS = 7,
    ATTR_STRINGS = 8
}; /* numbered as AttributeProto.AttributeType */

/* An attribute as the file has it; operators read theirs through their attribute table (ops/op.h).
 */
struct attr {
    const char *name;
    enum attr_type type;
    size_t n; /* elements of floats, ints, strings; else 1 */
    union {
        float f;
        int64_t i;
        const char *s;
        const float *floats;
        const int64_t *ints;
        const char *const *strings;
        const struct tensor *t;
        const struct graph *g;
    };
};

enum { VALUE_NONE = -1 }; /* an optional input or output that is absent */

struct value {
    const char *name;
    struct tensor type;       /* type, dims (-1 = unknown), data = the bytes of a constant;
                                 DT_NONE: not even the rank is known */
    const char **dim_names;   /* graph inputs: a symbolic dim's name or NULL, per dim; or NULL */
    int producer;             /* node index, or -1: graph input or constant */
    int outer;                /* in a subgraph: the parent graph's value it stands for, or -1 */
    int n_readers;            /* node inputs that read it; a node that reads twice counts twice;
                                 what a node's subgraphs read counts as read by the node */
    const int *readers;       /* node indices, ascending */
    bool is_input, is_output; /* of the graph */
};

struct node {
    const char *name;             /* unique; unnamed nodes are called <OpType>_<index> */
    const char *op_type, *domain; /* domain "" is ai.onnx */
    int opset;                    /* version of that domain in force */
    const struct op *op;          /* its row */
    int n_in, n_out;
    const int *in, *out; /* value indices or VALUE_NONE */
    int n_attrs;
    const struct attr *attrs;
    const void *attr; /* the row's attribute struct, filled from attrs */
    int first_port;   /* port number of input 0: input i is port first_port + i */
};

/* What became of an original node: kept, folded into another, or removed. */
struct origin {
    const char *original;  /* name in the uploaded file */
    const char *optimized; /* name of the node that now does its work; NULL: removed or constant */
    const char *how;       /* "kept", "fused", "folded", "removed" */
};

struct graph {
    struct arena *arena;
    const char *name;
    int n_nodes, n_values, n_inputs, n_outputs, n_ports;
    struct node *nodes;
    struct value *values;
    const int *inputs, *outputs; /* value indices; inputs without those that have an initializer */
    struct map value_names, node_names;
    int n_opsets;
    const struct opset {
        const char *domain;
        int version;
    } * opsets;
    int n_origins;
    const struct origin *origins; /* optimized graphs only */
    const struct graph *parent;   /* of a subgraph */
    int64_t fold_left;            /* what constant folding may still cost (exec_fold) */
};

int graph_value(const struct graph *g, const char *name); /* -1 if there is none */
int graph_node(const struct graph *g, const char *name);

/* The graph's identity: SHA-256 over its structure, attributes and constants, names included. */
struct digest;
void graph_digest(const struct graph *g, struct digest *ret);

#endif
