#include "tests/unit/http_kit.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"

#define HOST "Host: localhost\r\n"

/* ---- the rows of these tests ---- */

static void echo(struct req *r)
{
    const char *q = req_query(r, "q");
    if (req_only_query(r, (const char *const[]){"q"}, 1) == 0)
        reply_json(r, 200, json_pack("{s:s,s:s?}", "path", req_path(r), "q", q), NULL);
}

static void echo_name(struct req *r)
{
    reply_json(r, 200, json_pack("{s:s}", "name", req_param(r, "name")), NULL);
}

static void echo_rest(struct req *r)
{
    reply_json(r, 200,
               json_pack("{s:s,s:s}", "name", req_param(r, "name"), "rest", req_param(r, "rest")),
               NULL);
}

static void echo_json(struct req *r)
{
    reply_json(r, 200, json_pack("{s:O,s:s}", "body", req_json(r), "sha256", req_body_sha256(r)),
               "fixed");
}

static void stop(struct req *r)
{
    reply_json(r, 202, json_pack("{s:s}", "stopped", req_param(r, "name")), NULL);
}

static void prefer(struct req *r)
{
    bool async;
    int wait = req_prefer_wait(r, 60, &async);
    reply_json(r, 200, json_pack("{s:i,s:b}", "wait", wait, "async", async), NULL);
}

static const struct route rows[] = {
    {"GET", "/t", "t", BODY_NONE, echo},
    {"GET", "/t/prefer", "t", BODY_NONE, prefer},
    {"GET", "/t/{name}", "t", BODY_NONE, echo_name},
    {"DELETE", "/t/{name}", "t", BODY_NONE, echo_name},
    {"POST", "/t/{name}:stop", "t", BODY_NONE, stop},
    {"GET", "/t/{name}/files/{rest...}", "t", BODY_NONE, echo_rest},
    {"POST", "/json", "t", BODY_JSON, echo_json},
    {0},
};
static const struct route *const tables[] = {rows, NULL};

static void start(struct kit *k)
{
    kit_init(k);
    k->opts.tables = tables;
    kit_start(k);
}

/* ---- framing ---- */

/* The text is refused with the status as problem+json, and the connection is closed. */
static void check_refused(struct kit *k, int status, const char *text)
{
    int fd = kit_connect(k);
    kit_text(k, fd, text);
    struct reply r = kit_reply(k, fd, false);
    if (r.status != status || !reply_value(&r, "Connection"))
        FAIL("%s%s instead of %d for: %s", r.head, r.body, status, text);
    CHECK_STR(reply_value(&r, "Content-Type"), "application/problem+json");
    CHECK_STR(reply_value(&r, "Connection"), "close");
    CHECK(reply_value(&r, "X-Request-Id") != NULL);
    kit_wait_closed(k, fd);
    close(fd);
}

