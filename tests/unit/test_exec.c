/* The executor on small graphs made by hand: places of the quantizations, memory shared by
 * liveness, packed weights shared between execs, shapes that come from data. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "worker/exec/exec.h"
#include "worker/load/build.h"
#include "worker/quant/fakequant.h"

enum { OPSET = 13, LONGEST = 4096 };

static struct arena arena; /* to the test's end */
static uint64_t seed = 3;

static int64_t below(int64_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((seed >> 33) % (uint64_t)n);
}

static struct tensor random_tensor(int rank, const int64_t *dims)
{
    struct tensor t;
    struct err e = ERR_INIT;
    CHECK_OK(tensor_set(&t, DT_F32, rank, dims, &e), e);
    float *v = arena_alloc(&arena, tensor_bytes(&t) + 1);
    for (int64_t i = 0; i < tensor_count(&t); i++)
        v[i] = (float)(below(2001) - 1000) / 500;
    t.data = v;
    return t;
}

#define DIMS(...)                                                                                  \
    sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[])                                              \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define IN(...) (int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int)

static struct build *new_build(void)
{
    struct build *b = build_new(&arena, "g");
    build_import(b, "", OPSET);
    return b;
}

static int input(struct build *b, const char *name, size_t rank, const int64_t *dims)
{
    struct err e = ERR_INIT;
    int v = build_value(b, name);
    CHECK_OK(tensor_set(&b->values[v].type, DT_F32, (int)rank, dims, &e), e);
    build_input(b, v);
    return v;
}

static int constant(struct build *b, const char *name, size_t rank, const int64_t *dims)
{
    struct tensor t = random_tensor((int)rank, dims);
    return build_const(b, name, &t);
}

/* A node named after its output. */
static int node(struct build *b, const char *op, const char *out, const int *in, size_t n_in)
{
    int v = build_value(b, out);
    return build_node(b, out, "", op, OPSET, in, (int)n_in, &v, 1);
}

static struct graph *frozen(struct build *b)
{
    struct err e = ERR_INIT;
    struct graph *g;
    CHECK_OK(build_freeze(b, &g, &e), e);
    return g;
}

/* x → Conv c → Relu r → depthwise Conv d → Add a (with r) → GlobalAveragePool p → Flatten f →
 * Gemm y. Outputs a and y. */
