#include "server/pool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/clock.h"
#include "tests/test.h"

/* One worker of tests/unit/fake_worker.c, from its start to its end. */
static struct {
    uv_loop_t loop;
    struct worker *worker;
    struct worker_end end;
    bool gone;
    int messages, hold_at, hold_ms, cancel_at, pid;
    int64_t hello_ms, cancel_ms;
    bool hello, finished, told;
    uv_timer_t timer;
} t;

static void on_message(void *ctx, const Ptq__FromWorker *m)
{
    (void)ctx;
    t.messages++;
    if (t.messages == 1)
        t.hello_ms = clock_mono_ms();
    t.hello = t.hello || m->hello;
    t.finished = t.finished || m->finish;
    if (t.messages == t.hold_at)
        worker_pause(t.worker);
    if (t.messages == t.cancel_at) {
        t.cancel_ms = clock_mono_ms();
        worker_cancel(t.worker);
    }
}

static void on_gone(void *ctx, const struct worker_end *end)
{
    (void)ctx;
    CHECK(!t.gone);
    t.gone = true;
    t.end = *end;
    t.worker = NULL;
}

static void start_worker(const char *how, struct worker_opts o)
{
    static const struct worker_calls calls = {on_message, on_gone};
    struct err e = ERR_INIT;
    uv_loop_init(&t.loop);
    if (!o.path)
        o.path = "/proc/self/exe";
    o.hello_ms = o.hello_ms ? o.hello_ms : 20000;
    o.grace_ms = o.grace_ms ? o.grace_ms : 200;
    o.bytes_max = o.bytes_max ? o.bytes_max : 1 << 30;
    t.worker = worker_start(&t.loop, &o, &calls, NULL, &e);
    CHECK(t.worker != NULL);
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    Ptq__Start start = PTQ__START__INIT;
    start.job_id = (char *)"job";
    start.kind = (char *)how;
    start.spec = (char *)"{}";
    start.slots = 1;
    start.out_dir = (char *)test_dir();
    m.message_case = PTQ__TO_WORKER__MESSAGE_START;
    m.start = &start;
    worker_send(t.worker, &m);
}

static void run_to_end(void)
{
    uv_run(&t.loop, UV_RUN_DEFAULT);
    CHECK(t.gone);
    CHECK_INT(uv_loop_close(&t.loop), 0);
}

static void run_worker(const char *how)
{
    start_worker(how, (struct worker_opts){0});
    run_to_end();
}

void test_pool__a_worker_that_ends_in_order_is_no_error(void)
{
    run_worker("inspect-data");
    CHECK_INT(t.end.code, ERR_NONE);
    CHECK(t.hello && t.finished);
    CHECK_INT(t.messages, 3);
}

void test_pool__a_crash_in_the_middle_of_a_frame_is_a_crash(void)
{
    run_worker("torn");
    CHECK_INT(t.end.code, ERR_WORKER_CRASH);
    CHECK_INT(t.end.signal, SIGSEGV);
    CHECK_INT(t.messages, 1);
}

void test_pool__a_kill_from_outside_is_a_loss(void)
{
    run_worker("killed");
    CHECK_INT(t.end.code, ERR_WORKER_LOST);
    CHECK_INT(t.end.signal, SIGKILL);
}

void test_pool__garbage_is_a_breach_of_protocol_and_ends_the_worker(void)
{
    run_worker("garbage");
    CHECK_INT(t.end.code, ERR_WORKER_PROTOCOL);
}

void test_pool__a_length_over_the_limit_is_a_breach_of_protocol(void)
{
    run_worker("too-long");
    CHECK_INT(t.end.code, ERR_WORKER_PROTOCOL);
}

void test_pool__the_arena_s_exit_status_is_the_memory_limit(void)
{
    run_worker("out-of-memory");
    CHECK_INT(t.end.code, ERR_MEMORY_LIMIT);
    CHECK_STR(t.end.tail, "no memory\n");
}

void test_pool__a_hang_that_ignores_term_is_killed_after_the_limit(void)
{
    start_worker("deaf", (struct worker_opts){.limit_ms = 3000}); /* time to start */
    run_to_end();
    CHECK_INT(t.end.code, ERR_TIMEOUT);
    CHECK_INT(t.end.signal, SIGKILL);
}

void test_pool__a_worker_that_says_nothing_is_ended_after_the_hello_limit(void)
{
    static const char script[] = "#!/bin/sh\nexec sleep 60\n";
    const char *path = test_path("mute");
    test_write(path, script, sizeof script - 1);
    CHECK_INT(chmod(path, 0700), 0);
    start_worker("", (struct worker_opts){.path = path, .hello_ms = 300});
    run_to_end();
    CHECK_INT(t.end.code, ERR_TIMEOUT);
}

void test_pool__a_worker_is_as_nice_as_is_asked(void)
{
    int own = getpriority(PRIO_PROCESS, 0);
    start_worker("inspect-data", (struct worker_opts){.nice = 3});
    CHECK_INT(getpriority(PRIO_PROCESS, (id_t)worker_pid(t.worker)), own + 3 < 19 ? own + 3 : 19);
    run_to_end();
    CHECK_INT(t.end.code, ERR_NONE);
}

