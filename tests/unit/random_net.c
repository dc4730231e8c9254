#include "tests/unit/random_net.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "tests/test.h"
#include "tests/unit/mini.h"
#include "worker/exec/exec.h"
#include "worker/quant/place.h"

enum { VALUES_MAX = 64, SIDE = 8 };

static uint64_t seed;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static float around_zero(void)
{
    return (float)(below(20001) - 10000) / 10000;
}

struct writing {
    struct buf text;
    int n;                    /* values so far; v0 is the input */
    int channels[VALUES_MAX]; /* of v<i>, all [1, C, 8, 8] */
    bool read[VALUES_MAX];
};

static int pick(struct writing *w)
{
    int i = below(3) ? w->n - 1 - below(w->n < 4 ? w->n : 4) : below(w->n);
    w->read[i] = true;
    return i;
}

/* One with as many channels as v<a>, or itself. */
static int pick_like(struct writing *w, int a)
{
    for (int tries = 0; tries < 8; tries++) {
        int b = below(w->n);
        if (w->channels[b] == w->channels[a]) {
            w->read[b] = true;
            return b;
        }
    }
    return a;
}

static void constant(struct writing *w, const char *name, const char *dims, int count)
{
    buf_addf(&w->text, "const %s%d %s", name, w->n, dims);
    for (int i = 0; i < count && i < 24; i++)
        buf_addf(&w->text, " %.4f", (double)around_zero());
    buf_adds(&w->text, "\n");
}

static void put_conv(struct writing *w)
{
    int a = pick(w), in = w->channels[a], out = below(2) ? 4 : 8, side = below(2) ? 3 : 1;
    char dims[64];
    snprintf(dims, sizeof dims, "%d,%d,%d,%d", out, in, side, side);
    constant(w, "w", dims, out * in * side * side);
    buf_addf(&w->text, "n%d Conv v%d,w%d -> v%d pads=[%d,%d,%d,%d]\n", w->n, a, w->n, w->n,
             side / 2, side / 2, side / 2, side / 2);
    w->channels[w->n] = out;
}

static void put_depthwise(struct writing *w)
{
    int a = pick(w), c = w->channels[a];
    char dims[64];
    snprintf(dims, sizeof dims, "%d,1,3,3", c);
    constant(w, "w", dims, c * 9);
    buf_addf(&w->text, "n%d Conv v%d,w%d -> v%d pads=[1,1,1,1] group=%d\n", w->n, a, w->n, w->n, c);
    w->channels[w->n] = c;
}

static void put_binary(struct writing *w)
{
    static const char *const ops[] = {"Add", "Mul", "Sub"};
    int a = pick(w), b = pick_like(w, a);
    buf_addf(&w->text, "n%d %s v%d,v%d -> v%d\n", w->n, ops[below(3)], a, b, w->n);
    w->channels[w->n] = w->channels[a];
}

static void put_binary_const(struct writing *w)
{
    int a = pick(w);
    constant(w, "k", "1", 1);
    buf_addf(&w->text, "n%d %s v%d,k%d -> v%d\n", w->n, below(2) ? "Mul" : "Add", a, w->n, w->n);
    w->channels[w->n] = w->channels[a];
}

static void put_concat(struct writing *w)
{
    int a = pick(w), b = pick(w);
    if (w->channels[a] + w->channels[b] > 16) {
        put_binary(w);
        return;
    }
    buf_addf(&w->text, "n%d Concat v%d,v%d -> v%d axis=1\n", w->n, a, b, w->n);
    w->channels[w->n] = w->channels[a] + w->channels[b];
}

static void put_unary(struct writing *w)
{
    static const char *const ops[] = {"Relu", "Sigmoid",
                                      "Tanh", "LeakyRelu",
                                      "Abs",  "Softmax",
                                      "Elu",  "MaxPool:kernel_shape=[3,3] pads=[1,1,1,1]",
                                      "Exp",  "AveragePool:kernel_shape=[3,3] pads=[1,1,1,1]"};
    int a = pick(w);
    char op[80];
    snprintf(op, sizeof op, "%s", ops[below((int)(sizeof ops / sizeof *ops))]);
    char *rest = strchr(op, ':');
    if (rest)
        *rest++ = '\0';
    if (!strcmp(op, "Exp")) /* bounded first */
        buf_addf(&w->text, "s%d Tanh v%d -> t%d\nn%d Exp t%d -> v%d\n", w->n, a, w->n, w->n, w->n,
                 w->n);
    else
        buf_addf(&w->text, "n%d %s v%d -> v%d%s%s\n", w->n, op, a, w->n, rest ? " " : "",
                 rest ? rest : "");
    w->channels[w->n] = w->channels[a];
}

static void put_reshape(struct writing *w)
{
    int a = pick(w), c = w->channels[a], i = w->n;
    buf_addf(&w->text, "ints i%d 3 1 %d 64\nr%d Reshape v%d,i%d -> q%d\n", i, c, i, a, i, i);
    if (below(2))
        buf_addf(&w->text, "x%d Softmax q%d -> y%d axis=-1\n", i, i, i);
    else
        buf_addf(&w->text, "x%d Transpose q%d -> y%d perm=[0,1,2]\n", i, i, i);
    buf_addf(&w->text, "ints j%d 4 1 %d 8 8\nn%d Reshape y%d,j%d -> v%d\n", i, c, i, i, i, i);
    w->channels[i] = c;
}

