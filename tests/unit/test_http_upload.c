#include "tests/unit/http_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/sha256.h"

#define HOST "Host: localhost\r\n"

static void start(struct kit *k)
{
    kit_init(k);
    kit_start(k);
}

static void hex_of(const void *data, size_t len, char hex[SHA256_HEX])
{
    struct digest d;
    sha256_of(data, len, &d);
    digest_hex(&d, hex);
}

/* len bytes that do not repeat. */
static char *noise(size_t len)
{
    char *p = xmalloc(len);
    unsigned x = 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (char)(x >> 24);
    }
    return p;
}

static struct reply put(struct kit *k, const char *hex, const char *headers, const void *body,
                        size_t len)
{
    char head[600];
    int fd = kit_connect(k);
    snprintf(head, sizeof head,
             "PUT /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n", hex,
             headers, len);
    kit_text(k, fd, head);
    kit_send(k, fd, body, len);
    struct reply r = kit_reply(k, fd, false);
    close(fd);
    return r;
}

static void check_stored(struct kit *k, const char *hex, const void *data, size_t len)
{
    struct arena a = ARENA_INIT;
    uint64_t size;
    size_t got;
    CHECK(blobs_has(k->server.blobs, hex, &size));
    CHECK_INT(size, len);
    char *text = test_read(blobs_path(k->server.blobs, &a, hex), &got);
    CHECK_INT(got, len);
    CHECK_MEM(text, data, len);
    free(text);
    arena_done(&a);
}

static bool no_tmp_files(void *arg)
{
    return kit_tmp_files(arg) == 0;
}

static bool one_tmp_file(void *arg)
{
    return kit_tmp_files(arg) == 1;
}

void test_http_upload__bodies_of_all_sizes_become_blobs(void)
{
    static const size_t sizes[] = {0,
                                   1,
                                   1000,
                                   1048575,
                                   1048576,
                                   1048577,
                                   2097152,
                                   2097153,
                                   5000000,
                                   KIT_UPLOAD_MAX - 1,
                                   KIT_UPLOAD_MAX};
    struct kit k;
    char hex[SHA256_HEX];
    start(&k);
    char *data = noise(KIT_UPLOAD_MAX);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        hex_of(data, sizes[i], hex);
        struct reply r = put(&k, hex, "", data, sizes[i]);
        CHECK_INT(r.status, 201);
        CHECK(strstr(reply_value(&r, "Location"), hex) != NULL);
        check_stored(&k, hex, data, sizes[i]);
        CHECK_INT(put(&k, hex, "", data, sizes[i]).status, 200);
    }
    free(data);
    kit_stop(&k);
}

void test_http_upload__a_chunked_body_is_stored_whole(void)
{
    struct kit k;
    char hex[SHA256_HEX], head[200];
    size_t len = 3000000, step = 70001;
    start(&k);
    char *data = noise(len);
    hex_of(data, len, hex);
    int fd = kit_connect(&k);
    snprintf(head, sizeof head,
             "PUT /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", hex);
    kit_text(&k, fd, head);
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        snprintf(head, sizeof head, "%zx\r\n", n);
        kit_text(&k, fd, head);
        kit_send(&k, fd, data + at, n);
        kit_text(&k, fd, "\r\n");
    }
    kit_text(&k, fd, "0\r\n\r\n");
    CHECK_INT(kit_reply(&k, fd, false).status, 201);
    check_stored(&k, hex, data, len);
    close(fd);
    free(data);
    kit_stop(&k);
}

