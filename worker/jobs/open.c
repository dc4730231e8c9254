/* A job's inputs, opened. */
#include "worker/jobs/core.h"
#include "worker/load/dataset.h"
#include "worker/load/model.h"

#include <string.h>

int job_open_model(struct job *j, struct model **ret, struct err *e)
{
    const struct job_input *in = job_input(j, "model");
    if (!in)
        return err_set(e, ERR_INVALID, "/model", "The job has no model.");
    struct external *ext = arena_array(&j->arena, (size_t)j->n_inputs, sizeof *ext);
    struct model_source src = {.path = in->path, .external = ext, .local = j->local};
    for (int i = 0; i < j->n_inputs; i++)
        if (!strcmp(j->inputs[i].role, "external"))
            ext[src.n_external++] = (struct external){j->inputs[i].name, j->inputs[i].path};
    return model_open(&src, ret, e);
}

int job_open_data(struct job *j, const char *role, const struct graph *g, struct dataset **ret,
                  struct err *e)
{
    const struct job_input *in = job_input(j, role);
    if (!in)
        return err_set(e, ERR_INVALID, "/data", "The job has no data.");
    return dataset_open(in->path, g, ret, e);
}
