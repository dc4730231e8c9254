#include "worker/load/dataset.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/load/dataset_match.h"
#include "worker/load/npy.h"
#include "worker/load/tar.h"

struct dataset_map {
    struct dataset_map *next;
    void *p;
    size_t len;
};

/* ---- names ---- */

static bool is_plain(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

char *dataset_encode(struct arena *a, const char *name)
{
    static const char hex[] = "0123456789ABCDEF";
    char *ret = arena_alloc(a, 3 * strlen(name) + 1), *to = ret;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        if (is_plain(*p)) {
            *to++ = (char)*p;
            continue;
        }
        *to++ = '%';
        *to++ = hex[*p >> 4];
        *to++ = hex[*p & 15];
    }
    return ret;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

char *dataset_decode(struct arena *a, const char *folder)
{
    char *ret = arena_alloc(a, strlen(folder) + 1), *to = ret;
    for (const char *p = folder; *p; p++) {
        int high = *p == '%' ? hex_digit(p[1]) : -1, low = high >= 0 ? hex_digit(p[2]) : -1;
        if (low >= 0 && high + low > 0) {
            *to++ = (char)(high << 4 | low);
            p += 2;
        } else {
            *to++ = *p;
        }
    }
    return ret;
}

bool dataset_is_canonical_name(const char *folder, const char *file)
{
    struct arena a = ARENA_INIT;
    bool encoded =
        !strcmp(folder, "%") || !strcmp(dataset_encode(&a, dataset_decode(&a, folder)), folder);
    arena_done(&a);
    return encoded && strspn(file, "0123456789") == 8 && !strcmp(file + 8, ".npy");
}

static bool is_labels(const char *name)
{
    return !strcmp(name, "labels.npy") || !strcmp(name, "calibration_labels.npy");
}

static bool ends_in_npy(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".npy");
}

static const char *stem_of(struct arena *a, const char *name)
{
    return arena_strndup(a, name, strlen(name) - 4);
}

/* ---- mappings ---- */

static void add_map(struct dataset *d, void *p, size_t len)
{
    struct dataset_map *m = arena_alloc(&d->arena, sizeof *m);
    *m = (struct dataset_map){d->maps, p, len};
    d->maps = m;
}

