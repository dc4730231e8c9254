/* What people see: progress on standard error, tables on standard output. */
#ifndef PTQ_CLI_SHOW_H
#define PTQ_CLI_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

/* One progress line: rewritten on a terminal; else a plain line when a phase begins or ends. */
struct progress {
    bool on_line;   /* the terminal's line is not ended */
    bool ended;     /* the phase told last has ended */
    char phase[64]; /* told last */
};
void progress_jobs(struct progress *p, const json_t *data);         /* a progress event's data */
void progress_bytes(void *progress, uint64_t done, uint64_t total); /* an upload's or download's */
void progress_end(struct progress *p);

/* A row of text for a table: cells of the arena's or literal strings. */
enum { TABLE_COLUMNS_MAX = 8 };
struct table {
    int n_columns, n_rows;
    const char *(*rows)[TABLE_COLUMNS_MAX]; /* row 0 is the head */
};
/* Columns two spaces apart, '=' above and '-' below the head, all lines of one width. */
void table_plain(const struct table *t);
/* Boxed by + - |, cells centred. */
void table_boxed(const struct table *t);

void show_json(const json_t *v); /* sorted keys, indented */

/* The tables of an evaluate result, and what calibrate made. */
void show_evaluation(const json_t *result);
/* As hmct-info: nodes, then outputs, of one sample or as minimum, maximum, mean. */
void show_info(const json_t *result);
/* A dry run; full: names are not cut. */
void show_check(const json_t *result, bool full);
void show_calibration(const json_t *result, const char *path);
void show_export(const json_t *result, const char *path);

#endif
