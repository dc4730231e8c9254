#include "server/http_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "server/problem.h"
#include "server/ulid.h"

/* ---- life ---- */

static struct req *req_new(struct http *h, struct MHD_Connection *mhd, const char *method,
                           const char *path)
{
    struct req *r = xcalloc(1, sizeof *r);
    r->http = h;
    r->conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    r->conn->req = r;
    r->conn->mhd = mhd;
    r->conn->requests++;
    r->began_us = clock_mono_us();
    r->method = arena_strdup(&r->arena, method);
    r->head = !strcmp(method, "HEAD");
    r->path = arena_strdup(&r->arena, path);
    return r;
}

static void list_add(struct req **list, struct req *r)
{
    r->next = *list;
    r->at = list;
    if (r->next)
        r->next->at = &r->next;
    *list = r;
}

static void list_leave(struct req *r)
{
    if (!r->at)
        return;
    *r->at = r->next;
    if (r->next)
        r->next->at = r->at;
    r->at = NULL;
}

void req_bury(struct req *r)
{
    list_leave(r);
    list_add(&r->http->dead, r);
    http_wake(r->http);
}

void req_free(struct req *r)
{
    list_leave(r);
    stream_close(r);
    upload_free(r->sink);
    if (r->response)
        MHD_destroy_response(r->response);
    json_decref(r->json);
    body_forget_text(r);
    arena_done(&r->arena);
    free(r);
}

/* ---- the head of the request ---- */

