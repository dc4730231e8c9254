/*
 * Other people's archives into the canonical tar: each array that belongs to the data set is
 * copied to a temporary file without a name, then the tar is written from there in order. No path
 * of an archive ever becomes a path of this machine.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/load/archive.h"
#include "worker/load/dataset_match.h"
#include "worker/load/npy.h"
#include "worker/load/tar.h"

enum { RATIO_MAX = 200, RATIO_FREE = 1 << 20, PARTS_MAX = 3, ENTRY_NAME_MAX = 1024 };

/* One array in the temporary file. */
struct item {
    const char *parts[PARTS_MAX]; /* the entry's path, n_parts of it */
    int n_parts;
    const char *entry; /* for messages */
    off_t at;          /* of the data, behind the npy header */
    struct tensor type;
};

struct pack {
    struct arena arena;
    bool zip;
    int spool;
    off_t spooled;
    uint64_t max_bytes;
    off_t archive_bytes;
    struct item now; /* the entry being read */
    struct item *items;
    int n_items, cap, n_entries;
    struct buf head; /* an entry's first bytes: its npy header */
    struct err *e;
};

static int refuse(struct pack *p, const char *entry, const char *why)
{
    return err_set(p->e, ERR_BAD_DATA, entry, "%s", why);
}

/* ---- what an entry may be called ---- */

static bool hidden(const char *part)
{
    return part[0] == '.' || !strcmp(part, "__MACOSX");
}

/* Splits a path into parts. 1: nothing to read (a hidden file, "./"), 0, -1: a path that does not
 * stay inside. */
static int split_path(struct pack *p, const char *path, struct item *ret)
{
    if (path[0] == '/' || strlen(path) > ENTRY_NAME_MAX)
        return refuse(p, path, "The path is absolute or too long. Use <input name>/<sample>.npy.");
    char *rest = arena_strdup(&p->arena, path), *part;
    bool skip = false;
    while ((part = strsep(&rest, "/"))) {
        if (!*part || !strcmp(part, "."))
            continue;
        if (!strcmp(part, ".."))
            return refuse(p, path, "The path climbs out of the archive.");
        skip |= hidden(part);
        if (ret->n_parts == PARTS_MAX && !skip)
            return refuse(p, path,
                          "The path is too deep: <input name>/<sample>.npy, with at most one "
                          "folder around all. Write '/' in an input's name as %2F.");
        if (ret->n_parts < PARTS_MAX)
            ret->parts[ret->n_parts++] = part;
    }
    return skip || !ret->n_parts;
}

static bool has_suffix(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".npy");
}

/* ---- reading the entries ---- */

static int check_volume(struct pack *p, size_t more)
{
    uint64_t all = (uint64_t)p->spooled + more;
    if (all > p->max_bytes)
        return err_set(p->e, ERR_BAD_DATA, p->now.entry,
                       "The archive holds more than %" PRIu64 " bytes, the limit for a data set.",
                       p->max_bytes);
    if (all > RATIO_FREE && all / RATIO_MAX > (uint64_t)p->archive_bytes)
        return err_set(p->e, ERR_BAD_DATA, p->now.entry,
                       "The archive of %lld bytes expands more than %d times: that is no "
                       "calibration data.",
                       (long long)p->archive_bytes, RATIO_MAX);
    return 0;
}

/* The entry's bytes go to the temporary file, the first ones into p->head as well. */
static int take_data(void *ctx, const void *bytes, size_t len, struct err *e)
{
    struct pack *p = ctx;
    if (check_volume(p, len))
        return -1;
    size_t room = p->head.max - p->head.len;
    buf_add(&p->head, bytes, len < room ? len : room);
    for (size_t done = 0; done < len;) {
        ssize_t n =
            pwrite(p->spool, (const char *)bytes + done, len - done, p->spooled + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, p->now.entry, "The temporary file cannot be written");
        done += (size_t)n;
    }
    p->spooled += (off_t)len;
    return 0;
}

static struct item *new_item(struct pack *p)
{
    if (p->n_items == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        struct item *more = arena_array(&p->arena, (size_t)p->cap, sizeof *more);
        if (p->n_items)
            memcpy(more, p->items, (size_t)p->n_items * sizeof *more);
        p->items = more;
    }
    return &p->items[p->n_items++];
}

