/* struct err → RFC 9457 problem details: the one place where an error becomes JSON. */
#ifndef PTQ_SERVER_PROBLEM_H
#define PTQ_SERVER_PROBLEM_H

#include <jansson.h>

#include "common/err.h"

/* A new reference. instance is the path of the request, or of the job or model whose error it is;
 * request_id may be NULL. Bytes that are no UTF-8 are shown as '?'. */
json_t *problem_json(const struct err *e, const char *instance, const char *request_id);

#endif
