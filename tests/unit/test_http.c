#include "tests/unit/http_kit.h"

#include <string.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"

void test_http__a_get_is_answered_with_its_headers(void)
{
    struct kit k;
    kit_init(&k);
    kit_start(&k);
    struct reply r = kit_ask(&k, "GET /v1/version HTTP/1.1\r\n" HOST "\r\n");
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body, "\"upload_bytes\":8388608") != NULL);
    CHECK_STR(reply_value(&r, "X-Content-Type-Options"), "nosniff");
    CHECK_STR(reply_value(&r, "Content-Type"), "application/json");
    CHECK(reply_value(&r, "ETag") != NULL);
    CHECK_INT(strlen(reply_value(&r, "X-Request-Id")), 26);
    kit_stop(&k);
}
