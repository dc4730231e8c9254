/*
 * Frames on a pipe: 4 bytes length, little-endian, then that many bytes, at most FRAME_MAX.
 * The payload is a protobuf message of proto/worker.proto; this file does not know which.
 */
#ifndef PTQ_COMMON_FRAME_H
#define PTQ_COMMON_FRAME_H

#include <stddef.h>

#include "common/buf.h"
#include "common/err.h"

enum { FRAME_MAX = 4 << 20, FRAME_HEAD = 4 };

/* Adds one frame to out. ERR_LIMIT for a payload over FRAME_MAX or an output that is full. */
int frame_add(struct buf *out, const void *payload, size_t len, struct err *e);

/*
 * The first whole frame in the len bytes at data: 1 with *ret_payload (into data) and *ret_len
 * set, so that FRAME_HEAD + *ret_len bytes can be dropped afterwards; 0 if more bytes are needed;
 * -1 with ERR_WORKER_PROTOCOL for a length over FRAME_MAX.
 */
int frame_next(const char *data, size_t len, const char **ret_payload, size_t *ret_len,
               struct err *e);

/* Blocking, whole, over EINTR. frame_read: 1, 0 at a clean end, -1 (torn frame, error). */
int frame_write(int fd, const void *payload, size_t len, struct err *e);
int frame_read(int fd, struct buf *ret, struct err *e);

#endif
