#include "worker/ops/window.h"

#include <string.h>

/* Nothing sensible is larger, and sums and products of three stay far inside 64 bits. */
static const int64_t size_max = 1 << 20;

static int check_list(const char *name, struct ints v, size_t n, int64_t min, struct err *e)
{
    if (v.v && v.n != n)
        return err_set(e, ERR_BAD_MODEL, "", "The attribute \"%s\" has %zu numbers, not %zu.", name,
                       v.n, n);
    for (size_t i = 0; v.v && i < v.n; i++)
        if (v.v[i] < min || v.v[i] > size_max)
            return err_set(e, ERR_BAD_MODEL, "", "The attribute \"%s\" holds %lld.", name,
                           (long long)v.v[i]);
    return 0;
}

int window_check(const struct window_attr *a, struct err *e)
{
    static const char *const modes[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (!strcmp(a->auto_pad, modes[i]))
            return check_list("kernel_shape", a->kernel_shape, a->kernel_shape.n, 1, e) ||
                           check_list("strides", a->strides, a->strides.n, 1, e) ||
                           check_list("dilations", a->dilations, a->dilations.n, 1, e) ||
                           check_list("pads", a->pads, a->pads.n, 0, e) ||
                           check_list("output_padding", a->output_padding, a->output_padding.n, 0,
                                      e) ||
                           check_list("output_shape", a->output_shape, a->output_shape.n, 0, e)
                       ? -1
                       : 0;
    return err_set(e, ERR_BAD_MODEL, "", "auto_pad is \"%.40s\".", a->auto_pad);
}

static int64_t item(struct ints v, size_t i, int64_t otherwise)
{
    return v.v && i < v.n ? v.v[i] : otherwise;
}

static bool same_padding(const struct window_attr *a)
{
    return !strncmp(a->auto_pad, "SAME_", 5);
}

/* SAME_UPPER puts the odd element at the end, SAME_LOWER at the beginning. */
static void split_padding(bool upper, int64_t total, int i, struct window *ret)
{

    total = total < 0 ? 0 : total;
    ret->pad_begin[i] = upper ? total / 2 : total - total / 2;
    ret->pad_end[i] = total - ret->pad_begin[i];
}

static int64_t reach_of(const struct window *w, int i)
{
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

static int fit(const struct window_attr *a, int i, struct window *w, struct err *e)
{
    int64_t in = w->in[i], stride = w->stride[i], reach = reach_of(w, i);
    if (same_padding(a)) {
        w->out[i] = in < 0 ? -1 : (in + stride - 1) / stride;
        split_padding(!strcmp(a->auto_pad, "SAME_UPPER"), (w->out[i] - 1) * stride + reach - in, i,
                      w);
        return 0;
    }
    if (in < 0) {
        w->out[i] = -1;
        return 0;
    }
    int64_t room = in + w->pad_begin[i] + w->pad_end[i] - reach;
    if (room < 0)
        return err_set(e, ERR_BAD_MODEL, "",
                       "A window of %lld does not fit into %lld padded elements.", (long long)reach,
                       (long long)(room + reach));
    w->out[i] = (room + (a->ceil_mode ? stride - 1 : 0)) / stride + 1;
    /* The last window starts inside the input or its left padding. */
    if (a->ceil_mode && (w->out[i] - 1) * stride >= in + w->pad_begin[i])
        w->out[i]--;
    return 0;
}

static int fit_transposed(const struct window_attr *a, int i, struct window *w, struct err *e)
{
    int64_t in = w->in[i], stride = w->stride[i];
    int skip = a->output_shape.n == (size_t)w->spatial + 2 ? 2 : 0; /* some exporters give N, C */
    int64_t asked = item(a->output_shape, (size_t)(i + skip), -1);
    int64_t full = (in - 1) * stride + item(a->output_padding, (size_t)i, 0) + reach_of(w, i);
    w->out[i] = -1;
    if (in < 0 && asked < 0)
        return 0;
    if (asked < 0 && same_padding(a))
        asked = in * stride;
    if (asked >= 0) {
        w->out[i] = asked;
        if (in >= 0)
            split_padding(!strcmp(a->auto_pad, "SAME_UPPER"), full - asked, i, w);
        return 0;
    }
    w->out[i] = full - w->pad_begin[i] - w->pad_end[i];
    if (w->out[i] < 0)
        return err_set(e, ERR_BAD_MODEL, "", "The padding is larger than the output.");
    return 0;
}

static int check_lengths(const struct window_attr *a, size_t n, struct err *e)
{
    if (a->output_shape.v && a->output_shape.n != n && a->output_shape.n != n + 2)
        return err_set(e, ERR_BAD_MODEL, "", "The attribute \"output_shape\" has %zu numbers.",
                       a->output_shape.n);
    return check_list("kernel_shape", a->kernel_shape, n, 1, e) ||
                   check_list("strides", a->strides, n, 1, e) ||
                   check_list("dilations", a->dilations, n, 1, e) ||
                   check_list("output_padding", a->output_padding, n, 0, e) ||
                   check_list("pads", a->pads, 2 * n, 0, e)
               ? -1
               : 0;
}

int window_of(const struct window_attr *a, const struct tensor *x, const int64_t *kernel,
              bool transposed, struct window *ret, struct err *e)
{
    memset(ret, 0, sizeof *ret);
    ret->spatial = x->rank - 2;
    if (ret->spatial < 1 || ret->spatial > CONV_SPATIAL_MAX)
        return err_set(e, ERR_UNSUPPORTED, "", "Windows have 1 to %d spatial dims, not %d.",
                       CONV_SPATIAL_MAX, ret->spatial);
    if (check_lengths(a, (size_t)ret->spatial, e))
        return -1;
    bool padded = !strcmp(a->auto_pad, "NOTSET");
    for (int i = 0; i < ret->spatial; i++) {
        ret->in[i] = x->dims[2 + i];
        ret->kernel[i] = kernel && kernel[i] >= 0 ? kernel[i] : item(a->kernel_shape, (size_t)i, 0);
        ret->stride[i] = item(a->strides, (size_t)i, 1);
        ret->dilation[i] = item(a->dilations, (size_t)i, 1);
        ret->pad_begin[i] = padded ? item(a->pads, (size_t)i, 0) : 0;
        ret->pad_end[i] = padded ? item(a->pads, (size_t)(i + ret->spatial), 0) : 0;
        if (ret->kernel[i] < 1 || ret->kernel[i] > size_max)
            return err_set(e, ERR_BAD_MODEL, "", "The kernel's size is not known.");
        if ((transposed ? fit_transposed : fit)(a, i, ret, e))
            return -1;
    }
    return 0;
}
