/* How much memory a job's processes held at most, shared pages counted once (Pss): each notes its
 * own where all see it. */
#ifndef PTQ_WORKER_JOBS_PEAK_H
#define PTQ_WORKER_JOBS_PEAK_H

#include <stdint.h>

struct peak;
struct peak *peak_new(void); /* before the children are forked */
void peak_free(struct peak *p);
/* This process, now; looks at most twice a second. */
void peak_note(struct peak *p);
/* The sum of each process's most; 0: this system does not tell. */
int64_t peak_bytes(const struct peak *p);

#endif
