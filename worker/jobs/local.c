/* A job's surroundings without a server: files in folders, events on standard output. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "worker/jobs/core.h"
#include "worker/jobs/host.h"
#include "worker/load/dataset.h"

enum { RESULT_FILE_MAX = 64 << 20, DATA_MAX_GIB = 64 };

struct local {
    const struct local_opts *o;
    struct arena arena;
    int64_t seq;
    bool on_line; /* a progress line without its end stands on the terminal */
};

/* ---- events ---- */

static void end_line(struct local *l)
{
    if (l->on_line)
        fputc('\n', stderr);
    l->on_line = false;
}

static void show_progress(struct local *l, const json_t *data)
{
    int64_t done = json_int(data, "done", 0), total = json_int(data, "total", 0);
    double rate = json_num(data, "rate", 0), eta = json_num(data, "eta_s", 0);
    bool tty = isatty(STDERR_FILENO);
    if (!tty && done != total)
        return;
    fprintf(stderr, "%s%s: %lld/%lld", tty ? "\r\033[K" : "", json_str(data, "phase", ""),
            (long long)done, (long long)total);
    if (rate > 0 && done != total)
        fprintf(stderr, ", %.1f/s, %.0f s left", rate, eta);
    l->on_line = true;
    if (done == total)
        end_line(l);
}

static int show_line(struct local *l, const char *type, const json_t *data, struct err *e)
{
    char at[CLOCK_ISO_MAX];
    clock_iso(clock_wall_ms(), at);
    json_t *row = json_pack("{s:I, s:s, s:s, s:s, s:O}", "seq", (json_int_t)++l->seq, "job",
                            "local", "type", type, "at", at, "data", data);
    char *text = json_text(row);
    int rc = printf("%s\n", text) < 0 || fflush(stdout) != 0
                 ? err_errno(e, "", "Standard output cannot be written")
                 : 0;
    free(text);
    json_decref(row);
    return rc;
}

static int local_event(void *ctx, int64_t ordinal, const char *type, const json_t *data,
                       struct err *e)
{
    struct local *l = ctx;
    (void)ordinal;
    if (l->o->json)
        return show_line(l, type, data, e);
    if (!strcmp(type, "progress")) {
        show_progress(l, data);
    } else if (!strcmp(type, "warning") || !strcmp(type, "log")) {
        end_line(l);
        fprintf(stderr, "%s: %s\n", type, json_str(data, "message", ""));
    }
    return 0;
}

/* ---- the store ---- */

static const char *result_path(struct local *l, const struct digest *d, bool make_folder)
{
    char hex[SHA256_HEX];
    digest_hex(d, hex);
    const char *folder = arena_printf(&l->arena, "%s/%.2s", l->o->store_dir, hex);
    if (make_folder)
        mkdir(folder, 0755);
    return arena_printf(&l->arena, "%s/%s", folder, hex);
}

static int read_file(const char *path, struct found *ret, struct err *e)
{
    FILE *f = fopen(path, "rbe");
    if (!f && errno == ENOENT)
        return 0;
    if (!f)
        return err_errno(e, path, "A stored result cannot be read");
    struct buf b;
    buf_init(&b, RESULT_FILE_MAX);
    char *room;
    size_t n;
    while ((room = buf_room(&b, 64 << 10)) && (n = fread(room, 1, 64 << 10, f)) > 0)
        b.len += n;
    int rc = ferror(f) || !room ? err_errno(e, path, "A stored result cannot be read") : 0;
    fclose(f);
    ret->bytes = b.data; /* xmalloc'ed */
    ret->len = b.len;
    ret->bytes[ret->len] = '\0';
    return rc;
}

static int local_lookup(void *ctx, const struct digest *digests, int n, struct found *ret,
                        struct err *e)
{
    struct local *l = ctx;
    for (int i = 0; i < n && l->o->store_dir; i++)
        if (read_file(result_path(l, &digests[i], false), &ret[i], e))
            return -1;
    return 0;
}

/* Whole or not at all: a file of its own, then renamed. */
static int write_file(const char *path, const char *tmp, const void *data, size_t len,
                      struct err *e)
{
    FILE *f = fopen(tmp, "wbe");
    if (!f)
        return err_errno(e, tmp, "The file cannot be made");
    bool ok = fwrite(data, 1, len, f) == len;
    if (fclose(f) != 0 || !ok || rename(tmp, path)) {
        err_errno(e, path, "The file cannot be written");
        unlink(tmp);
        return -1;
    }
    return 0;
}

static int local_store(void *ctx, const struct digest *d, const char *kind, const void *result,
                       size_t len, int64_t cpu_us, struct err *e)
{
    struct local *l = ctx;
    (void)kind;
    (void)cpu_us;
    if (!l->o->store_dir)
        return 0;
    const char *path = result_path(l, d, true);
    const char *tmp = arena_printf(&l->arena, "%s.%ld", path, (long)getpid());
    return write_file(path, tmp, result, len, e);
}

static int local_artifact(void *ctx, const struct artifact *a, struct err *e)
{
    struct local *l = ctx;
    if (strcmp(a->name, a->file) != 0 &&
        rename(arena_printf(&l->arena, "%s/%s", l->o->out_dir, a->file),
               arena_printf(&l->arena, "%s/%s", l->o->out_dir, a->name)))
        return err_errno(e, a->name, "The artifact cannot be named");
    end_line(l);
    if (!l->o->json)
        fprintf(stderr, "wrote %s/%s (%llu bytes)\n", l->o->out_dir, a->name,
                (unsigned long long)a->size);
    return 0;
}

static const struct job_io local_io = {
    .lookup = local_lookup, .store = local_store, .event = local_event, .artifact = local_artifact};

/* ---- the job file ---- */

