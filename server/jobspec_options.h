/* Options of a kind of job, as jobspec.c resolves them. */
#ifndef PTQ_SERVER_JOBSPEC_OPTIONS_H
#define PTQ_SERVER_JOBSPEC_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#include "common/err.h"

/* An option with its value when it is absent, and what else it may be. */
struct option {
    const char *key;
    json_t *(*fallback)(void);
    int (*check)(const json_t *v, const char *at, struct err *e);
};

enum { OPTIONS_MAX = 16 }; /* of one kind, the empty row included */

extern const struct option sensitivity_options[];

#endif
