#include "worker/jobs/core.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/json.h"
#include "tests/test.h"

enum { N = 300 };

/* ---- a store in memory that counts ---- */

struct row {
    struct digest d;
    char *bytes;
    size_t len;
};
struct memory {
    struct row rows[2 * N];
    int n, lookups, hits, stored, events, last_done;
};

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

static void memory_done(struct memory *m)
{
    for (int i = 0; i < m->n; i++)
        free(m->rows[i].bytes);
}

static const struct job_io memory_io = {
    .lookup = memory_lookup, .store = memory_store, .event = memory_event, .listen = memory_listen};

/* ---- a task kind whose faults can be chosen ---- */

enum fault { F_NONE, F_ERROR, F_SEGV, F_KILL, F_EXIT, F_MEMORY, F_HANG, F_LARGE };
struct world {
    enum fault fault[N];
    int delay_us[N];
    int order[N], n_taken; /* as take() saw them */
    uint64_t sum;          /* depends on the order */
    int fail_take;         /* take() fails at this index, or -1 */
    struct task tasks[N];
    char own[N][16];
};

static int run_task(void *ctx, int index, struct buf *ret, struct err *e)
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

static int take_result(void *ctx, int index, const void *result, size_t len, struct err *e)
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

static const struct task_kind test_kind = {.name = "test-task", .run = run_task};

static struct world *make_world(void)
{
    struct world *w = xcalloc(1, sizeof *w);
    w->fail_take = -1;
    for (int i = 0; i < N; i++) {
        snprintf(w->own[i], sizeof w->own[i], "task %d", i);
        w->tasks[i] = (struct task){.own = w->own[i], .own_len = strlen(w->own[i])};
    }
    return w;
}

static int map_with(struct world *w, struct memory *m, int slots, int n, int fd, struct err *e)
{
    struct job j = {.io = &memory_io,
                    .io_ctx = m,
                    .io_fd = fd,
                    .slots = slots,
                    .profile = "test engine",
                    .task_timeout_ms = 60000};
    m->last_done = 0;
    int rc = job_map(&j, &test_kind, "testing", "common", 6, w->tasks, n, take_result, w, e);
    CHECK(waitpid(-1, NULL, WNOHANG) <= 0); /* no child is left, not even a dead one */
    return rc;
}

static void check_order(const struct world *w, int n)
{
    CHECK_INT(w->n_taken, n);
    for (int i = 0; i < n; i++)
        CHECK_INT(w->order[i], i);
}

void test_map__results_come_in_order_for_any_number_of_slots(void)
{
    static const int slots[] = {0, 1, 2, 5};
    for (size_t s = 0; s < sizeof slots / sizeof slots[0]; s++) {
        struct world *w = make_world();
        struct memory m = {0};
        struct err e = ERR_INIT;
        for (int i = 0; i < N; i += 7)
            w->delay_us[i] = 2000;
        CHECK_OK(map_with(w, &m, slots[s], N, -1, &e), e);
        check_order(w, N);
        CHECK_INT(m.stored, slots[s] ? N : 0);
        CHECK_INT(m.last_done, N);
        CHECK(m.events >= 2);
        memory_done(&m);
        free(w);
    }
}

void test_map__a_second_run_computes_only_what_is_missing(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    CHECK_OK(map_with(w, &m, 2, 100, -1, &e), e);
    CHECK_INT(m.stored, 100);
    memset(w->order, 0, sizeof w->order);
    w->n_taken = 0;
    CHECK_OK(map_with(w, &m, 3, N, -1, &e), e);
    check_order(w, N);
    CHECK_INT(m.hits, 100);
    CHECK_INT(m.stored, N);
    memory_done(&m);
    free(w);
}

void test_map__equal_tasks_are_computed_once(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    for (int i = 0; i < N; i++) { /* seven different ones, the first slow */
        w->tasks[i].own = w->own[i % 7];
        w->tasks[i].own_len = strlen(w->own[i % 7]);
    }
    w->delay_us[0] = 20000;
    CHECK_OK(map_with(w, &m, 3, N, -1, &e), e);
    check_order(w, N);
    CHECK_INT(m.stored, 7);
    memory_done(&m);
    free(w);
}

void test_map__digests_depend_on_all_that_goes_in(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    struct job j = {.io = &memory_io,
                    .io_ctx = &m,
                    .io_fd = -1,
                    .slots = 1,
                    .profile = "p",
                    .task_timeout_ms = 1000};
    struct digest seen[4];
    for (int k = 0; k < 4; k++) {
        j.profile = k == 1 ? "q" : "p";
        w->tasks[0].own_len = k == 2 ? 5 : 6;
        w->own[0][k == 2 ? 5 : 6] = '\0';
        CHECK_OK(job_map(&j, &test_kind, "testing", "common", k == 3 ? 5 : 6, w->tasks, 1,
                         take_result, w, &e),
                 e);
        seen[k] = w->tasks[0].digest;
        w->n_taken = 0;
        m.last_done = 0;
        snprintf(w->own[0], sizeof w->own[0], "task 0");
        for (int i = 0; i < k; i++)
            CHECK(memcmp(&seen[i], &seen[k], sizeof seen[k]) != 0);
    }
    memory_done(&m);
    free(w);
}

