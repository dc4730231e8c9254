/* The two walks of a normalization: its sums, and its result. */
#include "worker/ops/norm.h"

#include <math.h>
#include <string.h>

/* ---- rows ---- */

#define SUM_ROW(dt, sfx, T)                                                                        \
    KERNEL_##sfx static void sums_##sfx(int64_t n, char *const *p, const int64_t *s, void *arg)    \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *x = (const void *)p[0];                                                           \
        double *sum = (void *)p[1], *square = (void *)p[2];                                        \
        if (s[1] != 0) {                                                                           \
            for (int64_t i = 0; i < n; i++) {                                                      \
                double v = (double)x[i * s[0]];                                                    \
                sum[i * s[1]] += v;                                                                \
                square[i * s[2]] += v * v;                                                         \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        double a[8] = {0}, b[8] = {0};                                                             \
        int64_t i = 0;                                                                             \
        for (; i + 8 <= n; i += 8)                                                                 \
            for (int k = 0; k < 8; k++) {                                                          \
                double v = (double)x[(i + k) * s[0]];                                              \
                a[k] += v;                                                                         \
                b[k] += v * v;                                                                     \
            }                                                                                      \
        for (; i < n; i++) {                                                                       \
            double v = (double)x[i * s[0]];                                                        \
            a[0] += v;                                                                             \
            b[0] += v * v;                                                                         \
        }                                                                                          \
        for (int k = 0; k < 8; k++) {                                                              \
            *sum += a[k];                                                                          \
            *square += b[k];                                                                       \
        }                                                                                          \
    }
DTYPES_FLOAT(SUM_ROW)

/* Tensors: x, mean, factor, scale, bias, y. */
#define APPLY_ROW(dt, sfx, T)                                                                      \
    KERNEL_##sfx static void apply_##sfx(int64_t n, char *const *p, const int64_t *s, void *arg)   \
    {                                                                                              \
        (void)arg;                                                                                 \
        const T *x = (const void *)p[0];                                                           \
        const double *m = (void *)p[1], *f = (void *)p[2], *a = (void *)p[3], *b = (void *)p[4];   \
        T *o = (void *)p[5];                                                                       \
        if (s[0] == 1 && s[1] == 0 && s[2] == 0 && s[5] == 1) {                                    \
            double mean = *m, factor = *f;                                                         \
            IVDEP for (int64_t i = 0; i < n; i++) o[i] =                                           \
                (T)(((double)x[i] - mean) * factor * a[i * s[3]] + b[i * s[4]]);                   \
            return;                                                                                \
        }                                                                                          \
        IVDEP for (int64_t i = 0; i < n; i++) o[i * s[5]] =                                        \
            (T)(((double)x[i * s[0]] - m[i * s[1]]) * f[i * s[2]] * a[i * s[3]] + b[i * s[4]]);    \
    }
DTYPES_FLOAT(APPLY_ROW)

static walk_rows sum_rows = {[DT_F32] = sums_f32, [DT_F64] = sums_f64, [DT_F16] = sums_f16};
static walk_rows apply_rows = {[DT_F32] = apply_f32, [DT_F64] = apply_f64, [DT_F16] = apply_f16};

static void absolute_row(int64_t n, char *const *p, const int64_t *s, void *arg)
{
    const enum dtype *t = arg;
    double v;
    for (int64_t i = 0; i < n; i++) {
        row_loader (*t)(1, p[0] + i * s[0] * (int64_t)dtype_size(*t), 1, &v);
        ((double *)(void *)p[1])[i * s[1]] += fabs(v);
    }
}

/* ---- the two walks ---- */

static const double one = 1, zero = 0;

/* Scratch: two numbers a group, then the parameters. All strides but in and out are 0 yet. */
void norm_init(struct norm *m, const struct op_ctx *c)
{
    *m = (struct norm){.rank = c->in[0]->rank, .scales = &one, .biases = &zero};
    memcpy(m->dims, c->in[0]->dims, sizeof c->in[0]->dims);
    tensor_strides(c->in[0], m->in);
    tensor_strides(c->out[0], m->out);
}

void norm_groups(struct norm *m, const struct op_ctx *c, int64_t groups)
{
    m->groups = groups;
    m->mean = c->scratch;
    m->factor = m->mean + groups;
    memset(m->mean, 0, (size_t)groups * 2 * sizeof *m->mean);
}

/* Input i as doubles, in the k-th place behind the groups' numbers. */
const double *norm_param(const struct norm *m, const struct op_ctx *c, int i, int64_t *used)
{
    double *to = m->factor + m->groups + *used;
    int64_t n = tensor_count(c->in[i]);
    row_loader(c->in[i]->type)(n, c->in[i]->data, 1, to);
    *used += n;
    return to;
}

void norm_sums(struct norm *m, const struct op_ctx *c)
{
    struct walk w;
    walk_init(&w, m->rank, m->dims);
    walk_add(&w, c->in[0]->data, dtype_size(c->in[0]->type), m->in);
    walk_add(&w, m->mean, 8, m->group);
    walk_add(&w, m->factor, 8, m->group);
    walk_run(&w, sum_rows[c->in[0]->type], NULL);
}

/* Sums become means and factors: 1/sqrt(var + eps), 1/(std + eps), or 1/sqrt(mean square + eps). */
void norm_moments(struct norm *m, double count, double eps, enum deviation by)
{
    for (int64_t g = 0; g < m->groups; g++) {
        double mean = m->mean[g] / count, square = m->factor[g] / count;
        double var = square - mean * mean;
        var = var < 0 ? 0 : var;
        m->mean[g] = by == BY_SQUARE ? 0 : mean;
        m->factor[g] = by == BY_SQUARE ? 1 / sqrt(square + eps)
                       : by == BY_STD  ? 1 / (sqrt(var) + eps)
                                       : 1 / sqrt(var + eps);
    }
}

int norm_apply(struct norm *m, const struct op_ctx *c)
{
    struct walk w;
    size_t size = dtype_size(c->in[0]->type);
    walk_init(&w, m->rank, m->dims);
    walk_add(&w, c->in[0]->data, size, m->in);
    walk_add(&w, m->mean, 8, m->group);
    walk_add(&w, m->factor, 8, m->group);
    walk_add(&w, m->scales, 8, m->scale);
    walk_add(&w, m->biases, 8, m->bias);
    walk_add(&w, c->out[0]->data, size, m->out);
    walk_run(&w, apply_rows[c->in[0]->type], NULL);
    return 0;
}

/* Room for the groups' numbers and all parameters. */
int norm_room(struct op_ctx *c, int64_t groups, const void **ret_prep)
{
    int64_t n = 2 * groups;
    for (int i = 1; i < c->n_in; i++)
        n += c->in[i] ? tensor_count(c->in[i]) : 0;
    c->scratch_bytes = (size_t)n * sizeof(double);
    *ret_prep = NULL;
    return 0;
}

void norm_absolutes(struct norm *m, const struct op_ctx *c)
{
    enum dtype t = c->in[0]->type;
    struct walk w;
    walk_init(&w, m->rank, m->dims);
    walk_add(&w, c->in[0]->data, dtype_size(t), m->in);
    walk_add(&w, m->factor, 8, m->group);
    walk_run(&w, absolute_row, &t);
}