static struct graph *small_net(void)
{
    struct build *b = new_build();
    int x = input(b, "x", DIMS(1, 5, 9, 7));
    int w = constant(b, "w", DIMS(8, 5, 3, 3)), bias = constant(b, "b", DIMS(8));
    int dw = constant(b, "dw", DIMS(8, 1, 3, 3)), m = constant(b, "m", DIMS(8, 6));
    build_attr_ints(b, node(b, "Conv", "c", IN(x, w, bias)), "pads", (int64_t[]){1, 1, 1, 1}, 4);
    node(b, "Relu", "r", IN(build_value(b, "c")));
    int r = build_value(b, "r"), conv = node(b, "Conv", "d", IN(r, dw));
    build_attr_ints(b, conv, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    build_attr_int(b, conv, "group", 8);
    node(b, "Add", "a", IN(build_value(b, "d"), r));
    node(b, "GlobalAveragePool", "p", IN(build_value(b, "a")));
    node(b, "Flatten", "f", IN(build_value(b, "p")));
    node(b, "Gemm", "y", IN(build_value(b, "f"), m));
    build_output(b, build_value(b, "a"));
    build_output(b, build_value(b, "y"));
    return frozen(b);
}

static struct exec *bound(const struct graph *g, const struct tensor *in,
                          const struct exec_opts *opts)
{
    struct err e = ERR_INIT;
    struct exec *x = NULL;
    CHECK_OK(exec_new(g, in, opts, &x, &e), e);
    return x;
}

static void run(struct exec *x, const struct tensor *in)
{
    struct err e = ERR_INIT;
    CHECK_OK(exec_run(x, in, NULL, NULL, &e), e);
}

/* A copy in plain layout that outlives the exec. */
static struct tensor kept(const struct tensor *t)
{
    struct tensor copy = *t;
    copy.layout = LAYOUT_PLAIN;
    copy.data = arena_alloc(&arena, tensor_bytes(t) + 1);
    tensor_reorder(t, &copy);
    return copy;
}

static void check_equal(const struct tensor *a, const struct tensor *b)
{
    CHECK(tensor_same_shape(a, b));
    CHECK(a->layout == LAYOUT_PLAIN && b->layout == LAYOUT_PLAIN);
    CHECK(!memcmp(a->data, b->data, tensor_bytes(a)));
}

static struct plan *plan_of(const struct graph *g)
{
    struct plan *p = plan_new(g, &arena, 16);
    p->n_calibs = 0;
    for (int i = 0; i < g->n_ports; i++)
        p->port[i] = -1;
    return p;
}

/* A calibration of the value, read by input `in` of the node (named after its output). */
static int calibrate(struct plan *p, const char *value, const char *reader, int in, enum qtype q,
                     float threshold)
{
    int k = p->n_calibs++;
    float *t = arena_alloc(&arena, sizeof *t);
    *t = threshold;
    p->calibs[k] = (struct calib){.name = value,
                                  .value = graph_value(p->graph, value),
                                  .parent = -1,
                                  .qtype = q,
                                  .on = true,
                                  .axis = -1,
                                  .n_thresholds = 1,
                                  .thresholds = t};
    p->port[p->graph->nodes[graph_node(p->graph, reader)].first_port + in] = k;
    return k;
}

void test_exec__backends_agree_on_a_small_net(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7}), want[2];
    const struct backend *b;
    for (int i = 0; (b = backend_at(i)); i++) {
        struct exec *x = bound(g, &in, &(struct exec_opts){.backend = b});
        run(x, &in);
        for (int o = 0; o < 2; o++) {
            struct tensor have = kept(exec_output(x, o));
            if (i == 0)
                want[o] = have;
            for (int64_t k = 0; k < tensor_count(&have); k++)
                CHECK_NEAR(((float *)have.data)[k], ((float *)want[o].data)[k], 2e-5);
        }
        CHECK(exec_backend(x, graph_node(g, "c")) == b);
        CHECK(exec_backend(x, graph_node(g, "r")) == NULL);
        exec_free(x);
    }
}

/* Both ends of a quantization by hand: the input is given quantized, the weight replaced. */
void test_exec__a_calibrated_run_equals_quantizing_by_hand(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7}), quantized = in;
    struct plan *p = plan_of(g);
    int kx = calibrate(p, "x", "c", 0, Q_INT8, 1.5f), kw = calibrate(p, "w", "c", 1, Q_INT8, 1.7f);
    p->calibs[kw].kind = CALIB_WEIGHT;
    struct exec *x = bound(g, &in, &(struct exec_opts){.plan = p});
    run(x, &in);
    struct tensor a = kept(exec_output(x, 0)), y = kept(exec_output(x, 1));
    exec_free(x);

    quantized.data = arena_alloc(&arena, tensor_bytes(&in));
    fq_tensor(&p->calibs[kx], &in, &quantized);
    struct tensor *w = &g->values[graph_value(g, "w")].type;
    fq_tensor(&p->calibs[kw], w, w);
    x = bound(g, &quantized, NULL);
    run(x, &quantized);
    check_equal(exec_output(x, 0), &a);
    check_equal(exec_output(x, 1), &y);
    exec_free(x);
}

void test_exec__what_is_off_changes_no_byte(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7});
    struct plan *p = plan_of(g);
    p->calibs[calibrate(p, "x", "c", 0, Q_INT8, 1)].on = false;
    calibrate(p, "w", "c", 1, Q_FLOAT32, 1);
    struct exec *q = bound(g, &in, &(struct exec_opts){.plan = p}), *f = bound(g, &in, NULL);
    run(q, &in);
    run(f, &in);
    check_equal(exec_output(q, 0), exec_output(f, 0));
    check_equal(exec_output(q, 1), exec_output(f, 1));
    exec_free(q);
    exec_free(f);
}

/* r is read by d through an int8 child, by a through its int16 parent; both come from the float r,
 * which stays as it is for the graph output behind. */
