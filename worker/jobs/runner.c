#include "worker/jobs/runner.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/arena.h"

static struct tensor *load_inputs(const struct graph *g, const struct dataset *d, int sample)
{
    struct tensor *in = xcalloc((size_t)g->n_inputs + 1, sizeof *in);
    for (int k = 0; k < g->n_inputs; k++)
        dataset_sample(d, sample, k, &in[k]);
    return in;
}

static bool same_shapes(const struct runner *r, const struct tensor *in)
{
    for (int k = 0; r->exec && k < r->graph->n_inputs; k++)
        if (!tensor_same_shape(&r->dims[k], &in[k]))
            return false;
    return r->exec != NULL;
}

/* Takes `in`. */
static int bind(struct runner *r, struct tensor *in, struct err *e)
{
    if (same_shapes(r, in)) {
        free(r->dims);
        r->dims = in;
        return 0;
    }
    runner_done(r);
    r->dims = in;
    struct exec_opts opts = {.backend = r->backend, .plan = r->plan, .memory_max = r->memory_max};
    opts.share = r->share ? r->share->exec : NULL;
    return exec_new(r->graph, in, &opts, &r->exec, e);
}

int runner_prepare(struct runner *r, const struct dataset *d, int sample, struct err *e)
{
    return bind(r, load_inputs(r->graph, d, sample), e);
}

int runner_run(struct runner *r, const struct dataset *d, int sample, exec_watch *watch, void *ctx,
               struct err *e)
{
    if (!runner_prepare(r, d, sample, e) && !exec_run(r->exec, r->dims, watch, ctx, e))
        return 0;
    if (!e->at[0])
        snprintf(e->at, sizeof e->at, "%s", d->sample_names[sample]);
    return -1;
}

void runner_done(struct runner *r)
{
    exec_free(r->exec);
    free(r->dims);
    r->exec = NULL;
    r->dims = NULL;
}
