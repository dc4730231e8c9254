/*
 * A worker that does as it is told: this very program, started again with --pipe. What to do is
 * the word at quant_config.fake of the job's spec (or the job's kind): "ok", "segv-once" …
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/frame.h"
#include "common/json.h"
#include "common/sha256.h"
#include "worker.pb-c.h"

enum { TASKS = 20 };

static Ptq__ToWorker *start_message;
static Ptq__Start *start;
static json_t *spec;

static void say(Ptq__FromWorker *m)
{
    size_t len = ptq__from_worker__get_packed_size(m);
    uint8_t *payload = xmalloc(len + 1);
    struct err e = ERR_INIT;
    ptq__from_worker__pack(m, payload);
    if (frame_write(1, payload, len, &e))
        _exit(1);
    free(payload);
}

static Ptq__ToWorker *hear(void)
{
    struct buf b;
    struct err e = ERR_INIT;
    buf_init(&b, FRAME_MAX);
    if (frame_read(0, &b, &e) != 1)
        _exit(0);
    Ptq__ToWorker *m = ptq__to_worker__unpack(NULL, b.len, (uint8_t *)b.data);
    buf_done(&b);
    return m;
}

static void say_hello(void)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Hello h = PTQ__HELLO__INIT;
    h.version = (char *)"0";
    h.engine_profile = (char *)"fake-1";
    m.message_case = PTQ__FROM_WORKER__MESSAGE_HELLO;
    m.hello = &h;
    say(&m);
}

static void say_event(int ordinal, const char *type, const char *json)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Event v = PTQ__EVENT__INIT;
    v.has_ordinal = ordinal >= 0;
    v.ordinal = (uint64_t)ordinal;
    v.type = (char *)type;
    v.json = (char *)json;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_EVENT;
    m.event = &v;
    say(&m);
}

static void say_finish(const char *result)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Finish f = PTQ__FINISH__INIT;
    f.result = (char *)result;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_FINISH;
    m.finish = &f;
    say(&m);
}

static void say_failure(const char *code, const char *detail)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Failure f = PTQ__FAILURE__INIT;
    f.code = (char *)code;
    f.at = (char *)"somewhere";
    f.detail = (char *)detail;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_FAILURE;
    m.failure = &f;
    say(&m);
}

static void say_artifact(const char *name, const char *text)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Artifact a = PTQ__ARTIFACT__INIT;
    struct digest d;
    char hex[SHA256_HEX], path[4096];
    snprintf(path, sizeof path, "%s/%s", start->out_dir, name);
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f))
        _exit(1);
    sha256_of(text, strlen(text), &d);
    digest_hex(&d, hex);
    a.name = a.file = (char *)name;
    a.media_type = (char *)"text/plain";
    a.sha256 = hex;
    a.size = strlen(text);
    m.message_case = PTQ__FROM_WORKER__MESSAGE_ARTIFACT;
    m.artifact = &a;
    say(&m);
}

static void task_digest(int i, struct digest *ret)
{
    char text[32];
    int n = snprintf(text, sizeof text, "task %d", i);
    sha256_of(text, (size_t)n, ret);
}

static void say_done(int i)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Done t = PTQ__DONE__INIT;
    struct digest d;
    task_digest(i, &d);
    t.digest.data = d.bytes;
    t.digest.len = SHA256_BYTES;
    t.kind = (char *)"fake";
    t.has_result = 1;
    t.result.data = (uint8_t *)&i;
    t.result.len = sizeof i;
    t.cpu_us = 1;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_DONE;
    m.done = &t;
    say(&m);
}

/* Asks for all tasks; how many are known. found[] says which. */
static int ask(bool found[TASKS])
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Want w = PTQ__WANT__INIT;
    struct digest d[TASKS];
    ProtobufCBinaryData digests[TASKS];
    for (int i = 0; i < TASKS; i++) {
        task_digest(i, &d[i]);
        digests[i] = (ProtobufCBinaryData){SHA256_BYTES, d[i].bytes};
    }
    w.request = 7;
    w.n_digests = TASKS;
    w.digests = digests;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_WANT;
    m.want = &w;
    say(&m);
    Ptq__ToWorker *answer = hear();
    int n = 0;
    if (!answer || !answer->known || answer->known->n_entries != TASKS ||
        answer->known->request != 7)
        _exit(1);
    for (int i = 0; i < TASKS; i++) {
        const Ptq__Known__Entry *x = answer->known->entries[i];
        found[i] = x->found;
        n += x->found;
        if (x->found && (x->result.len != sizeof i || memcmp(x->result.data, &i, sizeof i)))
            _exit(1);
    }
    ptq__to_worker__free_unpacked(answer, NULL);
    return n;
}

/* The job that all goes well with; `from` … `to` of its tasks in this attempt. */
static void do_tasks(int to)
{
    bool found[TASKS];
    ask(found);
    for (int i = 0; i < to; i++) {
        char json[64];
        if (!found[i])
            say_done(i);
        snprintf(json, sizeof json, "{\"i\":%d}", i);
        say_event(i, "node_result", json);
        snprintf(json, sizeof json, "{\"phase\":\"tasks\",\"done\":%d,\"total\":%d}", i + 1, TASKS);
        say_event(-1, "progress", json);
    }
}

static void finish_job(void)
{
    char json[128];
    do_tasks(TASKS);
    say_artifact("notes.txt", "hello");
    if (!strcmp(start->kind, "calibrate"))
        say_artifact("calibrated_model.onnx", "a model");
    snprintf(json, sizeof json, "{\"recorded\":%zu,\"slots\":%u}", start->n_recorded, start->slots);
    say_finish(json);
}

static void die_by(int sig)
{
    signal(sig, SIG_DFL);
    kill(getpid(), sig);
    pause();
}