void test_exec__a_child_reads_its_parent_and_others_do_not_see_it(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7});
    struct plan *p = plan_of(g);
    int wide = calibrate(p, "r", "a", 1, Q_INT16, 2), narrow = calibrate(p, "r", "d", 0, Q_INT8, 2);
    p->calibs[narrow].parent = wide;
    struct exec *x = bound(g, &in, &(struct exec_opts){.plan = p});
    run(x, &in);
    struct tensor a = kept(exec_output(x, 0));
    exec_free(x);

    /* By hand: float r, then the two operators on what they should read. */
    int keep[1] = {graph_value(g, "r")};
    x = bound(g, &in, &(struct exec_opts){.keep = keep, .n_keep = 1});
    run(x, &in);
    struct tensor r = kept(exec_value(x, keep[0])), r16 = kept(&r), r8;
    fq_tensor(&p->calibs[wide], &r, &r16);
    r8 = kept(&r16);
    fq_tensor(&p->calibs[narrow], &r16, &r8);
    exec_free(x);
    struct build *b = new_build();
    int x8 = input(b, "x8", DIMS(1, 8, 9, 7)), x16 = input(b, "x16", DIMS(1, 8, 9, 7));
    int dw = build_const(b, "dw", &g->values[graph_value(g, "dw")].type);
    int conv = node(b, "Conv", "d", IN(x8, dw));
    build_attr_ints(b, conv, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    build_attr_int(b, conv, "group", 8);
    node(b, "Add", "a", IN(build_value(b, "d"), x16));
    build_output(b, build_value(b, "a"));
    struct tensor both[2] = {r8, r16};
    x = bound(frozen(b), both, NULL);
    run(x, both);
    check_equal(exec_output(x, 0), &a);
    exec_free(x);
}

/* ---- memory ---- */

struct seen {
    int n, values[LONGEST];
    uint64_t sums[LONGEST];
};

static uint64_t sum_of(const struct tensor *t)
{
    struct tensor plain = *t;
    struct arena temporary = ARENA_INIT;
    uint64_t h = 14695981039346656037u;
    plain.layout = LAYOUT_PLAIN;
    plain.data = arena_alloc(&temporary, tensor_bytes(t) + 1);
    tensor_reorder(t, &plain);
    for (size_t i = 0; i < tensor_bytes(t); i++)
        h = (h ^ ((unsigned char *)plain.data)[i]) * 1099511628211u;
    arena_done(&temporary);
    return h;
}

static int watch(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct seen *s = ctx;
    (void)e;
    s->values[s->n] = quantized ? -1 - value : value;
    s->sums[s->n++] = sum_of(t);
    return 0;
}

/* A chain with branches: each node reads one or two of the last few values. */
static struct graph *random_net(int n)
{
    static const char *const ops[] = {"Relu", "Conv", "Add", "Transpose", "Mul", "MaxPool", "Sub"};
    struct build *b = new_build();
    int values[64] = {input(b, "x", DIMS(1, 6, 6, 6))};
    int w = constant(b, "w", DIMS(6, 6, 3, 3)), s = constant(b, "s", DIMS(1, 6, 1, 1));
    for (int i = 1; i <= n; i++) {
        const char *name = arena_printf(&arena, "v%d", i);
        int x = values[i - 1 - below(i < 4 ? i : 4)], y = values[below(i)], at;
        const char *op = ops[below(7)];
        if (!strcmp(op, "Relu") || !strcmp(op, "Transpose") || !strcmp(op, "MaxPool"))
            at = node(b, op, name, IN(x));
        else if (!strcmp(op, "Conv"))
            at = node(b, op, name, IN(x, w));
        else
            at = node(b, op, name, IN(x, below(3) ? y : s));
        if (!strcmp(op, "Conv"))
            build_attr_ints(b, at, "pads", (int64_t[]){1, 1, 1, 1}, 4);
        if (!strcmp(op, "Transpose"))
            build_attr_ints(b, at, "perm", (int64_t[]){0, 2, 3, 1}, 4);
        if (!strcmp(op, "MaxPool")) {
            build_attr_ints(b, at, "kernel_shape", (int64_t[]){3, 3}, 2);
            build_attr_ints(b, at, "pads", (int64_t[]){1, 1, 1, 1}, 4);
        }
        values[i] = build_value(b, name);
        if (below(6) == 0 || i == n)
            build_output(b, values[i]);
    }
    return frozen(b);
}

