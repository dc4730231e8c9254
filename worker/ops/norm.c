/* The normalizations: what each takes for a group, and its parameters. */
#include "worker/ops/norm.h"

#include <math.h>
#include <string.h>

struct norm_attr {
    float epsilon, momentum;
    int64_t spatial, training_mode, axis, stash_type, num_groups, p, is_test;
    struct ints axes, consumed_inputs;
};

/* ---- checks that several share ---- */

static int takes_params(const struct op_ctx *c, int first, int last, int64_t n, struct err *e)
{
    for (int i = first; i <= last; i++) {
        if (op_takes_float(c, i, e))
            return -1;
        if (c->in[i]->rank != 1 || c->in[i]->dims[0] != n)
            return op_bad(c, i, e, "it must be a list of %lld numbers", (long long)n);
    }
    return 0;
}

static int same_float(struct op_ctx *c, int n_in, int min_rank, struct err *e)
{
    if (op_need(c, n_in, e) || op_takes_float(c, 0, e))
        return -1;
    if (c->in[0]->rank < min_rank)
        return op_bad(c, 0, e, "it needs at least %d dims", min_rank);
    return op_shape_same(c, e);
}

/* ---- BatchNormalization ---- */

/* spatial = 0, of opsets 7 and 8: a statistic for each element of a sample. */
static int takes_elements(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0];
    for (int i = 1; i <= 4; i++) {
        const struct tensor *t = c->in[i];
        if (op_takes_float(c, i, e))
            return -1;
        if (t->rank != x->rank - 1 ||
            memcmp(t->dims, x->dims + 1, (size_t)t->rank * sizeof *t->dims))
            return op_bad(c, i, e, "its dims must be those of a sample");
    }
    return 0;
}

static int batch_shape(struct op_ctx *c, struct err *e)
{
    const struct norm_attr *a = c->attr;
    if (same_float(c, 5, 1, e))
        return -1;
    if (a->training_mode || c->n_out > 1)
        return err_set(e, ERR_UNSUPPORTED, NULL, "BatchNormalization is computed for inference.");
    if (!a->spatial)
        return takes_elements(c, e);
    return takes_params(c, 1, 4, c->in[0]->rank > 1 ? c->in[0]->dims[1] : 1, e);
}

static int batch_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    return norm_room(c, tensor_count(c->in[1]), ret_prep);
}

static int batch_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct norm_attr *a = c->attr;
    struct norm m;
    int64_t used = 0;
    norm_init(&m, c);
    norm_groups(&m, c, tensor_count(c->in[3]));
    row_loader(c->in[3]->type)(m.groups, c->in[3]->data, 1, m.mean);
    row_loader(c->in[4]->type)(m.groups, c->in[4]->data, 1, m.factor);
    for (int64_t i = 0; i < m.groups; i++)
        m.factor[i] = 1 / sqrt(m.factor[i] + (double)a->epsilon);
    m.scales = norm_param(&m, c, 1, &used);
    m.biases = norm_param(&m, c, 2, &used);
    for (int d = 1; !a->spatial && d < m.rank; d++)
        m.group[d] = m.scale[d] = m.bias[d] = dims_product(c->in[0]->dims, d + 1, m.rank);
    if (a->spatial && m.rank > 1)
        m.group[1] = m.scale[1] = m.bias[1] = 1;
    return norm_apply(&m, c);
}

/* ---- InstanceNormalization, GroupNormalization ---- */

static int instance_shape(struct op_ctx *c, struct err *e)
{
    return same_float(c, 3, 3, e) ? -1 : takes_params(c, 1, 2, c->in[0]->dims[1], e);
}

static int instance_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    return norm_room(c, c->in[0]->dims[0] * c->in[0]->dims[1], ret_prep);
}

