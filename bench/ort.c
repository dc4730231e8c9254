/*
 * ONNX Runtime, timed: `ort LIBRARY MODEL RUNS (INPUT FILE.npy)… -- OUTPUT…` runs the model on one
 * thread with all graph optimizations and prints the median processor time of a run as JSON.
 */
#include "bench/ort_api.h"

enum { RUNS_MAX = 1000 };

static void *open_session(const char *model)
{
    typedef void *create(void *, const char *, void *, void **);
    void *session = NULL;
    ok(((create *)api[CREATE_SESSION])(open_env(), model, session_options(1), &session), model);
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
    const struct api_base *base = open_library(argv[1]);
    void *memory = cpu_memory();
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
           base->version());
}
