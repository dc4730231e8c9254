/*
 * Dry runs of a quant_config: a worker resolves it on the model's skeleton and tells the ledger,
 * or what is wrong with it, in milliseconds. Answers are kept in memory by what they depend on,
 * so the same question again starts no process; equal questions under way share one. Loop thread
 * only.
 */
#ifndef PTQ_SERVER_CHECKS_H
#define PTQ_SERVER_CHECKS_H

#include <stdbool.h>

#include <jansson.h>

#include "common/err.h"
#include "server/server.h"

struct checks;
struct checks *checks_new(struct server *s);
/* Ends those that run; who waits is told ERR_UNAVAILABLE. */
void checks_stop(struct checks *all);
bool checks_idle(const struct checks *all);
void checks_free(struct checks *all);

struct check_question {
    const json_t *model;        /* as resolved: {id, blob, external_data} (jobspec.h) */
    const json_t *quant_config; /* an object, or text in the dialect, or NULL for {} */
    const char *march;          /* NULL: the default */
};
/* text: the answer as JSON (NULL with e: the configuration's error, its place under /quant_config,
 * or what kept it from being checked). Called once, from within the call when the answer is known,
 * and borrowed for that time. */
typedef void checked_fn(void *ctx, const char *text, const struct err *e);
void check_config(struct checks *all, const struct check_question *q, checked_fn *fn, void *ctx);

#endif
