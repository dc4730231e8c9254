/* HTTP with ptqd: the only place that knows libcurl. Paths begin with "/v1". An answer of 400 and
 * above is an error made of its problem document. No server: ERR_UNAVAILABLE. */
#ifndef PTQ_CLI_HTTP_H
#define PTQ_CLI_HTTP_H

#include <stdint.h>

#include <jansson.h>

#include "common/err.h"

struct remote;
struct remote *remote_new(const char *url);
void remote_free(struct remote *h);
const char *remote_url(const struct remote *h);

/* body may be NULL. *ret: the answer's JSON (new reference), or NULL if it has none; ret may be
 * NULL. */
int remote_call(struct remote *h, const char *method, const char *path, const json_t *body,
                json_t **ret, struct err *e);
/* HEAD or GET: 1 it is there, 0 the server says 404, -1. *ret as above. */
int remote_find(struct remote *h, const char *method, const char *path, json_t **ret,
                struct err *e);

/* Tells how far a transfer is; total 0: not known. */
typedef void remote_progress(void *ctx, uint64_t done, uint64_t total);

/* PUTs a file. */
int remote_upload(struct remote *h, const char *path, const char *file, remote_progress *progress,
                  void *ctx, json_t **ret, struct err *e);
/* GETs into a file ("-": standard output), which appears only when it is whole. */
int remote_download(struct remote *h, const char *path, const char *file, remote_progress *progress,
                    void *ctx, struct err *e);

/* One event of a stream: its sequence number, type and JSON line. Non-zero ends the stream. */
typedef int remote_event(void *ctx, long long seq, const char *type, const json_t *data);
/*
 * Follows an event stream from behind *seq (updated as they come) until the callback ends it.
 * A connection that breaks is made again with Last-Event-ID; ERR_UNAVAILABLE when that has failed
 * for a minute.
 */
int remote_follow(struct remote *h, const char *path, long long *seq, remote_event *event,
                  void *ctx, struct err *e);

/* %XX-encodes a path segment; in the caller's buffer of size ret_size. */
void remote_segment(const char *text, char *ret, size_t ret_size);

#endif
