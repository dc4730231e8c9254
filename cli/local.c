/* --local: the job runs here, in ptq-worker, without a server. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/archive.h"
#include "cli/cli.h"
#include "cli/debug.h"
#include "cli/model.h"
#include "cli/show.h"
#include "common/json.h"

struct local {
    struct cli *c;
    const char *dir; /* temporary: job.json, the worker's results */
    char verdict[32];
    bool told; /* why the job failed */
    struct progress progress;
};

const char *worker_path(struct cli *c)
{
    char self[PATH_MAX];
    const char *given = getenv("PTQ_WORKER");
    if (given && *given)
        return given;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;
    if (!slash)
        return "ptq-worker";
    return arena_printf(&c->arena, "%.*s/ptq-worker", (int)(slash - self), self);
}

/* ---- the job file ---- */

static int set_path(json_t *req, const char *key, const char *path, struct err *e)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return err_errno(e, path, "The file cannot be read");
    json_object_set_new(req, key, json_string(real));
    return 0;
}

/* The data; a folder that gets labels of its own is packed with them. */
static int set_data(struct local *l, json_t *req, struct err *e)
{
    struct cli *c = l->c;
    const char *packed = arena_printf(&c->arena, "%s/packed.tar", l->dir);
    if (!c->opt.labels)
        return set_path(req, "data", c->words[1], e);
    return pack_folder(c->words[1], c->opt.labels, packed, e) || set_path(req, "data", packed, e)
               ? -1
               : 0;
}

static const char *write_job(struct local *l, const char *kind, struct err *e)
{
    struct cli *c = l->c;
    const char *path = arena_printf(&c->arena, "%s/job.json", l->dir);
    json_t *req = job_request(c, kind, e);
    if (!req)
        return NULL;
    struct model_files m;
    int rc = model_files(c, c->words[0], &m, e) || set_path(req, "model", m.onnx, e) ||
             (c->words[1] && set_data(l, req, e)) ||
             (c->opt.calibration && set_path(req, "calibration_data", c->opt.calibration, e));
    if (!rc && json_dump_file(req, path, JSON_COMPACT))
        rc = err_errno(e, path, "The job file cannot be written");
    json_decref(req);
    return rc ? NULL : path;
}

/* ---- the worker ---- */