static int instance_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct norm_attr *a = c->attr;
    struct norm m;
    int64_t used = 0, channels = c->in[0]->dims[1];
    norm_init(&m, c);
    norm_groups(&m, c, c->in[0]->dims[0] * channels);
    m.group[0] = channels;
    m.group[1] = m.scale[1] = m.bias[1] = 1;
    m.scales = norm_param(&m, c, 1, &used);
    m.biases = norm_param(&m, c, 2, &used);
    norm_sums(&m, c);
    norm_moments(&m, (double)dims_product(m.dims, 2, m.rank), (double)a->epsilon, BY_VARIANCE);
    return norm_apply(&m, c);
}

static int group_shape(struct op_ctx *c, struct err *e)
{
    const struct norm_attr *a = c->attr;
    if (same_float(c, 3, 2, e))
        return -1;
    int64_t channels = c->in[0]->dims[1], n = a->num_groups;
    if (n < 1 || channels % n)
        return op_bad(c, 0, e, "%lld channels do not make %lld groups", (long long)channels,
                      (long long)n);
    return takes_params(c, 1, 2, c->node->opset < 21 ? n : channels, e);
}

/* Dim `d` becomes two, the second of n elements. */
static void split_dim(struct norm *m, int d, int64_t n)
{
    for (int i = m->rank; i > d; i--) {
        m->dims[i] = m->dims[i - 1];
        m->in[i] = m->in[i - 1];
        m->out[i] = m->out[i - 1];
    }
    m->rank++;
    m->dims[d] /= n;
    m->dims[d + 1] = n;
    m->in[d] *= n;
    m->out[d] *= n;
}

static int group_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct norm_attr *a = c->attr;
    struct norm m;
    int64_t used = 0, each = c->in[0]->dims[1] / a->num_groups;
    if (each == 0)
        return 0;
    norm_init(&m, c);
    split_dim(&m, 1, each);
    norm_groups(&m, c, m.dims[0] * a->num_groups);
    m.group[0] = a->num_groups;
    m.group[1] = 1;
    bool by_channel = c->node->opset >= 21;
    m.scale[1] = m.bias[1] = by_channel ? each : 1;
    m.scale[2] = m.bias[2] = by_channel;
    m.scales = norm_param(&m, c, 1, &used);
    m.biases = norm_param(&m, c, 2, &used);
    norm_sums(&m, c);
    norm_moments(&m, (double)dims_product(m.dims, 2, m.rank), (double)a->epsilon, BY_VARIANCE);
    return norm_apply(&m, c);
}

/* ---- LayerNormalization, RMSNormalization ---- */

static int layer_axis(const struct op_ctx *c, int *ret, struct err *e)
{
    const struct norm_attr *a = c->attr;
    return op_axis(a->axis, c->in[0]->rank, ret, e);
}

static int layer_shape(struct op_ctx *c, struct err *e)
{
    const struct norm_attr *a = c->attr;
    int axis;
    if (same_float(c, 2, 1, e) || layer_axis(c, &axis, e))
        return -1;
    const struct tensor *x = c->in[0];
    for (int i = 1; i < c->n_in; i++) {
        struct tensor both;
        if (!c->in[i])
            continue;
        const struct tensor *pair[] = {x, c->in[i]};
        if (op_takes_float(c, i, e) || op_broadcast(pair, 2, &both, e))
            return -1;
        if (both.rank != x->rank || memcmp(both.dims, x->dims, (size_t)x->rank * sizeof(int64_t)) ||
            c->in[i]->rank > x->rank - axis)
            return op_bad(c, i, e, "it does not fit the normalized dims");
    }
    int64_t dims[TENSOR_RANK_MAX];
    for (int d = 0; d < x->rank; d++)
        dims[d] = d < axis ? x->dims[d] : 1;
    enum dtype stash = a->stash_type == DT_F64 ? DT_F64 : DT_F32;
    return op_out(c, 1, stash, x->rank, dims, e) || op_out(c, 2, stash, x->rank, dims, e) ? -1 : 0;
}

