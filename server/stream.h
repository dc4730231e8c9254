/*
 * Live event streams: SSE and NDJSON over the rows of the event log, nothing else. The hub is told
 * each row after its commit; it keeps the rendered rows of the jobs that somebody listens to for a
 * while, so that a thousand listeners cost one rendering. Who lags behind that, or comes in late,
 * reads the rows from the database. Loop thread only.
 */
#ifndef PTQ_SERVER_STREAM_H
#define PTQ_SERVER_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "server/store.h"

struct hub;
struct hub *hub_new(struct server *s);
void hub_free(struct hub *h); /* when no stream and no watch is left; needs one more loop turn */
/* A row that was committed; rows come in the order of seq. */
void hub_publish(struct hub *h, const struct event_row *row);
/* Something else about the job changed. */
void hub_touch(struct hub *h, const char *job);

/* Calls fn (once, from the loop) each time a row of the job is published or it is touched. */
struct watch;
struct watch *hub_watch(struct hub *h, const char *job, void (*fn)(void *ctx), void *ctx);
void hub_unwatch(struct watch *w);

enum { STREAM_JOBS_MAX = 100 };
struct events_opts {
    const char *jobs[STREAM_JOBS_MAX];
    bool ended[STREAM_JOBS_MAX]; /* the job was terminal when it was looked up */
    int n_jobs;
    int64_t after;
    bool sse, follow;
};
/* The reader behind a stream, apart from HTTP: events_more adds what is there to out, as
 * reply_stream's `more`; wake is called when there may be more. */
struct events;
struct events *events_open(struct hub *h, const struct events_opts *o, void (*wake)(void *ctx),
                           void *ctx);
bool events_more(void *events, struct buf *out);
void events_close(void *events);

/* One row as a line of JSON, without its newline. */
void event_line(struct buf *out, const struct event_row *row);
int hub_streams(const struct hub *h);

#endif
