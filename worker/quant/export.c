#include "worker/quant/export.h"

#include <math.h>
#include <string.h>

#include "worker/load/build.h"
#include "worker/load/fold_weight.h"
#include "worker/ops/op.h"
#include "worker/quant/along.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/place.h"

enum { AXIS_SINCE = 13, INT16_SINCE = 21 };

struct exporter {
    const struct plan *p;
    const struct graph *g;
    struct build *b;
    int opset;   /* of ai.onnx */
    int *out;    /* calibration → the value that its readers read */
    bool *folds; /* calibration: its readers' weights are folded */
    struct err *e;
};

static bool is_integer(const struct calib *k)
{
    return k->n_thresholds && (k->qtype == Q_INT8 || k->qtype == Q_INT16);
}

/* ---- scales and zero points ---- */

/* The calibration's numbers as a pair's inputs. uint8: those of [0, T], whose zero point is the
 * lowest integer. */
struct numbers {
    enum dtype type;
    int n, shift; /* what is added to our integers */
    float *scales;
    int32_t *zeros;
};

static void numbers_of(const struct exporter *x, const struct calib *k, struct numbers *ret)
{
    int n = k->axis < 0 || k->n_thresholds <= 1 ? 1 : k->n_thresholds;
    *ret = (struct numbers){.type = k->qtype == Q_INT16 ? DT_I16 : DT_I8, .n = n};
    ret->scales = arena_array(x->b->arena, (size_t)n, sizeof *ret->scales);
    ret->zeros = arena_array(x->b->arena, (size_t)n, sizeof *ret->zeros);
    bool low = k->qtype == Q_INT8;
    for (int c = 0; c < n; c++) {
        struct fq_param q;
        fq_of_calib(k, c, &q);
        ret->scales[c] = q.scale;
        ret->zeros[c] = q.zero_point;
        low = low && q.zero_point == INT8_MIN;
    }
    if (!low)
        return;
    ret->type = DT_U8;
    ret->shift = -INT8_MIN;
    for (int c = 0; c < n; c++)
        ret->zeros[c] += ret->shift;
}

static int const_floats(const struct exporter *x, const char *name, const float *v, int n)
{
    struct tensor t = {.type = DT_F32, .rank = n > 1, .dims = {n}, .data = (void *)v};
    return build_const(x->b, name, &t);
}

static void put_integer(enum dtype type, void *to, int64_t i, int32_t v)
{
    if (type == DT_I16)
        ((int16_t *)to)[i] = (int16_t)v;
    else
        ((int8_t *)to)[i] = (int8_t)v; /* the bits of a uint8 as well */
}

static int const_zeros(const struct exporter *x, const char *name, const struct numbers *q)
{
    struct tensor t = {.type = q->type, .rank = q->n > 1, .dims = {q->n}};
    t.data = arena_array(x->b->arena, (size_t)q->n, sizeof(int32_t));
    for (int c = 0; c < q->n; c++)
        put_integer(q->type, t.data, c, q->zeros[c]);
    return build_const(x->b, name, &t);
}

/* ---- nodes ---- */

static const char *domain_for(const struct exporter *x, enum dtype type)
{
    return x->opset >= (type == DT_I16 ? INT16_SINCE : AXIS_SINCE) ? ONNX : MSFT;
}

/* A value like `like`, of another type. */
static int fresh_value(const struct exporter *x, const char *name, const struct tensor *like,
                       enum dtype type)
{
    int v = build_fresh(x->b, name);
    x->b->values[v].type = *like;
    x->b->values[v].type.data = NULL;
    if (like->type)
        x->b->values[v].type.type = type;
    return v;
}

/* No other node's name: calibrations' names differ, but a model may hold such pairs already. */
static const char *unique_name(const struct exporter *x, const char *name)
{
    while (graph_node(x->g, name) >= 0)
        name = arena_printf(x->b->arena, "%s_", name);
    return name;
}

/* One output, of the type of `like` or another. Its name is the node's with "_Output" behind. */
static int add_node(const struct exporter *x, const char *name, const char *domain, const char *op,
                    const int *in, int n_in, const struct tensor *like, enum dtype type)
{
    int out = fresh_value(x, arena_printf(x->b->arena, "%s_Output", name), like, type);
    if (!strcmp(domain, MSFT))
        build_import(x->b, MSFT, 1);
    build_node(x->b, unique_name(x, name), domain, op, *domain ? 1 : x->opset, in, n_in, &out, 1);
    return out;
}

static const char *named(const struct exporter *x, const char *base, const char *tail)
{
    return arena_printf(x->b->arena, "%s_%s", base, tail);
}