static int take_entry(void *ctx, const char *path, bool folder, struct err *e)
{
    struct pack *p = ctx;
    path = arena_strdup(&p->arena, path);
    p->now = (struct item){.entry = path, .at = p->spooled};
    if (++p->n_entries > 2 * DATASET_FILES_MAX || p->n_items > DATASET_FILES_MAX)
        return refuse(p, path, "The archive has too many entries.");
    int skip = split_path(p, path, &p->now);
    if (skip || folder)
        return skip < 0 ? -1 : 0;
    if (!has_suffix(p->now.parts[p->now.n_parts - 1]))
        return err_set(e, ERR_BAD_DATA, path,
                       "Only .npy files belong to a data set, and no archives in the archive: "
                       "<input name>/<sample>.npy, and labels.npy.");
    buf_clear(&p->head);
    return 1;
}

static int end_entry(void *ctx, struct err *e)
{
    struct pack *p = ctx;
    struct item *it = &p->now;
    size_t offset = 0;
    if (npy_header(p->head.data, p->head.len, &it->type, &offset, e))
        return err_in(e, it->entry);
    if ((uint64_t)(p->spooled - it->at) - offset != tensor_bytes(&it->type))
        return refuse(p, it->entry, "The array is not as long as its npy header says.");
    it->at += (off_t)offset;
    *new_item(p) = *it;
    return 0;
}

static const struct archive_walker walker = {take_entry, take_data, end_entry};

/* ---- which input and sample an item is ---- */

static bool is_labels(const struct item *it)
{
    const char *last = it->parts[it->n_parts - 1];
    return !strcmp(last, "labels.npy") || !strcmp(last, "calibration_labels.npy");
}

/* The folder around everything ("calibration_data/input/0.npy"), taken away. Labels may lie inside
 * it or beside it. */
static void unwrap(struct pack *p)
{
    const char *around = NULL;
    for (int i = 0; i < p->n_items; i++) {
        const struct item *it = &p->items[i];
        if (it->n_parts < PARTS_MAX && is_labels(it))
            continue;
        if (it->n_parts < PARTS_MAX || (around && strcmp(around, it->parts[0]) != 0))
            return;
        around = it->parts[0];
    }
    for (int i = 0; around && i < p->n_items; i++) {
        struct item *it = &p->items[i];
        if (it->n_parts == 1 || strcmp(it->parts[0], around) != 0)
            continue;
        memmove(it->parts, it->parts + 1, (PARTS_MAX - 1) * sizeof it->parts[0]);
        it->n_parts--;
    }
}

static bool is_number(const char *name)
{
    return !strcmp(name + strspn(name, "0123456789"), ".npy");
}

/* numpy.savez names its arrays: each is an input of one sample, arr_0 alone is one without a name.
 * Files in the root of a tar, or called by numbers, are samples of an input without a name. */
static void name_root_items(struct pack *p)
{
    bool inputs = p->zip, lone = true;
    for (int i = 0; i < p->n_items; i++) {
        const struct item *it = &p->items[i];
        inputs &= it->n_parts == 1 && (is_labels(it) || !is_number(it->parts[0]));
        lone &= is_labels(it) || !strcmp(it->parts[0], "arr_0.npy");
    }
    for (int i = 0; i < p->n_items; i++) {
        struct item *it = &p->items[i];
        if (it->n_parts > 1 || is_labels(it))
            continue;
        const char *name = it->parts[0];
        it->parts[1] = inputs ? "0.npy" : name;
        it->parts[0] = inputs && !lone ? arena_strndup(&p->arena, name, strlen(name) - 4) : "";
        it->n_parts = 2;
    }
}

/* An archive in canonical form already: its folders are encoded names. */
static void decode_canonical(struct pack *p)
{
    for (int i = 0; i < p->n_items; i++) {
        const struct item *it = &p->items[i];
        if (!is_labels(it) &&
            (it->n_parts != 2 || !dataset_is_canonical_name(it->parts[0], it->parts[1])))
            return;
    }
    for (int i = 0; i < p->n_items; i++) {
        const char **folder = &p->items[i].parts[0];
        if (p->items[i].n_parts == 2)
            *folder = strcmp(*folder, "%") ? dataset_decode(&p->arena, *folder) : "";
    }
}

static int by_name(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->n_parts != y->n_parts) /* labels come last */
        return y->n_parts - x->n_parts;
    int c = strcmp(x->parts[0], y->parts[0]);
    return c || x->n_parts == 1 ? c : strcmp(x->parts[1], y->parts[1]);
}

static int settle_names(struct pack *p)
{
    if (!p->n_items)
        return refuse(p, "",
                      "The archive has no samples: it holds <input name>/<sample>.npy, one file a "
                      "sample.");
    unwrap(p);
    for (int i = 0; i < p->n_items; i++)
        if (p->items[i].n_parts == PARTS_MAX)
            return refuse(p, p->items[i].entry,
                          "The path is too deep: <input name>/<sample>.npy, with at most one "
                          "folder around all. Write '/' in an input's name as %2F.");
    decode_canonical(p);
    name_root_items(p);
    qsort(p->items, (size_t)p->n_items, sizeof *p->items, by_name);
    for (int i = 1; i < p->n_items; i++)
        if (!by_name(&p->items[i - 1], &p->items[i]) ||
            (p->items[i].n_parts == 1 && p->items[i - 1].n_parts == 1))
            return refuse(p, p->items[i].entry, "The entry is there twice.");
    return 0;
}

