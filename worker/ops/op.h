/*
 * Operators. One file a family; it ends with its rows: `const struct op ops_<file>[]`, closed by
 * an empty row. The row is all that loading, calibration, sweeps, GET /v1/operators and
 * docs/operators.md know of an operator; no pass names one. The Makefile lists the files of
 * worker/ops/, so a new operator touches one file.
 *
 * The functions of a row, in the order they are called:
 *   shape    types and dims of the outputs from types and dims of the inputs. An input that is
 *            constant (or folded) has data; one that must and has not: return SHAPE_WAITS, and the
 *            node is shaped when it runs. Called at load, and with data at run time if it waited.
 *   prepare  once per node and bound shape: checks what shape did not, packs constant inputs,
 *            picks a kernel, asks for scratch. What it makes lives in c->arena and is read-only.
 *   run      computes. Allocates nothing, keeps nothing, touches only out[i]->data and scratch.
 * Each returns 0 or -1 with the error set (ERR_BAD_MODEL, ERR_UNSUPPORTED, ERR_LIMIT …); who calls
 * puts the node's name in front.
 */
#ifndef PTQ_WORKER_OPS_OP_H
#define PTQ_WORKER_OPS_OP_H

#include "common/arena.h"
#include "common/err.h"
#include "worker/load/graph.h"
#include "worker/load/tensor.h"

#define ONNX    "" /* ai.onnx */
#define MSFT    "com.microsoft"
#define HORIZON "horizon"

enum { OP_PORTS = 8, SHAPE_WAITS = 1 };

/* What a port is to quantization (spec: ports are quantizable, weights, or never touched). */
enum port_kind {
    P_NONE = 0, /* no such port, or never quantized: indices, shapes, scales, roi, bounds, masks */
    P_FEATURE,  /* an activation; a float constant here gets a feature calibration */
    P_WEIGHT,   /* constant: a weight calibration along `axis`; computed: as P_FEATURE */
    P_BIAS      /* not quantized: int32 on the device */
};
struct port {
    enum port_kind kind;
    int axis; /* P_WEIGHT: the output channel's axis, -1 = per tensor, or PORT_AXIS_BY_OP */
};
enum { PORT_AXIS_BY_OP = -2 }; /* ask row.weight_axis: it depends on attributes */
#define FEATURE                                                                                    \
    {                                                                                              \
        P_FEATURE, -1                                                                              \
    }
#define WEIGHT(axis)                                                                               \
    {                                                                                              \
        P_WEIGHT, axis                                                                             \
    }
#define BIAS                                                                                       \
    {                                                                                              \
        P_BIAS, -1                                                                                 \
    }
#define PLAIN_PORT                                                                                 \
    {                                                                                              \
        P_NONE, -1                                                                                 \
    }

/* Traits: what passes ask instead of a name. */
enum op_trait {
    T_QUANT = 1 << 0,      /* quantizable: its output gets a calibration when a port reads it */
    T_PRESERVES = 1 << 1,  /* single input, values kept: output shares its producer's calibration */
    T_LOOKTHRU = 1 << 2,   /* the finders look through it, by input 0 */
    T_CONCAT = 1 << 3,     /* inputs and output share one type and one threshold */
    T_SAMETYPE = 1 << 4,   /* both inputs must have one type (Add, Sub, Mul) */
    T_LUT = 1 << 5,        /* member of the look-up-table family, op_config's "Lut" */
    T_CHAIN_HEAD = 1 << 6, /* Conv, ConvTranspose, Gemm: may head a fused chain */
    T_CHAIN_ADD = 1 << 7,  /* residual Add inside a chain */
    T_CHAIN_ACT = 1 << 8,  /* Relu or Clip at a chain's end */
    T_INPLACE = 1 << 9,    /* output 0 may take input 0's memory (same type and count) */
    T_VARIADIC = 1 << 10,  /* the last row of .in stands for all further inputs */
    T_VALUEFREE = 1 << 11, /* the output does not depend on values: Shape, Size, ConstantOfShape… */
    T_RANDOM = 1 << 12,    /* never folded */
    T_SUBGRAPHS = 1 << 13, /* runs attributes that are graphs: shape and run get c->exec */
    T_SHAPE_DATA =
        1 << 14,      /* usually computes shapes: keep its inputs' values when they are small */
    T_HEAVY = 1 << 15 /* its work may grow faster than the bytes it touches, and no macs tell it */
};

/* Which memory layouts run() reads and writes.
 * L_PLAIN: all inputs and outputs plain.
 * L_CL: input 0 and output 0 channels-last when of rank >= 3, everything else plain.
 * L_ANY: inputs as they come (strides!), all of one rank-or-broadcast; outputs of rank >= 3 have
 *        the layout of the first input of that rank, else plain.
 * L_SAME: pointwise on one input, or copies memory: output has input 0's layout. */