/* True the first time in this job's folder. */
static bool first_time(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/been-here", start->out_dir);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* ---- the ways to be ---- */

static void be_ok(void)
{
    finish_job();
}

static void be_torn(void)
{
    if (write(1, "\x10\0\0\0half a", 10) == 10)
        die_by(SIGSEGV);
}

static void be_segv_once(void)
{
    if (first_time()) {
        do_tasks(TASKS / 2);
        die_by(SIGSEGV);
    }
    finish_job();
}

static void be_killed(void)
{
    die_by(SIGKILL);
}

static void be_aborted(void)
{
    die_by(SIGABRT);
}

static void be_deaf(void)
{
    for (;;)
        pause();
}

static void be_deaf_with_child(void)
{
    if (fork() == 0)
        be_deaf();
    be_deaf();
}

static void be_flooding(void)
{
    for (;;)
        say_event(-1, "log", "{\"text\":\"again\"}");
}

static void be_garbage(void)
{
    if (write(1, "\x08\0\0\0garbage!", 12) == 12)
        pause();
}

static void be_too_long(void)
{
    if (write(1, "\xff\xff\xff\x7f", 4) == 4)
        pause();
}

static void be_silent(void)
{
}

static void be_out_of_memory(void)
{
    fputs("no memory\n", stderr);
    _exit(ARENA_EXIT);
}

static void be_failing(void)
{
    say_failure("unsupported", "No such operator.");
    _exit(1);
}

static void be_slow(void)
{
    do_tasks(TASKS / 2);
    Ptq__ToWorker *m = hear(); /* a cancel */
    if (m && m->cancel)
        say_failure("cancelled", "As asked.");
    _exit(0);
}

/* Says the rest when it is told something, then leaves at once. */
static void be_asked(void)
{
    hear();
    say_event(0, "node_result", "{}");
    say_finish("{}");
}

/* Ends, but one who left its group holds on to its pipes. */
static void be_survived(void)
{
    if (fork() == 0) {
        char path[4096], whole[4096 + 8];
        setsid();
        signal(SIGTERM, SIG_IGN);
        snprintf(path, sizeof path, "%s/survivor", start->out_dir);
        snprintf(whole, sizeof whole, "%s.new", path);
        FILE *f = fopen(whole, "w");
        if (f && fprintf(f, "%d\n", getpid()) > 0 && !fclose(f) && !rename(whole, path))
            be_deaf();
        _exit(1);
    }
    hear();
    say_finish("{}");
}

static void be_liar(void)
{
    Ptq__FromWorker m = PTQ__FROM_WORKER__INIT;
    Ptq__Artifact a = PTQ__ARTIFACT__INIT;
    char hex[SHA256_HEX];
    memset(hex, 'a', SHA256_HEX - 1);
    hex[SHA256_HEX - 1] = '\0';
    a.name = (char *)"x";
    a.file = (char *)"../pid";
    a.media_type = (char *)"text/plain";
    a.sha256 = hex;
    m.message_case = PTQ__FROM_WORKER__MESSAGE_ARTIFACT;
    m.artifact = &a;
    say(&m);
    say_finish("{}");
}

static void inspect_model(void)
{
    char text[8] = "";
    int fd = open(start->inputs[0]->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0)
        _exit(1);
    close(fd);
    if (!strcmp(text, "slow..."))
        sleep(1);
    if (!strncmp(text, "bad", 3))
        say_failure("bad-model", "It is bad.");
    else
        say_finish("{\"nodes\":[],\"inputs\":[],\"outputs\":[]}");
}

static void inspect_data(void)
{
    say_artifact("dataset.tar", "the samples");
    say_finish("{\"samples\":8,\"sample_digests\":[\"00\"]}");
}

/* quant_config.check says how it ends; else it is right. */
static void check_config(void)
{
    const char *how = json_str(json_object_get(spec, "quant_config"), "check", "");
    if (!strcmp(how, "wrong"))
        say_failure("invalid", "It is wrong.");
    else if (!strcmp(how, "killed"))
        be_killed();
    else
        say_finish("{\"ledger\":[]}");
}

static const struct way {
    const char *name;
    void (*be)(void);
} ways[] = {{"ok", be_ok},
            {"torn", be_torn},
            {"segv-once", be_segv_once},
            {"killed", be_killed},
            {"aborted", be_aborted},
            {"deaf", be_deaf},
            {"deaf-with-child", be_deaf_with_child},
            {"flooding", be_flooding},
            {"garbage", be_garbage},
            {"too-long", be_too_long},
            {"silent", be_silent},
            {"out-of-memory", be_out_of_memory},
            {"failing", be_failing},
            {"slow", be_slow},
            {"asked", be_asked},
            {"survived", be_survived},
            {"liar", be_liar},
            {"inspect-model", inspect_model},
            {"inspect-data", inspect_data},
            {"check-config", check_config}};

static void be(const char *name)
{
    if (strncmp(name, "deaf", 4) != 0)
        signal(SIGTERM, SIG_DFL);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (!strcmp(ways[i].name, name)) {
            ways[i].be();
            _exit(0);
        }
    fprintf(stderr, "no way to be \"%s\"\n", name);
    _exit(2);
}

__attribute__((constructor)) static void fake_worker(int argc, char **argv)
{
    if (argc != 2 || strcmp(argv[1], "--pipe"))
        return;
    struct err e = ERR_INIT;
    signal(SIGTERM, SIG_IGN); /* some want to be deaf from the start */
    say_hello();
    start_message = hear();
    start = start_message->start;
    spec = json_parse(start->spec, strlen(start->spec), &e);
    if (!strcmp(start->kind, "check-config"))
        be(start->kind);
    be(json_str(json_object_get(spec, "quant_config"), "fake", start->kind));
}
