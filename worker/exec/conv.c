#include "worker/exec/conv.h"

#include "worker/exec/simd.h"

void conv_geom_of(const struct conv_desc *d, struct conv_geom *ret)
{
    int lead = CONV_SPATIAL_MAX - d->spatial;
    ret->taps = ret->in_pixels = ret->out_pixels = 1;
    for (int i = 0; i < CONV_SPATIAL_MAX; i++) {
        int j = i - lead;
        ret->in[i] = j < 0 ? 1 : d->in[j];
        ret->out[i] = j < 0 ? 1 : d->out[j];
        ret->kernel[i] = j < 0 ? 1 : d->kernel[j];
        ret->stride[i] = j < 0 ? 1 : d->stride[j];
        ret->dilation[i] = j < 0 ? 1 : d->dilation[j];
        ret->pad[i] = j < 0 ? 0 : d->pad_begin[j];
        ret->taps *= ret->kernel[i];
        ret->in_pixels *= ret->in[i];
        ret->out_pixels *= ret->out[i];
    }
    ret->cig = d->in_channels / d->groups;
    ret->cog = d->out_channels / d->groups;
}

int64_t conv_weight_count(const struct conv_desc *d)
{
    struct conv_geom g;
    conv_geom_of(d, &g);
    return d->groups * g.cig * g.cog * g.taps;
}

void conv_pack(const struct conv_desc *d, const float *weight, float *ret)
{
    struct conv_geom g;
    conv_geom_of(d, &g);
    /* Strides of (input channel, output channel) within a group, in the file's order. */
    int64_t step_i = d->transposed ? g.cog * g.taps : g.taps;
    int64_t step_o = d->transposed ? g.taps : g.cig * g.taps;
    for (int64_t group = 0; group < d->groups; group++) {
        const float *from = weight + group * g.cig * g.cog * g.taps;
        for (int64_t t = 0; t < g.taps; t++)
            for (int64_t i = 0; i < g.cig; i++)
                for (int64_t o = 0; o < g.cog; o++)
                    *ret++ = from[i * step_i + o * step_o + t];
    }
}

SIMD static void add_bias(const float *bias, float *out, int64_t pixels, int64_t channels)
{
    for (int64_t p = 0; p < pixels; p++, out += channels)
        for (int64_t c = 0; c < channels; c++)
            out[c] += bias[c];
}

/* The comparisons are those of the operators Relu and Clip: NaN stays NaN. */
SIMD static void relu(float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = out[i] < 0 ? 0 : out[i];
}

SIMD static void clip(float *out, int64_t n, float min, float max)
{
    for (int64_t i = 0; i < n; i++) {
        float v = out[i] < min ? min : out[i];
        out[i] = v > max ? max : v;
    }
}

void conv_finish(const struct conv_desc *d, const float *bias, float *out, int64_t pixels)
{
    if (bias)
        add_bias(bias, out, pixels, d->out_channels);
    if (d->act == ACT_RELU)
        relu(out, pixels * d->out_channels);
    if (d->act == ACT_CLIP)
        clip(out, pixels * d->out_channels, d->act_min, d->act_max);
}