static void broadcast_strides(const struct tensor *t, int rank, int64_t *ret)
{
    int64_t own[TENSOR_RANK_MAX];
    dims_strides(t->rank, t->dims, own);
    for (int d = 0; d < t->rank; d++)
        ret[rank - t->rank + d] = t->dims[d] == 1 ? 0 : own[d];
}

static int layer_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    int axis;
    return layer_axis(c, &axis, e) ? -1
                                   : norm_room(c, dims_product(c->in[0]->dims, 0, axis), ret_prep);
}

static int layer_run_by(const struct op_ctx *c, enum deviation by, struct err *e)
{
    const struct norm_attr *a = c->attr;
    struct norm m;
    int axis;
    int64_t used = 0;
    if (layer_axis(c, &axis, e))
        return -1;
    norm_init(&m, c);
    norm_groups(&m, c, dims_product(m.dims, 0, axis));
    dims_strides(axis, m.dims, m.group);
    m.scales = norm_param(&m, c, 1, &used);
    broadcast_strides(c->in[1], m.rank, m.scale);
    if (c->n_in > 2 && c->in[2]) {
        m.biases = norm_param(&m, c, 2, &used);
        broadcast_strides(c->in[2], m.rank, m.bias);
    }
    norm_sums(&m, c);
    norm_moments(&m, (double)dims_product(m.dims, axis, m.rank), (double)a->epsilon, by);
    for (int i = 1; i < 3 && i < c->n_out; i++)
        if (c->out[i])
            row_storer(c->out[i]->type)(m.groups, i == 1 ? m.mean : m.factor, c->out[i]->data, 1);
    return norm_apply(&m, c);
}

static int layer_run(const struct op_ctx *c, struct err *e)
{
    return layer_run_by(c, BY_VARIANCE, e);
}

static int rms_run(const struct op_ctx *c, struct err *e)
{
    return layer_run_by(c, BY_SQUARE, e);
}

/* ---- MeanVarianceNormalization, LpNormalization ---- */

static int plain_shape(struct op_ctx *c, struct err *e)
{
    return same_float(c, 1, 0, e);
}

static int plain_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    return norm_room(c, tensor_count(c->in[0]), ret_prep);
}

/* Strides of the groups when the dims in `gone` are normalized; returns how many there are. */
static int64_t group_strides(struct norm *m, const bool *gone)
{
    int64_t n = 1;
    for (int d = m->rank - 1; d >= 0; d--) {
        m->group[d] = gone[d] ? 0 : n;
        n *= gone[d] ? 1 : m->dims[d];
    }
    return n;
}

static int mvn_run(const struct op_ctx *c, struct err *e)
{
    static const int64_t usual[] = {0, 2, 3};
    const struct norm_attr *a = c->attr;
    const struct ints axes = a->axes.v ? a->axes : (struct ints){3, usual};
    bool gone[TENSOR_RANK_MAX] = {false};
    struct norm m;
    double count = 1;
    norm_init(&m, c);
    for (size_t k = 0; k < axes.n; k++) {
        int d;
        if (op_axis(axes.v[k], m.rank, &d, e))
            return -1;
        count *= gone[d] ? 1 : (double)m.dims[d];
        gone[d] = true;
    }
    norm_groups(&m, c, group_strides(&m, gone));
    norm_sums(&m, c);
    norm_moments(&m, count, 1e-9, BY_STD);
    return norm_apply(&m, c);
}

