/*
 * Attention and RotaryEmbedding (ONNX opset 23). Both take heads as a dim of their own,
 * [batch, heads, length, size], or side by side in the last one, [batch, length, heads * size].
 * Attention's scores are computed in double, one query at a time: for query i of head h
 *     softmax(scale * Q K^T, masked and capped) V
 * where K and V begin with what the past brings, and a query head shares the key head at its place.
 */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

enum { A_Q, A_K, A_V, A_MASK, A_PAST_K, A_PAST_V, A_LENGTHS };
enum { Y_OUT, Y_KEY, Y_VALUE, Y_SCORES };
enum stage { SCORES_RAW, SCORES_FIRST, SCORES_SECOND, SCORES_SOFTMAX }; /* what output 3 shows */

struct attention_attr {
    int64_t is_causal, q_num_heads, kv_num_heads, qk_matmul_output_mode, softmax_precision;
    float scale, softcap; /* scale NaN: 1 / sqrt(size) */
};

static const struct tensor *optional(const struct op_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static void put(struct tensor *t, int64_t i, int64_t n, const double *v)
{
    row_storer(t->type)(n, v, (char *)t->data + (size_t)i * dtype_size(t->type), 1);
}

static void get(const struct tensor *t, int64_t i, int64_t n, double *v)
{
    row_loader(t->type)(n, (const char *)t->data + (size_t)i * dtype_size(t->type), 1, v);
}

/* ---- heads ---- */

struct heads {
    const struct tensor *t;
    int64_t batch, n, length, size;
    bool side_by_side;
};

static int heads_of(const struct op_ctx *c, int i, int64_t n, struct heads *ret, struct err *e)
{
    const struct tensor *t = c->in[i];
    if (t->rank == 4) {
        *ret = (struct heads){t, t->dims[0], t->dims[1], t->dims[2], t->dims[3], false};
        if (n > 0 && n != t->dims[1])
            return op_bad(c, i, e, "it does not have %lld heads", (long long)n);
        return 0;
    }
    if (t->rank != 3 || n < 1 || t->dims[2] % n)
        return op_bad(c, i, e, "it must have 4 dims, or 3 and a number of heads");
    *ret = (struct heads){t, t->dims[0], n, t->dims[1], t->dims[2] / n, true};
    return 0;
}

/* Where row j of head h of sample b begins. */
static int64_t row_at(const struct heads *x, int64_t b, int64_t h, int64_t j)
{
    return (x->side_by_side ? (b * x->length + j) * x->n + h : (b * x->n + h) * x->length + j) *
           x->size;
}

/* ---- Attention: shapes ---- */

struct attention {
    const struct attention_attr *a;
    struct heads q, k, v, y;
    const struct tensor *mask, *lengths;
    int64_t past, total; /* rows of K and V before the new ones, and altogether */
    double scale;
    bool caps_first;             /* since opset 24 */
    double *key, *value;         /* [total, size] of one head */
    double *query, *sum, *score; /* size, v's size, total */
};

static int past_of(const struct op_ctx *c, struct attention *m, struct err *e)
{
    const struct tensor *k = optional(c, A_PAST_K), *v = optional(c, A_PAST_V);
    if (!k != !v)
        return op_bad(c, A_PAST_K, e, "past keys and past values come together");
    m->past = k && k->rank == 4 ? k->dims[2] : 0;
    m->total = m->past + m->k.length;
    const struct heads *new[] = {&m->k, &m->v};
    for (int i = 0; k && i < 2; i++) {
        const struct tensor *t = c->in[A_PAST_K + i];
        if (t->type != new[i]->t->type || t->rank != 4 || t->dims[0] != new[i]->batch ||
            t->dims[1] != new[i]->n || t->dims[2] != m->past || t->dims[3] != new[i]->size)
            return op_bad(c, A_PAST_K + i, e, "it does not fit the new keys and values");
    }
    return 0;
}

/* The mask broadcasts to [batch, heads, length, total]. Since opset 24 what it lacks at the end of
 * its last dim is masked. */
static int mask_of(const struct op_ctx *c, struct attention *m, struct err *e)
{
    const struct tensor *t = m->mask = optional(c, A_MASK);
    const int64_t all[4] = {m->q.batch, m->q.n, m->q.length, m->total};
    if (!t)
        return 0;
    if (!dtype_is_float(t->type) && t->type != DT_BOOL)
        return op_bad(c, A_MASK, e, "a mask is bool or float");
    bool fits = t->rank >= 1 && t->rank <= 4;
    for (int d = 0; fits && d < t->rank; d++) {
        int64_t wanted = all[4 - t->rank + d];
        bool is_shorter = m->caps_first && d == t->rank - 1 && t->dims[d] <= wanted;
        fits = t->dims[d] == wanted || t->dims[d] == 1 || is_shorter;
    }
    return fits ? 0 : op_bad(c, A_MASK, e, "it does not fit the scores");
}

static int attention_of(const struct op_ctx *c, struct attention *m, struct err *e)
{
    const struct attention_attr *a = c->attr;
    *m = (struct attention){.a = a, .caps_first = c->node->opset >= 24};
    if (heads_of(c, A_Q, a->q_num_heads, &m->q, e) || heads_of(c, A_K, a->kv_num_heads, &m->k, e) ||
        heads_of(c, A_V, a->kv_num_heads, &m->v, e))
        return -1;
    if (m->q.batch != m->k.batch || m->k.batch != m->v.batch || m->q.size != m->k.size ||
        m->k.length != m->v.length || m->k.n != m->v.n || m->q.side_by_side != m->k.side_by_side ||
        m->q.side_by_side != m->v.side_by_side)
        return op_bad(c, A_K, e, "queries, keys and values do not fit each other");
    if (m->k.n < 1 || m->q.n % m->k.n)
        return op_bad(c, A_K, e, "%lld query heads cannot share %lld", (long long)m->q.n,
                      (long long)m->k.n);
    if (a->qk_matmul_output_mode < SCORES_RAW || a->qk_matmul_output_mode > SCORES_SOFTMAX)
        return err_set(e, ERR_BAD_MODEL, NULL, "qk_matmul_output_mode is %lld.",
                       (long long)a->qk_matmul_output_mode);
    m->lengths = optional(c, A_LENGTHS);
    if (m->lengths &&
        (m->lengths->type != DT_I64 || m->lengths->rank != 1 || m->lengths->dims[0] != m->q.batch))
        return op_bad(c, A_LENGTHS, e, "there must be one int64 length a sample");
    if (past_of(c, m, e) || mask_of(c, m, e))
        return -1;
    m->scale = isnan(a->scale) ? 1 / sqrt((double)m->q.size) : (double)a->scale;
    m->y = (struct heads){NULL, m->q.batch, m->q.n, m->q.length, m->v.size, m->q.side_by_side};
    return 0;
}

static int attention_shape(struct op_ctx *c, struct err *e)
{
    struct attention m;
    if (op_need(c, 3, e) || op_takes_float(c, A_Q, e) || op_takes_float(c, A_V, e) ||
        op_same_type(c, A_Q, A_K, e) || attention_of(c, &m, e))
        return -1;
    enum dtype t = c->in[A_Q]->type, tv = c->in[A_V]->type;
    int64_t flat[3] = {m.y.batch, m.y.length, m.y.n * m.y.size};
    int64_t whole[4] = {m.y.batch, m.y.n, m.y.length, m.y.size};
    int64_t key[4] = {m.k.batch, m.k.n, m.total, m.k.size};
    int64_t value[4] = {m.v.batch, m.v.n, m.total, m.v.size};
    int64_t scores[4] = {m.y.batch, m.y.n, m.y.length, m.total};
    return op_out(c, Y_OUT, t, m.y.side_by_side ? 3 : 4, m.y.side_by_side ? flat : whole, e) ||
                   op_out(c, Y_KEY, t, 4, key, e) || op_out(c, Y_VALUE, tv, 4, value, e) ||
                   op_out(c, Y_SCORES, t, 4, scores, e)
               ? -1
               : 0;
}

static int attention_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct attention m;
    *ret_prep = NULL;
    if (attention_of(c, &m, e))
        return -1;
    c->scratch_bytes = (size_t)((m.total + 1) * (m.k.size + m.v.size) + m.total) * sizeof(double);
    return 0;
}

