/* Jobs: asked for, watched, shown. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/debug.h"
#include "cli/http.h"
#include "cli/sensitivity.h"
#include "cli/show.h"
#include "common/json.h"

enum { JOB_PATH_MAX = 1024, CONFIG_MAX = 8 << 20, SAMPLES_MAX = 1 << 30 };

/* ---- the request ---- */

static json_t *read_config(const char *path, struct err *e)
{
    FILE *f = fopen(path, "rbe");
    if (!f) {
        err_errno(e, path, "The configuration cannot be read");
        return NULL;
    }
    char *text = xmalloc(CONFIG_MAX);
    size_t n = fread(text, 1, CONFIG_MAX, f);
    fclose(f);
    json_t *v = json_parse(text, n, e);
    if (!v && e->code == ERR_BAD_JSON) {
        json_t *dialect = json_stringn(text, n); /* as people write it: who takes it reads it */
        if (dialect)
            *e = (struct err)ERR_INIT;
        v = dialect;
    }
    free(text);
    if (!v)
        err_in(e, path);
    return v;
}

static int take_samples(const char *text, json_t *options, struct err *e)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 1 || n > SAMPLES_MAX)
        return err_set(e, ERR_BAD_REQUEST, "--samples", "\"%s\" is no number of samples.", text);
    json_object_set_new(options, "samples", json_integer(n));
    return 0;
}

json_t *job_request(struct cli *c, const char *kind, struct err *e)
{
    json_t *req = json_pack("{s:s}", "kind", kind), *options = json_object();
    json_t *config = c->opt.config ? read_config(c->opt.config, e) : NULL;
    int rc = c->opt.config && !config ? -1 : 0;
    if (!rc && c->opt.samples)
        rc = take_samples(c->opt.samples, options, e);
    if (c->tool_options)
        json_object_update(options, c->tool_options);
    if (c->opt.opset21)
        json_object_set_new(options, "opset21", json_true());
    if (c->opt.march)
        json_object_set_new(options, "march", json_string(c->opt.march));
    if (c->opt.nodes)
        json_object_set_new(options, "nodes", json_true());
    if (!rc && !strcmp(kind, "sensitivity"))
        rc = sensitivity_request(&c->opt, options, e);
    if (config)
        json_object_set_new(req, "quant_config", config);
    if (json_object_size(options))
        json_object_set(req, "options", options);
    json_decref(options);
    if (!rc)
        return req;
    json_decref(req);
    return NULL;
}

static int add_inputs(struct cli *c, json_t *req, struct err *e)
{
    const char *model, *data = NULL, *calibration = NULL;
    if (upload_model(c, c->words[0], &model, e) ||
        (c->words[1] && upload_data(c, c->words[1], &data, e)) ||
        (c->opt.calibration && upload_data(c, c->opt.calibration, &calibration, e)))
        return -1;
    json_object_set_new(req, "model", json_string(model));
    if (data)
        json_object_set_new(req, "data", json_string(data));
    if (calibration)
        json_object_set_new(req, "calibration_data", json_string(calibration));
    return 0;
}

static int submit(struct cli *c, const char *kind, json_t **ret_job, struct err *e)
{
    json_t *req = job_request(c, kind, e);
    int rc = !req || add_inputs(c, req, e) ||
             remote_call(cli_remote(c), "POST", "/v1/jobs", req, ret_job, e);
    json_decref(req);
    return rc ? -1 : 0;
}

/* ---- watching ---- */

struct watch {
    struct cli *c;
    struct progress progress;
};

static int on_event(void *ctx, long long seq, const char *type, const json_t *data)
{
    struct watch *w = ctx;
    if (w->c->opt.json && !w->c->opt.wait_not) {
        json_t *row =
            json_pack("{s:I, s:s, s:O}", "seq", (json_int_t)seq, "type", type, "data", data);
        char *text = json_text(row);
        puts(text);
        free(text);
        json_decref(row);
    } else if (!strcmp(type, "progress")) {
        progress_jobs(&w->progress, data);
    } else if (!strcmp(type, "warning")) {
        progress_end(&w->progress);
        fprintf(stderr, "warning: %s\n", json_str(data, "message", ""));
    }
    return !strcmp(type, "done");
}

static char running[JOB_PATH_MAX]; /* what Ctrl-C says */
static void on_interrupt(int sig)
{
    ssize_t ignored = write(STDERR_FILENO, running, strlen(running));
    (void)ignored;
    _exit(128 + sig);
}

