/*
 * Gemm and MatMul. With a constant second factor the product is a 1 × 1 convolution over the rows
 * of the first, so that the backend packs the constant once.
 */
#include <string.h>

#include "worker/exec/backend.h"
#include "worker/ops/exact.h"
#include "worker/ops/op.h"

struct gemm_attr {
    float alpha, beta;
    int64_t trans_a, trans_b;
    int64_t broadcast; /* before opset 7; broadcasting is what happens anyway */
};

#define GEMM_ATTRS                                                                                 \
    {.name = "alpha",                                                                              \
     .type = ATTR_FLOAT,                                                                           \
     .offset = offsetof(struct gemm_attr, alpha),                                                  \
     .number = 1},                                                                                 \
        {.name = "beta",                                                                           \
         .type = ATTR_FLOAT,                                                                       \
         .offset = offsetof(struct gemm_attr, beta),                                               \
         .number = 1},                                                                             \
        {.name = "transA", .type = ATTR_INT, .offset = offsetof(struct gemm_attr, trans_a)},       \
    {                                                                                              \
        .name = "transB", .type = ATTR_INT, .offset = offsetof(struct gemm_attr, trans_b)          \
    }
static const struct attr_def gemm_attrs[] = {GEMM_ATTRS, {0}};
static const struct attr_def gemm_old_attrs[] = {
    GEMM_ATTRS,
    {.name = "broadcast", .type = ATTR_INT, .offset = offsetof(struct gemm_attr, broadcast)},
    {0}};

static int misfit(const struct op_ctx *c, struct err *e)
{
    char a[TENSOR_TEXT_MAX], b[TENSOR_TEXT_MAX];
    return err_set(e, ERR_BAD_MODEL, "", "%s and %s cannot be multiplied.",
                   tensor_text(c->in[0], a), tensor_text(c->in[1], b));
}

/* ---- products with a constant: a convolution over `rows` ---- */

struct product {
    const struct backend *backend;
    const void *conv; /* NULL: by backend->gemm */
    bool bias_done;   /* C is in it */
};

/* b: k × n, or n × k when transposed. */
static int prepare_rows(struct op_ctx *c, int64_t rows, int64_t k, int64_t n, bool transposed,
                        float alpha, const float *bias, struct product *ret, struct err *e)
{
    struct arena temporary = ARENA_INIT;
    const float *b = c->in[1]->data;
    struct conv_desc d = {.spatial = 1,
                          .batch = 1,
                          .in_channels = k,
                          .out_channels = n,
                          .groups = 1,
                          .in = {rows},
                          .out = {rows},
                          .kernel = {1},
                          .stride = {1},
                          .dilation = {1}};
    float *weight = arena_try(&temporary, (size_t)(n * k) * sizeof *weight);
    if (!weight)
        return err_set(e, ERR_MEMORY_LIMIT, "", "No memory to pack a matrix.");
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            weight[i * k + j] = alpha * b[transposed ? i * k + j : j * n + i];
    int rc = backend_conv(c->backend, &d, weight, bias, c->arena, &ret->backend, &ret->conv,
                          &c->scratch_bytes, e);
    arena_done(&temporary);
    c->used = ret->backend;
    return rc;
}

/* ---- Gemm ---- */

static void gemm_dims(const struct op_ctx *c, struct gemm_desc *ret)
{
    const struct gemm_attr *a = c->attr;
    const struct tensor *x = c->in[0], *w = c->in[1];
    *ret = (struct gemm_desc){.m = x->dims[a->trans_a ? 1 : 0],
                              .n = w->dims[a->trans_b ? 0 : 1],
                              .k = x->dims[a->trans_a ? 0 : 1],
                              .a_transposed = a->trans_a != 0,
                              .b_transposed = a->trans_b != 0,
                              .alpha = a->alpha};
}