void test_http__ambiguous_framing_is_refused_and_closed(void)
{
    struct kit k;
    start(&k);
    check_refused(&k, 400,
                  "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    check_refused(
        &k, 400, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}");
    check_refused(
        &k, 400, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\ncontent-length: 2\r\n\r\n{}");
    check_refused(&k, 400,
                  "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    check_refused(&k, 400,
                  "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n");
    check_refused(&k, 400, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n");
    check_refused(&k, 400, "POST /json HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    check_refused(&k, 400, "GET /t HTTP/1.1\r\n" HOST HOST "\r\n");
    check_refused(&k, 400, "GET /t HTTP/1.1\r\n\r\n");
    check_refused(&k, 400,
                  "GET /t HTTP/1.1\r\n" HOST
                  "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n");
    check_refused(&k, 400, "POST /json HTTP/1.1\r\n" HOST "Content-Length : 2\r\n\r\n{}");
    check_refused(&k, 400, "GET /t HTTP/1.1\r\n" HOST "X-A: a\x01z\r\n\r\n");
    kit_stop(&k);
}

/* What follows a refused body must never be taken for a request. */
void test_http__nothing_is_smuggled_behind_a_refused_request(void)
{
    struct kit k;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd,
             "POST /json HTTP/1.1\r\n" HOST
             "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
             "0\r\n\r\nGET /t HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(kit_reply(&k, fd, false).status, 400);
    CHECK(kit_reply(&k, fd, false).closed);
    close(fd);
    kit_stop(&k);
}

/* The daemon library answers these by itself: the status and the close are what matters. */
static void check_status(struct kit *k, int status, const char *text, size_t len)
{
    int fd = kit_connect(k);
    kit_send(k, fd, text, len);
    struct reply r = kit_reply(k, fd, false);
    if (r.status != status)
        FAIL("%d instead of %d for: %.60s", r.status, status, text);
    kit_wait_closed(k, fd);
    close(fd);
}

void test_http__broken_lengths_and_huge_heads_are_refused(void)
{
    static const char negative[] = "POST /json HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n",
                      word[] = "POST /json HTTP/1.1\r\n" HOST "Content-Length: two\r\n\r\n",
                      chunk[] = "POST /json HTTP/1.1\r\n" HOST
                                "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n";
    struct kit k;
    struct buf big;
    start(&k);
    check_status(&k, 400, negative, sizeof negative - 1);
    check_status(&k, 400, word, sizeof word - 1);
    check_status(&k, 413, chunk, sizeof chunk - 1);
    buf_init(&big, 300000);
    buf_adds(&big, "GET /t HTTP/1.1\r\n" HOST "X-Big: ");
    for (int i = 0; i < 20000; i++)
        buf_adds(&big, "0123456789");
    buf_adds(&big, "\r\n\r\n");
    check_status(&k, 431, big.data, big.len);
    buf_done(&big);
    kit_stop(&k);
}

/* The daemon library ends a text at its zero byte. What counts: nothing behind it is acted upon,
 * and the next request is where it should be. */
static void check_in_step(struct kit *k, const char *text, size_t len)
{
    int fd = kit_connect(k);
    kit_send(k, fd, text, len);
    struct reply r = kit_reply(k, fd, false);
    CHECK(r.status == 200 || r.status == 400);
    if (r.status == 200) {
        CHECK_STR(r.body, "{\"path\":\"/t\",\"q\":null}\n");
        kit_text(k, fd, "GET /t/next HTTP/1.1\r\n" HOST "\r\n");
        CHECK_STR(kit_reply(k, fd, false).body, "{\"name\":\"next\"}\n");
    }
    close(fd);
}

void test_http__zero_bytes_and_bare_line_feeds_do_not_shift_the_next_request(void)
{
    static const char in_header[] = "GET /t HTTP/1.1\r\n" HOST "X-A: a\0b\r\n\r\n",
                      in_path[] = "GET /t\0/x HTTP/1.1\r\n" HOST "\r\n",
                      in_name[] = "GET /t HTTP/1.1\r\n" HOST "X\0A: a\r\n\r\n",
                      bare[] = "GET /t HTTP/1.1\nHost: localhost\nX-A: b\n\n";
    struct kit k;
    start(&k);
    check_in_step(&k, in_header, sizeof in_header - 1);
    check_in_step(&k, in_name, sizeof in_name - 1);
    check_in_step(&k, in_path, sizeof in_path - 1);
    check_in_step(&k, bare, sizeof bare - 1);
    kit_stop(&k);
}

void test_http__old_clients_need_no_host(void)
{
    struct kit k;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "GET /t HTTP/1.0\r\n\r\n");
    CHECK_INT(kit_reply(&k, fd, false).status, 200);
    kit_wait_closed(&k, fd);
    close(fd);
    kit_stop(&k);
}

/* ---- whom it serves ---- */

static int status_with(struct kit *k, const char *host, const char *more)
{
    return kit_ask(k, "GET /t HTTP/1.1\r\nHost: %s\r\n%s\r\n", host, more).status;
}

void test_http__only_loopback_names_are_served(void)
{
    static const char *const good[] = {"localhost", "LocalHost:1", "127.0.0.1:8080", "[::1]",
                                       "[::1]:65535"};
    static const char *const bad[] = {"evil.example",   "localhost.evil.example", "localhost:",
                                      "localhost:80x",  "127.0.0.1.nip.io",       "",
                                      "127.0.0.2@evil", "localhost:8080:1",       "[::2]"};
    struct kit k;
    start(&k);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK_INT(status_with(&k, good[i], ""), 200);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_INT(status_with(&k, bad[i], ""), 403);
    kit_stop(&k);
}

void test_http__pages_of_other_origins_are_refused(void)
{
    struct kit k;
    start(&k);
    CHECK_INT(status_with(&k, "localhost:8080", "Origin: http://localhost:8080\r\n"), 200);
    CHECK_INT(status_with(&k, "localhost:8080", "Origin: http://localhost:8081\r\n"), 403);
    CHECK_INT(status_with(&k, "localhost:8080", "Origin: https://localhost:8080\r\n"), 403);
    CHECK_INT(status_with(&k, "localhost:8080", "Origin: http://evil.example\r\n"), 403);
    CHECK_INT(status_with(&k, "localhost:8080", "Origin: null\r\n"), 403);
    kit_stop(&k);
}

void test_http__an_address_for_all_the_world_is_refused(void)
{
    static const char *const hosts[] = {"0.0.0.0", "::", "192.0.2.1", "example.com"};
    struct kit k;
    kit_init(&k);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        struct err e = ERR_INIT;
        k.opts.host = hosts[i];
        CHECK_INT(http_start(&k.loop, &k.server, &k.opts, &k.server.http, &e), -1);
        CHECK_INT(e.code, ERR_INVALID);
        CHECK(strstr(e.detail, hosts[i]) != NULL);
    }
    k.opts.host = "localhost";
    kit_start(&k);
    kit_stop(&k);
}

/* ---- routes ---- */

void test_http__unknown_paths_are_404_and_known_ones_405_with_allow(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /u HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 404);
    CHECK(strstr(r.body, "\"type\":\"/problems/not-found\"") != NULL);
    CHECK(strstr(r.body, "\"instance\":\"/u\"") != NULL);
    r = kit_ask(&k, "PATCH /t/a HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 405);
    CHECK_STR(reply_value(&r, "Allow"), "GET, HEAD, DELETE");
    r = kit_ask(&k, "GET /t/a:stop HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 405);
    CHECK_STR(reply_value(&r, "Allow"), "POST");
    CHECK_INT(kit_ask(&k, "POST /t/a:stop HTTP/1.1\r\n" HOST "\r\n").status, 202);
    CHECK_INT(kit_ask(&k, "GET /t/ HTTP/1.1\r\n" HOST "\r\n").status, 404);
    CHECK_INT(kit_ask(&k, "GET /t/a/b HTTP/1.1\r\n" HOST "\r\n").status, 404);
    CHECK_INT(kit_ask(&k, "GET //t HTTP/1.1\r\n" HOST "\r\n").status, 404);
    kit_stop(&k);
}

void test_http__segments_are_split_before_they_are_decoded(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /t/a%%2Fb%%20%%c3%%a4 HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 200);
    CHECK_STR(r.body, "{\"name\":\"a/b \xc3\xa4\"}\n");
    r = kit_ask(&k, "GET /t/x/files/a/..%%2fb/c HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(r.body, "{\"name\":\"x\",\"rest\":\"a/../b/c\"}\n");
    CHECK_INT(kit_ask(&k, "GET /t/a%%00b HTTP/1.1\r\n" HOST "\r\n").status, 400);
    CHECK_INT(kit_ask(&k, "GET /t/a%%2 HTTP/1.1\r\n" HOST "\r\n").status, 400);
    CHECK_INT(kit_ask(&k, "GET /t/a%%zz HTTP/1.1\r\n" HOST "\r\n").status, 400);
    CHECK_INT(kit_ask(&k, "GET /t/%%ff HTTP/1.1\r\n" HOST "\r\n").status, 400);
    kit_stop(&k);
}

void test_http__unknown_and_repeated_query_parameters_are_422(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /t?q=a%%26b+c HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(r.body, "{\"path\":\"/t\",\"q\":\"a&b c\"}\n");
    CHECK_INT(kit_ask(&k, "GET /t?Q=1 HTTP/1.1\r\n" HOST "\r\n").status, 422);
    CHECK_INT(kit_ask(&k, "GET /t?q=1&q=2 HTTP/1.1\r\n" HOST "\r\n").status, 422);
    CHECK_INT(kit_ask(&k, "GET /t?q=%%f HTTP/1.1\r\n" HOST "\r\n").status, 400);
    CHECK_INT(kit_ask(&k, "GET /t?q HTTP/1.1\r\n" HOST "\r\n").status, 200);
    kit_stop(&k);
}

/* ---- what every reply has ---- */

void test_http__head_is_get_without_the_body(void)
{
    struct kit k;
    start(&k);
    struct reply get = kit_ask(&k, "GET /t/abc HTTP/1.1\r\n" HOST "\r\n");
    int fd = kit_connect(&k);
    kit_text(&k, fd, "HEAD /t/abc HTTP/1.1\r\n" HOST "\r\n");
    struct reply head = kit_reply(&k, fd, true);
    CHECK_INT(head.status, 200);
    CHECK_STR(reply_value(&head, "Content-Length"), reply_value(&get, "Content-Length"));
    CHECK_STR(reply_value(&head, "ETag"), reply_value(&get, "ETag"));
    kit_text(&k, fd, "GET /t HTTP/1.1\r\n" HOST "\r\n"); /* right behind: no body was sent */
    CHECK_INT(kit_reply(&k, fd, false).status, 200);
    close(fd);
    kit_stop(&k);
}

void test_http__a_fitting_request_id_comes_back_and_another_is_replaced(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "X-Request-Id: build-12345\r\n\r\n");
    CHECK_STR(reply_value(&r, "X-Request-Id"), "build-12345");
    r = kit_ask(&k, "GET /none HTTP/1.1\r\n" HOST "X-Request-Id: build-12345\r\n\r\n");
    CHECK_STR(reply_value(&r, "X-Request-Id"), "build-12345");
    CHECK(strstr(r.body, "\"request_id\":\"build-12345\"") != NULL);
    r = kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "X-Request-Id: a b;c<script>\r\n\r\n");
    CHECK_INT(strlen(reply_value(&r, "X-Request-Id")), 26);
    kit_stop(&k);
}

