/* Files as replies: sendfile, one range, conditional requests. */
#include "server/http_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether a list of entity tags has this one; W/ is overlooked: the weak comparison. */
static bool tag_in_list(const char *list, const char *quoted)
{
    size_t n = strlen(quoted);
    while (*list) {
        list += strspn(list, " \t,");
        if (*list == '*')
            return true;
        if (!strncmp(list, "W/", 2))
            list += 2;
        if (!strncmp(list, quoted, n) && strchr(" \t,", list[n])) /* or its end */
            return true;
        list += *list == '"' ? strcspn(list + 1, "\"") + 1 : 0;
        list += strcspn(list, ",");
    }
    return false;
}

bool etag_matches(const struct req *r, const char *quoted)
{
    const char *list = req_header(r, "If-None-Match");
    return list && tag_in_list(list, quoted);
}

struct range {
    uint64_t from, len;
};

static const char *number(const char *s, uint64_t *ret)
{
    const char *start = s;
    uint64_t v = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, *s - '0', &v))
            v = UINT64_MAX;
    *ret = v;
    return s == start ? NULL : s;
}

/* 1: *ret is set, 0: the whole file (no range, several, or one that is not understood), -1: the
 * range lies outside. */
static int range_of(const char *text, uint64_t size, struct range *ret)
{
    uint64_t first, last = UINT64_MAX;
    if (!text || strncasecmp(text, "bytes=", 6))
        return 0;
    const char *s = text + 6, *end;
    if (*s == '-') {
        end = number(s + 1, &last);
        if (!end || *end)
            return 0;
        if (!last || !size)
            return -1;
        ret->len = last < size ? last : size;
        ret->from = size - ret->len;
        return 1;
    }
    end = number(s, &first);
    if (!end || *end != '-')
        return 0;
    if (end[1]) {
        end = number(end + 1, &last);
        if (!end || *end || last < first)
            return 0;
    }
    if (first >= size)
        return -1;
    ret->from = first;
    ret->len = (last < size - 1 ? last : size - 1) - first + 1;
    return 1;
}

/* The Range header, unless If-Range wants another version or the method is not GET. */
static const char *wanted_range(const struct req *r, const char *quoted)
{
    const char *if_range = req_header(r, "If-Range");
    if (strcmp(r->method, "GET") || (if_range && (!quoted || strcmp(if_range, quoted))))
        return NULL;
    return req_header(r, "Range");
}

static int open_file(const char *path, uint64_t *ret_size, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ERR_NOT_FOUND, NULL, "The file is not there.");
    if (fd < 0)
        return err_errno(e, NULL, "The file cannot be opened");
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(e, ERR_IO, NULL, "This is not a plain file.");
    }
    *ret_size = (uint64_t)st.st_size;
    return fd;
}

/* A name in a header: what could end the quoting or the line is replaced. */
static void name_download(struct req *r, const char *name)
{
    char *plain = arena_strdup(&r->arena, name);
    struct buf full;
    buf_init(&full, 4096);
    for (char *p = plain; *p; p++) {
        bool safe = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= '0' && *p <= '9') || strchr("._-", *p);
        if (safe)
            buf_add(&full, p, 1);
        else
            buf_addf(&full, "%%%02X", (unsigned char)*p);
        *p = safe ? *p : '_';
    }
    reply_header(r, "Content-Disposition",
                 arena_printf(&r->arena, "attachment; filename=\"%s\"; filename*=UTF-8''%s", plain,
                              full.len ? full.data : ""));
    buf_done(&full);
}

static void outside(struct req *r, uint64_t size)
{
    struct err e = ERR_INIT;
    reply_header(r, "Content-Range",
                 arena_printf(&r->arena, "bytes */%llu", (unsigned long long)size));
    err_set(&e, ERR_RANGE, NULL, "The file has %llu bytes.", (unsigned long long)size);
    reply_problem(r, &e);
}

static void send_file(struct req *r, int fd, uint64_t size, const char *quoted)
{
    struct range range = {0, size};
    int partial = range_of(wanted_range(r, quoted), size, &range);
    if (partial < 0) {
        close(fd);
        outside(r, size);
        return;
    }
    if (partial)
        reply_header(r, "Content-Range",
                     arena_printf(&r->arena, "bytes %llu-%llu/%llu", (unsigned long long)range.from,
                                  (unsigned long long)(range.from + range.len - 1),
                                  (unsigned long long)size));
    reply_take(r, partial ? 206 : 200,
               MHD_create_response_from_fd_at_offset64(range.len, fd, range.from));
}

void reply_file(struct req *r, const char *path, const char *media_type, const char *etag,
                bool immutable, const char *download_name)
{
    struct err e = ERR_INIT;
    uint64_t size = 0;
    int fd = open_file(path, &size, &e);
    if (fd < 0) {
        reply_problem(r, &e);
        return;
    }
    const char *quoted = etag ? arena_printf(&r->arena, "\"%s\"", etag) : NULL;
    if (quoted)
        reply_header(r, "ETag", quoted);
    if (immutable)
        reply_header(r, "Cache-Control", "private, max-age=31536000, immutable");
    if (quoted && etag_matches(r, quoted)) {
        close(fd);
        reply_empty(r, 304);
        return;
    }
    reply_header(r, "Content-Type", media_type);
    reply_header(r, "Accept-Ranges", "bytes");
    if (download_name)
        name_download(r, download_name);
    send_file(r, fd, size, quoted);
}
