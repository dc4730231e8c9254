/* Unique: of single numbers, or of slices along an axis. Slices are compared element by element,
 * sorted by a heap of their places; the result's size is known when the data is. All plain. */
#include "worker/ops/walk.h"

#include <string.h>

struct unique_attr {
    int64_t axis, sorted;
};
enum { FLAT = 1 << 20 };

struct slices {
    const struct tensor *x;
    int64_t n, outer, inner; /* slice i: elements (o, i, k) of [outer, n, inner] */
    int64_t *order, *first;  /* slices sorted; then the first place of each unique one */
};

static int slices_of(const struct op_ctx *c, struct slices *s, int *axis, struct err *e)
{
    const struct unique_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    *axis = -1;
    *s = (struct slices){.x = x, .n = tensor_count(x), .outer = 1, .inner = 1};
    if (a->axis == FLAT)
        return 0;
    if (op_axis(a->axis, x->rank, axis, e))
        return -1;
    s->n = x->dims[*axis];
    s->outer = dims_product(x->dims, 0, *axis);
    s->inner = dims_product(x->dims, *axis + 1, x->rank);
    return 0;
}

static int compare_numbers(const struct tensor *x, int64_t a, int64_t b)
{
    if (x->type == DT_U64) {
        const uint64_t *u = x->data;
        return (u[a] > u[b]) - (u[a] < u[b]);
    }
    if (!dtype_is_float(x->type)) {
        int64_t v = tensor_int(x, a), w = tensor_int(x, b);
        return (v > w) - (v < w);
    }
    double v = tensor_num(x, a), w = tensor_num(x, b);
    return v != v || w != w ? (v != v) - (w != w) : (v > w) - (v < w);
}

static int compare_slices(const struct slices *s, int64_t a, int64_t b)
{
    for (int64_t o = 0; o < s->outer; o++)
        for (int64_t k = 0; k < s->inner; k++) {
            int64_t base = o * s->n * s->inner + k;
            int order = compare_numbers(s->x, base + a * s->inner, base + b * s->inner);
            if (order)
                return order;
        }
    return 0;
}

static bool comes_later(const struct slices *s, int64_t a, int64_t b)
{
    int order = compare_slices(s, a, b);
    return order > 0 || (order == 0 && a > b);
}

static void sift(const struct slices *s, int64_t at, int64_t n)
{
    int64_t *h = s->order;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && comes_later(s, h[child + 1], h[child]);
        if (!comes_later(s, h[child], h[at]))
            return;
        int64_t t = h[at];
        h[at] = h[child];
        h[child] = t;
    }
}

static void sort_slices(const struct slices *s)
{
    for (int64_t i = 0; i < s->n; i++)
        s->order[i] = i;
    for (int64_t i = s->n / 2 - 1; i >= 0; i--)
        sift(s, i, s->n);
    for (int64_t k = s->n - 1; k > 0; k--) {
        int64_t t = s->order[0];
        s->order[0] = s->order[k];
        s->order[k] = t;
        sift(s, 0, k);
    }
}

/* first[i]: the first place of slice i's like. Returns how many kinds there are. */
static int64_t find_kinds(const struct slices *s)
{
    int64_t kinds = 0;
    sort_slices(s);
    for (int64_t i = 0; i < s->n; i++) {
        bool is_new = i == 0 || compare_slices(s, s->order[i], s->order[i - 1]) != 0;
        s->first[s->order[i]] = is_new ? s->order[i] : s->first[s->order[i - 1]];
        kinds += is_new;
    }
    return kinds;
}

static int unique_shape(struct op_ctx *c, struct err *e)
{
    struct slices s;
    int axis;
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 1, e) || slices_of(c, &s, &axis, e))
        return -1;
    if (tensor_count(s.x) > 0 && !s.x->data)
        return SHAPE_WAITS;
    s.order = arena_try(c->arena, (size_t)s.n * 2 * sizeof *s.order + 1);
    if (!s.order)
        return err_set(e, ERR_MEMORY_LIMIT, NULL, "No memory to sort %lld elements.",
                       (long long)s.n);
    s.first = s.order + s.n;
    int64_t kinds = find_kinds(&s);
    memcpy(dims, s.x->dims, sizeof dims);
    dims[axis < 0 ? 0 : axis] = kinds;
    if (op_out(c, 0, s.x->type, axis < 0 ? 1 : s.x->rank, dims, e) ||
        op_out(c, 1, DT_I64, 1, &kinds, e) || op_out(c, 2, DT_I64, 1, &s.n, e))
        return -1;
    return op_out(c, 3, DT_I64, 1, &kinds, e);
}

static int unique_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    struct slices s;
    int axis;
    if (slices_of(c, &s, &axis, e))
        return -1;
    c->scratch_bytes = (size_t)s.n * 3 * sizeof(int64_t);
    *ret_prep = NULL;
    return 0;
}

static int64_t *output(const struct op_ctx *c, int i)
{
    return i < c->n_out && c->out[i] ? c->out[i]->data : NULL;
}

/* Slice `from` of the data becomes slice `to` of the result. */
static void copy_slice(const struct op_ctx *c, const struct slices *s, int64_t from, int64_t to,
                       int64_t kinds)
{
    size_t block = (size_t)s->inner * dtype_size(s->x->type);
    for (int64_t o = 0; block && c->out[0] && o < s->outer; o++)
        memcpy((char *)c->out[0]->data + (size_t)(o * kinds + to) * block,
               (const char *)s->x->data + (size_t)(o * s->n + from) * block, block);
}

/* Kinds are numbered in sorted order, or as they first appear. */
static int unique_run(const struct op_ctx *c, struct err *e)
{
    const struct unique_attr *a = c->attr;
    struct slices s;
    int axis;
    if (slices_of(c, &s, &axis, e))
        return -1;
    s.order = c->scratch;
    s.first = s.order + s.n;
    int64_t *number = s.first + s.n, kinds = find_kinds(&s), next = 0;
    int64_t *places = output(c, 1), *inverse = output(c, 2), *counts = output(c, 3);
    for (int64_t i = 0; i < s.n; i++) {
        int64_t slice = a->sorted ? s.order[i] : i;
        if (s.first[slice] != slice)
            continue;
        number[slice] = next;
        copy_slice(c, &s, slice, next, kinds);
        if (places)
            places[next] = slice;
        if (counts)
            counts[next] = 0;
        next++;
    }
    for (int64_t i = 0; i < s.n; i++) {
        if (inverse)
            inverse[i] = number[s.first[i]];
        if (counts)
            counts[number[s.first[i]]]++;
    }
    return 0;
}

static const struct attr_def unique_attrs[] = {
    ATTR(INT, unique_attr, axis, .number = FLAT), ATTR(INT, unique_attr, sorted, .number = 1), {0}};

const struct op ops_unique[] = {{"Unique", ONNX, .since = 11, .min_in = 1, .max_in = 1,
                                 .max_out = 4, .attrs = unique_attrs,
                                 .attr_size = sizeof(struct unique_attr), .shape = unique_shape,
                                 .prepare = unique_prepare, .run = unique_run, .types = TYPES_ALL},
                                {0}};
