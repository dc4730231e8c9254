/* What ptq-worker says of its marches (`ptq-worker profiles`, embedded at build). */
#ifndef PTQ_SERVER_PROFILES_H
#define PTQ_SERVER_PROFILES_H

#include <jansson.h>

#include "common/err.h"

const json_t *profiles_all(void); /* array, the default first */
const char *profiles_default(void);
json_t *profiles_find(const char *march); /* borrowed; NULL if there is none */
/* ERR_UNKNOWN_NAME at `at` unless it is NULL or the name of a march. */
int profiles_check(const char *march, const char *at, struct err *e);

#endif
