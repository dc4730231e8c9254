#include "worker/exec/exec.h"

#include <stdlib.h>

#include "worker/exec/inner.h"

uint64_t exec_bytes(const struct exec *x)
{
    return x->slab_bytes + x->arena.used_bytes + x->run_arena.used_bytes + exec_subs_bytes(x);
}

int exec_check_room(const struct exec *x, uint64_t more, struct err *e)
{
    uint64_t want = exec_bytes(x) + more;
    if (!x->opts.memory_max || want <= x->opts.memory_max)
        return 0;
    return err_set(e, ERR_MEMORY_LIMIT, "", "the run needs %llu bytes, the limit is %llu",
                   (unsigned long long)want, (unsigned long long)x->opts.memory_max);
}

/* The node that wants most: by what it writes, or by its scratch. */
static const char *greediest(const struct exec *x)
{
    const char *name = "";
    size_t most = 0;
    for (int i = 0; i < x->n_steps; i++) {
        const struct step *s = x->steps[i];
        size_t want = s->kind == STEP_NODE ? s->ctx.scratch_bytes : 0;
        for (int k = 0; k < s->n_out && s->kind == STEP_NODE; k++)
            if (s->out[k] != NONE && x->places[s->out[k]]->kind == PLACE_SLAB)
                want += tensor_bytes(&x->places[s->out[k]]->t);
        if (want <= most)
            continue;
        most = want;
        name = s->ctx.node->name;
    }
    return name;
}

static int check_memory(const struct exec *x, struct err *e)
{
    uint64_t want = x->slab_bytes + x->arena.used_bytes;
    if (!x->opts.memory_max || want <= x->opts.memory_max)
        return 0;
    return err_set(e, ERR_MEMORY_LIMIT, greediest(x),
                   "the model needs %llu bytes (activations %llu, weights %llu), the limit is %llu",
                   (unsigned long long)want, (unsigned long long)x->slab_bytes,
                   (unsigned long long)x->arena.used_bytes, (unsigned long long)x->opts.memory_max);
}

static int build(struct exec *x, const struct tensor *inputs, struct err *e)
{
    if (exec_bind(x, inputs, e) || exec_steps(x, e) || exec_pack(x, e))
        return -1;
    exec_plan_slab(x);
    return check_memory(x, e);
}

int exec_make(const struct graph *g, const struct tensor *inputs, const struct exec_opts *opts,
              int depth, struct exec **ret, struct err *e)
{
    struct exec *x = xcalloc(1, sizeof *x);
    x->graph = g;
    x->depth = depth;
    x->sub_runs = &x->own_sub_runs;
    if (opts)
        x->opts = *opts;
    x->plan = x->opts.plan;
    x->share = x->opts.share;
    x->backend = x->opts.backend;
    if ((!x->backend && backend_find(NULL, &x->backend, e)) || build(x, inputs, e)) {
        exec_free(x);
        return -1;
    }
    *ret = x;
    return 0;
}

int exec_new(const struct graph *g, const struct tensor *inputs, const struct exec_opts *opts,
             struct exec **ret, struct err *e)
{
    return exec_make(g, inputs, opts, 0, ret, e);
}

void exec_free(struct exec *x)
{
    if (!x)
        return;
    exec_free_subs(x);
    exec_unmap_slab(x);
    backend_release(&x->arena);
    backend_release(&x->run_arena);
    arena_done(&x->run_arena);
    arena_done(&x->arena);
    free(x);
}

void exec_size(const struct exec *x, struct exec_size *ret)
{
    *ret = (struct exec_size){.slab_bytes = x->slab_bytes,
                              .packed_bytes = x->arena.used_bytes,
                              .shared_bytes = x->shared_bytes,
                              .macs = x->macs};
}

const struct backend *exec_backend(const struct exec *x, int node)
{
    int s = x->node_step[node];
    return s == NONE ? NULL : x->steps[s]->ctx.used;
}

const struct tensor *exec_output(const struct exec *x, int i)
{
    return &x->places[x->outputs[i]]->t;
}

const struct tensor *exec_value(const struct exec *x, int value)
{
    int p = x->at[value][LAYOUT_CL] != NONE ? x->at[value][LAYOUT_CL] : x->at[value][LAYOUT_PLAIN];
    return p == NONE ? &x->types[value] : &x->places[p]->t; /* NONE: a constant nobody reads */
}