/* Follows the job's events to its end. quiet: only progress is shown. */
static int follow(struct cli *c, const char *id, bool quiet, struct err *e)
{
    char path[JOB_PATH_MAX], segment[256];
    struct watch w = {.c = c};
    struct cli shown = *c;
    long long seq = c->opt.after ? atoll(c->opt.after) : 0;
    shown.opt.wait_not = quiet;
    w.c = &shown;
    remote_segment(id, segment, sizeof segment);
    snprintf(path, sizeof path, "/v1/jobs/%s/events", segment);
    snprintf(running, sizeof running,
             "\nThe job goes on. See it with `ptq watch %s`, end it with `ptq cancel %s`.\n", id,
             id);
    signal(SIGINT, on_interrupt);
    int rc = remote_follow(cli_remote(c), path, &seq, on_event, &w, e);
    signal(SIGINT, SIG_DFL);
    progress_end(&w.progress);
    return rc;
}

static int get_job(struct cli *c, const char *id, const char *tail, json_t **ret, struct err *e)
{
    char path[JOB_PATH_MAX], segment[256];
    remote_segment(id, segment, sizeof segment);
    snprintf(path, sizeof path, "/v1/jobs/%s%s", segment, tail);
    return remote_call(cli_remote(c), "GET", path, NULL, ret, e);
}

/* ---- the end ---- */

static int verdict_status(const char *verdict)
{
    return verdict && !strcmp(verdict, "not_met") ? EXIT_NOT_MET : EXIT_OK;
}

static const struct {
    const char *kind, *artifact;
} made[] = {{"calibrate", "calibrated_model.onnx"}, {"export", "qdq_model.onnx"}};

const char *made_artifact(const char *kind)
{
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (!strcmp(made[i].kind, kind))
            return made[i].artifact;
    return NULL;
}

const char *made_path(struct cli *c, const char *kind)
{
    if (c->opt.out)
        return c->opt.out;
    const char *word = c->words[0], *slash = strrchr(word, '/');
    const char *stem = slash ? slash + 1 : word, *dot = strrchr(stem, '.');
    int len = dot && !strcmp(dot, ".onnx") ? (int)(dot - stem) : (int)strlen(stem);
    return arena_printf(&c->arena, "%.*s_%s", len, stem, made_artifact(kind));
}

const char *tool_dir(const struct cli *c)
{
    return c->opt.save_dir ? c->opt.save_dir : "debug_result";
}

int job_conclude(struct cli *c, const char *kind, const json_t *result, const char *verdict)
{
    struct err e = ERR_INIT;
    if (!strcmp(kind, "sensitivity"))
        return sensitivity_conclude(&c->opt, result, &e) ? cli_fail(&e) : verdict_status(verdict);
    if (c->opt.json)
        show_json(result);
    else if (c->tool_options)
        ; /* its files have been told as they were written */
    else if (c->opt.info)
        show_info(result);
    else if (!strcmp(kind, "evaluate"))
        show_evaluation(result);
    else if (!strcmp(kind, "calibrate"))
        show_calibration(result, made_path(c, kind));
    else if (!strcmp(kind, "check-config"))
        show_check(result, c->opt.full_names);
    else if (!strcmp(kind, "export"))
        show_export(result, made_path(c, kind));
    else
        show_json(result);
    return verdict_status(verdict);
}

/* Why a job did not succeed, on standard error. */
static int show_failure(const json_t *job)
{
    const json_t *p = json_object_get(job, "error");
    const char *at = json_str(p, "at", "");
    fprintf(stderr, "ptq: job %s %s", json_str(job, "id", ""), json_str(job, "state", ""));
    if (json_is_object(p))
        fprintf(stderr, ": %s: %s%s%s", json_str(p, "title", ""), at, *at ? ": " : "",
                json_str(p, "detail", ""));
    fputc('\n', stderr);
    return EXIT_FAILED;
}

static int download_model(struct cli *c, const char *id, const char *kind, struct err *e)
{
    char path[JOB_PATH_MAX];
    struct progress p = {0};
    snprintf(path, sizeof path, "/v1/jobs/%s/artifacts/%s", id, made_artifact(kind));
    int rc = remote_download(cli_remote(c), path, made_path(c, kind), progress_bytes, &p, e);
    progress_end(&p);
    return rc;
}

struct fetching {
    struct cli *c;
    const char *id;
};

