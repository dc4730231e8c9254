#include "server/checks.h"

#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/json.h"
#include "common/log.h"
#include "common/sha256.h"
#include "server/adopt.h"
#include "server/blobs.h"
#include "server/conf.h"
#include "server/inputs.h"
#include "server/metrics.h"
#include "server/run.h"
#include "server/store.h"
#include "server/ulid.h"

enum {
    RUNNING_MAX = 2,
    WAITING_MAX = 128,
    TRIES = 2,
    LIMIT_MS = 60000,
    ANSWERS_MAX = 4096,
    ANSWERS_BYTES = 32 << 20
};

/* An answer that is kept; the oldest use goes first. */
struct answer {
    struct answer *newer, *older;
    char key[SHA256_HEX];
    char *text; /* or */
    struct err *err;
    size_t bytes;
};

struct waiter {
    struct waiter *next;
    checked_fn *fn;
    void *ctx;
};

/* A question under way. */
struct check {
    struct check *next;
    struct checks *all;
    struct arena arena;
    char key[SHA256_HEX];
    const char *owner, *spec;
    const char *skeleton, *blob; /* sha256; skeleton NULL: the model itself is read */
    json_t *external;
    struct run *run;
    int tries;
    struct waiter *waiters;
};

struct checks {
    struct server *server;
    struct check *first; /* in order of coming; the first RUNNING_MAX of them run */
    struct answer *newest, *oldest;
    int n_answers;
    size_t answers_bytes;
    int64_t n_started, n_cached; /* processes; answers without one */
    struct gauge started, cached;
    bool stopping;
};

/* ---- answers that are kept ---- */

static void unlink_answer(struct checks *all, struct answer *a)
{
    *(a->newer ? &a->newer->older : &all->newest) = a->older;
    *(a->older ? &a->older->newer : &all->oldest) = a->newer;
}

static void link_newest(struct checks *all, struct answer *a)
{
    a->newer = NULL;
    a->older = all->newest;
    *(a->older ? &a->older->newer : &all->oldest) = a;
    all->newest = a;
}

static void drop_oldest(struct checks *all)
{
    struct answer *a = all->oldest;
    unlink_answer(all, a);
    all->n_answers--;
    all->answers_bytes -= a->bytes;
    free(a->text);
    free(a->err);
    free(a);
}

/* The answer, which is now the newest; NULL if it is not known. */
static const struct answer *find_answer(struct checks *all, const char *key)
{
    struct answer *a = all->newest;
    while (a && strcmp(a->key, key))
        a = a->older;
    if (a) {
        unlink_answer(all, a);
        link_newest(all, a);
    }
    return a;
}

static void keep_answer(struct checks *all, const char *key, const char *text, const struct err *e)
{
    struct answer *a = xcalloc(1, sizeof *a);
    memcpy(a->key, key, sizeof a->key);
    a->text = text ? xstrdup(text) : NULL;
    a->bytes = sizeof *a + (text ? strlen(text) : sizeof *a->err);
    if (!text) {
        a->err = xmalloc(sizeof *a->err);
        *a->err = *e;
    }
    link_newest(all, a);
    all->n_answers++;
    all->answers_bytes += a->bytes;
    while (all->n_answers > 1 &&
           (all->n_answers > ANSWERS_MAX || all->answers_bytes > ANSWERS_BYTES))
        drop_oldest(all);
}

/* ---- the end of one ---- */

static void check_free(struct check *c)
{
    json_decref(c->external);
    arena_done(&c->arena);
    free(c);
}

static void begin_more(struct checks *all);

static void conclude(struct check *c, const char *text, const struct err *e)
{
    struct checks *all = c->all;
    struct check **p = &all->first;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    for (struct waiter *w = c->waiters, *next; w; w = next) {
        next = w->next;
        w->fn(w->ctx, text, e);
        free(w);
    }
    remove_tree(all->server, run_path(all->server, &c->arena, c->owner, ""));
    check_free(c);
    begin_more(all);
}

