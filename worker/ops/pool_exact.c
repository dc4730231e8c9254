#include "worker/ops/pool.h"

#include <float.h>
#include <math.h>

static double value_at(const struct tensor *x, int64_t i)
{
    double v;
    row_loader(x->type)(1, (const char *)x->data + (size_t)i * dtype_size(x->type), 1, &v);
    return v;
}

/* The pixel whose element is the largest, by index into px->at; NaN wins. */
static int64_t best_of(const struct tensor *x, int64_t base, const struct pixels *px)
{
    int64_t best = 0;
    for (int64_t i = 1; i < px->n; i++) {
        double v = value_at(x, base + px->at[i]), m = value_at(x, base + px->at[best]);
        if (v > m || (v != v && m == m))
            best = i;
    }
    return best;
}

static double exact_window(const struct pool *p, const struct tensor *x, int64_t base,
                           const struct pixels *px, int64_t padded)
{
    double sum = 0;
    if (p->kind == POOL_MAX)
        return px->n ? value_at(x, base + px->at[best_of(x, base, px)]) : -DBL_MAX;
    for (int64_t i = 0; i < px->n; i++) {
        double v = value_at(x, base + px->at[i]);
        sum += p->kind == POOL_AVERAGE ? v : pow(fabs(v), p->power);
    }
    if (p->kind == POOL_LP)
        return pow(sum, 1 / p->power);
    return px->n ? sum / (double)(p->include_pad ? padded : px->n) : 0;
}

void pool_exact_pixel(const struct pool *p, const struct op_ctx *c, int64_t base,
                      const struct pixels *px, int64_t padded, int64_t at)
{
    struct tensor *y = c->out[0];
    for (int64_t k = 0; k < p->channels; k++) {
        double v = exact_window(p, c->in[0], base + k, px, padded);
        row_storer(y->type)(1, &v, (char *)y->data + (size_t)(at + k) * dtype_size(y->type), 1);
    }
}

int64_t pool_index_of(const struct pool *p, int64_t at)
{
    const struct window *w = &p->w;
    int64_t i0 = at / (w->in[1] * w->in[2]), i1 = at / w->in[2] % w->in[1];
    return p->column_major ? i0 + w->in[0] * (i1 + w->in[1] * (at % w->in[2])) : at;
}

void pool_exact_index(const struct pool *p, const struct op_ctx *c, int64_t base,
                      const struct pixels *px, int64_t n, int64_t pixel, int64_t *out)
{
    for (int64_t k = 0; k < p->channels; k++) {
        int64_t best = px->n ? px->at[best_of(c->in[0], base + k, px)] : 0;
        int64_t plane = n * p->channels + k;
        out[plane * p->out_pixels + pixel] =
            plane * p->in_pixels + pool_index_of(p, best / p->channels);
    }
}
