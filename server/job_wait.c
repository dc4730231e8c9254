#include "server/job_wait.h"

#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/stream.h"

struct waiting {
    struct waiting *next, **back;
    struct req *req;
    struct watch *watch;
    uv_timer_t timer;
    int status;
    char id[ID_MAX];
};

static struct waiting *all; /* loop thread */

/* The job's JSON; NULL with *e set. */
static json_t *read_job(struct req *r, const char *id, bool *ret_ended, struct err *e)
{
    struct db *db = req_server(r)->db;
    struct arena a = ARENA_INIT;
    struct job_row j;
    json_t *v = NULL;
    int found = job_load(FROM_DB(db), id, &a, &j, e);
    if (found == 0)
        err_set(e, ERR_NOT_FOUND, NULL, "There is no job %.100s.", id);
    if (found == 1) {
        v = job_json(db, &j, e);
        *ret_ended = job_is_terminal(j.state);
    }
    arena_done(&a);
    return v;
}

void job_reply(struct req *r, int status, const char *id)
{
    struct err e = ERR_INIT;
    bool ended;
    json_t *v = read_job(r, id, &ended, &e);
    if (v)
        api_reply(r, status, v);
    else
        reply_problem(r, &e);
}

static bool is_news(struct req *r, const char *id)
{
    struct err e = ERR_INIT;
    bool ended = true;
    char etag[API_ETAG_MAX];
    const char *seen = req_header(r, "If-None-Match");
    json_t *v = read_job(r, id, &ended, &e);
    if (!v || ended || !seen) {
        json_decref(v);
        return !v || ended;
    }
    api_etag(v, etag);
    json_decref(v);
    return !strstr(seen, etag);
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

static void finish(struct waiting *w)
{
    *w->back = w->next;
    if (w->next)
        w->next->back = w->back;
    hub_unwatch(w->watch);
    uv_close((uv_handle_t *)&w->timer, on_closed);
    job_reply(w->req, w->status, w->id);
}

static void on_change(void *ctx)
{
    struct waiting *w = ctx;
    if (is_news(w->req, w->id))
        finish(w);
}

static void on_time(uv_timer_t *t)
{
    finish(t->data);
}

void job_reply_later(struct req *r, int status, const char *id, int seconds)
{
    struct server *s = req_server(r);
    if (seconds <= 0 || s->draining || is_news(r, id)) {
        job_reply(r, status, id);
        return;
    }
    struct waiting *w = xcalloc(1, sizeof *w);
    *w = (struct waiting){.next = all, .back = &all, .req = r, .status = status};
    strncpy(w->id, id, sizeof w->id - 1);
    if (w->next)
        w->next->back = &w->next;
    all = w;
    w->watch = hub_watch(s->hub, id, on_change, w);
    w->timer.data = w;
    uv_timer_init(s->loop, &w->timer);
    uv_timer_start(&w->timer, on_time, (uint64_t)seconds * 1000, 0);
}

void job_waits_end(void)
{
    while (all)
        finish(all);
}
