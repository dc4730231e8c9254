/*
 * What the pools share. All work channels-last: a window is a list of pixels, and the channels of a
 * pixel lie together.
 */
#ifndef PTQ_WORKER_OPS_POOL_H
#define PTQ_WORKER_OPS_POOL_H

#include "worker/ops/walk.h"
#include "worker/ops/window.h"

/* The n pixels of a window inside the image: offsets from the image's first channel. */
struct pixels {
    int64_t n;
    const int64_t *at;
};

enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP };

struct pool {
    enum pool_kind kind;
    struct window w; /* three spatial dims, missing ones of size 1 in front */
    int64_t taps, in_pixels, out_pixels, channels;
    bool include_pad, column_major;
    double power;
};

/* Where pixel `at` of the image lies in the order that MaxPool's indices count. */
int64_t pool_index_of(const struct pool *p, int64_t at);

/* Other types than float32: as double, a window and channel at a time. */
/* All channels of one output pixel; base: the image's first element, at: the output's, padded: the
 * window's elements inside the padded image. */
void pool_exact_pixel(const struct pool *p, const struct op_ctx *c, int64_t base,
                      const struct pixels *px, int64_t padded, int64_t at);
/* The indices of one output pixel of image n. */
void pool_exact_index(const struct pool *p, const struct op_ctx *c, int64_t base,
                      const struct pixels *px, int64_t n, int64_t pixel, int64_t *out);

#endif
