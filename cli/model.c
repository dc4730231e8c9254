/* A model's files: an ONNX file, or a folder with one ONNX file and its external data. */
#include "cli/model.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 4096 };

struct listing {
    struct cli *c;
    const char *folder;
    struct model_files *ret;
    struct err *e;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

static int add_file(struct listing *l, const char *path, const char *location)
{
    struct model_files *r = l->ret;
    if (!strchr(location, '/') && ends_with(location, ".onnx")) {
        if (r->onnx)
            return err_set(
                l->e, ERR_INVALID, l->folder,
                "There is more than one ONNX file in the folder: %s and %s. Name the one "
                "that is meant.",
                r->onnx, path);
        r->onnx = path;
        return 0;
    }
    if (r->n_external == FILES_MAX)
        return err_set(l->e, ERR_INVALID, l->folder, "The folder has more than %d files.",
                       FILES_MAX);
    if (!r->external)
        r->external = arena_array(&l->c->arena, FILES_MAX, sizeof *r->external);
    r->external[r->n_external++] = (struct model_external){.path = path, .location = location};
    return 0;
}

static int list(struct listing *l, const char *below);

static int add_entry(struct listing *l, const char *location)
{
    struct stat st;
    const char *path = arena_printf(&l->c->arena, "%s/%s", l->folder, location);
    if (lstat(path, &st))
        return err_errno(l->e, path, "The file cannot be read");
    if (S_ISDIR(st.st_mode))
        return list(l, location);
    if (S_ISREG(st.st_mode))
        return add_file(l, path, location);
    return err_set(l->e, ERR_INVALID, path, "This is neither a file nor a folder.");
}

static int list(struct listing *l, const char *below)
{
    struct arena *a = &l->c->arena;
    struct dirent **found = NULL;
    const char *dir = *below ? arena_printf(a, "%s/%s", l->folder, below) : l->folder;
    int n = scandir(dir, &found, NULL, alphasort), rc = 0;
    if (n < 0)
        return err_errno(l->e, dir, "The folder cannot be read");
    for (int i = 0; i < n; i++) {
        const char *name = found[i]->d_name;
        if (!rc && *name != '.')
            rc = add_entry(l,
                           *below ? arena_printf(a, "%s/%s", below, name) : arena_strdup(a, name));
        free(found[i]);
    }
    free(found);
    return rc;
}

int model_files(struct cli *c, const char *word, struct model_files *ret, struct err *e)
{
    struct listing l = {c, word, ret, e};
    struct stat st;
    *ret = (struct model_files){0};
    if (stat(word, &st) || !S_ISDIR(st.st_mode)) {
        ret->onnx = word;
        return 0;
    }
    if (list(&l, ""))
        return -1;
    return ret->onnx ? 0 : err_set(e, ERR_INVALID, word, "There is no .onnx file in the folder.");
}
