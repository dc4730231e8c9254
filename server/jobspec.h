/*
 * The body of POST /v1/jobs: checked against tables, resolved, made canonical. What depends on
 * the inside of the model (the names in a quant_config, say) is the worker's to check: it comes
 * back as the job's error.
 */
#ifndef PTQ_SERVER_JOBSPEC_H
#define PTQ_SERVER_JOBSPEC_H

#include <jansson.h>

#include "common/arena.h"
#include "common/err.h"
#include "server/server.h"

struct jobspec {
    const char *kind;
    const char *spec;        /* canonical JSON: api/openapi.yaml, JobSpec */
    const char *spec_sha256; /* of kind and spec, 64 hex digits */
    const char *labels;      /* canonical JSON */
    int64_t priority;
};

/* Everything in the arena. Looks up models, data sets and artifacts by the reading connection.
 * ERR_INVALID, ERR_UNKNOWN_NAME or ERR_CONFLICT with the place as a JSON Pointer. */
int jobspec_read(struct server *s, const json_t *body, struct arena *a, struct jobspec *ret,
                 struct err *e);

/* What a request says of a model, an id or an object, as a spec has it: {id, blob, external_data,
 * …}; a new reference. Errors are at "/model". */
json_t *jobspec_model(struct server *s, const json_t *given, struct arena *a, struct err *e);

/* Is it of the right kind at all: an object, text in the dialect, or absent? */
int jobspec_check_config(const json_t *config, struct err *e);

/* Applies a JSON Merge Patch of {labels, priority} to *labels and *priority. */
int jobspec_patch(const json_t *patch, struct arena *a, const char **labels, int64_t *priority,
                  struct err *e);

bool jobspec_is_kind(const char *kind);

#endif
