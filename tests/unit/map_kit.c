#include "tests/unit/map_kit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "tests/test.h"

/* ---- a store in memory that counts ---- */

static struct row *find(struct memory *m, const struct digest *d)
{
    for (int i = 0; i < m->n; i++)
        if (!memcmp(&m->rows[i].d, d, sizeof *d))
            return &m->rows[i];
    return NULL;
}

static int memory_lookup(void *ctx, const struct digest *digests, int n, struct found *ret,
                         struct err *e)
{
    struct memory *m = ctx;
    (void)e;
    for (int i = 0; i < n; i++) {
        struct row *r = find(m, &digests[i]);
        m->lookups++;
        if (!r)
            continue;
        m->hits++;
        ret[i] = (struct found){xmalloc(r->len + 1), r->len};
        memcpy(ret[i].bytes, r->bytes, r->len + 1);
    }
    return 0;
}

static int memory_store(void *ctx, const struct digest *d, const char *kind, const void *result,
                        size_t len, int64_t cpu_us, struct err *e)
{
    struct memory *m = ctx;
    (void)e;
    CHECK_STR(kind, "test-task");
    CHECK(cpu_us >= 0);
    CHECK(!find(m, d));
    struct row *r = &m->rows[m->n++];
    *r = (struct row){*d, xmalloc(len + 1), len};
    memcpy(r->bytes, result, len);
    r->bytes[len] = '\0';
    m->stored++;
    return 0;
}

static int memory_event(void *ctx, int64_t ordinal, const char *type, const json_t *data,
                        struct err *e)
{
    struct memory *m = ctx;
    (void)e;
    CHECK_INT(ordinal, -1);
    CHECK_STR(type, "progress");
    CHECK_STR(json_str(data, "phase", ""), "testing");
    CHECK(json_int(data, "done", -1) >= m->last_done);
    m->last_done = (int)json_int(data, "done", -1);
    m->events++;
    return 0;
}

static int memory_listen(void *ctx, struct err *e)
{
    (void)ctx;
    return err_set(e, ERR_CANCELLED, "", "The job was cancelled.");
}

void memory_done(struct memory *m)
{
    for (int i = 0; i < m->n; i++)
        free(m->rows[i].bytes);
}

const struct job_io memory_io = {
    .lookup = memory_lookup, .store = memory_store, .event = memory_event, .listen = memory_listen};

/* ---- a task kind whose faults can be chosen ---- */

int run_task(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct world *w = ctx;
    if (w->delay_us[index])
        usleep((useconds_t)w->delay_us[index]);
    switch (w->fault[index]) {
    case F_NONE:
        break;
    case F_ERROR:
        return err_set(e, ERR_BAD_DATA, "sample", "Sample %d is bad.", index);
    case F_SEGV:
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
        break;
    case F_KILL:
        raise(SIGKILL);
        break;
    case F_EXIT:
        _exit(3);
    case F_MEMORY:
        _exit(ARENA_EXIT);
    case F_HANG:
        for (;;)
            pause();
    case F_LARGE:
        for (int i = 0; i < 2000; i++)
            buf_add(ret, w, sizeof *w < 1024 ? sizeof *w : 1024);
        break;
    }
    buf_addf(ret, "result of %s", (const char *)w->tasks[index].own);
    return 0;
}

int take_result(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct world *w = ctx;
    char want[64];
    snprintf(want, sizeof want, "result of %s", (const char *)w->tasks[index].own);
    CHECK_INT(len, strlen(want));
    CHECK_STR(result, want);
    if (index == w->fail_take)
        return err_set(e, ERR_INVALID, "", "I do not take %d.", index);
    w->order[w->n_taken++] = index;
    w->sum = w->sum * 31 + (uint64_t)index;
    return 0;
}

struct world *make_world(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->fail_take = -1;
    for (int i = 0; i < N; i++) {
        snprintf(w->own[i], sizeof w->own[i], "task %d", i);
        w->tasks[i] = (struct task){.own = w->own[i], .own_len = strlen(w->own[i])};
    }
    return w;
}

void check_order(const struct world *w, int n)
{
    CHECK_INT(w->n_taken, n);
    for (int i = 0; i < n; i++)
        CHECK_INT(w->order[i], i);
}
