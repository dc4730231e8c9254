/*
 * Models of one node: a row of the operator table, attributes and input shapes as the bytes say,
 * through the builder, folding, binding and the run, with little memory. Graphs in attributes have
 * a few nodes of their own, which read the graph around them, and such graphs again. Whatever
 * cannot be is refused; nothing crashes, reads or writes out of bounds, or takes memory past the
 * limit. What a convolution or product gives is the same with every backend.
 */
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

#include "worker/exec/exec.h"
#include "worker/load/build.h"
#include "worker/ops/op.h"

enum { MEMORY_MAX = 32 << 20, INPUTS_MAX = 12, INPUT_ELEMENTS_MAX = 1 << 16, LIST_MAX = 10 };
enum { NESTED_MAX = 2, INNER_NODES_MAX = 3, NAMES_MAX = 64 };

struct feed {
    const uint8_t *at, *end;
    struct arena a;
    int nested, made;             /* graphs around the one at hand; numbers for new names */
    const char *names[NAMES_MAX]; /* of values that a graph inside may read */
    int n_names;
    struct err e; /* of a graph inside that cannot be */
};

static unsigned next(struct feed *f)
{
    return f->at < f->end ? *f->at++ : 0;
}

static int below(struct feed *f, int n)
{
    return (int)(next(f) % (unsigned)n);
}

#define PICK(f, list) list[below(f, sizeof list / sizeof *(list))]

static int64_t any_int(struct feed *f)
{
    static const int64_t rare[] = {INT64_MIN, INT64_MAX, INT32_MIN, INT32_MAX,       -65536,
                                   65536,     1 << 20,   1000,      (int64_t)1 << 40};
    int b = (int)next(f);
    return b < 235 ? b % 16 - 4 : PICK(f, rare);
}

static float any_float(struct feed *f)
{
    static const float list[] = {0,     1,      -1,       0.5f,      2,   -0.25f, 3.5f,
                                 1e30f, 1e-30f, INFINITY, -INFINITY, NAN, 100,    -7};
    return PICK(f, list);
}

static const char *any_text(struct feed *f)
{
    /* clang-format off */
    static const char *const list[] = {
        "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "reflect", "edge", "wrap",
        "nearest", "linear", "cubic", "bilinear", "bicubic", "half_pixel", "align_corners",
        "asymmetric", "forward", "reverse", "add", "mul", "max", "min", "none", "bidirectional",
        "tanh", "DCR", "CRD", "zeros", "border", "reflection", "avg", "sum", "mean", "floor",
        "round_prefer_ceil", "ceil", "i,j->ij", "ij,jk->ik", "...i,i...", "ii->i", "abc,cb",
        "LEFT", "", "x", "stretch", "not_larger", "tf_crop_and_resize", "pytorch_half_pixel",
        "output_half_pixel", "half_pixel_symmetric"};
    /* clang-format on */
    return PICK(f, list);
}

static const char *any_activation(struct feed *f)
{
    static const char *const list[] = {"Tanh",        "Sigmoid", "Relu",     "Affine",
                                       "HardSigmoid", "nil",     "LeakyRelu"};
    return PICK(f, list);
}

/* ---- tensors ---- */

static enum dtype any_type(struct feed *f)
{
    static const enum dtype list[] = {DT_F32, DT_U8,   DT_I8,  DT_U16, DT_I16, DT_I32,
                                      DT_I64, DT_BOOL, DT_F16, DT_F64, DT_U32, DT_U64};
    return PICK(f, list);
}

