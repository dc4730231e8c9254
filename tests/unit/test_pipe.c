/* The worker's side of the pipe: the test plays ptqd, a forked child runs pipe_main. */
#include "worker/jobs/host.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/frame.h"
#include "common/json.h"
#include "tests/test.h"
#include "worker.pb-c.h"

enum { TASKS = 8 };

/* ---- the job under test ---- */

struct sum {
    struct task tasks[TASKS];
    char own[TASKS][8];
    int total;
};

static int square(void *ctx, int index, struct buf *ret, struct err *e)
{
    (void)ctx, (void)e;
    buf_addf(ret, "%d", index * index);
    return 0;
}

static int stuck(void *ctx, int index, struct buf *ret, struct err *e)
{
    (void)ctx, (void)index, (void)ret, (void)e;
    while (pause() < 0)
        ;
    return -1;
}

static int add(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    (void)index, (void)len, (void)e;
    ((struct sum *)ctx)->total += atoi(result);
    return 0;
}

static json_t *fresh_number(void *ctx)
{
    (void)ctx;
    return json_pack("{s:i}", "clock", 111);
}

static int map_squares(struct job *j, const char *name,
                       int (*run)(void *, int, struct buf *, struct err *), int *ret, struct err *e)
{
    struct sum s = {.total = 0};
    struct task_kind kind = {.name = name, .run = run};
    for (int i = 0; i < TASKS; i++) {
        snprintf(s.own[i], sizeof s.own[i], "%d", i);
        s.tasks[i] = (struct task){.own = s.own[i], .own_len = strlen(s.own[i])};
    }
    int rc = job_map(j, &kind, "squares", "", 0, s.tasks, TASKS, add, &s, e);
    *ret = s.total;
    return rc;
}

static int run_good(struct job *j, json_t **ret, const char **verdict, struct err *e)
{
    int total;
    job_event(j, "log", json_pack("{s:s}", "text", "begun"));
    const json_t *clock = job_recorded(j, "best", fresh_number, NULL);
    if (map_squares(j, "square", square, &total, e))
        return -1;
    const char *path = arena_printf(job_arena(j), "%s/note.txt", job_out_dir(j));
    FILE *f = fopen(path, "w");
    fputs("hello", f);
    fclose(f);
    if (job_artifact(j, "note.txt", "text/plain", "note.txt", e))
        return -1;
    job_event(j, "log", json_pack("{s:s}", "text", "ended"));
    *ret = json_pack("{s:i, s:I, s:s}", "total", total, "clock", json_int(clock, "clock", 0),
                     "model", job_input(j, "model")->path);
    *verdict = "met";
    return 0;
}

static int run_stuck(struct job *j, json_t **ret, const char **verdict, struct err *e)
{
    int total;
    *ret = NULL;
    *verdict = NULL;
    return map_squares(j, "stuck", stuck, &total, e);
}

static int run_large(struct job *j, json_t **ret, const char **verdict, struct err *e)
{
    (void)j, (void)e;
    char *text = xcalloc(1, (3 << 20) + 1);
    memset(text, 'x', 3 << 20);
    *ret = json_pack("{s:s}", "text", text);
    *verdict = NULL;
    free(text);
    return 0;
}

static const struct job_kind good = {.name = "good", .run = run_good},
                             endless = {.name = "stuck", .run = run_stuck},
                             large = {.name = "large", .run = run_large};
static const struct job_kind *const kinds[] = {&good, &endless, &large, NULL};

/* ---- the server that the test plays ---- */

struct server {
    pid_t pid;
    int to, from;
    struct buf frame;
};

