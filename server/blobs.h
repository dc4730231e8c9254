/*
 * Blobs: files named by the SHA-256 of their content, DIR/blobs/aa/<64 hex digits>. A blob is
 * there whole or not at all: it is written in DIR/tmp, flushed, and renamed into place. Immutable.
 * Digests are 64 lower-case hex digits; callers check what comes from outside with digest_parse.
 */
#ifndef PTQ_SERVER_BLOBS_H
#define PTQ_SERVER_BLOBS_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/arena.h"
#include "common/err.h"

struct blobs;

/* Makes DIR/blobs and DIR/tmp where they are missing and empties DIR/tmp: whatever stands there is
 * left from a process that is gone. */
int blobs_open(uv_loop_t *loop, const char *data_dir, struct blobs **ret, struct err *e);
void blobs_free(struct blobs *b); /* after the loop has ended */

const char *blobs_tmp_dir(const struct blobs *b);
const char *blobs_path(const struct blobs *b, struct arena *a, const char *sha256);
/* *ret_size may be NULL. */
bool blobs_has(const struct blobs *b, const char *sha256, uint64_t *ret_size);

/*
 * Moves the file at tmp_path (same file system, content flushed, digest known) into place in the
 * uv pool: fsync, rename, fsync of the folder. Then calls done on the loop thread with NULL or the
 * error; the file at tmp_path is gone in both cases. The same content again is no error.
 */
void blobs_put(struct blobs *b, const char *tmp_path, const char *sha256,
               void (*done)(void *ctx, const struct err *e), void *ctx);

/* Makes it as young as one just written: who means to refer to a blob that is there does this
 * first, on the loop thread (collect.h). */
void blobs_touch(struct blobs *b, const char *sha256);
struct blob_list {
    char (*sha256)[65];
    int n;
};
/* Those untouched for that long. In the pool. */
void blobs_list_old(const struct blobs *b, int64_t older_than_ms, struct blob_list *ret);
void blob_list_done(struct blob_list *l);
/* Takes the blob away, into DIR/tmp, unless it is younger. True if it is gone. */
bool blobs_put_aside(struct blobs *b, const char *sha256, int64_t older_than_ms);
/* Removes what was put aside; in the pool. */
void blobs_empty_aside(const struct blobs *b);

#endif
