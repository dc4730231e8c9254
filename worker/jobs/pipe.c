/* A job's surroundings when ptqd has started the worker: the only file that sees worker.pb-c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/frame.h"
#include "common/json.h"
#include "worker.pb-c.h"
#include "worker/jobs/core.h"
#include "worker/jobs/host.h"

/* A question holds no more digests than an answer frame has room for whole results. */
enum { DIGESTS_A_WANT = 3, RESULT_FILE_MAX = 64 << 20, INLINE_RESULT_MAX = 1 << 20 };

struct pipe {
    int in, out;
    struct buf got;   /* read, not taken yet */
    struct buf send;  /* one message, packed */
    uint64_t request; /* number of the last Want */
};

/* ---- messages ---- */

static int say(struct pipe *p, Ptq__FromWorker *m, struct err *e)
{
    buf_clear(&p->send);
    size_t len = ptq__from_worker__get_packed_size(m);
    char *room = len <= FRAME_MAX ? buf_room(&p->send, len) : NULL;
    if (!room)
        return err_set(e, ERR_LIMIT, "", "A message of %zu bytes is too long for the pipe.", len);
    ptq__from_worker__pack(m, (uint8_t *)room);
    return frame_write(p->out, room, len, e);
}

/* Says one message: `field` of the union, `CASE` its case. */
#define SAY(p, e, CASE, field_value)                                                               \
    say(p,                                                                                         \
        &(Ptq__FromWorker){.base = PROTOBUF_C_MESSAGE_INIT(&ptq__from_worker__descriptor),         \
                           .message_case = PTQ__FROM_WORKER__MESSAGE_##CASE,                       \
                           field_value},                                                           \
        e)

static int read_more(struct pipe *p, struct err *e)
{
    char *room = buf_room(&p->got, 64 << 10);
    if (!room)
        return err_set(e, ERR_WORKER_PROTOCOL, "", "The server sends more than is asked for.");
    ssize_t n;
    while ((n = read(p->in, room, 64 << 10)) < 0 && errno == EINTR)
        ;
    if (n < 0)
        return err_errno(e, "", "The pipe from the server cannot be read");
    if (n == 0)
        return err_set(e, ERR_WORKER_LOST, "", "The server has closed the pipe.");
    p->got.len += (size_t)n;
    return 0;
}

/* The next whole message in hand: 1, or 0 if there is none; -1. */
static int take_message(struct pipe *p, Ptq__ToWorker **ret, struct err *e)
{
    const char *payload;
    size_t len;
    int rc = frame_next(p->got.data, p->got.len, &payload, &len, e);
    if (rc <= 0)
        return rc;
    *ret = ptq__to_worker__unpack(NULL, len, (const uint8_t *)payload);
    buf_drop(&p->got, FRAME_HEAD + len);
    return *ret ? 1
                : err_set(e, ERR_WORKER_PROTOCOL, "", "A frame from the server holds no message.");
}

static int next_message(struct pipe *p, Ptq__ToWorker **ret, struct err *e)
{
    int rc;
    while ((rc = take_message(p, ret, e)) == 0)
        if (read_more(p, e))
            return -1;
    return rc < 0 ? -1 : 0;
}

static int is_cancel(const Ptq__ToWorker *m, struct err *e)
{
    if (m->message_case == PTQ__TO_WORKER__MESSAGE_CANCEL)
        return err_set(e, ERR_CANCELLED, "", "The job was cancelled.");
    return 0;
}

/* ---- struct job_io ---- */

static int read_result_file(const char *path, struct found *ret, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || st.st_size > RESULT_FILE_MAX) {
        if (fd >= 0)
            close(fd);
        return err_errno(e, path, "A stored result cannot be read");
    }
    ret->len = (size_t)st.st_size;
    ret->bytes = xmalloc(ret->len + 1);
    ret->bytes[ret->len] = '\0';
    ssize_t n = pread(fd, ret->bytes, ret->len, 0);
    close(fd);
    return n == st.st_size ? 0 : err_set(e, ERR_IO, path, "A stored result is cut short.");
}

static int take_entry(const Ptq__Known__Entry *en, struct found *ret, struct err *e)
{
    if (!en->found)
        return 0;
    if (en->file)
        return read_result_file(en->file, ret, e);
    ret->len = en->has_result ? en->result.len : 0;
    ret->bytes = xmalloc(ret->len + 1);
    if (ret->len)
        memcpy(ret->bytes, en->result.data, ret->len);
    ret->bytes[ret->len] = '\0';
    return 0;
}

static int take_known(const Ptq__Known *k, uint64_t request, int n, struct found *ret,
                      struct err *e)
{
    if (k->request != request || k->n_entries != (size_t)n)
        return err_set(e, ERR_WORKER_PROTOCOL, "", "The server answers another question.");
    for (int i = 0; i < n; i++)
        if (take_entry(k->entries[i], &ret[i], e))
            return -1;
    return 0;
}

