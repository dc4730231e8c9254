#include "tests/ops/run_op.h"

#include "worker/exec/backend.h"

#include <math.h>
#include <string.h>

static struct arena memory;

static int rank_of(const int64_t *dims)
{
    int n = 0;
    while (dims[n] != -1)
        n++;
    return n;
}

/* Bytes with nothing behind them, so that a sanitized run sees a step too far. */
static void *exact_bytes(size_t n)
{
    void **keep = arena_alloc(&memory, sizeof *keep);
    *keep = xcalloc(1, n ? n : 1);
    return *keep;
}

struct tensor *tensor_of(enum dtype t, const void *data, const int64_t *dims)
{
    struct tensor *ret = arena_alloc(&memory, sizeof *ret);
    struct err e = ERR_INIT;
    CHECK_OK(tensor_set(ret, t, rank_of(dims), dims, &e), e);
    ret->data = exact_bytes(tensor_bytes(ret));
    if (data)
        memcpy(ret->data, data, tensor_bytes(ret));
    return ret;
}

struct tensor *tensor_of_floats(size_t n, const float *v)
{
    return tensor_of(DT_F32, v, DIMS((int64_t)n));
}

struct tensor *tensor_of_ints(size_t n, const int64_t *v)
{
    return tensor_of(DT_I64, v, DIMS((int64_t)n));
}

struct tensor *tensor_shaped(struct tensor *t, const int64_t *dims)
{
    return tensor_of(t->type, t->data, dims);
}

static void set_num(struct tensor *t, int64_t i, double v)
{
    char *p = (char *)t->data + (size_t)i * dtype_size(t->type);
    switch (t->type) {
    case DT_F32:
        *(float *)(void *)p = (float)v;
        break;
    case DT_F64:
        *(double *)(void *)p = v;
        break;
    case DT_I64:
    case DT_U64:
        *(int64_t *)(void *)p = (int64_t)v;
        break;
    case DT_I32:
    case DT_U32:
        *(int32_t *)(void *)p = (int32_t)v;
        break;
    case DT_I16:
    case DT_U16:
        *(int16_t *)(void *)p = (int16_t)v;
        break;
    case DT_BOOL:
        *p = v > 4;
        break;
    default:
        *p = (char)v;
    }
}

struct tensor *tensor_random(enum dtype t, const int64_t *dims, unsigned seed)
{
    struct tensor *ret = tensor_of(t, NULL, dims);
    uint64_t x = seed * 2654435761u + 88172645463325252u;
    for (int64_t i = 0, n = tensor_count(ret); i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        double unit = (double)(x >> 40) / 0x1p24;
        set_num(ret, i, dtype_is_float(t) ? unit * 4 - 2 : (double)(int)(unit * 8));
    }
    return ret;
}

static struct tensor *in_layout(const struct tensor *t, enum layout layout)
{
    struct tensor *ret = arena_alloc(&memory, sizeof *ret);
    *ret = *t;
    ret->layout = t->rank >= 3 ? layout : LAYOUT_PLAIN;
    ret->data = exact_bytes(tensor_bytes(t));
    tensor_reorder(t, ret);
    return ret;
}

struct tensor *tensor_last(const struct tensor *t)
{
    return in_layout(t, LAYOUT_CL);
}

struct tensor *tensor_plain(const struct tensor *t)
{
    return in_layout(t, LAYOUT_PLAIN);
}

/* The layout that the executor would give output i. */
static enum layout out_layout(const struct op_ctx *c, const struct op *op, int i, int rank)
{
    if (rank < 3 || op->layout == L_PLAIN)
        return LAYOUT_PLAIN;
    if (op->layout == L_CL)
        return i ? LAYOUT_PLAIN : LAYOUT_CL;
    for (int k = 0; k < c->n_in; k++)
        if (c->in[k] && c->in[k]->rank == rank)
            return c->in[k]->layout;
    return LAYOUT_PLAIN;
}