/* ---- Attention: numbers ---- */

/* All rows of a key or value head: the past, then the new ones; kept in `present` when wanted. */
static void load_head(const struct heads *x, const struct tensor *past, struct tensor *present,
                      int64_t before, int64_t b, int64_t h, double *ret)
{
    int64_t total = before + x->length, head = b * x->n + h;
    if (past)
        get(past, head * before * x->size, before * x->size, ret);
    for (int64_t j = 0; j < x->length; j++)
        get(x->t, row_at(x, b, h, j), x->size, ret + (before + j) * x->size);
    if (present)
        put(present, head * total * x->size, total * x->size, ret);
}

/* What the mask adds to score j of query i: 0 or -inf for bools. */
static double mask_at(const struct attention *m, int64_t b, int64_t h, int64_t i, int64_t j)
{
    const struct tensor *t = m->mask;
    const int64_t at[4] = {b, h, i, j};
    int64_t index = 0;
    if (!t)
        return 0;
    bool repeats = t->dims[t->rank - 1] == 1 && !m->caps_first;
    if (j >= t->dims[t->rank - 1] && !repeats)
        return -INFINITY;
    for (int d = 0; d < t->rank; d++)
        index = index * t->dims[d] + (t->dims[d] == 1 ? 0 : at[4 - t->rank + d]);
    double v = tensor_num(t, index);
    return t->type != DT_BOOL ? v : v != 0 ? 0 : -INFINITY;
}

