/* A sweep's options and its result, in the forms that HMCT's users know. */
#ifndef PTQ_CLI_SENSITIVITY_H
#define PTQ_CLI_SENSITIVITY_H

#include "cli/cli.h"
#include "common/buf.h"

/* ['a','b'], [a,b] as a shell leaves it, a alone; nested: [[a,b],[c]] too. NULL on error. */
json_t *list_parse(const char *text, bool nested, struct err *e);
/* True, False, in any case, and what else people write; -1 if it is neither. */
int word_flag(const char *word, bool *ret);

/* Adds the command line's options to the job's. */
int sensitivity_request(const struct options *o, json_t *options, struct err *e);

/* Five decimals without trailing zeros, never an exponent. */
const char *number_text(struct arena *a, double v);
/* The table as text: names over 50 characters are cut to "..." and their last 47. */
void sensitivity_table(const json_t *result, bool full_names, struct buf *ret);
/* Prints the table (or JSON) and the advice, and writes both forms into the folder of -s. */
int sensitivity_conclude(const struct options *o, const json_t *result, struct err *e);

#endif