static void begin(struct check *c);

static void on_end(void *ctx, const struct run_end *end)
{
    struct check *c = ctx;
    struct err stopped = ERR_INIT;
    c->run = NULL;
    if (c->all->stopping) {
        err_set(&stopped, ERR_UNAVAILABLE, "", "The service is shutting down.");
        conclude(c, NULL, &stopped);
    } else if (end->err.code == ERR_NONE) {
        char *text = json_text(end->result);
        keep_answer(c->all, c->key, text, NULL);
        conclude(c, text, NULL);
        free(text);
    } else if (end->own) {
        keep_answer(c->all, c->key, NULL, &end->err);
        conclude(c, NULL, &end->err);
    } else if (c->tries < TRIES) {
        log_event(LOG_WARN, "check.again", "%s %s", end->err.detail, end->tail);
        begin(c);
    } else {
        log_event(LOG_ERROR, "check.lost", "%s %s", end->err.detail, end->tail);
        conclude(c, NULL, &end->err);
    }
}

/* ---- the start of one ---- */

static void fill_inputs(struct check *c, struct arena *a, Ptq__Start *start)
{
    struct server *s = c->all->server;
    if (c->skeleton)
        inputs_add(a, start, "skeleton", blobs_path(s->blobs, a, c->skeleton), NULL, c->skeleton);
    else
        inputs_add_model(s, a, start, blobs_path(s->blobs, a, c->blob), c->blob, c->external);
}

static void begin(struct check *c)
{
    static const struct run_calls calls = {.end = on_end};
    struct server *s = c->all->server;
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    Ptq__Start start = PTQ__START__INIT;
    start.job_id = (char *)c->owner;
    start.kind = (char *)"check-config";
    start.spec = (char *)c->spec;
    start.slots = 1;
    start.memory_bytes = (uint64_t)s->conf->memory / 2;
    fill_inputs(c, &a, &start);
    struct run_opts o = {
        .owner = c->owner, .start = &start, .attempt = ++c->tries, .limit_ms = LIMIT_MS};
    c->run = run_start(s, &o, &calls, c, &e);
    arena_done(&a);
    c->all->n_started++;
    if (!c->run)
        conclude(c, NULL, &e);
}

static void begin_more(struct checks *all)
{
    int n = 0;
    for (struct check *c = all->first; c && n < RUNNING_MAX && !all->stopping; c = c->next, n++)
        if (!c->run && !c->tries) {
            begin(c); /* may conclude it, and then this is called from there */
            return;
        }
}

/* ---- questions ---- */

/* The spec that the worker gets: canonical, so that it names the question. */
static const char *spec_of(const struct check_question *q, struct arena *a)
{
    json_t *spec = json_object();
    json_object_set_new(spec, "quant_config",
                        q->quant_config ? json_incref((json_t *)q->quant_config) : json_object());
    if (q->march)
        json_object_set_new(spec, "options", json_pack("{s:s}", "march", q->march));
    char *text = json_text(spec);
    const char *ret = arena_strdup(a, text);
    free(text);
    json_decref(spec);
    return ret;
}

static int find_graph(struct check *c, const struct check_question *q, struct err *e)
{
    const char *id = json_str(q->model, "id", NULL);
    struct model_row m = {0};
    if (id && model_load(FROM_DB(c->all->server->db), id, &c->arena, &m, e) < 0)
        return -1;
    c->skeleton = m.skeleton;
    c->blob = digest_of_name(&c->arena, json_str(q->model, "blob", ""));
    c->external = json_incref(json_object_get(q->model, "external_data"));
    if (!c->blob)
        return err_set(e, ERR_INTERNAL, "", "The model has no blob.");
    return 0;
}

