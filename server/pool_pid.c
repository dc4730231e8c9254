#include "server/pool_pid.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "server/pool.h"

enum { REAP_TRIES = 400, REAP_WAIT_US = 5000 };

/* The 22nd field of /proc/PID/stat (proc(5)): clock ticks from boot to the start. 0 if there is no
 * such process, or only its zombie is left. */
static unsigned long long start_time(int pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    char *p = strrchr(text, ')'); /* the name before it may hold anything */
    unsigned long long t = 0;
    char state = 'Z';
    if (!p || sscanf(p + 1,
                     " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
                     "%*d %*d %llu",
                     &state, &t) != 2)
        return 0;
    return state == 'Z' ? 0 : t;
}

int pid_file_write(const char *path, int pid, struct err *e)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return err_errno(e, path, "The pid file cannot be made");
    fprintf(f, "%d %llu\n", pid, start_time(pid));
    return fclose(f) ? err_errno(e, path, "The pid file cannot be written") : 0;
}

static void end_group(int pid, unsigned long long started)
{
    log_event(LOG_WARN, "worker.leftover", "Ending the worker group %d of an earlier daemon.", pid);
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    for (int i = 0; i < REAP_TRIES && start_time(pid) == started; i++)
        usleep(REAP_WAIT_US);
}

void pool_reap_leftover(const char *pid_file)
{
    FILE *f = fopen(pid_file, "re");
    if (!f)
        return;
    int pid = 0;
    unsigned long long started = 0;
    int n = fscanf(f, "%d %llu", &pid, &started);
    fclose(f);
    if (n == 2 && pid > 1 && started && start_time(pid) == started)
        end_group(pid, started);
    unlink(pid_file);
}
