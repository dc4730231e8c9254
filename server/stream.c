#include "server/stream.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"

enum {
    BUCKETS = 1024,
    RING = 256,       /* rendered rows kept a job */
    READ_ROWS = 200,  /* from the database at a time */
    PIECE = 32 << 10, /* bytes rendered at a time */
    LINE_MAX_BYTES = 16 << 20,
    HEARTBEAT_MS = 15000
};

struct line {
    int64_t seq;
    char *type, *text;
};

/* A job that somebody listens to. Every committed row with seq > floor is in the ring. */
struct topic {
    struct topic *next; /* in its bucket */
    char job[ID_MAX];
    struct line ring[RING];
    int first, count, users;
    int64_t floor;
    bool ended; /* its `done` row is published, or it was terminal when looked at */
    struct watch *watches;
};

struct watch {
    struct watch *next, **back;
    struct hub *hub;
    struct topic *topic;
    void (*fn)(void *ctx);
    void *ctx;
};

struct hub {
    struct server *server;
    struct topic *buckets[BUCKETS];
    int64_t published; /* the greatest seq */
    uv_timer_t heartbeat;
    struct events *all;
    int n_streams;
};

struct events {
    struct events *next, **back; /* of the hub, for the heartbeat */
    struct hub *hub;
    struct watch *watches[STREAM_JOBS_MAX];
    int n_jobs;
    char *jobs_json; /* the ids as a JSON array, for the query */
    int64_t after;
    bool sse, follow, from_db, over, beat;
    void (*wake)(void *ctx);
    void *ctx;
    struct buf pending; /* rendered, not yet taken */
    size_t taken;
};

/* ---- topics ---- */

static unsigned hash(const char *s)
{
    unsigned h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h % BUCKETS;
}

static struct topic **find(struct hub *h, const char *job)
{
    struct topic **t = &h->buckets[hash(job)];
    while (*t && strcmp((*t)->job, job))
        t = &(*t)->next;
    return t;
}

static struct topic *topic_get(struct hub *h, const char *job)
{
    struct topic **at = find(h, job);
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        strncpy((*at)->job, job, sizeof(*at)->job - 1);
        (*at)->floor = h->published;
    }
    (*at)->users++;
    return *at;
}

static void line_free(struct line *l)
{
    free(l->type);
    free(l->text);
}

static void topic_put(struct hub *h, struct topic *t)
{
    if (--t->users)
        return;
    *find(h, t->job) = t->next;
    for (int i = 0; i < t->count; i++)
        line_free(&t->ring[(t->first + i) % RING]);
    free(t);
}

/* The first line after seq, or NULL. */
static const struct line *topic_after(const struct topic *t, int64_t seq)
{
    int low = 0, high = t->count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (t->ring[(t->first + mid) % RING].seq <= seq)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->count ? &t->ring[(t->first + low) % RING] : NULL;
}

static void topic_add(struct topic *t, const struct event_row *row)
{
    if (t->count == RING) {
        t->floor = t->ring[t->first].seq;
        line_free(&t->ring[t->first]);
        t->first = (t->first + 1) % RING;
        t->count--;
    }
    struct buf b;
    buf_init(&b, LINE_MAX_BYTES);
    event_line(&b, row);
    t->ring[(t->first + t->count++) % RING] =
        (struct line){.seq = row->seq, .type = xstrdup(row->type), .text = xstrdup(b.data)};
    buf_done(&b);
    t->ended = t->ended || !strcmp(row->type, "done");
}

/* A watcher may end its own watch in its call, not another's. */
static void notify(struct topic *t)
{
    for (struct watch *w = t->watches, *next; w; w = next) {
        next = w->next;
        w->fn(w->ctx);
    }
}

void hub_publish(struct hub *h, const struct event_row *row)
{
    h->published = row->seq;
    struct topic *t = *find(h, row->job);
    if (!t)
        return;
    topic_add(t, row);
    t->users++; /* watchers may leave while they are told */
    notify(t);
    topic_put(h, t);
}

