#include "tests/ops/run_op.h"

#define A     tensor_shaped(FLOATS(1, 2, 3, 4), DIMS(2, 2))
#define EQ(s) ATTRS(AT_S("equation", s))

void test_einsum__products_diagonals_sums(void)
{
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("ij,jk->ik"), 1, A, A).out[0], 0, 7, 10, 15, 22);
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("ii->i"), 1, A).out[0], 0, 1, 4);
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("ij->"), 1, A).out[0], 0, 10);
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("ij->ji"), 1, A).out[0], 0, 1, 3, 2, 4);
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("ba"), 1, A).out[0], 0, 1, 3, 2, 4);
    CHECK_FLOATS(&run_op("Einsum", 12, EQ("...j,j->..."), 1, A, FLOATS(1, 10)).out[0], 0, 21, 43);
}

void test_einsum__refuses_equations_that_do_not_fit(void)
{
    static const char *const bad[] = {"ij,jk", "ijk->i", "i->i", "ij->ik", "ij->ii",
                                      "i-j",   "",       "ij->", "1j->j",  "ij,->i"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (i == 7)
            continue;
        CHECK_INT(run_op("Einsum", 12, EQ(bad[i]), 1, A).rc, -1);
    }
    CHECK_INT(run_op("Einsum", 12, EQ("ij,jk->ik"), 1, A, FLOATS(1)).rc, -1);
}

void test_einsum__integer_products(void)
{
    struct tensor *a = tensor_of(DT_U8, (uint8_t[]){11, 7, 3, 10, 6, 2}, DIMS(2, 3));
    struct tensor *b = tensor_of(DT_U8, (uint8_t[]){1, 4, 2, 5, 3, 6}, DIMS(3, 2));
    struct tensor *za = tensor_of(DT_U8, (uint8_t[]){12}, DIMS(1)),
                  *zb = tensor_of(DT_U8, (uint8_t[]){0}, DIMS(1));
    struct run r = run_op("MatMulInteger", 10, NULL, 1, a, b, za, zb);
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], -38, -83, -44, -98);
    CHECK_INT(run_op("MatMulInteger", 10, NULL, 1, a, a).rc, -1);
}

void test_einsum__quantize_saturates_and_rounds_to_even(void)
{
    struct tensor *z = tensor_of(DT_U8, (uint8_t[]){128}, SCALAR),
                  *s = tensor_shaped(FLOATS(2), SCALAR);
    struct run r = run_op("QuantizeLinear", 13, NULL, 1, FLOATS(0, 1, 3, 1000, -254, -1000), s, z);
    CHECK_OK(r.rc, r.e);
    CHECK_INTS(&r.out[0], 128, 128, 130, 255, 1, 0);
    struct run d = run_op("DequantizeLinear", 13, NULL, 1, &r.out[0], s, z);
    CHECK_FLOATS(&d.out[0], 0, 0, 0, 4, 254, -254, -256);
    CHECK_INT(run_op("QuantizeLinear", 13, NULL, 1, FLOATS(1, 2), FLOATS(1, 2, 3)).rc, -1);
}
