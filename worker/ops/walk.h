/*
 * The walk: one loop nest over up to WALK_TENSORS tensors of one (broadcast) shape, whatever their
 * strides. Neighbouring dims that lie alike in all tensors become one, the innermost dim is the one
 * that lies densest in the last tensor (the output by custom), and a row function does a row of it:
 * there the compiler vectorizes. Families stay small: they bring row functions, one a type.
 *
 * Below it: what operators share beside the walk (inputs that must be there, integers of an input,
 * rows as double).
 */
#ifndef PTQ_WORKER_OPS_WALK_H
#define PTQ_WORKER_OPS_WALK_H

#include "worker/ops/op.h"

enum { WALK_TENSORS = 8, WALK_RANK_MAX = 2 * TENSOR_RANK_MAX };

/* Float16 in memory; arithmetic is float. */
#ifdef __clang__
typedef __fp16 half;
#define KERNEL
#else
typedef _Float16 half;
/* One function, compiled for several instruction sets; the same bits from each (no contraction). */
#ifdef PTQ_SAN
#define KERNEL
#else
#define KERNEL __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
/* In X-macros only float32 is worth three copies. */
#define KERNEL_f32 KERNEL
#define KERNEL_f64
#define KERNEL_f16
#define KERNEL_i8
#define KERNEL_i16
#define KERNEL_i32
#define KERNEL_i64
#define KERNEL_u8
#define KERNEL_u16
#define KERNEL_u32
#define KERNEL_u64
/* The next loop's rows overlap exactly or not at all (an operator may run in place). */
#define IVDEP _Pragma("GCC ivdep")

/* X(type, suffix, C type) for each kind of element. */
#define DTYPES_FLOAT(X) X(DT_F32, f32, float) X(DT_F64, f64, double) X(DT_F16, f16, half)
#define DTYPES_SIGNED(X)                                                                           \
    X(DT_I8, i8, int8_t) X(DT_I16, i16, int16_t) X(DT_I32, i32, int32_t) X(DT_I64, i64, int64_t)
#define DTYPES_UNSIGNED(X)                                                                         \
    X(DT_U8, u8, uint8_t)                                                                          \
    X(DT_U16, u16, uint16_t) X(DT_U32, u32, uint32_t) X(DT_U64, u64, uint64_t)
#define DTYPES_INT(X)    DTYPES_SIGNED(X) DTYPES_UNSIGNED(X)
#define DTYPES_NUMBER(X) DTYPES_FLOAT(X) DTYPES_INT(X)

/* One row: n elements, p[k] the first one of tensor k, s[k] its stride in elements. */
typedef void walk_row(int64_t n, char *const *p, const int64_t *s, void *arg);
typedef walk_row *const walk_rows[DT_COUNT]; /* a family's row functions by type; NULL = none */

struct walk {
    int n, rank;
    int64_t dims[WALK_RANK_MAX];
    int64_t stride[WALK_TENSORS][WALK_RANK_MAX]; /* in elements; 0 = broadcast */
    size_t size[WALK_TENSORS];                   /* bytes of an element */
    char *data[WALK_TENSORS];
};

/* A walk over dims, without tensors yet. */
void walk_init(struct walk *w, int rank, const int64_t *dims);
/* Adds a tensor by strides (one a dim of the walk). */
void walk_add(struct walk *w, const void *data, size_t size, const int64_t *strides);
/* Adds a tensor whose shape broadcasts to the walk's dims, or is the same. */
void walk_add_tensor(struct walk *w, const struct tensor *t);
/* Runs it; merges dims first. Nothing happens when a dim is 0. */
void walk_run(struct walk *w, walk_row *row, void *arg);

/* Copies elements of `size` bytes between two strided boxes of the same dims. */
void walk_copy(int rank, const int64_t *dims, size_t size, const void *from,
               const int64_t *from_strides, void *to, const int64_t *to_strides);
/* Fills a strided box with one element. */
void walk_fill(int rank, const int64_t *dims, size_t size, const void *element, void *to,
               const int64_t *strides);
/* Copies the bytes of `in` to `out` as they lie: same layout, same count. In place: nothing. */
void walk_bytes(const struct tensor *in, struct tensor *out);

/* ---- rows as double: for what is rare, or needs the precision ---- */
enum { ROW_CHUNK = 256 };
typedef void row_load(int64_t n, const char *p, int64_t stride, double *ret);
typedef void row_store(int64_t n, const double *v, char *p, int64_t stride);
row_load *row_loader(enum dtype t);  /* NULL for strings */
row_store *row_storer(enum dtype t); /* integers: truncated, saturated; bool: not zero */
int64_t double_to_int64(double v);   /* saturates; NaN gives 0 */

/* ---- arguments ---- */

/* A row of an attribute table: the attribute and the field of struct s share their name. */
#define ATTR(kind, s, field, ...)                                                                  \
    {                                                                                              \
        .name = #field, .type = ATTR_##kind, .offset = offsetof(struct s, field), ##__VA_ARGS__    \
    }

/* Inputs 0 … n-1 are there, and none of any input is a string tensor. */
int op_need(const struct op_ctx *c, int n, struct err *e);
/* The inputs have one element type (NULL ones are skipped). */
int op_same_type(const struct op_ctx *c, int first, int last, struct err *e);
/* Sets output i (if it is wanted). */
int op_out(struct op_ctx *c, int i, enum dtype t, int rank, const int64_t *dims, struct err *e);
/* A message about input i: "<input name>" is put at `at`. Returns -1. */
int op_bad(const struct op_ctx *c, int i, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Input i is of a type for which the family has a row function. */
int op_takes(const struct op_ctx *c, int i, walk_rows rows, struct err *e);
/* Input i is a float type. */
int op_takes_float(const struct op_ctx *c, int i, struct err *e);

/* Integers from input i (SHAPE_WAITS while it has no data), or from the attribute when the node
 * has no such input. *ret_n is -1 when both are absent. */
int op_input_ints(const struct op_ctx *c, int i, const struct ints *attr, int64_t *ret, int max,
                  int *ret_n, struct err *e);
/* The same for axes: normalized to [0, rank), each at most once. */
int op_input_axes(const struct op_ctx *c, int i, const struct ints *attr, int rank, int *ret,
                  int *ret_n, struct err *e);
/* One number from input i: 0, SHAPE_WAITS, or -1. */
int op_input_int(const struct op_ctx *c, int i, int64_t *ret, struct err *e);

/* Pointwise with broadcasting: types and dims, and the run over all inputs and the output. The
 * output's type is `type`, or input 0's for DT_NONE. */
int op_pointwise_shape(struct op_ctx *c, walk_rows rows, enum dtype type, struct err *e);
void op_pointwise_run(const struct op_ctx *c, walk_row *row, void *arg);

/* Product of dims [from, to). */
int64_t dims_product(const int64_t *dims, int from, int to);
/* Row-major strides. */
void dims_strides(int rank, const int64_t *dims, int64_t *ret);

#endif
