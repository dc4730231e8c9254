/* ptq-worker: runs one job in one process, for ptqd or by itself. */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "worker/exec/backend.h"
#include "worker/jobs/core.h"
#include "worker/jobs/host.h"
#include "worker/jobs/inspect.h"
#include "worker/jobs/operators.h"
#include "worker/jobs/run.h"
#include "worker/load/model.h"
#include "worker/quant/edit.h"

enum { EXIT_JOB_FAILED = 1, EXIT_USAGE = 2 };

static const char help[] =
    "ptq-worker runs one job of ptqd, or one by itself, without a server.\n"
    "\n"
    "  ptq-worker job.json --out DIR      run a job file; its result is DIR/result.json\n"
    "  ptq-worker run MODEL DATA OUT      every output of every sample: OUT/<output>/<sample>.npy\n"
    "  ptq-worker inspect MODEL           inputs, outputs, nodes and cost of a model, as JSON\n"
    "  ptq-worker edit MODEL EDITS OUT    change calibrations: EDITS is [{\"select\", \"set\"}, "
    "…]\n"
    "  ptq-worker operators [--json]      the operators that models may have\n"
    "  ptq-worker profiles                what each march allows, as JSON\n"
    "  ptq-worker --pipe                  speak frames with ptqd on standard input and output\n"
    "\n"
    "A job file names its kind, a model, data, and what to do:\n"
    "  {\"kind\": \"calibrate\", \"model\": \"model.onnx\", \"data\": \"calibration_data\",\n"
    "   \"quant_config\": {\"model_config\": {\"all_node_type\": \"int8\"}}}\n"
    "DATA is a folder <input name>/<sample>.npy, one .npy, or an archive of such a folder.\n"
    "\n"
    "Options:\n"
    "  --out DIR       where results go (default: ptq-out)\n"
    "  --store DIR     keep the results of tasks here: the same work is not done again\n"
    "  --slots N       processes that compute at the same time (default: the cores; 0: none,\n"
    "                  everything in this process, for a debugger)\n"
    "  --backend NAME  onednn, openblas or plain (default: the best that was built)\n"
    "  --profile FILE  with run: what each step costs on the first sample, as a table, and as a\n"
    "                  Chrome trace in FILE\n"
    "  --json          events as one JSON object a line on standard output\n"
    "\n"
    "Exit status: 0 done, 1 the job failed, 2 wrong usage, 4 the job's target was not met.\n"
    "\nJob kinds:\n";

struct args {
    const char *words[4];
    int n;
    const char *out, *store, *backend, *profile;
    int slots;
    bool json, pipe;
};

static int usage(const char *what, const char *arg)
{
    fprintf(stderr, "ptq-worker: %s%s%s. `ptq-worker --help` tells how it is used.\n", what,
            arg ? ": " : "", arg ? arg : "");
    return EXIT_USAGE;
}

static int show_help(void)
{
    fputs(help, stdout);
    for (const struct job_kind *const *k = job_kinds; *k; k++)
        printf("  %-15s %s\n", (*k)->name, (*k)->text);
    return 0;
}

static int fail(const struct err *e)
{
    fprintf(stderr, "ptq-worker: %s: %s%s%s\n", err_title(e->code), e->at, *e->at ? ": " : "",
            e->detail);
    return EXIT_JOB_FAILED;
}

/* ---- operators ---- */

static int show_operators(bool as_json)
{
    struct buf page;
    json_t *all = as_json ? operators_json() : NULL;
    buf_init(&page, 1 << 22);
    if (!as_json)
        operators_markdown(&page);
    if (all)
        json_dumpf(all, stdout, JSON_COMPACT);
    else
        fwrite(page.data, 1, page.len, stdout);
    json_decref(all);
    buf_done(&page);
    return 0;
}

static int show_profiles(void)
{
    json_t *all = marches_json();
    char *text = json_dumps(all, JSON_INDENT(1) | JSON_SORT_KEYS);
    puts(text);
    free(text);
    json_decref(all);
    return 0;
}

/* ---- inspect ---- */

static int show_model(const char *path)
{
    struct err e = ERR_INIT;
    struct model_source src = {.path = path, .local = true};
    struct model *m;
    if (model_open(&src, &m, &e))
        return fail(&e);
    json_t *summary = inspect_model(m, &e);
    model_free(m);
    if (!summary)
        return fail(&e);
    char *out = json_dumps(summary, JSON_INDENT(2) | JSON_SORT_KEYS);
    puts(out);
    free(out);
    json_decref(summary);
    return 0;
}

/* ---- edit ---- */

static int edit_model(const struct model *m, const char *edits_path, const char *out, struct err *e)
{
    json_error_t why;
    struct plan *edited;
    if (!m->plan)
        return err_set(e, ERR_INVALID, "", "The model has no calibrations to edit.");
    json_t *edits = json_load_file(edits_path, JSON_REJECT_DUPLICATES, &why);
    if (!edits)
        return err_set(e, ERR_BAD_JSON, edits_path, "%s (line %d)", why.text, why.line);
    int rc = plan_edit(m->plan, edits, "", &march_nash_e, m->plan->arena, &edited, e) ||
             model_write(m->float_graph, edited, out, e);
    json_decref(edits);
    return rc ? -1 : 0;
}