/* What the pair is called: the tensor, as the calibration's own name says it. */
static const char *base_of(const struct exporter *x, const struct calib *k)
{
    static const char tail[] = "_HzCalibration";
    size_t n = strlen(k->name), t = sizeof tail - 1;
    bool has = n > t && !strcmp(k->name + n - t, tail);
    return arena_printf(x->b->arena, "%.*s", (int)(has ? n - t : n), k->name);
}

static void set_axis(const struct exporter *x, int axis, int n)
{
    if (n > 1)
        build_attr_int(x->b, x->b->n_nodes - 1, "axis", axis);
}

/* Integers back to float. A folded activation is read with one scale. */
static int dequantize(const struct exporter *x, const struct calib *k, const struct numbers *q,
                      int from, int scale, int zero, bool folds)
{
    const char *base = base_of(x, k);
    struct numbers one = *q;
    one.n = 1;
    if (folds) {
        scale = const_floats(x, named(x, base, "dequantize_scale"),
                             arena_copy(x->b->arena, &k->dequantize_scale, sizeof(float)), 1);
        zero = const_zeros(x, named(x, base, "dequantize_zero_point"), &one);
    }
    const int in[] = {from, scale, zero};
    int out = add_node(x, named(x, base, "DequantizeLinear"), domain_for(x, q->type),
                       "DequantizeLinear", in, 3, &x->g->values[k->value].type, DT_F32);
    set_axis(x, k->axis, folds ? 1 : q->n);
    return out;
}

static int quantize(const struct exporter *x, const struct calib *k, const struct numbers *q,
                    int from, int scale, int zero)
{
    const int in[] = {from, scale, zero};
    int out = add_node(x, named(x, base_of(x, k), "QuantizeLinear"), domain_for(x, q->type),
                       "QuantizeLinear", in, 3, &x->g->values[k->value].type, q->type);
    set_axis(x, k->axis, q->n);
    return out;
}

/* ---- constants ---- */

static int no_memory(const struct exporter *x, const struct calib *k, size_t bytes)
{
    return err_set(x->e, ERR_MEMORY_LIMIT, k->name, "The constant needs %zu bytes.", bytes);
}

/* The integers of a constant float tensor. */
static int const_integers(const struct exporter *x, const struct calib *k, const struct numbers *q,
                          const struct tensor *t)
{
    struct along v = look_along(t, q->n > 1 ? k->axis : -1);
    struct tensor to = *t;
    to.type = q->type;
    size_t bytes = tensor_bytes(&to) + 1;
    if (!(to.data = arena_try(x->b->arena, bytes)))
        return no_memory(x, k, bytes);
    for (int64_t i = 0, n = tensor_count(t); i < n; i++) {
        struct fq_param p;
        fq_of_calib(k, q->n > 1 ? (int)(i / v.inner % v.channels) : 0, &p);
        float ticks = rintf(((const float *)t->data)[i] / p.scale) + (float)p.zero_point;
        ticks = !(ticks > (float)p.qmin) ? (float)p.qmin
                : ticks > (float)p.qmax  ? (float)p.qmax
                                         : ticks;
        put_integer(q->type, to.data, i, (int32_t)ticks + q->shift);
    }
    return build_const(x->b, named(x, base_of(x, k), "quantized"), &to);
}

/* A constant as float values: what reads it would have after the calibration. */
static int const_values(const struct exporter *x, const struct calib *k, const struct tensor *t)
{
    struct tensor to = *t;
    size_t bytes = tensor_bytes(&to) + 1;
    if (!(to.data = arena_try(x->b->arena, bytes)))
        return no_memory(x, k, bytes);
    fq_tensor(k, t, &to);
    return build_const(x->b, named(x, base_of(x, k), "calibrated"), &to);
}

/* Does the reader of this weight read a folded activation? */
static bool is_folded(const struct exporter *x, const struct calib *k)
{
    const struct value *v = &x->g->values[k->value];
    if (!k->n_fold || v->n_readers != 1)
        return false;
    const struct node *n = &x->g->nodes[v->readers[0]];
    int activation = x->p->port[n->first_port];
    return activation >= 0 && x->folds[activation];
}