static const struct json_field job_fields[] = {{"kind", JSON_K_STRING, 1, 0, 0},
                                               {"model", JSON_K_STRING, 0, 0, 0},
                                               {"data", JSON_K_STRING, 0, 0, 0},
                                               {"calibration_data", JSON_K_STRING, 0, 0, 0},
                                               {"quant_config", JSON_K_ANY, 0, 0, 0},
                                               {"options", JSON_K_OBJECT, 0, 0, 0},
                                               {0}};

static json_t *read_job(const char *path, struct err *e)
{
    struct found text = {0};
    if (read_file(path, &text, e))
        return NULL;
    if (!text.bytes) {
        err_set(e, ERR_NOT_FOUND, path, "There is no such job file.");
        return NULL;
    }
    json_t *job = json_parse(text.bytes, text.len, e);
    free(text.bytes);
    if (!job)
        err_in(e, path);
    else if (!json_check(job, job_fields, "", e))
        return job;
    json_decref(job);
    return NULL;
}

/* Data in another form than a folder, an npy or a canonical tar is made canonical first. */
static int ready_data(struct local *l, struct job *j, const char *role, const char **path,
                      struct err *e)
{
    bool raw = !strncmp(role, "model", 5) || dataset_is_open_form(*path);
    if (raw || access(*path, R_OK) != 0)
        return 0;
    const char *out = arena_printf(&j->arena, "%s/%s.tar", l->o->out_dir, role);
    if (dataset_normalize(*path, l->o->out_dir, (uint64_t)DATA_MAX_GIB << 30, out, &j->arena, NULL,
                          e))
        return -1;
    *path = out;
    return 0;
}

static int take_inputs(struct local *l, struct job *j, struct err *e)
{
    static const char *const roles[] = {"model", "data", "calibration_data"};
    struct job_input *in = arena_array(&j->arena, 3, sizeof *in);
    j->inputs = in;
    for (int i = 0; i < 3; i++) {
        const char *path = json_str(j->spec, roles[i], NULL);
        if (!path)
            continue;
        if (ready_data(l, j, roles[i], &path, e))
            return -1;
        in[j->n_inputs++] = (struct job_input){.role = roles[i], .path = path};
    }
    return 0;
}

static int make_folder(const char *path, struct err *e)
{
    if (path && mkdir(path, 0755) && errno != EEXIST)
        return err_errno(e, path, "The folder cannot be made");
    return 0;
}

static int prepare(struct local *l, const struct host *h, struct job *j,
                   const struct job_kind **ret_kind, struct err *e)
{
    if (make_folder(l->o->out_dir, e) || make_folder(l->o->store_dir, e))
        return -1;
    j->spec = read_job(l->o->job_file, e);
    if (!j->spec)
        return -1;
    const char *kind = json_str(j->spec, "kind", "");
    *ret_kind = job_kind_in(h->kinds, kind);
    if (!*ret_kind)
        return err_set(e, ERR_UNKNOWN_NAME, "/kind",
                       "There is no job kind \"%s\"; `ptq-worker --help` lists them.", kind);
    return take_inputs(l, j, e);
}

/* ---- the end ---- */

static int write_result(struct local *l, const json_t *result, struct err *e)
{
    char *text = json_text(result);
    const char *path = arena_printf(&l->arena, "%s/result.json", l->o->out_dir);
    int rc = write_file(path, arena_printf(&l->arena, "%s.tmp", path), text, strlen(text), e);
    free(text);
    return rc;
}

static json_t *problem_of(const struct err *e)
{
    return json_pack("{s:s, s:s, s:i, s:s, s:s, s:b}", "type", err_slug(e->code), "title",
                     err_title(e->code), "status", err_status(e->code), "detail", e->detail, "at",
                     e->at, "retryable", err_retryable(e->code));
}

static void tell_end(struct local *l, const char *verdict, const struct err *e)
{
    struct err ignored = ERR_INIT;
    const char *state = e->code == ERR_NONE        ? "succeeded"
                        : e->code == ERR_CANCELLED ? "cancelled"
                                                   : "failed";
    json_t *data = json_pack("{s:s, s:s?, s:o}", "state", state, "verdict", verdict, "error",
                             e->code == ERR_NONE ? json_null() : problem_of(e));
    end_line(l);
    if (l->o->json)
        show_line(l, "done", data, &ignored);
    else if (e->code == ERR_NONE)
        fprintf(stderr, "%s%s%s; the result is in %s/result.json\n", state, verdict ? ": " : "",
                verdict ? verdict : "", l->o->out_dir);
    else
        fprintf(stderr, "ptq-worker: %s: %s%s%s\n", err_title(e->code), e->at, *e->at ? ": " : "",
                e->detail);
    json_decref(data);
}

int local_main(const struct host *h, const struct local_opts *o)
{
    struct local l = {.o = o};
    struct job j = {.io = &local_io,
                    .io_ctx = &l,
                    .io_fd = -1,
                    .id = "local",
                    .out_dir = o->out_dir,
                    .slots = o->slots,
                    .local = true,
                    .backend = h->backend,
                    .profile = h->profile,
                    .task_timeout_ms = TASK_TIMEOUT_MS};
    struct err e = ERR_INIT;
    const struct job_kind *kind = NULL;
    json_t *result = NULL;
    const char *verdict = NULL;
    int rc = prepare(&l, h, &j, &kind, &e);
    if (!rc)
        rc = job_run(&j, kind, &result, &verdict, &e);
    if (!rc)
        rc = write_result(&l, result, &e);
    tell_end(&l, verdict, &e);
    json_decref(result);
    job_done(&j);
    arena_done(&l.arena);
    return rc ? 1 : verdict && !strcmp(verdict, "not_met") ? 4 : 0;
}