void test_http__a_known_etag_is_answered_304(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "\r\n");
    const char *tag = reply_value(&r, "ETag");
    CHECK(tag && tag[0] == '"');
    struct reply again =
        kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "If-None-Match: \"x,y\", W/%s\r\n\r\n", tag);
    CHECK_INT(again.status, 304);
    CHECK_STR(reply_value(&again, "ETag"), tag);
    CHECK_INT(kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "If-None-Match: *\r\n\r\n").status, 304);
    CHECK_INT(kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "If-None-Match: \"other\"\r\n\r\n").status,
              200);
    CHECK_INT(kit_ask(&k, "GET /t?q=1 HTTP/1.1\r\n" HOST "If-None-Match: %s\r\n\r\n", tag).status,
              200);
    kit_stop(&k);
}

void test_http__pipelined_requests_are_answered_in_turn(void)
{
    struct kit k;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd,
             "GET /t/1 HTTP/1.1\r\n" HOST "\r\nGET /none HTTP/1.1\r\n" HOST "\r\n"
             "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}"
             "GET /t/4 HTTP/1.1\r\n" HOST "\r\n");
    CHECK_STR(kit_reply(&k, fd, false).body, "{\"name\":\"1\"}\n");
    CHECK_INT(kit_reply(&k, fd, false).status, 404);
    CHECK_INT(kit_reply(&k, fd, false).status, 200);
    CHECK_STR(kit_reply(&k, fd, false).body, "{\"name\":\"4\"}\n");
    close(fd);
    kit_stop(&k);
}

