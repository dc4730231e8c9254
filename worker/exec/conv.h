/*
 * What the convolutions of several backends share: the geometry in three spatial dims whatever
 * the descriptor has (missing ones are 1, in front), and packed weights.
 */
#ifndef PTQ_WORKER_EXEC_CONV_H
#define PTQ_WORKER_EXEC_CONV_H

#include "worker/exec/backend.h"

struct conv_geom {
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3];
    int64_t taps, in_pixels, out_pixels; /* products of kernel, in, out */
    int64_t cig, cog;                    /* channels of a group: in, out */
};
void conv_geom_of(const struct conv_desc *d, struct conv_geom *ret);

/* Elements of the weight. */
int64_t conv_weight_count(const struct conv_desc *d);

/* Weight as ONNX has it → [group][tap][cig][cog], for both directions. */
void conv_pack(const struct conv_desc *d, const float *weight, float *ret);

/* Adds the bias (or nothing for NULL) to `pixels` rows of `channels`, then the activation. */
void conv_finish(const struct conv_desc *d, const float *bias, float *out, int64_t pixels);

#endif
