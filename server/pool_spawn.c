#include "server/pool_priv.h"

#include <stdlib.h>

#include "common/arena.h"
#include "server/background.h"

enum { ENV_MAX = 16 };

/* The environment is the daemon's, cut down to what a worker has a use for. */
static void make_env(char **ret, struct arena *a)
{
    static const char *const kept[] = {"PATH",         "HOME",          "TMPDIR",
                                       "ASAN_OPTIONS", "UBSAN_OPTIONS", "OPENBLAS_CORETYPE",
                                       "PTQ_BACKEND"};
    int n = 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (getenv(kept[i]))
            ret[n++] = arena_printf(a, "%s=%s", kept[i], getenv(kept[i]));
    ret[n++] = arena_strdup(a, "LC_ALL=C");
    ret[n++] = arena_strdup(a, "OPENBLAS_NUM_THREADS=1");
    ret[n++] = arena_strdup(a, "OMP_NUM_THREADS=1");
    ret[n] = NULL;
}

int pool_spawn(struct worker *w, uv_loop_t *loop, uv_exit_cb on_exit)
{
    struct arena a = ARENA_INIT;
    char *env[ENV_MAX];
    make_env(env, &a);
    char *args[] = {(char *)w->opts.path, (char *)"--pipe", NULL};
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&w->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&w->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&w->err_pipe}};
    uv_process_options_t po = {.file = w->opts.path,
                               .args = args,
                               .env = env,
                               .exit_cb = on_exit,
                               .flags = UV_PROCESS_DETACHED,
                               .stdio = stdio,
                               .stdio_count = 3};
    int rc = uv_spawn(loop, &w->process, &po);
    arena_done(&a);
    if (!rc && w->opts.nice) /* before it has started a child or a thread: they all inherit it */
        background_process(w->process.pid, w->opts.nice);
    return rc;
}