/* Maps a regular file; it stays mapped until dataset_free. An empty one has no mapping. */
static int map_file(struct dataset *d, const char *path, void **ret, size_t *ret_len, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, path, "The data cannot be opened");
    struct stat st;
    void *p = MAP_FAILED;
    int rc = fstat(fd, &st) ? err_errno(e, path, "The data cannot be looked at") : 0;
    if (!rc && !S_ISREG(st.st_mode))
        rc = err_set(e, ERR_BAD_DATA, path, "This is not a regular file.");
    if (!rc && st.st_size == 0)
        rc = err_set(e, ERR_BAD_DATA, path, "The file is empty.");
    if (!rc && (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        rc = err_errno(e, path, "The data cannot be mapped");
    close(fd);
    if (rc)
        return -1;
    add_map(d, p, (size_t)st.st_size);
    *ret = p;
    *ret_len = (size_t)st.st_size;
    return 0;
}

/* Data that is not aligned for its type gets a place where it is. */
static int align_data(struct dataset *d, struct tensor *t, struct err *e)
{
    size_t bytes = tensor_bytes(t), unit = dtype_size(t->type);
    if (!bytes || (uintptr_t)t->data % unit == 0)
        return 0;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(e, ERR_MEMORY_LIMIT, "", "%zu bytes for a sample are not there.", bytes);
    memcpy(p, t->data, bytes);
    add_map(d, p, bytes);
    t->data = p;
    return 0;
}

static int parse_file(struct dataset *d, struct dataset_file *f, struct err *e)
{
    size_t offset;
    if (npy_parse(f->bytes, f->len, &f->tensor, &offset, e) || align_data(d, &f->tensor, e))
        return err_in(e, f->place);
    if (tensor_count(&f->tensor) == 0)
        return err_set(e, ERR_BAD_DATA, f->place, "The array has no elements.");
    return 0;
}

/* ---- gathering: what files there are, in any order ---- */

struct gather {
    struct dataset *d;
    struct dataset_file *files;
    int n, cap;
    bool rooted; /* some lie in the root: samples of an input without a name */
    struct dataset_file labels;
    struct err *e;
};

static int add_file(struct gather *g, struct dataset_file f)
{
    if (g->n == DATASET_FILES_MAX)
        return err_set(g->e, ERR_BAD_DATA, f.place, "The data set has more than %d files.",
                       DATASET_FILES_MAX);
    if (g->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 64;
        struct dataset_file *more = arena_array(&g->d->arena, (size_t)g->cap, sizeof *more);
        if (g->n)
            memcpy(more, g->files, (size_t)g->n * sizeof *more);
        g->files = more;
    }
    g->files[g->n++] = f;
    return 0;
}

/* One file: input "" for the root. */
static int gather_file(struct gather *g, const char *input, const char *name, const char *place,
                       void *bytes, size_t len)
{
    struct arena *a = &g->d->arena;
    if (!ends_in_npy(name))
        return err_set(g->e, ERR_BAD_DATA, place,
                       "Only .npy files belong to a data set: <input name>/<sample>.npy, and "
                       "labels.npy.");
    struct dataset_file f = {.input = input,
                             .sample = stem_of(a, name),
                             .place = arena_strdup(a, place),
                             .bytes = bytes,
                             .len = len};
    if (!*input && is_labels(name)) {
        if (g->labels.bytes)
            return err_set(g->e, ERR_BAD_DATA, place, "There are two files of labels.");
        g->labels = f;
        return parse_file(g->d, &g->labels, g->e);
    }
    return parse_file(g->d, &f, g->e) || add_file(g, f) ? -1 : 0;
}

static int gather_path(struct gather *g, const char *input, const char *name, const char *path)
{
    void *p = NULL;
    size_t len = 0;
    if (ends_in_npy(name) && map_file(g->d, path, &p, &len, g->e))
        return -1;
    const char *place = *input ? arena_printf(&g->d->arena, "%s/%s", input, name) : name;
    return gather_file(g, input, name, place, p, len);
}

/* The names in a folder but hidden ones, sorted; in the arena. */
static int list_folder(struct gather *g, const char *path, char ***ret, int *ret_n)
{
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort);
    if (n < 0)
        return err_errno(g->e, path, "The folder cannot be read");
    *ret = arena_array(&g->d->arena, (size_t)n, sizeof **ret);
    *ret_n = 0;
    for (int i = 0; i < n; i++) {
        if (list[i]->d_name[0] != '.')
            (*ret)[(*ret_n)++] = arena_strdup(&g->d->arena, list[i]->d_name);
        free(list[i]);
    }
    free(list);
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int gather_folder(struct gather *g, const char *path, const char *input)
{
    struct arena *a = &g->d->arena;
    char **names = NULL;
    int n = 0;
    if (list_folder(g, path, &names, &n))
        return -1;
    for (int i = 0; i < n; i++) {
        const char *child = arena_printf(a, "%s/%s", path, names[i]);
        if (!is_folder(child)) {
            if (gather_path(g, input, names[i], child))
                return -1;
        } else if (*input) {
            return err_set(g->e, ERR_BAD_DATA, child,
                           "Folders in folders are not read. Write '/' in an input's name as %%2F: "
                           "%s%%2F%s/.",
                           input, names[i]);
        } else if (gather_folder(g, child, names[i])) {
            return -1;
        }
    }
    return 0;
}

static bool is_canonical_entry(struct arena *a, const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return !strcmp(name, "labels.npy");
    return dataset_is_canonical_name(arena_strndup(a, name, (size_t)(slash - name)), slash + 1);
}

/* A canonical tar's entry: "<folder>/<sample>.npy" or "labels.npy". */
static int gather_entry(struct gather *g, const struct tar_entry *t, char *file)
{
    struct arena *a = &g->d->arena;
    const char *slash = strchr(t->name, '/'), *input = "";
    if (!is_canonical_entry(a, t->name))
        return err_set(g->e, ERR_BAD_DATA, t->name, "The tar is not in canonical form.");
    if (slash && strncmp(t->name, "%/", 2) != 0)
        input = dataset_decode(a, arena_strndup(a, t->name, (size_t)(slash - t->name)));
    return gather_file(g, input, slash ? slash + 1 : t->name, t->name, file + t->offset, t->size);
}

static int gather_tar(struct gather *g, char *file, size_t len)
{
    struct tar_entry *list;
    int n;
    if (tar_list(file, len, DATASET_FILES_MAX + 1, &g->d->arena, &list, &n, g->e))
        return -1;
    for (int i = 0; i < n; i++)
        if (gather_entry(g, &list[i], file))
            return -1;
    return 0;
}

static bool looks_like_npy(const char *file, size_t len)
{
    return len >= 6 && !memcmp(file, "\x93NUMPY", 6);
}

static int gather_any(struct gather *g, const char *path)
{
    if (is_folder(path))
        return gather_folder(g, path, "");
    void *p;
    size_t len;
    if (map_file(g->d, path, &p, &len, g->e))
        return -1;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (looks_like_npy(p, len))
        return gather_file(g, "", is_labels(name) || !ends_in_npy(name) ? "0.npy" : name, name, p,
                           len);
    return gather_tar(g, p, len);
}

/* ---- open ---- */

int dataset_open(const char *path, const struct graph *graph, struct dataset **ret, struct err *e)
{
    struct dataset *d = xcalloc(1, sizeof *d);
    struct gather g = {.d = d, .e = e};
    if (gather_any(&g, path) || dataset_group(d, g.files, g.n, e) ||
        (g.labels.bytes && dataset_take_labels(d, &g.labels, e)) ||
        (graph && dataset_match(d, graph, e))) {
        dataset_free(d);
        return -1;
    }
    *ret = d;
    return 0;
}

void dataset_free(struct dataset *d)
{
    if (!d)
        return;
    for (struct dataset_map *m = d->maps; m; m = m->next)
        munmap(m->p, m->len);
    arena_done(&d->arena);
    free(d);
}

static bool reads_as_tar(const char *file, size_t len)
{
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    struct tar_entry *list;
    int n;
    bool ok = !tar_list(file, len, DATASET_FILES_MAX + 1, &a, &list, &n, &e);
    for (int i = 0; ok && i < n; i++)
        ok = is_canonical_entry(&a, list[i].name);
    arena_done(&a);
    return ok;
}

bool dataset_is_open_form(const char *path)
{
    if (is_folder(path))
        return true;
    struct dataset d = {.arena = ARENA_INIT};
    struct err e = ERR_INIT;
    void *p;
    size_t len;
    bool ok = !map_file(&d, path, &p, &len, &e) && (looks_like_npy(p, len) || reads_as_tar(p, len));
    for (struct dataset_map *m = d.maps; m; m = m->next)
        munmap(m->p, m->len);
    arena_done(&d.arena);
    return ok;
}

void dataset_release(const struct dataset *d, int i)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int k = 0; k < d->n_inputs; k++) {
        const struct dataset_file *f = &d->files[(size_t)k * (size_t)d->n_samples + (size_t)i];
        uintptr_t from = ((uintptr_t)f->bytes + page - 1) / page * page,
                  to = ((uintptr_t)f->bytes + f->len) / page * page;
        if (to > from) /* a hint: what it says, 0 or not, makes no difference */
            (void)madvise((void *)from, to - from, MADV_DONTNEED);
    }
}

void dataset_sample(const struct dataset *d, int i, int k, struct tensor *ret)
{
    *ret = d->files[(size_t)k * (size_t)d->n_samples + (size_t)i].tensor;
}
