/*
 * job_map: a window of tasks moves over the list. Its tasks are looked up in the store, given in
 * order and by leases to children, and handed to `take` in order, whatever order they end in. So
 * the job sees the same results in the same order with any number of children, and the error of the
 * lowest task that fails, since all below it were given out before.
 */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/map.h"
#include "worker/jobs/core.h"

enum { LOOKED_UP = 128, LEASES_AHEAD = 4, PROGRESS_MS = 200, NONE = -1 };

enum entry_state { E_NEW, E_MISSING, E_RUNNING, E_TWIN, E_DONE };
struct entry {
    enum entry_state state;
    int twin; /* E_TWIN: the task with the same digest that is under way */
    char *bytes;
    size_t len;
};

struct run {
    struct job *j;
    const struct task_kind *kind;
    const char *phase;
    const struct task *tasks;
    int n;
    task_take *take;
    void *ctx;
    struct err *e;
    struct entry *entries;
    int front, looked, given; /* delivered, looked up, given out so far */
    int finished, computed;   /* results that are there; those of children */
    int limit;                /* the lowest task that failed, or n */
    struct err failure;       /* its error */
    struct arena arena;       /* the map below */
    struct map in_hand;       /* digest in hex → the lowest task with it */
    struct slots *slots;      /* NULL: not needed yet */
    int stage, entering;      /* entered last; the first task of the one being entered, or NONE */
    int64_t started_ms, told_ms;
};

static void digest_task(const struct job *j, const struct task_kind *kind, const void *common,
                        size_t common_len, struct task *t)
{
    struct sha256 *h = sha256_new();
    sha256_field(h, "task", 4);
    sha256_field(h, kind->name, strlen(kind->name));
    sha256_field(h, j->profile, strlen(j->profile));
    sha256_field(h, common, common_len);
    sha256_field(h, t->own, t->own_len);
    sha256_finish(h, &t->digest);
}

/* ---- progress ---- */

static int tell(struct run *r, bool now)
{
    int64_t t = clock_mono_ms();
    if (!now && t - r->told_ms < PROGRESS_MS)
        return 0;
    r->told_ms = t;
    double seconds = (double)(t - r->started_ms) / 1000;
    double rate = r->computed && seconds > 0 ? r->computed / seconds : -1;
    return job_progress(r->j, r->phase, r->finished, r->n, rate,
                        rate > 0 ? (r->n - r->finished) / rate : -1, r->e);
}

/* ---- looking up ---- */

/* A task with the digest of an earlier one waits for that one's result. */
static void mark_twin(struct run *r, int i)
{
    char hex[SHA256_HEX];
    digest_hex(&r->tasks[i].digest, hex);
    int first = map_get(&r->in_hand, hex);
    struct entry *en = &r->entries[i];
    if (first >= 0 && r->entries[first].state != E_DONE) {
        en->state = E_TWIN;
        en->twin = first;
    } else {
        map_set(&r->in_hand, arena_strdup(&r->arena, hex), i);
    }
}

/* The window's end: enough for every child to have leases in front of it. */
static int window_end(const struct run *r)
{
    int64_t end = r->front + (int64_t)LEASES_AHEAD * LEASE_MAX * (r->j->slots + 1);
    return end < r->limit ? (int)end : r->limit;
}

static int look_up(struct run *r)
{
    struct digest digests[LOOKED_UP];
    struct found found[LOOKED_UP];
    int which[LOOKED_UP], n = 0, end = window_end(r);
    for (; r->looked < end && n < LOOKED_UP; r->looked++) {
        mark_twin(r, r->looked);
        if (r->entries[r->looked].state == E_TWIN)
            continue;
        which[n] = r->looked;
        digests[n++] = r->tasks[r->looked].digest;
    }
    memset(found, 0, sizeof found);
    if (!n)
        return 0;
    int rc = r->j->io->lookup(r->j->io_ctx, digests, n, found, r->e);
    for (int k = 0; k < n; k++) {
        struct entry *en = &r->entries[which[k]];
        en->state = found[k].bytes ? E_DONE : E_MISSING;
        en->bytes = found[k].bytes;
        en->len = found[k].len;
        r->finished += en->state == E_DONE;
    }
    return rc;
}

