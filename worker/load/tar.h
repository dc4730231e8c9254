/*
 * The canonical tar: ustar with regular files only, read from a mapping without copying, written
 * one header at a time. Other people's tars go through load/archive.c.
 */
#ifndef PTQ_WORKER_LOAD_TAR_H
#define PTQ_WORKER_LOAD_TAR_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/err.h"

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 255 };

struct tar_entry {
    const char *name;
    size_t offset, size; /* of the content, in the file */
};

/* All entries, in the order of the file, in the arena. ERR_BAD_DATA for whatever tar_put_header
 * would not write: another type than a regular file, a bad check sum, an end that is missing. */
int tar_list(const void *file, size_t len, int max, struct arena *a, struct tar_entry **ret,
             int *ret_n, struct err *e);

/* The header of an entry; the content follows, filled up with zeros to TAR_BLOCK. The file ends
 * with two blocks of zeros. ERR_BAD_DATA if ustar cannot say the name. */
int tar_put_header(char ret[TAR_BLOCK], const char *name, uint64_t size, struct err *e);

#endif
