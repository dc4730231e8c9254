#include "worker/jobs/job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log.h"
#include "worker/jobs/core.h"

/* ---- what a job asks of its own ---- */

const json_t *job_spec(const struct job *j)
{
    return j->spec;
}

struct arena *job_arena(struct job *j)
{
    return &j->arena;
}

const char *job_out_dir(const struct job *j)
{
    return j->out_dir;
}

int job_slots(const struct job *j)
{
    return j->slots;
}

uint64_t job_memory(const struct job *j)
{
    return j->memory;
}

const struct backend *job_backend(const struct job *j)
{
    return j->backend;
}

const struct job_input *job_inputs(const struct job *j, int *ret_n)
{
    *ret_n = j->n_inputs;
    return j->inputs;
}

const struct job_input *job_input(const struct job *j, const char *role)
{
    for (int i = 0; i < j->n_inputs; i++)
        if (!strcmp(j->inputs[i].role, role))
            return &j->inputs[i];
    return NULL;
}

/* ---- events ---- */

void job_event(struct job *j, const char *type, json_t *data)
{
    int64_t ordinal = j->next_event++;
    if (ordinal < j->n_recorded) { /* told by an earlier attempt */
        if (strcmp(j->recorded[ordinal].type, type) != 0)
            log_event(LOG_WARN, "job.replay", "event %lld was %s, is now %s", (long long)ordinal,
                      j->recorded[ordinal].type, type);
    } else {
        j->io->event(j->io_ctx, ordinal, type, data, &j->broken);
    }
    json_decref(data);
}

const json_t *job_recorded(struct job *j, const char *type, json_t *(*fresh)(void *ctx), void *ctx)
{
    int64_t ordinal = j->next_event;
    if (ordinal < j->n_recorded && !strcmp(j->recorded[ordinal].type, type)) {
        j->next_event++;
        return j->recorded[ordinal].data;
    }
    json_t *data = fresh(ctx);
    j->recorded = xrealloc(j->recorded, (size_t)(j->n_recorded + 1) * sizeof *j->recorded);
    json_incref(data);
    job_event(j, type, data);
    /* Kept behind the history that was replayed, only to be freed with the job. */
    j->recorded[j->n_recorded++] = (struct recorded){arena_strdup(&j->arena, type), data};
    return data;
}

int job_progress(struct job *j, const char *phase, int done, int total, double rate, double eta_s,
                 struct err *e)
{
    json_t *data =
        json_pack("{s:s, s:i, s:i, s:s, s:o, s:o}", "phase", phase, "done", done, "total", total,
                  "unit", "tasks", "rate", rate < 0 ? json_null() : json_real(rate), "eta_s",
                  eta_s < 0 ? json_null() : json_real(eta_s));
    int rc = j->io->event(j->io_ctx, -1, "progress", data, e);
    json_decref(data);
    return rc;
}

int job_log(struct job *j, json_t *data, struct err *e)
{
    int rc = j->io->event(j->io_ctx, -1, "log", data, e);
    json_decref(data);
    return rc;
}

/* ---- artifacts ---- */

int job_hash_file(const char *path, char ret_hex[SHA256_HEX], uint64_t *ret_size, struct err *e)
{
    static char block[256 << 10];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, path, "The file cannot be opened");
    struct sha256 *h = sha256_new();
    ssize_t n;
    *ret_size = 0;
    while ((n = read(fd, block, sizeof block)) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        sha256_add(h, block, (size_t)n);
        *ret_size += (uint64_t)n;
    }
    int rc = n < 0 ? err_errno(e, path, "The file cannot be read") : 0;
    close(fd);
    struct digest d;
    sha256_finish(h, &d);
    digest_hex(&d, ret_hex);
    return rc;
}

int job_artifact(struct job *j, const char *name, const char *media_type, const char *file,
                 struct err *e)
{
    struct artifact a = {.name = name, .media_type = media_type, .file = file};
    const char *path = arena_printf(&j->arena, "%s/%s", j->out_dir, file);
    if (job_hash_file(path, a.sha256, &a.size, e))
        return -1;
    return j->io->artifact(j->io_ctx, &a, e);
}

/* ---- the run ---- */

const struct job_kind *job_kind_in(const struct job_kind *const *kinds, const char *name)
{
    for (; *kinds; kinds++)
        if (!strcmp((*kinds)->name, name))
            return *kinds;
    return NULL;
}

int job_run(struct job *j, const struct job_kind *kind, json_t **ret_result,
            const char **ret_verdict, struct err *e)
{
    *ret_result = NULL;
    *ret_verdict = NULL;
    int rc = kind->run(j, ret_result, ret_verdict, e);
    if (!rc && j->broken.code != ERR_NONE) {
        *e = j->broken;
        rc = -1;
    }
    if (rc) {
        json_decref(*ret_result);
        *ret_result = NULL;
    }
    return rc;
}

void job_done(struct job *j)
{
    for (int i = 0; i < j->n_recorded; i++)
        json_decref(j->recorded[i].data);
    free(j->recorded);
    json_decref(j->spec);
    arena_done(&j->arena);
}
