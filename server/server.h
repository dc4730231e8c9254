/* What all handlers share: one struct, made in main.c, read everywhere on the loop thread. */
#ifndef PTQ_SERVER_SERVER_H
#define PTQ_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

struct blobs;
struct collect;
struct checks;
struct conf;
struct db;
struct edits;
struct dispatch;
struct http;
struct hub;
struct inspections;

struct server {
    uv_loop_t *loop;
    const struct conf *conf;
    const char *data_dir; /* absolute */
    const char *work_dir; /* DIR/work: a folder a running job */
    struct db *db;
    struct blobs *blobs;
    struct http *http;
    struct hub *hub;                 /* live event streams: stream.h */
    struct dispatch *dispatch;       /* jobs and their workers: dispatch.h */
    struct inspections *inspections; /* uploads being looked at: inspect.h */
    struct checks *checks;           /* dry runs of configurations: checks.h */
    struct edits *edits;             /* models being edited: edits.h */
    struct collect *collect;         /* what nothing refers to any more: collect.h */
    uint64_t upload_max;             /* bytes */
    bool draining;                   /* from SIGTERM on: nothing new is begun */
};

/* What /readyz asks, one row a check; rows end with { 0 }. server/api_meta.c lists them. */
struct ready_check {
    const char *name;
    int (*check)(struct server *s, struct err *e); /* fast: runs on the loop thread */
};

#endif
