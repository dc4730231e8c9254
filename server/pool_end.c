#include "server/pool_priv.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/arena.h"

void pool_kill_group(const struct worker *w, int sig)
{
    if (w->process.pid > 1)
        kill(-w->process.pid, sig);
}

static void copy_tail(const struct worker *w, char *ret)
{
    size_t n = w->tail_len < WORKER_TAIL_MAX ? w->tail_len : WORKER_TAIL_MAX;
    for (size_t i = 0; i < n; i++) {
        char c = w->tail[(w->tail_len - n + i) % WORKER_TAIL_MAX];
        ret[i] = c ? c : ' ';
    }
    ret[n] = '\0';
}

static bool is_crash(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGABRT ||
           sig == SIGSYS;
}

/* What the way it ended means, when it was not our doing. */
static enum err_code classify(const struct worker *w, char *ret, size_t ret_size)
{
    if (is_crash(w->term_signal)) {
        snprintf(ret, ret_size, "The worker was ended by signal %d (%s).", w->term_signal,
                 strsignal(w->term_signal));
        return ERR_WORKER_CRASH;
    }
    if (w->term_signal) {
        snprintf(ret, ret_size, "The worker was killed by signal %d (%s).", w->term_signal,
                 strsignal(w->term_signal));
        return ERR_WORKER_LOST;
    }
    if (w->exit_status == ARENA_EXIT) {
        snprintf(ret, ret_size, "The worker ran out of memory.");
        return ERR_MEMORY_LIMIT;
    }
    if (w->torn) {
        snprintf(ret, ret_size, "The worker's output ended inside a frame.");
        return ERR_WORKER_PROTOCOL;
    }
    if (w->exit_status) {
        snprintf(ret, ret_size, "The worker ended with status %d.", (int)w->exit_status);
        return ERR_WORKER_LOST;
    }
    return ERR_NONE;
}

static void on_closed(uv_handle_t *h)
{
    struct worker *w = h->data;
    if (--w->open_handles)
        return;
    buf_done(&w->bytes);
    free(w->pid_file);
    free(w);
}

static void close_one(struct worker *w, void *handle)
{
    uv_handle_t *h = handle;
    h->data = w;
    if (h->type != UV_UNKNOWN_HANDLE && !uv_is_closing(h)) {
        w->open_handles++;
        uv_close(h, on_closed);
    }
}

void pool_close(struct worker *w)
{
    close_one(w, &w->process);
    close_one(w, &w->in);
    close_one(w, &w->out);
    close_one(w, &w->err_pipe);
    close_one(w, &w->timer);
}

void pool_tell_gone(struct worker *w)
{
    if (w->told || !w->exited || !w->eof || w->paused || w->held_by_rate || w->in_message)
        return;
    w->told = true;
    w->torn = w->bytes.len > 0;
    pool_kill_group(w, SIGKILL); /* children that outlived it */
    struct worker_end end = {.signal = w->term_signal, .status = (int)w->exit_status};
    end.code = classify(w, end.detail, sizeof end.detail);
    if (w->reason.code != ERR_NONE) {
        end.code = w->reason.code;
        snprintf(end.detail, sizeof end.detail, "%s", w->reason.detail);
    }
    copy_tail(w, end.tail);
    if (w->pid_file)
        unlink(w->pid_file);
    pool_close(w);
    w->calls.gone(w->ctx, &end);
}
