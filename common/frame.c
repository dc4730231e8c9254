#include "common/frame.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

static void put_length(unsigned char head[FRAME_HEAD], size_t len)
{
    for (int i = 0; i < FRAME_HEAD; i++)
        head[i] = (unsigned char)(len >> (8 * i));
}

static size_t get_length(const char *data)
{
    const unsigned char *u = (const unsigned char *)data;
    return (size_t)u[0] | (size_t)u[1] << 8 | (size_t)u[2] << 16 | (size_t)u[3] << 24;
}

static int too_long(size_t len, enum err_code code, struct err *e)
{
    return err_set(e, code, "", "A frame of %zu bytes is over the limit of %d.", len, FRAME_MAX);
}

int frame_add(struct buf *out, const void *payload, size_t len, struct err *e)
{
    if (len > FRAME_MAX)
        return too_long(len, ERR_LIMIT, e);
    unsigned char head[FRAME_HEAD];
    put_length(head, len);
    if (!buf_room(out, FRAME_HEAD + len))
        return err_set(e, ERR_LIMIT, "", "The other side of the pipe does not read.");
    buf_add(out, head, FRAME_HEAD);
    buf_add(out, payload, len);
    return 0;
}

int frame_next(const char *data, size_t len, const char **ret_payload, size_t *ret_len,
               struct err *e)
{
    if (len < FRAME_HEAD)
        return 0;
    size_t want = get_length(data);
    if (want > FRAME_MAX)
        return too_long(want, ERR_WORKER_PROTOCOL, e);
    if (len - FRAME_HEAD < want)
        return 0;
    *ret_payload = data + FRAME_HEAD;
    *ret_len = want;
    return 1;
}

static int write_all(int fd, const char *data, size_t len, struct err *e)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "", "The pipe cannot be written");
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int frame_write(int fd, const void *payload, size_t len, struct err *e)
{
    if (len > FRAME_MAX)
        return too_long(len, ERR_LIMIT, e);
    unsigned char head[FRAME_HEAD];
    put_length(head, len);
    if (write_all(fd, (const char *)head, FRAME_HEAD, e))
        return -1;
    return write_all(fd, payload, len, e);
}

/* The number of bytes read, less than len only at the end of the stream; -1 on error. */
static ssize_t read_all(int fd, char *data, size_t len, struct err *e)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, data + got, len - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, "", "The pipe cannot be read");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

int frame_read(int fd, struct buf *ret, struct err *e)
{
    char head[FRAME_HEAD];
    ssize_t got = read_all(fd, head, FRAME_HEAD, e);
    if (got <= 0)
        return (int)got;
    if (got < FRAME_HEAD)
        return err_set(e, ERR_WORKER_PROTOCOL, "", "The stream ended inside a frame's length.");
    size_t want = get_length(head);
    if (want > FRAME_MAX)
        return too_long(want, ERR_WORKER_PROTOCOL, e);
    buf_clear(ret);
    char *room = buf_room(ret, want);
    if (!room)
        return too_long(want, ERR_WORKER_PROTOCOL, e);
    got = read_all(fd, room, want, e);
    if (got < 0)
        return -1;
    if ((size_t)got < want)
        return err_set(e, ERR_WORKER_PROTOCOL, "", "The stream ended inside a frame.");
    ret->len = want;
    ret->data[want] = '\0';
    return 1;
}
