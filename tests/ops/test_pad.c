#include "tests/ops/run_op.h"

#define X23 tensor_shaped(FLOATS(1, 2, 3, 4, 5, 6), DIMS(2, 3))

void test_pad__modes(void)
{
    struct tensor *p = INTS(0, 2, 0, 1);
    CHECK_FLOATS(&run_op("Pad", 13, NULL, 1, X23, p, tensor_shaped(FLOATS(9), SCALAR)).out[0], 0, 9,
                 9, 1, 2, 3, 9, 9, 9, 4, 5, 6, 9);
    CHECK_FLOATS(&run_op("Pad", 13, ATTRS(AT_S("mode", "reflect")), 1, X23, p).out[0], 0, 3, 2, 1,
                 2, 3, 2, 6, 5, 4, 5, 6, 5);
    CHECK_FLOATS(&run_op("Pad", 13, ATTRS(AT_S("mode", "edge")), 1, X23, p).out[0], 0, 1, 1, 1, 2,
                 3, 3, 4, 4, 4, 5, 6, 6);
    CHECK_FLOATS(&run_op("Pad", 19, ATTRS(AT_S("mode", "wrap")), 1, X23, p).out[0], 0, 2, 3, 1, 2,
                 3, 1, 5, 6, 4, 5, 6, 4);
}

void test_pad__negative_pads_crop(void)
{
    CHECK_FLOATS(&run_op("Pad", 13, NULL, 1, X23, INTS(0, -1, 1, -1)).out[0], 0, 2, 5, 0);
    CHECK_INT(run_op("Pad", 13, NULL, 1, X23, INTS(0, -2, 0, -2)).rc, -1);
    CHECK_INT(run_op("Pad", 13, NULL, 1, X23, INTS(0, INT64_MAX, 0, INT64_MAX)).rc, -1);
}

void test_pad__old_form_and_axes(void)
{
    struct run a = run_op("Pad", 2, ATTRS(AT_INTS("pads", 0, 1, 0, 0), AT_F("value", 7)), 1, X23);
    struct run b =
        run_op("Pad", 18, NULL, 1, X23, INTS(1, 0), tensor_shaped(FLOATS(7), SCALAR), INTS(-1));
    CHECK_OK(a.rc, a.e);
    CHECK_OK(b.rc, b.e);
    check_same(&a.out[0], &b.out[0], 0);
}

void test_pad__layouts_do_not_matter(void)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 3, 4, 5), 1);
    for (int m = 0; m < 4; m++)
        CHECK_LAYOUTS("Pad", 19, ATTRS(AT_S("mode", modes[m])), 1, x,
                      INTS(0, 1, 2, 3, 1, 0, -1, 2));
}
