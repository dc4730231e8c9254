/*
 * The graph builder: what model.c reads a file into and what a pass edits a copy of. It is the
 * only place where a graph changes; build_freeze then makes a struct graph, which is only read.
 *
 * A builder made by build_from(g) numbers its nodes and values as g does, so a pass looks at the
 * frozen g (readers, producers, row traits) and edits by the same numbers. New nodes and values
 * are numbered behind. Everything lives in the builder's arena.
 */
#ifndef PTQ_WORKER_LOAD_BUILD_H
#define PTQ_WORKER_LOAD_BUILD_H

#include "worker/load/graph.h"

struct build_value {
    const char *name;
    struct tensor type; /* data: a constant's bytes */
    const char **dim_names;
    bool is_const, is_input, is_output;
    int use; /* readers read this value instead, or VALUE_NONE */
};

struct build_node {
    const char *name; /* NULL or "": build_freeze gives it <OpType>_<number> */
    const char *op_type, *domain;
    int opset;
    int n_in, n_out, n_attrs;
    int *in, *out; /* values of this builder or VALUE_NONE */
    struct attr *attrs;
    bool gone;
    int into; /* of a node that is gone: the node that now does its work, or -1 */
    const char *how;
};

struct build_origin {
    const char *name, *how;
    int node; /* the node that does the original's work, or -1 */
};

struct build {
    struct arena *arena;
    const char *name;
    struct build *parent; /* of a subgraph: where names that it does not define are looked up */
    int n_values, n_nodes, n_inputs, n_outputs, n_origins, n_opsets;
    int values_cap, nodes_cap, inputs_cap, outputs_cap;
    struct build_value *values;
    struct build_node *nodes;
    int *inputs, *outputs;
    struct build_origin *origins;
    const struct opset *opsets;
    int64_t fold_left; /* as in struct graph */
    struct map names;  /* of values */
    struct map fresh;  /* name that was taken → the next number to try behind it */
};

/* fold_left of a model whose file is small: bytes, and steps of 8 multiplications. */
#define FOLD_COST_BASE ((int64_t)256 << 20)

struct build *build_new(struct arena *a, const char *name);
/* A copy to edit. Origins are carried on; a graph without any starts them with its own nodes. */
struct build *build_from(const struct graph *g, struct arena *a);

/* The value of that name, made if there is none; "" is VALUE_NONE. */
int build_value(struct build *b, const char *name);
/* A new value whose name is `base`, or base with a number behind it if that is taken. */
int build_fresh(struct build *b, const char *base);
/* A new constant; the tensor is copied, its data is not: it must live as long as the arena. */
int build_const(struct build *b, const char *base, const struct tensor *t);
void build_input(struct build *b, int value);
void build_output(struct build *b, int value);

/* A new node; the lists are copied. Attributes come by build_attr. */
int build_node(struct build *b, const char *name, const char *domain, const char *op_type,
               int opset, const int *in, int n_in, const int *out, int n_out);
/* Turns an existing node into another operator: no attributes, new inputs, the same outputs. */
void build_retype(struct build *b, int node, const char *domain, const char *op_type, int opset,
                  const int *in, int n_in);
/* Adds an attribute or replaces the one of that name. */
void build_attr(struct build *b, int node, const struct attr *attr);
void build_attr_int(struct build *b, int node, const char *name, int64_t v);
void build_attr_float(struct build *b, int node, const char *name, float v);
void build_attr_string(struct build *b, int node, const char *name, const char *v);
void build_attr_ints(struct build *b, int node, const char *name, const int64_t *v, size_t n);
void build_attr_floats(struct build *b, int node, const char *name, const float *v, size_t n);

/* Takes a node out. into: who does its work now, -1: nobody. how: "fused", "folded", "removed". */
void build_drop(struct build *b, int node, int into, const char *how);
/* Whoever reads `old` reads `fresh`; not for graph outputs, whose names stay. */
void build_use(struct build *b, int old, int fresh);
/* The version of a domain that the graph imports, or -1. */
int build_opset(const struct build *b, const char *domain);
/* Imports a domain that is not imported yet. */
void build_import(struct build *b, const char *domain, int version);

/*
 * Makes the graph: nodes in topological order (as close to the builder's order as that allows),
 * values in the order inputs, outer values, then each node's constants and outputs; unused
 * constants are left out. Rows are looked up and attributes parsed. ERR_BAD_MODEL for a cycle, an
 * undefined input, two producers of one value, two nodes of one name, a wrong number of inputs or
 * outputs; ERR_UNSUPPORTED for an operator without a row. Each names the node.
 */
int build_freeze(struct build *b, struct graph **ret, struct err *e);

#endif