static int ask(struct pipe *p, const struct digest *digests, int n, struct err *e)
{
    ProtobufCBinaryData list[DIGESTS_A_WANT];
    Ptq__Want w = PTQ__WANT__INIT;
    for (int i = 0; i < n; i++)
        list[i] = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)digests[i].bytes};
    w.request = ++p->request;
    w.n_digests = (size_t)n;
    w.digests = list;
    return SAY(p, e, WANT, .want = &w);
}

static int hear_known(struct pipe *p, uint64_t request, int n, struct found *ret, struct err *e)
{
    for (;;) {
        Ptq__ToWorker *m;
        if (next_message(p, &m, e))
            return -1;
        bool known = m->message_case == PTQ__TO_WORKER__MESSAGE_KNOWN;
        int rc = known ? take_known(m->known, request, n, ret, e) : is_cancel(m, e);
        ptq__to_worker__free_unpacked(m, NULL);
        if (rc || known)
            return rc;
    }
}

/* What is in hand and was not asked for can only be a cancel. */
static int hear_rest(struct pipe *p, struct err *e)
{
    Ptq__ToWorker *m;
    int rc = take_message(p, &m, e);
    if (rc <= 0)
        return rc;
    if (!is_cancel(m, e))
        err_set(e, ERR_WORKER_PROTOCOL, "", "The server says what was not asked.");
    ptq__to_worker__free_unpacked(m, NULL);
    return -1;
}

static int pipe_lookup(void *ctx, const struct digest *digests, int n, struct found *ret,
                       struct err *e)
{
    struct pipe *p = ctx;
    uint64_t first = p->request + 1;
    for (int i = 0; i < n; i += DIGESTS_A_WANT)
        if (ask(p, digests + i, n - i < DIGESTS_A_WANT ? n - i : DIGESTS_A_WANT, e))
            return -1;
    for (int i = 0; i < n; i += DIGESTS_A_WANT) {
        int some = n - i < DIGESTS_A_WANT ? n - i : DIGESTS_A_WANT;
        if (hear_known(p, first++, some, ret + i, e))
            return -1;
    }
    return hear_rest(p, e); /* it may have come with the last answer: then nothing wakes poll */
}

static int pipe_store(void *ctx, const struct digest *d, const char *kind, const void *result,
                      size_t len, int64_t cpu_us, struct err *e)
{
    Ptq__Done m = PTQ__DONE__INIT;
    m.digest = (ProtobufCBinaryData){SHA256_BYTES, (uint8_t *)d->bytes};
    m.kind = (char *)kind;
    m.has_result = 1;
    m.result = (ProtobufCBinaryData){len, (uint8_t *)result};
    m.cpu_us = (uint64_t)(cpu_us < 0 ? 0 : cpu_us);
    return SAY(ctx, e, DONE, .done = &m);
}

static int pipe_event(void *ctx, int64_t ordinal, const char *type, const json_t *data,
                      struct err *e)
{
    Ptq__Event m = PTQ__EVENT__INIT;
    char *text = json_text(data);
    m.has_ordinal = ordinal >= 0;
    m.ordinal = (uint64_t)(ordinal < 0 ? 0 : ordinal);
    m.type = (char *)type;
    m.json = text;
    int rc = SAY(ctx, e, EVENT, .event = &m);
    free(text);
    return rc;
}

static int pipe_artifact(void *ctx, const struct artifact *a, struct err *e)
{
    Ptq__Artifact m = PTQ__ARTIFACT__INIT;
    m.name = (char *)a->name;
    m.media_type = (char *)a->media_type;
    m.file = (char *)a->file;
    m.sha256 = (char *)a->sha256;
    m.size = a->size;
    return SAY(ctx, e, ARTIFACT, .artifact = &m);
}

static int pipe_listen(void *ctx, struct err *e)
{
    return read_more(ctx, e) || hear_rest(ctx, e) ? -1 : 0;
}

static const struct job_io pipe_io = {.lookup = pipe_lookup,
                                      .store = pipe_store,
                                      .event = pipe_event,
                                      .artifact = pipe_artifact,
                                      .listen = pipe_listen};

/* ---- the job ---- */

static char *keep(struct job *j, const char *s)
{
    return s ? arena_strdup(&j->arena, s) : NULL;
}

static void take_inputs(struct job *j, const Ptq__Start *s)
{
    struct job_input *in = arena_array(&j->arena, s->n_inputs, sizeof *in);
    for (size_t i = 0; i < s->n_inputs; i++)
        in[i] = (struct job_input){keep(j, s->inputs[i]->role), keep(j, s->inputs[i]->path),
                                   keep(j, s->inputs[i]->name), keep(j, s->inputs[i]->sha256)};
    j->inputs = in;
    j->n_inputs = (int)s->n_inputs;
}

static int take_recorded(struct job *j, const Ptq__Start *s, struct err *e)
{
    j->recorded = xcalloc(s->n_recorded + 1, sizeof *j->recorded);
    for (size_t i = 0; i < s->n_recorded; i++) {
        const Ptq__Recorded *r = s->recorded[i];
        if (r->ordinal != i)
            return err_set(e, ERR_WORKER_PROTOCOL, "", "Recorded events are missing.");
        json_t *data = json_parse(r->json, strlen(r->json), e);
        if (!data)
            return -1;
        j->recorded[i] = (struct recorded){keep(j, r->type), data};
        j->n_recorded = (int)i + 1;
    }
    return 0;
}

