/* Answers from the tasks table, and small files of a worker's folder. */
#ifndef PTQ_SERVER_KNOWN_H
#define PTQ_SERVER_KNOWN_H

#include <jansson.h>

#include "common/sha256.h"
#include "server/server.h"

struct worker;
/* Sends Known for n digests. Results that would make the frame too long go as files in out_dir.
 * *ret_hits: how many were found that another job than `owner` had computed. */
int known_send(struct server *s, struct worker *w, const char *owner, const char *out_dir,
               uint64_t request, const struct digest *digests, size_t n, int64_t *ret_hits,
               struct err *e);
/* The JSON in a file of the folder; a new reference or NULL. */
json_t *known_read_json(const char *dir, const char *name, struct err *e);

#endif
