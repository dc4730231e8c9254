/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss: the class dim is 1; the loss of an element
 * is -weight * log-probability of its target, 0 where the target is ignored. Sums are double. */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

struct loss_attr {
    const char *reduction;
    int64_t ignore_index;
};
enum { NOTHING_IGNORED = -(1 << 30) };

/* Data is [outer, classes, inner], targets [outer, inner]. */
struct loss {
    int64_t outer, classes, inner;
    const struct tensor *x, *target, *weight;
    bool softmax;
};

static int loss_of(const struct op_ctx *c, bool softmax, struct loss *l, struct err *e)
{
    const struct loss_attr *a = c->attr;
    if (op_need(c, 2, e) || op_takes_float(c, 0, e))
        return -1;
    const struct tensor *x = c->in[0], *t = c->in[1], *w = c->n_in > 2 ? c->in[2] : NULL;
    bool fits = x->rank >= 2 && t->rank == x->rank - 1 && t->dims[0] == x->dims[0] &&
                (t->type == DT_I64 || t->type == DT_I32);
    for (int d = 2; fits && d < x->rank; d++)
        fits = t->dims[d - 1] == x->dims[d];
    if (!fits)
        return op_bad(c, 1, e,
                      "targets are int64 or int32 and have the data's dims without classes");
    if (w && (w->type != x->type || w->rank != 1 || w->dims[0] != x->dims[1]))
        return op_bad(c, 2, e, "there must be one weight a class");
    if (strcmp(a->reduction, "none") && strcmp(a->reduction, "sum") && strcmp(a->reduction, "mean"))
        return err_set(e, ERR_BAD_MODEL, NULL, "There is no reduction \"%.40s\".", a->reduction);
    *l = (struct loss){x->dims[0], x->dims[1], dims_product(x->dims, 2, x->rank), x, t, w, softmax};
    return 0;
}

static int shape_of(struct op_ctx *c, bool softmax, struct err *e)
{
    const struct loss_attr *a = c->attr;
    struct loss l;
    if (loss_of(c, softmax, &l, e))
        return -1;
    int rank = strcmp(a->reduction, "none") ? 0 : l.target->rank;
    if (op_out(c, 0, l.x->type, rank, l.target->dims, e))
        return -1;
    return op_out(c, 1, l.x->type, l.x->rank, l.x->dims, e);
}

static double at(const struct tensor *t, int64_t i)
{
    double v;
    row_loader(t->type)(1, (const char *)t->data + (size_t)i * dtype_size(t->type), 1, &v);
    return v;
}

static void put(struct tensor *t, int64_t i, double v)
{
    row_storer(t->type)(1, &v, (char *)t->data + (size_t)i * dtype_size(t->type), 1);
}

/* log of the sum of exponents over the classes at (o, i): what makes log-probabilities. */
static double log_sum(const struct loss *l, int64_t first)
{
    double m = -INFINITY, sum = 0;
    for (int64_t k = 0; k < l->classes; k++)
        m = fmax(m, at(l->x, first + k * l->inner));
    for (int64_t k = 0; k < l->classes; k++)
        sum += exp(at(l->x, first + k * l->inner) - m);
    return m + log(sum);
}

static int run_loss(const struct op_ctx *c, bool softmax, struct err *e)
{
    const struct loss_attr *a = c->attr;
    struct tensor *logs = c->n_out > 1 ? c->out[1] : NULL;
    struct loss l;
    double sum = 0, weights = 0;
    bool each = !strcmp(a->reduction, "none");
    if (loss_of(c, softmax, &l, e))
        return -1;
    for (int64_t n = 0; n < l.outer * l.inner; n++) {
        int64_t first = n / l.inner * l.classes * l.inner + n % l.inner,
                t = tensor_int(l.target, n);
        double shift = softmax ? log_sum(&l, first) : 0;
        for (int64_t k = 0; logs && k < l.classes; k++)
            put(logs, first + k * l.inner, at(l.x, first + k * l.inner) - shift);
        bool ignored = a->ignore_index != NOTHING_IGNORED && t == a->ignore_index;
        if (!ignored && (t < 0 || t >= l.classes))
            return op_bad(c, 1, e, "target %lld is none of %lld classes", (long long)t,
                          (long long)l.classes);
        double w = ignored ? 0 : l.weight ? at(l.weight, t) : 1;
        double loss = ignored ? 0 : -w * (at(l.x, first + t * l.inner) - shift);
        if (each && c->out[0])
            put(c->out[0], n, loss);
        sum += loss;
        weights += w;
    }
    if (!each && c->out[0])
        put(c->out[0], 0, strcmp(a->reduction, "mean") ? sum : sum / weights);
    return 0;
}

#define OPERATOR(name, softmax)                                                                    \
    static int name##_shape(struct op_ctx *c, struct err *e)                                       \
    {                                                                                              \
        return shape_of(c, softmax, e);                                                            \
    }                                                                                              \
    static int name##_run(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        return run_loss(c, softmax, e);                                                            \
    }
OPERATOR(likelihood, false)
OPERATOR(entropy, true)

static const struct attr_def loss_attrs[] = {
    ATTR(STRING, loss_attr, reduction, .text = "mean"),
    ATTR(INT, loss_attr, ignore_index, .number = NOTHING_IGNORED),
    {0}};
#define ROW(name, stem, outs)                                                                      \
    {                                                                                              \
        name, ONNX, .since = 12, .min_in = 2, .max_in = 3, .max_out = outs, .attrs = loss_attrs,   \
                    .attr_size = sizeof(struct loss_attr), .shape = stem##_shape,                  \
                    .run = stem##_run, .types = TYPES_FLOAT                                        \
    }

const struct op ops_loss[] = {ROW("NegativeLogLikelihoodLoss", likelihood, 1),
                              ROW("SoftmaxCrossEntropyLoss", entropy, 2),
                              {0}};
