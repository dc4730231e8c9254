/* The only file that sees libarchive: the entries of a tar, tar.gz or zip as a stream. Links,
 * devices, encrypted entries, damage and sizes that lie are ERR_BAD_DATA naming the entry. */
#ifndef PTQ_WORKER_LOAD_ARCHIVE_H
#define PTQ_WORKER_LOAD_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct archive_walker {
    /* A regular file or a folder comes. 1: give me its bytes, 0: skip it, -1. The path is the
     * archive's word, not to be trusted; valid during the call. */
    int (*entry)(void *ctx, const char *path, bool folder, struct err *e);
    int (*data)(void *ctx, const void *bytes, size_t len, struct err *e);
    int (*end)(void *ctx, struct err *e); /* the entry is whole */
};
int archive_walk(const char *path, bool zip, const struct archive_walker *to, void *ctx,
                 struct err *e);

#endif
