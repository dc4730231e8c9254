/* Models and data on their way to the server, which are not sent when it has them. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/archive.h"
#include "cli/cli.h"
#include "cli/http.h"
#include "cli/model.h"
#include "cli/show.h"
#include "common/json.h"
#include "common/sha256.h"

enum { ID_PREFIX = 4, ID_DIGEST = 26, PATH_TEXT_MAX = 4096 };

static bool is_id(const char *word, const char *prefix)
{
    return !strncmp(word, prefix, ID_PREFIX) && access(word, F_OK) != 0;
}

static int hash_file(const char *path, struct digest *ret, struct err *e)
{
    static char block[256 << 10];
    FILE *f = fopen(path, "rbe");
    if (!f)
        return err_errno(e, path, "The file cannot be read");
    struct sha256 *h = sha256_new();
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        sha256_add(h, block, n);
    int rc = ferror(f) ? err_errno(e, path, "The file cannot be read") : 0;
    fclose(f);
    sha256_finish(h, ret);
    return rc;
}

/* RFC 4648, lower case: the digest's first 130 bits. */
static void base32(const struct digest *d, char ret[ID_DIGEST + 1])
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    for (int i = 0; i < ID_DIGEST; i++) {
        int bit = 5 * i, byte = bit / 8, shift = 11 - bit % 8;
        unsigned two = (unsigned)d->bytes[byte] << 8 | d->bytes[byte + 1];
        ret[i] = digits[two >> shift & 31];
    }
    ret[ID_DIGEST] = '\0';
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* "/v1/models?name=…" */
static void with_name(struct cli *c, const char *path, const char *file, char ret[PATH_TEXT_MAX])
{
    char name[1024];
    remote_segment(c->opt.name ? c->opt.name : base_name(file), name, sizeof name);
    snprintf(ret, PATH_TEXT_MAX, "%s?name=%s", path, name);
}

static int put_file(struct cli *c, const char *path, const char *file, const char *shown,
                    json_t **ret, struct err *e)
{
    char url[PATH_TEXT_MAX];
    struct progress p = {0};
    with_name(c, path, shown, url);
    int rc = remote_upload(cli_remote(c), url, file, progress_bytes, &p, ret, e);
    progress_end(&p);
    return rc;
}

/* ---- models ---- */

/* Whether the server has the file; its digest as "sha256:<hex>". */
static int find_blob(struct cli *c, const char *file, const char **ret_name, struct err *e)
{
    struct digest d;
    char hex[SHA256_HEX];
    if (hash_file(file, &d, e))
        return -1;
    digest_hex(&d, hex);
    *ret_name = arena_printf(&c->arena, "sha256:%s", hex);
    return remote_find(cli_remote(c), "HEAD", arena_printf(&c->arena, "/v1/blobs/%s", *ret_name),
                       NULL, e);
}

static int put_blob(struct cli *c, const char *file, const char **ret_name, struct err *e)
{
    int there = find_blob(c, file, ret_name, e);
    if (there)
        return there < 0 ? -1 : 0;
    struct progress p = {0};
    int rc = remote_upload(cli_remote(c), arena_printf(&c->arena, "/v1/blobs/%s", *ret_name), file,
                           progress_bytes, &p, NULL, e);
    progress_end(&p);
    return rc;
}

/* The model of blobs that the server has. Takes external. */
static int make_model(struct cli *c, const char *file, const char *blob, json_t *external,
                      json_t **ret, struct err *e)
{
    char url[PATH_TEXT_MAX];
    json_t *body = json_pack("{s:s, s:o*}", "blob", blob, "external_data", external);
    with_name(c, "/v1/models", file, url);
    int rc = remote_call(cli_remote(c), "POST", url, body, ret, e);
    json_decref(body);
    return rc;
}

static int add_split_model(struct cli *c, const struct model_files *m, json_t **ret, struct err *e)
{
    const char *blob;
    json_t *external = json_array();
    int rc = put_blob(c, m->onnx, &blob, e);
    for (int i = 0; !rc && i < m->n_external; i++) {
        const char *part;
        rc = put_blob(c, m->external[i].path, &part, e);
        if (!rc)
            json_array_append_new(external, json_pack("{s:s, s:s}", "location",
                                                      m->external[i].location, "blob", part));
    }
    if (rc) {
        json_decref(external);
        return -1;
    }
    return make_model(c, m->onnx, blob, external, ret, e);
}

