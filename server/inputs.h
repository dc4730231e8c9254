/* The files that a worker is told of. Everything is in the arena. */
#ifndef PTQ_SERVER_INPUTS_H
#define PTQ_SERVER_INPUTS_H

#include <jansson.h>

#include "common/arena.h"
#include "server/server.h"
#include "worker.pb-c.h"

void inputs_add(struct arena *a, Ptq__Start *start, const char *role, const char *path,
                const char *name, const char *sha256);
/* The model at path and its external data, [{location, blob}]. */
void inputs_add_model(struct server *s, struct arena *a, Ptq__Start *start, const char *path,
                      const char *sha256, const json_t *external);
/* "sha256:…" without its prefix, in the arena; NULL if it is no digest. */
const char *digest_of_name(struct arena *a, const char *name);

#endif
