#include "worker/jobs/peak.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"

enum { PROCESSES = 512, EVERY_MS = 500, TEXT_MAX = 2048 };

struct shared {
    int n;
    int64_t most[PROCESSES];
};
struct peak {
    struct shared *shared; /* NULL: there was no memory for it */
    pid_t owner;           /* of the place below */
    int place;
    int64_t next_ms;
};

struct peak *peak_new(void)
{
    struct peak *p = xcalloc(1, sizeof *p);
    p->shared =
        mmap(NULL, sizeof *p->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->shared == MAP_FAILED)
        p->shared = NULL;
    return p;
}

void peak_free(struct peak *p)
{
    if (p && p->shared)
        munmap(p->shared, sizeof *p->shared);
    free(p);
}

static int64_t pss_bytes(void)
{
    char text[TEXT_MAX];
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = '\0';
    const char *at = strstr(text, "\nPss:");
    return at ? strtoll(at + 5, NULL, 10) * 1024 : 0;
}

void peak_note(struct peak *p)
{
    int64_t now = clock_mono_ms();
    if (!p->shared || (p->owner == getpid() && now < p->next_ms))
        return;
    if (p->owner != getpid()) {
        p->owner = getpid();
        p->place = __atomic_fetch_add(&p->shared->n, 1, __ATOMIC_RELAXED);
    }
    p->next_ms = now + EVERY_MS;
    if (p->place >= PROCESSES)
        return;
    int64_t bytes = pss_bytes();
    if (bytes > p->shared->most[p->place])
        p->shared->most[p->place] = bytes;
}

int64_t peak_bytes(const struct peak *p)
{
    int64_t sum = 0;
    for (int i = 0; p->shared && i < p->shared->n && i < PROCESSES; i++)
        sum += p->shared->most[i];
    return sum;
}
