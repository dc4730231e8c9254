#include "worker/exec/sweep.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/exec/sweep_inner.h"

static size_t align(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* ---- what to keep ---- */

/* Values that a chosen output depends on. */
static bool *find_wanted(struct sweep *s)
{
    const struct graph *g = s->graph;
    bool *wanted = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *wanted);
    for (int o = 0; o < s->opts.n_outputs; o++)
        wanted[s->opts.outputs[o]] = true;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct node *n = &g->nodes[i];
        bool any = false;
        for (int o = 0; o < n->n_out; o++)
            any = any || (n->out[o] != VALUE_NONE && wanted[n->out[o]]);
        for (int k = 0; k < n->n_in && any; k++)
            if (n->in[k] != VALUE_NONE)
                wanted[n->in[k]] = true;
    }
    return wanted;
}

struct sized {
    size_t bytes;
    int value;
};

static int by_bytes(const void *a, const void *b)
{
    const struct sized *p = a, *q = b;
    if (p->bytes != q->bytes)
        return p->bytes < q->bytes ? -1 : 1;
    return p->value - q->value;
}

/* The smallest values first: what is then computed again lies near the inputs, where activations
 * are large and few. */
static void choose_kept(struct sweep *s)
{
    const struct graph *g = s->graph;
    const bool *wanted = find_wanted(s);
    struct sized *list = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *list);
    int n = 0;
    for (int v = 0; v < g->n_values; v++) {
        const struct tensor *t = &s->exact->types[v];
        if (!wanted[v] || g->values[v].producer < 0 || t->data)
            continue;
        if (t->type == DT_NONE)
            s->kept[v].chosen = true; /* its size shows in the run */
        else
            list[n++] = (struct sized){align(tensor_bytes(t) + 1), v};
    }
    qsort(list, (size_t)n, sizeof *list, by_bytes);
    for (int i = 0; i < n; i++) {
        if (s->opts.keep_max && s->memory_bytes + list[i].bytes > s->opts.keep_max)
            break;
        struct kept *k = &s->kept[list[i].value];
        k->chosen = true;
        k->offset = s->memory_bytes;
        s->memory_bytes += list[i].bytes;
    }
}

static int map_memory(struct sweep *s, struct err *e)
{
    if (!s->memory_bytes)
        return 0;
    s->memory =
        mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s->memory != MAP_FAILED)
        return 0;
    s->memory = NULL;
    return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of float activations",
                   s->memory_bytes);
}

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

static void copy_inputs(struct sweep *s, const struct tensor *inputs)
{
    for (int i = 0; i < s->graph->n_inputs; i++) {
        struct kept *k = &s->kept[s->graph->inputs[i]];
        s->inputs[i] = k->t = inputs[i];
    }
}

static int set_up(struct sweep *s, const struct tensor *inputs, struct err *e)
{
    const struct graph *g = s->graph;
    size_t n = (size_t)s->opts.n_outputs + 1;
    s->inputs = arena_array(&s->arena, (size_t)g->n_inputs + 1, sizeof *s->inputs);
    s->kept = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *s->kept);
    s->output_of = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *s->output_of);
    s->exact_out = arena_array(&s->arena, n, sizeof *s->exact_out);
    s->exact_type = arena_array(&s->arena, n, sizeof *s->exact_type);
    s->no_loss = arena_array(&s->arena, n, sizeof *s->no_loss);
    s->whole_only = has_graphs(g);
    memset(s->output_of, -1, (size_t)g->n_values * sizeof *s->output_of);
    for (int o = 0; o < s->opts.n_outputs; o++)
        s->output_of[s->opts.outputs[o]] = o;
    copy_inputs(s, inputs);
    struct exec_opts opts = {.backend = s->opts.backend, .memory_max = s->opts.memory_max};
    if (exec_new(g, inputs, &opts, &s->exact, e) || quantize_weights(s, e))
        return -1;
    choose_kept(s);
    return map_memory(s, e);
}

int sweep_new(const struct graph *g, const struct tensor *inputs, const struct sweep_opts *opts,
              struct sweep **ret, struct err *e)
{
    struct sweep *s = xcalloc(1, sizeof *s);
    s->graph = g;
    s->opts = *opts;
    if ((!s->opts.backend && backend_find(NULL, &s->opts.backend, e)) || set_up(s, inputs, e)) {
        sweep_free(s);
        return -1;
    }
    *ret = s;
    return 0;
}