void test_http_upload__a_wrong_digest_is_422_and_leaves_nothing(void)
{
    static const char body[] = "content";
    struct kit k;
    char right[SHA256_HEX], wrong[SHA256_HEX], header[200];
    start(&k);
    hex_of(body, 7, right);
    hex_of(body, 6, wrong);
    struct reply r = put(&k, wrong, "", body, 7);
    CHECK_INT(r.status, 422);
    CHECK(strstr(r.body, "/problems/digest-mismatch") != NULL);
    CHECK_INT(put(&k, "ABC", "", body, 7).status, 422);
    snprintf(header, sizeof header, "X-Content-SHA256: %s\r\n", wrong);
    CHECK_INT(put(&k, right, header, body, 7).status, 422);
    CHECK_INT(put(&k, right,
                  "Content-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n",
                  body, 7)
                  .status,
              422);
    CHECK_INT(
        put(&k, right, "Digest: SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\n", body, 7)
            .status,
        422);
    CHECK_INT(put(&k, right, "X-Content-SHA256: 12\r\n", body, 7).status, 400);
    CHECK_INT(put(&k, right, "Content-Digest: sha-256=:abc:\r\n", body, 7).status, 400);
    CHECK_INT(kit_tmp_files(&k), 0);
    CHECK(!blobs_has(k.server.blobs, right, NULL));
    CHECK(!blobs_has(k.server.blobs, wrong, NULL));
    kit_stop(&k);
}

void test_http_upload__a_right_digest_in_a_header_is_accepted(void)
{
    struct kit k;
    char hex[SHA256_HEX], header[300];
    start(&k);
    hex_of("", 0, hex);
    snprintf(header, sizeof header,
             "X-Content-SHA256: %s\r\nContent-Digest: md5=:x:, "
             "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n",
             hex);
    CHECK_INT(put(&k, hex, header, "", 0).status, 201);
    kit_stop(&k);
}

void test_http_upload__too_long_is_413_before_a_byte_of_the_body(void)
{
    struct kit k;
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd,
             "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST
             "Expect: 100-continue\r\nContent-Length: 3000000000\r\n\r\n");
    struct reply r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 413); /* and no 100 before it */
    CHECK_STR(reply_value(&r, "Content-Type"), "application/problem+json");
    kit_wait_closed(&k, fd);
    close(fd);
    fd = kit_connect(&k);
    kit_text(&k, fd,
             "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Content-Length: 3000000000\r\n\r\nabc");
    r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 413);
    CHECK_STR(reply_value(&r, "Connection"), "close");
    close(fd);
    kit_stop(&k);
}

void test_http_upload__an_expected_body_is_asked_for(void)
{
    struct kit k;
    char hex[SHA256_HEX], head[300];
    start(&k);
    hex_of("abc", 3, hex);
    int fd = kit_connect(&k);
    snprintf(head, sizeof head,
             "PUT /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST
             "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
             hex);
    kit_text(&k, fd, head);
    CHECK_INT(kit_reply(&k, fd, false).status, 100);
    kit_text(&k, fd, "abc");
    CHECK_INT(kit_reply(&k, fd, false).status, 201);
    close(fd);
    kit_stop(&k);
}

void test_http_upload__a_chunked_body_over_the_limit_is_413(void)
{
    struct kit k;
    char *chunk = xmalloc(1048576 + 16);
    start(&k);
    int fd = kit_connect(&k);
    kit_text(&k, fd,
             "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    int n = sprintf(chunk, "100000\r\n");
    memset(chunk + n, 'x', 1048576);
    memcpy(chunk + n + 1048576, "\r\n", 2);
    for (int i = 0; i < 10; i++)
        kit_send(&k, fd, chunk, (size_t)n + 1048576 + 2);
    struct reply r = kit_reply(&k, fd, false);
    CHECK_INT(r.status, 413);
    CHECK(strstr(r.body, "8388608") != NULL);
    CHECK_INT(kit_tmp_files(&k), 0);
    close(fd);
    free(chunk);
    kit_stop(&k);
}

void test_http_upload__a_truncated_body_leaves_no_file(void)
{
    static const size_t parts[] = {0, 10, 1500000, 3500000};
    struct kit k;
    start(&k);
    char *data = noise(4000000);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int fd = kit_connect(&k);
        kit_text(&k, fd,
                 "PUT /v1/blobs/sha256:00 HTTP/1.1\r\n" HOST "Content-Length: 4000000\r\n\r\n");
        kit_until(&k, one_tmp_file, &k);
        kit_send(&k, fd, data, parts[i]);
        close(fd);
        kit_until(&k, no_tmp_files, &k);
    }
    free(data);
    kit_stop(&k);
}

