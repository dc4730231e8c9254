/*
 * ptq, the command-line client. A command is a row of a table (cli/main.c): its words, its
 * options, its help, and one function. What a command prints for people goes to standard output,
 * progress and errors to standard error; with --json standard output is JSON only.
 */
#ifndef PTQ_CLI_CLI_H
#define PTQ_CLI_CLI_H

#include <stdbool.h>

#include <jansson.h>

#include "common/arena.h"
#include "common/err.h"

enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1,      /* the job failed, or the server refused */
    EXIT_USAGE = 2,       /* the command line is wrong */
    EXIT_UNREACHABLE = 3, /* no server at the URL */
    EXIT_NOT_MET = 4      /* the job went well, its target was not met */
};

struct options {
    const char *url, *config, *out, *name, *labels, *calibration, *store, *samples, *limit, *state,
        *after, *metrics, *node_type, *outputs, *data_num, *interested, *verbose, *save_dir, *march,
        *memory;
    bool json, local, wait_not, help, full_names, fast, nodes, info, opset21;
};

enum { WORDS_MAX = 8 };
struct cli {
    struct options opt;
    const char *words[WORDS_MAX]; /* behind the command's name */
    int n_words;
    struct arena arena;    /* dies with the command */
    struct remote *remote; /* made at the first use: cli_remote() */
    json_t *tool_options;  /* of a debugger's tool (cli/debug.c); NULL: another command */
};

struct remote *cli_remote(struct cli *c);
/* The exit status for an error, after showing it. */
int cli_fail(const struct err *e);

/* ---- uploads (cli/upload.c) ---- */

/* The resource's id of a MODEL or DATA word: the word itself when it is an id, else the file's or
 * folder's, which is uploaded unless the server has it. */
int upload_model(struct cli *c, const char *word, const char **ret_id, struct err *e);
int upload_data(struct cli *c, const char *word, const char **ret_id, struct err *e);
int cmd_model_add(struct cli *c, struct err *e);
int cmd_data_add(struct cli *c, struct err *e);

/* ---- jobs (cli/job.c) ---- */
/* Submits a job of this kind (or runs it locally), follows and concludes it. The exit status. */
int job_run_kind(struct cli *c, const char *kind, struct err *e);
int cmd_calibrate(struct cli *c, struct err *e);
int cmd_evaluate(struct cli *c, struct err *e);
int cmd_info(struct cli *c, struct err *e);
int cmd_export(struct cli *c, struct err *e);
int cmd_sensitivity(struct cli *c, struct err *e);
int cmd_check(struct cli *c, struct err *e); /* cli/check.c */
int cmd_edit(struct cli *c, struct err *e);  /* cli/edit.c */
int cmd_jobs(struct cli *c, struct err *e);
int cmd_watch(struct cli *c, struct err *e);
int cmd_cancel(struct cli *c, struct err *e);
int cmd_get(struct cli *c, struct err *e);

/* The job's spec from words and options: kind, quant_config, options; model and data are the
 * caller's. New reference, NULL on error. */
json_t *job_request(struct cli *c, const char *kind, struct err *e);
/* Where a debugger's tool leaves its files: -s, or debug_result. */
const char *tool_dir(const struct cli *c);
/* Shows a finished job's result (cli/show.c) and gives the exit status. */
int job_conclude(struct cli *c, const char *kind, const json_t *result, const char *verdict);
/* The model that a kind of job makes, as the artifact's name, or NULL; and where it is put: -o, or
 * <model's stem>_<artifact>. */
const char *made_artifact(const char *kind);
const char *made_path(struct cli *c, const char *kind);

/* ---- without a server (cli/local.c) ---- */
int local_run(struct cli *c, const char *kind, struct err *e);
/* ptq-worker: beside this program, or where PTQ_WORKER says. */
const char *worker_path(struct cli *c);

#endif