static double hidden(const struct attention *m, int64_t b, int64_t i, int64_t j)
{
    int64_t length = m->lengths ? tensor_int(m->lengths, b) : m->total, first = m->past;
    if (m->lengths && m->past == 0)
        first = length - m->q.length;
    bool is_hidden = j >= length || (m->a->is_causal && j - i > first);
    return is_hidden ? -INFINITY : 0;
}

static void add_mask(const struct attention *m, int64_t b, int64_t h, int64_t i)
{
    for (int64_t j = 0; j < m->total; j++)
        m->score[j] += mask_at(m, b, h, i, j) + hidden(m, b, i, j);
}

static void cap(const struct attention *m)
{
    double limit = (double)m->a->softcap;
    for (int64_t j = 0; limit > 0 && j < m->total; j++)
        m->score[j] = limit * tanh(m->score[j] / limit);
}

static void softmax(double *v, int64_t n)
{
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++)
        most = fmax(most, v[j]);
    for (int64_t j = 0; j < n; j++)
        sum += v[j] = exp(v[j] - most);
    for (int64_t j = 0; j < n; j++)
        v[j] /= sum;
}

static void show(const struct op_ctx *c, const struct attention *m, enum stage now, int64_t row)
{
    if (c->n_out > Y_SCORES && c->out[Y_SCORES] && m->a->qk_matmul_output_mode == (int64_t)now)
        put(c->out[Y_SCORES], row * m->total, m->total, m->score);
}

/* One query: its scores, and the mean of the values by them. */
static void attend(const struct op_ctx *c, const struct attention *m, int64_t b, int64_t h,
                   int64_t i)
{
    int64_t row = (b * m->q.n + h) * m->q.length + i, n = m->q.size, nv = m->v.size;
    get(m->q.t, row_at(&m->q, b, h, i), n, m->query);
    for (int64_t j = 0; j < m->total; j++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += m->query[k] * m->key[j * n + k];
        m->score[j] = sum * m->scale;
    }
    show(c, m, SCORES_RAW, row);
    for (int step = 0; step < 2; step++) {
        if ((step == 0) == m->caps_first)
            cap(m);
        else
            add_mask(m, b, h, i);
        show(c, m, step == 0 ? SCORES_FIRST : SCORES_SECOND, row);
    }
    softmax(m->score, m->total);
    show(c, m, SCORES_SOFTMAX, row);
    memset(m->sum, 0, (size_t)nv * sizeof *m->sum);
    for (int64_t j = 0; j < m->total; j++)
        for (int64_t k = 0; k < nv; k++)
            m->sum[k] += m->score[j] * m->value[j * nv + k];
    put(c->out[Y_OUT], row_at(&m->y, b, h, i), nv, m->sum);
}

static struct tensor *wanted(const struct op_ctx *c, int i)
{
    return i < c->n_out ? c->out[i] : NULL;
}

static int attention_run(const struct op_ctx *c, struct err *e)
{
    struct attention m;
    if (attention_of(c, &m, e))
        return -1;
    m.key = c->scratch;
    m.value = m.key + m.total * m.k.size;
    m.query = m.value + m.total * m.v.size;
    m.sum = m.query + m.q.size;
    m.score = m.sum + m.v.size;
    int64_t share = m.q.n / m.k.n;
    for (int64_t g = 0; g < m.k.batch * m.k.n; g++) {
        int64_t b = g / m.k.n, kv = g % m.k.n;
        load_head(&m.k, optional(c, A_PAST_K), wanted(c, Y_KEY), m.past, b, kv, m.key);
        load_head(&m.v, optional(c, A_PAST_V), wanted(c, Y_VALUE), m.past, b, kv, m.value);
        for (int64_t h = kv * share; h < (kv + 1) * share; h++)
            for (int64_t i = 0; i < m.q.length; i++)
                attend(c, &m, b, h, i);
    }
    return 0;
}

/* ---- RotaryEmbedding: X, cos, sin [positions, size / 2], position of each row ---- */

enum { R_X, R_COS, R_SIN, R_POSITION };

struct rotary_attr {
    int64_t interleaved, num_heads, rotary_embedding_dim;
};

