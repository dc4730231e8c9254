/*
 * Shape inference and constant folding without data (exec_fold).
 *
 * Rows work on concrete shapes. Where graph inputs have unknown dims, what depends on them is
 * inferred for a few assignments of numbers to those dims, and what comes out the same each time
 * is taken for known: a dim, or the value of a small shape tensor. An assignment under which a
 * node cannot be shaped says nothing about it; at least two must. The assignments are all ones
 * (so that clamping at a small extent shows), two large multiples of 64 · 3 · 5 (so that strides
 * and splits divide), and a different number for every symbolic name (so that equal dims show).
 * What depends on no unknown dim is inferred once, exactly.
 */
#include "worker/exec/exec.h"

#include <string.h>

#include "worker/ops/op.h"

enum { SAMPLES = 4, SMALL_ELEMENTS = 4096, NAMES_MAX = 64 };
enum { LARGE_BYTES = 16 << 20 }; /* a folded constant: at most this or twice its inputs */
enum { HEAVY_BYTES = 64 << 10 }; /* inputs and outputs of a T_HEAVY operator that is folded */
enum { MACS_PER_COST = 8, BYTES_PER_COST = 8 };

struct fold {
    const struct graph *g;
    struct arena *a;      /* results */
    struct arena work;    /* what only this call needs */
    struct tensor *types; /* n_values × SAMPLES; DT_NONE: unknown; data: the value is known */
    bool *tainted;        /* per value: depends on a dim that is not known */
    const struct backend *backend;
    int64_t left; /* of the cost that folding may have */
};

static struct tensor *type_of(const struct fold *f, int value, int sample)
{
    return &f->types[(size_t)value * SAMPLES + (size_t)(f->tainted[value] ? sample : 0)];
}

/* The number that stands for an unknown dim. */
static int64_t stand_in(struct map *names, const char *name, int sample)
{
    static const int64_t all[SAMPLES - 1] = {1, 960, 1920};
    if (sample < SAMPLES - 1)
        return all[sample];
    int i = name ? map_get(names, name) : 0;
    if (i < 0) {
        i = (int)names->count + 1;
        map_set(names, name, i);
    }
    return 192 * (int64_t)(3 + i % NAMES_MAX);
}

static void set_inputs(struct fold *f)
{
    struct map names;
    map_init(&names, &f->work);
    for (int v = 0; v < f->g->n_values; v++) {
        const struct value *from = &f->g->values[v];
        if (from->producer >= 0)
            continue;
        f->tainted[v] = from->is_input && from->type.type && !tensor_known(&from->type);
        for (int s = 0; s < SAMPLES; s++) {
            struct tensor *t = type_of(f, v, s);
            *t = from->type;
            for (int d = 0; d < t->rank; d++)
                if (t->dims[d] < 0)
                    t->dims[d] = stand_in(&names, from->dim_names ? from->dim_names[d] : NULL, s);
        }
    }
}

struct call {
    struct op_ctx c;
    const struct tensor **in;
    struct tensor **out, *results;
};

static void call_init(struct fold *f, struct call *call, const struct node *n, int sample)
{
    size_t n_in = (size_t)n->n_in, n_out = (size_t)n->n_out;
    call->in = arena_array(&f->work, n_in + 1, sizeof *call->in);
    call->out = arena_array(&f->work, n_out + 1, sizeof *call->out);
    call->results = arena_array(&f->work, n_out + 1, sizeof *call->results);
    for (int i = 0; i < n->n_in; i++)
        call->in[i] = n->in[i] < 0 ? NULL : type_of(f, n->in[i], sample);
    for (int i = 0; i < n->n_out; i++)
        call->out[i] = n->out[i] < 0 ? NULL : &call->results[i];
    call->c = (struct op_ctx){.node = n,
                              .attr = n->attr,
                              .n_in = n->n_in,
                              .n_out = n->n_out,
                              .in = call->in,
                              .out = call->out,
                              .arena = &f->work,
                              .backend = f->backend};
}

static bool inputs_typed(const struct call *call)
{
    for (int i = 0; i < call->c.n_in; i++)
        if (call->in[i] && !call->in[i]->type)
            return false;
    return true;
}

/* Takes the cost of a node from what is left; false if it is too much. Outputs stay in memory,
 * inputs and multiplications take time. */
static bool afford(struct fold *f, const struct call *call, size_t in_bytes, size_t out_bytes)
{
    const struct op *op = call->c.node->op;
    int64_t macs = op->macs ? op->macs(&call->c) : 0;
    if (op->traits & T_HEAVY && in_bytes + out_bytes > HEAVY_BYTES)
        return false;
    if (macs < 0 || in_bytes > INT64_MAX / 4 || out_bytes > INT64_MAX / 4)
        return false;
    int64_t cost = macs / MACS_PER_COST + (int64_t)in_bytes / BYTES_PER_COST + (int64_t)out_bytes;
    if (cost > f->left)
        return false;
    f->left -= cost;
    return true;
}

/* Is this node's output a constant worth computing now? */
static bool foldable(struct fold *f, const struct call *call, bool tainted)
{
    const struct op *op = call->c.node->op;
    size_t in_bytes = 0, out_bytes = 0;
    if (op->traits & (T_RANDOM | T_SUBGRAPHS) || op->layout == L_CL || !op->run)
        return false;
    for (int i = 0; i < call->c.n_in; i++) {
        if (!call->in[i])
            continue;
        if (call->in[i]->data)
            in_bytes += tensor_bytes(call->in[i]);
        else if (!(op->traits & T_VALUEFREE))
            return false;
    }
    for (int i = 0; i < call->c.n_out; i++) {
        const struct tensor *t = call->out[i];
        if (!t)
            continue;
        if (!dtype_size(t->type) || (tainted && tensor_count(t) > SMALL_ELEMENTS))
            return false;
        out_bytes += tensor_bytes(t);
    }
    return (out_bytes <= LARGE_BYTES || out_bytes <= 2 * in_bytes) &&
           afford(f, call, in_bytes, out_bytes);
}

