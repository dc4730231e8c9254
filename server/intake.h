/* From an upload to an inspected resource: what PUT and POST of models and data sets share. */
#ifndef PTQ_SERVER_INTAKE_H
#define PTQ_SERVER_INTAKE_H

#include "server/http.h"
#include "server/inspect.h"

struct intake_kind {
    const char *path; /* "/v1/models/" */
    /* The resource's state in the arena: "" if there is none. */
    int (*state)(struct server *s, const char *id, struct arena *a, const char **ret,
                 struct err *e);
    json_t *(*json)(struct server *s, const char *id, struct arena *a, struct err *e);
};

extern const struct intake_kind intake_models; /* api_models.c */

/* o->file, if set, is the request's upload. Answers 200 for what is there, else waits for the
 * inspection: 201, or the problem that it found. */
void intake(struct req *r, const struct intake_kind *kind, const struct inspect_opts *o);

/* ?name=, checked. -1: a problem was replied. */
int intake_name(struct req *r, const char **ret);

/* DELETE: refused while a job that has not ended uses it. `used` selects such jobs' ids by ?1,
 * `remove` deletes the row by ?1. */
struct removal {
    const char *what, *used, *remove;
};
void intake_delete(struct req *r, const struct removal *how);

#endif
