#include "tests/test.h"

#include <string.h>

#include "tests/unit/mini.h"
#include "worker/quant/place.h"

static struct arena arena;

static struct plan *placed(const char *text)
{
    return place(mini_graph(&arena, text), NULL, &arena);
}

/* The name of the calibration that a node's input finds, "" if there is none. */
static const char *finds(const struct plan *p, const char *node, int input)
{
    int k = plan_find_input(p, graph_node(p->graph, node), input);
    return k < 0 ? "" : p->calibs[k].name;
}

static const char *finds_output(const struct plan *p, const char *node)
{
    int k = plan_find_output(p, graph_node(p->graph, node));
    return k < 0 ? "" : p->calibs[k].name;
}

static bool stands_on(const struct plan *p, const char *tensor)
{
    return place_on(p, graph_value(p->graph, tensor)) >= 0;
}

void test_place__inputs_weights_and_outputs_that_are_read(void)
{
    struct plan *p =
        placed("input x 1,4,8,8\nconst w 4,4,1,1\nconst b 4\nconst v 4,4,1,1\noutput z\n"
               "c1 Conv x,w,b -> y\nc2 Conv y,v -> z\n");
    CHECK_STR(finds(p, "c1", 0), "x_HzCalibration");
    CHECK_STR(finds(p, "c1", 1), "w_HzCalibration");
    CHECK_STR(finds(p, "c1", 2), ""); /* a bias is not quantized */
    CHECK_STR(finds(p, "c2", 0), "y_HzCalibration");
    CHECK(!stands_on(p, "z")); /* taken in float */
    CHECK_INT(p->n_calibs, 4);
    CHECK_INT(p->calibs[plan_find(p, "w_HzCalibration")].axis, 0);
    CHECK_INT(p->calibs[plan_find(p, "w_HzCalibration")].kind, CALIB_WEIGHT);
    for (int k = 1; k < p->n_calibs; k++)
        CHECK(p->calibs[k - 1].value < p->calibs[k].value);
}

void test_place__value_preserving_operators_share_their_producers(void)
{
    struct plan *p =
        placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nc1 Conv x,w -> y\n"
               "r MaxPool y -> m kernel_shape=[1,1]\nt Transpose m -> n\nc2 Conv n,w -> o\n");
    CHECK_STR(finds(p, "r", 0), "y_HzCalibration");
    CHECK_STR(finds(p, "t", 0), "y_HzCalibration");
    CHECK_STR(finds(p, "c2", 0), "y_HzCalibration");
    CHECK(!stands_on(p, "m") && !stands_on(p, "n"));
    CHECK_INT(p->port[p->graph->nodes[graph_node(p->graph, "c2")].first_port], -1);
    CHECK_STR(finds_output(p, "c1"), "y_HzCalibration");
}

void test_place__reduce_max_and_pad_have_their_own(void)
{
    struct plan *p = placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nm ReduceMax x -> y\n"
                            "c Conv y,w -> o\n");
    CHECK_STR(finds(p, "m", 0), "x_HzCalibration");
    CHECK_STR(finds(p, "c", 0), "y_HzCalibration");
}

void test_place__chain_carries_its_calibration_at_the_end(void)
{
    struct plan *p = placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nc1 Conv x,w -> a\n"
                            "add Add a,x -> b\nr Relu b -> c\nc2 Conv c,w -> o\n");
    CHECK(!stands_on(p, "a") && !stands_on(p, "b") && stands_on(p, "c"));
    CHECK_STR(finds(p, "add", 0), "");
    CHECK_STR(finds(p, "add", 1), "x_HzCalibration");
    CHECK_STR(finds(p, "r", 0), "");
    CHECK_STR(finds(p, "c2", 0), "c_HzCalibration");
    CHECK_STR(finds_output(p, "c1"), "c_HzCalibration"); /* behind the residual Add */
    CHECK_STR(finds_output(p, "add"), "c_HzCalibration");
}

void test_place__of_two_convs_the_later_fuses_into_the_add(void)
{
    struct plan *p = placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nc1 Conv x,w -> a\n"
                            "c2 Conv x,w -> b\nadd Add b,a -> c\nc3 Conv c,w -> o\n");
    CHECK(stands_on(p, "a") && !stands_on(p, "b") && stands_on(p, "c"));
}

void test_place__a_link_with_two_readers_or_out_of_the_graph_breaks_the_chain(void)
{
    struct plan *p =
        placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\noutput b\nc1 Conv x,w -> a\n"
               "r Relu a -> b\nc2 Conv a,w -> o\nc3 Conv b,w -> d\noutput d\n");
    CHECK(stands_on(p, "a"));  /* two readers */
    CHECK(!stands_on(p, "b")); /* so Relu only keeps values */
    CHECK_STR(finds(p, "c3", 0), "a_HzCalibration");
    p = placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput a\noutput d\nc1 Conv x,w -> a\n"
               "r Relu a -> b\nc3 Conv b,w -> d\n");
    CHECK(stands_on(p, "a") && !stands_on(p, "b"));
}

