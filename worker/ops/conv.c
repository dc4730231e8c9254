/* Conv and ConvTranspose: the shapes are settled here, a backend multiplies. */
#include <string.h>

#include "worker/exec/backend.h"
#include "worker/ops/exact.h"
#include "worker/ops/op.h"
#include "worker/ops/window.h"

struct conv_attr {
    struct window_attr window;
    int64_t group;
};

static const struct attr_def conv_attrs[] = {
    WINDOW_ATTRS(struct conv_attr, window),
    WINDOW_ATTR(struct conv_attr, window, dilations, ATTR_INTS),
    {.name = "group", .type = ATTR_INT, .offset = offsetof(struct conv_attr, group), .number = 1},
    {0}};

static const struct attr_def transpose_attrs[] = {
    WINDOW_ATTRS(struct conv_attr, window),
    WINDOW_ATTR(struct conv_attr, window, dilations, ATTR_INTS),
    WINDOW_ATTR(struct conv_attr, window, output_shape, ATTR_INTS),
    WINDOW_ATTR(struct conv_attr, window, output_padding, ATTR_INTS),
    {.name = "group", .type = ATTR_INT, .offset = offsetof(struct conv_attr, group), .number = 1},
    {0}};

static int conv_check(const struct node *n, void *attr, struct err *e)
{
    const struct conv_attr *a = attr;
    (void)n;
    if (a->group < 1)
        return err_set(e, ERR_BAD_MODEL, "", "group is %lld.", (long long)a->group);
    return window_check(&a->window, e);
}

static bool agree(int64_t a, int64_t b)
{
    return a < 0 || b < 0 || a == b;
}

/* Saturates: no tensor has that many channels. */
static int64_t times(int64_t dim, int64_t by)
{
    int64_t ret;
    return dim < 0 ? -1 : __builtin_mul_overflow(dim, by, &ret) ? INT64_MAX : ret;
}

/* Channels, groups and bias against each other. */
static int check_inputs(const struct op_ctx *c, bool transposed, struct err *e)
{
    const struct tensor *x = c->in[0], *w = c->in[1], *b = c->n_in > 2 ? c->in[2] : NULL;
    int64_t group = ((const struct conv_attr *)c->attr)->group;
    char xt[TENSOR_TEXT_MAX], wt[TENSOR_TEXT_MAX];
    if (exact_check(c, false, e))
        return -1;
    int64_t want = transposed ? w->dims[0] : times(w->dims[1], group);
    bool fits = x->rank == w->rank && x->rank >= 3 && agree(x->dims[1], want) &&
                (w->dims[0] < 0 || w->dims[0] % group == 0);
    int64_t out = transposed ? times(w->dims[1], group) : w->dims[0];
    if (!fits)
        return err_set(e, ERR_BAD_MODEL, "", "Weight %s and group %lld do not fit input %s.",
                       tensor_text(w, wt), (long long)group, tensor_text(x, xt));
    if (b && (b->rank != 1 || !agree(b->dims[0], out)))
        return err_set(e, ERR_BAD_MODEL, "", "Bias %s does not fit weight %s.", tensor_text(b, xt),
                       tensor_text(w, wt));
    return 0;
}

static int shape(struct op_ctx *c, bool transposed, struct err *e)
{
    const struct conv_attr *a = c->attr;
    const struct tensor *x = c->in[0], *w = c->in[1];
    struct tensor *y = c->out[0];
    struct window win;
    if (check_inputs(c, transposed, e) ||
        window_of(&a->window, x, w->dims + 2, transposed, &win, e))
        return -1;
    y->type = x->type;
    y->rank = x->rank;
    y->dims[0] = x->dims[0];
    y->dims[1] = transposed ? times(w->dims[1], a->group) : w->dims[0];
    memcpy(y->dims + 2, win.out, (size_t)win.spatial * sizeof win.out[0]);
    return 0;
}

static int conv_shape(struct op_ctx *c, struct err *e)
{
    return shape(c, false, e);
}

static int transpose_shape(struct op_ctx *c, struct err *e)
{
    return shape(c, true, e);
}

struct conv_prep {
    const struct backend *backend;
    const void *conv;
    bool computed; /* weight or bias come at run time */
    bool exact;    /* no float32: by plain loops */
    struct conv_desc desc;
};