/* One fault at 20 and a later one at 21: the lower wins, all below it were taken. */
static void expect_failure(enum fault fault, int slots, enum err_code code, const char *word)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    w->fault[20] = fault;
    w->fault[21] = F_ERROR;
    w->delay_us[20] = 3000;
    CHECK_INT(map_with(w, &m, slots, N, -1, &e), -1);
    if (e.code != code || !strstr(e.detail, word))
        FAIL("%s (code %d) does not say %s", e.detail, e.code, word);
    check_order(w, 20);
    memory_done(&m);
    free(w);
}

static void expect_failures(enum fault fault, enum err_code code, const char *word)
{
    expect_failure(fault, 1, code, word);
    expect_failure(fault, 2, code, word);
    expect_failure(fault, 5, code, word);
}

void test_map__the_error_of_the_lowest_task_wins(void)
{
    expect_failures(F_ERROR, ERR_BAD_DATA, "Sample 20 is bad.");
}

void test_map__a_crash_fails_the_job_and_names_the_task(void)
{
    expect_failures(F_SEGV, ERR_WORKER_CRASH, "Task 20 (test-task)");
}

void test_map__a_kill_from_outside_is_a_lost_worker(void)
{
    expect_failures(F_KILL, ERR_WORKER_LOST, "Task 20 (test-task)");
}

void test_map__a_child_that_exits_is_a_crash(void)
{
    expect_failures(F_EXIT, ERR_WORKER_CRASH, "status 3");
}

void test_map__a_child_without_memory_says_so(void)
{
    expect_failures(F_MEMORY, ERR_MEMORY_LIMIT, "memory");
}

void test_map__a_result_over_the_limit_is_an_error(void)
{
    expect_failure(F_LARGE, 2, ERR_LIMIT, "larger");
}

void test_map__a_child_that_hangs_is_ended(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    struct job j = {.io = &memory_io,
                    .io_ctx = &m,
                    .io_fd = -1,
                    .slots = 2,
                    .profile = "p",
                    .task_timeout_ms = 300};
    w->fault[5] = F_HANG;
    CHECK_INT(job_map(&j, &test_kind, "testing", "", 0, w->tasks, 10, take_result, w, &e), -1);
    CHECK_INT(e.code, ERR_TIMEOUT);
    CHECK(strstr(e.detail, "Task 5"));
    check_order(w, 5);
    CHECK(waitpid(-1, NULL, WNOHANG) <= 0);
    memory_done(&m);
    free(w);
}

void test_map__an_error_of_take_ends_the_map(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    w->fail_take = 4;
    w->fault[40] = F_SEGV;
    CHECK_INT(map_with(w, &m, 3, N, -1, &e), -1);
    CHECK_STR(e.detail, "I do not take 4.");
    memory_done(&m);
    free(w);
}

void test_map__cancel_ends_it_and_keeps_what_is_finished(void)
{
    struct world *w = make_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    int fds[2];
    CHECK_INT(pipe(fds), 0);
    CHECK_INT(write(fds[1], "x", 1), 1); /* something to listen to, once it waits */
    w->fault[3] = F_HANG;
    CHECK_INT(map_with(w, &m, 2, N, fds[0], &e), -1);
    CHECK_INT(e.code, ERR_CANCELLED);
    memory_done(&m);
    free(w);
}

/* The children's process ids go through a pipe; after their parent is killed it must come to its
 * end, because none of them holds it open any more. */
void test_map__children_die_with_their_parent(void)
{
    int fds[2];
    char byte;
    CHECK_INT(pipe(fds), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct world *w = make_world();
        struct memory m = {0};
        struct err e = ERR_INIT;
        for (int i = 0; i < N; i++)
            w->fault[i] = F_HANG;
        CHECK_INT(write(fds[1], "x", 1), 1);
        map_with(w, &m, 3, N, -1, &e);
        _exit(1);
    }
    close(fds[1]);
    CHECK_INT(read(fds[0], &byte, 1), 1);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    struct pollfd p = {fds[0], POLLIN, 0};
    CHECK_INT(poll(&p, 1, 5000), 1);
    CHECK_INT(read(fds[0], &byte, 1), 0);
}

/* ---- stages and leases ---- */

enum { STAGE = 30 };
struct staged {
    int32_t stage, entered, inside, overlaps; /* of all children: in shared memory */
};
static struct staged *staged;