void test_pool__a_cancel_that_is_not_heard_ends_in_a_kill_of_the_group(void)
{
    t.cancel_at = 1;
    start_worker("deaf-with-child", (struct worker_opts){0});
    int group = worker_pid(t.worker);
    run_to_end();
    CHECK_INT(t.end.code, ERR_CANCELLED);
    for (int i = 0; i < 400 && kill(-group, 0) == 0; i++)
        usleep(5000); /* the child is init's to reap */
    CHECK(kill(-group, 0) != 0);
}

void test_pool__a_flood_is_read_no_faster_than_the_rate(void)
{
    enum { RATE = 200, MESSAGES = 201 };
    t.cancel_at = MESSAGES;
    start_worker("flooding", (struct worker_opts){.rate_max = RATE});
    run_to_end();
    CHECK_INT(t.end.code, ERR_CANCELLED);
    CHECK(t.cancel_ms - t.hello_ms >= 1000 * (MESSAGES - 1) / RATE - 250); /* a window's length */
}

void test_pool__a_flood_over_the_total_is_ended(void)
{
    start_worker("flooding", (struct worker_opts){.bytes_max = 1 << 20});
    run_to_end();
    CHECK_INT(t.end.code, ERR_WORKER_PROTOCOL);
}

/* Any word: the fakes that wait for one take it as leave to go on. */
static void say_go(void)
{
    Ptq__Cancel cancel = PTQ__CANCEL__INIT;
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    m.message_case = PTQ__TO_WORKER__MESSAGE_CANCEL;
    m.cancel = &cancel;
    worker_send(t.worker, &m);
}

static void resume_now(uv_timer_t *timer)
{
    CHECK(!t.gone);
    CHECK_INT(t.messages, t.hold_at);
    worker_resume(t.worker);
    uv_close((uv_handle_t *)timer, NULL);
}

/* Waits for the pause, has the worker say the rest and end, and lets some more time go by. */
static void resume_after_the_end(uv_timer_t *timer)
{
    if (t.messages == t.hold_at && !t.told) {
        say_go();
        t.told = true;
    }
    if (t.told && kill(t.pid, 0) != 0)
        uv_timer_start(timer, resume_now, (uint64_t)t.hold_ms, 0);
}

static void pause_beyond_the_end(int hold_at, int hold_ms)
{
    t.hold_at = hold_at;
    t.hold_ms = hold_ms;
    start_worker("asked", (struct worker_opts){0});
    t.pid = worker_pid(t.worker);
    uv_timer_init(&t.loop, &t.timer);
    uv_timer_start(&t.timer, resume_after_the_end, 5, 5);
    run_to_end();
    CHECK_INT(t.end.code, ERR_NONE);
    CHECK_INT(t.messages, 3);
    CHECK(t.finished);
}

void test_pool__a_pause_holds_back_messages_and_the_end(void)
{
    pause_beyond_the_end(1, 0);
}

void test_pool__what_a_worker_said_before_its_end_is_heard_after_the_longest_pause(void)
{
    pause_beyond_the_end(1, 1500);
}

static void go_when_survived(uv_timer_t *timer)
{
    if (access(test_path("survivor"), F_OK) != 0)
        return;
    say_go();
    uv_close((uv_handle_t *)timer, NULL);
}

void test_pool__the_end_does_not_wait_for_one_who_left_the_group(void)
{
    start_worker("survived", (struct worker_opts){0});
    uv_timer_init(&t.loop, &t.timer);
    uv_timer_start(&t.timer, go_when_survived, 5, 5);
    run_to_end();
    CHECK_INT(t.end.code, ERR_NONE);
    CHECK(t.finished);
    int survivor = atoi(test_read(test_path("survivor"), NULL));
    CHECK_INT(kill(survivor, SIGKILL), 0);
}

void test_pool__what_cannot_be_started_says_so(void)
{
    static const struct worker_calls calls = {on_message, on_gone};
    struct worker_opts o = {.path = "/nowhere/ptq-worker", .hello_ms = 1000, .bytes_max = 1};
    struct err e = ERR_INIT;
    uv_loop_init(&t.loop);
    CHECK(worker_start(&t.loop, &o, &calls, NULL, &e) == NULL);
    CHECK_INT(e.code, ERR_WORKER_LOST);
    uv_run(&t.loop, UV_RUN_DEFAULT);
    CHECK(!t.gone);
    CHECK_INT(uv_loop_close(&t.loop), 0);
}

void test_pool__the_pid_file_leads_to_the_leftover_and_to_nobody_else(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", test_path("pid"));
    start_worker("deaf", (struct worker_opts){.pid_file = path});
    int pid = worker_pid(t.worker), other = 0;
    unsigned long long started = 0;
    char *text = test_read(path, NULL);
    CHECK_INT(sscanf(text, "%d %llu", &other, &started), 2);
    CHECK_INT(other, pid);
    FILE *f = fopen(test_path("stale"), "w");
    fprintf(f, "%d %llu\n", pid, started + 1); /* the id of another process by now */
    fclose(f);
    pool_reap_leftover(test_path("stale"));
    CHECK_INT(kill(pid, 0), 0);
    pool_reap_leftover(path);
    run_to_end();
    CHECK_INT(t.end.signal, SIGKILL);
    CHECK(access(path, F_OK) != 0);
}
