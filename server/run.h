/*
 * One run of a worker for one owner (a job's attempt, or an inspection): starts it, answers its
 * questions from the tasks table, stores its task results and files in the order told, and says
 * how it ended. What the events and the result mean is the owner's. Loop thread only.
 */
#ifndef PTQ_SERVER_RUN_H
#define PTQ_SERVER_RUN_H

#include <jansson.h>

#include "common/arena.h"
#include "server/server.h"
#include "worker.pb-c.h"

struct run_artifact {
    const char *name, *media_type, *sha256;
    uint64_t size;
};

struct run_end {
    struct err err; /* ERR_NONE: it finished */
    bool own;       /* err is what the worker itself said: trying again is no use */
    int signal;     /* that ended it, or 0 */
    json_t *result; /* borrowed; when it finished */
    const char *verdict, *tail;
    const struct run_artifact *artifacts; /* told and in the blobs, in order */
    int n_artifacts;
    int64_t tasks; /* results stored that were not known before */
    int64_t hits;  /* results found that another owner had computed */
};

struct run_calls {
    void (*hello)(void *ctx, const char *engine);                                  /* or NULL */
    void (*event)(void *ctx, int64_t ordinal, const char *type, const char *json); /* or NULL */
    void (*artifact)(void *ctx, const struct run_artifact *a);                     /* or NULL */
    void (*end)(void *ctx, const struct run_end *end); /* the run is freed afterwards */
};

struct run_opts {
    const char *owner;       /* its folder is work/<owner>, the worker's is work/<owner>/out */
    const Ptq__Start *start; /* out_dir is filled in here */
    int64_t attempt, limit_ms;
    int nice; /* 0: as the daemon */
};

struct run;
struct run *run_start(struct server *s, const struct run_opts *o, const struct run_calls *calls,
                      void *ctx, struct err *e);
void run_cancel(struct run *r);
int64_t run_hits(const struct run *r); /* until now */
/* work/<owner>/<name> in the arena. */
const char *run_path(const struct server *s, struct arena *a, const char *owner, const char *name);
/* Makes work/<owner>; there already is no error. */
int run_make_dir(const struct server *s, const char *owner, struct err *e);

#endif
