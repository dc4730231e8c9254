/* debug_mode "dump_calibration_data": the data that a calibration saw, as the debugger reads it. */
#ifndef PTQ_WORKER_JOBS_DUMP_H
#define PTQ_WORKER_JOBS_DUMP_H

#include "worker/load/dataset.h"

/* A tar of calibration_data/<input>/<sample>.npy, for the first n_samples. An input's folder is
 * %XX-encoded where its name is no good file name; a sample has its number from 0 on, in as many
 * digits as the last one needs and at least two, so that sorting by name keeps the order. */
int dump_calibration_data(const struct dataset *d, int n_samples, const char *path, struct err *e);

#endif
