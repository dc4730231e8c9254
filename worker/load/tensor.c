#include "worker/load/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct dtype_row {
    const char *name;
    size_t size;
    bool is_float;
} dtypes[DT_COUNT] = {
    [DT_NONE] = {"none", 0, false},     [DT_F32] = {"float32", 4, true},
    [DT_U8] = {"uint8", 1, false},      [DT_I8] = {"int8", 1, false},
    [DT_U16] = {"uint16", 2, false},    [DT_I16] = {"int16", 2, false},
    [DT_I32] = {"int32", 4, false},     [DT_I64] = {"int64", 8, false},
    [DT_STRING] = {"string", 0, false}, [DT_BOOL] = {"bool", 1, false},
    [DT_F16] = {"float16", 2, true},    [DT_F64] = {"float64", 8, true},
    [DT_U32] = {"uint32", 4, false},    [DT_U64] = {"uint64", 8, false},
};

static const struct dtype_row *row_of(enum dtype t)
{
    return &dtypes[(unsigned)t < DT_COUNT ? t : DT_NONE];
}

size_t dtype_size(enum dtype t)
{
    return row_of(t)->size;
}

const char *dtype_name(enum dtype t)
{
    return row_of(t)->name;
}

bool dtype_is_float(enum dtype t)
{
    return row_of(t)->is_float;
}

int64_t tensor_count(const struct tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dims[i];
    return n;
}

size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->type);
}

bool tensor_known(const struct tensor *t)
{
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i] < 0)
            return false;
    return true;
}

bool tensor_same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof a->dims[0]);
}

static bool is_channels_last(const struct tensor *t)
{
    return t->layout == LAYOUT_CL && t->rank >= 3;
}

void tensor_strides(const struct tensor *t, int64_t ret[TENSOR_RANK_MAX])
{
    bool cl = is_channels_last(t);
    int64_t stride = cl ? t->dims[1] : 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (cl && i == 1)
            continue;
        ret[i] = stride;
        stride *= t->dims[i];
    }
    if (cl)
        ret[1] = 1;
}

/* Refuses before it multiplies, so that no product can overflow. A dim of 0 empties the tensor but
 * does not excuse the others. */
static int check_dims(int rank, const int64_t *dims, struct err *e)
{
    int64_t product = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return err_set(e, ERR_BAD_MODEL, "", "Dimension %d is negative: %lld.", i,
                           (long long)dims[i]);
        int64_t d = dims[i] ? dims[i] : 1;
        if (d >= TENSOR_ELEMENTS_MAX || product >= (TENSOR_ELEMENTS_MAX + d - 1) / d)
            return err_set(e, ERR_LIMIT, "", "A tensor has fewer than 2^40 elements.");
        product *= d;
    }
    return 0;
}

int tensor_set(struct tensor *t, enum dtype type, int rank, const int64_t *dims, struct err *e)
{
    if (rank < 0 || rank > TENSOR_RANK_MAX)
        return err_set(e, ERR_LIMIT, "", "A tensor has at most %d dimensions, not %d.",
                       TENSOR_RANK_MAX, rank);
    if (check_dims(rank, dims, e))
        return -1;
    int64_t copy[TENSOR_RANK_MAX] = {0}; /* dims may be t's own */
    if (rank)
        memcpy(copy, dims, (size_t)rank * sizeof copy[0]);
    *t = (struct tensor){.type = type, .rank = rank};
    memcpy(t->dims, copy, sizeof copy);
    return 0;
}

enum { TILE = 16 };

/* to[c * rows + r] = from[r * cols + c], in tiles so that both sides stay in cache lines. */
#define TRANSPOSE(type)                                                                            \
    static void transpose_##type(const type *from, type *to, int64_t rows, int64_t cols)           \
    {                                                                                              \
        for (int64_t r0 = 0; r0 < rows; r0 += TILE)                                                \
            for (int64_t c0 = 0; c0 < cols; c0 += TILE)                                            \
                for (int64_t r = r0; r < rows && r < r0 + TILE; r++)                               \
                    for (int64_t c = c0; c < cols && c < c0 + TILE; c++)                           \
                        to[c * rows + r] = from[r * cols + c];                                     \
    }
