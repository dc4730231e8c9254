#include "cli/http.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"

enum { ANSWER_MAX = 256 << 20, CONNECT_S = 10, SILENT_S = 45, RETRY_FOR_MS = 60000 };

struct remote {
    CURL *curl;
    char *url; /* without a slash at its end */
    char error[CURL_ERROR_SIZE];
};

struct remote *remote_new(const char *url)
{
    struct remote *h = xcalloc(1, sizeof *h);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    h->curl = curl_easy_init();
    if (!h->curl)
        abort();
    h->url = xstrdup(url);
    size_t n = strlen(h->url);
    while (n && h->url[n - 1] == '/')
        h->url[--n] = '\0';
    return h;
}

void remote_free(struct remote *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->curl);
    curl_global_cleanup();
    free(h->url);
    free(h);
}

const char *remote_url(const struct remote *h)
{
    return h->url;
}

void remote_segment(const char *text, char *ret, size_t ret_size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 4 < ret_size; p++) {
        if (isalnum(*p) || strchr("-._~:", *p)) {
            ret[n++] = (char)*p;
            continue;
        }
        ret[n++] = '%';
        ret[n++] = hex[*p >> 4];
        ret[n++] = hex[*p & 15];
    }
    ret[n] = '\0';
}

/* ---- one request ---- */

struct call {
    struct remote *h;
    struct buf body; /* the answer, unless `sink` takes it */
    FILE *sink;
    remote_progress *progress;
    void *ctx;
    bool upload;
    struct curl_slist *headers;
    char *url;
    long status;
};

/* Answers of 400 and above are kept for the message, whoever takes the others. */
static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
    struct call *c = ctx;
    long status = 0;
    curl_easy_getinfo(c->h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (c->sink && status < 300)
        return fwrite(data, size, n, c->sink);
    return buf_add(&c->body, data, size * n) ? 0 : size * n;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    const struct call *c = ctx;
    if (c->progress)
        c->progress(c->ctx, (uint64_t)(c->upload ? up : down),
                    (uint64_t)(c->upload ? up_total : down_total));
    return 0;
}

static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    return !strncmp(host, "127.", 4) || !strncmp(host, "localhost", 9) ||
           !strncmp(host, "[::1]", 5);
}

static void call_init(struct call *c, struct remote *h, const char *method, const char *path)
{
    *c = (struct call){.h = h};
    buf_init(&c->body, ANSWER_MAX);
    if (asprintf(&c->url, "%s%s", h->url, path) < 0)
        abort();
    curl_easy_reset(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_URL, c->url);
    curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->error);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(h->curl, CURLOPT_USERAGENT, "ptq/" PTQ_VERSION);
    if (is_loopback(h->url))
        curl_easy_setopt(h->curl, CURLOPT_NOPROXY, "*");
    if (!strcmp(method, "HEAD"))
        curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
    else if (strcmp(method, "GET") != 0)
        curl_easy_setopt(h->curl, CURLOPT_CUSTOMREQUEST, method);
}

static void call_done(struct call *c)
{
    curl_slist_free_all(c->headers);
    buf_done(&c->body);
    free(c->url);
}

static void add_header(struct call *c, const char *line)
{
    c->headers = curl_slist_append(c->headers, line);
    curl_easy_setopt(c->h->curl, CURLOPT_HTTPHEADER, c->headers);
}

static void show_progress_of(struct call *c, remote_progress *progress, void *ctx)
{
    c->progress = progress;
    c->ctx = ctx;
    curl_easy_setopt(c->h->curl, CURLOPT_NOPROGRESS, progress ? 0L : 1L);
    curl_easy_setopt(c->h->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c->h->curl, CURLOPT_XFERINFODATA, c);
}

static int unreachable(struct remote *h, CURLcode rc, struct err *e)
{
    const char *why = *h->error ? h->error : curl_easy_strerror(rc);
    return err_set(e, ERR_UNAVAILABLE, h->url,
                   "The server does not answer: %s. Start one with `ptqd --data DIR`, or name "
                   "another with --url or PTQ_URL, or compute here with --local.",
                   why);
}

