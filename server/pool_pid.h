/* Pid files: a process id and the start time that tells it from a later process of that id. */
#ifndef PTQ_SERVER_POOL_PID_H
#define PTQ_SERVER_POOL_PID_H

#include "common/err.h"

int pid_file_write(const char *path, int pid, struct err *e);

#endif
