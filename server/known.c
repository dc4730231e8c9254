#include "server/known.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/json.h"
#include "server/blobs.h"
#include "server/db.h"
#include "server/pool.h"

enum { INLINE_MAX = 3 << 20 };

struct answer {
    struct server *server;
    struct arena arena;
    const char *owner, *out_dir;
    size_t inline_bytes;
    int64_t hits;
};

/* A result that has no room in the frame: as a file beside the worker's own. */
static char *spill(struct answer *a, const char *hex, const void *p, size_t len, struct err *e)
{
    char *path = arena_printf(&a->arena, "%s/known-%s", a->out_dir, hex);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool bad = fd < 0 || write(fd, p, len) != (ssize_t)len;
    if (bad)
        err_errno(e, path, "The file cannot be written");
    if (fd >= 0)
        close(fd);
    return bad ? NULL : path;
}

static int fill_entry(struct answer *a, struct stmt *s, const struct digest *d,
                      Ptq__Known__Entry *ret, struct err *e)
{
    ret->found = 1;
    a->hits += strcmp(db_text(s, 2), a->owner) != 0;
    if (!db_is_null(s, 1)) {
        ret->file = (char *)blobs_path(a->server->blobs, &a->arena, db_text(s, 1));
        return 0;
    }
    size_t len;
    const void *p = db_blob(s, 0, &len);
    if (a->inline_bytes + len > INLINE_MAX) {
        char hex[SHA256_HEX];
        digest_hex(d, hex);
        ret->file = spill(a, hex, p, len, e);
        return ret->file ? 0 : -1;
    }
    a->inline_bytes += len;
    ret->has_result = 1;
    ret->result.data = arena_copy(&a->arena, p ? p : "", len ? len : 1);
    ret->result.len = len;
    return 0;
}

static int look_up(struct answer *a, const struct digest *d, Ptq__Known__Entry *ret, struct err *e)
{
    struct stmt *s =
        db_stmt(a->server->db, "SELECT result, blob, job_id FROM tasks WHERE digest = ?1", e);
    if (!s)
        return -1;
    db_put_blob(s, d->bytes, SHA256_BYTES);
    int r = db_step(s, e);
    if (r == 1)
        r = fill_entry(a, s, d, ret, e);
    db_end(s);
    return r;
}

int known_send(struct server *s, struct worker *w, const char *owner, const char *out_dir,
               uint64_t request, const struct digest *digests, size_t n, int64_t *ret_hits,
               struct err *e)
{
    struct answer a = {.server = s, .owner = owner, .out_dir = out_dir};
    Ptq__Known known = PTQ__KNOWN__INIT;
    known.request = request;
    known.n_entries = n;
    known.entries = arena_array(&a.arena, n + 1, sizeof *known.entries);
    int r = 0;
    for (size_t i = 0; !r && i < n; i++) {
        known.entries[i] = arena_alloc(&a.arena, sizeof **known.entries);
        ptq__known__entry__init(known.entries[i]);
        r = look_up(&a, &digests[i], known.entries[i], e);
    }
    if (!r) {
        Ptq__ToWorker m = PTQ__TO_WORKER__INIT;
        m.message_case = PTQ__TO_WORKER__MESSAGE_KNOWN;
        m.known = &known;
        worker_send(w, &m);
    }
    *ret_hits = a.hits;
    arena_done(&a.arena);
    return r;
}

json_t *known_read_json(const char *dir, const char *name, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct stat st;
    json_t *v = NULL;
    int fd = -1;
    if (*name && *name != '.' && !strchr(name, '/'))
        fd = open(arena_printf(&a, "%s/%s", dir, name), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > JSON_TEXT_MAX) {
        err_set(e, ERR_WORKER_PROTOCOL, name, "The worker's result file cannot be read.");
    } else {
        char *text = arena_alloc(&a, (size_t)st.st_size + 1);
        if (read(fd, text, (size_t)st.st_size) == st.st_size)
            v = json_parse(text, (size_t)st.st_size, e);
        else
            err_errno(e, name, "The worker's result file cannot be read");
    }
    if (fd >= 0)
        close(fd);
    arena_done(&a);
    return v;
}