static int export_constant(const struct exporter *x, const struct calib *k, int *ret)
{
    const struct tensor *whole = &x->g->values[k->value].type;
    struct tensor t = *whole;
    bool folded = is_folded(x, k);
    if (k->n_fold && !folded)
        return (*ret = const_values(x, k, whole)) < 0 ? -1 : 0;
    if (folded && fold_weight(whole, k->fold, k->n_fold, x->b->arena, &t, x->e))
        return err_in(x->e, k->name);
    if (!k->on || !is_integer(k)) {
        struct calib plain = *k;
        plain.n_fold = 0;
        return (*ret = const_values(x, &plain, &t)) < 0 ? -1 : 0;
    }
    struct numbers q;
    const char *base = base_of(x, k);
    numbers_of(x, k, &q);
    int from = const_integers(x, k, &q, &t);
    if (from < 0)
        return -1;
    *ret = dequantize(x, k, &q, from, const_floats(x, named(x, base, "scale"), q.scales, q.n),
                      const_zeros(x, named(x, base, "zero_point"), &q), false);
    return 0;
}

/* ---- calibrations ---- */

/* Clip keeps what float16 cannot hold at its ends, as the device does. */
static int export_float16(const struct exporter *x, const struct calib *k, int from)
{
    static const float ends[] = {-65504, 65504};
    const char *base = base_of(x, k);
    const struct tensor *like = &x->g->values[k->value].type;
    int in[3] = {from, VALUE_NONE, VALUE_NONE};
    bool inputs = x->opset >= 11;
    if (inputs)
        for (int i = 0; i < 2; i++)
            in[i + 1] = const_floats(x, named(x, base, i ? "max" : "min"), &ends[i], 1);
    int clipped =
        add_node(x, named(x, base, "Clip"), ONNX, "Clip", in, inputs ? 3 : 1, like, DT_F32);
    if (!inputs) {
        build_attr_float(x->b, x->b->n_nodes - 1, "min", ends[0]);
        build_attr_float(x->b, x->b->n_nodes - 1, "max", ends[1]);
    }
    int half = add_node(x, named(x, base, "Cast"), ONNX, "Cast", &clipped, 1, like, DT_F16);
    build_attr_int(x->b, x->b->n_nodes - 1, "to", DT_F16);
    int out = add_node(x, named(x, base, "CastBack"), ONNX, "Cast", &half, 1, like, DT_F32);
    build_attr_int(x->b, x->b->n_nodes - 1, "to", DT_F32);
    return out;
}

static int export_pair(const struct exporter *x, const struct calib *k, int from, bool folds)
{
    struct numbers q;
    const char *base = base_of(x, k);
    numbers_of(x, k, &q);
    int scale = const_floats(x, named(x, base, "scale"), q.scales, q.n);
    int zero = const_zeros(x, named(x, base, "zero_point"), &q);
    return dequantize(x, k, &q, quantize(x, k, &q, from, scale, zero), scale, zero, folds);
}

static int export_calib(struct exporter *x, int i)
{
    const struct calib *k = &x->p->calibs[i];
    int from = k->parent >= 0 ? x->out[k->parent] : k->value;
    bool acts = k->on && (is_integer(k) || k->qtype == Q_FLOAT16);
    if (k->parent < 0 && place_is_constant(&x->g->values[k->value]) && (acts || k->n_fold))
        return export_constant(x, k, &x->out[i]);
    if (!acts)
        x->out[i] = from;
    else if (k->qtype == Q_FLOAT16)
        x->out[i] = export_float16(x, k, from);
    else
        x->out[i] = export_pair(x, k, from, x->folds[i]);
    return 0;
}

static int export_calibs(struct exporter *x)
{
    const struct plan *p = x->p;
    x->out = arena_array(x->b->arena, (size_t)p->n_calibs + 1, sizeof *x->out);
    x->folds = arena_array(x->b->arena, (size_t)p->n_calibs + 1, sizeof *x->folds);
    for (int i = 0; i < p->n_calibs; i++) {
        const struct calib *k = &p->calibs[i];
        x->folds[i] = k->on && is_integer(k) && k->axis >= 0 && k->n_thresholds > 1 &&
                      k->dequantize_scale > 0;
    }
    for (int i = 0; i < p->n_calibs; i++)
        if (export_calib(x, i))
            return -1;
    return 0;
}

/* ---- who reads them ---- */

static void connect_ports(const struct exporter *x)
{
    for (int i = 0; i < x->g->n_nodes; i++) {
        const struct node *n = &x->g->nodes[i];
        for (int k = 0; k < n->n_in; k++) {
            int c = n->in[k] < 0 ? -1 : x->p->port[n->first_port + k];
            if (c >= 0)
                x->b->nodes[i].in[k] = x->out[c];
        }
    }
}

