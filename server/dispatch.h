/*
 * Jobs on their way through the workers: takes queued ones by priority and time, gives each some
 * of the slots, and sees them to their end. A job whose worker is lost is queued again, up to
 * LOST_MAX attempts in a row that stored no new task result. Loop thread only.
 */
#ifndef PTQ_SERVER_DISPATCH_H
#define PTQ_SERVER_DISPATCH_H

#include <stdbool.h>

#include "common/err.h"
#include "server/server.h"

enum { LOST_MAX = 5 };

struct dispatch;
struct dispatch *dispatch_new(struct server *s);
/* After a start: ends worker groups that an earlier daemon left, puts its running jobs back into
 * the queue, removes folders that nobody needs. Before any job or inspection is begun. */
int dispatch_recover(struct dispatch *d, struct err *e);
/* There may be something to do: a job was queued. */
void dispatch_kick(struct dispatch *d);
/* The job's row was set to `cancelling`: ends its worker. */
void dispatch_cancel(struct dispatch *d, const char *job);
/* Ends the workers; their jobs go back to the queue. Nothing is begun any more. */
void dispatch_stop(struct dispatch *d);
bool dispatch_idle(const struct dispatch *d);
void dispatch_free(struct dispatch *d); /* when idle; needs one more loop turn */

struct dispatch_stats {
    int running, slots_free, slots;
    int64_t lost; /* workers, since the start */
};
void dispatch_stats(const struct dispatch *d, struct dispatch_stats *ret);

#endif
