/* Stages and leases of job_map. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/unit/map_kit.h"

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

void test_lease__a_stage_is_entered_once_when_the_one_before_has_ended(void)
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

void test_lease__a_stage_whose_tasks_are_known_is_not_entered(void)
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

void test_lease__what_fails_in_a_stage_s_beginning_fails_the_job(void)
{
    expect_stage_failure(F_ERROR, ERR_BAD_DATA, "Stage 5 is bad.");
    expect_stage_failure(F_EXIT, ERR_WORKER_CRASH, "Stage 5 (test-task)");
}

void test_lease__a_crash_in_a_lease_names_the_task(void)
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
