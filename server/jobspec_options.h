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

enum { OPTIONS_MAX = 24 }; /* of one kind, the empty row included */

extern const struct option sensitivity_options[];
/* The debugger's tools (jobspec_debug.c). */
extern const struct option distribution_options[], channelwise_options[], acc_error_options[],
    sensitivity_analysis_options[], tensor_options[], samples_options[], runall_options[];

/* Values that several kinds take: names (nested: lists of names as well), counts, flags, metrics.
 */
int option_names(const json_t *v, const char *at, bool nested, struct err *e);
int option_count(const json_t *v, const char *at, struct err *e);
int option_flag(const json_t *v, const char *at, struct err *e);
int option_metrics(const json_t *v, const char *at, struct err *e);
bool option_is_metric(const json_t *v);
bool option_is_node_type(const json_t *v);
json_t *option_one(void);

#endif
