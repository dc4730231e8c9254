/* One attempt at a job, from the claim of its row to the row that tells how it went. Private to
 * dispatch.c and the attempt files. */
#ifndef PTQ_SERVER_ATTEMPT_H
#define PTQ_SERVER_ATTEMPT_H

#include "server/run.h"
#include "server/store.h"

/* What is to be written when it is over; kept until it is, whatever the disk says. */
struct outcome {
    const char *state; /* succeeded, failed, cancelled; queued: by `lost` or `reason` */
    const char *verdict, *result;
    uint64_t result_size;
    struct err err;
    bool lost; /* count it, and decide between queued and failed */
    int signal;
    int64_t tasks;
    const char *reason; /* why it is queued again through no fault of its worker */
};

struct attempt {
    struct attempt *next;
    struct server *server;
    struct arena arena;
    char id[ID_MAX];
    struct job_row row; /* as claimed */
    int slots;
    struct run *run;
    bool cancelled, stopping, unwritten;
    void (*over)(void *ctx, struct attempt *a, bool lost); /* frees it */
    void *ctx;
    /* Progress: the last one told by the worker, and whether it is stored. */
    json_t *progress;
    bool progress_dirty;
    int64_t hits, phase_ms;
    double phase_done;
    int loose_events;
    /* The end. */
    json_t *result;
    struct outcome outcome;
};

struct attempt *attempt_start(struct server *s, const char *id, int slots,
                              void (*over)(void *ctx, struct attempt *a, bool lost), void *ctx);
void attempt_free(struct attempt *a);
/* Ends the worker: for a cancelled job, or (stopping) because the daemon goes. */
void attempt_cancel(struct attempt *a, bool stopping);
/* A few times a second: stores progress, tries again what could not be written. */
void attempt_tick(struct attempt *a);
void attempt_store_progress(struct attempt *a);

/* attempt_end.c */
void attempt_end(struct attempt *a, const struct run_end *end);
void attempt_fail(struct attempt *a, const struct err *e);
void attempt_requeue(struct attempt *a, const char *reason);
void attempt_write_outcome(struct attempt *a);

#endif
