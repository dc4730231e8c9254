/* Names for resources: job ids sort by time, model and dataset ids follow from content. */
#ifndef PTQ_SERVER_ID_H
#define PTQ_SERVER_ID_H

#include "common/sha256.h"

enum { ID_MAX = 40 /* bytes, with the zero byte */ };

/* "job_" and a ULID: in the order made, within one process. Loop thread. */
void id_new_job(char ret[ID_MAX]);
/* prefix ("mdl_", "dat_") and the first 26 characters of the digest in lower-case base 32. */
void id_of_digest(const char *prefix, const struct digest *d, char ret[ID_MAX]);

#endif