static int enter_stage(void *ctx, int stage, struct err *e)
{
    struct world *w = ctx;
    if (w->fault[stage * STAGE] == F_EXIT)
        _exit(3);
    if (w->fault[stage * STAGE] == F_ERROR)
        return err_set(e, ERR_BAD_DATA, "", "Stage %d is bad.", stage);
    __atomic_add_fetch(&staged->overlaps, __atomic_load_n(&staged->inside, __ATOMIC_SEQ_CST) != 0,
                       __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&staged->entered, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&staged->stage, stage, __ATOMIC_SEQ_CST);
    return 0;
}

static int run_staged(void *ctx, int index, struct buf *ret, struct err *e)
{
    __atomic_add_fetch(&staged->inside, 1, __ATOMIC_SEQ_CST);
    bool right = __atomic_load_n(&staged->stage, __ATOMIC_SEQ_CST) == index / STAGE;
    int rc = run_task(ctx, index, ret, e);
    __atomic_add_fetch(&staged->inside, -1, __ATOMIC_SEQ_CST);
    return right ? rc : err_set(e, ERR_INTERNAL, "", "Task %d ran in another stage.", index);
}

static int map_staged(struct world *w, struct memory *m, int slots, struct err *e)
{
    static const struct task_kind kind = {
        .name = "test-task", .run = run_staged, .enter = enter_stage};
    struct job j = {.io = &memory_io,
                    .io_ctx = m,
                    .io_fd = -1,
                    .slots = slots,
                    .profile = "p",
                    .task_timeout_ms = 60000};
    for (int i = 0; i < N; i++) {
        w->tasks[i].stage = i / STAGE;
        w->tasks[i].lease = 1 + i / 7; /* some end with their stage */
    }
    m->last_done = 0;
    *staged = (struct staged){.stage = -1};
    return job_map(&j, &kind, "testing", "common", 6, w->tasks, N, take_result, w, e);
}

static struct world *staged_world(void)
{
    staged = mmap(NULL, sizeof *staged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(staged != MAP_FAILED);
    return make_world();
}

void test_map__a_stage_is_entered_once_when_the_one_before_has_ended(void)
{
    for (int slots = 0; slots < 5; slots += 2) {
        struct world *w = staged_world();
        struct memory m = {0};
        struct err e = ERR_INIT;
        for (int i = 0; i < N; i += 11)
            w->delay_us[i] = 1000;
        CHECK_OK(map_staged(w, &m, slots, &e), e);
        check_order(w, N);
        CHECK_INT(staged->entered, N / STAGE);
        CHECK_INT(staged->overlaps, 0);
        memory_done(&m);
        free(w);
    }
}

void test_map__a_stage_whose_tasks_are_known_is_not_entered(void)
{
    struct world *w = staged_world();
    struct memory m = {0};
    struct err e = ERR_INIT;
    CHECK_OK(map_staged(w, &m, 2, &e), e);
    for (int i = 0; i < m.n; i++) /* one task of stage 4 is forgotten */
        if (!strcmp(m.rows[i].bytes, "result of task 130"))
            m.rows[i].d.bytes[0] ^= 1;
    w->n_taken = 0;
    CHECK_OK(map_staged(w, &m, 2, &e), e);
    check_order(w, N);
    CHECK_INT(staged->entered, 1);
    CHECK_INT(m.stored, N + 1);
    memory_done(&m);
    free(w);
}

static void expect_stage_failure(enum fault fault, enum err_code code, const char *word)
{
    for (int slots = 1; slots < 4; slots++) {
        struct world *w = staged_world();
        struct memory m = {0};
        struct err e = ERR_INIT;
        w->fault[5 * STAGE] = fault;
        CHECK_INT(map_staged(w, &m, slots, &e), -1);
        CHECK_INT(e.code, code);
        CHECK(strstr(e.detail, word));
        check_order(w, 5 * STAGE);
        memory_done(&m);
        free(w);
    }
}

void test_map__what_fails_in_a_stage_s_beginning_fails_the_job(void)
{
    expect_stage_failure(F_ERROR, ERR_BAD_DATA, "Stage 5 is bad.");
    expect_stage_failure(F_EXIT, ERR_WORKER_CRASH, "Stage 5 (test-task)");
}

void test_map__a_crash_in_a_lease_names_the_task(void)
{
    for (int slots = 1; slots < 4; slots++) {
        struct world *w = staged_world();
        struct memory m = {0};
        struct err e = ERR_INIT;
        w->fault[73] = F_SEGV; /* in the middle of its lease */
        CHECK_INT(map_staged(w, &m, slots, &e), -1);
        CHECK_INT(e.code, ERR_WORKER_CRASH);
        CHECK(strstr(e.detail, "Task 73 (test-task)"));
        check_order(w, 73);
        memory_done(&m);
        free(w);
    }
}