static int run_once(struct call *call, struct arena *once, struct err *e)
{
    const struct op *op = call->c.node->op;
    if (op->prepare && op->prepare(&call->c, &call->c.prep, e))
        return -1;
    call->c.scratch = arena_try(once, call->c.scratch_bytes); /* also none is an address */
    if (!call->c.scratch)
        return err_set(e, ERR_MEMORY_LIMIT, "", "Folding needs %zu bytes.", call->c.scratch_bytes);
    return op->run(&call->c, e);
}

static int compute(struct fold *f, struct call *call, struct err *e)
{
    for (int i = 0; i < call->c.n_out; i++) {
        struct tensor *t = call->out[i];
        if (t && !(t->data = arena_try(f->a, tensor_bytes(t) + 1)))
            return err_set(e, ERR_MEMORY_LIMIT, "", "A folded constant needs %zu bytes.",
                           tensor_bytes(t));
    }
    struct arena once = ARENA_INIT;
    call->c.arena = &once;
    int rc = run_once(call, &once, e);
    backend_release(&once);
    arena_done(&once);
    return rc;
}

/* 0: done, as far as it goes (types stay DT_NONE otherwise); -1 with the row's error. */
static int fold_one(struct fold *f, const struct node *n, int sample, bool tainted, struct err *e)
{
    struct call call;
    call_init(f, &call, n, sample);
    if (!inputs_typed(&call) || n->op->traits & T_SUBGRAPHS)
        return 0;
    int rc = op_shape(n->op, &call.c, e);
    if (rc)
        return rc == SHAPE_WAITS ? 0 : -1;
    if (foldable(f, &call, tainted) && compute(f, &call, e))
        return -1;
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0)
            *type_of(f, n->out[i], sample) = call.results[i];
    return 0;
}

static int fold_node(struct fold *f, const struct node *n, struct err *e)
{
    bool tainted = false;
    for (int i = 0; i < n->n_in; i++)
        tainted |= n->in[i] >= 0 && f->tainted[n->in[i]];
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0)
            f->tainted[n->out[i]] = tainted;
    if (!tainted)
        return fold_one(f, n, 0, false, e) ? err_in(e, n->name) : 0;
    for (int s = 0; s < SAMPLES; s++) {
        struct err ignored = ERR_INIT; /* says nothing about this node under other numbers */
        fold_one(f, n, s, true, &ignored);
    }
    return 0;
}

/* What all samples that know something agree on. */
static void agree(const struct fold *f, int value, struct tensor *ret, const struct tensor **data)
{
    const struct tensor *first = NULL;
    int known = 0;
    bool same = true;
    for (int s = 0; s < SAMPLES; s++) {
        const struct tensor *t = type_of(f, value, s);
        if (!t->type)
            continue;
        known++;
        if (!first) {
            first = t;
            *ret = *t;
            ret->data = NULL;
            continue;
        }
        if (t->type != first->type || t->rank != first->rank) {
            *ret = (struct tensor){0};
            *data = NULL;
            return;
        }
        for (int d = 0; d < t->rank; d++)
            if (ret->dims[d] != t->dims[d])
                ret->dims[d] = -1;
        same = same && first->data && t->data && tensor_same_shape(first, t) &&
               !memcmp(first->data, t->data, tensor_bytes(t));
    }
    *data = known > 1 && same && first->data ? first : NULL;
    if (known == 1)
        *ret = (struct tensor){0};
}

static void take_results(struct fold *f, struct tensor *types, struct tensor **folded)
{
    for (int v = 0; v < f->g->n_values; v++) {
        const struct value *from = &f->g->values[v];
        const struct tensor *data = NULL;
        types[v] = *type_of(f, v, 0);
        if (from->is_input)
            types[v] = from->type;
        else if (f->tainted[v])
            agree(f, v, &types[v], &data);
        else if (types[v].data)
            data = type_of(f, v, 0);
        folded[v] = data ? arena_copy(f->a, data, sizeof *data) : NULL;
        types[v].data = NULL;
        if (!types[v].type && from->type.type)
            types[v] = from->type; /* at least what the file says */
    }
}

int exec_fold(const struct graph *g, struct arena *a, struct tensor *ret_types,
              struct tensor **ret_folded, int64_t *ret_left, struct err *e)
{
    struct fold f = {.g = g, .a = a, .work = ARENA_INIT, .left = g->fold_left};
    int rc = backend_find(NULL, &f.backend, e);
    f.types = arena_array(&f.work, (size_t)g->n_values * SAMPLES + 1, sizeof *f.types);
    f.tainted = arena_alloc(&f.work, (size_t)g->n_values + 1);
    set_inputs(&f);
    for (int i = 0; i < g->n_nodes && !rc; i++)
        rc = fold_node(&f, &g->nodes[i], e);
    if (!rc)
        take_results(&f, ret_types, ret_folded);
    if (ret_left)
        *ret_left = f.left;
    backend_release(&f.work);
    arena_done(&f.work);
    return rc;
}
