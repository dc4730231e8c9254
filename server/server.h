/* What all handlers share: one struct, made in main.c, read everywhere on the loop thread. */
#ifndef PTQ_SERVER_SERVER_H
#define PTQ_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

struct blobs;
struct db;
struct http;

struct server {
    uv_loop_t *loop;
    const char *data_dir; /* absolute */
    struct db *db;
    struct blobs *blobs;
    struct http *http;
    uint64_t upload_max; /* bytes */
    bool draining;       /* from SIGTERM on: nothing new is begun */
};

/* What /readyz asks, one row a check; rows end with { 0 }. server/api_meta.c lists them. */
struct ready_check {
    const char *name;
    int (*check)(struct server *s, struct err *e); /* fast: runs on the loop thread */
};

#endif
