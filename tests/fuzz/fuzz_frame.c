/* A stream of frames: each is found again where it is, and nothing is read past the end. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "common/frame.h"

/* Said again, a frame has the bytes it had. */
static void say_again(const char *frame, const char *payload, size_t len)
{
    struct buf again;
    struct err e = ERR_INIT;
    buf_init(&again, FRAME_MAX + FRAME_HEAD);
    PROMISE(frame_add(&again, payload, len, &e) == 0);
    PROMISE(again.len == FRAME_HEAD + len && memcmp(again.data, frame, again.len) == 0);
    buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = ERR_INIT;
    char *copy = malloc(size ? size : 1); /* exactly the input: reading past it is seen */
    const char *payload;
    size_t at = 0, len;
    int rc;
    PROMISE(copy != NULL);
    memcpy(copy, data, size);
    while ((rc = frame_next(copy + at, size - at, &payload, &len, &e)) > 0) {
        PROMISE(payload == copy + at + FRAME_HEAD && len <= size - at - FRAME_HEAD);
        say_again(copy + at, payload, len);
        at += FRAME_HEAD + len;
    }
    PROMISE((rc < 0) == (e.code != ERR_NONE));
    free(copy);
    return 0;
}