/* The problem document (RFC 9457) of an answer becomes this side's error. */
static int problem(const struct call *c, struct err *e)
{
    struct err ignored = ERR_INIT;
    json_t *p = json_parse(c->body.data, c->body.len, &ignored);
    const char *type = json_str(p, "type", ""), *slug = strrchr(type, '/');
    const char *detail = json_str(p, "detail", json_str(p, "title", NULL));
    enum err_code code = slug ? err_from_slug(slug + 1) : ERR_INTERNAL;
    if (detail)
        err_set(e, code, json_str(p, "at", ""), "%s", detail);
    else
        err_set(e, c->status == 404 ? ERR_NOT_FOUND : ERR_INTERNAL, c->url,
                "The server answered %ld. Is this the URL of a ptqd?", c->status);
    json_decref(p);
    return -1;
}

static int perform(struct call *c, struct err *e)
{
    c->h->error[0] = '\0';
    CURLcode rc = curl_easy_perform(c->h->curl);
    curl_easy_getinfo(c->h->curl, CURLINFO_RESPONSE_CODE, &c->status);
    if (rc == CURLE_WRITE_ERROR && c->sink)
        return err_errno(e, "", "The file cannot be written");
    /* A refusal that comes before the upload is through breaks the connection, but counts. */
    if (rc != CURLE_OK && c->status < 400)
        return unreachable(c->h, rc, e);
    return c->status >= 400 ? problem(c, e) : 0;
}

static int take_json(struct call *c, json_t **ret, struct err *e)
{
    if (!ret)
        return 0;
    *ret = NULL;
    if (!c->body.len)
        return 0;
    /* Not through json_parse: a graph's summary may be larger than what a request may be. */
    *ret = json_loadb(c->body.data, c->body.len, 0, NULL);
    return *ret ? 0
                : err_set(e, ERR_INTERNAL, c->url,
                          "The server's answer is not JSON. Is this the URL of a ptqd?");
}

int remote_call(struct remote *h, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e)
{
    struct call c;
    char *text = body ? json_text(body) : NULL;
    call_init(&c, h, method, path);
    if (body) {
        add_header(&c, "Content-Type: application/json");
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, text);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
    } else if (!strcmp(method, "POST")) {
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, "");
    }
    int rc = perform(&c, e);
    if (!rc)
        rc = take_json(&c, ret, e);
    call_done(&c);
    free(text);
    return rc;
}

int remote_find(struct remote *h, const char *method, const char *path, json_t **ret, struct err *e)
{
    struct err own = ERR_INIT;
    struct call c;
    call_init(&c, h, method, path);
    int rc = perform(&c, &own);
    if (!rc)
        rc = take_json(&c, ret, &own);
    bool absent = rc && c.status == 404;
    call_done(&c);
    if (rc && !absent)
        return err_set(e, own.code, own.at, "%s", own.detail);
    return !absent;
}

/* ---- files ---- */