/* Valid requests with bytes changed, cut and doubled at random: the service answers or closes, and
 * goes on. */
void test_http__mutated_requests_do_no_harm(void)
{
    static const char *const seeds[] = {
        "GET /t?q=a%20b HTTP/1.1\r\n" HOST "Prefer: wait=3\r\nIf-None-Match: \"x\"\r\n\r\n",
        "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "POST /json HTTP/1.1\r\n" HOST "Content-Length: 7\r\nContent-Digest: "
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n\r\n{\"a\":1}",
        "GET /t/x/files/a/%2e%2e/b HTTP/1.1\r\n" HOST "Origin: http://localhost\r\n\r\n"};
    enum { ROUNDS = 10, AT_ONCE = 100 };
    struct kit k;
    unsigned x = 7;
    kit_init(&k);
    k.opts.tables = tables;
    k.opts.header_deadline_ms = k.opts.idle_ms = 40;
    kit_start(&k);
    for (int round = 0; round < ROUNDS; round++) {
        int fd[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {
            char text[600];
            size_t len = strlen(strcpy(text, seeds[(round + i) % 4]));
            for (int change = 0; change <= i % 5; change++) {
                x = x * 1664525 + 1013904223;
                text[(x >> 8) % len] = (char)(x >> 24);
                if (x % 7 == 0)
                    len -= (x >> 8) % len / 2;
            }
            fd[i] = kit_connect(&k);
            kit_send(&k, fd[i], text, len);
            if (i % 2)
                shutdown(fd[i], SHUT_WR);
        }
        for (int i = 0; i < AT_ONCE; i++) {
            kit_wait_closed(&k, fd[i]);
            close(fd[i]);
        }
    }
    CHECK_INT(kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "\r\n").status, 200);
    kit_stop(&k);
}

/* ---- JSON bodies ---- */

static struct reply post(struct kit *k, const char *headers, const char *body)
{
    return kit_ask(k, "POST /json HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n%s", headers,
                   strlen(body), body);
}

void test_http__json_is_read_whatever_its_content_type(void)
{
    struct kit k;
    start(&k);
    CHECK_INT(post(&k, "", "{\"a\":1}").status, 200);
    struct reply r = post(&k, "Content-Type: application/x-www-form-urlencoded\r\n", "{\"a\":1}");
    CHECK_INT(r.status, 200);
    CHECK_STR(r.body, "{\"body\":{\"a\":1},\"sha256\":"
                      "\"015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862\"}\n");
    CHECK_INT(post(&k, "Content-Type: multipart/form-data; boundary=x\r\n", "{}").status, 415);
    CHECK_INT(post(&k, "Content-Encoding: gzip\r\n", "{}").status, 415);
    kit_stop(&k);
}

void test_http__bad_json_is_400(void)
{
    static const char *const texts[] = {"", "{", "{\"a\":1,\"a\":2}", "[1] x", "\xff", "NaN"};
    struct kit k;
    start(&k);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct reply r = post(&k, "", texts[i]);
        CHECK_INT(r.status, 400);
        CHECK(strstr(r.body, "/problems/bad-json") != NULL);
    }
    kit_stop(&k);
}