void hub_touch(struct hub *h, const char *job)
{
    struct topic *t = *find(h, job);
    if (!t)
        return;
    t->users++;
    notify(t);
    topic_put(h, t);
}

struct watch *hub_watch(struct hub *h, const char *job, void (*fn)(void *ctx), void *ctx)
{
    struct watch *w = xcalloc(1, sizeof *w);
    *w = (struct watch){.hub = h, .topic = topic_get(h, job), .fn = fn, .ctx = ctx};
    w->back = &w->topic->watches;
    w->next = *w->back;
    if (w->next)
        w->next->back = &w->next;
    *w->back = w;
    return w;
}

void hub_unwatch(struct watch *w)
{
    *w->back = w->next;
    if (w->next)
        w->next->back = w->back;
    topic_put(w->hub, w->topic);
    free(w);
}

/* ---- rendering ---- */

void event_line(struct buf *out, const struct event_row *row)
{
    char at[CLOCK_ISO_MAX];
    clock_iso(row->at_ms, at);
    buf_addf(out, "{\"seq\":%lld,\"job\":\"%s\",\"type\":\"%s\",\"at\":\"%s\",\"data\":",
             (long long)row->seq, row->job, row->type, at);
    buf_adds(out, row->data);
    buf_adds(out, "}");
}

static void add_line(struct events *s, int64_t seq, const char *type, const char *text)
{
    if (s->sse)
        buf_addf(&s->pending, "id: %lld\nevent: %s\ndata: ", (long long)seq, type);
    buf_adds(&s->pending, text);
    buf_adds(&s->pending, s->sse ? "\n\n" : "\n");
    s->after = seq;
}

/* ---- one stream ---- */

static int add_rows(struct events *s, struct stmt *q, struct err *e)
{
    int n = 0, r;
    struct buf line;
    buf_init(&line, LINE_MAX_BYTES);
    while (s->pending.len < PIECE && (r = db_step(q, e)) == 1) {
        struct event_row row = {.seq = db_int(q, 0), .at_ms = db_int(q, 4)};
        strncpy(row.job, db_text(q, 1), sizeof row.job - 1);
        row.type = db_text(q, 2);
        row.data = db_text(q, 3);
        buf_clear(&line);
        event_line(&line, &row);
        add_line(s, row.seq, row.type, line.data);
        n++;
    }
    buf_done(&line);
    return e->code == ERR_NONE ? n : -1;
}

/* Adds rows from the database; when there are none, all up to the topics' floors has been seen. */
static void fill_from_db(struct events *s)
{
    struct err e = ERR_INIT;
    struct stmt *q = db_stmt(s->hub->server->db,
                             "SELECT seq,job_id,type,data,at_ms FROM events WHERE job_id IN "
                             "(SELECT value FROM json_each(?1)) AND seq > ?2 ORDER BY seq LIMIT ?3",
                             &e);
    int n = -1;
    if (q) {
        db_put_text(q, s->jobs_json);
        db_put_int(q, s->after);
        db_put_int(q, READ_ROWS);
        n = add_rows(s, q, &e);
        db_end(q);
    }
    if (n < 0) {
        log_event(LOG_ERROR, "stream.read", "%s", e.detail);
        s->over = true; /* the client comes again with what it has seen last */
    }
    if (n)
        return;
    s->from_db = false;
    for (int i = 0; i < s->n_jobs; i++)
        if (s->after < s->watches[i]->topic->floor)
            s->after = s->watches[i]->topic->floor;
}

/* Adds rows from the rings, in the order of seq over all jobs. */
static void fill_from_rings(struct events *s)
{
    while (s->pending.len < PIECE) {
        const struct line *first = NULL;
        for (int i = 0; i < s->n_jobs; i++) {
            const struct line *l = topic_after(s->watches[i]->topic, s->after);
            if (l && (!first || l->seq < first->seq))
                first = l;
        }
        if (!first)
            return;
        add_line(s, first->seq, first->type, first->text);
    }
}

