#include "worker/load/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/load/scan.h"

enum { ZEROS_MIN = 16 << 20 };

/* Maps the file behind fd, which is closed. An empty file has no mapping and size 0. */
static int map_fd(int fd, const char *name, struct arena *a, struct model_map **list, struct err *e)
{
    struct stat st;
    int rc = -1;
    void *p = NULL;
    if (fstat(fd, &st))
        err_errno(e, name, "The file cannot be examined.");
    else if (!S_ISREG(st.st_mode))
        err_set(e, ERR_BAD_MODEL, name, "This is not a regular file.");
    else if ((uint64_t)st.st_size > SCAN_FILE_MAX)
        err_set(e, ERR_LIMIT, name, "A model's file has at most %llu bytes, not %lld.",
                (unsigned long long)SCAN_FILE_MAX, (long long)st.st_size);
    else if (st.st_size &&
             (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        err_errno(e, name, "The file cannot be mapped.");
    else
        rc = 0;
    close(fd);
    if (rc)
        return -1;
    struct model_map *m = arena_alloc(a, sizeof *m);
    *m = (struct model_map){.next = *list, .data = p, .size = (size_t)st.st_size};
    *list = m;
    return 0;
}

int mapping_open(const struct model_source *src, struct arena *a, struct model_map **list,
                 struct err *e)
{
    int fd = open(src->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, src->path, "The model file cannot be opened.");
    return map_fd(fd, src->path, a, list, e);
}

/* The folder that holds the model file. */
static int open_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd = folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    return fd;
}

static int bad_location(const char *location, const char *why, struct err *e)
{
    return err_set(e, ERR_BAD_MODEL, location, "The location of external data %s.", why);
}

/* One component below dir, which is closed. */
static int step(int dir, const char *name, bool last, const char *location, struct err *e)
{
    int fd = -1;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        bad_location(location, "must be a plain path below the model's folder", e);
    } else {
        int flags = last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY;
        fd = openat(dir, name, flags | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            bad_location(location,
                         errno == ELOOP || errno == ENOTDIR ? "leads through a link or a file"
                                                            : "names no file that can be read",
                         e);
    }
    close(dir);
    return fd;
}

static int open_beside(const char *path, const char *location, struct err *e)
{
    char *copy = strdup(location), *name = copy;
    int fd = open_folder(path);
    if (fd < 0)
        err_errno(e, path, "The model's folder cannot be opened.");
    while (copy && fd >= 0 && name) {
        char *slash = strchr(name, '/');
        if (slash)
            *slash = '\0';
        fd = step(fd, name, !slash, location, e);
        name = slash ? slash + 1 : NULL;
    }
    free(copy);
    return fd;
}

static int open_location(const struct model_source *src, const char *location, struct err *e)
{
    for (int i = 0; i < src->n_external; i++)
        if (!strcmp(src->external[i].location, location)) {
            int fd = open(src->external[i].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
            if (fd < 0)
                err_errno(e, location, "The external data cannot be opened.");
            return fd;
        }
    if (!*location || *location == '/')
        return bad_location(location, "must be a plain path below the model's folder", e);
    if (!src->local)
        return bad_location(location, "is not among the files given with the model", e);
    return open_beside(src->path, location, e);
}

int mapping_external(const struct model_source *src, const char *location, struct arena *a,
                     struct model_map **list, const struct model_map **ret, struct err *e)
{
    for (const struct model_map *m = *list; m; m = m->next)
        if (m->location && !strcmp(m->location, location)) {
            *ret = m;
            return 0;
        }
    int fd = open_location(src, location, e);
    if (fd < 0 || map_fd(fd, location, a, list, e))
        return -1;
    (*list)->location = arena_strdup(a, location);
    *ret = *list;
    return 0;
}

int mapping_zeros(size_t bytes, struct arena *a, struct model_map **list, const void **ret,
                  struct err *e)
{
    const struct model_map *m = *list;
    while (m && !(m->zeros && m->size >= bytes))
        m = m->next;
    if (!m) {
        size_t size = bytes > ZEROS_MIN ? bytes : ZEROS_MIN;
        void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            return err_errno(e, "", "A constant's place cannot be reserved.");
        struct model_map *fresh = arena_alloc(a, sizeof *fresh);
        *fresh = (struct model_map){.next = *list, .data = p, .size = size, .zeros = true};
        *list = fresh;
        m = fresh;
    }
    *ret = m->data;
    return 0;
}

void mapping_close(struct model_map *list)
{
    for (struct model_map *m = list; m; m = m->next)
        if (m->size)
            munmap((void *)m->data, m->size);
}
