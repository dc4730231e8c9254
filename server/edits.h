/*
 * Edits of calibrated models: a worker changes calibrations as a list of {select, set} says, what
 * it writes becomes a blob, and is then taken in like an upload. Loop thread only.
 */
#ifndef PTQ_SERVER_EDITS_H
#define PTQ_SERVER_EDITS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "common/err.h"
#include "server/server.h"

struct edits;
struct edits *edits_new(struct server *s);
void edits_stop(struct edits *all); /* ends those that run: they are told ERR_UNAVAILABLE */
bool edits_idle(const struct edits *all);
void edits_free(struct edits *all);

/* Called once, later: the new file is a blob; NULL with e: what is wrong. */
typedef void edited_fn(void *ctx, const char *sha256, uint64_t size, const struct err *e);
/* The model's blob and external data [{location, blob}]; spec: {edits, options}. -1 with *e: it
 * was not begun, and fn is not called. */
int edit_model(struct edits *all, const char *blob, const json_t *external, const json_t *spec,
               edited_fn *fn, void *ctx, struct err *e);

#endif