/* The inputs are mapped: they take address space, not memory. */
static uint64_t mapped_bytes(const struct job *j)
{
    uint64_t sum = 0;
    struct stat st;
    for (int i = 0; i < j->n_inputs; i++)
        if (stat(j->inputs[i].path, &st) == 0)
            sum += (uint64_t)st.st_size;
    return sum;
}

static int take_start(struct job *j, const struct host *h, const Ptq__Start *s,
                      const struct job_kind **ret_kind, struct err *e)
{
    *ret_kind = job_kind_in(h->kinds, s->kind);
    if (!*ret_kind)
        return err_set(e, ERR_UNKNOWN_NAME, "/kind", "This worker has no job kind \"%s\".",
                       s->kind);
    if (s->engine_profile && *s->engine_profile && strcmp(s->engine_profile, h->profile) != 0)
        return err_set(e, ERR_CONFLICT, "",
                       "The job began with the engine \"%s\", this worker has \"%s\": their bits "
                       "may differ. Make a new job.",
                       s->engine_profile, h->profile);
    j->spec = json_parse(s->spec, strlen(s->spec), e);
    j->id = keep(j, s->job_id);
    j->slots = s->slots ? (int)s->slots : 1;
    j->memory = s->memory_bytes;
    j->out_dir = keep(j, s->out_dir);
    j->backend = h->backend;
    j->profile = h->profile;
    j->task_timeout_ms = TASK_TIMEOUT_MS;
    take_inputs(j, s);
    if (!j->spec || take_recorded(j, s, e))
        return -1;
    return limits_memory(j->memory ? j->memory + mapped_bytes(j) : 0, e);
}

static int hear_start(struct pipe *p, struct job *j, const struct host *h,
                      const struct job_kind **ret_kind, struct err *e)
{
    Ptq__ToWorker *m;
    if (next_message(p, &m, e))
        return -1;
    int rc = is_cancel(m, e);
    if (!rc && m->message_case != PTQ__TO_WORKER__MESSAGE_START)
        rc = err_set(e, ERR_WORKER_PROTOCOL, "", "The first message is not Start.");
    if (!rc)
        rc = take_start(j, h, m->start, ret_kind, e);
    ptq__to_worker__free_unpacked(m, NULL);
    return rc;
}

/* ---- the end ---- */

static int write_result_file(struct job *j, const char *text, Ptq__Finish *m, char hex[SHA256_HEX],
                             struct err *e)
{
    uint64_t size;
    const char *path = arena_printf(&j->arena, "%s/result.json", j->out_dir);
    FILE *f = fopen(path, "wbe");
    bool ok = f && fwrite(text, 1, strlen(text), f) == strlen(text);
    if (!f || fclose(f) != 0 || !ok)
        return err_errno(e, path, "The result cannot be written");
    m->result = "";
    m->file = "result.json";
    m->sha256 = hex;
    return job_hash_file(path, hex, &size, e);
}

static int say_finish(struct pipe *p, struct job *j, const json_t *result, const char *verdict,
                      struct err *e)
{
    Ptq__Finish m = PTQ__FINISH__INIT;
    char hex[SHA256_HEX], *text = json_text(result);
    m.result = text;
    m.verdict = (char *)verdict;
    int rc = strlen(text) > INLINE_RESULT_MAX ? write_result_file(j, text, &m, hex, e) : 0;
    if (!rc)
        rc = SAY(p, e, FINISH, .finish = &m);
    free(text);
    return rc;
}

static int say_failure(struct pipe *p, const struct err *why)
{
    struct err e = ERR_INIT;
    Ptq__Failure m = PTQ__FAILURE__INIT;
    m.code = (char *)err_slug(why->code);
    m.at = (char *)why->at;
    m.detail = (char *)why->detail;
    return SAY(p, &e, FAILURE, .failure = &m);
}

static int run(struct pipe *p, const struct host *h, struct job *j, struct err *e)
{
    const struct job_kind *kind = NULL;
    Ptq__Hello hello = PTQ__HELLO__INIT;
    hello.version = PTQ_VERSION;
    hello.engine_profile = (char *)h->profile;
    if (SAY(p, e, HELLO, .hello = &hello) || hear_start(p, j, h, &kind, e))
        return -1;
    json_t *result;
    const char *verdict;
    if (job_run(j, kind, &result, &verdict, e))
        return -1;
    int rc = say_finish(p, j, result, verdict, e);
    json_decref(result);
    return rc;
}

int pipe_main(const struct host *h, int in, int out)
{
    struct pipe p = {.in = in, .out = out};
    struct job j = {.io = &pipe_io, .io_ctx = &p, .io_fd = in};
    struct err e = ERR_INIT;
    buf_init(&p.got, 2 * FRAME_MAX);
    buf_init(&p.send, FRAME_MAX);
    int rc = run(&p, h, &j, &e);
    int status = rc ? say_failure(&p, &e) != 0 : 0;
    job_done(&j);
    buf_done(&p.got);
    buf_done(&p.send);
    return status;
}
