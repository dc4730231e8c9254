/* The daemon's options: one table (conf.c) gives parsing, defaults, bounds and --help. */
#ifndef PTQ_SERVER_CONF_H
#define PTQ_SERVER_CONF_H

#include <stdint.h>

#include "common/err.h"
#include "common/log.h"

struct conf {
    const char *data;        /* data folder */
    const char *host;        /* a loopback address */
    const char *worker_path; /* ptq-worker; NULL until conf_parse has found the default */
    int64_t port;            /* 0: any free one */
    int64_t workers;         /* slots: computing processes at the same time */
    int64_t upload_max;      /* bytes */
    int64_t memory;          /* bytes for all workers together */
    int64_t job_timeout_s;   /* of one attempt; 0: none */
    int64_t blob_grace_s;    /* how long a blob that no row refers to is kept */
    int64_t log_level;       /* enum log_level */
    char worker_path_buf[4096];
};

/* Fills *ret from the command line. 1: --help or --version was answered on stdout; 0: go on;
 * -1 with ERR_INVALID. Strings point into argv. */
int conf_parse(struct conf *ret, int argc, char **argv, struct err *e);

#endif