/* An output behind a calibration keeps its name; the tensor before it takes the other's. */
static void connect_outputs(const struct exporter *x)
{
    for (int i = 0; i < x->g->n_outputs; i++) {
        int c = x->p->output[i], v = x->b->outputs[i];
        if (c < 0 || x->out[c] == v)
            continue;
        struct build_value *before = &x->b->values[v], *behind = &x->b->values[x->out[c]];
        const char *name = before->name;
        before->name = behind->name;
        behind->name = name;
        before->is_output = false;
        behind->is_output = true;
        x->b->outputs[i] = x->out[c];
    }
}

/* ---- operators that the optimizer made ---- */

static int const_scalar(const struct exporter *x, const char *name, float v)
{
    return const_floats(x, name, arena_copy(x->b->arena, &v, sizeof v), 1);
}

/* The last node keeps the name and the output. */
static void last_node(const struct exporter *x, int node, const char *op, int a, int b)
{
    const int in[] = {a, b};
    build_retype(x->b, node, ONNX, op, x->opset, in, 2);
}

static void expand_swish(const struct exporter *x, int node)
{
    const char *name = x->g->nodes[node].name;
    int in = x->b->nodes[node].in[0];
    const struct tensor *like = &x->g->values[x->g->nodes[node].in[0]].type;
    int s = add_node(x, named(x, name, "Sigmoid"), ONNX, "Sigmoid", &in, 1, like, DT_F32);
    last_node(x, node, "Mul", in, s);
}

/* x · clip(x + 3, 0, 6) / 6 */
static void expand_hard_swish(const struct exporter *x, int node)
{
    const char *name = x->g->nodes[node].name;
    int in = x->b->nodes[node].in[0];
    const struct tensor *like = &x->g->values[x->g->nodes[node].in[0]].type;
    const int sum[] = {in, const_scalar(x, named(x, name, "three"), 3)};
    int plus = add_node(x, named(x, name, "Add"), ONNX, "Add", sum, 2, like, DT_F32);
    int six = const_scalar(x, named(x, name, "six"), 6);
    int clip[] = {plus, VALUE_NONE, six};
    bool inputs = x->opset >= 11;
    if (inputs)
        clip[1] = const_scalar(x, named(x, name, "zero"), 0);
    int gate =
        add_node(x, named(x, name, "Clip"), ONNX, "Clip", clip, inputs ? 3 : 1, like, DT_F32);
    if (!inputs) {
        build_attr_float(x->b, x->b->n_nodes - 1, "min", 0);
        build_attr_float(x->b, x->b->n_nodes - 1, "max", 6);
    }
    const int product[] = {in, gate};
    int mul = add_node(x, named(x, name, "Mul"), ONNX, "Mul", product, 2, like, DT_F32);
    last_node(x, node, "Div", mul, six);
}

static const struct {
    const char *type;
    void (*expand)(const struct exporter *x, int node);
} expansions[] = {{"HzSwish", expand_swish}, {"HzHardSwish", expand_hard_swish}};

static int expand_nodes(const struct exporter *x)
{
    for (int i = 0; i < x->g->n_nodes; i++) {
        const struct node *n = &x->g->nodes[i];
        size_t k = 0, known = sizeof expansions / sizeof *expansions;
        if (strcmp(n->domain, HORIZON))
            continue;
        while (k < known && strcmp(expansions[k].type, n->op_type))
            k++;
        if (k == known)
            return err_set(x->e, ERR_UNSUPPORTED, n->name, "%s has no standard form.", n->op_type);
        expansions[k].expand(x, i);
    }
    return 0;
}

/* No node of that domain is left: a calibrated model and the plan it was read into give one file.
 */
static void forget_horizon(struct build *b)
{
    struct opset *list = arena_array(b->arena, (size_t)b->n_opsets + 1, sizeof *list);
    int n = 0;
    for (int i = 0; i < b->n_opsets; i++)
        if (strcmp(b->opsets[i].domain, HORIZON))
            list[n++] = b->opsets[i];
    b->opsets = list;
    b->n_opsets = n;
}

int export_qdq(const struct plan *p, const struct export_opts *o, struct arena *a,
               struct graph **ret, struct err *e)
{
    struct exporter x = {.p = p, .g = p->graph, .b = build_from(p->graph, a), .e = e};
    if (o->opset21 && export_raise(x.b, p->graph, e))
        return -1;
    x.opset = build_opset(x.b, ONNX);
    if (export_calibs(&x))
        return -1;
    connect_ports(&x);
    connect_outputs(&x);
    if (expand_nodes(&x))
        return -1;
    forget_horizon(x.b);
    return build_freeze(x.b, ret, e);
}
