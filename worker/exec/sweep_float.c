/*
 * The float side of a sweep: which values of the float pass are kept, where, and the pass itself.
 * All of it lies in one mapping that forked processes share, so that the pass is made once for all
 * of them; only where shapes depend on data has each its own.
 */
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
static size_t choose_kept(struct sweep *s, const bool *wanted, struct kept *kept)
{
    const struct graph *g = s->graph;
    size_t bytes = 0;
    struct sized *list = arena_array(&s->arena, (size_t)g->n_values + 1, sizeof *list);
    int n = 0;
    for (int v = 0; v < g->n_values; v++) {
        const struct tensor *t = &s->exact->types[v];
        if (!wanted[v] || g->values[v].producer < 0 || t->data)
            continue;
        if (t->type == DT_NONE)
            kept[v].chosen = true; /* its size shows in the run */
        else
            list[n++] = (struct sized){align(tensor_bytes(t) + 1), v};
    }
    qsort(list, (size_t)n, sizeof *list, by_bytes);
    for (int i = 0; i < n; i++) {
        if (s->opts.keep_max && bytes + list[i].bytes > s->opts.keep_max)
            return bytes;
        struct kept *k = &kept[list[i].value];
        k->chosen = true;
        k->offset = bytes;
        bytes += list[i].bytes;
    }
    s->all_kept = s->shared; /* what is computed again would count in one candidate's run, not in
                                another's that shares its end */
    return bytes;
}

/* ---- comparing ---- */

/* Elements as float32 in plain order. */
static void write_floats(const struct tensor *t, float *ret)
{
    int64_t n = tensor_count(t);
    struct tensor plain = *t;
    void *turned = NULL;
    if (t->layout != LAYOUT_PLAIN) {
        plain.layout = LAYOUT_PLAIN;
        plain.data = turned = xmalloc(tensor_bytes(t) + 1);
        tensor_reorder(t, &plain);
    }
    if (t->type == DT_F32 && n)
        memcpy(ret, plain.data, (size_t)n * sizeof *ret);
    for (int64_t i = 0; t->type != DT_F32 && i < n; i++)
        ret[i] = (float)tensor_num(&plain, i);
    free(turned);
}

void sweep_compare(const struct sweep *s, int o, const struct tensor *t, struct metric_sums *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!tensor_same_shape(t, &s->exact_type[o]))
        return;
    bool plain = t->type == DT_F32 && t->layout == LAYOUT_PLAIN;
    float *v = plain ? t->data : xmalloc((size_t)tensor_count(t) * sizeof *v + 1);
    if (!plain)
        write_floats(t, v);
    metric_sum(s->exact_out[o], v, tensor_count(t), ret);
    if (!plain)
        free(v);
}

/* ---- the memory that processes share ---- */

static bool all_known(const struct sweep *s, const bool *wanted)
{
    for (int v = 0; v < s->graph->n_values; v++)
        if (wanted[v] && s->exact->types[v].type == DT_NONE)
            return false;
    return !s->whole_only;
}

static size_t output_bytes(const struct sweep *s, int o)
{
    const struct tensor *t = &s->exact->types[s->opts.outputs[o]];
    return s->shared ? align((size_t)tensor_count(t) * sizeof(float) + 1) : 0;
}

/* In this order: what is told of values and outputs, the outputs, the values that are kept. */
static size_t head_bytes(const struct sweep *s)
{
    size_t n = (size_t)s->opts.n_outputs + 1;
    return align(((size_t)s->graph->n_values + 1) * sizeof *s->kept) +
           align(n * sizeof *s->exact_out) + align(n * sizeof *s->exact_type) +
           align(n * sizeof *s->no_loss);
}

static void *take(char **at, size_t bytes)
{
    void *now = *at;
    *at += align(bytes);
    return now;
}

static void lay_out(struct sweep *s, const struct kept *chosen)
{
    size_t n = (size_t)s->opts.n_outputs + 1, values = (size_t)s->graph->n_values + 1;
    char *at = s->memory;
    s->kept = take(&at, values * sizeof *s->kept);
    s->exact_out = take(&at, n * sizeof *s->exact_out);
    s->exact_type = take(&at, n * sizeof *s->exact_type);
    s->no_loss = take(&at, n * sizeof *s->no_loss);
    memcpy(s->kept, chosen, values * sizeof *chosen);
    for (int o = 0; o < s->opts.n_outputs && s->shared; o++)
        s->exact_out[o] = take(&at, output_bytes(s, o));
    s->values_at = at;
}

/* What two processes take beside the values: what a budget must leave. */
static uint64_t other_bytes(const struct sweep *s)
{
    enum { PROCESSES = 2, PROGRAM = 64 << 20 };
    uint64_t makings = s->exact->arena.used_bytes + s->weights->arena.used_bytes, constants = 0;
    for (int v = 0; v < s->graph->n_values; v++)
        if (s->graph->values[v].type.data)
            constants += tensor_bytes(&s->graph->values[v].type);
    uint64_t slab = s->exact->slab_bytes + s->exact->slab_bytes / 8;
    return PROGRAM + makings + constants + s->memory_bytes + PROCESSES * slab;
}

