#include "server/intake.h"

#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/collect.h"

enum { WAIT_MS = 30000, NAME_MAX_BYTES = 255 };

struct taking {
    struct req *req;
    const struct intake_kind *kind;
    char id[ID_MAX];
    struct inspect_wait *wait;
    uv_timer_t timer;
};

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

static void reply_resource(struct req *r, const struct intake_kind *kind, const char *id,
                           int status)
{
    struct err e = ERR_INIT;
    json_t *v = kind->json(req_server(r), id, req_arena(r), &e);
    if (!v) {
        reply_problem(r, &e);
        return;
    }
    reply_header(r, "Location", arena_printf(req_arena(r), "%s%s", kind->path, id));
    api_reply(r, status, v);
}

static void finish(struct taking *t, const struct err *e)
{
    if (e)
        reply_problem(t->req, e);
    else
        reply_resource(t->req, t->kind, t->id, 201);
    uv_close((uv_handle_t *)&t->timer, on_closed);
}

static void on_inspected(void *ctx, const struct err *e)
{
    struct taking *t = ctx;
    t->wait = NULL;
    finish(t, e);
}

static void on_published(void *ctx, const struct err *e)
{
    finish(ctx, e);
}

/* It takes too long, or the client does not want to wait: answer with what there is. */
static void stop_waiting(struct taking *t)
{
    inspect_leave(t->wait);
    t->wait = NULL;
    struct inspection *i = inspect_find(req_server(t->req)->inspections, t->id);
    if (i)
        inspect_publish(i, on_published, t);
    else
        finish(t, NULL);
}

static void on_time(uv_timer_t *timer)
{
    stop_waiting(timer->data);
}

static void wait_for(struct req *r, const struct intake_kind *kind, const char *id,
                     struct inspection *i)
{
    bool async;
    struct taking *t = xcalloc(1, sizeof *t);
    req_prefer_wait(r, 0, &async);
    t->req = r;
    t->kind = kind;
    strncpy(t->id, id, sizeof t->id - 1);
    t->timer.data = t;
    uv_timer_init(req_server(r)->loop, &t->timer);
    t->wait = inspect_join(i, on_inspected, t);
    if (async)
        stop_waiting(t);
    else
        uv_timer_start(&t->timer, on_time, WAIT_MS, 0);
}

void intake(struct req *r, const struct intake_kind *kind, const struct inspect_opts *o)
{
    struct server *s = req_server(r);
    struct err e = ERR_INIT;
    const char *state = "";
    struct inspection *i = inspect_find(s->inspections, o->id);
    if (s->draining) {
        err_set(&e, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    } else if (!i && !kind->state(s, o->id, req_arena(r), &state, &e) && strcmp(state, "ready")) {
        struct inspect_opts mine = *o;
        mine.published = *state;
        i = inspect_start(s->inspections, &mine, &e);
        if (i && o->file)
            upload_keep(r);
    }
    if (e.code != ERR_NONE)
        reply_problem(r, &e);
    else if (i)
        wait_for(r, kind, o->id, i);
    else
        reply_resource(r, kind, o->id, 200);
}

int intake_name(struct req *r, const char **ret)
{
    const char *name = req_query(r, "name");
    struct err e = ERR_INIT;
    *ret = name ? name : "";
    json_t *utf8 = json_string(*ret);
    if (strlen(*ret) > NAME_MAX_BYTES || !utf8)
        err_set(&e, ERR_INVALID, NULL, "A name is UTF-8 of at most %d bytes.", NAME_MAX_BYTES);
    json_decref(utf8);
    if (e.code == ERR_NONE)
        return 0;
    reply_problem(r, &e);
    return -1;
}

/* ---- delete ---- */

struct deleting {
    struct change change;
    struct req *req;
    const struct removal *how;
};

static int write_delete(struct tx *tx, struct change *c, struct err *e)
{
    const struct removal *how = ((struct deleting *)c)->how;
    struct stmt *s = tx_stmt(tx, how->used, e);
    if (!s)
        return -1;
    db_put_text(s, c->job);
    int r = db_step(s, e);
    if (r == 1)
        r = err_set(e, ERR_CONFLICT, NULL, "The job %s uses this %s and has not ended.",
                    db_text(s, 0), how->what);
    db_end(s);
    if (r || tx_run(tx, e, how->remove, "t", c->job))
        return -1;
    if (tx_changes(tx))
        return 0;
    return err_set(e, ERR_NOT_FOUND, NULL, "There is no %s %s.", how->what, c->job);
}

static void deleted(struct change *c, const struct err *e)
{
    struct req *r = ((struct deleting *)c)->req;
    if (e) {
        reply_problem(r, e);
        return;
    }
    collect_kick(c->server->collect);
    reply_empty(r, 204);
}

void intake_delete(struct req *r, const struct removal *how)
{
    struct server *s = req_server(r);
    const char *id = req_param(r, "id");
    if (req_only_query(r, NULL, 0))
        return;
    if (inspect_find(s->inspections, id)) {
        struct err e = ERR_INIT;
        err_set(&e, ERR_CONFLICT, NULL, "The %s is still being inspected.", how->what);
        reply_problem(r, &e);
        return;
    }
    struct deleting *d = change_new(s, id, sizeof *d);
    d->req = r;
    d->how = how;
    d->change.write = write_delete;
    d->change.done = deleted;
    change_submit(&d->change);
}