static int fetch_artifact(void *ctx, const char *artifact, const char *to, struct err *e)
{
    const struct fetching *f = ctx;
    char path[JOB_PATH_MAX], segment[512];
    struct progress p = {0};
    remote_segment(artifact, segment, sizeof segment);
    snprintf(path, sizeof path, "/v1/jobs/%s/artifacts/%s", f->id, segment);
    return remote_download(cli_remote(f->c), path, to, progress_bytes, &p, e);
}

static int conclude(struct cli *c, const json_t *job, struct err *e)
{
    const char *id = json_str(job, "id", ""), *kind = json_str(job, "kind", "");
    json_t *result = NULL;
    if (strcmp(json_str(job, "state", ""), "succeeded") != 0)
        return show_failure(job);
    if ((made_artifact(kind) && download_model(c, id, kind, e)) ||
        get_job(c, id, "/results", &result, e) ||
        (c->tool_options &&
         debug_save(tool_dir(c), result, fetch_artifact, &(struct fetching){c, id}, e))) {
        json_decref(result);
        return cli_fail(e);
    }
    int status = job_conclude(c, kind, result, json_str(job, "verdict", NULL));
    json_decref(result);
    return status;
}

int job_run_kind(struct cli *c, const char *kind, struct err *e)
{
    json_t *job = NULL, *ended = NULL;
    if (c->opt.local)
        return local_run(c, kind, e);
    if (submit(c, kind, &job, e))
        return cli_fail(e);
    const char *id = arena_strdup(&c->arena, json_str(job, "id", ""));
    if (c->opt.wait_not) {
        if (c->opt.json)
            show_json(job);
        else
            puts(id);
        json_decref(job);
        return EXIT_OK;
    }
    json_decref(job);
    fprintf(stderr, "%s\n", id);
    int status = follow(c, id, true, e) || get_job(c, id, "", &ended, e) ? cli_fail(e)
                                                                         : conclude(c, ended, e);
    json_decref(ended);
    return status;
}

int cmd_calibrate(struct cli *c, struct err *e)
{
    return job_run_kind(c, "calibrate", e);
}

int cmd_evaluate(struct cli *c, struct err *e)
{
    return job_run_kind(c, "evaluate", e);
}

int cmd_export(struct cli *c, struct err *e)
{
    return job_run_kind(c, "export", e);
}

/* hmct-info MODEL -c DATA is an evaluation with the nodes. */
int cmd_info(struct cli *c, struct err *e)
{
    if (!c->opt.calibration) {
        fputs("ptq: info needs the data: -c DATA, a folder or one npy file.\n", stderr);
        return EXIT_USAGE;
    }
    c->words[c->n_words++] = c->opt.calibration;
    c->opt.calibration = NULL;
    c->opt.nodes = c->opt.info = true;
    return job_run_kind(c, "evaluate", e);
}

int cmd_sensitivity(struct cli *c, struct err *e)
{
    return job_run_kind(c, "sensitivity", e);
}

/* ---- commands on jobs ---- */

static const char *progress_text(struct arena *a, const json_t *job)
{
    const json_t *p = json_object_get(job, "progress");
    if (!json_is_object(p))
        return "";
    return arena_printf(a, "%s %.0f/%.0f", json_str(p, "phase", ""), json_num(p, "done", 0),
                        json_num(p, "total", 0));
}

static void show_jobs(const json_t *list)
{
    static const char *const head[] = {"Job", "Kind", "State", "Verdict", "Progress", "Created"};
    struct arena a = ARENA_INIT;
    struct table t = {.n_columns = 6, .n_rows = 1};
    t.rows = arena_array(&a, json_array_size(list) + 1, sizeof *t.rows);
    memcpy(t.rows[0], head, sizeof head);
    size_t i;
    json_t *job;
    json_array_foreach(list, i, job)
    {
        const char **row = t.rows[t.n_rows++];
        row[0] = json_str(job, "id", "");
        row[1] = json_str(job, "kind", "");
        row[2] = json_str(job, "state", "");
        row[3] = json_str(job, "verdict", "");
        row[4] = progress_text(&a, job);
        row[5] = json_str(json_object_get(job, "timestamps"), "created", "");
    }
    table_plain(&t);
    arena_done(&a);
}

