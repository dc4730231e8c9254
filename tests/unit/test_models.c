/* The model collection against the outputs that another engine gave for it, on every backend; and
 * the promise that a run gives the same bytes again, in this process and in a forked one. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/test.h"
#include "worker/exec/exec.h"
#include "worker/load/dataset.h"
#include "worker/load/model.h"
#include "worker/load/npy.h"

/* Relative to the largest value of the output. basic_pitch takes the logarithm of near silence: the
 * backends differ from each other by 1.6e-5 there, all of them alike from the reference. */
static const struct reference {
    const char *model;
    double tolerance;
} references[] = {
    {"mnist8_cntk", 2e-5},    {"mnist_mbv3_hswish", 2e-5},    {"ultraface_rfb320", 2e-5},
    {"yunet_n_320", 1e-4},    {"sinet_portrait_seg", 2e-5},   {"prisma_portrait_seg", 2e-5},
    {"superres_espcn", 2e-5}, {"mnist_vit_gelu", 2e-5},       {"basic_pitch_nmp", 1e-4},
    {"dtln_denoise_1", 2e-5}, {"mnist_stn_gridsample", 2e-5}, {NULL, 0}};

struct loaded {
    struct model *model;
    struct dataset *data;
    struct exec *exec;
    struct tensor inputs[16];
};

static const char *part(const char *model, const char *rest)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", model, rest);
    return test_model(path);
}

static void sample(struct loaded *l, int i)
{
    CHECK(l->data->n_inputs <= 16);
    for (int k = 0; k < l->data->n_inputs; k++)
        dataset_sample(l->data, i, k, &l->inputs[k]);
}

static struct loaded load(const char *name, const char *backend)
{
    struct loaded l = {0};
    struct err e = ERR_INIT;
    struct exec_opts opts = {0};
    char *path = strdup(part(name, "model.onnx"));
    CHECK_OK(model_open(&(struct model_source){.path = path, .local = true}, &l.model, &e), e);
    free(path);
    CHECK_OK(dataset_open(part(name, "calibration_data"), l.model->float_graph, &l.data, &e), e);
    CHECK_OK(backend_find(backend, &opts.backend, &e), e);
    sample(&l, 0);
    CHECK_OK(exec_new(l.model->float_graph, l.inputs, &opts, &l.exec, &e), e);
    return l;
}

static void unload(struct loaded *l)
{
    exec_free(l->exec);
    dataset_free(l->data);
    model_free(l->model);
}

/* The largest difference, relative to the largest value. */
static double difference(const struct tensor *have, const struct tensor *want)
{
    const float *x = have->data, *y = want->data;
    double worst = 0, largest = 0;
    CHECK(have->type == DT_F32 && want->type == DT_F32);
    CHECK(tensor_same_shape(have, want));
    for (int64_t i = 0; i < tensor_count(want); i++) {
        double off = fabs((double)x[i] - (double)y[i]);
        if (!(off <= worst))
            worst = off;
        if (fabs((double)y[i]) > largest)
            largest = fabs((double)y[i]);
    }
    return worst / (largest > 0 ? largest : 1);
}

static int sample_named(const struct dataset *d, const char *name, size_t len)
{
    for (int i = 0; i < d->n_samples; i++)
        if (strlen(d->sample_names[i]) == len && !strncmp(d->sample_names[i], name, len))
            return i;
    return -1;
}

/* One reference file of one output; returns its difference. */
static double compare_file(struct loaded *l, const char *path, const char *file, int output)
{
    struct err e = ERR_INIT;
    struct tensor want;
    size_t len, offset;
    void *bytes = test_read(path, &len);
    CHECK_OK(npy_parse(bytes, len, &want, &offset, &e), e);
    int i = sample_named(l->data, file, strlen(file) - 4);
    CHECK(i >= 0);
    sample(l, i);
    CHECK_OK(exec_run(l->exec, l->inputs, NULL, NULL, &e), e);
    double off = difference(exec_output(l->exec, output), &want);
    free(bytes);
    return off;
}

static double compare_output(struct loaded *l, const char *model, int output, int *files)
{
    const struct graph *g = l->model->float_graph;
    const char *name = g->values[g->outputs[output]].name;
    char folder[600], path[900];
    double worst = 0;
    snprintf(folder, sizeof folder, "%s/%s", part(model, "reference"), name);
    for (char *c = folder + strlen(folder) - strlen(name); *c; c++)
        *c = *c == '/' ? '_' : *c;
    DIR *d = opendir(folder);
    if (!d)
        FAIL("no reference of output %s of %s", name, model);
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        double off = compare_file(l, path, entry->d_name, output);
        (*files)++;
        if (!(off <= worst))
            worst = off;
    }
    closedir(d);
    return worst;
}

