/*
 * Tensors: a type, a shape, bytes. The logical shape is always ONNX's (NCHW …); `layout` says how
 * the elements lie in memory. Kernels that walk strides need not care; fast ones check.
 */
#ifndef PTQ_WORKER_LOAD_TENSOR_H
#define PTQ_WORKER_LOAD_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/err.h"

/* Element types, numbered as TensorProto.DataType. */
enum dtype {
    DT_NONE = 0,
    DT_F32 = 1,
    DT_U8 = 2,
    DT_I8 = 3,
    DT_U16 = 4,
    DT_I16 = 5,
    DT_I32 = 6,
    DT_I64 = 7,
    DT_STRING = 8,
    DT_BOOL = 9,
    DT_F16 = 10,
    DT_F64 = 11,
    DT_U32 = 12,
    DT_U64 = 13,
    DT_COUNT = 14
};

/* LAYOUT_PLAIN: row-major over the logical dims. LAYOUT_CL ("channels last"): row-major over
 * dims (0, 2, 3, …, 1); only for rank >= 3. With one channel, or one spatial element, both are
 * the same bytes. */
enum layout { LAYOUT_PLAIN, LAYOUT_CL };

enum { TENSOR_RANK_MAX = 12, TENSOR_TEXT_MAX = 128 };
#define TENSOR_ELEMENTS_MAX ((int64_t)1 << 40)

struct tensor {
    enum dtype type;
    enum layout layout;
    int rank;
    int64_t dims[TENSOR_RANK_MAX]; /* >= 0; -1 only while a shape is not known yet */
    void *data;                    /* NULL: the shape is known, the value is not */
};

size_t dtype_size(enum dtype t);      /* bytes of an element, 0 for DT_NONE and DT_STRING */
const char *dtype_name(enum dtype t); /* "float32", "int8", … as numpy says it */
bool dtype_is_float(enum dtype t);

int64_t tensor_count(const struct tensor *t); /* elements; dims must be known */
size_t tensor_bytes(const struct tensor *t);
bool tensor_known(const struct tensor *t); /* no dim is -1 */
bool tensor_same_shape(const struct tensor *a, const struct tensor *b);

/* Strides in elements, in logical order, for the tensor's layout. */
void tensor_strides(const struct tensor *t, int64_t ret[TENSOR_RANK_MAX]);

/* Sets type and dims, layout plain, data NULL. ERR_LIMIT at TENSOR_ELEMENTS_MAX or over, or rank
 * over the maximum; ERR_BAD_MODEL for a negative dim. */
int tensor_set(struct tensor *t, enum dtype type, int rank, const int64_t *dims, struct err *e);

/* Copies `from` to `to` (same type and logical shape, any layouts): the one reorder. */
void tensor_reorder(const struct tensor *from, struct tensor *to);

/* "float32[1,3,224,224]", a dim of -1 as "?". */
const char *tensor_text(const struct tensor *t, char ret[TENSOR_TEXT_MAX]);

/* Element i (in memory order) as a number; for small integer inputs such as shapes and axes. */
int64_t tensor_int(const struct tensor *t, int64_t i);
double tensor_num(const struct tensor *t, int64_t i);

#endif