int cmd_jobs(struct cli *c, struct err *e)
{
    char path[JOB_PATH_MAX], state[64];
    json_t *list = NULL;
    remote_segment(c->opt.state ? c->opt.state : "", state, sizeof state);
    snprintf(path, sizeof path, "/v1/jobs?limit=%d%s%s", c->opt.limit ? atoi(c->opt.limit) : 20,
             *state ? "&state=" : "", state);
    if (remote_call(cli_remote(c), "GET", path, NULL, &list, e))
        return cli_fail(e);
    if (c->opt.json)
        show_json(list);
    else
        show_jobs(json_object_get(list, "items"));
    json_decref(list);
    return EXIT_OK;
}

/* What a job that ended well found, for the kinds that have a printed form. */
static int show_result_of(struct cli *c, const json_t *job, struct err *e)
{
    const char *kind = json_str(job, "kind", ""), *id = json_str(job, "id", "");
    json_t *result = NULL;
    if (strcmp(kind, "evaluate") != 0 && strcmp(kind, "calibrate") != 0)
        return 0;
    if (get_job(c, id, "/results", &result, e))
        return -1;
    if (!strcmp(kind, "evaluate"))
        show_evaluation(result);
    else
        show_calibration(result, "calibrated_model.onnx");
    json_decref(result);
    return 0;
}

int cmd_watch(struct cli *c, struct err *e)
{
    json_t *job = NULL;
    const char *id = c->words[0];
    if (follow(c, id, false, e) || get_job(c, id, "", &job, e))
        return cli_fail(e);
    const char *state = json_str(job, "state", ""), *verdict = json_str(job, "verdict", NULL);
    int status = strcmp(state, "succeeded") ? show_failure(job) : verdict_status(verdict);
    if (!c->opt.json && status != EXIT_FAILED) {
        printf("%s %s%s%s\n", id, state, verdict ? ": " : "", verdict ? verdict : "");
        if (show_result_of(c, job, e))
            status = cli_fail(e);
    }
    json_decref(job);
    return status;
}

int cmd_cancel(struct cli *c, struct err *e)
{
    char path[JOB_PATH_MAX], segment[256];
    json_t *job = NULL;
    remote_segment(c->words[0], segment, sizeof segment);
    snprintf(path, sizeof path, "/v1/jobs/%s:cancel", segment);
    if (remote_call(cli_remote(c), "POST", path, NULL, &job, e))
        return cli_fail(e);
    if (c->opt.json)
        show_json(job);
    else
        printf("%s %s\n", c->words[0], json_str(job, "state", ""));
    json_decref(job);
    return EXIT_OK;
}

/* ---- get ---- */

static const char *collection_of(const char *id)
{
    return !strncmp(id, "mdl_", 4)   ? "models"
           : !strncmp(id, "dat_", 4) ? "datasets"
           : !strncmp(id, "job_", 4) ? "jobs"
                                     : NULL;
}

static int get_file(struct cli *c, const char *path, const char *file, struct err *e)
{
    struct progress p = {0};
    int rc = remote_download(cli_remote(c), path, file, progress_bytes, &p, e);
    progress_end(&p);
    if (!rc && strcmp(file, "-") != 0)
        fprintf(stderr, "wrote %s\n", file);
    return rc ? cli_fail(e) : EXIT_OK;
}

int cmd_get(struct cli *c, struct err *e)
{
    char path[JOB_PATH_MAX], id[256], name[256];
    const char *what = collection_of(c->words[0]), *artifact = c->words[1], *out = c->opt.out;
    if (!what || (artifact && strcmp(what, "jobs") != 0)) {
        err_set(e, ERR_BAD_REQUEST, c->words[0],
                what ? "Only jobs have artifacts." : "An id begins with mdl_, dat_ or job_.");
        return cli_fail(e), EXIT_USAGE;
    }
    remote_segment(c->words[0], id, sizeof id);
    remote_segment(artifact ? artifact : "", name, sizeof name);
    if (artifact || (out && strcmp(what, "jobs") != 0)) {
        snprintf(path, sizeof path, "/v1/%s/%s/%s%s", what, id, artifact ? "artifacts/" : "content",
                 name);
        return get_file(c, path, out ? out : artifact, e);
    }
    json_t *v = NULL;
    snprintf(path, sizeof path, "/v1/%s/%s%s", what, id, out ? "/results" : "");
    if (out)
        return get_file(c, path, out, e);
    if (remote_call(cli_remote(c), "GET", path, NULL, &v, e))
        return cli_fail(e);
    show_json(v);
    json_decref(v);
    return EXIT_OK;
}