static const struct tensor *addend(const struct op_ctx *c)
{
    const struct gemm_attr *a = c->attr;
    return c->n_in > 2 && a->beta != 0 ? c->in[2] : NULL;
}

static int gemm_shape(struct op_ctx *c, struct err *e)
{
    const struct gemm_attr *a = c->attr;
    struct gemm_desc d;
    if (exact_check(c, true, e))
        return -1;
    if (c->in[0]->rank != 2 || c->in[1]->rank != 2)
        return misfit(c, e);
    gemm_dims(c, &d);
    int64_t other = c->in[1]->dims[a->trans_b ? 1 : 0];
    if (d.k >= 0 && other >= 0 && d.k != other)
        return misfit(c, e);
    int64_t dims[2] = {d.m, d.n};
    const struct tensor *add = c->n_in > 2 ? c->in[2] : NULL;
    for (int i = 0; add && i < add->rank; i++) {
        int64_t has = add->dims[add->rank - 1 - i], want = i < 2 ? dims[1 - i] : 1;
        if (has != 1 && has >= 0 && want >= 0 && has != want) {
            char t[TENSOR_TEXT_MAX];
            return err_set(e, ERR_BAD_MODEL, "", "C %s does not fit the product.",
                           tensor_text(add, t));
        }
    }
    c->out[0]->type = c->in[0]->type;
    c->out[0]->rank = 2;
    memcpy(c->out[0]->dims, dims, sizeof dims);
    return 0;
}

/* beta · C as one number a column, in the arena; NULL if C is not that, or not constant. */
static const float *column_bias(const struct op_ctx *c, int64_t n)
{
    const struct tensor *add = addend(c);
    float beta = ((const struct gemm_attr *)c->attr)->beta;
    if (!add || !add->data || (tensor_count(add) != 1 && tensor_count(add) != n) ||
        (add->rank > 0 && add->dims[add->rank - 1] != tensor_count(add)))
        return NULL;
    float *ret = arena_array(c->arena, (size_t)n, sizeof *ret);
    for (int64_t i = 0; i < n; i++)
        ret[i] = beta * ((const float *)add->data)[tensor_count(add) == 1 ? 0 : i];
    return ret;
}

static int gemm_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    struct product *p = arena_alloc(c->arena, sizeof *p);
    struct gemm_desc d;
    gemm_dims(c, &d);
    *ret = p;
    if (c->in[0]->type != DT_F32)
        return 0;
    p->backend = c->used = c->backend;
    if (!c->in[1]->data || d.a_transposed || !d.m || !d.n || !d.k)
        return 0;
    const float *bias = column_bias(c, d.n);
    p->bias_done = bias != NULL;
    return prepare_rows(c, d.m, d.k, d.n, d.b_transposed, d.alpha, bias, p, e);
}

static void add_broadcast(const struct tensor *add, float beta, void *y, int64_t m, int64_t n)
{
    bool rows = add->rank >= 2 && add->dims[add->rank - 2] == m && m > 1;
    bool columns = add->rank >= 1 && add->dims[add->rank - 1] == n && n > 1;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t from = (rows ? i * (columns ? n : 1) : 0) + (columns ? j : 0), to = i * n + j;
            if (add->type == DT_F32)
                ((float *)y)[to] += beta * ((const float *)add->data)[from];
            else
                exact_add(add->type, beta, add->data, from, y, to);
        }
}

static int gemm_run(const struct op_ctx *c, struct err *e)
{
    const struct product *p = c->prep;
    const struct tensor *add = p->bias_done ? NULL : addend(c);
    struct gemm_desc d;
    gemm_dims(c, &d);
    void *y = c->out[0]->data;
    if (!p->backend) {
        exact_gemm(c->in[0]->type, &d, c->in[0]->data, c->in[1]->data, y);
    } else if (p->conv) {
        if (p->backend->conv_run(p->conv, c->in[0]->data, y, c->scratch, e))
            return -1;
    } else if (!d.k) {
        memset(y, 0, tensor_bytes(c->out[0]));
    } else if (p->backend->gemm(&d, c->in[0]->data, c->in[1]->data, y, e)) {
        return -1;
    }
    if (add)
        add_broadcast(add, ((const struct gemm_attr *)c->attr)->beta, y, d.m, d.n);
    return 0;
}

