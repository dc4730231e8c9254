#include "worker/ops/rnn.h"

#include <math.h>
#include <strings.h>

#define ACT(name, expr)                                                                            \
    static double name(double x, double a, double b)                                               \
    {                                                                                              \
        (void)a, (void)b;                                                                          \
        return expr;                                                                               \
    }
ACT(sigmoid, x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)))
ACT(hyperbolic, tanh(x))
ACT(relu, x < 0 ? 0 : x)
ACT(affine, a *x + b)
ACT(leaky, x < 0 ? a * x : x)
ACT(thresholded, x >= a ? x : 0)
ACT(scaled_tanh, a *tanh(b *x))
ACT(hard_sigmoid, fmin(fmax(a *x + b, 0), 1))
ACT(elu, x < 0 ? a * expm1(x) : x)
ACT(softsign, x / (1 + fabs(x)))
ACT(softplus, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))

static const struct row {
    const char *name;
    double (*value)(double, double, double);
    bool takes_alpha, takes_beta;
    double alpha, beta; /* defaults */
} rows[] = {{"Sigmoid", sigmoid, false, false, 0, 0},
            {"Tanh", hyperbolic, false, false, 0, 0},
            {"Relu", relu, false, false, 0, 0},
            {"Affine", affine, true, true, 1, 0},
            {"LeakyRelu", leaky, true, false, 0.01, 0},
            {"ThresholdedRelu", thresholded, true, false, 1, 0},
            {"ScaledTanh", scaled_tanh, true, true, 1, 1},
            {"HardSigmoid", hard_sigmoid, true, true, 0.2, 0.5},
            {"Elu", elu, true, false, 1, 0},
            {"Softsign", softsign, false, false, 0, 0},
            {"Softplus", softplus, false, false, 0, 0},
            {NULL, NULL, false, false, 0, 0}};

int rnn_activations(const struct strings *names, const struct floats *alphas,
                    const struct floats *betas, const char *const *defaults, int n,
                    struct rnn_act *ret, struct err *e)
{
    size_t alpha = 0, beta = 0;
    if (names->v && names->n < (size_t)n)
        return err_set(e, ERR_BAD_MODEL, NULL, "The cell needs %d activations, not %zu.", n,
                       names->n);
    for (int k = 0, d = 0; k < n; k++, d++) {
        d = defaults[d] ? d : 0;
        const char *name = names->v ? names->v[k] : defaults[d];
        const struct row *r = rows;
        while (r->name && strcasecmp(r->name, name))
            r++;
        if (!r->name)
            return err_set(e, ERR_BAD_MODEL, NULL, "There is no activation \"%.40s\".", name);
        ret[k] = (struct rnn_act){r->value, r->alpha, r->beta};
        if (r->takes_alpha && alpha < alphas->n)
            ret[k].alpha = (double)alphas->v[alpha++];
        if (r->takes_beta && beta < betas->n)
            ret[k].beta = (double)betas->v[beta++];
    }
    return 0;
}