static void fill(struct feed *f, struct tensor *t)
{
    int64_t n = tensor_count(t);
    unsigned kind = next(f), step = next(f);
    t->data = arena_alloc(&f->a, tensor_bytes(t) + 1);
    for (int64_t i = 0; i < n; i++) {
        bool chosen = n <= 16;
        int64_t v = chosen ? any_int(f) : (int64_t)((unsigned)i * step % 13) - 4;
        float x = chosen && kind % 4 == 0 ? any_float(f) : (float)v / 2;
        if (t->type == DT_F32)
            ((float *)t->data)[i] = x;
        else if (t->type == DT_F64)
            ((double *)t->data)[i] = x;
        else if (t->type == DT_BOOL)
            ((uint8_t *)t->data)[i] = v & 1;
        else if (t->type == DT_F16)
            ((uint16_t *)t->data)[i] = (uint16_t)(0x3800 + v % 16 * 64);
        else
            memcpy((char *)t->data + (size_t)i * dtype_size(t->type), &v, dtype_size(t->type));
    }
}

static void any_tensor(struct feed *f, enum dtype type, struct tensor *ret)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 6, 8, 1, 2, 3, 4, 16, 0, 33, 7, 300};
    int64_t dims[TENSOR_RANK_MAX] = {0}, count = 1;
    int rank = below(f, 7);
    for (int i = 0; i < rank; i++) {
        dims[i] = PICK(f, sizes);
        if (dims[i] && count > INPUT_ELEMENTS_MAX / dims[i])
            dims[i] = 1;
        count *= dims[i] ? dims[i] : 1;
    }
    struct err e = ERR_INIT;
    PROMISE(tensor_set(ret, type, rank, dims, &e) == 0);
    fill(f, ret);
}

/* Like another one, or with the same first dims: so that shapes fit now and then. */
static void near_tensor(struct feed *f, const struct tensor *like, struct tensor *ret)
{
    *ret = *like;
    if (next(f) % 2 && ret->rank)
        ret->rank = 1 + below(f, ret->rank);
    fill(f, ret);
}

/* ---- graphs in attributes ---- */

static const struct op *any_op(struct feed *f);
static const struct graph *any_graph(struct feed *f, struct build *parent, const struct op *op,
                                     int n_in, int n_out);

/* ---- attributes ---- */

static void any_attr(struct feed *f, const struct attr_def *d, struct build *b, int node,
                     const struct op *op)
{
    const struct build_node *of = &b->nodes[node];
    int64_t ints[LIST_MAX];
    float floats[LIST_MAX];
    const char **texts = arena_array(&f->a, LIST_MAX, sizeof *texts);
    int n = below(f, LIST_MAX);
    for (int i = 0; i < n; i++) {
        ints[i] = d->type == ATTR_INTS ? any_int(f) : 0;
        floats[i] = d->type == ATTR_FLOATS ? any_float(f) : 0;
        texts[i] = d->type == ATTR_STRINGS ? any_activation(f) : "";
    }
    struct tensor *t = arena_alloc(&f->a, sizeof *t);
    switch (d->type) {
    case ATTR_FLOAT:
        build_attr_float(b, node, d->name, any_float(f));
        return;
    case ATTR_INT:
        build_attr_int(b, node, d->name, any_int(f));
        return;
    case ATTR_STRING:
        build_attr_string(b, node, d->name, any_text(f));
        return;
    case ATTR_FLOATS:
        build_attr_floats(b, node, d->name, floats, (size_t)n);
        return;
    case ATTR_INTS:
        build_attr_ints(b, node, d->name, ints, (size_t)n);
        return;
    case ATTR_STRINGS:
        build_attr(b, node, &(struct attr){d->name, ATTR_STRINGS, (size_t)n, {.strings = texts}});
        return;
    case ATTR_TENSOR:
        any_tensor(f, any_type(f), t);
        build_attr(b, node, &(struct attr){d->name, ATTR_TENSOR, 1, {.t = t}});
        return;
    case ATTR_GRAPH: {
        const struct graph *g = any_graph(f, b, op, of->n_in, of->n_out);
        if (g)
            build_attr(b, node, &(struct attr){d->name, ATTR_GRAPH, 1, {.g = g}});
        return;
    }
    }
}

/* ---- the model ---- */

