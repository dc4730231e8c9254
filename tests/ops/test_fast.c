/* The fast kernels, which work on float32, against the plain ones, which the same operators have
 * for float64, on random shapes, attributes and layouts. */
#include <string.h>

#include "tests/ops/run_op.h"

enum { ROUNDS = 60, INS = 4 };
static uint64_t state;

static int64_t between(int64_t lo, int64_t hi)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return lo + (int64_t)((state >> 33) % (uint64_t)(hi - lo + 1));
}

#define PICK(list) list[between(0, (int64_t)(sizeof list / sizeof *(list)) - 1)]

static struct tensor *as(const struct tensor *t, enum dtype type)
{
    int64_t dims[TENSOR_RANK_MAX + 1];
    struct tensor *ret =
        tensor_of(type, NULL, (memcpy(dims, t->dims, sizeof t->dims), dims[t->rank] = -1, dims));
    for (int64_t i = 0; i < tensor_count(t); i++)
        if (type == DT_F64)
            ((double *)ret->data)[i] = (double)((const float *)t->data)[i];
        else
            ((float *)ret->data)[i] = (float)((const double *)t->data)[i];
    return ret;
}

/* A random tensor; sizes that are and are not multiples of the vectors', now and then long ones. */
static struct tensor *noise(int rank, const int64_t *given)
{
    int64_t dims[TENSOR_RANK_MAX + 1];
    static const int64_t lengths[] = {1, 2, 3, 5, 7, 8, 13, 16, 17, 33};
    for (int d = 0; d < rank; d++)
        dims[d] = given ? given[d] : d < 2 || rank < 4 ? PICK(lengths) : between(1, 12);
    dims[rank] = -1;
    return tensor_random(DT_F32, dims, (unsigned)between(1, 1 << 20));
}

static void compare(const char *op, int opset, const struct attr *attrs, double tol, int n,
                    struct tensor *const *in)
{
    const struct tensor *fast[INS], *plain[INS];
    for (int i = 0; i < n; i++) {
        bool is_data = in[i] && in[i]->type == DT_F32;
        plain[i] = is_data ? as(in[i], DT_F64) : in[i];
        fast[i] = is_data && in[i]->rank >= 3 && between(0, 1) ? tensor_last(in[i]) : in[i];
    }
    struct run a = run_op_list(op, opset, attrs, 1, n, fast);
    struct run b = run_op_list(op, opset, attrs, 1, n, plain);
    if (a.rc || b.rc)
        FAIL("%s: %s%s", op, a.e.detail, b.e.detail);
    check_same(tensor_plain(&a.out[0]), as(tensor_plain(&b.out[0]), DT_F32), tol);
}

#define COMPARE(op, opset, attrs, tol, ...)                                                        \
    compare(op, opset, attrs, tol, sizeof((struct tensor *[]){__VA_ARGS__}) / sizeof(void *),      \
            (struct tensor *[]){__VA_ARGS__})

void test_fast__pools_agree_with_the_plain_ones(void)
{
    static const char *const ops[] = {"MaxPool", "AveragePool", "LpPool"};
    static const char *const all[] = {"GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"};
    for (int i = 0; i < ROUNDS; i++) {
        int64_t k[] = {between(1, 4), between(1, 4)},
                dims[] = {between(1, 2), between(1, 40), between(8, 20), between(8, 20)};
        struct attr *a = ATTRS(AT_INTS("kernel_shape", k[0], k[1]),
                               AT_INTS("strides", between(1, 3), between(1, 3)),
                               AT_INTS("dilations", between(1, 2), between(1, 2)),
                               AT_INTS("pads", between(0, k[0] - 1), between(0, k[1] - 1),
                                       between(0, k[0] - 1), between(0, k[1] - 1)),
                               AT_I("ceil_mode", between(0, 1)));
        COMPARE(PICK(ops), 19, a, 2e-5, noise(4, dims));
        COMPARE(PICK(all), 1, NULL, 2e-4, noise((int)between(3, 5), NULL));
    }
}

