#include "worker/load/archive.h"

#include <archive.h>
#include <archive_entry.h>

#include <locale.h>

struct walk {
    struct archive *ar;
    const struct archive_walker *to;
    void *ctx;
    struct err *e;
};

/* libarchive's account of what went wrong with the archive or an entry. */
static int broken(struct walk *w, const char *entry)
{
    const char *text = archive_error_string(w->ar);
    return err_set(w->e, ERR_BAD_DATA, entry, "The archive is damaged: %s.",
                   text ? text : "no more is known");
}

static int refuse(struct walk *w, const char *entry, const char *why)
{
    return err_set(w->e, ERR_BAD_DATA, entry, "%s", why);
}

static int check_kind(struct walk *w, struct archive_entry *ae, const char *path)
{
    mode_t type = archive_entry_filetype(ae);
    if (archive_entry_hardlink(ae) || archive_entry_symlink(ae) ||
        (type != AE_IFREG && type != AE_IFDIR))
        return refuse(w, path, "Only regular files are read: no links, no devices.");
    if (archive_entry_is_encrypted(ae) > 0)
        return refuse(w, path, "The entry is encrypted.");
    return 0;
}

static int walk_data(struct walk *w, const char *path, uint64_t *ret_len)
{
    static char block[256 << 10];
    for (;;) {
        la_ssize_t n = archive_read_data(w->ar, block, sizeof block);
        if (n < 0)
            return broken(w, path);
        if (n == 0)
            return 0;
        if (w->to->data(w->ctx, block, (size_t)n, w->e))
            return -1;
        *ret_len += (uint64_t)n;
    }
}

static int walk_entry(struct walk *w, struct archive_entry *ae)
{
    const char *path = archive_entry_pathname(ae);
    if (!path || !*path)
        return refuse(w, "", "The archive has an entry without a name that can be read.");
    if (check_kind(w, ae, path))
        return -1;
    int take = w->to->entry(w->ctx, path, archive_entry_filetype(ae) == AE_IFDIR, w->e);
    if (take <= 0)
        return take;
    uint64_t len = 0;
    if (walk_data(w, path, &len))
        return -1;
    if (archive_entry_size_is_set(ae) && (uint64_t)archive_entry_size(ae) != len)
        return refuse(w, path, "The archive lies about the entry's size.");
    return w->to->end(w->ctx, w->e);
}

static int walk_all(struct walk *w)
{
    struct archive_entry *ae;
    for (;;) {
        int rc = archive_read_next_header(w->ar, &ae);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc != ARCHIVE_OK)
            return broken(w, "");
        if (walk_entry(w, ae))
            return -1;
    }
}

static int open_and_walk(struct walk *w, const char *path, bool zip)
{
    if (zip) {
        archive_read_support_format_zip(w->ar);
    } else {
        archive_read_support_filter_gzip(w->ar);
        archive_read_support_format_tar(w->ar);
    }
    if (archive_read_open_filename(w->ar, path, 64 << 10) != ARCHIVE_OK)
        return broken(w, "");
    return walk_all(w);
}

int archive_walk(const char *path, bool zip, const struct archive_walker *to, void *ctx,
                 struct err *e)
{
    struct walk w = {archive_read_new(), to, ctx, e};
    if (!w.ar)
        return err_set(e, ERR_MEMORY_LIMIT, "", "There is no memory to read the archive.");
    /* libarchive converts names by the locale: this thread's is UTF-8 for as long. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
    locale_t before = utf8 ? uselocale(utf8) : NULL;
    int rc = open_and_walk(&w, path, zip);
    archive_read_free(w.ar);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    return rc;
}
