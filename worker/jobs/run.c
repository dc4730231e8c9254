#include "worker/jobs/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/exec/exec.h"
#include "worker/jobs/profile.h"
#include "worker/load/dataset.h"
#include "worker/load/model.h"
#include "worker/load/npy.h"

struct runner {
    const struct model *model;
    const struct dataset *data;
    const struct backend *backend;
    const char *out_dir, *profile;
    struct arena arena;
    struct tensor *inputs; /* of the sample at hand */
    struct exec *exec;     /* bound to the shapes of `bound` */
    struct tensor *bound;
};

static int make_folder(const char *path, struct err *e)
{
    if (mkdir(path, 0755) && errno != EEXIST)
        return err_errno(e, path, "The folder cannot be made");
    return 0;
}

static const char *folder_of(struct arena *a, const char *output)
{
    bool plain = *output && *output != '.' && !strchr(output, '/');
    return plain ? output : dataset_encode(a, output);
}

static bool same_shapes(const struct runner *r)
{
    for (int k = 0; k < r->data->n_inputs; k++)
        if (!tensor_same_shape(&r->inputs[k], &r->bound[k]))
            return false;
    return r->exec != NULL;
}

/* The executor for this sample's shapes: the one at hand when they are the same. */
static int bind(struct runner *r, struct err *e)
{
    if (same_shapes(r))
        return 0;
    struct exec_opts opts = {.backend = r->backend, .plan = r->model->plan};
    exec_free(r->exec);
    r->exec = NULL;
    memcpy(r->bound, r->inputs, (size_t)r->data->n_inputs * sizeof *r->bound);
    return exec_new(r->model->float_graph, r->inputs, &opts, &r->exec, e);
}

static int write_outputs(struct runner *r, int sample, struct err *e)
{
    const struct graph *g = r->model->float_graph;
    for (int k = 0; k < g->n_outputs; k++) {
        const char *folder = folder_of(&r->arena, g->values[g->outputs[k]].name);
        const char *path = arena_printf(&r->arena, "%s/%s/%s.npy", r->out_dir, folder,
                                        r->data->sample_names[sample]);
        if (npy_write(path, exec_output(r->exec, k), e))
            return -1;
    }
    return 0;
}

static int run_sample(struct runner *r, int i, struct err *e)
{
    for (int k = 0; k < r->data->n_inputs; k++)
        dataset_sample(r->data, i, k, &r->inputs[k]);
    if (bind(r, e) || exec_run(r->exec, r->inputs, NULL, NULL, e))
        return -1;
    if (i == 0 && r->profile && profile_exec(r->exec, r->inputs, r->profile, e))
        return -1;
    return write_outputs(r, i, e);
}

static int run_all(struct runner *r, struct err *e)
{
    const struct graph *g = r->model->float_graph;
    size_t n = (size_t)r->data->n_inputs;
    r->inputs = arena_array(&r->arena, n, sizeof *r->inputs);
    r->bound = arena_array(&r->arena, n, sizeof *r->bound);
    for (int k = 0; k < g->n_outputs; k++) {
        const char *folder = folder_of(&r->arena, g->values[g->outputs[k]].name);
        if (make_folder(arena_printf(&r->arena, "%s/%s", r->out_dir, folder), e))
            return -1;
    }
    for (int i = 0; i < r->data->n_samples; i++)
        if (run_sample(r, i, e))
            return -1;
    printf("%d samples, %d outputs%s into %s\n", r->data->n_samples, g->n_outputs,
           r->model->plan ? " of the calibrated model" : "", r->out_dir);
    return 0;
}

/* Other forms than open ones pass through a tar beside the results. */
static int open_data(const char *path, const char *out_dir, const struct graph *g,
                     struct dataset **ret, struct err *e)
{
    if (dataset_is_open_form(path) || access(path, R_OK) != 0)
        return dataset_open(path, g, ret, e);
    char tar[4096];
    snprintf(tar, sizeof tar, "%s/.data.tar", out_dir);
    if (dataset_normalize(path, out_dir, UINT64_MAX, tar, NULL, NULL, e))
        return -1;
    int rc = dataset_open(tar, g, ret, e);
    unlink(tar);
    return rc;
}

int run_to_folder(const char *model_path, const char *data_path, const char *out_dir,
                  const struct backend *backend, const char *profile, struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    struct model_source src = {.path = model_path, .local = true};
    int rc = make_folder(out_dir, e);
    if (!rc)
        rc = model_open(&src, &m, e);
    if (!rc)
        rc = open_data(data_path, out_dir, m->float_graph, &d, e);
    if (!rc) {
        struct runner r = {
            .model = m, .data = d, .backend = backend, .out_dir = out_dir, .profile = profile};
        rc = run_all(&r, e);
        exec_free(r.exec);
        arena_done(&r.arena);
    }
    dataset_free(d);
    if (m)
        model_free(m);
    return rc;
}
