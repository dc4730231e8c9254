#include "common/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

int64_t clock_cpu_us(void)
{
    return read_us(CLOCK_PROCESS_CPUTIME_ID);
}

static _Atomic int64_t moved_ms;

int64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000 + moved_ms;
}

void clock_wall_move(int64_t ms)
{
    moved_ms += ms;
}

void clock_iso(int64_t wall_ms, char ret[CLOCK_ISO_MAX])
{
    int64_t ms = ((wall_ms % 1000) + 1000) % 1000;
    time_t seconds = (time_t)((wall_ms - ms) / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char head[24];
    strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret, CLOCK_ISO_MAX, "%s.%03dZ", head, (int)ms);
}