void test_http__json_may_come_in_chunks_and_has_a_limit(void)
{
    struct kit k;
    char chunk[65600];
    start(&k);
    struct reply r = kit_ask(&k, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                                 "3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n");
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body, "\"body\":[1,2]") != NULL);
    int fd = kit_connect(&k);
    kit_text(&k, fd, "POST /json HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    int n = snprintf(chunk, sizeof chunk, "10000\r\n%65536s\r\n", " ");
    for (int i = 0; i < 140; i++)
        kit_send(&k, fd, chunk, (size_t)n);
    r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 413);
    CHECK_STR(reply_value(&r, "Content-Type"), "application/problem+json");
    close(fd);
    kit_stop(&k);
}

void test_http__a_body_where_none_belongs_is_refused(void)
{
    struct kit k;
    start(&k);
    struct reply r = kit_ask(&k, "GET /t HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    CHECK_INT(r.status, 400);
    CHECK_STR(reply_value(&r, "Connection"), "close");
    CHECK_INT(kit_ask(&k, "DELETE /t/a HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n").status, 200);
    kit_stop(&k);
}

void test_http__preferences_are_read(void)
{
    struct kit k;
    start(&k);
    CHECK_STR(kit_ask(&k, "GET /t/prefer HTTP/1.1\r\n" HOST "\r\n").body,
              "{\"async\":false,\"wait\":-1}\n");
    CHECK_STR(
        kit_ask(&k, "GET /t/prefer HTTP/1.1\r\n" HOST "Prefer: respond-async, wait=7\r\n\r\n").body,
        "{\"async\":true,\"wait\":7}\n");
    CHECK_STR(
        kit_ask(&k, "GET /t/prefer HTTP/1.1\r\n" HOST "Prefer: wait=99999999999\r\n\r\n").body,
        "{\"async\":false,\"wait\":60}\n");
    CHECK_STR(kit_ask(&k, "GET /t/prefer HTTP/1.1\r\n" HOST "Prefer: wait=x\r\n\r\n").body,
              "{\"async\":false,\"wait\":-1}\n");
    kit_stop(&k);
}
