#include "cli/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/arena.h"

struct pack {
    struct archive *ar;
    struct arena arena;
    int n_samples;
    bool has_labels;
    struct err *e;
};

static int broken(struct pack *p, const char *path)
{
    return err_set(p->e, ERR_IO, path, "The data cannot be packed: %s.",
                   archive_error_string(p->ar) ? archive_error_string(p->ar) : "no more is known");
}

static int copy_file(struct pack *p, const char *path, FILE *f)
{
    static char block[256 << 10];
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        if (archive_write_data(p->ar, block, n) != (la_ssize_t)n)
            return broken(p, path);
    return ferror(f) ? err_errno(p->e, path, "The file cannot be read") : 0;
}

static int add_file(struct pack *p, const char *path, const char *name)
{
    struct stat st;
    FILE *f = fopen(path, "rbe");
    if (!f || fstat(fileno(f), &st)) {
        if (f)
            fclose(f);
        return err_errno(p->e, path, "The file cannot be read");
    }
    struct archive_entry *ae = archive_entry_new();
    archive_entry_set_pathname(ae, name);
    archive_entry_set_filetype(ae, AE_IFREG);
    archive_entry_set_perm(ae, 0644);
    archive_entry_set_size(ae, st.st_size);
    int rc = archive_write_header(p->ar, ae) == ARCHIVE_OK ? 0 : broken(p, path);
    archive_entry_free(ae);
    if (!rc)
        rc = copy_file(p, path, f);
    fclose(f);
    return rc;
}

static bool is_labels(const char *name)
{
    return !strcmp(name, "labels.npy") || !strcmp(name, "calibration_labels.npy");
}

static bool is_npy(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".npy");
}

static int add_path(struct pack *p, const char *path, const char *name, bool in_root);

/* The names in a folder, sorted, without hidden ones. */
static int add_folder(struct pack *p, const char *folder, const char *prefix, bool in_root)
{
    struct dirent **list;
    int n = scandir(folder, &list, NULL, alphasort), rc = 0;
    if (n < 0)
        return err_errno(p->e, folder, "The folder cannot be read");
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (!rc && name[0] != '.')
            rc = add_path(p, arena_printf(&p->arena, "%s/%s", folder, name),
                          arena_printf(&p->arena, "%s%s", prefix, name), in_root);
        free(list[i]);
    }
    free(list);
    return rc;
}

static int add_path(struct pack *p, const char *path, const char *name, bool in_root)
{
    struct stat st;
    if (stat(path, &st))
        return err_errno(p->e, path, "The file cannot be looked at");
    if (S_ISDIR(st.st_mode) && in_root)
        return add_folder(p, path, arena_printf(&p->arena, "%s/", name), false);
    if (!S_ISREG(st.st_mode) || !is_npy(name))
        return err_set(p->e, ERR_INVALID, path,
                       "This does not belong to a data set, which is <input name>/<sample>.npy "
                       "and labels.npy. Name the folder that holds the inputs' folders.");
    bool labels = in_root && is_labels(name);
    if (labels && p->has_labels)
        return err_set(p->e, ERR_INVALID, path, "There are two files of labels.");
    p->has_labels |= labels;
    p->n_samples += !labels;
    return add_file(p, path, labels ? "labels.npy" : name);
}

static int pack(struct pack *p, const char *folder, const char *labels, const char *out)
{
    archive_write_set_format_pax_restricted(p->ar);
    if (archive_write_open_filename(p->ar, out) != ARCHIVE_OK)
        return broken(p, out);
    if (labels && (p->has_labels = true) && add_file(p, labels, "labels.npy"))
        return -1;
    if (add_folder(p, folder, "", true))
        return -1;
    if (!p->n_samples)
        return err_set(p->e, ERR_INVALID, folder,
                       "There are no samples in the folder: it should hold "
                       "<input name>/<sample>.npy, one file a sample.");
    return archive_write_close(p->ar) == ARCHIVE_OK ? 0 : broken(p, out);
}

int pack_folder(const char *folder, const char *labels, const char *out, struct err *e)
{
    struct pack p = {.ar = archive_write_new(), .e = e};
    if (!p.ar)
        return err_set(e, ERR_MEMORY_LIMIT, "", "There is no memory to pack the data.");
    int rc = pack(&p, folder, labels, out);
    archive_write_free(p.ar);
    arena_done(&p.arena);
    return rc;
}