static const struct op *any_op(struct feed *f)
{
    int n = 0, want = (int)(next(f) | next(f) << 8);
    for (const struct op *const *family = op_families; *family; family++)
        for (const struct op *op = *family; op->type; op++)
            n++;
    want %= n;
    for (const struct op *const *family = op_families;; family++)
        for (const struct op *op = *family; op->type; op++)
            if (want-- == 0)
                return op;
}

/* An operator that takes most things, so that a graph of some nodes is alive now and then. */
static const struct op *easy_op(struct feed *f)
{
    static const char *const list[] = {"Identity", "Add",   "Neg",     "Concat", "Mul",  "Shape",
                                       "Cast",     "Less",  "NonZero", "Not",    "Relu", "MatMul",
                                       "Gather",   "Slice", "Conv",    "If",     "Loop", "Scan"};
    return op_find("", PICK(f, list), 18);
}

/* An output's number of a row: at least one. */
static int n_outputs_of(struct feed *f, const struct op *op)
{
    return 1 + below(f, op->max_out < 0 || op->max_out > 3 ? 3 : op->max_out ? op->max_out : 1);
}

static int some_value(struct feed *f, struct build *b)
{
    struct tensor t;
    unsigned how = next(f);
    if (how % 8 == 0) {
        any_tensor(f, any_type(f), &t);
        return build_const(b, arena_printf(&f->a, "c%d", f->made++), &t);
    }
    return f->n_names ? build_value(b, f->names[how % (unsigned)f->n_names]) : VALUE_NONE;
}

static int new_value(struct feed *f, struct build *b)
{
    const char *name = arena_printf(&f->a, "v%d", f->made++);
    if (f->n_names < NAMES_MAX)
        f->names[f->n_names++] = name;
    return build_value(b, name);
}

/* What the operator around expects of its graph's inputs and outputs, or nearly. */
static void ends_of(struct feed *f, const struct op *op, int n_in, int n_out, int *ret_in,
                    int *ret_out)
{
    bool is_if = !strcmp(op->type, "If"), is_loop = !strcmp(op->type, "Loop");
    *ret_in = is_if ? 0 : n_in < (is_loop ? 2 : 1) ? 2 : n_in;
    *ret_out = is_loop ? n_out + 1 : n_out;
    if (next(f) % 16 == 0)
        *ret_in = below(f, 4);
    if (next(f) % 16 == 0)
        *ret_out = 1 + below(f, 4);
}

static void inner_input(struct feed *f, struct build *b, int i, bool loop)
{
    int v = new_value(f, b);
    if (loop && i < 2)
        b->values[v].type = (struct tensor){.type = i ? DT_BOOL : DT_I64};
    else if (next(f) % 4 == 0)
        b->values[v].type = (struct tensor){.type = any_type(f), .rank = 1, .dims = {-1}};
    build_input(b, v);
}

static void inner_node(struct feed *f, struct build *b)
{
    const struct op *op = next(f) % 4 ? easy_op(f) : any_op(f);
    int in[INPUTS_MAX], out[3], most = op->max_in < 0 || op->max_in > 4 ? 4 : op->max_in;
    int n_in = most <= op->min_in ? op->min_in : op->min_in + below(f, most - op->min_in + 1);
    int n_out = n_outputs_of(f, op);
    for (int i = 0; i < n_in; i++)
        in[i] = some_value(f, b);
    for (int i = 0; i < n_out; i++)
        out[i] = new_value(f, b);
    build_import(b, op->domain, op->since > 18 ? op->since : 18);
    int node = build_node(b, arena_printf(&f->a, "n%d", f->made++), op->domain, op->type,
                          op->since > 18 || *op->domain ? op->since : 18, in, n_in, out, n_out);
    for (const struct attr_def *d = op->attrs; d && d->name; d++)
        if (d->required || next(f) % 4 == 0)
            any_attr(f, d, b, node, op);
}