void test_fast__resizing_agrees_with_the_plain_one(void)
{
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    static const char *const places[] = {"half_pixel", "pytorch_half_pixel", "align_corners",
                                         "asymmetric"};
    for (int i = 0; i < ROUNDS; i++) {
        struct tensor *x = noise(4, NULL);
        struct tensor *sizes =
            INTS(x->dims[0], x->dims[1], between(1, 2 * x->dims[2]), between(1, 2 * x->dims[3]));
        struct attr *a =
            ATTRS(AT_S("mode", PICK(modes)), AT_S("coordinate_transformation_mode", PICK(places)),
                  AT_I("antialias", between(0, 1)));
        COMPARE("Resize", 19, a, 2e-5, x, NULL, NULL, sizes);
    }
}

void test_fast__softmax_agrees_with_the_plain_one(void)
{
    static const char *const ops[] = {"Softmax", "LogSoftmax"};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        int rank = (int)between(1, 4);
        struct attr *a = ATTRS(AT_I("axis", between(0, rank - 1)));
        COMPARE(PICK(ops), i % 2 ? 13 : 11, a, 2e-5, noise(rank, NULL));
    }
}

void test_fast__reductions_agree_with_the_plain_ones(void)
{
    static const char *const ops[] = {"ReduceSum", "ReduceMean", "ReduceMax",      "ReduceMin",
                                      "ReduceL1",  "ReduceL2",   "ReduceSumSquare"};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        int rank = (int)between(2, 4);
        int64_t first = between(0, rank - 1), last = between(first, rank - 1);
        struct attr *one = ATTRS(AT_INTS("axes", first), AT_I("keepdims", between(0, 1)));
        struct attr *two = ATTRS(AT_INTS("axes", first, last), AT_I("keepdims", between(0, 1)));
        COMPARE(PICK(ops), 11, first == last ? one : two, 1e-4, noise(rank, NULL));
    }
}

void test_fast__broadcast_arithmetic_agrees_with_the_plain_one(void)
{
    static const char *const ops[] = {"Add", "Sub", "Mul", "Min", "Max", "PRelu"};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        struct tensor *x = noise((int)between(1, 4), NULL);
        int skip = (int)between(0, x->rank - 1);
        int64_t dims[TENSOR_RANK_MAX];
        for (int d = skip; d < x->rank; d++)
            dims[d - skip] = between(0, 2) ? x->dims[d] : 1;
        COMPARE(PICK(ops), 16, NULL, 2e-6, x, noise(x->rank - skip, dims));
    }
}

void test_fast__functions_agree_with_the_plain_ones(void)
{
    static const char *const ops[] = {
        "Relu", "Sigmoid", "Tanh",     "Exp",      "Erf",        "LeakyRelu",   "Elu",
        "Abs",  "Neg",     "Softplus", "Softsign", "HardSwish",  "HardSigmoid", "Mish",
        "Gelu", "Selu",    "Celu",     "Floor",    "Reciprocal", "Round",       "ThresholdedRelu"};
    for (int i = 0; i < 3 * ROUNDS; i++)
        COMPARE(PICK(ops), 22, NULL, 2e-6, noise((int)between(1, 4), NULL));
}

void test_fast__normalizations_agree_with_the_plain_ones(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        struct tensor *x = noise(4, NULL), *s = noise(1, &x->dims[1]), *b = noise(1, &x->dims[1]);
        COMPARE("InstanceNormalization", 22, ATTRS(AT_F("epsilon", 0.1f)), 1e-4, x, s, b);
        struct tensor *scale = noise(1, &x->dims[3]);
        COMPARE("LayerNormalization", 17, ATTRS(AT_F("epsilon", 0.1f)), 1e-4, x, scale);
    }
}

void test_fast__grid_samples_agree_with_the_plain_ones(void)
{
    static const char *const modes[] = {"linear", "nearest", "cubic"};
    for (int i = 0; i < ROUNDS; i++) {
        struct tensor *x = noise(4, NULL);
        int64_t grid[] = {x->dims[0], between(1, 9), between(1, 9), 2};
        struct attr *a = ATTRS(AT_S("mode", PICK(modes)), AT_I("align_corners", between(0, 1)));
        const struct tensor *g = noise(4, grid);
        struct run fast = run_op("GridSample", 20, a, 1, x, g);
        struct run plain = run_op("GridSample", 20, a, 1, as(x, DT_F64), g);
        CHECK_INT(fast.rc + plain.rc, 0);
        check_same(tensor_plain(&fast.out[0]), as(tensor_plain(&plain.out[0]), DT_F32), 1e-5);
    }
}
