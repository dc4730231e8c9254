/* ULIDs: 48 bits of wall time in milliseconds and 80 random ones, 26 digits of Crockford's base 32.
 * Within one process they sort in the order made. Not thread-safe. */
#ifndef PTQ_SERVER_ULID_H
#define PTQ_SERVER_ULID_H

enum { ULID_SIZE = 27 /* with the zero byte */ };
void ulid_make(char ret[ULID_SIZE]);

#endif
