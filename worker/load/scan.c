#include "worker/load/scan.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "onnx.pb-c.h"
#include "worker/load/tensor.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { LENGTH_BYTES = 5, SEEN_MAX = 64 };

struct scan {
    const uint8_t *data;
    struct buf *out;
    uint64_t payload_bytes;
    int nodes, tensors;
    struct err *e;
};

/* One message: its bytes, and what was seen in it. */
struct frame {
    const ProtobufCMessageDescriptor *type;
    size_t at, end;
    int depth, payloads;
    uint64_t seen; /* a bit per field of the descriptor */
    uint32_t count[SEEN_MAX];
};

struct field {
    uint32_t id;
    enum wire wire;
    size_t start, at, end; /* of the key; of the value (WIRE_BYTES: behind the length) */
    uint64_t number;       /* of a varint */
};

static int bad(struct scan *s, enum err_code code, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static int bad(struct scan *s, enum err_code code, size_t at, const char *fmt, ...)
{
    char place[32];
    va_list ap;
    snprintf(place, sizeof place, "byte %zu", at);
    va_start(ap, fmt);
    err_vset(s->e, code, place, fmt, ap);
    va_end(ap);
    return -1;
}

static int read_varint(struct scan *s, size_t *at, size_t end, uint64_t *ret)
{
    uint64_t v = 0;
    size_t start = *at;
    for (int shift = 0; shift < 70; shift += 7) {
        if (*at >= end)
            return bad(s, ERR_BAD_MODEL, start, "A number runs past the end of its message.");
        uint8_t byte = s->data[(*at)++];
        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *ret = v;
            return 0;
        }
    }
    return bad(s, ERR_BAD_MODEL, start, "A number is longer than 64 bits.");
}

static int skip(struct scan *s, struct field *f, size_t size, size_t end)
{
    if (size > end - f->at)
        return bad(s, ERR_BAD_MODEL, f->start,
                   "Field %u claims %zu bytes, but its message ends after %zu.", f->id, size,
                   end - f->at);
    f->end = f->at + size;
    return 0;
}

/* Key and extent of the field at m->at, which moves behind it. */
static int read_field(struct scan *s, struct frame *m, struct field *f)
{
    uint64_t key, length = 0;
    f->start = f->at = m->at;
    if (read_varint(s, &f->at, m->end, &key))
        return -1;
    if (key >> 3 == 0 || key >> 3 > (1u << 29) - 1)
        return bad(s, ERR_BAD_MODEL, f->start, "This is no field number.");
    f->id = (uint32_t)(key >> 3);
    f->wire = key & 7;
    switch (f->wire) {
    case WIRE_VARINT:
        f->end = f->at;
        if (read_varint(s, &f->end, m->end, &f->number))
            return -1;
        break;
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        if (skip(s, f, f->wire == WIRE_FIXED64 ? 8 : 4, m->end))
            return -1;
        break;
    case WIRE_BYTES:
        if (read_varint(s, &f->at, m->end, &length) || skip(s, f, length, m->end))
            return -1;
        break;
    default:
        return bad(s, ERR_BAD_MODEL, f->start, "Wire type %d is not one of ONNX.", f->wire);
    }
    m->at = f->end;
    return 0;
}

static enum wire wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return WIRE_FIXED64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

/* ---- writing the skeleton ---- */

static void put_varint(struct scan *s, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
    buf_add(s->out, bytes, n);
}

static void put_key(struct scan *s, uint32_t id, enum wire wire)
{
    put_varint(s, (uint64_t)id << 3 | wire);
}

static void put_number(struct scan *s, uint32_t id, uint64_t v)
{
    put_key(s, id, WIRE_VARINT);
    put_varint(s, v);
}

static void put_bytes(struct scan *s, const struct field *f)
{
    put_key(s, f->id, f->wire);
    if (f->wire == WIRE_BYTES)
        put_varint(s, f->end - f->at);
    buf_add(s->out, s->data + f->at, f->end - f->at);
}

/* A length of fixed width, written when the message is known; longer than needed is legal. */
static void patch_length(struct scan *s, size_t place)
{
    size_t length = s->out->len - place - LENGTH_BYTES;
    for (int i = 0; i < LENGTH_BYTES; i++) {
        s->out->data[place + (size_t)i] = (char)((length & 127) | (i + 1 < LENGTH_BYTES ? 128 : 0));
        length >>= 7;
    }
}

/* ---- limits ---- */