static int run_node(struct op_ctx *c, const struct op *op, struct err *e)
{
    int rc = op_shape(op, c, e);
    if (rc)
        return rc;
    for (int i = 0; i < c->n_out; i++) {
        c->out[i]->layout = out_layout(c, op, i, c->out[i]->rank);
        c->out[i]->data = exact_bytes(tensor_bytes(c->out[i]));
        memset(c->out[i]->data, 0x5a, tensor_bytes(c->out[i]));
    }
    if (op->prepare && (rc = op->prepare(c, &c->prep, e)))
        return rc;
    if (c->scratch_bytes)
        c->scratch = arena_alloc(&memory, c->scratch_bytes);
    return op->run(c, e);
}

struct run run_op_list(const char *type, int opset, const struct attr *attrs, int n_out, int n_in,
                       const struct tensor *const *in)
{
    struct run r = {.rc = 0};
    struct tensor *out[RUN_OUTS];
    const char *colon = strchr(type, ':');
    const char *domain = colon ? arena_strndup(&memory, type, (size_t)(colon - type)) : ONNX;
    type = colon ? colon + 1 : type;
    struct node node = {.name = type, .op_type = type, .domain = domain, .opset = opset};
    node.op = op_find(domain, type, opset);
    CHECK(node.op != NULL);
    for (node.attrs = attrs; attrs && attrs[node.n_attrs].name;)
        node.n_attrs++;
    CHECK_OK(op_attrs(node.op, &node, &memory, &r.e), r.e);
    for (int i = 0; i < n_out; i++)
        out[i] = &r.out[i];
    const struct tensor *turned[RUN_INS];
    memcpy(turned, in, (size_t)n_in * sizeof *in);
    for (int i = 0; node.op->layout == L_CL && i < n_in; i++)
        if (in[i])
            turned[i] = i == 0 && in[0]->rank >= 3 ? tensor_last(in[0]) : tensor_plain(in[i]);
    const struct backend *backend = NULL;
    backend_find(NULL, &backend, &r.e);
    struct op_ctx c = {.node = &node,
                       .attr = node.attr,
                       .n_in = n_in,
                       .n_out = n_out,
                       .in = turned,
                       .out = out,
                       .arena = &memory,
                       .backend = backend};
    r.rc = run_node(&c, node.op, &r.e);
    return r;
}

void check_shape(const struct tensor *t, enum dtype type, const int64_t *dims)
{
    struct tensor wanted = {.type = type, .rank = rank_of(dims)};
    char a[TENSOR_TEXT_MAX], b[TENSOR_TEXT_MAX];
    memcpy(wanted.dims, dims, (size_t)wanted.rank * sizeof *dims);
    CHECK_STR(tensor_text(t, a), tensor_text(&wanted, b));
}

void check_floats(const struct tensor *t, const float *v, size_t n, double tol)
{
    CHECK_INT(tensor_count(t), n);
    t = tensor_plain(t);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(tensor_num(t, (int64_t)i), v[i], tol);
}

void check_ints(const struct tensor *t, const int64_t *v, size_t n)
{
    CHECK_INT(tensor_count(t), n);
    for (size_t i = 0; i < n; i++)
        CHECK_INT(tensor_int(t, (int64_t)i), v[i]);
}

void check_same(const struct tensor *a, const struct tensor *b, double tol)
{
    char at[TENSOR_TEXT_MAX], bt[TENSOR_TEXT_MAX];
    CHECK_STR(tensor_text(a, at), tensor_text(b, bt));
    const struct tensor *pa = tensor_plain(a), *pb = tensor_plain(b);
    for (int64_t i = 0, n = tensor_count(a); i < n; i++) {
        double x = tensor_num(pa, i), y = tensor_num(pb, i);
        if (!(x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tol))
            FAIL("element %lld of %s: %.9g is not %.9g", (long long)i, at, x, y);
    }
}

void check_layouts(const char *type, int opset, const struct attr *attrs, int n_out, int n_in,
                   const struct tensor *const *in)
{
    const struct tensor *last[RUN_INS];
    for (int i = 0; i < n_in; i++)
        last[i] = in[i] && in[i]->rank >= 3 ? tensor_last(in[i]) : in[i];
    struct run a = run_op_list(type, opset, attrs, n_out, n_in, in);
    struct run b = run_op_list(type, opset, attrs, n_out, n_in, last);
    CHECK_OK(a.rc, a.e);
    CHECK_OK(b.rc, b.e);
    for (int i = 0; i < n_out; i++)
        check_same(&a.out[i], &b.out[i], 1e-5);
}
