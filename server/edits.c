#include "server/edits.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/json.h"
#include "server/adopt.h"
#include "server/blobs.h"
#include "server/conf.h"
#include "server/inputs.h"
#include "server/run.h"
#include "server/ulid.h"

enum { RUNNING_MAX = 4, LIMIT_MS = 300000 };

struct edit {
    struct edit *next;
    struct edits *all;
    struct arena arena;
    const char *owner;
    struct run *run;
    edited_fn *fn;
    void *ctx;
};

struct edits {
    struct server *server;
    struct edit *first;
    int running;
    bool stopping;
};

static void edit_free(struct edit *x)
{
    arena_done(&x->arena);
    free(x);
}

static void on_end(void *ctx, const struct run_end *end)
{
    struct edit *x = ctx;
    struct edits *all = x->all;
    struct err e = end->err;
    const struct run_artifact *made = end->n_artifacts ? &end->artifacts[0] : NULL;
    struct edit **p = &all->first;
    while (*p != x)
        p = &(*p)->next;
    *p = x->next;
    all->running--;
    if (all->stopping) {
        e = (struct err)ERR_INIT;
        err_set(&e, ERR_UNAVAILABLE, "", "The service is shutting down.");
    } else if (e.code == ERR_NONE && !made) {
        err_set(&e, ERR_WORKER_PROTOCOL, "", "The edit made no model.");
    }
    if (e.code == ERR_NONE)
        x->fn(x->ctx, made->sha256, made->size, NULL);
    else
        x->fn(x->ctx, NULL, 0, &e);
    remove_tree(all->server, run_path(all->server, &x->arena, x->owner, ""));
    edit_free(x);
}

static int begin(struct edit *x, const char *blob, const json_t *external, const json_t *spec,
                 struct err *e)
{
    static const struct run_calls calls = {.end = on_end};
    struct server *s = x->all->server;
    struct arena a = ARENA_INIT;
    Ptq__Start start = PTQ__START__INIT;
    char *text = json_text(spec);
    start.job_id = (char *)x->owner;
    start.kind = (char *)"edit-model";
    start.spec = text;
    start.slots = 1;
    start.memory_bytes = (uint64_t)s->conf->memory / 2;
    inputs_add_model(s, &a, &start, blobs_path(s->blobs, &a, blob), blob, external);
    struct run_opts o = {.owner = x->owner, .start = &start, .attempt = 1, .limit_ms = LIMIT_MS};
    x->run = run_start(s, &o, &calls, x, e);
    free(text);
    arena_done(&a);
    return x->run ? 0 : -1;
}

int edit_model(struct edits *all, const char *blob, const json_t *external, const json_t *spec,
               edited_fn *fn, void *ctx, struct err *e)
{
    char name[ULID_SIZE];
    if (all->stopping || all->running == RUNNING_MAX)
        return err_set(e, ERR_UNAVAILABLE, "", "%s",
                       all->stopping ? "The service is shutting down."
                                     : "Too many models are being edited.");
    struct edit *x = xcalloc(1, sizeof *x);
    ulid_make(name);
    *x = (struct edit){.all = all, .fn = fn, .ctx = ctx};
    x->owner = arena_printf(&x->arena, "edit-%s", name);
    if (begin(x, blob, external, spec, e)) {
        edit_free(x);
        return -1;
    }
    x->next = all->first;
    all->first = x;
    all->running++;
    return 0;
}

struct edits *edits_new(struct server *s)
{
    struct edits *all = xcalloc(1, sizeof *all);
    all->server = s;
    return all;
}

void edits_stop(struct edits *all)
{
    all->stopping = true;
    for (struct edit *x = all->first; x; x = x->next)
        run_cancel(x->run);
}

bool edits_idle(const struct edits *all)
{
    return !all->first;
}

void edits_free(struct edits *all)
{
    free(all);
}