static const struct graph *any_graph(struct feed *f, struct build *parent, const struct op *op,
                                     int n_in, int n_out)
{
    struct build *b = build_new(&f->a, "inner");
    struct graph *g;
    int ins, outs, known = f->n_names;
    bool loop = !strcmp(op->type, "Loop");
    if (f->nested == NESTED_MAX)
        return NULL;
    f->nested++;
    b->parent = parent;
    b->opsets = parent->opsets;
    b->n_opsets = parent->n_opsets;
    ends_of(f, op, n_in, n_out, &ins, &outs);
    int first = f->n_names;
    for (int i = 0; i < ins; i++)
        inner_input(f, b, i, loop);
    for (int i = below(f, INNER_NODES_MAX + 1); i > 0; i--)
        inner_node(f, b);
    for (int i = 0; i < outs; i++) {
        int v = loop && !i && ins > 1 && next(f) % 8 ? build_value(b, f->names[first + 1])
                                                     : some_value(f, b);
        if (v >= 0)
            build_output(b, v);
    }
    f->nested--;
    f->n_names = known;
    return build_freeze(b, &g, &f->e) ? NULL : g;
}

static int add_input(struct feed *f, struct build *b, int i, enum dtype main_type,
                     struct tensor *all, int *n_all, struct tensor *first)
{
    struct tensor t;
    char name[8];
    unsigned how = next(f);
    enum dtype type = how & 1 ? main_type : how & 2 ? DT_I64 : any_type(f);
    if (how & 4 && i)
        near_tensor(f, first, &t), t.type = first->type;
    else
        any_tensor(f, type, &t);
    if (i == 0)
        *first = t;
    snprintf(name, sizeof name, "x%d", i);
    if (how & 8)
        return build_const(b, arena_strdup(&f->a, name), &t);
    if (f->n_names < NAMES_MAX)
        f->names[f->n_names++] = arena_strdup(&f->a, name);
    int v = build_value(b, arena_strdup(&f->a, name));
    b->values[v].type = t;
    b->values[v].type.data = NULL;
    build_input(b, v);
    all[(*n_all)++] = t;
    return v;
}

/* A Loop's number of trips and both its and an If's condition, as they may be. */
static int few_trips(struct feed *f, struct build *b, const struct op *op, int i)
{
    bool trips = !strcmp(op->type, "Loop") && i == 0;
    struct tensor t = {.type = trips ? DT_I64 : DT_BOOL};
    int64_t *n = arena_alloc(&f->a, sizeof *n);
    *n = trips ? below(f, 6) : below(f, 2);
    t.data = n;
    return build_const(b, arena_printf(&f->a, "k%d", i), &t);
}

static void make_node(struct feed *f, struct build *b, struct tensor *all, int *n_all)
{
    const struct op *op = any_op(f);
    int opset = op->since + below(f, (op->until ? op->until : 23) - op->since < 0
                                         ? 1
                                         : (op->until ? op->until : 23) - op->since + 1);
    int most = op->max_in < 0 || op->max_in > INPUTS_MAX ? INPUTS_MAX : op->max_in;
    int n_in = op->min_in + below(f, most - op->min_in + 1), in[INPUTS_MAX], out[3];
    int n_out = n_outputs_of(f, op);
    enum dtype type = next(f) & 1 ? DT_F32 : any_type(f);
    struct tensor first = {0};
    build_import(b, op->domain, opset);
    for (int i = 0; i < n_in; i++)
        in[i] = op->traits & T_SUBGRAPHS && i < 2 && next(f) % 8 ? few_trips(f, b, op, i)
                : i >= op->min_in && next(f) % 8 == 0
                    ? VALUE_NONE
                    : add_input(f, b, i, type, all, n_all, &first);
    for (int i = 0; i < n_out; i++)
        out[i] = build_value(b, arena_printf(&f->a, "y%d", i));
    int node = build_node(b, "node", op->domain, op->type, opset, in, n_in, out, n_out);
    for (const struct attr_def *d = op->attrs; d && d->name; d++)
        if (d->required || next(f) % 3 == 0)
            any_attr(f, d, b, node, op);
    for (int i = 0; i < n_out; i++)
        build_output(b, out[i]);
}