void test_http_upload__left_over_files_are_swept_at_start(void)
{
    struct kit k;
    char path[600];
    start(&k);
    snprintf(path, sizeof path, "%s/upload-old", blobs_tmp_dir(k.server.blobs));
    test_write(path, "x", 1);
    CHECK_INT(kit_tmp_files(&k), 1);
    struct err e = ERR_INIT;
    blobs_free(k.server.blobs);
    CHECK_OK(blobs_open(&k.loop, test_dir(), &k.server.blobs, &e), e);
    CHECK_INT(kit_tmp_files(&k), 0);
    kit_stop(&k);
}

/* The folder for blobs cannot be written: the client hears of it and nothing is left. */
void test_http_upload__a_failing_store_is_500_and_leaves_nothing(void)
{
    struct kit k;
    char hex[SHA256_HEX], path[600];
    start(&k);
    hex_of("abc", 3, hex);
    snprintf(path, sizeof path, "%s/blobs/%.2s", test_dir(), hex);
    test_write(path, "in the way", 10);
    struct reply r = put(&k, hex, "", "abc", 3);
    CHECK_INT(r.status, 500);
    CHECK(strstr(r.body, "/problems/io") != NULL);
    CHECK_INT(kit_tmp_files(&k), 0);
    kit_stop(&k);
}

void test_http_upload__many_at_once_do_not_mix(void)
{
    enum { N = 8, SIZE = 2500000 };
    struct kit k;
    int fd[N];
    char hex[N][SHA256_HEX], head[300];
    start(&k);
    char *data = noise(SIZE + N);
    for (int i = 0; i < N; i++) {
        hex_of(data + i, SIZE, hex[i]);
        snprintf(head, sizeof head,
                 "PUT /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", hex[i],
                 SIZE);
        fd[i] = kit_connect(&k);
        kit_text(&k, fd[i], head);
    }
    for (int at = 0; at < SIZE; at += 250000)
        for (int i = 0; i < N; i++)
            kit_send(&k, fd[i], data + i + at, 250000);
    for (int i = 0; i < N; i++) {
        CHECK_INT(kit_reply(&k, fd[i], false).status, 201);
        check_stored(&k, hex[i], data + i, SIZE);
        close(fd[i]);
    }
    free(data);
    kit_stop(&k);
}

/* ---- reading them back ---- */

static struct reply get(struct kit *k, const char *hex, const char *headers)
{
    return kit_ask(k, "GET /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "%s\r\n", hex, headers);
}

void test_http_file__ranges_are_cut_to_the_byte(void)
{
    static const struct {
        const char *range;
        int status, from, len;
    } cases[] = {
        {"bytes=0-0", 206, 0, 1},      {"bytes=0-9", 206, 0, 10},
        {"bytes=3-5", 206, 3, 3},      {"bytes=3-", 206, 3, 7},
        {"bytes=-4", 206, 6, 4},       {"bytes=-99", 206, 0, 10},
        {"bytes=9-99", 206, 9, 1},     {"Bytes=1-2", 206, 1, 2},
        {"bytes=0-1,3-4", 200, 0, 10}, {"bytes=5-3", 200, 0, 10},
        {"bytes=a-b", 200, 0, 10},     {"items=0-1", 200, 0, 10},
        {"bytes=0-1x", 200, 0, 10},    {"bytes=", 200, 0, 10},
        {"bytes=10-", 416, 0, 0},      {"bytes=99999999999999999999-", 416, 0, 0},
        {"bytes=-0", 416, 0, 0},       {"bytes=2-99999999999999999999", 206, 2, 8},
    };
    struct kit k;
    char hex[SHA256_HEX], header[200], want[100];
    start(&k);
    hex_of("0123456789", 10, hex);
    CHECK_INT(put(&k, hex, "", "0123456789", 10).status, 201);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(header, sizeof header, "Range: %s\r\n", cases[i].range);
        struct reply r = get(&k, hex, header);
        if (r.status != cases[i].status)
            FAIL("%s gives %d", cases[i].range, r.status);
        if (r.status == 416) {
            CHECK_STR(reply_value(&r, "Content-Range"), "bytes */10");
            continue;
        }
        CHECK_INT(r.len, cases[i].len);
        CHECK_MEM(r.body, "0123456789" + cases[i].from, r.len);
        snprintf(want, sizeof want, "bytes %d-%d/10", cases[i].from,
                 cases[i].from + cases[i].len - 1);
        CHECK_STR(reply_value(&r, "Content-Range"), r.status == 206 ? want : NULL);
    }
    kit_stop(&k);
}