void test_place__concat_ties_inputs_and_output(void)
{
    struct plan *p =
        placed("input x 1,4,8,8\nconst w 4,4,1,1\nconst v 4,8,1,1\noutput o\n"
               "c1 Conv x,w -> a\nc2 Conv a,w -> b\nm MaxPool a -> p kernel_shape=[1,1]\n"
               "k Concat p,b -> c axis=1\nc3 Conv c,v -> o\n");
    int group[64];
    place_groups(p, group);
    int a = plan_find(p, "a_HzCalibration"), b = plan_find(p, "b_HzCalibration");
    int c = plan_find(p, "c_HzCalibration"), x = plan_find(p, "x_HzCalibration");
    CHECK(a >= 0 && b >= 0 && c >= 0);
    CHECK_STR(finds(p, "k", 0), "a_HzCalibration");
    CHECK_INT(group[a], group[b]);
    CHECK_INT(group[a], group[c]);
    CHECK_INT(group[x], x);
}

void test_place__constants_on_features_and_integers_that_are_no_ports(void)
{
    struct plan *p = placed("input x 1,4,8,8\nconst k 1\nints s 1 -1\noutput o\nm Mul x,k -> a\n"
                            "r Reshape a,s -> b\nn Mul b,b -> o\n");
    CHECK_STR(finds(p, "m", 1), "k_HzCalibration");
    CHECK_INT(p->calibs[plan_find(p, "k_HzCalibration")].kind, CALIB_FEATURE);
    CHECK_STR(finds(p, "r", 1), "");
    CHECK_STR(finds(p, "n", 0), finds(p, "n", 1)); /* one tensor on two inputs */
    CHECK_STR(finds(p, "n", 0), "a_HzCalibration");
}

void test_place__scatter_keeps_data_updates_and_output_apart(void)
{
    struct plan *p = placed("input x 4\ninput u 1\nints i 1,1 2\nconst k 1\noutput o\n"
                            "s ScatterND x,i,u -> y\nm Mul y,k -> o\n");
    int group[16];
    place_groups(p, group);
    CHECK_STR(finds(p, "s", 0), "x_HzCalibration");
    CHECK_STR(finds(p, "s", 2), "u_HzCalibration");
    CHECK_STR(finds(p, "m", 0), "y_HzCalibration");
    for (int k = 0; k < p->n_calibs; k++)
        CHECK_INT(group[k], k);
}

void test_place__computed_matmul_input_is_a_feature(void)
{
    struct plan *p = placed("input x 4,4\nconst w 4,4\noutput o\na MatMul x,w -> y\n"
                            "b MatMul x,y -> z\nc Mul z,z -> o\n");
    CHECK_INT(p->calibs[plan_find(p, "w_HzCalibration")].kind, CALIB_WEIGHT);
    CHECK_INT(p->calibs[plan_find(p, "w_HzCalibration")].axis, -1);
    CHECK_STR(finds(p, "b", 1), "y_HzCalibration");
    CHECK_INT(p->calibs[plan_find(p, "y_HzCalibration")].kind, CALIB_FEATURE);
}

void test_place__what_is_off_the_device_runs_in_float(void)
{
    struct graph *g = mini_graph(&arena, "input x 1,4,8,8\nconst w 4,4,1,1\noutput o\n"
                                         "c1 Conv x,w -> a\ne Mul a,a -> b\nc2 Conv b,w -> o\n");
    bool off[3] = {false, true, false};
    struct plan *p = place(g, off, &arena);
    CHECK_STR(finds(p, "e", 0), "");
    CHECK_STR(finds(p, "c2", 0), "");
    CHECK(!stands_on(p, "a") && !stands_on(p, "b"));
    CHECK_STR(finds(p, "c1", 0), "x_HzCalibration");
}

void test_plan__copy_is_deep(void)
{
    struct plan *p = placed("input x 1,4,8,8\nconst w 4,4,1,1\noutput o\nc Conv x,w -> o\n");
    float t[1] = {2};
    p->calibs[0].thresholds = t;
    p->calibs[0].n_thresholds = 1;
    struct digest before, after;
    struct arena other = ARENA_INIT;
    struct plan *q = plan_copy(p, &other);
    plan_digest(q, &before);
    t[0] = 3;
    p->calibs[0].qtype = Q_INT16;
    p->port[0] = -1;
    plan_digest(q, &after);
    CHECK_MEM(&before, &after, sizeof before);
    plan_digest(p, &after);
    CHECK(memcmp(&before, &after, sizeof before));
    arena_done(&other);
}