static bool all_ended(const struct events *s)
{
    for (int i = 0; i < s->n_jobs; i++)
        if (!s->watches[i]->topic->ended)
            return false;
    return true;
}

static bool behind_rings(const struct events *s)
{
    for (int i = 0; i < s->n_jobs; i++)
        if (s->after < s->watches[i]->topic->floor)
            return true;
    return false;
}

static void fill(struct events *s)
{
    if (s->from_db || behind_rings(s))
        fill_from_db(s);
    if (!s->pending.len && !s->from_db && s->follow)
        fill_from_rings(s);
    if (!s->pending.len && !s->from_db && (!s->follow || all_ended(s)))
        s->over = true;
    if (!s->pending.len && !s->over && s->beat && s->sse)
        buf_adds(&s->pending, ": still here\n\n");
    s->beat = false;
}

bool events_more(void *events, struct buf *out)
{
    struct events *s = events;
    if (s->taken == s->pending.len) {
        buf_clear(&s->pending);
        s->taken = 0;
        if (!s->over)
            fill(s);
    }
    size_t n = s->pending.len - s->taken, room = out->max - out->len;
    if (n > room)
        n = room;
    buf_add(out, s->pending.data + s->taken, n);
    s->taken += n;
    return !(s->over && s->taken == s->pending.len);
}

static void on_news(void *ctx)
{
    struct events *s = ctx;
    s->wake(s->ctx);
}

static char *ids_json(const struct events_opts *o)
{
    json_t *ids = json_array();
    for (int i = 0; i < o->n_jobs; i++)
        json_array_append_new(ids, json_string(o->jobs[i]));
    char *text = json_text(ids);
    json_decref(ids);
    return text;
}

struct events *events_open(struct hub *h, const struct events_opts *o, void (*wake)(void *ctx),
                           void *ctx)
{
    struct events *s = xcalloc(1, sizeof *s);
    *s = (struct events){.hub = h,
                         .n_jobs = o->n_jobs,
                         .jobs_json = ids_json(o),
                         .after = o->after,
                         .sse = o->sse,
                         .follow = o->follow,
                         .from_db = true,
                         .wake = wake,
                         .ctx = ctx};
    buf_init(&s->pending, PIECE + LINE_MAX_BYTES + 512);
    for (int i = 0; i < o->n_jobs; i++) {
        s->watches[i] = hub_watch(h, o->jobs[i], on_news, s);
        s->watches[i]->topic->ended |= o->ended[i];
    }
    s->back = &h->all;
    s->next = h->all;
    if (s->next)
        s->next->back = &s->next;
    h->all = s;
    h->n_streams++;
    return s;
}

void events_close(void *events)
{
    struct events *s = events;
    for (int i = 0; i < s->n_jobs; i++)
        hub_unwatch(s->watches[i]);
    *s->back = s->next;
    if (s->next)
        s->next->back = s->back;
    s->hub->n_streams--;
    buf_done(&s->pending);
    free(s->jobs_json);
    free(s);
}

/* ---- the hub ---- */

static void on_heartbeat(uv_timer_t *t)
{
    struct hub *h = t->data;
    for (struct events *s = h->all, *next; s; s = next) {
        next = s->next;
        s->beat = true;
        s->wake(s->ctx);
    }
}

struct hub *hub_new(struct server *s)
{
    struct hub *h = xcalloc(1, sizeof *h);
    h->server = s;
    h->heartbeat.data = h;
    uv_timer_init(s->loop, &h->heartbeat);
    uv_timer_start(&h->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    return h;
}

static void on_hub_closed(uv_handle_t *t)
{
    free(t->data);
}

void hub_free(struct hub *h)
{
    if (h)
        uv_close((uv_handle_t *)&h->heartbeat, on_hub_closed);
}

int hub_streams(const struct hub *h)
{
    return h->n_streams;
}