static int64_t gemm_macs(const struct op_ctx *c)
{
    struct gemm_desc d;
    gemm_dims(c, &d);
    return d.m * d.n * d.k;
}

static int gemm_weight_axis(const struct node *n)
{
    return ((const struct gemm_attr *)n->attr)->trans_b ? 0 : 1;
}

/* ---- MatMul ---- */

/* The shapes with numpy's rules: a vector is a row on the left, a column on the right. */
struct matmul {
    int64_t m, n, k, batch;
    int rank;                                                 /* of the batch dims */
    int64_t dims[TENSOR_RANK_MAX];                            /* their sizes */
    int64_t a_step[TENSOR_RANK_MAX], b_step[TENSOR_RANK_MAX]; /* elements; 0 = broadcast */
};

static void batch_steps(const struct tensor *t, int rank, int64_t matrix, int64_t *ret)
{
    int64_t step = matrix;
    for (int i = rank - 1, j = t->rank - 3; i >= 0; i--, j--) {
        ret[i] = j < 0 || t->dims[j] == 1 ? 0 : step;
        step *= j < 0 ? 1 : t->dims[j];
    }
}

static int matmul_dims(const struct op_ctx *c, struct matmul *ret, struct err *e)
{
    struct tensor a = *c->in[0], b = *c->in[1], batch;
    memset(ret, 0, sizeof *ret);
    if (!a.rank || !b.rank)
        return misfit(c, e);
    ret->m = a.rank == 1 ? 1 : a.dims[a.rank - 2];
    ret->n = b.rank == 1 ? 1 : b.dims[b.rank - 1];
    ret->k = a.dims[a.rank - 1];
    int64_t other = b.dims[b.rank == 1 ? 0 : b.rank - 2];
    if (ret->k >= 0 && other >= 0 && ret->k != other)
        return misfit(c, e);
    if (ret->k < 0)
        ret->k = other;
    a.rank = a.rank > 2 ? a.rank - 2 : 0;
    b.rank = b.rank > 2 ? b.rank - 2 : 0;
    if (op_broadcast((const struct tensor *const[]){&a, &b}, 2, &batch, e))
        return -1;
    ret->rank = batch.rank;
    memcpy(ret->dims, batch.dims, (size_t)batch.rank * sizeof batch.dims[0]);
    ret->batch = 1;
    for (int i = 0; i < batch.rank; i++)
        ret->batch *= batch.dims[i];
    batch_steps(c->in[0], ret->rank, ret->m * ret->k, ret->a_step);
    batch_steps(c->in[1], ret->rank, ret->k * ret->n, ret->b_step);
    return 0;
}

static int matmul_shape(struct op_ctx *c, struct err *e)
{
    struct matmul m;
    struct tensor *y = c->out[0];
    if (exact_check(c, true, e) || matmul_dims(c, &m, e))
        return -1;
    y->type = c->in[0]->type;
    y->rank = m.rank;
    memcpy(y->dims, m.dims, (size_t)m.rank * sizeof m.dims[0]);
    if (c->in[0]->rank > 1)
        y->dims[y->rank++] = m.m;
    if (c->in[1]->rank > 1)
        y->dims[y->rank++] = m.n;
    return 0;
}

struct matmul_prep {
    struct product product;
    struct matmul m;
};

/* A constant matrix that all of the first factor's rows meet. */
static bool one_matrix(const struct op_ctx *c)
{
    const struct tensor *b = c->in[1];
    for (int i = 0; i < b->rank - 2; i++)
        if (b->dims[i] != 1)
            return false;
    return b->data && tensor_count(c->out[0]) && tensor_count(b);
}

