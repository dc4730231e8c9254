/*
 * Einsum: every letter is a dim of one walk; an operand has strides 0 in dims that it lacks (and
 * sums of strides where a letter repeats, which is its diagonal), the result 0 in those that are
 * summed over. Products accumulate in double, or in 64 bits for integers.
 */
#include "worker/ops/walk.h"

#include <string.h>

enum { OPERANDS_MAX = WALK_TENSORS - 1, LETTERS = 52 };

struct einsum_attr {
    const char *equation;
};

struct term {
    int n, axis[TENSOR_RANK_MAX]; /* the dim of the walk for each of the operand's */
};

/* The walk's dims: the ellipsis first, then letters in order of their appearance. */
struct einsum {
    int rank, ellipsis; /* dims of the ellipsis: the first ones */
    int64_t dims[WALK_RANK_MAX];
    int letter[LETTERS]; /* dim of a letter, or -1 */
    int count[LETTERS];  /* appearances among the operands */
    struct term out;
};

static int letter_index(char ch)
{
    return ch >= 'a' && ch <= 'z' ? ch - 'a' : ch >= 'A' && ch <= 'Z' ? ch - 'A' + 26 : -1;
}

static int bad_equation(const struct op_ctx *c, struct err *e)
{
    const struct einsum_attr *a = c->attr;
    return err_set(e, ERR_BAD_MODEL, NULL, "The equation \"%.200s\" does not fit the operands.",
                   a->equation);
}

/* Letters of a term up to `,` or `-` or the end; the ellipsis at its place counts `dots` dims. */
static const char *read_term(const char *p, char *letters, int max, int *n, int *dots_at)
{
    *n = 0;
    *dots_at = -1;
    for (; *p && *p != ',' && *p != '-'; p++) {
        if (*p == ' ')
            continue;
        if (!strncmp(p, "...", 3) && *dots_at < 0) {
            *dots_at = *n;
            p += 2;
        } else if (letter_index(*p) >= 0 && *n < max) {
            letters[(*n)++] = *p;
        } else {
            return NULL;
        }
    }
    return p;
}

/* Gives the term's dims their places in the walk. Ellipses align at their ends. */
static int place_term(const struct einsum *s, const char *letters, int n, int dots_at, int dots,
                      struct term *ret)
{
    ret->n = 0;
    for (int i = 0; i <= n; i++) {
        for (int d = 0; i == dots_at && d < dots; d++)
            ret->axis[ret->n++] = s->ellipsis - dots + d;
        if (i < n)
            ret->axis[ret->n++] = s->letter[letter_index(letters[i])];
    }
    return 0;
}

static int join_dim(int64_t *to, int64_t d)
{
    if (*to == 1)
        *to = d;
    return *to == d || d == 1 ? 0 : -1;
}

/* The letters of every term as they stand. */
struct equation {
    char letters[OPERANDS_MAX][TENSOR_RANK_MAX], out[TENSOR_RANK_MAX];
    int n[OPERANDS_MAX], dots_at[OPERANDS_MAX], n_out, out_dots;
};

/* Up to the arrow or the end, which *ret_rest shows. */
static int read_operands(const struct op_ctx *c, struct equation *q, const char **ret_rest)
{
    const struct einsum_attr *a = c->attr;
    const char *p = a->equation;
    for (int i = 0; i < c->n_in; i++, p += *p == ',') {
        p = read_term(p, q->letters[i], TENSOR_RANK_MAX, &q->n[i], &q->dots_at[i]);
        if (!p || (*p == ',') != (i + 1 < c->n_in))
            return -1;
        int dots = c->in[i]->rank - q->n[i];
        if (dots < 0 || (dots > 0 && q->dots_at[i] < 0))
            return -1;
    }
    *ret_rest = p;
    return 0;
}

/* The ellipsis is as long as the longest; then each new letter is a dim. */
static int number_dims(const struct op_ctx *c, const struct equation *q, struct einsum *s)
{
    *s = (struct einsum){.rank = 0};
    memset(s->letter, -1, sizeof s->letter);
    for (int i = 0; i < c->n_in; i++) {
        int dots = c->in[i]->rank - q->n[i];
        s->ellipsis = dots > s->ellipsis ? dots : s->ellipsis;
    }
    s->rank = s->ellipsis;
    for (int i = 0; i < c->n_in; i++)
        for (int k = 0; k < q->n[i]; k++) {
            int l = letter_index(q->letters[i][k]);
            s->count[l]++;
            if (s->letter[l] < 0 && s->rank == WALK_RANK_MAX)
                return -1;
            if (s->letter[l] < 0)
                s->letter[l] = s->rank++;
        }
    return 0;
}

static int place_operands(const struct op_ctx *c, const struct equation *q, struct einsum *s,
                          struct term *terms)
{
    for (int d = 0; d < s->rank; d++)
        s->dims[d] = 1;
    for (int i = 0; i < c->n_in; i++) {
        place_term(s, q->letters[i], q->n[i], q->dots_at[i], c->in[i]->rank - q->n[i], &terms[i]);
        for (int k = 0; k < terms[i].n; k++)
            if (join_dim(&s->dims[terms[i].axis[k]], c->in[i]->dims[k]))
                return -1;
    }
    return 0;
}