enum op_layout { L_PLAIN, L_CL, L_ANY, L_SAME };

/* An attribute table: filled into the row's attribute struct before shape is called. An attribute
 * that a node has and no row names is ERR_BAD_MODEL, one of another type too. */
struct attr_def {
    const char *name; /* NULL closes the table */
    enum attr_type type;
    size_t offset; /* in the struct: float, int64_t, const char *, struct ints, struct floats,
                      struct strings, const struct tensor *, const struct graph * by type */
    bool required;
    double number;    /* default of a float or an int */
    const char *text; /* default of a string, or NULL */
};
struct ints {
    size_t n;
    const int64_t *v; /* NULL: the attribute is absent */
};
struct floats {
    size_t n;
    const float *v;
};
struct strings {
    size_t n;
    const char *const *v;
};

/* Sets of element types, for a row's .types. */
#define TYPE(t)        (1u << DT_##t)
#define TYPES_FLOAT    (TYPE(F32) | TYPE(F64) | TYPE(F16))
#define TYPES_SIGNED   (TYPE(I8) | TYPE(I16) | TYPE(I32) | TYPE(I64))
#define TYPES_UNSIGNED (TYPE(U8) | TYPE(U16) | TYPE(U32) | TYPE(U64))
#define TYPES_INT      (TYPES_SIGNED | TYPES_UNSIGNED)
#define TYPES_NUMBER   (TYPES_FLOAT | TYPES_INT)
#define TYPES_ALL      (TYPES_NUMBER | TYPE(BOOL))

/* What an operator sees of its node. */
struct op_ctx {
    const struct node *node; /* for messages and node->opset */
    const void *attr;        /* the row's attribute struct */
    int n_in, n_out;
    const struct tensor *const *in; /* n_in; NULL = absent optional input */
    struct tensor *const *out;      /* n_out; NULL = absent optional output */
    struct arena *arena;            /* prepare: lives as long as what was prepared */
    const void *prep;               /* what prepare left; read-only in run */
    size_t scratch_bytes;           /* prepare asks by setting it */
    void *scratch;                  /* run: that many bytes, 64-aligned, content undefined */
    const struct backend *backend;  /* prepare: convolution and GEMM kernels (exec/backend.h) */
    const struct backend *used;     /* prepare tells which backend it took, NULL = none */
    struct exec *exec;              /* T_SUBGRAPHS only */
};

struct op {
    const char *type, *domain;
    int since,
        until; /* opset versions of the domain, until 0 = the newest; rows must not overlap */
    int min_in, max_in; /* max_in -1 = any number */
    int max_out;        /* 0 = 1; -1 = any number */
    unsigned types;     /* of input 0 (TYPES_FLOAT …); 0 = it has no inputs */
    struct port in[OP_PORTS];
    struct port out[2];
    unsigned traits;
    enum op_layout layout;
    const struct attr_def *attrs;
    size_t attr_size;
    int (*check)(const struct node *n, void *attr,
                 struct err *e); /* attributes' values; optional */
    int (*shape)(struct op_ctx *c, struct err *e);
    int (*prepare)(struct op_ctx *c, const void **ret_prep, struct err *e); /* optional */
    int (*run)(const struct op_ctx *c, struct err *e);
    int (*weight_axis)(const struct node *n); /* for PORT_AXIS_BY_OP */
    /* Multiply-accumulates of one run, for costs; NULL = none. Shapes are known. */
    int64_t (*macs)(const struct op_ctx *c);
    const char *note; /* limits, for the docs */
};

/* All rows, from the generated list of files. */
extern const struct op *const op_families[];

/* The row of (domain, type, opset), or NULL. "ai.onnx" is "". */
const struct op *op_find(const char *domain, const char *type, int opset);
/* Fills a fresh attribute struct of the row from the node's attributes. */
int op_attrs(const struct op *op, struct node *n, struct arena *a, struct err *e);

/* The row's shape, once input 0 is of a type that the row takes; ERR_UNSUPPORTED else. */
int op_shape(const struct op *op, struct op_ctx *c, struct err *e);

/* ---- small helpers that every family needs (ops/op.c) ---- */

/* Normalizes an axis in [-rank, rank); ERR_BAD_MODEL else. */
int op_axis(int64_t axis, int rank, int *ret, struct err *e);
/* numpy broadcasting of n shapes into ret (type is left alone). */
int op_broadcast(const struct tensor *const *in, int n, struct tensor *ret, struct err *e);
/* Output 0 has input 0's type and dims. */
int op_shape_same(struct op_ctx *c, struct err *e);
/* The elements of a constant int64 or int32 list (or scalar) into ret[max]; *ret_n, 0 for an
 * absent input (NULL). SHAPE_WAITS when the input has no data yet. */
int op_ints(const struct tensor *in, int64_t *ret, int max, int *ret_n, struct err *e);

#endif
