/*
 * The text of a quant_config as people write it: JSON, and what the tuning chapter prints, which
 * is Python: comments (as in C, C++ and Python), trailing commas, True, False, None, strings in
 * single quotes, and `quant_config =` in front. A repeated key is a warning when its value is
 * equal, an error otherwise. Depth and size are limited as in common/json.h.
 */
#ifndef PTQ_WORKER_QUANT_DIALECT_H
#define PTQ_WORKER_QUANT_DIALECT_H

#include <stddef.h>

#include <jansson.h>

#include "common/err.h"

/* The value (new reference), or NULL with ERR_BAD_JSON telling line and column. warnings: an array
 * that takes one sentence for each repeated key, or NULL. */
json_t *dialect_parse(const char *text, size_t len, json_t *warnings, struct err *e);

#endif
