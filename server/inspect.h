/*
 * Inspections: a worker looks at an uploaded model or data set before anybody may use it. They run
 * one after another on a slot of their own, so that uploads do not wait behind jobs.
 *
 * Until an inspection has ended well nothing of the upload is visible, unless it was published
 * (for a client that does not wait): then it has a row in the state `inspecting`, and a failure
 * leaves it `invalid`. Who uploads the same content meanwhile waits for the same inspection.
 */
#ifndef PTQ_SERVER_INSPECT_H
#define PTQ_SERVER_INSPECT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "server/server.h"

struct inspections;
struct inspections *inspections_new(struct server *s);
/* Takes up what an earlier daemon left `inspecting`. */
int inspections_recover(struct inspections *all, struct err *e);
/* Ends the running one; waiters are told ERR_UNAVAILABLE. Nothing is begun any more. */
void inspections_stop(struct inspections *all);
bool inspections_idle(const struct inspections *all);
void inspections_free(struct inspections *all);

/* Whether one that is going on has to do with this blob. */
bool inspections_use(const struct inspections *all, const char *sha256);

struct inspect_opts {
    const char *id;       /* mdl_… or dat_…: says which kind it is */
    const char *name;     /* '' if nothing */
    const char *sha256;   /* of the upload or main blob */
    const char *file;     /* the upload, moved away from here; NULL: the blob is in place */
    const char *external; /* models: JSON [{location, blob}] */
    uint64_t size;
    bool published; /* it has a row already, or is to have one whatever comes out */
};

struct inspection;
/* NULL if there is none going on for this id. */
struct inspection *inspect_find(struct inspections *all, const char *id);
/* NULL with *e set if the file cannot be moved. */
struct inspection *inspect_start(struct inspections *all, const struct inspect_opts *o,
                                 struct err *e);
/* Tells fn once, after the outcome is committed: NULL: the row is `ready`. */
struct inspect_wait;
struct inspect_wait *inspect_join(struct inspection *i, void (*fn)(void *ctx, const struct err *e),
                                  void *ctx);
void inspect_leave(struct inspect_wait *w); /* fn will not be called */
/* Makes the row in the state `inspecting`; done on the loop thread after the commit. */
void inspect_publish(struct inspection *i, void (*done)(void *ctx, const struct err *e), void *ctx);

#endif
