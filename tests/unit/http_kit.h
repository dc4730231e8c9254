/* A server in the test's own process and thread, and raw clients: everything that waits turns the
 * server's loop, so that there is no sleep and no race. */
#ifndef PTQ_TESTS_HTTP_KIT_H
#define PTQ_TESTS_HTTP_KIT_H

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "server/blobs.h"
#include "server/http.h"
#include "server/server.h"
#include "tests/test.h"

enum { KIT_UPLOAD_MAX = 8 << 20 };

struct kit {
    uv_loop_t loop;
    struct server server;
    struct http_opts opts; /* set between kit_init and kit_start to change something */
    bool drained, over;
    uv_timer_t limit;
};

void kit_init(struct kit *k);
void kit_start(struct kit *k);
void kit_stop(struct kit *k); /* drains, then kit_done */
void kit_done(struct kit *k); /* after the drain: checks that nothing is left */

int kit_connect(struct kit *k);
void kit_send(struct kit *k, int fd, const void *data, size_t len);
void kit_text(struct kit *k, int fd, const char *text);
/* Turns the loop until cond(arg); a condition that never comes fails the test. */
void kit_until(struct kit *k, bool (*cond)(void *arg), void *arg);
void kit_turn(struct kit *k); /* once, waiting for at most some ms */

struct reply {
    int status;
    char *head, *body; /* zero-terminated, die with the test */
    size_t len;        /* of the body, chunks put together */
    bool closed;       /* the server has closed behind it */
};
/* Reads one whole reply; what follows it stays for the next call. */
struct reply kit_reply(struct kit *k, int fd, bool head_only);
/* Sends a request and reads its reply on a connection of its own. */
struct reply kit_ask(struct kit *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *reply_value(const struct reply *r, const char *name); /* NULL if absent */
void kit_wait_closed(struct kit *k, int fd);
int kit_tmp_files(struct kit *k);

#endif
