/* Convolutions, products and pools in other types give what they give in float32, where that can
 * hold the numbers, and what only their own type can hold. */
#include <string.h>

#include "tests/ops/run_op.h"

/* The dims closed by -1, as tensor_of takes them; to the next call. */
static const int64_t *with_end(const struct tensor *t)
{
    static int64_t dims[TENSOR_RANK_MAX + 1];
    memcpy(dims, t->dims, (size_t)t->rank * sizeof *dims);
    dims[t->rank] = -1;
    return dims;
}

static struct tensor *cast(const struct tensor *t, enum dtype type)
{
    struct run r = run_op("Cast", 13, ATTRS(AT_I("to", type)), 1, tensor_plain(t));
    CHECK_INT(r.rc, 0);
    return tensor_of(type, r.out[0].data, with_end(&r.out[0]));
}

/* In float32 and in `type`, all outputs. */
static void compare(const char *op, int opset, const struct attr *attrs, enum dtype type, int n_out,
                    int n_in, const struct tensor *const *in, double tol)
{
    const struct tensor *other[3];
    for (int i = 0; i < n_in; i++)
        other[i] = in[i] ? cast(in[i], type) : NULL;
    struct run a = run_op_list(op, opset, attrs, n_out, n_in, in);
    struct run b = run_op_list(op, opset, attrs, n_out, n_in, other);
    CHECK_INT(a.rc, 0);
    if (b.rc)
        FAIL("%s as %s: %s", op, dtype_name(type), b.e.detail);
    CHECK_INT(b.out[0].type, type);
    check_same(tensor_plain(&a.out[0]), cast(&b.out[0], DT_F32), tol);
    if (n_out > 1)
        check_same(&a.out[1], &b.out[1], 0);
}

#define COMPARE(op, attrs, type, n_out, tol, ...)                                                  \
    compare(op, 22, attrs, type, n_out, sizeof((const struct tensor *[]){__VA_ARGS__}) / 8,        \
            (const struct tensor *[]){__VA_ARGS__}, tol)

static void in_floats(const char *op, const struct attr *attrs, const struct tensor *x,
                      const struct tensor *w, const struct tensor *b)
{
    COMPARE(op, attrs, DT_F64, 1, 1e-4, x, w, b);
    COMPARE(op, attrs, DT_F16, 1, 3e-2, x, w, b);
}

void test_exact__convolutions_agree_with_float32(void)
{
    in_floats("Conv",
              ATTRS(AT_I("group", 2), AT_INTS("pads", 1, 0, 2, 1), AT_INTS("strides", 2, 1)),
              tensor_random(DT_F32, DIMS(2, 4, 7, 6), 1),
              tensor_random(DT_F32, DIMS(6, 2, 3, 2), 2), tensor_random(DT_F32, DIMS(6), 3));
    in_floats("Conv", ATTRS(AT_INTS("dilations", 2)), tensor_random(DT_F32, DIMS(1, 3, 9), 4),
              tensor_random(DT_F32, DIMS(2, 3, 3), 5), NULL);
    in_floats("ConvTranspose",
              ATTRS(AT_I("group", 2), AT_INTS("pads", 1, 0, 0, 1), AT_INTS("strides", 2, 3),
                    AT_INTS("dilations", 1, 2)),
              tensor_random(DT_F32, DIMS(2, 4, 4, 3), 6),
              tensor_random(DT_F32, DIMS(4, 3, 3, 2), 7), tensor_random(DT_F32, DIMS(6), 8));
    in_floats("Conv", ATTRS(AT_I("group", 1)), tensor_random(DT_F32, DIMS(1, 2, 3, 4, 3), 9),
              tensor_random(DT_F32, DIMS(3, 2, 2, 2, 2), 10), NULL);
}