static bool id_fits(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n >= 8 && n <= 64 &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

static void take_id(struct req *r)
{
    char made[ULID_SIZE];
    const char *given = req_header(r, "X-Request-Id");
    if (!id_fits(given)) {
        ulid_make(made);
        given = made;
    }
    r->id = arena_strdup(&r->arena, given);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL for a broken escape, a zero byte, or bytes that are no UTF-8. */
static const char *percent_decode(struct arena *a, const char *s, size_t len)
{
    char *out = arena_alloc(a, len + 1), *o = out;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (c == '%') {
            int high = i + 1 < len ? hex_value(s[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(s[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (!c)
            return NULL;
        *o++ = c;
    }
    json_t *utf8 = json_stringn(out, (size_t)(o - out));
    json_decref(utf8);
    return utf8 ? out : NULL;
}

struct query_reader {
    struct req *r;
    bool bad;
};

static enum MHD_Result take_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct query_reader *q = cls;
    struct req *r = q->r;
    (void)kind;
    if (!r->query)
        r->query = arena_array(&r->arena, HTTP_QUERY_MAX, sizeof *r->query);
    if (r->n_query == HTTP_QUERY_MAX) {
        q->bad = true;
        return MHD_NO;
    }
    value = value ? value : "";
    struct query *at = &r->query[r->n_query++];
    at->name = percent_decode(&r->arena, name, strlen(name));
    at->value = percent_decode(&r->arena, value, strlen(value));
    q->bad = q->bad || !at->name || !at->value;
    return MHD_YES;
}

static int take_params(struct req *r, const struct route_match *m, struct err *e)
{
    for (int i = 0; i < m->n_params; i++) {
        const struct route_param *p = &m->params[i];
        r->param_name[i] = arena_strndup(&r->arena, p->name, p->name_len);
        r->param_value[i] = percent_decode(&r->arena, p->value, p->value_len);
        if (!r->param_value[i])
            return err_set(e, ERR_BAD_REQUEST, NULL, "The path has a broken escape.");
    }
    r->n_params = m->n_params;
    return 0;
}

static int find_route(struct req *r, struct err *e)
{
    struct route_match m;
    struct buf allow;
    buf_init(&allow, 200);
    int known = route_find(r->http->opts.tables, r->method, r->path, &m, &allow);
    r->route = m.route;
    if (!known)
        err_set(e, ERR_NOT_FOUND, NULL, "There is nothing at %s.", r->path);
    else if (!m.route) {
        reply_header(r, "Allow", allow.data);
        err_set(e, ERR_METHOD, NULL, "%s is not among %s.", r->method, allow.data);
    }
    buf_done(&allow);
    return m.route ? take_params(r, &m, e) : -1;
}

/* All that can be judged before the body: in this order, so that nothing is believed too early. */
static int judge(struct req *r, const char *version, struct err *e)
{
    struct query_reader q = {.r = r};
    if (check_request(r, r->conn->mhd, version, e))
        return -1;
    if (r->http->draining)
        return err_set(e, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    if (find_route(r, e))
        return -1;
    MHD_get_connection_values(r->conn->mhd, MHD_GET_ARGUMENT_KIND, take_query, &q);
    if (q.bad)
        return err_set(e, ERR_BAD_REQUEST, NULL,
                       "The query has a broken escape or too many parts.");
    return body_begin(r, e);
}

/* ---- MHD's calls ---- */

static enum MHD_Result queue_reply(struct req *r)
{
    conn_phase(r->conn, CONN_SENDING);
    enum MHD_Result ok = MHD_queue_response(r->conn->mhd, (unsigned)r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    r->queued = true;
    return ok;
}

static enum MHD_Result first_call(struct req *r, const char *version)
{
    struct err e = ERR_INIT;
    take_id(r);
    if (judge(r, version, &e) == 0) {
        conn_phase(r->conn, r->has_body ? CONN_BODY : CONN_WAITING);
        return MHD_YES;
    }
    r->dispatched = true;
    if (r->has_body && r->expects) { /* queued in the first call: MHD does not ask for the body */
        r->close = true;
        reply_problem(r, &e);
        return queue_reply(r);
    }
    if (r->has_body || r->close)
        request_refuse_body(r, &e);
    else
        reply_problem(r, &e);
    return MHD_YES;
}

static enum MHD_Result last_call(struct req *r)
{
    if (r->conn->phase == CONN_BODY)
        conn_phase(r->conn, CONN_WAITING);
    if (!r->dispatched) {
        r->dispatched = true;
        body_end(r);
    }
    if (r->response)
        return queue_reply(r);
    conn_suspend(r->conn);
    return MHD_YES;
}

enum MHD_Result request_call(void *cls, struct MHD_Connection *mhd, const char *url,
                             const char *method, const char *version, const char *data,
                             size_t *size, void **con_cls)
{
    struct req *r = *con_cls;
    enum MHD_Result ok;
    bool first = !r;
    if (first)
        *con_cls = r = req_new(cls, mhd, method, url);
    if (r->conn->cut)
        return MHD_NO;
    r->in_call = true;
    if (first)
        ok = first_call(r, version);
    else if (*size)
        ok = body_part(r, data, size);
    else
        ok = r->conn->phase == CONN_LINGER ? MHD_NO : last_call(r);
    r->in_call = false;
    return ok;
}

void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                       enum MHD_RequestTerminationCode code)
{
    struct req *r = *con_cls;
    (void)cls, (void)mhd;
    if (!r)
        return;
    *con_cls = NULL;
    conn_phase(r->conn, CONN_IDLE);
    r->conn->req = NULL;
    r->conn->suspended = false;
    if (r->http->draining)
        conn_cut(r->conn); /* its reply was begun before, as one of many */
    r->conn = NULL;
    if (r->queued)
        stats_request(r, r->status);
    log_event(LOG_DEBUG, "http.request", "%s %s %s %d %lld us %s", r->id, r->method, r->path,
              r->status, (long long)(clock_mono_us() - r->began_us),
              code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "ok" : "cut short");
    stream_close(r);
    if (r->replied || !r->dispatched) {
        req_bury(r);
        return;
    }
    list_add(&r->http->orphans, r);
    if (r->on_close)
        r->on_close(r, r->on_close_ctx);
}

void request_refuse_body(struct req *r, const struct err *e)
{
    json_t *body = problem_json(e, r->path, r->id);
    char *text = json_text(body);
    int status = err_status(e->code);
    char *all;
    int len = asprintf(&all,
                       "HTTP/1.1 %d %s\r\nConnection: close\r\n"
                       "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                       "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                       "X-Request-Id: %s\r\n\r\n%s\n",
                       status, err_title(e->code), strlen(text) + 1, r->id, text);
    /* Nothing of a reply is on its way yet, so that the socket takes this at once; a client that
     * has shut its side gets nothing. */
    if (len > 0 && send(r->conn->fd, all, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len)
        shutdown(r->conn->fd, SHUT_WR);
    if (len > 0)
        free(all);
    free(text);
    json_decref(body);
    r->dispatched = r->replied = true;
    r->status = status;
    stats_request(r, status);
    upload_free(r->sink);
    r->sink = NULL;
    conn_phase(r->conn, CONN_LINGER);
    conn_resume(r->conn);
}