/* The same values come by when every one of them has memory of its own, and outputs last. */
void test_exec__shared_memory_changes_no_value_in_random_nets(void)
{
    struct tensor in = random_tensor(4, (int64_t[]){1, 6, 6, 6});
    size_t shared_bytes = 0, all_bytes = 0;
    for (int i = 0; i < 150; i++) {
        struct graph *g = random_net(3 + (int)below(20));
        struct seen *shared = calloc(2, sizeof *shared), *apart = shared + 1;
        struct err e = ERR_INIT;
        struct exec_size size;
        int *keep = arena_array(&arena, (size_t)g->n_values, sizeof *keep);
        for (int v = 0; v < g->n_values; v++)
            keep[v] = v;
        struct exec *x = bound(g, &in, NULL);
        struct exec *all = bound(g, &in, &(struct exec_opts){.keep = keep, .n_keep = g->n_values});
        CHECK_OK(exec_run(x, &in, watch, shared, &e), e);
        CHECK_OK(exec_run(all, &in, watch, apart, &e), e);
        CHECK_INT(shared->n, g->n_nodes + 1);
        CHECK_INT(apart->n, shared->n);
        CHECK(!memcmp(shared->values, apart->values, (size_t)shared->n * sizeof(int)));
        CHECK(!memcmp(shared->sums, apart->sums, (size_t)shared->n * sizeof(uint64_t)));
        for (int o = 0; o < g->n_outputs; o++)
            check_equal(exec_output(x, o), exec_output(all, o));
        for (int k = 0; k < apart->n; k++)
            CHECK(sum_of(exec_value(all, apart->values[k])) == apart->sums[k]);
        exec_size(x, &size);
        shared_bytes += size.slab_bytes;
        exec_size(all, &size);
        all_bytes += size.slab_bytes;
        exec_free(x);
        exec_free(all);
        free(shared);
    }
    CHECK(shared_bytes < all_bytes * 3 / 4);
}

void test_exec__a_memory_limit_is_refused_with_the_bytes(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7});
    struct exec_size size;
    struct exec *x = bound(g, &in, NULL);
    struct err e = ERR_INIT;
    char bytes[32];
    exec_size(x, &size);
    exec_free(x);
    CHECK_INT(exec_new(g, &in, &(struct exec_opts){.memory_max = size.slab_bytes}, &x, &e), -1);
    CHECK_INT(e.code, ERR_MEMORY_LIMIT);
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)size.slab_bytes);
    CHECK(strstr(e.detail, bytes) != NULL);
}

void test_exec__packed_weights_are_shared_where_both_plans_agree(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7});
    struct plan *p = plan_of(g);
    calibrate(p, "w", "c", 1, Q_INT8, 1.5f);
    struct plan *q = plan_copy(p, &arena);
    p->calibs[calibrate(p, "dw", "d", 1, Q_INT8, 1.25f)].kind = CALIB_WEIGHT;
    const struct backend *b;
    for (int i = 0; (b = backend_at(i)); i++) {
        struct exec_size alone_size, size;
        struct exec *first = bound(g, &in, &(struct exec_opts){.backend = b, .plan = q});
        struct exec *alone = bound(g, &in, &(struct exec_opts){.backend = b, .plan = p});
        struct exec *x =
            bound(g, &in, &(struct exec_opts){.backend = b, .plan = p, .share = first});
        run(first, &in);
        run(alone, &in);
        run(x, &in);
        check_equal(exec_output(x, 0), exec_output(alone, 0));
        check_equal(exec_output(x, 1), exec_output(alone, 1));
        CHECK(memcmp(exec_output(x, 0)->data, exec_output(first, 0)->data, 8) != 0);
        exec_size(alone, &alone_size);
        exec_size(x, &size);
        CHECK(size.packed_bytes < alone_size.packed_bytes);
        CHECK(size.shared_bytes >= 8 * 5 * 9 * 2 * sizeof(float)); /* w quantized, and packed */
        exec_free(x);
        exec_free(alone);
        exec_free(first);
    }
}

/* ---- shapes from data ---- */