/* What dataset_open would refuse of the tar is refused here, where entries have their own names. */
static int check_set(struct pack *p)
{
    struct dataset d = {.arena = ARENA_INIT};
    struct dataset_file *files = arena_array(&d.arena, (size_t)p->n_items, sizeof *files);
    const struct dataset_file *labels = NULL;
    int n = 0, rc = 0;
    for (int i = 0; i < p->n_items && !rc; i++) {
        const struct item *it = &p->items[i];
        struct dataset_file *f = &files[it->n_parts == 1 ? p->n_items - 1 : n++];
        *f = (struct dataset_file){
            .input = it->parts[0], .sample = "", .place = it->entry, .tensor = it->type};
        labels = it->n_parts == 1 ? f : labels;
        if (!tensor_count(&it->type))
            rc = refuse(p, it->entry, "The array has no elements.");
    }
    if (!rc &&
        (dataset_group(&d, files, n, p->e) || (labels && dataset_take_labels(&d, labels, p->e))))
        rc = -1;
    arena_done(&d.arena);
    return rc;
}

/* ---- writing the tar ---- */

static int put(struct pack *p, FILE *out, const void *data, size_t len)
{
    if (len && fwrite(data, 1, len, out) != len)
        return err_errno(p->e, "", "The data set cannot be written");
    return 0;
}