/* ---- computing ---- */

static int open_slots(struct run *r)
{
    int left = r->n - r->given, want = r->j->slots < left ? r->j->slots : left;
    if (r->slots)
        return 0;
    r->started_ms = clock_mono_ms();
    if (r->kind->before && r->kind->before(r->ctx, r->e))
        return -1;
    r->slots = slots_open(want, r->kind, r->ctx, r->j->task_timeout_ms, r->e);
    return r->slots ? 0 : -1;
}

/* The task that is given out next, or NONE. */
static int next_missing(struct run *r)
{
    int end = r->looked < r->limit ? r->looked : r->limit;
    while (r->given < end && r->entries[r->given].state != E_MISSING)
        r->given++;
    return r->given < end ? r->given : NONE;
}

/* Missing tasks of one lease, from `first` on; *ret_end is behind the last. */
static int gather_lease(const struct run *r, int first, int ret[LEASE_MAX], int *ret_end)
{
    const struct task *t = &r->tasks[first];
    int end = r->looked < r->limit ? r->looked : r->limit, n = 0, i = first;
    for (; i < end && n < LEASE_MAX; i++) {
        if (i > first &&
            (!t->lease || r->tasks[i].lease != t->lease || r->tasks[i].stage != t->stage))
            break;
        if (r->entries[i].state == E_MISSING)
            ret[n++] = i;
    }
    *ret_end = i;
    return n;
}

/* One child enters the stage of task `first` when the others have ended the one before. */
static void enter_stage(struct run *r, int first)
{
    int what = SLOT_STAGE - r->tasks[first].stage;
    if (!slots_busy(r->slots) && slots_give(r->slots, &what, 1))
        r->entering = first;
}

static int give(struct run *r)
{
    int first, tasks[LEASE_MAX], end;
    while ((first = next_missing(r)) != NONE) {
        if (open_slots(r))
            return -1;
        if (r->entering != NONE)
            return 0;
        if (r->kind->enter && r->tasks[first].stage != r->stage) {
            enter_stage(r, first);
            return 0;
        }
        int n = gather_lease(r, first, tasks, &end);
        if (!slots_give(r->slots, tasks, n))
            return 0;
        for (int i = 0; i < n; i++)
            r->entries[tasks[i]].state = E_RUNNING;
        r->given = end;
    }
    return 0;
}

static void fail_at(struct run *r, int index, const struct err *e)
{
    if (index < 0 || index >= r->limit)
        return;
    r->limit = index;
    r->failure = *e;
}

static void stage_entered(struct run *r, const struct slot_result *got)
{
    if (got->rc)
        fail_at(r, r->entering, &got->e);
    free(got->bytes);
    r->stage = SLOT_STAGE - got->index;
    r->entering = NONE;
}

static int keep_result(struct run *r, struct slot_result *got)
{
    if (got->index <= SLOT_STAGE) {
        stage_entered(r, got);
        return 0;
    }
    if (got->rc) {
        fail_at(r, got->index, &got->e);
        return 0;
    }
    struct entry *en = &r->entries[got->index];
    *en = (struct entry){.state = E_DONE, .bytes = got->bytes, .len = got->len};
    r->finished++;
    r->computed++;
    return r->j->io->store(r->j->io_ctx, &r->tasks[got->index].digest, r->kind->name, got->bytes,
                           got->len, got->cpu_us, r->e);
}

/* One step of waiting; not at all when there is something to deliver. */
static int wait_for_one(struct run *r, bool ready)
{
    struct slot_result got;
    int what = slots_wait(r->slots, r->j->io_fd, ready ? 0 : PROGRESS_MS, &got, r->e);
    if (what < 0)
        return -1;
    if (what == 1 && keep_result(r, &got))
        return -1;
    if (what == 2 && r->j->io->listen(r->j->io_ctx, r->e))
        return -1;
    return tell(r, false);
}

