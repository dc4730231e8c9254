/* `ptq-worker run`: every output of every sample into a folder. */
#ifndef PTQ_WORKER_JOBS_RUN_H
#define PTQ_WORKER_JOBS_RUN_H

#include "common/err.h"

struct backend;

/*
 * Runs the model (a calibrated one as calibrated) on all samples and writes
 * out_dir/<output>/<sample>.npy. A folder has the output's name; one that would be no good file
 * name is %XX-encoded. Tells what it wrote on standard output. profile: NULL, or the file that
 * takes what the first sample's steps cost (jobs/profile.h).
 */
int run_to_folder(const char *model_path, const char *data_path, const char *out_dir,
                  const struct backend *backend, const char *profile, struct err *e);

#endif
