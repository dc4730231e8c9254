/* Two of ai.onnx.ml, which stand in front of or behind some networks: ArrayFeatureExtractor picks
 * along the last dim, Binarizer is 1 above a threshold. Both plain. */
#include "worker/ops/walk.h"

#include <string.h>

#define ML "ai.onnx.ml"

/* ---- ArrayFeatureExtractor: X, the indices ---- */

static int pick_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 2, e))
        return -1;
    const struct tensor *x = c->in[0], *index = c->in[1];
    if (x->rank < 1)
        return op_bad(c, 0, e, "it needs at least 1 dim");
    if (index->type != DT_I64)
        return op_bad(c, 1, e, "indices are int64");
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = tensor_count(index);
    if (x->rank > 1)
        return op_out(c, 0, x->type, x->rank, dims, e);
    return op_out(c, 0, x->type, 2, (int64_t[]){1, dims[0]}, e);
}

static int pick_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0];
    const int64_t *index = c->in[1]->data;
    int64_t n = x->dims[x->rank - 1], picks = tensor_count(c->in[1]);
    size_t size = dtype_size(x->type);
    const char *from = x->data;
    char *to = c->out[0]->data;
    for (int64_t k = 0; k < picks; k++)
        if (index[k] < 0 || index[k] >= n)
            return op_bad(c, 1, e, "%lld is no index into %lld elements", (long long)index[k],
                          (long long)n);
    int64_t rows = n ? tensor_count(x) / n : 0;
    for (int64_t r = 0; r < rows; r++, from += (size_t)n * size)
        for (int64_t k = 0; k < picks; k++, to += size)
            memcpy(to, from + (size_t)index[k] * size, size);
    return 0;
}

/* ---- Binarizer ---- */

struct binarizer_attr {
    float threshold;
};
struct binarizer_arg {
    enum dtype type;
    double threshold;
};

static int binarizer_shape(struct op_ctx *c, struct err *e)
{
    return op_need(c, 1, e) ? -1 : op_shape_same(c, e);
}

static void binarizer_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct binarizer_arg *b = arg;
    int64_t size = (int64_t)dtype_size(b->type);
    for (int64_t i = 0; i < n; i++) {
        double x;
        row_loader(b->type)(1, p[0] + i * s[0] * size, 1, &x);
        x = x > b->threshold;
        row_storer(b->type)(1, &x, p[1] + i * s[1] * size, 1);
    }
}

static int binarizer_run(const struct op_ctx *c, struct err *e)
{
    const struct binarizer_attr *a = c->attr;
    struct binarizer_arg arg = {c->in[0]->type, (double)a->threshold};
    (void)e;
    op_pointwise_run(c, binarizer_row, &arg);
    return 0;
}

static const struct attr_def binarizer_attrs[] = {ATTR(FLOAT, binarizer_attr, threshold), {0}};

const struct op ops_ml[] = {{"ArrayFeatureExtractor", ML, .since = 1, .min_in = 2, .max_in = 2,
                             .types = TYPES_ALL, .shape = pick_shape, .run = pick_run},
                            {"Binarizer", ML, .since = 1, .min_in = 1, .max_in = 1,
                             .types = TYPES_NUMBER, .layout = L_SAME, .attrs = binarizer_attrs,
                             .attr_size = sizeof(struct binarizer_attr), .shape = binarizer_shape,
                             .run = binarizer_run},
                            {0}};
