#include "server/background.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    THREAD_NICE = 10,
    IO_WHO_PROCESS = 1,
    IO_BEST_EFFORT_LAST = 2 << 13 | 7
}; /* ioprio_set(2) */

static void lower(int id, int nice)
{
    setpriority(PRIO_PROCESS, (id_t)id, getpriority(PRIO_PROCESS, 0) + nice);
    sched_setscheduler(id, SCHED_BATCH, &(struct sched_param){0});
    syscall(SYS_ioprio_set, IO_WHO_PROCESS, id, IO_BEST_EFFORT_LAST);
}

/* A worker leads a session: where the scheduler shares the machine out among sessions first
 * (sched(7), autogroup), a process's nice value counts among its own kind only. */
static void lower_session(int pid, int nice)
{
    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/%d/autogroup", pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC), n = snprintf(text, sizeof text, "%d", nice);
    if (fd < 0)
        return;
    ssize_t ignored = write(fd, text, (size_t)n);
    (void)ignored;
    close(fd);
}

void background_process(int pid, int nice)
{
    lower(pid, nice);
    lower_session(pid, nice);
}

void background_thread(void)
{
    static _Thread_local bool lowered;
    if (lowered)
        return;
    lowered = true;
    lower((int)syscall(SYS_gettid), THREAD_NICE);
}
