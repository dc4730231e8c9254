/* LRN: every element is divided by a power of the squares around it, across channels. */
#include "worker/ops/walk.h"

#include <math.h>

struct lrn_attr {
    float alpha, beta, bias;
    int64_t size;
};
static const struct attr_def lrn_attrs[] = {ATTR(FLOAT, lrn_attr, alpha, .number = 1e-4),
                                            ATTR(FLOAT, lrn_attr, beta, .number = 0.75),
                                            ATTR(FLOAT, lrn_attr, bias, .number = 1),
                                            ATTR(INT, lrn_attr, size, .required = true),
                                            {0}};

struct lrn_job {
    const struct lrn_attr *a;
    enum dtype type;
    int64_t channels, in_step, out_step;
};

static int lrn_shape(struct op_ctx *c, struct err *e)
{
    const struct lrn_attr *a = c->attr;
    if (op_need(c, 1, e) || op_takes_float(c, 0, e))
        return -1;
    if (c->in[0]->rank < 2 || a->size < 1)
        return op_bad(c, 0, e, "it needs channels and a size above 0, which is %lld",
                      (long long)a->size);
    return op_shape_same(c, e);
}

static double lrn_at(const struct lrn_job *j, const char *x, int64_t ch)
{
    double v;
    row_loader(j->type)(1, x + ch * j->in_step * (int64_t)dtype_size(j->type), 1, &v);
    return v;
}

/* The channels of one place; the window's sum is formed anew each time, so no error adds up. */
static void lrn_place(const struct lrn_job *j, const char *x, char *o)
{
    int64_t before = (j->a->size - 1) / 2, after = j->a->size / 2;
    for (int64_t ch = 0; ch < j->channels; ch++) {
        int64_t from = ch > before ? ch - before : 0;
        int64_t to = after < j->channels - 1 - ch ? ch + after : j->channels - 1;
        double sum = 0;
        for (int64_t k = from; k <= to; k++)
            sum += lrn_at(j, x, k) * lrn_at(j, x, k);
        double base = (double)j->a->bias + (double)j->a->alpha / (double)j->a->size * sum;
        double y = lrn_at(j, x, ch) / pow(base, (double)j->a->beta);
        row_storer(j->type)(1, &y, o + ch * j->out_step * (int64_t)dtype_size(j->type), 1);
    }
}

static void lrn_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const struct lrn_job *j = arg;
    int64_t size = (int64_t)dtype_size(j->type);
    for (int64_t i = 0; i < n; i++)
        lrn_place(j, p[0] + i * s[0] * size, p[1] + i * s[1] * size);
}

static int lrn_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    int64_t in[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX];
    const struct tensor *x = c->in[0];
    tensor_strides(x, in);
    tensor_strides(c->out[0], out);
    struct lrn_job j = {c->attr, x->type, x->dims[1], in[1], out[1]};
    struct walk w;
    walk_init(&w, x->rank, x->dims);
    w.dims[1] = j.channels > 0;
    walk_add(&w, x->data, dtype_size(x->type), in);
    walk_add(&w, c->out[0]->data, dtype_size(x->type), out);
    walk_run(&w, lrn_row, &j);
    return 0;
}

const struct op ops_lrn[] = {{"LRN", ONNX, .since = 1, .traits = T_HEAVY, .min_in = 1, .max_in = 1,
                              .layout = L_ANY, .attrs = lrn_attrs,
                              .attr_size = sizeof(struct lrn_attr), .shape = lrn_shape,
                              .run = lrn_run, .types = TYPES_FLOAT},
                             {0}};