static void compare_model(const struct reference *r, const char *backend)
{
    struct loaded l = load(r->model, backend);
    struct exec_size size;
    double worst = 0;
    int files = 0, elsewhere = 0;
    for (int i = 0; i < l.model->float_graph->n_outputs; i++) {
        double off = compare_output(&l, r->model, i, &files);
        if (!(off <= worst))
            worst = off;
    }
    for (int i = 0; i < l.model->float_graph->n_nodes; i++) {
        const struct backend *b = exec_backend(l.exec, i);
        elsewhere += b && strcmp(b->name, backend) != 0;
    }
    const char *wanted = getenv("PTQ_RUNS"); /* to be timed */
    int64_t before = clock_cpu_us(), runs = wanted ? atoi(wanted) : 1;
    struct err e = ERR_INIT;
    for (int64_t i = 0; i < runs; i++)
        CHECK_OK(exec_run(l.exec, l.inputs, NULL, NULL, &e), e);
    exec_size(l.exec, &size);
    printf("%-9s %-22s %4d nodes (%d elsewhere), %2d files, worst %8.2g of %.0e, %8.2f ms, %7.1f "
           "MMAC, slab %.1f MB, packed %.1f MB\n",
           backend, r->model, l.model->float_graph->n_nodes, elsewhere, files, worst, r->tolerance,
           (double)(clock_cpu_us() - before) / 1e3 / (double)runs, (double)size.macs / 1e6,
           (double)size.slab_bytes / 1e6, (double)size.packed_bytes / 1e6);
    CHECK(files > 0);
    CHECK(worst <= r->tolerance);
    unload(&l);
}

static void compare_all(const char *backend)
{
    const char *only = getenv("PTQ_MODEL");
    const struct backend *b;
    struct err e = ERR_INIT;
    if (backend_find(backend, &b, &e))
        SKIP("%s", e.detail);
    for (const struct reference *r = references; r->model; r++)
        if (!only || !strcmp(only, r->model))
            compare_model(r, backend);
}

#ifdef PTQ_WITH_DNN
void test_models__match_their_references_on_onednn(void)
{
    compare_all("onednn");
}
#endif

void test_models__match_their_references_on_openblas(void)
{
    compare_all("openblas");
}

void test_models__match_their_references_on_plain_loops(void)
{
    compare_all("plain");
}

/* FNV-1a over the outputs of one run. */
static uint64_t fingerprint(struct loaded *l)
{
    struct err e = ERR_INIT;
    uint64_t h = 14695981039346656037u;
    CHECK_OK(exec_run(l->exec, l->inputs, NULL, NULL, &e), e);
    for (int i = 0; i < l->model->float_graph->n_outputs; i++) {
        const struct tensor *t = exec_output(l->exec, i);
        const unsigned char *p = t->data;
        for (size_t k = 0; k < tensor_bytes(t); k++)
            h = (h ^ p[k]) * 1099511628211u;
    }
    return h;
}

static uint64_t fingerprint_of_child(struct loaded *l)
{
    int fd[2], status;
    uint64_t h = 0;
    CHECK(!pipe(fd));
    pid_t child = fork();
    if (!child) {
        h = fingerprint(l);
        _exit(write(fd[1], &h, sizeof h) == sizeof h ? 0 : 1);
    }
    CHECK(read(fd[0], &h, sizeof h) == sizeof h);
    waitpid(child, &status, 0);
    CHECK_INT(status, 0);
    close(fd[0]);
    close(fd[1]);
    return h;
}

void test_models__runs_give_the_same_bytes_here_and_in_a_child(void)
{
    static const char *const names[] = {"mnist_mbv3_hswish", "ultraface_rfb320"};
    const struct backend *b;
    for (int n = 0; n < 2; n++)
        for (int i = 0; (b = backend_at(i)); i++) {
            struct loaded l = load(names[n], b->name);
            uint64_t before = fingerprint_of_child(&l); /* maps the slab first */
            uint64_t here = fingerprint(&l);
            CHECK(here == fingerprint(&l));
            CHECK(here == before);
            CHECK(here == fingerprint_of_child(&l));
            sample(&l, 1);
            CHECK(here != fingerprint(&l));
            unload(&l);
        }
}