static void put_matmul(struct writing *w)
{
    int a = pick(w), i = w->n;
    if (below(2)) {
        constant(w, "w", "8,8", 64);
        buf_addf(&w->text, "n%d MatMul v%d,w%d -> v%d\n", i, a, i, i);
    } else {
        buf_addf(&w->text, "n%d MatMul v%d,v%d -> v%d\n", i, a, pick_like(w, a), i);
    }
    w->channels[i] = w->channels[a];
}

static void put_gate(struct writing *w)
{
    int a = pick(w), i = w->n;
    buf_addf(&w->text, "g%d %s v%d -> g%d\nh%d Sigmoid g%d -> h%d\nn%d Mul v%d,h%d -> v%d\n", i,
             below(2) ? "GlobalAveragePool" : "GlobalMaxPool", a, i, i, i, i, i, a, i, i);
    w->channels[i] = w->channels[a];
}

static void put_transposed(struct writing *w)
{
    int a = pick(w), i = w->n;
    buf_addf(&w->text,
             "a%d Transpose v%d -> b%d perm=[0,1,3,2]\nc%d Relu b%d -> d%d\n"
             "n%d Transpose d%d -> v%d perm=[0,1,3,2]\n",
             i, a, i, i, i, i, i, i, i);
    w->channels[i] = w->channels[a];
}

static void write_graph(struct writing *w)
{
    static void (*const put[])(struct writing *) = {
        put_conv,  put_conv,    put_depthwise, put_binary, put_binary_const, put_concat,
        put_unary, put_reshape, put_matmul,    put_gate,   put_transposed,   put_unary};
    int n = 5 + below(20);
    buf_adds(&w->text, "input v0 1,4,8,8\n");
    w->n = 1;
    w->channels[0] = 4;
    for (; w->n < n; w->n++)
        put[w->n == 1 ? 0 : below((int)(sizeof put / sizeof *put))](w);
    for (int i = 1; i < w->n; i++)
        if (!w->read[i] || below(12) == 0)
            buf_addf(&w->text, "output v%d\n", i);
}

/* ---- thresholds ---- */

struct seen {
    const struct graph *g;
    float *largest; /* per value */
};

static float largest_of(const struct tensor *t)
{
    float most = 0;
    for (int64_t i = 0; t->type == DT_F32 && i < tensor_count(t); i++)
        most = fmaxf(most, fabsf(((const float *)t->data)[i]));
    return most;
}

static int see(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct seen *s = ctx;
    (void)quantized;
    (void)e;
    s->largest[value] = largest_of(t);
    return 0;
}

static void set_thresholds(struct calib *k, const struct graph *g, const struct seen *s,
                           struct arena *a)
{
    static const enum qtype types[] = {Q_INT8,  Q_INT8,    Q_INT8,   Q_INT8,
                                       Q_INT16, Q_FLOAT16, Q_FLOAT32};
    const struct value *v = &g->values[k->value];
    float most = v->type.data ? largest_of(&v->type) : s->largest[k->value];
    k->n_thresholds = k->axis >= 0 ? (int)v->type.dims[k->axis] : 1;
    float *t = arena_array(a, (size_t)k->n_thresholds + 1, sizeof *t);
    for (int i = 0; i < k->n_thresholds; i++)
        t[i] = (most > 0 ? most : 1) * (float)(60 + below(50)) / 100;
    k->qtype = types[below((int)(sizeof types / sizeof *types))];
    if (k->kind == CALIB_FEATURE && below(5) == 0) {
        k->affine = true;
        k->n_thresholds = 2;
        t = arena_array(a, 2, sizeof *t);
        t[0] = -most / 3 - 0.01f;
        t[1] = most + 0.01f;
        k->qtype = Q_INT8;
    }
    k->thresholds = t;
}

struct tensor random_input(unsigned number, struct arena *a)
{
    struct tensor t = {.type = DT_F32, .rank = 4, .dims = {1, 4, SIDE, SIDE}};
    float *v = arena_alloc(a, tensor_bytes(&t));
    seed = number * 77777u + 5;
    for (int64_t i = 0; i < tensor_count(&t); i++)
        v[i] = 2 * around_zero();
    t.data = v;
    return t;
}

struct plan *random_plan(const struct graph *g, const struct tensor *inputs, struct arena *a)
{
    struct exec *x;
    struct err e = ERR_INIT;
    struct seen s = {.g = g};
    s.largest = arena_array(a, (size_t)g->n_values + 1, sizeof *s.largest);
    CHECK_OK(exec_new(g, inputs, NULL, &x, &e), e);
    CHECK_OK(exec_run(x, inputs, see, &s, &e), e);
    exec_free(x);
    struct plan *p = place(g, NULL, a);
    for (int k = 0; k < p->n_calibs; k++)
        set_thresholds(&p->calibs[k], g, &s, a);
    return p;
}

void random_net(unsigned number, struct arena *a, struct random_net *ret)
{
    struct writing w = {0};
    ret->input = random_input(number, a);
    seed = number * 2654435761u + 17;
    buf_init(&w.text, 1 << 20);
    write_graph(&w);
    ret->graph = mini_graph(a, w.text.data);
    buf_done(&w.text);
    ret->plan = random_plan(ret->graph, &ret->input, a);
}
