#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/load/read.h"

/* The lists a tensor may bring its elements in, if not as raw bytes. */
enum list { LIST_NONE, LIST_F32, LIST_F64, LIST_I32, LIST_I64, LIST_U64 };
static const enum list list_of[DT_COUNT] = {
    [DT_F32] = LIST_F32, [DT_F64] = LIST_F64, [DT_I32] = LIST_I32, [DT_I16] = LIST_I32,
    [DT_I8] = LIST_I32,  [DT_U16] = LIST_I32, [DT_U8] = LIST_I32,  [DT_BOOL] = LIST_I32,
    [DT_F16] = LIST_I32, [DT_I64] = LIST_I64, [DT_U64] = LIST_U64, [DT_U32] = LIST_U64,
};
enum { TENSORS_BASE = 64 << 20, TENSORS_PER_BYTE = 4 };
enum { FIELD_FLOATS = 4, FIELD_RAW = 9, FIELD_DOUBLES = 10, LOCATION_EXTERNAL = 1 };

static void *room(struct reader *r, const char *name, size_t bytes)
{
    void *p = arena_try(r->arena, bytes ? bytes : 1);
    if (!p)
        err_set(r->e, ERR_MEMORY_LIMIT, name, "The tensor needs %zu bytes.", bytes);
    return p;
}

static int wrong_size(struct reader *r, const char *name, const struct tensor *t, size_t have)
{
    char text[TENSOR_TEXT_MAX];
    return err_set(r->e, ERR_BAD_MODEL, name, "%s takes %zu bytes, but there are %zu.",
                   tensor_text(t, text), tensor_bytes(t), have);
}

/* Booleans other than 0 and 1 would be undefined behaviour in every kernel. */
static int check_bools(struct reader *r, const char *name, const struct tensor *t)
{
    const unsigned char *p = t->data;
    for (size_t i = 0; t->type == DT_BOOL && i < tensor_bytes(t); i++)
        if (p[i] > 1)
            return err_set(r->e, ERR_BAD_MODEL, name, "Element %zu is %d, not false or true.", i,
                           p[i]);
    return 0;
}

/* Tensors may share the bytes of a file, but a small file does not make a giant of a model. */
static int check_total(struct reader *r, const char *name, size_t bytes)
{
    uint64_t files = 0;
    for (const struct model_map *m = *r->maps; m; m = m->next)
        files += m->size;
    r->tensor_bytes += bytes;
    if (r->tensor_bytes <= TENSORS_BASE + TENSORS_PER_BYTE * files)
        return 0;
    return err_set(
        r->e, ERR_LIMIT, name,
        "The tensors come to %llu bytes, the files have %llu: the most is %d times that.",
        (unsigned long long)r->tensor_bytes, (unsigned long long)files, TENSORS_PER_BYTE);
}

static int take_bytes(struct reader *r, const char *name, const void *from, size_t bytes,
                      struct tensor *t)
{
    if (bytes != tensor_bytes(t))
        return wrong_size(r, name, t, bytes);
    if (check_total(r, name, bytes))
        return -1;
    if (bytes && (uintptr_t)from % dtype_size(t->type) == 0) {
        t->data = (void *)from;
    } else {
        if (!(t->data = room(r, name, bytes)))
            return -1;
        if (bytes)
            memcpy(t->data, from, bytes);
    }
    return check_bools(r, name, t);
}

static size_t list_length(const Onnx__TensorProto *p, enum list list)
{
    switch (list) {
    case LIST_F32:
        return p->n_float_data;
    case LIST_F64:
        return p->n_double_data;
    case LIST_I32:
        return p->n_int32_data;
    case LIST_I64:
        return p->n_int64_data;
    case LIST_U64:
        return p->n_uint64_data;
    case LIST_NONE:
        break;
    }
    return 0;
}

/* int32_data and uint64_data hold narrower elements too, one each. */
static void narrow(const Onnx__TensorProto *p, struct tensor *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        switch (t->type) {
        case DT_U32:
            ((uint32_t *)t->data)[i] = (uint32_t)p->uint64_data[i];
            break;
        case DT_I16:
        case DT_U16:
        case DT_F16:
            ((uint16_t *)t->data)[i] = (uint16_t)p->int32_data[i];
            break;
        default:
            ((uint8_t *)t->data)[i] = (uint8_t)p->int32_data[i];
        }
}

static int take_list(struct reader *r, const char *name, const Onnx__TensorProto *p,
                     struct tensor *t)
{
    enum list list = list_of[t->type];
    size_t n = list_length(p, list), size = dtype_size(t->type);
    const void *from = list == LIST_F32   ? (const void *)p->float_data
                       : list == LIST_F64 ? (const void *)p->double_data
                       : list == LIST_I64 ? (const void *)p->int64_data
                       : list == LIST_I32 ? (const void *)p->int32_data
                                          : (const void *)p->uint64_data;
    if (n != (size_t)tensor_count(t))
        return wrong_size(r, name, t, n * size);
    if (!(t->data = room(r, name, n * size)))
        return -1;
    bool whole = size == 8 || t->type == DT_F32 || t->type == DT_I32;
    if (!whole)
        narrow(p, t, n);
    else if (n)
        memcpy(t->data, from, n * size);
    return check_bools(r, name, t);
}

