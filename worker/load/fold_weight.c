#include "worker/load/fold_weight.h"

#include <math.h>

static float multiply(float w, float r)
{
    return w * r;
}

/* The quotient, or a neighbour of it if only that gives w back. */
static float divide(float folded, float r)
{
    float w = folded / r;
    const float near[] = {w, nextafterf(w, INFINITY), nextafterf(w, -INFINITY)};
    for (int i = 0; i < 3; i++)
        if (near[i] * r == folded)
            return near[i];
    return w;
}

static int apply(float op(float, float), const struct tensor *w, const float *r, int n_r,
                 struct arena *a, struct tensor *ret, struct err *e)
{
    int64_t inner = w->rank >= 2 ? w->dims[1] : 0;
    if (w->type != DT_F32 || !inner || n_r <= 0 || n_r % inner || w->dims[0] % (n_r / inner))
        return err_set(e, ERR_BAD_MODEL, "", "%d folded scales do not fit the weight.", n_r);
    *ret = *w;
    if (!(ret->data = arena_try(a, tensor_bytes(w) + 1)))
        return err_set(e, ERR_MEMORY_LIMIT, "", "A weight needs %zu bytes.", tensor_bytes(w));
    int64_t groups = n_r / inner, per_group = w->dims[0] / groups;
    int64_t spatial = tensor_count(w) / (w->dims[0] * inner);
    const float *from = w->data;
    float *to = ret->data;
    for (int64_t o = 0; o < w->dims[0]; o++)
        for (int64_t j = 0; j < inner; j++)
            for (int64_t s = 0; s < spatial; s++)
                *to++ = op(*from++, r[o / per_group * inner + j]);
    return 0;
}

int fold_weight(const struct tensor *w, const float *r, int n_r, struct arena *a,
                struct tensor *ret, struct err *e)
{
    return apply(multiply, w, r, n_r, a, ret, e);
}

int unfold_weight(const struct tensor *folded, const float *r, int n_r, struct arena *a,
                  struct tensor *ret, struct err *e)
{
    return apply(divide, folded, r, n_r, a, ret, e);
}