static int describe(const struct op_ctx *c, bool transposed, struct conv_desc *ret, struct err *e)
{
    const struct conv_attr *a = c->attr;
    struct window win;
    if (window_of(&a->window, c->in[0], c->in[1]->dims + 2, transposed, &win, e))
        return -1;
    *ret = (struct conv_desc){.spatial = win.spatial,
                              .transposed = transposed,
                              .batch = c->in[0]->dims[0],
                              .in_channels = c->in[0]->dims[1],
                              .out_channels = c->out[0]->dims[1],
                              .groups = a->group};
    size_t bytes = sizeof ret->in;
    memcpy(ret->in, win.in, bytes);
    memcpy(ret->out, win.out, bytes);
    memcpy(ret->kernel, win.kernel, bytes);
    memcpy(ret->stride, win.stride, bytes);
    memcpy(ret->dilation, win.dilation, bytes);
    memcpy(ret->pad_begin, win.pad_begin, bytes);
    memcpy(ret->pad_end, win.pad_end, bytes);
    return 0;
}

static const struct tensor *bias_of(const struct op_ctx *c)
{
    return c->n_in > 2 ? c->in[2] : NULL;
}

static int prepare(struct op_ctx *c, bool transposed, const void **ret, struct err *e)
{
    const struct tensor *w = c->in[1], *b = bias_of(c);
    struct conv_prep *p = arena_alloc(c->arena, sizeof *p);
    struct conv_desc d;
    *ret = p;
    if (tensor_count(c->out[0]) == 0)
        return 0;
    if (describe(c, transposed, &d, e))
        return -1;
    p->computed = !w->data || (b && !b->data);
    p->exact = c->in[0]->type != DT_F32;
    p->desc = d;
    if (p->exact)
        return 0;
    if (backend_conv(c->backend, &d, p->computed ? NULL : w->data,
                     p->computed || !b ? NULL : b->data, c->arena, &p->backend, &p->conv,
                     &c->scratch_bytes, e))
        return -1;
    c->used = p->backend;
    return 0;
}

static int conv_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    return prepare(c, false, ret, e);
}

static int transpose_prepare(struct op_ctx *c, const void **ret, struct err *e)
{
    return prepare(c, true, ret, e);
}

static int conv_run(const struct op_ctx *c, struct err *e)
{
    const struct conv_prep *p = c->prep;
    const struct tensor *b = bias_of(c);
    if (p->exact)
        exact_conv(c->in[0]->type, &p->desc, c->in[0]->data, c->in[1]->data, b ? b->data : NULL,
                   c->out[0]->data);
    if (!p->backend)
        return 0;
    if (p->computed)
        return p->backend->conv_run_weight(p->conv, c->in[0]->data, c->in[1]->data,
                                           b ? b->data : NULL, c->out[0]->data, c->scratch, e);
    return p->backend->conv_run(p->conv, c->in[0]->data, c->out[0]->data, c->scratch, e);
}

/* Each output (transposed: input) element meets the whole kernel of its group. */
static int64_t conv_macs(const struct op_ctx *c)
{
    const struct tensor *w = c->in[1];
    int64_t per = w->dims[0] ? tensor_count(w) / w->dims[0] : 0;
    return tensor_count(c->out[0]) * per;
}

static int64_t transpose_macs(const struct op_ctx *c)
{
    const struct tensor *w = c->in[1];
    int64_t per = w->dims[0] ? tensor_count(w) / w->dims[0] : 0;
    return tensor_count(c->in[0]) * per;
}

const struct op ops_conv[] = {
    {.type = "Conv",
     .domain = ONNX,
     .since = 1,
     .min_in = 2,
     .max_in = 3,
     .in = {FEATURE, WEIGHT(0), BIAS},
     .out = {FEATURE},
     .traits = T_QUANT | T_CHAIN_HEAD,
     .layout = L_CL,
     .attrs = conv_attrs,
     .attr_size = sizeof(struct conv_attr),
     .check = conv_check,
     .shape = conv_shape,
     .prepare = conv_prepare,
     .run = conv_run,
     .macs = conv_macs,
     .note = "float32, plain loops for float64 and float16; 1 to 3 spatial dims",
     .types = TYPES_FLOAT},
    {.type = "ConvTranspose",
     .domain = ONNX,
     .since = 1,
     .min_in = 2,
     .max_in = 3,
     .in = {FEATURE, WEIGHT(1), BIAS},
     .out = {FEATURE},
     .traits = T_QUANT | T_CHAIN_HEAD,
     .layout = L_CL,
     .attrs = transpose_attrs,
     .attr_size = sizeof(struct conv_attr),
     .check = conv_check,
     .shape = transpose_shape,
     .prepare = transpose_prepare,
     .run = conv_run,
     .macs = transpose_macs,
     .note = "float32, plain loops for float64 and float16; 1 to 3 spatial dims",
     .types = TYPES_FLOAT},
    {0}};
