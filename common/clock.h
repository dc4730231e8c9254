/* Two clocks: deadlines are monotonic, time stamps are wall time, and they never mix. */
#ifndef PTQ_COMMON_CLOCK_H
#define PTQ_COMMON_CLOCK_H

#include <stdint.h>

enum { CLOCK_ISO_MAX = 32 };

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_cpu_us(void);       /* CPU time of this process */
int64_t clock_wall_ms(void);      /* since 1970-01-01 UTC */
void clock_wall_move(int64_t ms); /* for tests: from now on wall time is so much later */
void clock_iso(int64_t wall_ms, char ret[CLOCK_ISO_MAX]); /* 2026-01-31T12:00:00.123Z */

#endif