void test_exec__shapes_that_come_from_data_are_found_in_the_run(void)
{
    struct build *b = new_build();
    int x = input(b, "x", DIMS(1, 4, 6, 6)), shape = build_value(b, "shape");
    struct err e = ERR_INIT;
    CHECK_OK(tensor_set(&b->values[shape].type, DT_I64, 1, (int64_t[]){4}, &e), e);
    build_input(b, shape);
    int w = constant(b, "w", DIMS(3, 4, 3, 3)), w2 = constant(b, "w2", DIMS(2, 3, 1, 1));
    node(b, "Reshape", "r", IN(x, shape));
    node(b, "Conv", "c", IN(build_value(b, "r"), w));
    node(b, "Relu", "u", IN(build_value(b, "c")));
    node(b, "Conv", "y", IN(build_value(b, "u"), w2));
    build_output(b, build_value(b, "y"));
    struct graph *g = frozen(b);
    struct tensor in[2] = {random_tensor(4, (int64_t[]){1, 4, 6, 6})};
    static const int64_t shapes[2][4] = {{1, 4, 6, 6}, {1, 4, 4, 9}};
    CHECK_OK(tensor_set(&in[1], DT_I64, 1, (int64_t[]){4}, &e), e);
    struct exec *late = bound(g, in, NULL);
    struct plan *p = plan_of(g);
    calibrate(p, "u", "y", 0, Q_INT8, 1);
    struct exec *quantized = bound(g, in, &(struct exec_opts){.plan = p});
    for (int i = 0; i < 4; i++) {
        in[1].data = (void *)shapes[i % 2];
        run(late, in);
        const struct tensor *y = exec_output(late, 0);
        CHECK_INT(y->rank, 4);
        CHECK_INT(y->dims[2], shapes[i % 2][2] - 2);
        CHECK_INT(y->dims[3], shapes[i % 2][3] - 2);
        run(quantized, in);
        CHECK(tensor_same_shape(y, exec_output(quantized, 0)));
        CHECK(memcmp(y->data, exec_output(quantized, 0)->data, tensor_bytes(y)) != 0);
    }
    exec_free(late);
    exec_free(quantized);
}

void test_exec__what_depends_on_shapes_only_is_folded(void)
{
    struct build *b = new_build();
    int x = input(b, "x", DIMS(2, 3, 4));
    node(b, "Shape", "s", IN(x));
    node(b, "Reshape", "y", IN(x, build_value(b, "s")));
    build_output(b, build_value(b, "y"));
    build_output(b, build_value(b, "s"));
    struct graph *g = frozen(b);
    struct tensor in = random_tensor(3, (int64_t[]){2, 3, 4});
    struct exec *e = bound(g, &in, NULL);
    run(e, &in);
    CHECK(tensor_same_shape(exec_output(e, 0), &in));
    CHECK(!memcmp(exec_output(e, 0)->data, in.data, tensor_bytes(&in)));
    CHECK(exec_output(e, 0)->data != in.data);
    CHECK_INT(tensor_int(exec_output(e, 1), 2), 4);
    exec_free(e);
}

void test_exec__inputs_that_do_not_fit_are_named(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 8});
    struct exec *x = NULL;
    struct err e = ERR_INIT;
    CHECK_INT(exec_new(g, &in, NULL, &x, &e), -1);
    CHECK_INT(e.code, ERR_BAD_DATA);
    CHECK_STR(e.at, "x");
    CHECK(strstr(e.detail, "float32[1,5,9,8]") != NULL);
}

static int stop(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    int *left = ctx;
    (void)value, (void)quantized, (void)t;
    return --*left ? 0 : err_set(e, ERR_CANCELLED, "", "enough");
}

void test_exec__a_watch_can_stop_the_run(void)
{
    struct graph *g = small_net();
    struct tensor in = random_tensor(4, (int64_t[]){1, 5, 9, 7});
    struct exec *x = bound(g, &in, NULL);
    struct err e = ERR_INIT;
    int left = 3;
    CHECK_INT(exec_run(x, &in, stop, &left, &e), -1);
    CHECK_INT(e.code, ERR_CANCELLED);
    CHECK_INT(left, 0);
    run(x, &in);
    exec_free(x);
}
