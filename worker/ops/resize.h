/* Where a resized axis reads: for each output index, `taps` input indices and weights. */
#ifndef PTQ_WORKER_OPS_RESIZE_H
#define PTQ_WORKER_OPS_RESIZE_H

#include "worker/ops/walk.h"

enum resize_mode { R_NEAREST, R_LINEAR, R_CUBIC };
enum resize_coordinate {
    C_HALF_PIXEL,
    C_PYTORCH_HALF_PIXEL,
    C_ALIGN_CORNERS,
    C_ASYMMETRIC,
    C_TF_CROP,
    C_TF_HALF_PIXEL,
    C_SYMMETRIC
};
enum resize_nearest {
    N_ROUND_FLOOR,
    N_ROUND_CEIL,
    N_FLOOR,
    N_CEIL,
    N_BY_SCALE /* before opset 11: floor, but ceil where the axis shrinks */
};

struct resize_how {
    enum resize_mode mode;
    enum resize_coordinate coordinate;
    enum resize_nearest nearest;
    bool antialias, exclude_outside;
    double cubic_a;
};

struct resize_axis {
    int64_t in, out;
    double scale, roi_begin, roi_end;
    int taps;
    int64_t *index; /* out * taps, within [0, in) */
    double *weight; /* out * taps */
    bool *outside;  /* out: shows the extrapolation value (tf_crop_and_resize) */
};

/* Taps of the axis; 0 if the scale is too small for its size. */
int resize_taps(const struct resize_how *h, const struct resize_axis *a);
size_t resize_table_bytes(const struct resize_axis *a);
/* Fills the tables, which lie in `room`. */
void resize_fill(const struct resize_how *h, struct resize_axis *a, void *room);

#endif