static int lp_run(const struct op_ctx *c, struct err *e)
{
    const struct norm_attr *a = c->attr;
    bool gone[TENSOR_RANK_MAX] = {false};
    struct norm m;
    int axis;
    norm_init(&m, c);
    if (a->p != 1 && a->p != 2)
        return err_set(e, ERR_BAD_MODEL, NULL, "p is 1 or 2, not %lld.", (long long)a->p);
    if (op_axis(a->axis, m.rank, &axis, e))
        return -1;
    gone[axis] = true;
    norm_groups(&m, c, group_strides(&m, gone));
    if (a->p == 2)
        norm_sums(&m, c);
    else
        norm_absolutes(&m, c);
    for (int64_t g = 0; g < m.groups; g++) {
        double norm = a->p == 2 ? sqrt(m.factor[g]) : m.factor[g];
        m.mean[g] = 0;
        m.factor[g] = norm > 0 ? 1 / norm : 0;
    }
    return norm_apply(&m, c);
}

/* ---- the rows ---- */

#define A(kind, field, ...) ATTR(kind, norm_attr, field, __VA_ARGS__)
#define EPSILON             A(FLOAT, epsilon, .number = 1e-5)
static const struct attr_def batch_attrs[] = {EPSILON,
                                              A(FLOAT, momentum, .number = 0.9),
                                              A(INT, spatial, .number = 1),
                                              A(INT, training_mode),
                                              {0}};
static const struct attr_def old_batch_attrs[] = {
    EPSILON,         A(FLOAT, momentum, .number = 0.9), A(INT, spatial, .number = 1),
    A(INT, is_test), A(INTS, consumed_inputs),          {0}};
static const struct attr_def instance_attrs[] = {EPSILON, {0}};
static const struct attr_def group_attrs[] = {
    EPSILON, A(INT, num_groups, .required = true), A(INT, stash_type, .number = 1), {0}};
static const struct attr_def layer_attrs[] = {
    EPSILON, A(INT, axis, .number = -1), A(INT, stash_type, .number = 1), {0}};
static const struct attr_def mvn_attrs[] = {A(INTS, axes), {0}};
static const struct attr_def lp_attrs[] = {A(INT, axis, .number = -1), A(INT, p, .number = 2), {0}};

#define ROW(name, stem, from, shape_by, table, prep, ...)                                          \
    {                                                                                              \
        name, ONNX, .since = from, .layout = L_ANY, .attrs = table##_attrs,                        \
                    .attr_size = sizeof(struct norm_attr), .shape = shape_by##_shape,              \
                    .prepare = prep##_prepare, .run = stem##_run, __VA_ARGS__                      \
    }
#define QUANT .in = {FEATURE, PLAIN_PORT}, .out = {FEATURE}, .traits = T_QUANT

const struct op ops_norm[] = {
    {"BatchNormalization", ONNX, .since = 1, .until = 6, .layout = L_ANY, .attrs = old_batch_attrs,
     .attr_size = sizeof(struct norm_attr), .shape = batch_shape, .prepare = batch_prepare,
     .run = batch_run, .min_in = 5, .max_in = 5, .max_out = 5, .note = "inference",
     .types = TYPES_FLOAT},
    ROW("BatchNormalization", batch, 7, batch, batch, batch, .min_in = 5, .max_in = 5, .max_out = 5,
        .note = "inference", .types = TYPES_FLOAT),
    ROW("InstanceNormalization", instance, 1, instance, instance, instance, .min_in = 3,
        .max_in = 3, QUANT, .types = TYPES_FLOAT),
    ROW("GroupNormalization", group, 18, group, group, instance, .min_in = 3, .max_in = 3, QUANT,
        .types = TYPES_FLOAT),
    ROW("LayerNormalization", layer, 17, layer, layer, layer, .min_in = 2, .max_in = 3,
        .max_out = 3, QUANT, .types = TYPES_FLOAT),
    ROW("RMSNormalization", rms, 23, layer, layer, layer, .min_in = 2, .max_in = 2,
        .types = TYPES_FLOAT),
    ROW("MeanVarianceNormalization", mvn, 9, plain, mvn, plain, .min_in = 1, .max_in = 1,
        .types = TYPES_FLOAT),
    ROW("LpNormalization", lp, 1, plain, lp, plain, .min_in = 1, .max_in = 1, .types = TYPES_FLOAT),
    {0}};
