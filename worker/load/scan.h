/*
 * The bounded scan of an ONNX file's wire format, before protobuf-c sees a byte of it. It walks
 * the message descriptors made from proto/onnx.proto, so what a field is is said there alone, and
 * writes a skeleton: the same message without fields that this project does not read, and with
 * tensor payloads (raw_data, packed float_data and double_data) replaced by their place in the
 * file. Unknown fields, however many, cost nothing behind the scan.
 */
#ifndef PTQ_WORKER_LOAD_SCAN_H
#define PTQ_WORKER_LOAD_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"

enum {
    SCAN_DEPTH_MAX = 64,         /* messages in messages; a subgraph takes three */
    SCAN_NODES_MAX = 100000,     /* in the whole file, and again of what functions come to */
    SCAN_TENSORS_MAX = 200000,   /* attributes' tensors included */
    SCAN_ATTRIBUTES_MAX = 10000, /* of one node */
    SCAN_NAME_MAX = 4096,        /* bytes of a name */
    SCAN_TEXT_MAX = 64 << 10,    /* bytes of a string attribute */
    SCAN_METADATA_MAX = 1 << 20, /* bytes of a metadata value */
    SCAN_BUDGET_BASE = 64 << 20  /* skeleton and unpacked messages: this + 4 × the rest */
};
#define SCAN_FILE_MAX ((uint64_t)8 << 30)

struct scan_result {
    struct buf skeleton;    /* a ModelProto for protobuf-c; the caller's to buf_done */
    uint64_t payload_bytes; /* bytes of the file that are tensor payloads */
};

/* Bytes that the skeleton and its unpacked form may take each, for so many bytes of structure. */
uint64_t scan_budget(uint64_t structure_bytes);

/* ERR_BAD_MODEL (at "byte N") for a malformed file, ERR_LIMIT for one past a limit above. On
 * error the skeleton is released. */
int scan_onnx(const void *data, size_t size, struct scan_result *ret, struct err *e);

#endif
