/*
 * Errors: one table, one road.
 *
 * A function that can fail returns int: 0, or -1 with its last argument, a struct err, filled in.
 * The first error wins: err_set() on an err that is already set changes nothing, so that clean-up
 * code cannot hide the cause. The text says what is wrong and what to do; `at` names the place: a
 * JSON Pointer for requests and configurations, else a node, tensor or file name. An err crosses
 * the pipe from worker to server as a message, and becomes RFC 9457 problem+json in
 * server/problem.c only.
 */
#ifndef PTQ_COMMON_ERR_H
#define PTQ_COMMON_ERR_H

#include <stdarg.h>
#include <stdbool.h>

/*     code               slug, the end of the problem's type URI  HTTP  retry  title */
#define ERR_MAP(X)                                                                                 \
    X(ERR_NONE, "none", 200, false, "No error")                                                    \
    X(ERR_BAD_REQUEST, "bad-request", 400, false, "The request is malformed")                      \
    X(ERR_BAD_JSON, "bad-json", 400, false, "The JSON text is malformed")                          \
    X(ERR_UNAUTHORIZED, "unauthorized", 401, false, "A valid token is needed")                     \
    X(ERR_FORBIDDEN, "forbidden", 403, false, "The token does not allow this")                     \
    X(ERR_NOT_FOUND, "not-found", 404, false, "There is no such resource")                         \
    X(ERR_METHOD, "method-not-allowed", 405, false, "The method is not allowed here")              \
    X(ERR_NOT_ACCEPTABLE, "not-acceptable", 406, false, "No offered media type fits")              \
    X(ERR_CONFLICT, "conflict", 409, false, "The state does not allow this")                       \
    X(ERR_IDEM_BUSY, "idempotency-busy", 409, true, "The first request still runs")                \
    X(ERR_GONE, "gone", 410, false, "The resource is gone")                                        \
    X(ERR_LENGTH_REQUIRED, "length-required", 411, false, "A Content-Length is needed")            \
    X(ERR_PRECONDITION, "precondition-failed", 412, false, "The representation has changed")       \
    X(ERR_TOO_LARGE, "too-large", 413, false, "The body is too large")                             \
    X(ERR_MEDIA_TYPE, "unsupported-media-type", 415, false, "The media type is not read")          \
    X(ERR_RANGE, "range-not-satisfiable", 416, false, "The range lies outside")                    \
    X(ERR_INVALID, "invalid", 422, false, "A value is not acceptable")                             \
    X(ERR_UNKNOWN_NAME, "unknown-name", 422, false, "A name is not known")                         \
    X(ERR_IDEM_MISMATCH, "idempotency-mismatch", 422, false, "The key was used before")            \
    X(ERR_BAD_MODEL, "bad-model", 422, false, "The model cannot be read")                          \
    X(ERR_UNSUPPORTED, "unsupported", 422, false, "The model needs what is missing")               \
    X(ERR_BAD_DATA, "bad-data", 422, false, "The data cannot be used")                             \
    X(ERR_DIGEST_MISMATCH, "digest-mismatch", 422, false, "The digest does not match")             \
    X(ERR_LIMIT, "limit", 422, false, "A limit is exceeded")                                       \
    X(ERR_MEMORY_LIMIT, "memory-limit", 422, false, "The memory limit is too low")                 \
    X(ERR_PRECOND_NEEDED, "precondition-required", 428, false, "If-Match is needed")               \
    X(ERR_RATE, "rate-limited", 429, true, "Too many requests")                                    \
    X(ERR_HEADERS, "headers-too-large", 431, false, "The headers are too large")                   \
    X(ERR_INTERNAL, "internal", 500, true, "The service has a fault")                              \
    X(ERR_IO, "io", 500, true, "Storage failed")                                                   \
    X(ERR_WORKER_CRASH, "worker-crash", 500, false, "The worker process crashed")                  \
    X(ERR_WORKER_LOST, "worker-lost", 500, true, "The worker process was lost")                    \
    X(ERR_WORKER_PROTOCOL, "worker-protocol", 500, true, "The worker broke its protocol")          \
    X(ERR_TIMEOUT, "timeout", 500, true, "The time limit is exceeded")                             \
    X(ERR_CANCELLED, "cancelled", 409, false, "The job was cancelled")                             \
    X(ERR_UNAVAILABLE, "unavailable", 503, true, "The service is not ready")                       \
    X(ERR_DISK_FULL, "disk-full", 507, true, "There is no room on the disk")

enum err_code {
#define X(code, slug, status, retry, title) code,
    ERR_MAP(X)
#undef X
        ERR_COUNT
};

enum { ERR_AT_MAX = 512, ERR_DETAIL_MAX = 2048 };

struct err {
    enum err_code code;
    char at[ERR_AT_MAX];         /* the place, UTF-8, cut at ERR_AT_MAX; "" if there is none */
    char detail[ERR_DETAIL_MAX]; /* one or more sentences, UTF-8, cut at ERR_DETAIL_MAX */
};

#define ERR_INIT                                                                                   \
    {                                                                                              \
        .code = ERR_NONE                                                                           \
    }

/* Fills *e unless it is set already; at may be NULL. Returns -1, so that `return err_set(…)`. */
int err_set(struct err *e, enum err_code code, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
int err_vset(struct err *e, enum err_code code, const char *at, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

/* Puts a place in front of the place an error already has: err_in(e, "/model_config") turns at
 * "/x" into "/model_config/x". Returns -1. */
int err_in(struct err *e, const char *place);

/* ERR_IO or ERR_DISK_FULL from errno, with strerror's text behind the given one. Returns -1. */
int err_errno(struct err *e, const char *at, const char *what);

const char *err_slug(enum err_code code);
const char *err_title(enum err_code code);
int err_status(enum err_code code);
bool err_retryable(enum err_code code);
/* The code with this slug; ERR_INTERNAL for a slug nobody knows. */
enum err_code err_from_slug(const char *slug);

#endif
