/*
 * The children of a job: forked with the process's memory as it is, each single-threaded, fed a
 * lease of tasks at a time over a socket pair. A task is an index, each has a reply: a head and its
 * bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "worker/jobs/core.h"

enum { SLOTS_MAX = 256, REPLY_STALL_S = 20, TASK_NAME_MAX = 96 };

struct slot {
    pid_t pid; /* 0: gone */
    int fd;
    int index; /* the task it computes, or SLOT_IDLE */
    int n, at; /* the lease: index is queue[at] */
    int queue[LEASE_MAX];
    int64_t deadline_ms;
};

struct slots {
    int n, timeout_ms;
    const char *kind;
    struct slot slot[];
};

struct reply {
    int32_t index, rc;
    uint64_t len;
    int64_t cpu_us;
};

/* ---- in the child ---- */

static bool send_all(int fd, const void *data, size_t len)
{
    for (const char *p = data; len;) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool receive_all(int fd, void *data, size_t len)
{
    for (char *p = data; len;) {
        ssize_t n = recv(fd, p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static bool answer(int fd, int index, int rc, const struct err *e, const struct buf *b, int64_t cpu)
{
    struct reply r = {index, rc, rc ? sizeof *e : b->len, cpu};
    return send_all(fd, &r, sizeof r) && send_all(fd, rc ? (const char *)e : b->data, r.len);
}

static bool run_one(int fd, const struct task_kind *kind, void *ctx, int index, struct buf *b)
{
    struct err e = ERR_INIT;
    int64_t cpu = clock_cpu_us();
    buf_clear(b);
    int rc = index <= SLOT_STAGE ? kind->enter(ctx, SLOT_STAGE - index, &e)
                                 : kind->run(ctx, index, b, &e);
    if (!rc && b->full)
        rc =
            err_set(&e, ERR_LIMIT, "", "A task's result is larger than %d bytes.", TASK_RESULT_MAX);
    return answer(fd, index, rc, &e, b, clock_cpu_us() - cpu);
}

static bool receive_lease(int fd, int32_t *ret_tasks, int32_t *ret_n)
{
    return receive_all(fd, ret_n, sizeof *ret_n) && *ret_n > 0 && *ret_n <= LEASE_MAX &&
           receive_all(fd, ret_tasks, (size_t)*ret_n * sizeof *ret_tasks);
}

static void child_main(int fd, const struct task_kind *kind, void *ctx)
{
    struct err e = ERR_INIT;
    struct buf b;
    int32_t tasks[LEASE_MAX], n;
    buf_init(&b, TASK_RESULT_MAX);
    int rc = kind->start ? kind->start(ctx, &e) : 0;
    while (receive_lease(fd, tasks, &n))
        for (int i = 0; i < n; i++)
            if (rc ? !answer(fd, tasks[i], rc, &e, &b, 0) : !run_one(fd, kind, ctx, tasks[i], &b))
                _exit(0);
    _exit(0);
}

/* The child keeps its socket and standard error: nothing else of the parent's is its business. */
static void become_child(struct slots *s, int fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    for (int i = 0; i < s->n; i++)
        close(s->slot[i].fd);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        _exit(1);
    close(null);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* ---- in the parent ---- */

static int start_slot(struct slots *s, const struct task_kind *kind, void *ctx, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return err_errno(e, "", "A socket for a child process cannot be made");
    struct timeval stall = {.tv_sec = REPLY_STALL_S};
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof stall);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        close(pair[0]);
        close(pair[1]);
        return err_errno(e, "", "A child process cannot be made");
    }
    if (pid == 0) {
        close(pair[0]);
        become_child(s, pair[1], parent);
        child_main(pair[1], kind, ctx);
    }
    close(pair[1]);
    s->slot[s->n++] = (struct slot){.pid = pid, .fd = pair[0], .index = SLOT_IDLE};
    return 0;
}

struct slots *slots_open(int n, const struct task_kind *kind, void *ctx, int timeout_ms,
                         struct err *e)
{
    n = n < 1 ? 1 : n > SLOTS_MAX ? SLOTS_MAX : n;
    struct slots *s = xcalloc(1, sizeof *s + (size_t)n * sizeof s->slot[0]);
    s->timeout_ms = timeout_ms;
    s->kind = kind->name;
    for (int i = 0; i < n; i++)
        if (start_slot(s, kind, ctx, e)) {
            slots_close(s);
            return NULL;
        }
    return s;
}

static int reap(struct slot *sl)
{
    int status = 0;
    while (waitpid(sl->pid, &status, 0) < 0 && errno == EINTR)
        ;
    sl->pid = 0;
    return status;
}

void slots_close(struct slots *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        if (s->slot[i].pid)
            kill(s->slot[i].pid, SIGKILL);
    for (int i = 0; i < s->n; i++) {
        if (s->slot[i].pid)
            reap(&s->slot[i]);
        if (s->slot[i].fd >= 0)
            close(s->slot[i].fd);
    }
    free(s);
}

bool slots_give(struct slots *s, const int *tasks, int n)
{
    for (int i = 0; i < s->n; i++) {
        struct slot *sl = &s->slot[i];
        if (!sl->pid || sl->index != SLOT_IDLE)
            continue;
        int32_t message[LEASE_MAX + 1] = {n};
        memcpy(sl->queue, tasks, (size_t)n * sizeof *tasks);
        memcpy(message + 1, tasks, (size_t)n * sizeof *tasks);
        sl->n = n;
        sl->at = 0;
        sl->index = tasks[0];
        sl->deadline_ms = clock_mono_ms() + s->timeout_ms;
        /* a dead child is noticed by its end of file */
        send_all(sl->fd, message, (size_t)(n + 1) * sizeof *message);
        return true;
    }
    return false;
}

/* Its answer is there: it goes on with the next of its lease, if there is one. */
static void next_task(const struct slots *s, struct slot *sl)
{
    sl->at++;
    sl->index = sl->at < sl->n ? sl->queue[sl->at] : SLOT_IDLE;
    sl->deadline_ms = clock_mono_ms() + s->timeout_ms;
}

int slots_busy(const struct slots *s)
{
    int busy = 0;
    for (int i = 0; i < s->n; i++)
        busy += s->slot[i].index != SLOT_IDLE;
    return busy;
}

/* How messages name what a child does. */
static const char *task_name(const struct slots *s, int index, char ret[TASK_NAME_MAX])
{
    bool stage = index <= SLOT_STAGE;
    snprintf(ret, TASK_NAME_MAX, "%s %d (%s)", stage ? "Stage" : "Task",
             stage ? SLOT_STAGE - index : index, s->kind);
    return ret;
}

/* How a child ended, as an error that names its task. */
static void classify(const struct slots *s, int index, int status, struct err *e)
{
    char name[TASK_NAME_MAX];
    task_name(s, index, name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == ARENA_EXIT)
        err_set(e, ERR_MEMORY_LIMIT, "", "%s needs more memory than there is.", name);
    else if (WIFEXITED(status))
        err_set(e, ERR_WORKER_CRASH, "", "%s: the process ended by itself, status %d.", name,
                WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGKILL)
        err_set(e, ERR_WORKER_LOST, "",
                "%s: the process was killed from outside, perhaps because the machine has no "
                "memory left.",
                name);
    else if (WTERMSIG(status) == SIGXCPU)
        err_set(e, ERR_TIMEOUT, "", "%s took more processor time than it may.", name);
    else
        err_set(e, ERR_WORKER_CRASH, "", "%s: the process crashed: %s.", name,
                strsignal(WTERMSIG(status)));
}

static void end_slot(struct slots *s, struct slot *sl, struct slot_result *ret)
{
    char c;
    bool late = sl->index != SLOT_IDLE && clock_mono_ms() >= sl->deadline_ms;
    bool alive = recv(sl->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
    if (late || alive)
        kill(sl->pid, SIGKILL);
    int status = reap(sl);
    char name[TASK_NAME_MAX];
    *ret = (struct slot_result){.index = sl->index, .rc = -1};
    if (late)
        err_set(&ret->e, ERR_TIMEOUT, "", "%s took more than %d s and was ended.",
                task_name(s, sl->index, name), s->timeout_ms / 1000);
    else if (alive)
        err_set(&ret->e, ERR_WORKER_CRASH, "", "%s: the process gave a torn answer.",
                task_name(s, sl->index, name));
    else
        classify(s, sl->index, status, &ret->e);
    close(sl->fd);
    sl->fd = -1;
    sl->index = SLOT_IDLE;
}

static void read_slot(struct slots *s, struct slot *sl, struct slot_result *ret)
{
    struct reply r;
    *ret = (struct slot_result){0};
    bool ok = receive_all(sl->fd, &r, sizeof r) && r.index == sl->index &&
              r.len <= TASK_RESULT_MAX && (!r.rc || r.len == sizeof ret->e);
    char *bytes = ok ? xmalloc(r.len + 1) : NULL;
    if (!ok || !receive_all(sl->fd, bytes, r.len)) {
        free(bytes);
        end_slot(s, sl, ret);
        return;
    }
    bytes[r.len] = '\0';
    *ret = (struct slot_result){.index = r.index, .rc = r.rc, .cpu_us = r.cpu_us};
    if (r.rc) {
        memcpy(&ret->e, bytes, sizeof ret->e);
        free(bytes);
    } else {
        ret->bytes = bytes;
        ret->len = r.len;
    }
    next_task(s, sl);
}

/* The time until the first deadline of a busy child, at most timeout_ms. */
static int wait_time(const struct slots *s, int timeout_ms)
{
    int64_t now = clock_mono_ms(), least = timeout_ms;
    for (int i = 0; i < s->n; i++)
        if (s->slot[i].index != SLOT_IDLE && s->slot[i].deadline_ms - now < least)
            least = s->slot[i].deadline_ms - now;
    return least < 0 ? 0 : (int)least;
}

static struct slot *overdue(struct slots *s)
{
    for (int i = 0; i < s->n; i++)
        if (s->slot[i].index != SLOT_IDLE && clock_mono_ms() >= s->slot[i].deadline_ms)
            return &s->slot[i];
    return NULL;
}

int slots_wait(struct slots *s, int fd, int timeout_ms, struct slot_result *ret, struct err *e)
{
    struct pollfd p[SLOTS_MAX + 1];
    for (int i = 0; i < s->n; i++) /* an idle child that dies is noticed when it gets a task */
        p[i] = (struct pollfd){s->slot[i].index == SLOT_IDLE ? -1 : s->slot[i].fd, POLLIN, 0};
    p[s->n] = (struct pollfd){fd, POLLIN, 0};
    int n = poll(p, (nfds_t)s->n + 1, wait_time(s, timeout_ms));
    if (n < 0)
        return errno == EINTR ? 0 : err_errno(e, "", "Waiting for the children failed");
    if (p[s->n].revents)
        return 2;
    for (int i = 0; i < s->n; i++)
        if (p[i].revents) {
            read_slot(s, &s->slot[i], ret);
            return 1;
        }
    struct slot *late = overdue(s);
    if (!late)
        return 0;
    end_slot(s, late, ret);
    return 1;
}
