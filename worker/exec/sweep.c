#include "worker/exec/sweep.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/exec/sweep_inner.h"

enum { HUGE_PAGE = 2 << 20 };

/* ---- setting up ---- */

static bool has_graphs(const struct graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op && g->nodes[i].op->traits & (T_SUBGRAPHS | T_RANDOM))
            return true;
    return false;
}

/* Every constant through its calibration, and packed: once for all candidates. */
static int quantize_weights(struct sweep *s, struct err *e)
{
    const struct plan *p = s->opts.plan;
    int *calibs = arena_array(&s->arena, (size_t)p->n_calibs + 1, sizeof *calibs), n = 0;
    for (int k = 0; k < p->n_calibs; k++)
        if (s->exact->types[p->calibs[k].value].data && p->calibs[k].parent < 0)
            calibs[n++] = k;
    struct exec_opts opts = {.backend = s->opts.backend,
                             .plan = plan_only(p, calibs, n, &s->arena),
                             .share = s->exact,
                             .memory_max = s->opts.memory_max};
    return exec_new(s->graph, s->inputs, &opts, &s->weights, e);
}

static int set_up(struct sweep *s, const struct tensor *inputs, struct err *e)
{
    const struct graph *g = s->graph;
    s->inputs = arena_array(&s->arena, (size_t)g->n_inputs + 1, sizeof *s->inputs);
    s->output_of = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *s->output_of);
    s->whole_only = has_graphs(g);
    memset(s->output_of, -1, (size_t)g->n_values * sizeof *s->output_of);
    for (int o = 0; o < s->opts.n_outputs; o++)
        s->output_of[s->opts.outputs[o]] = o;
    memcpy(s->inputs, inputs, (size_t)g->n_inputs * sizeof *inputs);
    struct exec_opts opts = {.backend = s->opts.backend, .memory_max = s->opts.memory_max};
    if (exec_new(g, inputs, &opts, &s->exact, e) || quantize_weights(s, e))
        return -1;
    return sweep_make_room(s, e);
}

int sweep_new(const struct graph *g, const struct tensor *inputs, const struct sweep_opts *opts,
              struct sweep **ret, struct err *e)
{
    struct sweep *s = xcalloc(1, sizeof *s);
    s->graph = g;
    s->opts = *opts;
    s->memo = memo_new(g->n_values);
    if ((!s->opts.backend && backend_find(NULL, &s->opts.backend, e)) || set_up(s, inputs, e)) {
        sweep_free(s);
        return -1;
    }
    *ret = s;
    return 0;
}

void sweep_free(struct sweep *s)
{
    if (!s)
        return;
    sweep_drop_sample(s);
    memo_free(s->memo);
    exec_free(s->weights);
    exec_free(s->exact);
    if (s->memory)
        munmap(s->memory, s->memory_bytes);
    if (s->slab)
        munmap(s->slab, s->slab_bytes);
    arena_done(&s->arena);
    free(s);
}

/* ---- the slab ---- */

int sweep_use_slab(struct sweep *s, struct exec *x, struct err *e)
{
    size_t bytes = (x->slab_bytes / HUGE_PAGE + 2) * HUGE_PAGE;
    if (s->slab && (s->slab_owner != getpid() || s->slab_bytes < bytes)) {
        munmap(s->slab, s->slab_bytes);
        s->slab = NULL;
    }
    if (!s->slab) {
        char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of activations",
                           bytes);
        madvise(map, bytes, MADV_HUGEPAGE);
        s->slab = map;
        s->slab_bytes = bytes;
        s->slab_owner = getpid();
    }
    size_t past = (size_t)s->slab % HUGE_PAGE;
    exec_use_slab(x, s->slab + (past ? HUGE_PAGE - past : 0));
    return 0;
}

/* ---- whole runs ---- */

int sweep_exec(struct sweep *s, const int *calibs, int n, bool naive, struct arena *a,
               struct exec **ret, struct err *e)
{
    struct exec_opts opts = {.backend = s->opts.backend,
                             .plan = plan_only(s->opts.plan, calibs, n, a),
                             .share = s->exact,
                             .share_also = naive ? NULL : s->weights,
                             .memory_max = s->opts.memory_max};
    return exec_new(s->graph, s->inputs, &opts, ret, e);
}

int sweep_count_nodes(const struct exec *x)
{
    int n = 0;
    for (int i = 0; i < x->n_steps; i++)
        n += x->steps[i]->kind == STEP_NODE;
    return n;
}

struct whole {
    const struct sweep *s;
    struct metric_sums *ret;
};

static int compare_seen(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    const struct whole *w = ctx;
    const struct graph *g = w->s->graph;
    (void)e;
    if (!quantized && w->s->output_of[value] != NONE)
        sweep_compare(w->s, w->s->output_of[value], t, &w->ret[w->s->output_of[value]]);
    for (int i = 0; quantized && i < g->n_outputs; i++)
        if (w->s->opts.plan->output[i] == value && w->s->output_of[g->outputs[i]] != NONE)
            sweep_compare(w->s, w->s->output_of[g->outputs[i]], t,
                          &w->ret[w->s->output_of[g->outputs[i]]]);
    return 0;
}

int sweep_run_naive(struct sweep *s, const int *calibs, int n, struct metric_sums *ret,
                    struct sweep_counts *counts, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct exec *x = NULL;
    struct whole w = {s, ret};
    memcpy(ret, s->no_loss, (size_t)s->opts.n_outputs * sizeof *ret);
    int rc = sweep_exec(s, calibs, n, true, &a, &x, e) || sweep_use_slab(s, x, e) ||
             exec_run(x, s->inputs, compare_seen, &w, e);
    if (!rc)
        counts->executed = counts->whole = sweep_count_nodes(x);
    exec_free(x);
    arena_done(&a);
    return rc ? -1 : 0;
}