static int copy_data(struct pack *p, FILE *out, off_t at, uint64_t len)
{
    static char block[256 << 10];
    while (len) {
        size_t want = len < sizeof block ? (size_t)len : sizeof block;
        ssize_t n = pread(p->spool, block, want, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(p->e, "", "The temporary file cannot be read");
        if (put(p, out, block, (size_t)n))
            return -1;
        at += n;
        len -= (uint64_t)n;
    }
    return 0;
}

/* "3" for ".../3.npy", of the first input's samples. */
static const char *const *first_names(const struct pack *p, struct arena *a, int *ret_n)
{
    const char **names = arena_array(a, (size_t)p->n_items + 1, sizeof *names);
    int n = 0;
    for (; n < p->n_items && p->items[n].n_parts == 2; n++) {
        const struct item *it = &p->items[n];
        if (strcmp(it->parts[0], p->items[0].parts[0]) != 0)
            break;
        names[n] = arena_strndup(a, it->parts[1], strlen(it->parts[1]) - 4);
    }
    *ret_n = n;
    return names;
}

/* Labels belong to names; the tar numbers the samples, so they are put into its order. */
static int copy_labels(struct pack *p, FILE *out, const struct item *it)
{
    int samples = 0;
    size_t bytes = tensor_bytes(&it->type);
    const char *const *names = first_names(p, &p->arena, &samples);
    size_t unit = bytes / (size_t)samples; /* a number, or a map */
    int *order = arena_array(&p->arena, (size_t)samples, sizeof *order);
    char *from = arena_alloc(&p->arena, bytes), *to = arena_alloc(&p->arena, bytes);
    if (pread(p->spool, from, bytes, it->at) != (ssize_t)bytes)
        return err_errno(p->e, "", "The temporary file cannot be read");
    dataset_label_order(names, samples, order);
    for (int r = 0; r < samples; r++)
        memcpy(to + (size_t)order[r] * unit, from + (size_t)r * unit, unit);
    return put(p, out, to, bytes);
}

static int write_item(struct pack *p, FILE *out, const struct item *it, const char *name)
{
    static const char zeros[2 * TAR_BLOCK];
    char block[TAR_BLOCK];
    size_t bytes = tensor_bytes(&it->type);
    buf_clear(&p->head);
    if (npy_put_header(&p->head, &it->type, p->e) ||
        tar_put_header(block, name, p->head.len + bytes, p->e) || put(p, out, block, TAR_BLOCK) ||
        put(p, out, p->head.data, p->head.len) ||
        (it->n_parts == 1 ? copy_labels(p, out, it) : copy_data(p, out, it->at, bytes)))
        return -1;
    return put(p, out, zeros, -(p->head.len + bytes) % TAR_BLOCK);
}

static int write_items(struct pack *p, FILE *out)
{
    static const char end[2 * TAR_BLOCK];
    int sample = 0;
    for (int i = 0; i < p->n_items; i++) {
        const struct item *it = &p->items[i];
        bool more = i && it->n_parts > 1 && !strcmp(p->items[i - 1].parts[0], it->parts[0]);
        sample = more ? sample + 1 : 0;
        const char *folder = *it->parts[0] ? dataset_encode(&p->arena, it->parts[0]) : "%";
        const char *name = it->n_parts == 1
                               ? "labels.npy"
                               : arena_printf(&p->arena, "%s/%08d.npy", folder, sample);
        if (write_item(p, out, it, name))
            return -1;
    }
    return put(p, out, end, sizeof end);
}

static int write_tar(struct pack *p, const char *path)
{
    FILE *out = fopen(path, "wbe");
    if (!out)
        return err_errno(p->e, "", "The data set cannot be written");
    int rc = write_items(p, out);
    if (fclose(out) != 0 && !rc)
        rc = err_errno(p->e, "", "The data set cannot be written");
    if (rc)
        unlink(path);
    return rc;
}

/* ---- the whole ---- */

/* By the first bytes: 'z' zip, 't' tar (perhaps in gzip), 'n' npy, 0 unknown. */
static int sniff(const unsigned char *f, size_t len)
{
    if (len >= 6 && !memcmp(f, "\x93NUMPY", 6))
        return 'n';
    if (len >= 4 && (!memcmp(f, "PK\3\4", 4) || !memcmp(f, "PK\5\6", 4)))
        return 'z';
    if (len >= 2 && f[0] == 0x1F && f[1] == 0x8B)
        return 't';
    return len > 262 && !memcmp(f + 257, "ustar", 5) ? 't' : 0;
}

/* A bare npy: its bytes are the one item. */
static int take_npy(struct pack *p, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(p->e, "", "The data cannot be opened");
    struct item it = {.parts = {"", "0.npy"}, .n_parts = 2, .entry = "0.npy"};
    size_t offset = 0;
    char *room = buf_room(&p->head, NPY_HEADER_MAX);
    ssize_t n = room ? pread(fd, room, NPY_HEADER_MAX, 0) : -1;
    int rc = n < 0 ? err_errno(p->e, "", "The data cannot be read")
                   : npy_header(room, (size_t)n, &it.type, &offset, p->e);
    if (!rc && (uint64_t)p->archive_bytes - offset != tensor_bytes(&it.type))
        rc = refuse(p, "", "The file is not as long as its npy header says.");
    if (rc) {
        close(fd);
        return -1;
    }
    it.at = (off_t)offset;
    close(p->spool);
    p->spool = fd;
    *new_item(p) = it;
    return 0;
}

static int open_spool(struct pack *p, const char *tmp_dir)
{
    p->spool = open(tmp_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (p->spool >= 0)
        return 0;
    char *name = arena_printf(&p->arena, "%s/spool.XXXXXX", tmp_dir);
    p->spool = mkostemp(name, O_CLOEXEC);
    if (p->spool < 0)
        return err_errno(p->e, "", "The temporary file cannot be made");
    unlink(name);
    return 0;
}

static int look_at(struct pack *p, const char *path, int *ret_kind)
{
    unsigned char first[512];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 || fstat(fd, &st) ? -1 : pread(fd, first, sizeof first, 0);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_errno(p->e, "", "The data cannot be read");
    p->archive_bytes = st.st_size;
    *ret_kind = sniff(first, (size_t)n);
    return *ret_kind ? 0
                     : refuse(p, "",
                              "The data is neither a tar, tar.gz, zip, npz nor npy. Pack the "
                              "folder: tar czf data.tar.gz -C calibration_data .");
}

static int pack(struct pack *p, const char *path, const char *tmp_dir, const char *out)
{
    int kind = 0;
    if (look_at(p, path, &kind) || open_spool(p, tmp_dir))
        return -1;
    p->zip = kind == 'z';
    if (kind == 'n' ? take_npy(p, path)
                    : archive_walk(path, p->zip, &walker, p, p->e) || settle_names(p))
        return -1;
    return check_set(p) ? -1 : write_tar(p, out);
}

int dataset_normalize(const char *path, const char *tmp_dir, uint64_t max_bytes, const char *out,
                      struct arena *a, const char *const **ret_names, struct err *e)
{
    struct pack p = {.max_bytes = max_bytes, .spool = -1, .e = e};
    buf_init(&p.head, NPY_HEADER_MAX + 64);
    int rc = pack(&p, path, tmp_dir, out);
    int n_names;
    if (!rc && ret_names)
        *ret_names = first_names(&p, a, &n_names);
    if (p.spool >= 0)
        close(p.spool);
    buf_done(&p.head);
    arena_done(&p.arena);
    return rc;
}
