/* The arithmetic of Resize along one axis, after the ONNX reference (Resize-19). */
#include "worker/ops/resize.h"

#include <math.h>

static double narrow(const struct resize_how *h, const struct resize_axis *a)
{
    return h->antialias && a->scale < 1 ? a->scale : 1;
}

/* The first tap's place relative to the coordinate's floor. */
static double first_tap(const struct resize_how *h, const struct resize_axis *a)
{
    if (h->mode == R_NEAREST)
        return 0;
    double reach = h->mode == R_CUBIC ? 2 : 1;
    return floor(-reach / narrow(h, a)) + 1;
}

int resize_taps(const struct resize_how *h, const struct resize_axis *a)
{
    if (h->mode == R_NEAREST)
        return 1;
    double n = 2 - 2 * first_tap(h, a);
    return n <= 4.0 * (double)a->in + 16 ? (int)n : 0;
}

size_t resize_table_bytes(const struct resize_axis *a)
{
    return (size_t)a->out * ((size_t)a->taps * (sizeof *a->index + sizeof *a->weight) + 1) + 64;
}

static double coordinate(const struct resize_how *h, const struct resize_axis *a, double x)
{
    double in = (double)a->in, length = a->scale * in;
    switch (h->coordinate) {
    case C_HALF_PIXEL:
        return (x + 0.5) / a->scale - 0.5;
    case C_PYTORCH_HALF_PIXEL:
        return length > 1 ? (x + 0.5) / a->scale - 0.5 : 0;
    case C_ALIGN_CORNERS:
        return length == 1 ? 0 : x * (in - 1) / (length - 1);
    case C_ASYMMETRIC:
        return x / a->scale;
    case C_TF_HALF_PIXEL:
        return (x + 0.5) / a->scale;
    case C_SYMMETRIC:
        return in / 2 * (1 - (double)a->out / length) + (x + 0.5) / a->scale - 0.5;
    case C_TF_CROP:
        break;
    }
    if (a->out == 1)
        return 0.5 * (a->roi_begin + a->roi_end) * (in - 1);
    return a->roi_begin * (in - 1) +
           x * (a->roi_end - a->roi_begin) * (in - 1) / ((double)a->out - 1);
}

static double rounded(enum resize_nearest n, double x)
{
    switch (n) {
    case N_ROUND_FLOOR:
        return ceil(x - 0.5);
    case N_ROUND_CEIL:
        return floor(x + 0.5);
    case N_FLOOR:
        return floor(x);
    case N_CEIL:
        return ceil(x);
    case N_BY_SCALE:
        break;
    }
    return x;
}

/* Weight at a distance: the tent, or the cubic convolution kernel (Keys, 1981). */
static double kernel(const struct resize_how *h, double d)
{
    double x = fabs(d), a = h->cubic_a;
    if (h->mode == R_LINEAR)
        return x < 1 ? 1 - x : 0;
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static int64_t clamp_index(double v, int64_t n)
{
    return !(v > 0) ? 0 : v >= (double)n ? n - 1 : (int64_t)v;
}

static void fill_one(const struct resize_how *h, const struct resize_axis *a, double x,
                     int64_t *index, double *weight)
{
    if (h->mode == R_NEAREST) {
        enum resize_nearest n = h->nearest;
        if (n == N_BY_SCALE)
            n = a->scale < 1 ? N_CEIL : N_FLOOR;
        *index = clamp_index(rounded(n, x), a->in);
        *weight = 1;
        return;
    }
    double base = floor(x), ratio = x - base, sum = 0, first = first_tap(h, a), s = narrow(h, a);
    for (int k = 0; k < a->taps; k++) {
        double at = base + first + k;
        bool is_outside = at < 0 || at > (double)a->in - 1;
        index[k] = clamp_index(at, a->in);
        weight[k] = h->exclude_outside && is_outside ? 0 : kernel(h, (first + k - ratio) * s);
        sum += weight[k];
    }
    for (int k = 0; (h->exclude_outside || s < 1) && sum != 0 && k < a->taps; k++)
        weight[k] /= sum;
}

void resize_fill(const struct resize_how *h, struct resize_axis *a, void *room)
{
    size_t n = (size_t)a->out * (size_t)a->taps;
    a->weight = room;
    a->index = (void *)(a->weight + n);
    a->outside = (void *)(a->index + n);
    for (int64_t i = 0; i < a->out; i++) {
        double x = coordinate(h, a, (double)i);
        a->outside[i] = h->coordinate == C_TF_CROP && (x < 0 || x > (double)a->in - 1);
        fill_one(h, a, x, a->index + i * a->taps, a->weight + i * a->taps);
    }
}
