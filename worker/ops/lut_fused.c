/*
 * Operators that the optimizer makes of several nodes (domain horizon): one look-up table on the
 * device, so one node with one calibration. The formulas are those of the nodes they replace.
 */
#include "worker/ops/vecmath.h"
#include "worker/ops/walk.h"

static inline float clip_to_six(float x)
{
    return x < 0 ? 0 : x > 6 ? 6 : x;
}

#define ROW_FN(name, expr)                                                                         \
    KERNEL static void name##_row(int64_t n, char *const *p, const int64_t *s, void *arg)          \
    {                                                                                              \
        const float *in = (const void *)p[0];                                                      \
        float *out = (void *)p[1];                                                                 \
        (void)arg;                                                                                 \
        if (s[0] == 1 && s[1] == 1) {                                                              \
            IVDEP for (int64_t i = 0; i < n; i++)                                                  \
            {                                                                                      \
                float x = in[i];                                                                   \
                out[i] = expr;                                                                     \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            float x = in[i * s[0]];                                                                \
            out[i * s[1]] = expr;                                                                  \
        }                                                                                          \
    }
ROW_FN(swish, x *vec_sigmoid(x))
ROW_FN(hard_swish, x *clip_to_six(x + 3.0f) / 6.0f)

static int shape(struct op_ctx *c, struct err *e)
{
    if (op_need(c, 1, e))
        return -1;
    return c->in[0]->type == DT_F32 ? op_shape_same(c, e) : op_bad(c, 0, e, "it must be float32");
}

static int swish_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    op_pointwise_run(c, swish_row, NULL);
    return 0;
}

static int hard_swish_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    op_pointwise_run(c, hard_swish_row, NULL);
    return 0;
}

#define FUSED(name, fn)                                                                            \
    {                                                                                              \
        .type = name, .domain = HORIZON, .since = 1, .min_in = 1, .max_in = 1, .in = {FEATURE},    \
        .out = {FEATURE}, .traits = T_QUANT | T_LUT | T_INPLACE, .layout = L_SAME, .shape = shape, \
        .run = fn, .types = TYPE(F32), .note = "made by the optimizer"                             \
    }

const struct op ops_lut_fused[] = {
    FUSED("HzSwish", swish_run),
    FUSED("HzHardSwish", hard_swish_run),
    {0},
};
