#include "server/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/sha256.h"
#include "server/background.h"
#include "server/metrics.h"
#include "server/ulid.h"

struct half {
    unsigned char *data;
    size_t len;
};

struct upload_sink {
    uv_loop_t *loop;
    uv_work_t work;
    struct upload_events events;
    struct arena arena;
    struct upload result;
    uint64_t max;
    size_t half_size;
    struct half half[2];
    int filling;  /* the half the loop fills; the pool may hold the other */
    bool busy;    /* the pool has work: it owns the other half, fd, hash and err */
    bool last;    /* that work is the last: flush */
    bool waiting; /* upload_write refused bytes */
    bool finishing, flushed, freed, leave;
    int fd;
    off_t written, flushing; /* the file's length; how far the kernel was told to write it out */
    struct sha256 *hash;
    struct err err;
};

/* Bytes after which they are sent on to the disk. */
enum { FLUSH_BYTES = 1 << 20 };

static int sink_count, busy_count;

static struct metric upload_bytes = {.name = "ptq_upload_bytes_total",
                                     .help = "Bytes of uploaded bodies taken in."};

struct upload_sink *upload_new(uv_loop_t *loop, const char *tmp_dir, uint64_t max, uint64_t length,
                               const struct upload_events *events, struct err *e)
{
    char id[ULID_SIZE];
    ulid_make(id);
    struct upload_sink *u = xcalloc(1, sizeof *u);
    u->result.path = arena_printf(&u->arena, "%s/upload-%s", tmp_dir, id);
    u->fd = open(u->result.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (u->fd < 0) {
        err_errno(e, NULL, "The upload's temporary file cannot be made");
        arena_done(&u->arena);
        free(u);
        return NULL;
    }
    u->loop = loop;
    u->work.data = u;
    u->events = *events;
    u->max = max;
    u->half_size = length < UPLOAD_BUFFER ? (size_t)length + 1 : UPLOAD_BUFFER;
    u->hash = sha256_new();
    sink_count++;
    return u;
}

int upload_count(void)
{
    return sink_count;
}

int upload_busy(void)
{
    return busy_count;
}

static void sink_destroy(struct upload_sink *u)
{
    if (u->fd >= 0)
        close(u->fd);
    sha256_free(u->hash);
    free(u->half[0].data);
    free(u->half[1].data);
    arena_done(&u->arena);
    free(u);
    sink_count--;
}

void upload_discard(struct upload_sink *u)
{
    if (!u->leave)
        unlink(u->result.path);
    u->leave = true;
}

void upload_free(struct upload_sink *u)
{
    if (!u)
        return;
    upload_discard(u);
    u->freed = true;
    if (!u->busy)
        sink_destroy(u);
}

/* ---- in the pool ---- */

/* Keeps the bytes that are not on disk yet to two pieces: a commit of the database waits for what
 * the file system has gathered, however much that is. No promise is made here, seal() makes it. */
static void flush_behind(struct upload_sink *u)
{
    off_t n = u->written - u->flushing;
    if (n < FLUSH_BYTES)
        return;
    if (u->flushing)
        sync_file_range(u->fd, 0, u->flushing, SYNC_FILE_RANGE_WAIT_BEFORE);
    sync_file_range(u->fd, u->flushing, n, SYNC_FILE_RANGE_WRITE);
    u->flushing = u->written;
}

static int write_all(struct upload_sink *u, const unsigned char *data, size_t len)
{
    while (len) {
        ssize_t n = write(u->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(&u->err, NULL, "The upload cannot be written");
        data += n;
        len -= (size_t)n;
        u->written += n;
    }
    flush_behind(u);
    return 0;
}

static void seal(struct upload_sink *u)
{
    struct digest d;
    sha256_finish(u->hash, &d);
    u->hash = NULL;
    digest_hex(&d, u->result.sha256);
    if (fsync(u->fd))
        err_errno(&u->err, NULL, "The upload cannot be flushed to disk");
    u->flushed = true;
}

static void sink_work(uv_work_t *w)
{
    background_thread();
    struct upload_sink *u = w->data;
    struct half *h = &u->half[!u->filling];
    sha256_add(u->hash, h->data, h->len);
    if (write_all(u, h->data, h->len) == 0 && u->last)
        seal(u);
    h->len = 0;
}

/* ---- on the loop ---- */

static void sink_after(uv_work_t *w, int status);

static void hand_over(struct upload_sink *u)
{
    u->filling = !u->filling;
    u->last = u->finishing && u->half[u->filling].len == 0;
    u->busy = true;
    busy_count++;
    uv_queue_work(u->loop, &u->work, sink_work, sink_after);
}

static void finish_step(struct upload_sink *u)
{
    if (u->err.code || u->flushed)
        u->events.done(u->events.ctx);
    else
        hand_over(u);
}

static void sink_after(uv_work_t *w, int status)
{
    struct upload_sink *u = w->data;
    u->busy = false;
    busy_count--;
    if (u->freed) {
        sink_destroy(u);
        return;
    }
    if (status)
        err_set(&u->err, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    if (u->finishing) {
        finish_step(u);
        return;
    }
    if (!u->waiting)
        return;
    u->waiting = false;
    if (!u->err.code)
        hand_over(u);
    u->events.room(u->events.ctx);
}

int64_t upload_write(struct upload_sink *u, const void *data, size_t len)
{
    const unsigned char *at = data;
    size_t left = len;
    if (!u->busy && u->err.code)
        return -1;
    if (len > u->max - u->result.size)
        return err_set(&u->err, ERR_TOO_LARGE, NULL,
                       "The body is larger than the limit of %llu bytes.",
                       (unsigned long long)u->max);
    while (left) {
        struct half *h = &u->half[u->filling];
        if (!h->data)
            h->data = xmalloc(u->half_size);
        size_t n = u->half_size - h->len < left ? u->half_size - h->len : left;
        memcpy(h->data + h->len, at, n);
        h->len += n;
        at += n;
        left -= n;
        if (h->len < u->half_size)
            break;
        if (u->busy) {
            u->waiting = left > 0;
            break;
        }
        hand_over(u);
    }
    u->result.size += len - left;
    metric_add(&upload_bytes, (double)(len - left), NULL);
    return (int64_t)(len - left);
}

void upload_finish(struct upload_sink *u)
{
    u->finishing = true;
    if (!u->busy)
        finish_step(u);
}

const struct err *upload_error(const struct upload_sink *u)
{
    return u->err.code ? &u->err : NULL;
}

const struct upload *upload_result(const struct upload_sink *u)
{
    return &u->result;
}

void upload_leave_file(struct upload_sink *u)
{
    u->leave = true;
}