/* The model, made of blobs that the server has, or of the file. */
static int add_model(struct cli *c, const char *word, json_t **ret, struct err *e)
{
    struct model_files m;
    const char *blob;
    if (model_files(c, word, &m, e))
        return -1;
    if (m.n_external)
        return add_split_model(c, &m, ret, e);
    int there = find_blob(c, m.onnx, &blob, e);
    if (there < 0)
        return -1;
    return there ? make_model(c, m.onnx, blob, NULL, ret, e)
                 : put_file(c, "/v1/models", m.onnx, m.onnx, ret, e);
}

/* ---- data ---- */

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int add_archive(struct cli *c, const char *file, const char *shown, json_t **ret,
                       struct err *e)
{
    struct digest d;
    char id[ID_DIGEST + 1], path[128];
    if (hash_file(file, &d, e))
        return -1;
    base32(&d, id);
    snprintf(path, sizeof path, "/v1/datasets/dat_%s", id);
    int there = remote_find(cli_remote(c), "GET", path, ret, e);
    if (there)
        return there < 0 ? -1 : 0;
    return put_file(c, "/v1/datasets", file, shown, ret, e);
}

static int add_folder(struct cli *c, const char *folder, json_t **ret, struct err *e)
{
    const char *dir = getenv("TMPDIR");
    char *tmp = arena_printf(&c->arena, "%s/ptq-data.XXXXXX", dir ? dir : "/tmp");
    int fd = mkstemp(tmp);
    if (fd < 0)
        return err_errno(e, tmp, "A temporary file cannot be made");
    close(fd);
    int rc = pack_folder(folder, c->opt.labels, tmp, e);
    if (!rc)
        rc = add_archive(c, tmp, folder, ret, e);
    unlink(tmp);
    return rc;
}

static int add_data(struct cli *c, const char *path, json_t **ret, struct err *e)
{
    if (is_folder(path))
        return add_folder(c, path, ret, e);
    if (c->opt.labels)
        return err_set(e, ERR_INVALID, "--labels",
                       "Labels can be added to a folder only; %s is a file. Put labels.npy into "
                       "the archive.",
                       path);
    return add_archive(c, path, path, ret, e);
}

/* ---- for the commands ---- */

static int take_id(struct cli *c, json_t *resource, const char **ret_id, struct err *e)
{
    const char *id = json_str(resource, "id", NULL);
    if (id)
        *ret_id = arena_strdup(&c->arena, id);
    json_decref(resource);
    return id ? 0 : err_set(e, ERR_INTERNAL, "", "The server's answer has no id.");
}

static int must_exist(const char *word, const char *what, struct err *e)
{
    if (access(word, R_OK) == 0)
        return 0;
    return err_set(e, ERR_NOT_FOUND, word, "There is no such %s: give a path or an id.", what);
}

int upload_model(struct cli *c, const char *word, const char **ret_id, struct err *e)
{
    json_t *m = NULL;
    *ret_id = word;
    if (is_id(word, "mdl_"))
        return 0;
    if (must_exist(word, "model", e) || add_model(c, word, &m, e))
        return -1;
    return take_id(c, m, ret_id, e);
}

int upload_data(struct cli *c, const char *word, const char **ret_id, struct err *e)
{
    json_t *d = NULL;
    *ret_id = word;
    if (is_id(word, "dat_"))
        return 0;
    if (must_exist(word, "data", e) || add_data(c, word, &d, e))
        return -1;
    return take_id(c, d, ret_id, e);
}

int cmd_model_add(struct cli *c, struct err *e)
{
    json_t *m = NULL;
    if (must_exist(c->words[0], "model", e) || add_model(c, c->words[0], &m, e))
        return cli_fail(e);
    const json_t *counts = json_object_get(json_object_get(m, "summary"), "counts");
    if (c->opt.json)
        show_json(m);
    else
        printf("%s  %s, %lld nodes, %lld parameters\n", json_str(m, "id", ""),
               json_str(m, "state", ""), (long long)json_int(counts, "nodes_optimized", 0),
               (long long)json_int(counts, "parameters", 0));
    json_decref(m);
    return EXIT_OK;
}

int cmd_data_add(struct cli *c, struct err *e)
{
    json_t *d = NULL;
    if (must_exist(c->words[0], "data", e) || add_data(c, c->words[0], &d, e))
        return cli_fail(e);
    const json_t *summary = json_object_get(d, "summary");
    bool labelled = json_is_object(json_object_get(summary, "labels"));
    if (c->opt.json)
        show_json(d);
    else
        printf("%s  %s, %lld samples%s\n", json_str(d, "id", ""), json_str(d, "state", ""),
               (long long)json_int(summary, "samples", 0), labelled ? " with labels" : "");
    json_decref(d);
    return EXIT_OK;
}