/* Elements of one field in one message. */
static const struct count_limit {
    const ProtobufCMessageDescriptor *type;
    const char *field;
    uint32_t max;
} count_limits[] = {
    {&onnx__node_proto__descriptor, "attribute", SCAN_ATTRIBUTES_MAX},
    {&onnx__tensor_proto__descriptor, "dims", TENSOR_RANK_MAX},
    {&onnx__tensor_shape_proto__descriptor, "dim", TENSOR_RANK_MAX},
};

static int check_count(struct scan *s, struct frame *m, const struct field *f,
                       const ProtobufCFieldDescriptor *d, uint64_t more)
{
    uint32_t *count = &m->count[d - m->type->fields];
    for (size_t i = 0; i < sizeof count_limits / sizeof *count_limits; i++) {
        const struct count_limit *l = &count_limits[i];
        if (l->type == m->type && !strcmp(l->field, d->name) && (*count += more) > l->max)
            return bad(s, ERR_LIMIT, f->start, "%s has more than %u of the field \"%s\".",
                       m->type->short_name, l->max, d->name);
    }
    return 0;
}

static int count_message(struct scan *s, const struct field *f,
                         const ProtobufCMessageDescriptor *type, int depth)
{
    if (depth > SCAN_DEPTH_MAX)
        return bad(s, ERR_LIMIT, f->start, "The nesting is deeper than %d.", SCAN_DEPTH_MAX);
    if (type == &onnx__node_proto__descriptor && ++s->nodes > SCAN_NODES_MAX)
        return bad(s, ERR_LIMIT, f->start, "The model has more than %d nodes.", SCAN_NODES_MAX);
    if (type == &onnx__tensor_proto__descriptor && ++s->tensors > SCAN_TENSORS_MAX)
        return bad(s, ERR_LIMIT, f->start, "The model has more than %d tensors.", SCAN_TENSORS_MAX);
    return 0;
}

/* Bytes of the UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), 0 if none. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max;
        size_t length;
    } forms[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (p[0] < forms[i].first_min || p[0] > forms[i].first_max)
            continue;
        size_t n = forms[i].length;
        if (n > left || (n > 1 && (p[1] < forms[i].second_min || p[1] > forms[i].second_max)))
            return 0;
        for (size_t k = 2; k < n; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return n;
    }
    return 0;
}

static size_t text_max(const struct frame *m, const ProtobufCFieldDescriptor *d)
{
    if (m->type == &onnx__string_string_entry_proto__descriptor)
        return SCAN_METADATA_MAX;
    return d->type == PROTOBUF_C_TYPE_STRING ? SCAN_NAME_MAX : SCAN_TEXT_MAX;
}

static int check_text(struct scan *s, const struct frame *m, const struct field *f,
                      const ProtobufCFieldDescriptor *d)
{
    size_t n = f->end - f->at, max = text_max(m, d);
    if (n > max)
        return bad(s, ERR_LIMIT, f->start, "The field \"%s\" of %s has %zu bytes, the most is %zu.",
                   d->name, m->type->short_name, n, max);
    if (d->type != PROTOBUF_C_TYPE_STRING)
        return 0;
    for (size_t i = f->at, step; i < f->end; i += step)
        if (!(step = utf8_length(s->data + i, f->end - i)))
            return bad(s, ERR_BAD_MODEL, i, "The field \"%s\" of %s is not UTF-8 text.", d->name,
                       m->type->short_name);
    return 0;
}

/* ---- the walk ---- */

static bool is_payload(const struct frame *m, const struct field *f,
                       const ProtobufCFieldDescriptor *d)
{
    return m->type == &onnx__tensor_proto__descriptor && f->wire == WIRE_BYTES &&
           (!strcmp(d->name, "raw_data") || !strcmp(d->name, "float_data") ||
            !strcmp(d->name, "double_data"));
}

static int emit_payload(struct scan *s, struct frame *m, const struct field *f)
{
    if (m->payloads++)
        return bad(s, ERR_BAD_MODEL, f->start, "A tensor's data is given twice.");
    put_number(s, 1000, f->id);
    put_number(s, 1001, f->at);
    put_number(s, 1002, f->end - f->at);
    s->payload_bytes += f->end - f->at;
    return 0;
}

