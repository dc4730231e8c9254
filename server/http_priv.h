/* What the http_*.c files share: they alone see microhttpd. */
#ifndef PTQ_SERVER_HTTP_PRIV_H
#define PTQ_SERVER_HTTP_PRIV_H

#include <microhttpd.h>

#include "server/http.h"
#include "server/metrics.h"
#include "server/routes.h"
#include "server/upload.h"

enum {
    HTTP_MEMORY = 32 * 1024, /* of a connection: bounds the headers too */
    HTTP_QUERY_MAX = 32,
    HTTP_UPLOADS_MAX = 64, /* at the same time: two buffers each */
    HTTP_STREAM_OUT_MAX = 8 << 20,
    HTTP_TEXT_BYTES_MAX = 128 << 20 /* JSON bodies of all connections together */
};

/* What the client's next move is measured by. */
enum conn_phase {
    CONN_IDLE,    /* a request's headers, or the whole request, have yet to come */
    CONN_BODY,    /* the body comes in */
    CONN_WAITING, /* the handler has not replied yet */
    CONN_SENDING, /* the reply goes out */
    CONN_LINGER   /* replied in the middle of the body: what still comes is thrown away */
};

struct conn {
    struct http *http;
    struct conn *next, **at;
    struct MHD_Connection *mhd; /* NULL until its first request */
    struct req *req;
    int fd;
    enum conn_phase phase;
    int64_t since_ms;      /* the phase's or window's start */
    int64_t asked_ms;      /* CONN_IDLE: when the first byte of a request was seen; 0: not yet */
    uint64_t mark;         /* bytes in or out at since_ms */
    unsigned requests;     /* reached the handler */
    uint64_t fin_progress; /* how far it was when the client's FIN was seen; 0: not seen */
    bool stalled;          /* CONN_BODY: within this window the disk was the slow one */
    bool suspended, cut;
};

struct http {
    uv_loop_t *loop;
    struct server *server;
    struct http_opts opts;
    struct MHD_Daemon *daemon;
    int listen_fd, port;
    uv_poll_t poll;
    uv_timer_t timer, sweep;
    bool need_run; /* a connection was resumed: MHD would not look at it by itself */
    bool draining, stopped;
    int open_handles;
    int64_t drain_until_ms;
    void (*drained)(void *ctx);
    void *drained_ctx;
    struct conn *conns;
    int n_conns, n_streams;
    int n_blobs;         /* uploads on their way into the blobs */
    uint64_t text_bytes; /* of JSON bodies coming in */
    int64_t swept_ms;    /* when the timer came last, */
    int sweep_ms;        /* and how often it should */
    struct gauge gauge_conns, gauge_streams;
    struct req *dead;    /* freed when the loop is back at the top */
    struct req *orphans; /* their client has gone, their handler has yet to reply */
};

struct stream {
    struct req *req;
    bool (*more)(void *ctx, struct buf *out);
    void (*closed)(void *ctx);
    void *ctx;
    struct buf out;
    size_t sent;    /* bytes of out */
    bool on, ended; /* on: closed() has yet to be called */
};

struct header {
    struct header *next;
    const char *name, *value;
};

struct query {
    const char *name, *value;
    bool known;
};

struct req {
    struct http *http;
    struct conn *conn; /* NULL: the client has gone */
    struct arena arena;
    struct req *next, **at; /* in http's dead or orphans */
    const char *method, *path, *id;
    const struct route *route;
    const char *param_name[ROUTE_PARAMS_MAX], *param_value[ROUTE_PARAMS_MAX];
    int n_params;
    struct query *query;
    int n_query;
    bool head, http11, close, expects;
    /* the body */
    bool to_file, has_body;
    uint64_t length; /* UINT64_MAX: chunked */
    uint64_t received;
    struct buf text;
    uint64_t text_counted; /* in http's text_bytes */
    json_t *json;
    char text_sha256[65], want_sha256[65]; /* want: "" if the client named none */
    struct upload_sink *sink;
    /* the reply */
    bool in_call;    /* inside MHD's call: a reply is picked up when it returns */
    bool dispatched; /* the handler has been called */
    bool replied, queued;
    struct header *headers;
    struct MHD_Response *response;
    int status;
    int64_t began_us;
    struct stream stream;
    void (*on_close)(struct req *r, void *ctx);
    void *on_close_ctx, *ctx;
    void (*blob_done)(struct req *r, const struct err *e);
};

/* ---- http.c ---- */
void conn_phase(struct conn *c, enum conn_phase phase);
void conn_suspend(struct conn *c);
void conn_resume(struct conn *c); /* wakes MHD too */
void conn_cut(struct conn *c);    /* the client gets no more */
void http_wake(struct http *h);

/* ---- http_check.c ---- */
/* Framing, Host, Origin: what must hold before anything is believed. Sets r->length, has_body,
 * http11, expects. */
int check_request(struct req *r, struct MHD_Connection *mhd, const char *version, struct err *e);
/* X-Content-SHA256, Content-Digest, Repr-Digest, Digest → r->want_sha256. */
int check_digest_headers(struct req *r, struct err *e);

/* ---- http_request.c ---- */
enum MHD_Result request_call(void *cls, struct MHD_Connection *mhd, const char *url,
                             const char *method, const char *version, const char *data,
                             size_t *size, void **con_cls);
void request_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                       enum MHD_RequestTerminationCode code);
void req_free(struct req *r);
/* Puts r among the dead: freed at the top of the loop. */
void req_bury(struct req *r);
/* The body goes no further: answers on the socket itself. */
void request_refuse_body(struct req *r, const struct err *e);

/* ---- http_body.c ---- */
int body_begin(struct req *r, struct err *e);
enum MHD_Result body_part(struct req *r, const char *data, size_t *size);
void body_forget_text(struct req *r);
void body_end(struct req *r); /* then request_dispatch, or a problem */
void request_dispatch(struct req *r);

/* ---- http_file.c ---- */
bool etag_matches(const struct req *r, const char *quoted);

/* ---- http_stats.c ---- */
void stats_start(struct http *h);
void stats_stop(struct http *h);
void stats_loop_lag(int64_t lag_ms);
void stats_request(const struct req *r, int status);

/* ---- http_reply.c ---- */
void reply_take(struct req *r, int status, struct MHD_Response *response);
struct MHD_Response *response_copy(const char *text, size_t len);

/* ---- http_stream.c ---- */
void stream_close(struct req *r);

#endif