static int rotary_of(const struct op_ctx *c, struct heads *x, int64_t *ret_half, struct err *e)
{
    const struct rotary_attr *a = c->attr;
    const struct tensor *position = optional(c, R_POSITION);
    if (heads_of(c, R_X, a->num_heads, x, e))
        return -1;
    int64_t size = a->rotary_embedding_dim ? a->rotary_embedding_dim : x->size;
    if (size < 0 || size > x->size || size % 2)
        return op_bad(c, R_X, e, "%lld of %lld numbers cannot be turned", (long long)size,
                      (long long)x->size);
    *ret_half = size / 2;
    for (int i = R_COS; i <= R_SIN; i++) {
        const struct tensor *t = c->in[i];
        bool fits = position ? t->rank == 2
                             : t->rank == 3 && t->dims[0] == x->batch && t->dims[1] == x->length;
        if (!fits || t->dims[t->rank - 1] != size / 2 || !tensor_same_shape(t, c->in[R_COS]))
            return op_bad(c, i, e, "it does not fit the data");
    }
    if (position && (position->type != DT_I64 || position->rank != 2 ||
                     position->dims[0] != x->batch || position->dims[1] != x->length))
        return op_bad(c, R_POSITION, e, "there must be one int64 position a row");
    return 0;
}

static int rotary_shape(struct op_ctx *c, struct err *e)
{
    struct heads x;
    int64_t half_size;
    if (op_need(c, 3, e) || op_takes_float(c, R_X, e) || op_same_type(c, R_X, R_SIN, e) ||
        rotary_of(c, &x, &half_size, e))
        return -1;
    return op_shape_same(c, e);
}

static int rotary_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct heads x;
    int64_t half_size;
    *ret_prep = NULL;
    if (rotary_of(c, &x, &half_size, e))
        return -1;
    c->scratch_bytes = (size_t)(x.size + 2 * half_size) * sizeof(double);
    return 0;
}

/* Pairs are (k, k + half), or neighbours. */
static void turn(double *v, const double *cosine, const double *sine, int64_t half_size,
                 bool interleaved)
{
    for (int64_t k = 0; k < half_size; k++) {
        double *re = v + (interleaved ? 2 * k : k), *im = re + (interleaved ? 1 : half_size);
        double x = *re, y = *im;
        *re = cosine[k] * x - sine[k] * y;
        *im = sine[k] * x + cosine[k] * y;
    }
}

static int rotary_run(const struct op_ctx *c, struct err *e)
{
    const struct rotary_attr *a = c->attr;
    const struct tensor *position = optional(c, R_POSITION);
    struct heads x;
    int64_t n;
    if (rotary_of(c, &x, &n, e))
        return -1;
    double *row = c->scratch, *cosine = row + x.size, *sine = cosine + n;
    for (int64_t g = 0; g < x.batch * x.length; g++) {
        int64_t at = position ? tensor_int(position, g) : g;
        if (at < 0 || (position && at >= c->in[R_COS]->dims[0]))
            return op_bad(c, R_POSITION, e, "there is no position %lld", (long long)at);
        get(c->in[R_COS], at * n, n, cosine);
        get(c->in[R_SIN], at * n, n, sine);
        for (int64_t h = 0; h < x.n; h++) {
            int64_t first = row_at(&x, g / x.length, h, g % x.length);
            get(x.t, first, x.size, row);
            turn(row, cosine, sine, n, a->interleaved != 0);
            put(c->out[0], first, x.size, row);
        }
    }
    return 0;
}

/* ---- the rows ---- */

#define A(kind, field, ...) ATTR(kind, attention_attr, field, __VA_ARGS__)
static const struct attr_def attention_attrs[] = {
    A(INT, is_causal),         A(INT, q_num_heads),
    A(INT, kv_num_heads),      A(INT, qk_matmul_output_mode),
    A(INT, softmax_precision), A(FLOAT, scale, .number = NAN),
    A(FLOAT, softcap),         {0}};
static const struct attr_def rotary_attrs[] = {ATTR(INT, rotary_attr, interleaved),
                                               ATTR(INT, rotary_attr, num_heads),
                                               ATTR(INT, rotary_attr, rotary_embedding_dim),
                                               {0}};
#define ATTENTION(from, to, ins)                                                                   \
    {                                                                                              \
        "Attention", ONNX, .since = from, .until = to, .min_in = 3, .max_in = ins, .max_out = 4,   \
                           .traits = T_HEAVY, .attrs = attention_attrs,                            \
                           .attr_size = sizeof(struct attention_attr), .shape = attention_shape,   \
                           .prepare = attention_prepare, .run = attention_run,                     \
                           .types = TYPES_FLOAT, .note = "softmax in double"                       \
    }

const struct op ops_attention[] = {ATTENTION(23, 23, 6),
                                   ATTENTION(24, 0, 7),
                                   {"RotaryEmbedding", ONNX, .since = 23, .min_in = 3, .max_in = 4,
                                    .attrs = rotary_attrs, .attr_size = sizeof(struct rotary_attr),
                                    .shape = rotary_shape, .prepare = rotary_prepare,
                                    .run = rotary_run, .types = TYPES_FLOAT},
                                   {0}};