void test_exact__products_agree_with_float32(void)
{
    const struct attr *attrs =
        ATTRS(AT_I("transA", 1), AT_I("transB", 1), AT_F("alpha", 2), AT_F("beta", 3));
    const struct tensor *a = tensor_random(DT_F32, DIMS(4, 3), 1);
    const struct tensor *b = tensor_random(DT_F32, DIMS(5, 4), 2);
    in_floats("Gemm", attrs, a, b, tensor_random(DT_F32, DIMS(5), 3));
    COMPARE("MatMul", NULL, DT_F64, 1, 1e-4, tensor_random(DT_F32, DIMS(2, 1, 3, 4), 4),
            tensor_random(DT_F32, DIMS(3, 4, 2), 5));
    COMPARE("MatMul", NULL, DT_F16, 1, 3e-2, tensor_random(DT_F32, DIMS(4), 4),
            tensor_random(DT_F32, DIMS(3, 4, 2), 5));
}

void test_exact__integers_are_not_rounded_and_wrap(void)
{
    struct run r = run_op("MatMul", 13, NULL, 1, INTS((1LL << 53) + 1, 2), INTS(3, -1));
    CHECK_INT(r.rc, 0);
    CHECK_INTS(&r.out[0], 3 * (1LL << 53) + 1);
    int32_t big[] = {1 << 30, 1 << 30}, four[] = {4, -5};
    r = run_op("MatMul", 13, NULL, 1, tensor_of(DT_I32, big, DIMS(2)),
               tensor_of(DT_I32, four, DIMS(2)));
    CHECK_INT(((const int32_t *)r.out[0].data)[0], -(1 << 30));
    int32_t c[] = {7};
    r = run_op("Gemm", 13, ATTRS(AT_F("alpha", 2), AT_F("beta", -1)), 1,
               tensor_of(DT_I32, four, DIMS(1, 2)), tensor_of(DT_I32, four, DIMS(2, 1)),
               tensor_of(DT_I32, c, DIMS(1)));
    CHECK_INT(r.rc, 0);
    CHECK_INT(((const int32_t *)r.out[0].data)[0], 2 * 41 - 7);
}

void test_exact__pools_agree_with_float32(void)
{
    const struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 6, 7), 1);
    const struct attr *attrs = ATTRS(AT_INTS("kernel_shape", 3, 2), AT_INTS("strides", 2, 1),
                                     AT_INTS("pads", 1, 1, 1, 0), AT_I("ceil_mode", 1));
    const struct attr *column =
        ATTRS(AT_INTS("kernel_shape", 2, 2), AT_INTS("dilations", 2, 3), AT_I("storage_order", 1));
    COMPARE("MaxPool", attrs, DT_F64, 2, 1e-6, x);
    COMPARE("MaxPool", column, DT_F64, 2, 1e-6, x);
    COMPARE("AveragePool", attrs, DT_F64, 1, 1e-5, x);
    COMPARE("AveragePool", attrs, DT_F16, 1, 1e-2, x);
    COMPARE("LpPool", attrs, DT_F64, 1, 1e-5, x);
    COMPARE("GlobalAveragePool", NULL, DT_F64, 1, 1e-5, x);
    COMPARE("GlobalMaxPool", NULL, DT_F16, 1, 1e-2, x);
    COMPARE("GlobalLpPool", NULL, DT_F64, 1, 1e-4, x);
}

void test_exact__max_pool_takes_bytes(void)
{
    const struct tensor *x = cast(tensor_random(DT_U8, DIMS(1, 2, 5, 4), 3), DT_F32);
    const struct attr *attrs =
        ATTRS(AT_INTS("kernel_shape", 2, 3), AT_INTS("pads", 0, 1, 1, 0), AT_INTS("strides", 2, 2));
    COMPARE("MaxPool", attrs, DT_U8, 2, 0, x);
    COMPARE("MaxPool", attrs, DT_I8, 2, 0, x);
    struct run r = run_op("AveragePool", 19, ATTRS(AT_INTS("kernel_shape", 2, 2)), 1,
                          tensor_random(DT_U8, DIMS(1, 2, 5, 4), 3));
    CHECK_INT(r.e.code, ERR_UNSUPPORTED);
}