static int apply_budget(struct sweep *s, struct err *e)
{
    uint64_t other = other_bytes(s);
    if (!s->opts.budget || s->opts.keep_max)
        return 0;
    if (s->opts.budget <= other)
        return err_set(e, ERR_MEMORY_LIMIT, "/options/memory",
                       "A sweep of this model takes %llu bytes beside what it keeps; the budget is "
                       "%llu.",
                       (unsigned long long)other, (unsigned long long)s->opts.budget);
    s->opts.keep_max = s->opts.budget - other;
    return 0;
}

int sweep_make_room(struct sweep *s, struct err *e)
{
    struct kept *chosen = arena_array(&s->arena, (size_t)s->graph->n_values + 1, sizeof *chosen);
    const bool *wanted = find_wanted(s);
    s->shared = all_known(s, wanted);
    s->memory_bytes = head_bytes(s);
    for (int o = 0; o < s->opts.n_outputs; o++)
        s->memory_bytes += output_bytes(s, o);
    if (apply_budget(s, e))
        return -1;
    s->memory_bytes += choose_kept(s, wanted, chosen);
    int share = s->shared ? MAP_SHARED : MAP_PRIVATE;
    s->memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, share | MAP_ANONYMOUS, -1, 0);
    if (s->memory == MAP_FAILED) {
        s->memory = NULL;
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of float activations",
                       s->memory_bytes);
    }
    lay_out(s, chosen);
    return 0;
}

void sweep_drop_sample(struct sweep *s)
{
    for (int v = 0; s->kept && v < s->graph->n_values; v++) {
        if (s->kept[v].own)
            free(s->kept[v].t.data);
        s->kept[v].own = false;
        s->kept[v].t.data = NULL;
    }
    for (int o = 0; s->exact_out && o < s->opts.n_outputs && !s->shared; o++) {
        free(s->exact_out[o]);
        s->exact_out[o] = NULL;
    }
    s->kept_bytes = 0;
}

/* ---- the float pass ---- */

static void take_output(struct sweep *s, int o, const struct tensor *t)
{
    size_t n = (size_t)tensor_count(t);
    if (!s->shared)
        s->exact_out[o] = xmalloc((n ? n : 1) * sizeof(float));
    write_floats(t, s->exact_out[o]);
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
    k->t.data = k->own ? xmalloc(bytes + 1) : s->values_at + k->offset;
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

static void copy_inputs(struct sweep *s, const struct tensor *inputs)
{
    for (int i = 0; i < s->graph->n_inputs; i++)
        s->inputs[i] = s->kept[s->graph->inputs[i]].t = inputs[i];
}

/* Of a constant no run tells. */
static bool is_told(const struct sweep *s, int value)
{
    return !s->exact->types[value].data;
}

/* All pages at once: one by one they cost several times the float pass. A kernel that does not know
 * how leaves it at that. */
static void populate(struct sweep *s, int how)
{
    if (s->shared && s->populated != getpid())
        madvise(s->memory, s->memory_bytes, how);
    s->populated = getpid();
}

int sweep_load(struct sweep *s, const struct tensor *inputs, struct err *e)
{
    populate(s, MADV_POPULATE_WRITE);
    memo_clear(s->memo, s->graph->n_values);
    sweep_drop_sample(s);
    copy_inputs(s, inputs);
    if (sweep_use_slab(s, s->exact, e) || exec_run(s->exact, inputs, see, s, e))
        return -1;
    for (int o = 0; o < s->opts.n_outputs; o++)
        if (!is_told(s, s->opts.outputs[o]))
            take_output(s, o, exec_value(s->exact, s->opts.outputs[o]));
    return 0;
}

bool sweep_shares(const struct sweep *s)
{
    return s->shared;
}

int sweep_follow(struct sweep *s, const struct tensor *inputs, struct err *e)
{
    if (!s->shared)
        return sweep_load(s, inputs, e);
    populate(s, MADV_POPULATE_READ);
    memo_clear(s->memo, s->graph->n_values);
    memcpy(s->inputs, inputs, (size_t)s->graph->n_inputs * sizeof *inputs);
    return 0;
}

uint64_t sweep_kept_bytes(const struct sweep *s)
{
    return s->kept_bytes;
}

int64_t sweep_shared_runs(const struct sweep *s)
{
    return memo_hits(s->memo);
}

uint64_t sweep_room(const struct sweep *s)
{
    return s->memory_bytes;
}

int64_t sweep_macs(const struct sweep *s)
{
    return s->exact->macs;
}
