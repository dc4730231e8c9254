/* The operators that models may have, from their rows: for people and for programs. */
#ifndef PTQ_WORKER_JOBS_OPERATORS_H
#define PTQ_WORKER_JOBS_OPERATORS_H

#include <jansson.h>

#include "common/buf.h"

/* docs/operators.md. */
void operators_markdown(struct buf *ret);
/* What GET /v1/operators lists: [{"domain", "op_type", "since", "until", "types", …}], sorted. */
json_t *operators_json(void);

#endif