static int matmul_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    struct matmul_prep *p = arena_alloc(c->arena, sizeof *p);
    *ret = p;
    if (matmul_dims(c, &p->m, e))
        return -1;
    if (c->in[0]->type != DT_F32)
        return 0;
    p->product.backend = c->used = c->backend;
    if (!one_matrix(c))
        return 0;
    return prepare_rows(c, p->m.batch * p->m.m, p->m.k, p->m.n, false, 1, NULL, &p->product, e);
}

static int matmul_run(const struct op_ctx *c, struct err *e)
{
    const struct matmul_prep *p = c->prep;
    const struct matmul *m = &p->m;
    const char *a = c->in[0]->data, *b = c->in[1]->data;
    char *y = c->out[0]->data;
    enum dtype type = c->in[0]->type;
    int64_t size = (int64_t)dtype_size(type);
    struct gemm_desc d = {.m = m->m, .n = m->n, .k = m->k, .alpha = 1};
    if (p->product.conv)
        return p->product.backend->conv_run(p->product.conv, c->in[0]->data, c->out[0]->data,
                                            c->scratch, e);
    if (!m->k) {
        memset(y, 0, tensor_bytes(c->out[0]));
        return 0;
    }
    for (int64_t i = 0; i < m->batch; i++, y += m->m * m->n * size) {
        int64_t at_a = 0, at_b = 0, rest = i;
        for (int j = m->rank - 1; j >= 0; rest /= m->dims[j--]) {
            at_a += rest % m->dims[j] * m->a_step[j];
            at_b += rest % m->dims[j] * m->b_step[j];
        }
        const void *a_now = a + at_a * size, *b_now = b + at_b * size;
        if (type != DT_F32)
            exact_gemm(type, &d, a_now, b_now, y);
        else if (p->product.backend->gemm(&d, a_now, b_now, (float *)(void *)y, e))
            return -1;
    }
    return 0;
}

static int64_t matmul_macs(const struct op_ctx *c)
{
    const struct tensor *a = c->in[0];
    return tensor_count(c->out[0]) * a->dims[a->rank - 1];
}

#define GEMM_TYPES TYPES_FLOAT | TYPE(I32) | TYPE(U32) | TYPE(I64) | TYPE(U64)
#define GEMM(from, to, table)                                                                      \
    {                                                                                              \
        .type = "Gemm", .domain = ONNX, .since = from, .until = to, .min_in = from < 11 ? 3 : 2,   \
        .max_in = 3, .in = {FEATURE, WEIGHT(PORT_AXIS_BY_OP), BIAS}, .out = {FEATURE},             \
        .traits = T_QUANT | T_CHAIN_HEAD, .layout = L_PLAIN, .attrs = table,                       \
        .attr_size = sizeof(struct gemm_attr), .shape = gemm_shape, .prepare = gemm_prepare,       \
        .run = gemm_run, .types = GEMM_TYPES, .weight_axis = gemm_weight_axis, .macs = gemm_macs,  \
        .note = "float32; plain loops for float64, float16 and 32 and 64 bit integers"             \
    }

const struct op ops_gemm[] = {
    GEMM(1, 6, gemm_old_attrs),
    GEMM(7, 10, gemm_attrs),
    GEMM(11, 0, gemm_attrs),
    {.type = "MatMul",
     .domain = ONNX,
     .since = 1,
     .min_in = 2,
     .max_in = 2,
     .in = {FEATURE, WEIGHT(-1)},
     .out = {FEATURE},
     .traits = T_QUANT,
     .layout = L_PLAIN,
     .shape = matmul_shape,
     .prepare = matmul_prepare,
     .run = matmul_run,
     .macs = matmul_macs,
     .note = "float32; plain loops for float64, float16 and 32 and 64 bit integers",
     .types = GEMM_TYPES},
    {0}};