/* The scan left the place of the bytes: they are raw, or packed elements, which are the same. */
static int take_payload(struct reader *r, const char *name, const Onnx__TensorProto *p,
                        struct tensor *t)
{
    bool fits = p->payload_field == FIELD_RAW ||
                (p->payload_field == FIELD_FLOATS && t->type == DT_F32) ||
                (p->payload_field == FIELD_DOUBLES && t->type == DT_F64);
    if (!fits)
        return err_set(r->e, ERR_BAD_MODEL, name, "The data is in a list that is not for %s.",
                       dtype_name(t->type));
    if (list_length(p, list_of[t->type]))
        return err_set(r->e, ERR_BAD_MODEL, name, "The tensor's data is given twice.");
    return take_bytes(r, name, r->file->data + p->payload_offset, p->payload_size, t);
}

static int read_decimal(struct reader *r, const char *name, const Onnx__StringStringEntryProto *p,
                        uint64_t *ret)
{
    char text[24], *end;
    size_t n = p->value.len;
    if (n && n < sizeof text && p->value.data[0] >= '0' && p->value.data[0] <= '9') {
        memcpy(text, p->value.data, n);
        text[n] = '\0';
        errno = 0;
        *ret = strtoull(text, &end, 10);
        if (!errno && end == text + n)
            return 0;
    }
    return err_set(r->e, ERR_BAD_MODEL, name, "The %s of external data is no number.", p->key);
}

struct place {
    const char *location;
    uint64_t offset, length;
    bool has_length;
};

static int read_place(struct reader *r, const char *name, const Onnx__TensorProto *p,
                      struct place *ret)
{
    for (size_t i = 0; i < p->n_external_data; i++) {
        const Onnx__StringStringEntryProto *entry = p->external_data[i];
        const char *key = entry->key ? entry->key : "";
        int rc = 0;
        if (!strcmp(key, "location")) {
            rc = read_text(r, &entry->value, &ret->location);
        } else if (!strcmp(key, "offset")) {
            rc = read_decimal(r, name, entry, &ret->offset);
        } else if (!strcmp(key, "length")) {
            rc = read_decimal(r, name, entry, &ret->length);
            ret->has_length = true;
        }
        if (rc)
            return -1;
    }
    return ret->location ? 0 : err_set(r->e, ERR_BAD_MODEL, name, "External data has no location.");
}

static int take_external(struct reader *r, const char *name, const Onnx__TensorProto *p,
                         struct tensor *t)
{
    struct place at = {0};
    const struct model_map *m;
    if (read_place(r, name, p, &at))
        return -1;
    if (mapping_external(r->src, at.location, r->arena, r->maps, &m, r->e))
        return -1;
    size_t bytes = tensor_bytes(t);
    if (at.has_length && at.length != bytes)
        return wrong_size(r, name, t, at.length);
    if (at.offset > m->size || bytes > m->size - at.offset)
        return err_set(r->e, ERR_BAD_MODEL, name,
                       "Bytes %llu to %llu lie outside of \"%.200s\", which has %zu.",
                       (unsigned long long)at.offset, (unsigned long long)at.offset + bytes,
                       at.location, m->size);
    return take_bytes(r, name, m->data + at.offset, bytes, t);
}

/* A skeleton leaves it out: nobody is to look at it. */
static int take_nothing(struct reader *r, const char *name, struct tensor *t)
{
    const void *zeros;
    if (mapping_zeros(tensor_bytes(t), r->arena, r->maps, &zeros, r->e))
        return err_in(r->e, name);
    t->data = (void *)zeros;
    return 0;
}

int read_tensor(struct reader *r, const Onnx__TensorProto *p, const char *name, struct tensor *ret)
{
    if (p->data_type <= 0 || p->data_type >= DT_COUNT || !dtype_size(p->data_type))
        return err_set(r->e, ERR_UNSUPPORTED, name, "Constants of element type %d are not read.",
                       p->data_type);
    if (tensor_set(ret, p->data_type, (int)p->n_dims, p->dims, r->e))
        return err_in(r->e, name);
    if (p->data_location == LOCATION_EXTERNAL && r->src->skeleton)
        return take_nothing(r, name, ret);
    if (p->data_location == LOCATION_EXTERNAL)
        return take_external(r, name, p, ret);
    return p->has_payload_field ? take_payload(r, name, p, ret) : take_list(r, name, p, ret);
}
