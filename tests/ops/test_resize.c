#include "tests/ops/run_op.h"
#include "tests/unit/mini.h"
#include "worker/exec/exec.h"

#define IMAGE(...) tensor_shaped(FLOATS(__VA_ARGS__), DIMS(1, 1, 2, 2))

void test_resize__nearest_doubles(void)
{
    struct tensor *x = IMAGE(1, 2, 3, 4);
    struct run r = run_op("Resize", 13, NULL, 1, x, NULL, FLOATS(1, 1, 2, 3));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 3, 3, 3, 4, 4,
                 4);
    struct run old = run_op("Upsample", 7, ATTRS(AT_FLOATS("scales", 1, 1, 2, 3)), 1, x);
    struct run ten = run_op("Resize", 10, NULL, 1, x, FLOATS(1, 1, 2, 3));
    check_same(&old.out[0], &r.out[0], 0);
    check_same(&ten.out[0], &r.out[0], 0);
}

void test_resize__linear_by_half_pixels(void)
{
    struct run r = run_op("Resize", 13, ATTRS(AT_S("mode", "linear")), 1, IMAGE(1, 2, 3, 4), NULL,
                          FLOATS(1, 1, 2, 2));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 1, 1.25f, 1.75f, 2, 1.5f, 1.75f, 2.25f, 2.5f, 2.5f, 2.75f, 3.25f,
                 3.5f, 3, 3.25f, 3.75f, 4);
}

void test_resize__linear_with_aligned_corners(void)
{
    struct run r = run_op(
        "Resize", 13,
        ATTRS(AT_S("mode", "linear"), AT_S("coordinate_transformation_mode", "align_corners")), 1,
        IMAGE(1, 2, 3, 4), NULL, NULL, INTS(1, 1, 3, 3));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 1, 1.5f, 2, 2, 2.5f, 3, 3, 3.5f, 4);
}

void test_resize__keeps_the_aspect_ratio(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 1, 4, 8), 1);
    struct run r = run_op(
        "Resize", 18, ATTRS(AT_INTS("axes", 2, 3), AT_S("keep_aspect_ratio_policy", "not_larger")),
        1, x, NULL, NULL, INTS(6, 10));
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(1, 1, 5, 10));
}

void test_resize__cubic_keeps_constants_and_weights_sum_to_one(void)
{
    struct tensor *x = tensor_of(DT_F32, NULL, DIMS(1, 1, 5, 6));
    for (int i = 0; i < 30; i++)
        ((float *)x->data)[i] = 3;
    for (int outside = 0; outside < 2; outside++)
        for (int anti = 0; anti < 2; anti++) {
            struct run r = run_op("Resize", 18,
                                  ATTRS(AT_S("mode", "cubic"), AT_I("exclude_outside", outside),
                                        AT_I("antialias", anti)),
                                  1, x, NULL, NULL, INTS(1, 1, 3, 17));
            CHECK_OK(r.rc, r.e);
            for (int i = 0; i < 51; i++)
                CHECK_NEAR(tensor_num(&r.out[0], i), 3, 1e-5);
        }
}

void test_resize__crops_and_extrapolates(void)
{
    struct run r =
        run_op("Resize", 13,
               ATTRS(AT_S("mode", "linear"), AT_F("extrapolation_value", 9),
                     AT_S("coordinate_transformation_mode", "tf_crop_and_resize")),
               1, IMAGE(1, 2, 3, 4), FLOATS(0, 0, 0, 0, 1, 1, 1, 2), NULL, INTS(1, 1, 2, 3));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 1, 2, 9, 3, 4, 9);
}

void test_resize__layouts_and_types_do_not_matter(void)
{
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    struct tensor *x = tensor_random(DT_F32, DIMS(2, 5, 6, 7), 1);
    struct run wide = run_op("Cast", 13, ATTRS(AT_I("to", DT_F64)), 1, x);
    for (int m = 0; m < 3; m++) {
        CHECK_LAYOUTS("Resize", 13, ATTRS(AT_S("mode", modes[m])), 1, x, NULL,
                      FLOATS(1, 1, 0.5f, 2.5f));
        CHECK_LAYOUTS("Resize", 18, ATTRS(AT_S("mode", modes[m]), AT_I("antialias", 1)), 1, x, NULL,
                      NULL, INTS(2, 5, 4, 3));
        struct run a = run_op("Resize", 13, ATTRS(AT_S("mode", modes[m])), 1, x, NULL,
                              FLOATS(1, 1, 0.5f, 2.5f));
        struct run b = run_op("Resize", 13, ATTRS(AT_S("mode", modes[m])), 1, &wide.out[0], NULL,
                              FLOATS(1, 1, 0.5f, 2.5f));
        struct run back = run_op("Cast", 13, ATTRS(AT_I("to", DT_F32)), 1, &b.out[0]);
        check_same(&a.out[0], &back.out[0], 1e-5);
    }
}

void test_resize__refuses_absurd_scales(void)
{
    struct tensor *x = IMAGE(1, 2, 3, 4);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, FLOATS(1, 1, 0, 1)).rc, -1);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, FLOATS(1, 1, -1, 1)).rc, -1);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, FLOATS(1, 1, 1e30f, 1)).rc, -1);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, FLOATS(1, 1)).rc, -1);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, NULL, NULL).rc, -1);
    CHECK_INT(run_op("Resize", 13, NULL, 1, x, NULL, NULL, INTS(1, 1, -4, 2)).rc, -1);
}

void test_resize__a_region_may_be_computed(void)
{
    struct arena a = ARENA_INIT;
    struct graph *g =
        mini_graph(&a, "input x 1,1,3,3\ninput half 8\nints sizes 4 1 1 1 1\nconst none 0\n"
                       "add Add half,half -> roi\n"
                       "crop Resize x,roi,none,sizes -> y mode=linear "
                       "coordinate_transformation_mode=tf_crop_and_resize\n"
                       "output y\n");
    struct tensor in[] = {*tensor_shaped(FLOATS(0, 1, 2, 3, 4, 5, 6, 7, 8), DIMS(1, 1, 3, 3)),
                          *FLOATS(0, 0, 0.5f, 0.25f, 0.5f, 0.5f, 0.5f, 0.25f)};
    struct exec *x;
    struct err e = ERR_INIT;
    CHECK_OK(exec_new(g, in, NULL, &x, &e), e);
    CHECK_OK(exec_run(x, in, NULL, NULL, &e), e);
    CHECK_FLOATS(exec_output(x, 0), 1e-6, 7); /* the last row's middle */
    exec_free(x);
    arena_done(&a);
}
