#include "tests/unit/map_kit.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"

static const struct task_kind test_kind = {.name = "test-task", .run = run_task};

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
