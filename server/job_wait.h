/* Answers that wait for a job: `Prefer: wait=n`. */
#ifndef PTQ_SERVER_JOB_WAIT_H
#define PTQ_SERVER_JOB_WAIT_H

#include "server/http.h"

/* Replies with the job as it is now. */
void job_reply(struct req *r, int status, const char *id);
/* The same, but up to `seconds` later: when the job has ended or, if the request has
 * If-None-Match, when it differs from that. */
void job_reply_later(struct req *r, int status, const char *id, int seconds);
/* Answers all that wait, at once. */
void job_waits_end(void);

#endif
