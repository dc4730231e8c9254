/*
 * What the debugger's tools share: options that are lists of names, the calibrations that a name
 * means, and files that a job leaves: artifacts that a client may lay out in folders again.
 */
#ifndef PTQ_WORKER_JOBS_DEBUG_H
#define PTQ_WORKER_JOBS_DEBUG_H

#include <jansson.h>

#include "common/buf.h"
#include "common/json.h"
#include "worker/jobs/job.h"
#include "worker/load/dataset.h"
#include "worker/quant/metrics.h"
#include "worker/quant/plan.h"

/* A job on a calibrated model and its data. */
struct debugging {
    struct job *job;
    const struct graph *graph;
    const struct plan *plan;
    const struct dataset *data;
    const json_t *options;
    json_t *files;      /* [{path, artifact, media_type}] */
    const char *folder; /* in front of paths; "" */
};

typedef int debug_tool(struct debugging *d, json_t **ret, struct err *e);
/* Opens the inputs, runs the tool, adds "files" to what it found. */
int debug_run(struct job *j, const struct json_field *options, debug_tool *tool, json_t **ret,
              struct err *e);

/* A picture or a table: writes it and has it among the files. path: "plot/name.svg"; its artifact
 * has the path's name with '_' for what is no good file name, and a number if that is taken. */
int debug_file(struct debugging *d, const char *path, const char *media_type, const struct buf *b,
               struct err *e);
/* folder/<name with _ for />.<end>, in the job's arena */
const char *debug_path(struct debugging *d, const char *folder, const char *name, const char *end);

/* What a name means. */
struct subject {
    const char *name;
    int calib, node; /* one is -1 */
    int value;       /* a calibration's tensor, or the node's first output */
};
/* A list of names, or one; ERR_UNKNOWN_NAME with near ones at `pointer`. */
int debug_subjects(struct debugging *d, const json_t *names, const char *pointer,
                   struct subject **ret, int *ret_n, struct err *e);

/* Marks the calibrations that a name stands for: its own, or those of the node's inputs; "weight"
 * and "activation" are all of that kind. */
int debug_calibs(struct debugging *d, const char *name, const char *pointer, bool *ret,
                 struct err *e);
int debug_metric(const json_t *options, const char *key, enum metric *ret, struct err *e);
/* The option's number of samples, at most all; `absent` where it is not said (0: all). */
int debug_samples(const struct debugging *d, const char *key, int absent);

/* The tools as functions, for runall. */
debug_tool plot_distribution, channelwise_distribution, plot_acc_error, sensitivity_analysis,
    tensor_analysis, sensitive_samples;
/* The sensitivity job inside of this one, with these options (taken). */
int debug_sensitivity(struct debugging *d, json_t *options, json_t **ret, struct err *e);

#endif