static void make_key(struct check *c)
{
    struct sha256 *h = sha256_new();
    struct digest d;
    char *external = c->skeleton ? NULL : json_text(c->external);
    const char *graph = c->skeleton ? c->skeleton : c->blob;
    sha256_field(h, graph, strlen(graph));
    sha256_field(h, external ? external : "", external ? strlen(external) : 0);
    sha256_field(h, c->spec, strlen(c->spec));
    sha256_finish(h, &d);
    digest_hex(&d, c->key);
    free(external);
}

static struct check *check_new(struct checks *all, const struct check_question *q, struct err *e)
{
    struct check *c = xcalloc(1, sizeof *c);
    c->all = all;
    c->spec = spec_of(q, &c->arena);
    if (!find_graph(c, q, e)) {
        make_key(c);
        return c;
    }
    check_free(c);
    return NULL;
}

static void add_waiter(struct check *c, checked_fn *fn, void *ctx)
{
    struct waiter **p = &c->waiters;
    while (*p)
        p = &(*p)->next;
    *p = xcalloc(1, sizeof **p);
    **p = (struct waiter){.fn = fn, .ctx = ctx};
}

/* The end of the queue, or the same question that is there; NULL: it is full. */
static struct check **find_place(struct checks *all, const char *key)
{
    struct check **p = &all->first;
    int n = 0;
    for (; *p && strcmp((*p)->key, key); p = &(*p)->next)
        n++;
    return *p || n < WAITING_MAX ? p : NULL;
}

void check_config(struct checks *all, const struct check_question *q, checked_fn *fn, void *ctx)
{
    struct err e = ERR_INIT;
    struct check *c = check_new(all, q, &e);
    const struct answer *known = c ? find_answer(all, c->key) : NULL;
    char name[ULID_SIZE];
    struct check **place = c ? find_place(all, c->key) : NULL;
    if (known)
        all->n_cached++;
    else if (c && (all->stopping || !place))
        err_set(&e, ERR_UNAVAILABLE, "", "%s",
                all->stopping ? "The service is shutting down."
                              : "Too many configurations wait to be checked.");
    if (known || e.code != ERR_NONE) {
        if (c)
            check_free(c);
        fn(ctx, known ? known->text : NULL, known ? known->err : &e);
        return;
    }
    if (*place) {
        add_waiter(*place, fn, ctx);
        all->n_cached++;
        check_free(c);
        return;
    }
    ulid_make(name);
    c->owner = arena_printf(&c->arena, "check-%s", name);
    *place = c;
    add_waiter(c, fn, ctx);
    begin_more(all);
}

/* ---- all of them ---- */

static void sample(struct gauge_out *out, void *ctx)
{
    gauge_sample(out, (double)*(int64_t *)ctx, NULL);
}

struct checks *checks_new(struct server *s)
{
    struct checks *all = xcalloc(1, sizeof *all);
    all->server = s;
    all->started = (struct gauge){.name = "ptq_checks_started_total",
                                  .help = "Processes started to check a configuration.",
                                  .fn = sample,
                                  .type = "counter",
                                  .ctx = &all->n_started};
    all->cached = (struct gauge){.name = "ptq_checks_cached_total",
                                 .help = "Checks answered without a process of their own.",
                                 .fn = sample,
                                 .type = "counter",
                                 .ctx = &all->n_cached};
    gauge_add(&all->started);
    gauge_add(&all->cached);
    return all;
}

void checks_stop(struct checks *all)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_UNAVAILABLE, "", "The service is shutting down.");
    all->stopping = true;
    for (struct check *c = all->first, *next; c; c = next) {
        next = c->next;
        if (c->run)
            run_cancel(c->run); /* tells its waiters when it has ended */
        else
            conclude(c, NULL, &e);
    }
}

bool checks_idle(const struct checks *all)
{
    return !all->first;
}

void checks_free(struct checks *all)
{
    gauge_remove(&all->started);
    gauge_remove(&all->cached);
    while (all->oldest)
        drop_oldest(all);
    free(all);
}