static void drop_sample(struct sweep *s)
{
    for (int v = 0; s->kept && v < s->graph->n_values; v++) {
        if (s->kept[v].own)
            free(s->kept[v].t.data);
        s->kept[v].own = false;
        s->kept[v].t.data = NULL;
    }
    for (int o = 0; s->exact_out && o < s->opts.n_outputs; o++) {
        free(s->exact_out[o]);
        s->exact_out[o] = NULL;
    }
    s->kept_bytes = 0;
}

void sweep_free(struct sweep *s)
{
    if (!s)
        return;
    drop_sample(s);
    exec_free(s->weights);
    exec_free(s->exact);
    if (s->memory)
        munmap(s->memory, s->memory_bytes);
    if (s->slab)
        munmap(s->slab, s->slab_bytes);
    arena_done(&s->arena);
    free(s);
}

/* ---- comparing ---- */

/* Elements as float32 in plain order; malloc'ed. */
static float *plain_floats(const struct tensor *t)
{
    int64_t n = tensor_count(t);
    struct tensor plain = *t;
    void *turned = NULL;
    if (t->layout != LAYOUT_PLAIN) {
        plain.layout = LAYOUT_PLAIN;
        plain.data = turned = xmalloc(tensor_bytes(t) + 1);
        tensor_reorder(t, &plain);
    }
    float *v = xmalloc((size_t)(n ? n : 1) * sizeof *v);
    if (t->type == DT_F32 && n)
        memcpy(v, plain.data, (size_t)n * sizeof *v);
    for (int64_t i = 0; t->type != DT_F32 && i < n; i++)
        v[i] = (float)tensor_num(&plain, i);
    free(turned);
    return v;
}

void sweep_compare(const struct sweep *s, int o, const struct tensor *t, struct metric_sums *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!tensor_same_shape(t, &s->exact_type[o]))
        return;
    float *v = plain_floats(t);
    metric_sum(s->exact_out[o], v, tensor_count(t), ret);
    free(v);
}

/* ---- the float pass ---- */

static void take_output(struct sweep *s, int o, const struct tensor *t)
{
    free(s->exact_out[o]);
    s->exact_out[o] = plain_floats(t);
    s->exact_type[o] = *t;
    s->exact_type[o].data = NULL;
    metric_sum(s->exact_out[o], s->exact_out[o], tensor_count(t), &s->no_loss[o]);
}

static void take_value(struct sweep *s, int v, const struct tensor *t)
{
    struct kept *k = &s->kept[v];
    size_t bytes = tensor_bytes(t);
    if (!k->chosen)
        return;
    k->own = s->exact->types[v].type == DT_NONE;
    k->t = *t;
    k->t.data = k->own ? xmalloc(bytes + 1) : s->memory + k->offset;
    if (bytes)
        memcpy(k->t.data, t->data, bytes);
    s->kept_bytes += bytes;
}

static int see(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct sweep *s = ctx;
    (void)quantized;
    (void)e;
    if (s->output_of[value] != NONE)
        take_output(s, s->output_of[value], t);
    take_value(s, value, t);
    return 0;
}

int sweep_load(struct sweep *s, const struct tensor *inputs, struct err *e)
{
    drop_sample(s);
    copy_inputs(s, inputs);
    if (exec_run(s->exact, inputs, see, s, e))
        return -1;
    for (int o = 0; o < s->opts.n_outputs; o++)
        if (!s->exact_out[o]) /* a constant, which no run tells */
            take_output(s, o, exec_value(s->exact, s->opts.outputs[o]));
    return 0;
}

uint64_t sweep_kept_bytes(const struct sweep *s)
{
    return s->kept_bytes;
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
    int rc =
        sweep_exec(s, calibs, n, true, &a, &x, e) || exec_run(x, s->inputs, compare_seen, &w, e);
    if (!rc)
        counts->executed = counts->whole = sweep_count_nodes(x);
    exec_free(x);
    arena_done(&a);
    return rc ? -1 : 0;
}