static int edit_file(const char *path, const char *edits, const char *out)
{
    struct err e = ERR_INIT;
    struct model_source src = {.path = path, .local = true};
    struct model *m;
    if (model_open(&src, &m, &e))
        return fail(&e);
    int rc = edit_model(m, edits, out, &e);
    model_free(m);
    return rc ? fail(&e) : 0;
}

/* ---- the command line ---- */

static int take_number(const char *arg, int *ret)
{
    char *end;
    long v = arg ? strtol(arg, &end, 10) : -1;
    if (!arg || *end || end == arg || v < 0 || v > 256)
        return usage("--slots takes a number from 0 to 256", arg);
    *ret = (int)v;
    return 0;
}

/* A flag, or an option with its value: the number of words taken, 0 if it is neither. */
static int take_option(struct args *a, char **argv)
{
    static const struct {
        const char *name;
        size_t at;
    } options[] = {{"--out", offsetof(struct args, out)},
                   {"--store", offsetof(struct args, store)},
                   {"--backend", offsetof(struct args, backend)},
                   {"--profile", offsetof(struct args, profile)}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (!strcmp(argv[0], options[i].name) && argv[1]) {
            memcpy((char *)a + options[i].at, &argv[1], sizeof argv[1]);
            return 2;
        }
    if (!strcmp(argv[0], "--slots"))
        return take_number(argv[1], &a->slots) ? -1 : 2;
    a->json |= !strcmp(argv[0], "--json");
    a->pipe |= !strcmp(argv[0], "--pipe");
    return !strcmp(argv[0], "--json") || !strcmp(argv[0], "--pipe");
}

static int parse(struct args *a, char **argv)
{
    for (int i = 1; argv[i];) {
        int took = argv[i][0] == '-' ? take_option(a, argv + i) : 0;
        if (took < 0)
            return EXIT_USAGE;
        if (!took && argv[i][0] == '-')
            return usage("This option is not known, or lacks its value", argv[i]);
        if (!took && a->n == 4)
            return usage("There are too many words", argv[i]);
        if (!took)
            a->words[a->n++] = argv[i];
        i += took ? took : 1;
    }
    return 0;
}

static int run_pipe(const struct host *h)
{
    /* Libraries may print: what they say must not come between the frames. */
    int out = dup(STDOUT_FILENO);
    if (out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return EXIT_JOB_FAILED;
    return pipe_main(h, STDIN_FILENO, out);
}

static int run_job(const struct host *h, const struct args *a)
{
    struct local_opts o = {.job_file = a->words[0],
                           .out_dir = a->out ? a->out : "ptq-out",
                           .store_dir = a->store,
                           .slots = a->slots,
                           .json = a->json};
    return local_main(h, &o);
}

static int dispatch(const struct host *h, const struct args *a)
{
    const char *first = a->words[0];
    struct err e = ERR_INIT;
    if (!strcmp(first, "run") && a->n == 4)
        return run_to_folder(a->words[1], a->words[2], a->words[3], h->backend, a->profile, &e)
                   ? fail(&e)
                   : 0;
    if (!strcmp(first, "edit") && a->n == 4)
        return edit_file(a->words[1], a->words[2], a->words[3]);
    if (!strcmp(first, "inspect") && a->n == 2)
        return show_model(a->words[1]);
    if (a->n == 1)
        return run_job(h, a);
    return usage("These words make no command", first);
}

/* BLAS starts its threads when it is loaded: a worker is single-threaded, so it is loaded again
 * in an environment that says so. */
static void one_thread(char **argv)
{
    if (getenv("OPENBLAS_NUM_THREADS") && getenv("OMP_NUM_THREADS"))
        return;
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    execv("/proc/self/exe", argv);
}

/* Under ptqd: a process group of its own, which ends when the server does. */
static int join_server(struct err *e)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a server gone before this shows as the pipe's end */
    return limits_begin(true, e);
}

int main(int argc, char **argv)
{
    struct args a = {.slots = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
        return show_help();
    if (argc > 1 && !strcmp(argv[1], "--version"))
        return puts("ptq-worker " PTQ_VERSION) < 0;
    int status = parse(&a, argv);
    if (status)
        return status;
    if (!a.pipe && a.n == 0)
        return usage("Nothing to do", NULL);
    if (!a.pipe && a.n == 1 && !strcmp(a.words[0], "operators"))
        return show_operators(a.json);
    if (!a.pipe && a.n == 1 && !strcmp(a.words[0], "profiles"))
        return show_profiles();
    one_thread(argv);
    signal(SIGPIPE, SIG_IGN);
    log_init("ptq-worker", LOG_INFO);
    struct host h = {.kinds = job_kinds};
    struct err e = ERR_INIT;
    if ((a.pipe ? join_server(&e) : limits_begin(false, &e)) ||
        backend_find(a.backend, &h.backend, &e))
        return fail(&e);
    h.profile = engine_profile(h.backend);
    return a.pipe ? run_pipe(&h) : dispatch(&h, &a);
}
