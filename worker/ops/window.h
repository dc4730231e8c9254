/*
 * Sliding windows: the attributes that Conv, ConvTranspose and the pools share, and what follows
 * from them: kernel, stride, padding and output size of each spatial dim.
 */
#ifndef PTQ_WORKER_OPS_WINDOW_H
#define PTQ_WORKER_OPS_WINDOW_H

#include "worker/exec/backend.h"
#include "worker/ops/op.h"

struct window_attr {
    const char *auto_pad;
    int64_t ceil_mode;
    struct ints kernel_shape, strides, dilations, pads;
    struct ints output_shape, output_padding; /* ConvTranspose */
};

/* Rows of an attribute table for a struct that holds a struct window_attr as `member`. */
#define WINDOW_ATTR(holder, member, field, kind)                                                   \
    {                                                                                              \
        .name = #field, .type = kind, .offset = offsetof(holder, member.field)                     \
    }
#define WINDOW_ATTRS(holder, member)                                                               \
    {.name = "auto_pad",                                                                           \
     .type = ATTR_STRING,                                                                          \
     .offset = offsetof(holder, member.auto_pad),                                                  \
     .text = "NOTSET"},                                                                            \
        WINDOW_ATTR(holder, member, kernel_shape, ATTR_INTS),                                      \
        WINDOW_ATTR(holder, member, strides, ATTR_INTS),                                           \
        WINDOW_ATTR(holder, member, pads, ATTR_INTS)

struct window {
    int spatial;
    int64_t in[CONV_SPATIAL_MAX], out[CONV_SPATIAL_MAX]; /* -1: not known yet */
    int64_t kernel[CONV_SPATIAL_MAX], stride[CONV_SPATIAL_MAX], dilation[CONV_SPATIAL_MAX];
    int64_t pad_begin[CONV_SPATIAL_MAX], pad_end[CONV_SPATIAL_MAX];
};

/* The values of the attributes themselves: signs, and lengths that agree with each other. */
int window_check(const struct window_attr *a, struct err *e);

/* x: the input, N × C × spatial. kernel: its spatial dims, or NULL to take kernel_shape. */
int window_of(const struct window_attr *a, const struct tensor *x, const int64_t *kernel,
              bool transposed, struct window *ret, struct err *e);

#endif
