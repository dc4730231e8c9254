#include "worker/load/tar.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* POSIX.1-1988 ustar. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a header is one block");
enum { NAME_MAX_LEN = 100, PREFIX_MAX_LEN = 155 };
#define SIZE_LIMIT ((uint64_t)1 << 33) /* 11 octal digits */

static unsigned checksum(const struct header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *h; i++) {
        bool in_sum =
            i >= offsetof(struct header, sum) && i < offsetof(struct header, sum) + sizeof h->sum;
        sum += in_sum ? ' ' : p[i];
    }
    return sum;
}

int tar_put_header(char ret[TAR_BLOCK], const char *name, uint64_t size, struct err *e)
{
    struct header h;
    memset(&h, 0, sizeof h);
    size_t len = strlen(name);
    const char *cut = len > NAME_MAX_LEN ? strrchr(name, '/') : NULL;
    size_t prefix = cut ? (size_t)(cut - name) : 0, rest = cut ? len - prefix - 1 : len;
    if (!rest || rest > NAME_MAX_LEN || prefix > PREFIX_MAX_LEN || size >= SIZE_LIMIT)
        return err_set(e, ERR_BAD_DATA, name,
                       "The name or the size (%" PRIu64 " bytes) is too long for a data set.",
                       size);
    memcpy(h.prefix, name, prefix);
    memcpy(h.name, cut ? cut + 1 : name, rest);
    memcpy(h.mode, "0000644", 7);
    memcpy(h.uid, "0000000", 7);
    memcpy(h.gid, "0000000", 7);
    char number[24];
    snprintf(number, sizeof number, "%011" PRIo64, size);
    memcpy(h.size, number, 11);
    memcpy(h.mtime, "00000000000", 11);
    h.type = '0';
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    snprintf(number, sizeof number, "%06o", checksum(&h));
    memcpy(h.sum, number, 7);
    h.sum[7] = ' ';
    memcpy(ret, &h, sizeof h);
    return 0;
}

/* An octal field, digits up to a zero byte or a space; -1 if there is something else. */
static int64_t octal(const char *field, size_t len)
{
    int64_t v = 0;
    size_t i = 0;
    for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
        v = v * 8 + (field[i] - '0');
    return i && (i == len || field[i] == '\0' || field[i] == ' ') ? v : -1;
}

static bool all_zero(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

static int bad(struct err *e, size_t at, const char *what)
{
    return err_set(e, ERR_BAD_DATA, "", "The tar is not in canonical form at byte %zu: %s.", at,
                   what);
}

static int read_header(const struct header *h, size_t at, size_t room, struct arena *a,
                       struct tar_entry *ret, struct err *e)
{
    if (memcmp(h->magic,
               "ustar\0"
               "00",
               8) != 0)
        return bad(e, at, "not a ustar header");
    if (octal(h->sum, sizeof h->sum) != (int64_t)checksum(h))
        return bad(e, at, "the check sum is wrong");
    if (h->type != '0')
        return bad(e, at, "not a regular file");
    int64_t size = octal(h->size, sizeof h->size);
    if (size < 0 || (uint64_t)size > room)
        return bad(e, at, "the size runs over the end");
    char name[TAR_NAME_MAX + 2];
    int prefix = (int)strnlen(h->prefix, sizeof h->prefix);
    int rest = (int)strnlen(h->name, sizeof h->name);
    snprintf(name, sizeof name, "%.*s%s%.*s", prefix, h->prefix, prefix ? "/" : "", rest, h->name);
    *ret = (struct tar_entry){arena_strdup(a, name), at + TAR_BLOCK, (size_t)size};
    return 0;
}

int tar_list(const void *file, size_t len, int max, struct arena *a, struct tar_entry **ret,
             int *ret_n, struct err *e)
{
    const char *p = file;
    int n = 0, cap = 0;
    struct tar_entry *list = NULL;
    size_t at = 0;
    while (len - at >= TAR_BLOCK && !all_zero(p + at, TAR_BLOCK)) {
        if (n == max)
            return err_set(e, ERR_BAD_DATA, "", "The tar has more than %d entries.", max);
        if (n == cap) {
            cap = cap ? 2 * cap : 64;
            struct tar_entry *more = arena_array(a, (size_t)cap, sizeof *more);
            if (n)
                memcpy(more, list, (size_t)n * sizeof *more);
            list = more;
        }
        struct header h;
        memcpy(&h, p + at, sizeof h);
        if (read_header(&h, at, len - at - TAR_BLOCK, a, &list[n], e))
            return -1;
        size_t padded = (list[n].size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
        if (padded > len - at - TAR_BLOCK)
            return bad(e, at, "the file ends inside an entry");
        at += TAR_BLOCK + padded;
        n++;
    }
    if (len - at < 2 * TAR_BLOCK || !all_zero(p + at, len - at))
        return bad(e, at, "the end is missing");
    *ret = list;
    *ret_n = n;
    return 0;
}
