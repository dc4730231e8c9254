/* Bytes of a worker become a blob: copied into DIR/tmp and hashed on the way in the uv pool, so
 * that nobody can change them behind the digest, then moved into place by server/blobs.h. */
#ifndef PTQ_SERVER_ADOPT_H
#define PTQ_SERVER_ADOPT_H

#include "server/server.h"

typedef void adopted_fn(void *ctx, const char *sha256, uint64_t size, const struct err *e);

/* The file `name` of the folder dir; not a link, no path. sha256: what it must be, or NULL. */
void adopt_file(struct server *s, const char *dir, const char *name, const char *sha256,
                adopted_fn *done, void *ctx);
/* len bytes, copied by the call. */
void adopt_bytes(struct server *s, const void *bytes, size_t len, adopted_fn *done, void *ctx);

/* Removes a folder and all in it, in the pool; nobody is told. */
void remove_tree(struct server *s, const char *path);

#endif
