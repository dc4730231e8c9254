#include "server/blobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/sha256.h"

static const char aside_prefix[] = "aside-"; /* in DIR/tmp: not a blob any more */

struct blobs {
    uv_loop_t *loop;
    struct arena arena;
    const char *dir, *tmp_dir;
    pthread_mutex_t lock; /* a blob comes into place, or is looked at and taken away: not both */
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
    pthread_mutex_init(&b->lock, NULL);
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
    pthread_mutex_destroy(&b->lock);
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

/* ---- into place ---- */

struct put {
    uv_work_t work;
    struct arena arena;
    struct blobs *blobs;
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
    int r = futimens(fd, NULL) || fsync(fd) ? -1 : 0; /* its age begins here */
    if (r)
        err_errno(e, path, "The file cannot be flushed to disk");
    close(fd);
    return r;
}

static int move(struct put *p)
{
    pthread_mutex_lock(&p->blobs->lock);
    int r = rename(p->from, p->to);
    if (r)
        err_errno(&p->err, p->to, "The file cannot be moved into place");
    pthread_mutex_unlock(&p->blobs->lock);
    return r;
}

static int put_run(struct put *p)
{
    bool fresh = mkdir(p->dir, 0700) == 0;
    if (!fresh && errno != EEXIST)
        return err_errno(&p->err, p->dir, "The folder cannot be made");
    if (fresh && flush_dir(p->top, &p->err))
        return -1;
    if (flush_file(p->from, &p->err) || move(p))
        return -1;
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
    p->blobs = b;
    p->top = arena_strdup(&p->arena, b->dir);
    p->from = arena_strdup(&p->arena, tmp_path);
    p->dir = arena_printf(&p->arena, "%s/%.2s", b->dir, sha256);
    p->to = arena_strdup(&p->arena, blobs_path(b, &p->arena, sha256));
    p->done = done;
    p->ctx = ctx;
    uv_queue_work(b->loop, &p->work, put_work, put_after);
}

/* ---- away ---- */

void blobs_touch(struct blobs *b, const char *sha256)
{
    struct arena a = ARENA_INIT;
    utimensat(AT_FDCWD, blobs_path(b, &a, sha256), NULL, 0);
    arena_done(&a);
}

/* The clock that file times are made with. */
static int64_t disk_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool is_older(const struct stat *st, int64_t older_than_ms)
{
    int64_t ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    return S_ISREG(st->st_mode) && disk_now_ms() - ms >= older_than_ms;
}

static void list_folder(const char *path, int64_t older_than_ms, struct blob_list *ret)
{
    DIR *d = opendir(path);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));) {
        struct digest ignored;
        struct stat st;
        if (digest_parse(f->d_name, &ignored) || fstatat(dirfd(d), f->d_name, &st, 0) ||
            !is_older(&st, older_than_ms))
            continue;
        if (!(ret->n & (ret->n - 1))) /* full: n is a power of two, or 0 */
            ret->sha256 = xrealloc(ret->sha256, (ret->n ? 2 * (size_t)ret->n : 1) * SHA256_HEX);
        memcpy(ret->sha256[ret->n++], f->d_name, SHA256_HEX);
    }
    closedir(d);
}

void blobs_list_old(const struct blobs *b, int64_t older_than_ms, struct blob_list *ret)
{
    struct arena a = ARENA_INIT;
    *ret = (struct blob_list){0};
    for (int i = 0; i < 256; i++)
        list_folder(arena_printf(&a, "%s/%02x", b->dir, i), older_than_ms, ret);
    arena_done(&a);
}

void blob_list_done(struct blob_list *l)
{
    free(l->sha256);
    *l = (struct blob_list){0};
}

bool blobs_put_aside(struct blobs *b, const char *sha256, int64_t older_than_ms)
{
    struct arena a = ARENA_INIT;
    struct stat st;
    const char *from = blobs_path(b, &a, sha256);
    const char *to = arena_printf(&a, "%s/%s%s", b->tmp_dir, aside_prefix, sha256);
    pthread_mutex_lock(&b->lock);
    bool gone = !stat(from, &st) && is_older(&st, older_than_ms) && !rename(from, to);
    pthread_mutex_unlock(&b->lock);
    arena_done(&a);
    return gone;
}

void blobs_empty_aside(const struct blobs *b)
{
    DIR *d = opendir(b->tmp_dir);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));)
        if (!strncmp(f->d_name, aside_prefix, sizeof aside_prefix - 1))
            unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
}
