/*
 * ONNX Runtime, timed: `ort LIBRARY MODEL RUNS (INPUT FILE.npy)… -- OUTPUT…` runs the model on one
 * thread with all graph optimizations and prints the median processor time of a run as JSON. The
 * library's C interface is a table of functions whose places never change; those that are used here
 * are named by their place (onnxruntime_c_api.h, version 1).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "worker/load/npy.h"

enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    SET_OPTIMIZATION = 23,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY = 69,
    RELEASE_VALUE = 96,
};
enum { PORTS_MAX = 64, RUNS_MAX = 1000, OPTIMIZE_ALL = 99, LOG_ERRORS = 3, ARENA = 1, DEFAULT = 0 };

struct api_base {
    void *const *(*get_api)(uint32_t version);
    const char *(*version)(void);
};
static void *const *api;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "ort: %s: %s\n", what, why);
    exit(1);
}

static void ok(void *status, const char *what)
{
    if (status)
        die(what, ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
}

/* ONNX's number of the element type. */
static int onnx_type(enum dtype t)
{
    static const int types[] = {[DT_F32] = 1, [DT_I32] = 6, [DT_I64] = 7, [DT_BOOL] = 9};
    return (size_t)t < sizeof types / sizeof types[0] ? types[t] : 0;
}

static void *load_value(const char *path, void *memory)
{
    typedef void *make(void *, void *, size_t, const int64_t *, size_t, int, void **);
    struct err e = ERR_INIT;
    struct tensor t;
    struct stat st;
    size_t offset;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st))
        die(path, "cannot be read");
    void *file = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED || npy_parse(file, (size_t)st.st_size, &t, &offset, &e))
        die(path, e.detail);
    close(fd);
    void *value = NULL;
    ok(((make *)api[CREATE_TENSOR_WITH_DATA])(memory, (char *)file + offset, tensor_bytes(&t),
                                              t.dims, (size_t)t.rank, onnx_type(t.type), &value),
       path);
    return value;
}

static void *open_session(const char *model)
{
    void *env = NULL, *options = NULL, *session = NULL;
    ok(((void *(*)(int, const char *, void **))api[CREATE_ENV])(LOG_ERRORS, "bench", &env), "env");
    ok(((void *(*)(void **))api[CREATE_SESSION_OPTIONS])(&options), "options");
    typedef void *set(void *, int);
    ok(((set *)api[SET_OPTIMIZATION])(options, OPTIMIZE_ALL), "optimization");
    ok(((set *)api[SET_INTRA_OP_THREADS])(options, 1), "threads");
    ok(((set *)api[SET_INTER_OP_THREADS])(options, 1), "threads");
    ok(((void *(*)(void *, const char *, void *, void **))api[CREATE_SESSION])(env, model, options,
                                                                               &session),
       model);
    return session;
}

struct run {
    void *session, *in[PORTS_MAX], *out[PORTS_MAX];
    const char *in_names[PORTS_MAX], *out_names[PORTS_MAX];
    size_t n_in, n_out;
};

static double run_ms(struct run *r)
{
    typedef void *run(void *, const void *, const char *const *, void *const *, size_t,
                      const char *const *, size_t, void **);
    struct timespec a, b;
    memset(r->out, 0, sizeof r->out);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    ok(((run *)api[RUN])(r->session, NULL, r->in_names, r->in, r->n_in, r->out_names, r->n_out,
                         r->out),
       "run");
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    for (size_t i = 0; i < r->n_out; i++)
        ((void (*)(void *))api[RELEASE_VALUE])(r->out[i]);
    return (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static double ms[RUNS_MAX];
    if (argc < 5)
        die("usage", "ort LIBRARY MODEL RUNS (INPUT FILE.npy)... -- OUTPUT...");
    void *lib = dlopen(argv[1], RTLD_NOW);
    const struct api_base *(*base)(void) =
        lib ? (const struct api_base *(*)(void))dlsym(lib, "OrtGetApiBase") : NULL;
    if (!base || !(api = base()->get_api(1)))
        die(argv[1], "is no ONNX Runtime");
    void *memory = NULL;
    ok(((void *(*)(int, int, void **))api[CREATE_CPU_MEMORY])(ARENA, DEFAULT, &memory), "memory");
    struct run r = {.session = open_session(argv[2])};
    int runs = atoi(argv[3]), at = 4;
    for (; argv[at] && argv[at + 1] && strcmp(argv[at], "--") && r.n_in < PORTS_MAX; at += 2) {
        r.in_names[r.n_in] = argv[at];
        r.in[r.n_in++] = load_value(argv[at + 1], memory);
    }
    for (at++; at < argc && r.n_out < PORTS_MAX; at++)
        r.out_names[r.n_out++] = argv[at];
    runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
    for (int i = 0; i < 3; i++) /* the first two take several times as long */
        run_ms(&r);
    for (int i = 0; i < runs; i++)
        ms[i] = run_ms(&r);
    qsort(ms, (size_t)runs, sizeof *ms, by_number);
    printf("{\"ms\": %.6f, \"runs\": %d, \"version\": \"%s\"}\n", ms[runs / 2], runs,
           base()->version());
}
