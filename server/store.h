/*
 * The rows as the rest of the server knows them, and the statements that read and write them.
 * Reading functions take the connection as a `struct from`, so that the same one serves the loop
 * thread and a write. Strings live in the arena given.
 */
#ifndef PTQ_SERVER_STORE_H
#define PTQ_SERVER_STORE_H

#include <jansson.h>

#include "common/arena.h"
#include "common/err.h"
#include "server/db.h"
#include "server/id.h"
#include "server/server.h"

struct from {
    struct db *db; /* on the loop thread, or */
    struct tx *tx; /* within a write */
};
#define FROM_DB(d)                                                                                 \
    (struct from)                                                                                  \
    {                                                                                              \
        .db = (d)                                                                                  \
    }
#define FROM_TX(t)                                                                                 \
    (struct from)                                                                                  \
    {                                                                                              \
        .tx = (t)                                                                                  \
    }
struct stmt *from_stmt(struct from f, const char *sql, struct err *e);

/* Runs a statement without rows. kinds says what follows: t const char * (may be NULL), i int64_t,
 * b const void * and size_t. Returns -1 or 0. */
int tx_run(struct tx *tx, struct err *e, const char *sql, const char *kinds, ...);

struct job_row {
    const char *id, *kind, *state, *spec, *spec_sha256, *labels, *progress;
    const char *verdict, *retry_of, *engine, *result, *error; /* NULL: none */
    int64_t priority, attempt, created_ms, started_ms, finished_ms /* 0: not yet */, version;
};
/* 1 found, 0 not, -1 error. */
int job_load(struct from f, const char *id, struct arena *a, struct job_row *ret, struct err *e);
/* The columns and their reading, for other SELECTs over jobs: first JOB_COLUMNS, in this order. */
#define JOB_COLUMNS                                                                                \
    "id,kind,state,spec,spec_sha256,labels,progress,verdict,retry_of,engine,result,error,"         \
    "priority,attempt,created_ms,started_ms,finished_ms,version"
void job_read(struct stmt *s, struct arena *a, struct job_row *ret);
bool job_is_terminal(const char *state);
/* The job as the API shows it; a new reference. ERR_INTERNAL when a row's JSON is damaged. */
json_t *job_json(struct db *db, const struct job_row *j, struct err *e);

struct model_row {
    const char *id, *blob, *external, *name, *state, *summary;
    const char *error; /* NULL: none */
    int64_t created_ms, size;
    const char *skeleton, *calibrations; /* blobs; NULL: none */
};
#define MODEL_COLUMNS                                                                              \
    "m.id,m.blob,m.external,m.name,m.state,m.summary,m.error,m.created_ms,b.size,m.skeleton,"      \
    "m.calibrations"
#define MODEL_TABLES "models m JOIN blobs b ON b.sha256 = m.blob"
void model_read(struct stmt *s, struct arena *a, struct model_row *ret);
int model_load(struct from f, const char *id, struct arena *a, struct model_row *ret,
               struct err *e);
json_t *model_json(const struct model_row *m);

struct dataset_row {
    const char *id, *upload, *name, *state, *summary;
    const char *blob, *error; /* NULL: none */
    int64_t created_ms, size;
};
#define DATASET_COLUMNS                                                                            \
    "d.id,d.upload,d.name,d.state,d.summary,d.blob,d.error,d.created_ms,coalesce(b.size,0)"
#define DATASET_TABLES "datasets d LEFT JOIN blobs b ON b.sha256 = d.blob"
void dataset_read(struct stmt *s, struct arena *a, struct dataset_row *ret);
int dataset_load(struct from f, const char *id, struct arena *a, struct dataset_row *ret,
                 struct err *e);
json_t *dataset_json(const struct dataset_row *d, bool with_digests);

int blob_add(struct tx *tx, const char *sha256, uint64_t size, struct err *e);

/* How long the key of a request is remembered. */
enum { IDEMPOTENCY_MS = 24 * 60 * 60 * 1000 };

/* An event row as it was stored. */
struct event_row {
    int64_t seq, at_ms;
    char job[ID_MAX];
    const char *type, *data;
};
/* Stores an event; ordinal < 0: none. ret->seq stays 0 when this ordinal is there already. type
 * and data are borrowed by *ret. */
int event_add(struct tx *tx, const char *job, int64_t ordinal, const char *type, const char *data,
              struct event_row *ret, struct err *e);

/*
 * A change: one write to a job, the event rows that tell it, and what is to be done after the
 * commit. Events are published to the live streams before `done` is called; then the change is
 * freed with its arena. The embedding struct is allocated by change_new (zeroed).
 */
enum { CHANGE_EVENTS_MAX = 4 };
struct change {
    struct server *server;
    struct arena arena;
    char job[ID_MAX];
    int (*write)(struct tx *tx, struct change *c, struct err *e);
    void (*done)(struct change *c, const struct err *e); /* may be NULL */
    struct event_row events[CHANGE_EVENTS_MAX];
    int n_events;
};
void *change_new(struct server *s, const char *job, size_t size);
/* In write: stores an event that will be published. Takes printf-made JSON of the arena. */
int change_event(struct tx *tx, struct change *c, int64_t ordinal, const char *type,
                 const char *data, struct err *e);
void change_submit(struct change *c);

/* Error as stored ({"code","at","detail"}) and back. */
char *error_text(struct arena *a, const struct err *e);
void error_parse(const char *text, struct err *ret);

#endif
