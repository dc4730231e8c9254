/* Pad in all modes. A constant border is a fill and a copy; the others say for every index of the
 * output which index of the input it shows. Negative pads crop. */
#include "worker/ops/walk.h"

#include <string.h>

struct pad_attr {
    const char *mode;
    struct ints pads;
    float value;
};
static const struct attr_def pad_attrs[] = {ATTR(STRING, pad_attr, mode, .text = "constant"),
                                            ATTR(INTS, pad_attr, pads),
                                            ATTR(FLOAT, pad_attr, value),
                                            {0}};
static const struct attr_def pad_input_attrs[] = {ATTR(STRING, pad_attr, mode, .text = "constant"),
                                                  {0}};

struct pads {
    int64_t begin[TENSOR_RANK_MAX], end[TENSOR_RANK_MAX];
};

static int pads_of(const struct op_ctx *c, struct pads *ret, struct err *e)
{
    const struct pad_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t v[2 * TENSOR_RANK_MAX];
    int axes[TENSOR_RANK_MAX], n, n_axes, rc;
    if ((rc = op_input_ints(c, 1, &a->pads, v, 2 * TENSOR_RANK_MAX, &n, e)) ||
        (rc = op_input_axes(c, 3, NULL, x->rank, axes, &n_axes, e)))
        return rc;
    int dims = n_axes < 0 ? x->rank : n_axes;
    if (n != 2 * dims)
        return op_bad(c, 0, e, "it has %d pads, not %d", n, 2 * dims);
    memset(ret, 0, sizeof *ret);
    for (int k = 0; k < dims; k++) {
        ret->begin[n_axes < 0 ? k : axes[k]] = v[k];
        ret->end[n_axes < 0 ? k : axes[k]] = v[dims + k];
    }
    return 0;
}

static int pad_shape(struct op_ctx *c, struct err *e)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap", NULL};
    const struct pad_attr *a = c->attr;
    struct pads p;
    int64_t dims[TENSOR_RANK_MAX];
    int m = 0;
    while (modes[m] && strcmp(modes[m], a->mode))
        m++;
    if (!modes[m])
        return err_set(e, ERR_BAD_MODEL, NULL, "There is no padding mode \"%.40s\".", a->mode);
    int rc = op_need(c, 1, e) ? -1 : pads_of(c, &p, e);
    if (rc)
        return rc;
    const struct tensor *x = c->in[0];
    for (int d = 0; d < x->rank; d++) {
        if (__builtin_add_overflow(x->dims[d], p.begin[d], &dims[d]) ||
            __builtin_add_overflow(dims[d], p.end[d], &dims[d]) || dims[d] < 0)
            return op_bad(c, 0, e, "dim %d cannot be padded by %lld and %lld", d,
                          (long long)p.begin[d], (long long)p.end[d]);
        if (m != 0 && x->dims[d] == 0 && dims[d] > 0)
            return op_bad(c, 0, e, "dim %d is empty and has nothing to repeat", d);
    }
    return op_out(c, 0, x->type, x->rank, dims, e);
}

/* An index map a dim. */
static int pad_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    int64_t n = 0;
    for (int d = 0; d < c->out[0]->rank; d++)
        n += c->out[0]->dims[d];
    c->scratch_bytes = (size_t)n * sizeof(int64_t);
    *ret_prep = NULL;
    return 0;
}

/* ---- a constant border ---- */

static void pad_constant(const struct op_ctx *c, const struct pads *p, const void *value)
{
    const struct tensor *x = c->in[0], *y = c->out[0];
    size_t size = dtype_size(x->type);
    int64_t in[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX], dims[TENSOR_RANK_MAX];
    int64_t count = tensor_count(y), step = 1;
    const char *from = x->data;
    char *to = y->data;
    walk_fill(1, &count, size, value, to, &step);
    tensor_strides(x, in);
    tensor_strides(y, out);
    for (int d = 0; d < x->rank; d++) {
        int64_t first = p->begin[d] < 0 ? -p->begin[d] : 0,
                shift = p->begin[d] > 0 ? p->begin[d] : 0;
        int64_t last = x->dims[d] + (p->end[d] < 0 ? p->end[d] : 0);
        dims[d] = last > first ? last - first : 0;
        from += first * in[d] * (int64_t)size;
        to += shift * out[d] * (int64_t)size;
    }
    if (dims_product(dims, 0, x->rank) > 0)
        walk_copy(x->rank, dims, size, from, in, to, out);
}