/* The result's letters: behind the arrow, or those that appear once, in alphabetical order. */
static int read_result(const char *p, const struct einsum *s, struct equation *q)
{
    q->n_out = 0;
    if (*p == '-') {
        p = p[1] == '>' ? read_term(p + 2, q->out, TENSOR_RANK_MAX, &q->n_out, &q->out_dots) : NULL;
        return p && !*p ? 0 : -1;
    }
    q->out_dots = 0;
    for (char ch = 'A'; ch <= 'z'; ch++)
        if (letter_index(ch) >= 0 && s->count[letter_index(ch)] == 1 && q->n_out < TENSOR_RANK_MAX)
            q->out[q->n_out++] = ch;
    return 0;
}

/* Each of its letters is an operand's, and stands once. */
static int place_result(const struct equation *q, struct einsum *s)
{
    unsigned long long seen = 0;
    for (int k = 0; k < q->n_out; k++) {
        int l = letter_index(q->out[k]);
        if (s->letter[l] < 0 || (seen >> l & 1))
            return -1;
        seen |= 1ull << l;
    }
    int dots = q->out_dots < 0 ? 0 : s->ellipsis;
    return q->n_out + dots > TENSOR_RANK_MAX
               ? -1
               : place_term(s, q->out, q->n_out, q->out_dots, dots, &s->out);
}

/* Reads the equation against the operands' shapes: their terms and the result's. */
static int parse(const struct op_ctx *c, struct einsum *s, struct term *terms, struct err *e)
{
    struct equation q;
    const char *rest;
    if (read_operands(c, &q, &rest) || number_dims(c, &q, s) || place_operands(c, &q, s, terms) ||
        read_result(rest, s, &q) || place_result(&q, s))
        return bad_equation(c, e);
    return 0;
}

/* ---- rows: operands, then the accumulator; arg: how many operands ---- */

#define ROW_OF(dt, sfx, T, A)                                                                      \
    static void sum_##sfx(int64_t n, char *const *p, const int64_t *s, void *arg)                  \
    {                                                                                              \
        int operands = *(const int *)arg;                                                          \
        A *acc = (void *)p[operands];                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            A v = 1;                                                                               \
            for (int k = 0; k < operands; k++)                                                     \
                v *= (A)((const T *)(void *)p[k])[i * s[k]];                                       \
            acc[i * s[operands]] += v;                                                             \
        }                                                                                          \
    }
#define FLOAT_ROW(dt, sfx, T) ROW_OF(dt, sfx, T, double)
#define INT_ROW(dt, sfx, T)   ROW_OF(dt, sfx, T, uint64_t)
DTYPES_FLOAT(FLOAT_ROW)
DTYPES_INT(INT_ROW)
static walk_rows rows = {
#define X(dt, sfx, T) [dt] = sum_##sfx,
    DTYPES_NUMBER(X)
#undef X
};

static int einsum_shape(struct op_ctx *c, struct err *e)
{
    struct einsum s;
    struct term terms[OPERANDS_MAX];
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, c->n_in, e) || op_same_type(c, 0, c->n_in - 1, e) || op_takes(c, 0, rows, e))
        return -1;
    if (c->n_in > OPERANDS_MAX)
        return err_set(e, ERR_LIMIT, NULL, "An Einsum has at most %d operands.", OPERANDS_MAX);
    if (parse(c, &s, terms, e))
        return -1;
    for (int d = 0; d < s.out.n; d++)
        dims[d] = s.dims[s.out.axis[d]];
    return op_out(c, 0, c->in[0]->type, s.out.n, dims, e);
}

static int einsum_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    c->scratch_bytes = 8 * (size_t)tensor_count(c->out[0]);
    *ret_prep = NULL;
    return 0;
}

static int einsum_run(const struct op_ctx *c, struct err *e)
{
    struct einsum s;
    struct term terms[OPERANDS_MAX];
    struct walk w;
    struct tensor *y = c->out[0];
    if (parse(c, &s, terms, e))
        return -1;
    walk_init(&w, s.rank, s.dims);
    for (int i = 0; i <= c->n_in; i++) {
        const struct tensor *t = i < c->n_in ? c->in[i] : y;
        const struct term *term = i < c->n_in ? &terms[i] : &s.out;
        int64_t own[TENSOR_RANK_MAX], strides[WALK_RANK_MAX] = {0};
        dims_strides(t->rank, t->dims, own);
        for (int d = 0; d < t->rank; d++)
            strides[term->axis[d]] += t->dims[d] == 1 ? 0 : own[d];
        walk_add(&w, i < c->n_in ? t->data : c->scratch, i < c->n_in ? dtype_size(t->type) : 8,
                 strides);
    }
    int64_t n = tensor_count(y);
    int operands = c->n_in;
    memset(c->scratch, 0, (size_t)n * 8);
    walk_run(&w, rows[y->type], &operands);
    if (dtype_is_float(y->type)) {
        row_storer(y->type)(n, c->scratch, y->data, 1);
        return 0;
    }
    size_t size = dtype_size(y->type);
    for (int64_t i = 0; i < n; i++) /* little-endian: the low bytes */
        memcpy((char *)y->data + (size_t)i * size, (uint64_t *)c->scratch + i, size);
    return 0;
}

static const struct attr_def einsum_attrs[] = {
    ATTR(STRING, einsum_attr, equation, .required = true), {0}};

const struct op ops_einsum[] = {{"Einsum", ONNX, .since = 12, .min_in = 1, .max_in = -1,
                                 .traits = T_VARIADIC | T_HEAVY, .attrs = einsum_attrs,
                                 .attr_size = sizeof(struct einsum_attr), .shape = einsum_shape,
                                 .prepare = einsum_prepare, .run = einsum_run,
                                 .note = "at most 7 operands", .types = TYPES_NUMBER},
                                {0}};