static void exec_worker(struct local *l, const char *job, int out)
{
    char *store = (char *)l->c->opt.store;
    char *argv[] = {(char *)worker_path(l->c), (char *)job, "--json", "--out", (char *)l->dir,
                    store ? "--store" : NULL,  store,       NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(out, STDOUT_FILENO);
    execvp(argv[0], argv);
    fprintf(stderr, "ptq: %s cannot be run: %s. Set PTQ_WORKER to where ptq-worker is.\n", argv[0],
            strerror(errno));
    _exit(EXIT_USAGE);
}

static void on_line(struct local *l, const char *text)
{
    struct err ignored = ERR_INIT;
    json_t *row = json_parse(text, strlen(text), &ignored);
    const json_t *data = json_object_get(row, "data"), *p = json_object_get(data, "error");
    const char *type = json_str(row, "type", "");
    if (!strcmp(type, "progress")) {
        progress_jobs(&l->progress, data);
    } else if (!strcmp(type, "done")) {
        progress_end(&l->progress);
        snprintf(l->verdict, sizeof l->verdict, "%s", json_str(data, "verdict", ""));
        const char *at = json_str(p, "at", "");
        if (json_is_object(p)) {
            fprintf(stderr, "ptq: %s: %s%s%s\n", json_str(p, "title", ""), at, *at ? ": " : "",
                    json_str(p, "detail", ""));
            l->told = true;
        }
    }
    json_decref(row);
}

static int read_events(struct local *l, int fd)
{
    FILE *f = fdopen(fd, "r");
    char *line = NULL;
    size_t cap = 0;
    while (f && getline(&line, &cap, f) > 0)
        on_line(l, line);
    free(line);
    progress_end(&l->progress);
    return f ? fclose(f) : -1;
}

/* Ctrl-C ends the worker; this program lives on to take its folder away. */
static volatile sig_atomic_t worker_pid;

static void pass_on(int signal)
{
    if (worker_pid > 0)
        kill(worker_pid, signal);
}

static void catch_signals(void)
{
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction act = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        sigaction(caught[i], &act, NULL);
}

/* Runs the worker to its end: its wait status. */
static int run_worker(struct local *l, const char *job, int *ret_status, struct err *e)
{
    int fds[2];
    catch_signals();
    if (pipe2(fds, O_CLOEXEC))
        return err_errno(e, "", "A pipe cannot be made");
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(e, "", "A process cannot be made");
    if (pid == 0)
        exec_worker(l, job, fds[1]);
    worker_pid = pid;
    close(fds[1]);
    read_events(l, fds[0]);
    while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

static int worker_failure(const struct local *l, int status)
{
    if (WIFSIGNALED(status))
        fprintf(stderr, "ptq: ptq-worker was ended by signal %d (%s).\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    else if (!l->told && WEXITSTATUS(status) != EXIT_USAGE)
        fprintf(stderr, "ptq: ptq-worker ended with status %d.\n", WEXITSTATUS(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

/* ---- the result ---- */

static int copy_file(const char *from, const char *to, struct err *e)
{
    static char block[256 << 10];
    FILE *in = fopen(from, "rbe"), *out = in ? fopen(to, "wbe") : NULL;
    size_t n;
    bool ok = in && out;
    while (ok && (n = fread(block, 1, sizeof block, in)) > 0)
        ok = fwrite(block, 1, n, out) == n;
    ok = ok && !ferror(in);
    if (out && fclose(out))
        ok = false;
    int rc = ok ? 0 : err_errno(e, to, "The model cannot be written");
    if (in)
        fclose(in);
    return rc;
}

static int fetch_file(void *ctx, const char *artifact, const char *to, struct err *e)
{
    const struct local *l = ctx;
    return copy_file(arena_printf(&l->c->arena, "%s/%s", l->dir, artifact), to, e);
}

static int conclude(struct local *l, const char *kind, struct err *e)
{
    struct cli *c = l->c;
    json_t *result = json_load_file(arena_printf(&c->arena, "%s/result.json", l->dir), 0, NULL);
    int rc = 0;
    if (!result)
        rc = err_set(e, ERR_INTERNAL, l->dir, "ptq-worker left no result.");
    if (!rc && made_artifact(kind))
        rc = copy_file(arena_printf(&c->arena, "%s/%s", l->dir, made_artifact(kind)),
                       made_path(c, kind), e);
    if (!rc && c->tool_options)
        rc = debug_save(tool_dir(c), result, fetch_file, l, e);
    int status = rc ? cli_fail(e) : job_conclude(c, kind, result, *l->verdict ? l->verdict : NULL);
    json_decref(result);
    return status;
}

static int run_in(struct local *l, const char *kind, struct err *e)
{
    int status = 0;
    const char *job = write_job(l, kind, e);
    if (!job || run_worker(l, job, &status, e))
        return cli_fail(e);
    if (!WIFEXITED(status) ||
        (WEXITSTATUS(status) != EXIT_OK && WEXITSTATUS(status) != EXIT_NOT_MET))
        return worker_failure(l, status);
    return conclude(l, kind, e);
}

/* The folder is our own and flat. */
static void remove_dir(struct cli *c, const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        unlink(arena_printf(&c->arena, "%s/%s", dir, f->d_name));
    if (d)
        closedir(d);
    rmdir(dir);
}

int local_run(struct cli *c, const char *kind, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    struct local l = {.c = c};
    l.dir = mkdtemp(arena_printf(&c->arena, "%s/ptq-job.XXXXXX", tmp ? tmp : "/tmp"));
    if (!l.dir) {
        err_errno(e, "", "A temporary folder cannot be made");
        return cli_fail(e);
    }
    int status = run_in(&l, kind, e);
    remove_dir(c, l.dir);
    return status;
}