void test_http_file__conditions_are_heeded(void)
{
    struct kit k;
    char hex[SHA256_HEX], header[300];
    start(&k);
    hex_of("0123456789", 10, hex);
    put(&k, hex, "", "0123456789", 10);
    struct reply r = get(&k, hex, "");
    CHECK_INT(r.status, 200);
    CHECK_STR(reply_value(&r, "Cache-Control"), "private, max-age=31536000, immutable");
    CHECK_STR(reply_value(&r, "Accept-Ranges"), "bytes");
    snprintf(header, sizeof header, "If-None-Match: \"%s\"\r\n", hex);
    CHECK_INT(get(&k, hex, header).status, 304);
    snprintf(header, sizeof header, "If-Range: \"%s\"\r\nRange: bytes=1-2\r\n", hex);
    CHECK_INT(get(&k, hex, header).status, 206);
    CHECK_INT(get(&k, hex, "If-Range: \"old\"\r\nRange: bytes=1-2\r\n").status, 200);
    kit_stop(&k);
}

void test_http_file__head_tells_the_size_and_a_missing_blob_is_404(void)
{
    struct kit k;
    char hex[SHA256_HEX];
    start(&k);
    hex_of("0123456789", 10, hex);
    CHECK_INT(kit_ask(&k, "HEAD /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "\r\n", hex).status, 404);
    CHECK_INT(get(&k, hex, "").status, 404);
    put(&k, hex, "", "0123456789", 10);
    struct reply r = kit_ask(&k, "HEAD /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "\r\n", hex);
    CHECK_INT(r.status, 200);
    CHECK_STR(reply_value(&r, "Content-Length"), "10");
    r = kit_ask(&k, "HEAD /v1/blobs/sha256:%s HTTP/1.1\r\n" HOST "Range: bytes=1-2\r\n\r\n", hex);
    CHECK_INT(r.status, 200); /* a range is for GET only */
    CHECK_INT(get(&k, "../../etc/passwd", "").status, 404);
    CHECK_INT(get(&k, "..%2f..%2fetc%2fpasswd", "").status, 422);
    kit_stop(&k);
}

void test_http_file__an_empty_file_is_sent_and_has_no_range(void)
{
    struct kit k;
    char hex[SHA256_HEX];
    start(&k);
    hex_of("", 0, hex);
    CHECK_INT(put(&k, hex, "", "", 0).status, 201);
    struct reply r = get(&k, hex, "");
    CHECK_INT(r.status, 200);
    CHECK_STR(reply_value(&r, "Content-Length"), "0");
    CHECK_INT(get(&k, hex, "Range: bytes=0-\r\n").status, 416);
    kit_stop(&k);
}

void test_http_file__a_large_file_comes_back_whole(void)
{
    struct kit k;
    char hex[SHA256_HEX];
    start(&k);
    char *data = noise(KIT_UPLOAD_MAX);
    hex_of(data, KIT_UPLOAD_MAX, hex);
    put(&k, hex, "", data, KIT_UPLOAD_MAX);
    struct reply r = get(&k, hex, "");
    CHECK_INT(r.len, KIT_UPLOAD_MAX);
    CHECK_MEM(r.body, data, r.len);
    r = get(&k, hex, "Range: bytes=1000001-7000002\r\n");
    CHECK_INT(r.len, 6000002);
    CHECK_MEM(r.body, data + 1000001, r.len);
    free(data);
    kit_stop(&k);
}