static int emit_packed(struct scan *s, struct frame *m, const struct field *f,
                       const ProtobufCFieldDescriptor *d)
{
    enum wire each = wire_of(d->type);
    size_t width = each == WIRE_FIXED64 ? 8 : 4, at = f->at;
    uint64_t count = (f->end - f->at) / width, ignored;
    if (each == WIRE_VARINT) {
        for (count = 0; at < f->end; count++)
            if (read_varint(s, &at, f->end, &ignored))
                return -1;
    } else if ((f->end - f->at) % width) {
        return bad(s, ERR_BAD_MODEL, f->start, "The list \"%s\" of %s ends inside an element.",
                   d->name, m->type->short_name);
    }
    if (check_count(s, m, f, d, count))
        return -1;
    put_bytes(s, f);
    return 0;
}

static int scan_message(struct scan *s, struct frame *m);

static int emit_message(struct scan *s, struct frame *m, const struct field *f,
                        const ProtobufCFieldDescriptor *d)
{
    struct frame inner = {.type = d->descriptor, .at = f->at, .end = f->end, .depth = m->depth + 1};
    if (count_message(s, f, inner.type, inner.depth))
        return -1;
    put_key(s, f->id, WIRE_BYTES);
    size_t place = s->out->len;
    buf_add(s->out, "\0\0\0\0", LENGTH_BYTES);
    if (s->out->full || scan_message(s, &inner))
        return -1;
    patch_length(s, place);
    return 0;
}

static const ProtobufCFieldDescriptor *known(const struct frame *m, uint32_t id)
{
    for (unsigned i = 0; i < m->type->n_fields; i++)
        if (m->type->fields[i].id == id && id < 1000)
            return &m->type->fields[i];
    return NULL;
}

/* A field that may stand once stands once: merging, which protobuf asks for, is never meant. */
static int check_once(struct scan *s, struct frame *m, const struct field *f,
                      const ProtobufCFieldDescriptor *d)
{
    uint64_t bit = (uint64_t)1 << (d - m->type->fields);
    if (d->label != PROTOBUF_C_LABEL_REPEATED && m->seen & bit)
        return bad(s, ERR_BAD_MODEL, f->start, "The field \"%s\" of %s is given twice.", d->name,
                   m->type->short_name);
    m->seen |= bit;
    return 0;
}

static int emit_field(struct scan *s, struct frame *m, const struct field *f)
{
    const ProtobufCFieldDescriptor *d = known(m, f->id);
    if (!d)
        return 0;
    enum wire want = wire_of(d->type);
    bool packed =
        f->wire == WIRE_BYTES && want != WIRE_BYTES && d->label == PROTOBUF_C_LABEL_REPEATED;
    if (f->wire != want && !packed)
        return bad(s, ERR_BAD_MODEL, f->start, "The field \"%s\" of %s has wire type %d, not %d.",
                   d->name, m->type->short_name, f->wire, want);
    if (check_once(s, m, f, d))
        return -1;
    if (is_payload(m, f, d))
        return emit_payload(s, m, f);
    if (packed)
        return emit_packed(s, m, f, d);
    if (check_count(s, m, f, d, 1))
        return -1;
    if (d->type == PROTOBUF_C_TYPE_MESSAGE)
        return emit_message(s, m, f, d);
    if (want == WIRE_BYTES && check_text(s, m, f, d))
        return -1;
    if (want == WIRE_VARINT)
        put_number(s, f->id, f->number);
    else
        put_bytes(s, f);
    return 0;
}

static int scan_message(struct scan *s, struct frame *m)
{
    struct field f = {0};
    while (m->at < m->end) {
        if (read_field(s, m, &f) || emit_field(s, m, &f))
            return -1;
        if (s->out->full)
            return -1;
    }
    return 0;
}

uint64_t scan_budget(uint64_t structure_bytes)
{
    return SCAN_BUDGET_BASE + 4 * structure_bytes;
}

int scan_onnx(const void *data, size_t size, struct scan_result *ret, struct err *e)
{
    *ret = (struct scan_result){0};
    if (size > SCAN_FILE_MAX)
        return err_set(e, ERR_LIMIT, "", "A model file has at most %llu bytes, not %zu.",
                       (unsigned long long)SCAN_FILE_MAX, size);
    buf_init(&ret->skeleton, scan_budget(size));
    struct scan s = {.data = data, .out = &ret->skeleton, .e = e};
    struct frame root = {.type = &onnx__model_proto__descriptor, .end = size, .depth = 1};
    int rc = scan_message(&s, &root);
    if (rc && ret->skeleton.full)
        err_set(e, ERR_LIMIT, "", "The model's structure needs more than %llu bytes.",
                (unsigned long long)scan_budget(size));
    if (rc)
        buf_done(&ret->skeleton);
    ret->payload_bytes = s.payload_bytes;
    return rc;
}