/* ---- a repeated one ---- */

static int64_t floor_mod(int64_t v, int64_t n)
{
    int64_t r = v % n;
    return r < 0 ? r + n : r;
}

static int64_t source_index(char mode, int64_t i, int64_t n)
{
    if (mode == 'e')
        return i < 0 ? 0 : i >= n ? n - 1 : i;
    if (mode == 'w')
        return floor_mod(i, n);
    int64_t period = n > 1 ? 2 * (n - 1) : 1, r = floor_mod(i, period);
    return r < n ? r : period - r;
}

/* The dim along which the output lies without gaps. */
static int dense_dim(const struct tensor *t)
{
    return t->layout == LAYOUT_CL && t->rank >= 3 ? 1 : t->rank - 1;
}

static void copy_indexed(size_t size, int64_t n, const char *from, const int64_t *offset, char *to)
{
    if (size == 4) {
        for (int64_t i = 0; i < n; i++)
            ((uint32_t *)(void *)to)[i] = ((const uint32_t *)(const void *)from)[offset[i]];
        return;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy(to + (size_t)i * size, from + (size_t)offset[i] * size, size);
}

static void pad_repeat(const struct op_ctx *c, const struct pads *p, char mode)
{
    const struct tensor *x = c->in[0], *y = c->out[0];
    size_t size = dtype_size(x->type);
    int64_t in[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX], at[TENSOR_RANK_MAX] = {0};
    int64_t *offset[TENSOR_RANK_MAX], *free_room = c->scratch;
    int inner = dense_dim(y);
    tensor_strides(x, in);
    tensor_strides(y, out);
    for (int d = 0; d < y->rank; d++) {
        offset[d] = free_room;
        free_room += y->dims[d];
        for (int64_t i = 0; i < y->dims[d]; i++)
            offset[d][i] = in[d] * source_index(mode, i - p->begin[d], x->dims[d]);
    }
    int64_t rows = tensor_count(y) / y->dims[inner];
    for (int64_t r = 0; r < rows; r++) {
        int64_t from = 0, to = 0;
        for (int d = 0; d < y->rank; d++) {
            from += d == inner ? 0 : offset[d][at[d]];
            to += d == inner ? 0 : out[d] * at[d];
        }
        copy_indexed(size, y->dims[inner], (const char *)x->data + (size_t)from * size,
                     offset[inner], (char *)y->data + (size_t)to * size);
        for (int d = y->rank - 1; d >= 0; d--) {
            if (d != inner && ++at[d] < y->dims[d])
                break;
            at[d] = 0;
        }
    }
}

static int pad_run(const struct op_ctx *c, struct err *e)
{
    const struct pad_attr *a = c->attr;
    struct pads p;
    double value[1], number = (double)a->value;
    const struct tensor *given = c->n_in > 2 ? c->in[2] : NULL;
    if (pads_of(c, &p, e))
        return -1;
    if (given && (given->type != c->in[0]->type || tensor_count(given) != 1))
        return op_bad(c, 2, e, "the border's value must be one number of the data's type");
    if (tensor_count(c->out[0]) == 0)
        return 0;
    row_storer(c->in[0]->type)(1, &number, (char *)value, 1);
    if (a->mode[0] == 'c')
        pad_constant(c, &p, given ? given->data : value);
    else if (c->in[0]->rank == 0)
        walk_bytes(c->in[0], c->out[0]);
    else
        pad_repeat(c, &p, a->mode[0]);
    return 0;
}

#define ROW(...)                                                                                   \
    {                                                                                              \
        "Pad", ONNX, .layout = L_ANY, .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE},               \
                     .traits = T_QUANT | T_SHAPE_DATA, .attr_size = sizeof(struct pad_attr),       \
                     .shape = pad_shape, .prepare = pad_prepare, .run = pad_run,                   \
                     .types = TYPES_ALL, __VA_ARGS__                                               \
    }

const struct op ops_pad[] = {
    ROW(.since = 2, .until = 10, .min_in = 1, .max_in = 1, .attrs = pad_attrs),
    ROW(.since = 11, .min_in = 2, .max_in = 4, .attrs = pad_input_attrs),
    {0}};