static void start(struct server *s)
{
    int down[2], up[2];
    signal(SIGPIPE, SIG_IGN);
    CHECK_INT(pipe(down), 0);
    CHECK_INT(pipe(up), 0);
    s->pid = fork();
    if (s->pid == 0) {
        struct host h = {.kinds = kinds, .profile = "test engine"};
        close(down[1]);
        close(up[0]);
        _exit(pipe_main(&h, down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    s->to = down[1];
    s->from = up[0];
    buf_init(&s->frame, FRAME_MAX);
}

static int finish(struct server *s)
{
    int status;
    close(s->from); /* first: what the worker says when `to` ends has nowhere to go */
    close(s->to);
    buf_done(&s->frame);
    CHECK_INT(waitpid(s->pid, &status, 0), s->pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void tell(struct server *s, const Ptq__ToWorker *m)
{
    struct err e = ERR_INIT;
    size_t len = ptq__to_worker__get_packed_size(m);
    uint8_t *bytes = xmalloc(len);
    ptq__to_worker__pack(m, bytes);
    CHECK_OK(frame_write(s->to, bytes, len, &e), e);
    free(bytes);
}

/* The next message but progress; the caller frees it. */
static Ptq__FromWorker *hear(struct server *s)
{
    for (;;) {
        struct err e = ERR_INIT;
        if (frame_read(s->from, &s->frame, &e) != 1)
            FAIL("the worker ended: %s", e.detail);
        Ptq__FromWorker *m = ptq__from_worker__unpack(NULL, s->frame.len, (uint8_t *)s->frame.data);
        CHECK(m != NULL);
        if (m->message_case != PTQ__FROM_WORKER__MESSAGE_EVENT || m->event->has_ordinal)
            return m;
        CHECK_STR(m->event->type, "progress");
        ptq__from_worker__free_unpacked(m, NULL);
    }
}

static void expect_hello(struct server *s)
{
    Ptq__FromWorker *m = hear(s);
    CHECK_INT(m->message_case, PTQ__FROM_WORKER__MESSAGE_HELLO);
    CHECK_STR(m->hello->engine_profile, "test engine");
    ptq__from_worker__free_unpacked(m, NULL);
}

struct order {
    const char *kind, *profile;
    Ptq__Recorded **recorded;
    size_t n_recorded;
};

static void give_job(struct server *s, const struct order *o)
{
    Ptq__Input in = PTQ__INPUT__INIT, *inputs[] = {&in};
    Ptq__Start st = PTQ__START__INIT;
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    in.role = "model";
    in.path = "/models/m.onnx";
    st.job_id = "job_1";
    st.kind = (char *)o->kind;
    st.spec = "{}";
    st.inputs = inputs;
    st.n_inputs = 1;
    st.slots = 2;
    st.out_dir = (char *)test_dir();
    st.engine_profile = (char *)o->profile;
    st.recorded = o->recorded;
    st.n_recorded = o->n_recorded;
    m.message_case = PTQ__TO_WORKER__MESSAGE_START;
    m.start = &st;
    tell(s, &m);
}

/* Answers a Want: result `index * index` is known for those below n_known, every other one by a
 * file. `asked` counts the digests so far. */
static void answer(struct server *s, const Ptq__Want *w, int *asked, int n_known)
{
    Ptq__Known k = PTQ__KNOWN__INIT;
    Ptq__Known__Entry entries[8], *list[8];
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    char texts[8][16];
    for (size_t i = 0; i < w->n_digests; i++, ++*asked) {
        list[i] = &entries[i];
        ptq__known__entry__init(&entries[i]);
        CHECK_INT(w->digests[i].len, 32);
        entries[i].found = *asked < n_known;
        if (!entries[i].found)
            continue;
        snprintf(texts[i], sizeof texts[i], "%d", *asked * *asked);
        if (*asked % 2) {
            entries[i].file = (char *)test_path("result%d", *asked);
            test_write(entries[i].file, texts[i], strlen(texts[i]));
        } else {
            entries[i].has_result = 1;
            entries[i].result = (ProtobufCBinaryData){strlen(texts[i]), (uint8_t *)texts[i]};
        }
    }
    k.request = w->request;
    k.n_entries = w->n_digests;
    k.entries = list;
    m.message_case = PTQ__TO_WORKER__MESSAGE_KNOWN;
    m.known = &k;
    tell(s, &m);
}

struct seen {
    int asked, done, events, artifacts;
    char result[512], verdict[16], code[64], detail[512], last_ordinal;
};

/* Serves until Finish or Failure. */
static void serve(struct server *s, int n_known, struct seen *ret)
{
    memset(ret, 0, sizeof *ret);
    for (bool end = false; !end;) {
        Ptq__FromWorker *m = hear(s);
        switch ((int)m->message_case) {
        case PTQ__FROM_WORKER__MESSAGE_WANT:
            answer(s, m->want, &ret->asked, n_known);
            break;
        case PTQ__FROM_WORKER__MESSAGE_DONE:
            CHECK_STR(m->done->kind, "square");
            CHECK(m->done->has_result && m->done->digest.len == 32);
            ret->done++;
            break;
        case PTQ__FROM_WORKER__MESSAGE_EVENT:
            ret->events++;
            ret->last_ordinal = (char)m->event->ordinal;
            break;
        case PTQ__FROM_WORKER__MESSAGE_ARTIFACT:
            CHECK_STR(m->artifact->name, "note.txt");
            CHECK_STR(m->artifact->sha256,
                      "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
            CHECK_INT(m->artifact->size, 5);
            ret->artifacts++;
            break;
        case PTQ__FROM_WORKER__MESSAGE_FINISH:
            snprintf(ret->result, sizeof ret->result, "%s",
                     m->finish->file ? m->finish->file : m->finish->result);
            snprintf(ret->verdict, sizeof ret->verdict, "%s",
                     m->finish->verdict ? m->finish->verdict : "");
            end = true;
            break;
        case PTQ__FROM_WORKER__MESSAGE_FAILURE:
            snprintf(ret->code, sizeof ret->code, "%s", m->failure->code);
            snprintf(ret->detail, sizeof ret->detail, "%s", m->failure->detail);
            end = true;
            break;
        default:
            FAIL("message %d is not expected", (int)m->message_case);
        }
        ptq__from_worker__free_unpacked(m, NULL);
    }
}

/* ---- tests ---- */

void test_pipe__a_job_asks_computes_tells_and_finishes(void)
{
    struct server s;
    struct seen seen;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "good"});
    serve(&s, 0, &seen);
    CHECK_INT(seen.asked, TASKS);
    CHECK_INT(seen.done, TASKS);
    CHECK_INT(seen.events, 3);
    CHECK_INT(seen.last_ordinal, 2);
    CHECK_INT(seen.artifacts, 1);
    CHECK_STR(seen.result, "{\"clock\":111,\"model\":\"/models/m.onnx\",\"total\":140}");
    CHECK_STR(seen.verdict, "met");
    CHECK_INT(finish(&s), 0);
}

void test_pipe__known_results_are_not_computed_again(void)
{
    struct server s;
    struct seen seen;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "good", .profile = "test engine"});
    serve(&s, 5, &seen);
    CHECK_INT(seen.done, TASKS - 5);
    CHECK_STR(seen.result, "{\"clock\":111,\"model\":\"/models/m.onnx\",\"total\":140}");
    CHECK_INT(finish(&s), 0);
}

void test_pipe__recorded_events_are_replayed_not_told_again(void)
{
    Ptq__Recorded first = PTQ__RECORDED__INIT, second = PTQ__RECORDED__INIT;
    Ptq__Recorded *list[] = {&first, &second};
    first.ordinal = 0;
    first.type = "log";
    first.json = "{\"text\":\"begun\"}";
    second.ordinal = 1;
    second.type = "best";
    second.json = "{\"clock\":42}";
    struct server s;
    struct seen seen;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "good", .recorded = list, .n_recorded = 2});
    serve(&s, TASKS, &seen);
    CHECK_INT(seen.events, 1);
    CHECK_INT(seen.last_ordinal, 2);
    CHECK_STR(seen.result, "{\"clock\":42,\"model\":\"/models/m.onnx\",\"total\":140}");
    CHECK_INT(finish(&s), 0);
}