int remote_upload(struct remote *h, const char *path, const char *file, remote_progress *progress,
                  void *ctx, json_t **ret, struct err *e)
{
    struct stat st;
    FILE *f = fopen(file, "rbe");
    if (!f || fstat(fileno(f), &st)) {
        if (f)
            fclose(f);
        return err_errno(e, file, "The file cannot be read");
    }
    struct call c;
    call_init(&c, h, "PUT", path);
    c.upload = true;
    add_header(&c, "Content-Type: application/octet-stream");
    curl_easy_setopt(h->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(h->curl, CURLOPT_READDATA, f);
    curl_easy_setopt(h->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
    show_progress_of(&c, progress, ctx);
    int rc = perform(&c, e);
    if (!rc)
        rc = take_json(&c, ret, e);
    fclose(f);
    call_done(&c);
    return rc;
}

static int download_to(struct remote *h, const char *path, FILE *f, remote_progress *progress,
                       void *ctx, struct err *e)
{
    struct call c;
    call_init(&c, h, "GET", path);
    c.sink = f;
    show_progress_of(&c, progress, ctx);
    int rc = perform(&c, e);
    call_done(&c);
    return rc;
}

int remote_download(struct remote *h, const char *path, const char *file, remote_progress *progress,
                    void *ctx, struct err *e)
{
    if (!strcmp(file, "-"))
        return download_to(h, path, stdout, progress, ctx, e);
    char *tmp;
    if (asprintf(&tmp, "%s.part%ld", file, (long)getpid()) < 0)
        abort();
    FILE *f = fopen(tmp, "wbe");
    int rc = f ? download_to(h, path, f, progress, ctx, e)
               : err_errno(e, file, "The file cannot be made");
    if (f && fclose(f) != 0 && !rc)
        rc = err_errno(e, file, "The file cannot be written");
    if (!rc && rename(tmp, file))
        rc = err_errno(e, file, "The file cannot be made");
    if (rc && f)
        unlink(tmp);
    free(tmp);
    return rc;
}

/* ---- event streams ---- */

struct follow {
    struct call call;
    struct buf line; /* the line that is coming */
    char type[64];   /* of the event that is coming */
    long long id, *seq;
    remote_event *event;
    void *ctx;
    bool ended; /* by the callback */
};

static void end_event(struct follow *f, const char *text)
{
    struct err ignored = ERR_INIT;
    json_t *row = json_parse(text, strlen(text), &ignored);
    if (!row)
        return;
    *f->seq = json_int(row, "seq", f->id);
    f->ended = f->event(f->ctx, *f->seq, json_str(row, "type", f->type),
                        json_object_get(row, "data")) != 0;
    json_decref(row);
}

/* A line of text/event-stream: a field, a comment, or the empty line that ends an event. */
static void take_line(struct follow *f)
{
    char *s = f->line.data;
    if (!strncmp(s, "id:", 3))
        f->id = atoll(s + 3);
    else if (!strncmp(s, "event:", 6))
        snprintf(f->type, sizeof f->type, "%s", s + 6 + (s[6] == ' '));
    else if (!strncmp(s, "data:", 5))
        end_event(f, s + 5 + (s[5] == ' '));
    buf_clear(&f->line);
}

static size_t on_stream(char *data, size_t size, size_t n, void *ctx)
{
    struct follow *f = ctx;
    long status = 0;
    curl_easy_getinfo(f->call.h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 300)
        return buf_add(&f->call.body, data, size * n) ? 0 : size * n;
    for (size_t i = 0; i < size * n && !f->ended; i++) {
        if (data[i] == '\n')
            take_line(f);
        else if (data[i] != '\r')
            buf_add(&f->line, data + i, 1);
    }
    return f->ended ? 0 : size * n;
}

/* One connection. 0: it broke or ended, 1: the callback has had enough, -1: the server refused. */
static int follow_once(struct remote *h, const char *path, struct follow *f, struct err *e)
{
    char last[64];
    call_init(&f->call, h, "GET", path);
    add_header(&f->call, "Accept: text/event-stream");
    snprintf(last, sizeof last, "Last-Event-ID: %lld", *f->seq);
    if (*f->seq > 0)
        add_header(&f->call, last);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_stream);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* the server's heart beats */
    curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_TIME, (long)SILENT_S);
    buf_clear(&f->line);
    int rc = perform(&f->call, e);
    bool refused = rc && f->call.status >= 400 && !err_retryable(e->code);
    call_done(&f->call);
    return f->ended ? 1 : refused ? -1 : 0;
}

int remote_follow(struct remote *h, const char *path, long long *seq, remote_event *event,
                  void *ctx, struct err *e)
{
    struct follow f = {.seq = seq, .event = event, .ctx = ctx};
    int64_t silent_since = clock_mono_ms();
    int rc = 0;
    buf_init(&f.line, JSON_TEXT_MAX);
    for (long wait_ms = 100; !rc; wait_ms = wait_ms < 3000 ? 2 * wait_ms : 3000) {
        struct err now = ERR_INIT;
        long long before = *seq;
        rc = follow_once(h, path, &f, &now);
        if (*seq != before) {
            silent_since = clock_mono_ms();
            wait_ms = 100;
        }
        bool given_up = !rc && clock_mono_ms() - silent_since > RETRY_FOR_MS && now.code;
        if (rc < 0 || given_up) {
            *e = now;
            rc = -1;
        }
        if (!rc)
            nanosleep(&(struct timespec){wait_ms / 1000, wait_ms % 1000 * 1000000}, NULL);
    }
    buf_done(&f.line);
    return rc < 0 ? -1 : 0;
}