static void check_refusal(const struct err *e)
{
    if (e->code != ERR_NONE && e->code != ERR_INTERNAL)
        return;
    fprintf(stderr, "Refused without a reason: %s (at \"%s\")\n", e->detail, e->at);
    abort();
}

/* ---- one backend against the other ---- */

static bool is_small(const struct tensor *t)
{
    const float *x = t->data;
    for (int64_t i = 0; t->type == DT_F32 && i < tensor_count(t); i++)
        if (!(fabsf(x[i]) <= 64))
            return false;
    return t->type == DT_F32;
}

/* Small numbers in and out: then all backends agree within rounding. */
static bool is_tame(const struct graph *g, const struct exec *x, const struct tensor *in)
{
    for (int i = 0; i < g->n_inputs; i++)
        if (!is_small(&in[i]))
            return false;
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].type.data && g->values[v].producer < 0 && !is_small(&g->values[v].type))
            return false;
    for (int i = 0; i < g->nodes[0].n_attrs; i++)
        if (g->nodes[0].attrs[i].type == ATTR_FLOAT && !(fabsf(g->nodes[0].attrs[i].f) <= 64))
            return false;
    return exec_backend(x, 0) != NULL;
}

static void check_same(const struct tensor *a, const struct tensor *b, const char *backend)
{
    const float *x = a->data, *y = b->data;
    double most = 1;
    PROMISE(a->type == b->type && tensor_same_shape(a, b));
    for (int64_t i = 0; i < tensor_count(a); i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    for (int64_t i = 0; i < tensor_count(a); i++)
        if (!(fabs((double)x[i] - y[i]) <= 1e-5 * most)) {
            fprintf(stderr, "Element %lld is %g, with %s %g\n", (long long)i, x[i], backend, y[i]);
            abort();
        }
}

static void check_backends(const struct graph *g, const struct tensor *in, const struct exec *x)
{
    const struct backend *b;
    for (int k = 0; is_tame(g, x, in) && (b = backend_at(k)); k++) {
        struct exec *other;
        struct err e = ERR_INIT;
        struct exec_opts opts = {.backend = b};
        PROMISE(exec_new(g, in, &opts, &other, &e) == 0);
        PROMISE(exec_run(other, in, NULL, NULL, &e) == 0);
        for (int i = 0; i < g->n_outputs; i++)
            if (exec_output(x, i)->type == DT_F32)
                check_same(exec_output(x, i), exec_output(other, i), b->name);
        exec_free(other);
    }
}

static int run(const struct graph *g, struct feed *f, const struct tensor *in, struct err *e)
{
    struct exec *x = NULL;
    struct exec_opts opts = {.memory_max = MEMORY_MAX};
    struct tensor *types = arena_array(&f->a, (size_t)g->n_values + 1, sizeof *types);
    struct tensor **folded = arena_array(&f->a, (size_t)g->n_values + 1, sizeof *folded);
    if (exec_fold(g, &f->a, types, folded, NULL, e) || exec_new(g, in, &opts, &x, e))
        return -1;
    int rc = exec_run(x, in, NULL, NULL, e);
    for (int i = 0; !rc && i < g->n_outputs; i++) {
        const struct tensor *t = exec_output(x, i);
        volatile char sum = 0; /* every byte is there */
        for (size_t k = 0; k < tensor_bytes(t); k++)
            sum = (char)(sum + ((const char *)t->data)[k]);
    }
    if (!rc)
        check_backends(g, in, x);
    exec_free(x);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct feed f = {.at = data, .end = data + size, .a = ARENA_INIT, .e = ERR_INIT};
    struct build *b = build_new(&f.a, "g");
    struct tensor in[INPUTS_MAX];
    struct graph *g;
    struct err e = ERR_INIT;
    int n_in = 0;
    make_node(&f, b, in, &n_in);
    if (build_freeze(b, &g, &e) || run(g, &f, in, &e))
        check_refusal(&e);
    arena_done(&f.a);
    return 0;
}