void test_pipe__cancel_ends_a_job_that_is_stuck(void)
{
    struct server s;
    struct seen seen;
    Ptq__Cancel c = PTQ__CANCEL__INIT;
    Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "stuck"});
    int asked = 0;
    while (asked < TASKS) {
        Ptq__FromWorker *w = hear(&s);
        CHECK_INT(w->message_case, PTQ__FROM_WORKER__MESSAGE_WANT);
        answer(&s, w->want, &asked, 0);
        ptq__from_worker__free_unpacked(w, NULL);
    }
    m.message_case = PTQ__TO_WORKER__MESSAGE_CANCEL;
    m.cancel = &c;
    tell(&s, &m);
    serve(&s, 0, &seen);
    CHECK_STR(seen.code, "cancelled");
    CHECK_INT(finish(&s), 0);
}

void test_pipe__a_job_ends_when_the_server_is_gone(void)
{
    struct server s;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "stuck"});
    Ptq__FromWorker *w = hear(&s);
    ptq__from_worker__free_unpacked(w, NULL);
    CHECK_INT(finish(&s), 1); /* nobody to tell */
}

static void expect_refusal(const struct order *o, const char *code, const char *word)
{
    struct server s;
    struct seen seen;
    start(&s);
    expect_hello(&s);
    give_job(&s, o);
    serve(&s, 0, &seen);
    CHECK_STR(seen.code, code);
    if (!strstr(seen.detail, word))
        FAIL("%s does not say %s", seen.detail, word);
    CHECK_INT(finish(&s), 0);
}

void test_pipe__jobs_that_cannot_be_run_are_refused(void)
{
    Ptq__Recorded late = PTQ__RECORDED__INIT, *list[] = {&late};
    late.ordinal = 1;
    late.type = "log";
    late.json = "{}";
    expect_refusal(&(struct order){.kind = "nonsense"}, "unknown-name", "nonsense");
    expect_refusal(&(struct order){.kind = "good", .profile = "another engine"}, "conflict",
                   "another engine");
    expect_refusal(&(struct order){.kind = "good", .recorded = list, .n_recorded = 1},
                   "worker-protocol", "missing");
}

void test_pipe__a_large_result_is_a_file(void)
{
    struct server s;
    struct seen seen;
    size_t len;
    start(&s);
    expect_hello(&s);
    give_job(&s, &(struct order){.kind = "large"});
    serve(&s, 0, &seen);
    CHECK_STR(seen.result, "result.json");
    test_read(test_path("result.json"), &len);
    CHECK_INT(len, (3 << 20) + 11);
    CHECK_INT(finish(&s), 0);
}

void test_pipe__garbage_is_a_protocol_error(void)
{
    static const char *const junk[] = {"\xFF\xFF\xFF\x7F", "\4\0\0\0abcd", "\0\0\0\0"};
    for (int i = 0; i < 3; i++) {
        struct server s;
        struct seen seen;
        start(&s);
        expect_hello(&s);
        CHECK(write(s.to, junk[i], i == 1 ? 8 : 4) > 0);
        serve(&s, 0, &seen);
        CHECK_STR(seen.code, "worker-protocol");
        CHECK_INT(finish(&s), 0);
    }
}
