/* The debugger's tools: the vendor's sub-commands, with its options. */
#ifndef PTQ_CLI_DEBUG_H
#define PTQ_CLI_DEBUG_H

#include "cli/cli.h"

/* Is this word one of the sub-commands? */
bool debug_is_command(const char *word);
/* The whole of such a command: words without the program's name. The exit status. */
int debug_command(struct cli *c, char **argv);
void debug_help_list(void); /* for `ptq --help` */

/* Writes the job's result, and its files as the result lays them out, into the folder. `fetch` gets
 * an artifact into a file. */
typedef int debug_fetch(void *ctx, const char *artifact, const char *to, struct err *e);
int debug_save(const char *dir, const json_t *result, debug_fetch *fetch, void *ctx, struct err *e);

#endif
