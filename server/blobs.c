#include "server/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct blobs {
    uv_loop_t *loop;
    struct arena arena;
    const char *dir, *tmp_dir;
};

static int make_dir(const char *path, struct err *e)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return err_errno(e, path, "The folder cannot be made");
}

static int flush_dir(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, path, "The folder cannot be opened");
    int r = fsync(fd);
    if (r)
        err_errno(e, path, "The folder cannot be flushed to disk");
    close(fd);
    return r;
}

static int sweep_tmp(const char *path, struct err *e)
{
    DIR *d = opendir(path);
    if (!d)
        return err_errno(e, path, "The folder cannot be read");
    for (struct dirent *f; (f = readdir(d));)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0 &&
            unlinkat(dirfd(d), f->d_name, 0) && errno != ENOENT)
            err_errno(e, f->d_name, "A left-over temporary file cannot be removed");
    closedir(d);
    return e->code ? -1 : 0;
}

int blobs_open(uv_loop_t *loop, const char *data_dir, struct blobs **ret, struct err *e)
{
    struct blobs *b = xcalloc(1, sizeof *b);
    b->loop = loop;
    b->dir = arena_printf(&b->arena, "%s/blobs", data_dir);
    b->tmp_dir = arena_printf(&b->arena, "%s/tmp", data_dir);
    if (make_dir(b->dir, e) || make_dir(b->tmp_dir, e) || sweep_tmp(b->tmp_dir, e) ||
        flush_dir(data_dir, e)) {
        blobs_free(b);
        return -1;
    }
    *ret = b;
    return 0;
}

void blobs_free(struct blobs *b)
{
    if (!b)
        return;
    arena_done(&b->arena);
    free(b);
}

const char *blobs_tmp_dir(const struct blobs *b)
{
    return b->tmp_dir;
}

const char *blobs_path(const struct blobs *b, struct arena *a, const char *sha256)
{
    return arena_printf(a, "%s/%.2s/%s", b->dir, sha256, sha256);
}

bool blobs_has(const struct blobs *b, const char *sha256, uint64_t *ret_size)
{
    struct arena a = ARENA_INIT;
    struct stat st;
    bool has = stat(blobs_path(b, &a, sha256), &st) == 0 && S_ISREG(st.st_mode);
    if (has && ret_size)
        *ret_size = (uint64_t)st.st_size;
    arena_done(&a);
    return has;
}

int blobs_remove(struct blobs *b, const char *sha256, struct err *e)
{
    struct arena a = ARENA_INIT;
    int r = 0;
    if (unlink(blobs_path(b, &a, sha256)) && errno != ENOENT)
        r = err_errno(e, sha256, "The blob cannot be removed");
    arena_done(&a);
    return r;
}

/* ---- into place ---- */

struct put {
    uv_work_t work;
    struct arena arena;
    const char *top, *from, *dir, *to;
    void (*done)(void *ctx, const struct err *e);
    void *ctx;
    struct err err;
};

static int flush_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, path, "The file cannot be opened");
    int r = fsync(fd);
    if (r)
        err_errno(e, path, "The file cannot be flushed to disk");
    close(fd);
    return r;
}

static int put_run(struct put *p)
{
    bool fresh = mkdir(p->dir, 0700) == 0;
    if (!fresh && errno != EEXIST)
        return err_errno(&p->err, p->dir, "The folder cannot be made");
    if (fresh && flush_dir(p->top, &p->err))
        return -1;
    if (flush_file(p->from, &p->err))
        return -1;
    if (rename(p->from, p->to))
        return err_errno(&p->err, p->to, "The file cannot be moved into place");
    return flush_dir(p->dir, &p->err);
}

static void put_work(uv_work_t *w)
{
    struct put *p = w->data;
    if (put_run(p))
        unlink(p->from);
}

static void put_after(uv_work_t *w, int status)
{
    struct put *p = w->data;
    if (status) {
        unlink(p->from);
        err_set(&p->err, ERR_UNAVAILABLE, NULL, "The service is shutting down.");
    }
    p->done(p->ctx, p->err.code ? &p->err : NULL);
    arena_done(&p->arena);
    free(p);
}

void blobs_put(struct blobs *b, const char *tmp_path, const char *sha256,
               void (*done)(void *ctx, const struct err *e), void *ctx)
{
    struct put *p = xcalloc(1, sizeof *p);
    p->work.data = p;
    p->top = arena_strdup(&p->arena, b->dir);
    p->from = arena_strdup(&p->arena, tmp_path);
    p->dir = arena_printf(&p->arena, "%s/%.2s", b->dir, sha256);
    p->to = arena_strdup(&p->arena, blobs_path(b, &p->arena, sha256));
    p->done = done;
    p->ctx = ctx;
    uv_queue_work(b->loop, &p->work, put_work, put_after);
}
