/*
 * What nothing refers to any more is removed: blobs without a reference in any row, and
 * idempotency keys that are over. At the start, after deletions, and every now and then.
 *
 * A blob that was written or asked for within the grace (blobs_touch) is left alone: whoever puts
 * one and then refers to it, or reads that it is there and then writes a row, has that long.
 */
#ifndef PTQ_SERVER_COLLECT_H
#define PTQ_SERVER_COLLECT_H

#include <stdbool.h>

#include "common/err.h"
#include "server/server.h"

struct collect;
int collect_new(struct server *s, struct collect **ret, struct err *e); /* begins at once */
void collect_kick(struct collect *c); /* something may have become free */
void collect_stop(struct collect *c); /* nothing new is begun */
bool collect_idle(const struct collect *c);
void collect_free(struct collect *c);

#endif
