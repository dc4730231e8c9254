#include "server/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/log.h"
#include "common/sha256.h"
#include "server/background.h"
#include "server/blobs.h"
#include "server/ulid.h"

enum { CHUNK = 256 << 10 };

struct adopting {
    uv_work_t work;
    struct server *server;
    struct arena arena;
    const char *from, *want, *tmp; /* from NULL: the bytes */
    const void *bytes;
    size_t len;
    char sha256[SHA256_HEX];
    uint64_t size;
    struct err err;
    adopted_fn *done;
    void *ctx;
};

static int write_all(int fd, const char *p, size_t len, const char *path, struct err *e)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, path, "The file cannot be written");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int copy_bytes(struct adopting *a, int to, struct sha256 *h)
{
    sha256_add(h, a->bytes, a->len);
    a->size = a->len;
    return write_all(to, a->bytes, a->len, a->tmp, &a->err);
}

static int copy_chunks(struct adopting *a, int from, int to, struct sha256 *h)
{
    char *chunk = xmalloc(CHUNK);
    ssize_t n;
    int r = 0;
    while (!r && (n = read(from, chunk, CHUNK)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r = err_errno(&a->err, a->from, "The worker's file cannot be read");
            break;
        }
        sha256_add(h, chunk, (size_t)n);
        a->size += (uint64_t)n;
        r = write_all(to, chunk, (size_t)n, a->tmp, &a->err);
    }
    free(chunk);
    return r;
}

static int copy_file(struct adopting *a, int to, struct sha256 *h)
{
    int from = open(a->from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (from < 0 || fstat(from, &st) || !S_ISREG(st.st_mode)) {
        if (from >= 0)
            close(from);
        return err_set(&a->err, ERR_WORKER_PROTOCOL, a->from,
                       "The worker told of a file that is not there.");
    }
    int r = copy_chunks(a, from, to, h);
    close(from);
    return r;
}

static int copy(struct adopting *a)
{
    int to = open(a->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return err_errno(&a->err, a->tmp, "The temporary file cannot be made");
    struct sha256 *h = sha256_new();
    int r = a->from ? copy_file(a, to, h) : copy_bytes(a, to, h);
    struct digest d;
    sha256_finish(h, &d);
    digest_hex(&d, a->sha256);
    if (close(to) && !r)
        r = err_errno(&a->err, a->tmp, "The file cannot be written");
    return r;
}

static void on_work(uv_work_t *w)
{
    background_thread();
    struct adopting *a = w->data;
    if (!copy(a) && a->want && strcmp(a->want, a->sha256))
        err_set(&a->err, ERR_WORKER_PROTOCOL, a->from, "The file's SHA-256 is %s, not %s.",
                a->sha256, a->want);
    if (a->err.code != ERR_NONE)
        unlink(a->tmp);
}

static void finish(struct adopting *a, const struct err *e)
{
    a->done(a->ctx, a->sha256, a->size, e);
    arena_done(&a->arena);
    free(a);
}

static void on_placed(void *ctx, const struct err *e)
{
    finish(ctx, e);
}

static void after_work(uv_work_t *w, int status)
{
    struct adopting *a = w->data;
    if (status)
        err_set(&a->err, ERR_UNAVAILABLE, "", "The service is shutting down.");
    if (a->err.code != ERR_NONE)
        finish(a, &a->err);
    else
        blobs_put(a->server->blobs, a->tmp, a->sha256, on_placed, a);
}

static struct adopting *adopting_new(struct server *s, adopted_fn *done, void *ctx)
{
    char name[ULID_SIZE];
    ulid_make(name);
    struct adopting *a = xcalloc(1, sizeof *a);
    a->work.data = a;
    a->server = s;
    a->tmp = arena_printf(&a->arena, "%s/adopt-%s", blobs_tmp_dir(s->blobs), name);
    a->done = done;
    a->ctx = ctx;
    return a;
}

void adopt_file(struct server *s, const char *dir, const char *name, const char *sha256,
                adopted_fn *done, void *ctx)
{
    struct adopting *a = adopting_new(s, done, ctx);
    a->from = arena_printf(&a->arena, "%s/%s", dir, name);
    a->want = sha256 ? arena_strdup(&a->arena, sha256) : NULL;
    if (!*name || *name == '.' || strchr(name, '/')) {
        err_set(&a->err, ERR_WORKER_PROTOCOL, name, "This is no name of a file in the folder.");
        finish(a, &a->err);
        return;
    }
    uv_queue_work(s->loop, &a->work, on_work, after_work);
}

void adopt_bytes(struct server *s, const void *bytes, size_t len, adopted_fn *done, void *ctx)
{
    struct adopting *a = adopting_new(s, done, ctx);
    a->bytes = arena_copy(&a->arena, bytes, len ? len : 1);
    a->len = len;
    uv_queue_work(s->loop, &a->work, on_work, after_work);
}

/* ---- folders ---- */

struct removing {
    uv_work_t work;
    char *path;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    remove(path);
    return 0;
}

static void on_remove(uv_work_t *w)
{
    background_thread();
    struct removing *r = w->data;
    nftw(r->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void after_remove(uv_work_t *w, int status)
{
    (void)status; /* what is left is swept at the next start */
    struct removing *r = w->data;
    free(r->path);
    free(r);
}

void remove_tree(struct server *s, const char *path)
{
    struct removing *r = xcalloc(1, sizeof *r);
    r->work.data = r;
    r->path = xstrdup(path);
    uv_queue_work(s->loop, &r->work, on_remove, after_remove);
}