/* ---- delivering ---- */

static void settle_twin(struct run *r, struct entry *en)
{
    const struct entry *first = &r->entries[en->twin];
    if (en->state != E_TWIN || first->state != E_DONE || !first->bytes)
        return;
    en->bytes = xmalloc(first->len + 1);
    memcpy(en->bytes, first->bytes, first->len + 1);
    en->len = first->len;
    en->state = E_DONE;
    r->finished++;
}

/* Twins copy before their first is delivered and gone. */
static void settle_twins_of(struct run *r, int first)
{
    for (int i = first + 1; i < r->looked; i++)
        if (r->entries[i].state == E_TWIN && r->entries[i].twin == first)
            settle_twin(r, &r->entries[i]);
}

static int deliver(struct run *r)
{
    struct entry *en = &r->entries[r->front];
    settle_twins_of(r, r->front);
    int rc = r->take(r->ctx, r->front, en->bytes, en->len, r->e);
    free(en->bytes);
    en->bytes = NULL;
    r->front++;
    return rc;
}

static int step(struct run *r)
{
    if (look_up(r) || give(r))
        return -1;
    bool ready = r->entries[r->front].state == E_DONE;
    if (r->slots && wait_for_one(r, ready))
        return -1;
    if (ready)
        return deliver(r) || tell(r, false) ? -1 : 0;
    return 0;
}

/* The whole in this process, for debuggers: no children, no crash is caught. */
static int run_inline(struct run *r)
{
    struct buf b;
    buf_init(&b, TASK_RESULT_MAX);
    int rc = r->kind->before && r->n ? r->kind->before(r->ctx, r->e) : 0;
    if (!rc && r->kind->start)
        rc = r->kind->start(r->ctx, r->e);
    for (int i = 0; i < r->n && !rc; i++) {
        buf_clear(&b);
        if (r->kind->enter && r->tasks[i].stage != r->stage)
            rc = r->kind->enter(r->ctx, r->tasks[i].stage, r->e);
        r->stage = r->tasks[i].stage;
        if (!rc)
            rc = r->kind->run(r->ctx, i, &b, r->e);
        if (!rc && b.full)
            rc = err_set(r->e, ERR_LIMIT, "", "A task's result is larger than %d bytes.",
                         TASK_RESULT_MAX);
        if (!rc)
            rc = r->take(r->ctx, i, b.data, b.len, r->e);
        r->finished = i + 1;
        if (!rc)
            rc = tell(r, false);
    }
    buf_done(&b);
    return rc;
}

static int run_window(struct run *r)
{
    while (r->front < r->limit)
        if (step(r))
            return -1;
    if (r->limit == r->n)
        return 0;
    *r->e = r->failure;
    return -1;
}

static void run_done(struct run *r)
{
    slots_close(r->slots);
    for (int i = 0; i < r->looked; i++)
        free(r->entries[i].bytes);
    free(r->entries);
    arena_done(&r->arena);
}

int job_map(struct job *j, const struct task_kind *kind, const char *phase, const void *common,
            size_t common_len, struct task *tasks, int n, task_take *take, void *ctx, struct err *e)
{
    if (j->broken.code != ERR_NONE) {
        *e = j->broken;
        return -1;
    }
    for (int i = 0; i < n; i++)
        digest_task(j, kind, common, common_len, &tasks[i]);
    struct run r = {.j = j,
                    .kind = kind,
                    .phase = phase,
                    .tasks = tasks,
                    .n = n,
                    .take = take,
                    .ctx = ctx,
                    .e = e,
                    .limit = n,
                    .stage = NONE,
                    .entering = NONE,
                    .started_ms = clock_mono_ms()};
    r.entries = xcalloc((size_t)n + 1, sizeof *r.entries);
    map_init(&r.in_hand, &r.arena);
    int rc = tell(&r, true);
    if (!rc)
        rc = j->slots > 0 ? run_window(&r) : run_inline(&r);
    if (!rc)
        rc = tell(&r, true);
    run_done(&r);
    return rc;
}
