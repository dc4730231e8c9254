/*
 * A body on its way to a file: the loop thread copies what comes into two buffers, the uv pool
 * hashes and writes them in turn, so that memory stays constant and the loop never waits for the
 * disk. Knows nothing of HTTP.
 */
#ifndef PTQ_SERVER_UPLOAD_H
#define PTQ_SERVER_UPLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"
#include "server/http.h"

enum { UPLOAD_BUFFER = 1 << 20 };

struct upload_sink;
struct upload_events {
    void (*room)(void *ctx); /* after upload_write took less than all: try again */
    void (*done)(void *ctx); /* after upload_finish: look at upload_error, upload_result */
    void *ctx;
};

/* length: the body's, if it was told, else UINT64_MAX. NULL with *e set on error. */
struct upload_sink *upload_new(uv_loop_t *loop, const char *tmp_dir, uint64_t max, uint64_t length,
                               const struct upload_events *events, struct err *e);
/* Bytes taken, which may be less than len; -1: see upload_error. */
int64_t upload_write(struct upload_sink *u, const void *data, size_t len);
void upload_finish(struct upload_sink *u);
const struct err *upload_error(const struct upload_sink *u); /* NULL if there is none */
const struct upload *upload_result(const struct upload_sink *u);
void upload_leave_file(struct upload_sink *u); /* nothing below removes it */
void upload_discard(struct upload_sink *u);    /* removes the file, now */
/* Removes the file and frees u, at once or when the pool has let go of it. No event comes after
 * this call. */
void upload_free(struct upload_sink *u);
int upload_count(void); /* sinks that hold a file */
int upload_busy(void);  /* sinks that the pool works for: the loop must not end before them */

#endif