TRANSPOSE(uint8_t)
TRANSPOSE(uint16_t)
TRANSPOSE(uint32_t)
TRANSPOSE(uint64_t)

static void transpose(size_t size, const void *from, void *to, int64_t rows, int64_t cols)
{
    switch (size) {
    case 1:
        transpose_uint8_t(from, to, rows, cols);
        break;
    case 2:
        transpose_uint16_t(from, to, rows, cols);
        break;
    case 4:
        transpose_uint32_t(from, to, rows, cols);
        break;
    case 8:
        transpose_uint64_t(from, to, rows, cols);
        break;
    }
}

void tensor_reorder(const struct tensor *from, struct tensor *to)
{
    size_t bytes = tensor_bytes(from);
    if (!bytes || from->data == to->data)
        return;
    if (is_channels_last(from) == is_channels_last(to)) {
        memcpy(to->data, from->data, bytes);
        return;
    }
    size_t size = dtype_size(from->type), per_item = bytes / (size_t)from->dims[0];
    int64_t channels = from->dims[1];
    int64_t spatial = (int64_t)(per_item / size) / channels;
    bool to_last = is_channels_last(to);
    for (int64_t n = 0; n < from->dims[0]; n++)
        transpose(size, (const char *)from->data + (size_t)n * per_item,
                  (char *)to->data + (size_t)n * per_item, to_last ? channels : spatial,
                  to_last ? spatial : channels);
}

const char *tensor_text(const struct tensor *t, char ret[TENSOR_TEXT_MAX])
{
    size_t n = (size_t)snprintf(ret, TENSOR_TEXT_MAX, "%s[", dtype_name(t->type));
    for (int i = 0; i < t->rank && n < TENSOR_TEXT_MAX; i++) {
        const char *comma = i ? "," : "";
        n += (size_t)(t->dims[i] < 0 ? snprintf(ret + n, TENSOR_TEXT_MAX - n, "%s?", comma)
                                     : snprintf(ret + n, TENSOR_TEXT_MAX - n, "%s%lld", comma,
                                                (long long)t->dims[i]));
    }
    if (n < TENSOR_TEXT_MAX)
        snprintf(ret + n, TENSOR_TEXT_MAX - n, "]");
    return ret;
}

/* IEEE 754 binary16. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    uint32_t fraction = h & 1023, bits;
    float f;
    if (exponent == 0) {
        f = (float)fraction * 0x1p-24f;
    } else {
        bits = (uint32_t)(exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
        memcpy(&f, &bits, sizeof f);
    }
    return h >> 15 ? -f : f;
}

int64_t tensor_int(const struct tensor *t, int64_t i)
{
    const void *p = t->data;
    switch (t->type) {
    case DT_I64:
    case DT_U64:
        return ((const int64_t *)p)[i];
    case DT_I32:
        return ((const int32_t *)p)[i];
    case DT_U32:
        return ((const uint32_t *)p)[i];
    case DT_I16:
        return ((const int16_t *)p)[i];
    case DT_U16:
        return ((const uint16_t *)p)[i];
    case DT_I8:
        return ((const int8_t *)p)[i];
    case DT_U8:
    case DT_BOOL:
        return ((const uint8_t *)p)[i];
    default: {
        double v = tensor_num(t, i);
        return v >= -0x1p63 && v < 0x1p63 ? (int64_t)v : v < 0 ? INT64_MIN : INT64_MAX;
    }
    }
}

double tensor_num(const struct tensor *t, int64_t i)
{
    switch (t->type) {
    case DT_F32:
        return ((const float *)t->data)[i];
    case DT_F64:
        return ((const double *)t->data)[i];
    case DT_F16:
        return half_value(((const uint16_t *)t->data)[i]);
    case DT_U64:
        return (double)((const uint64_t *)t->data)[i];
    case DT_NONE:
    case DT_STRING:
    case DT_COUNT:
        return 0;
    default:
        return (double)tensor_int(t, i);
    }
}
