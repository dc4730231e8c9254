/* Labels against outputs: which output, top-5, areas, accuracy and its interval. */
#include <math.h>
#include <string.h>

#include "common/json.h"
#include "tests/test.h"
#include "tests/unit/mini.h"
#include "worker/jobs/labels.h"

static const char *const names[] = {"0", "1", "2", "3"};

static struct dataset data_with(struct tensor *labels, enum dtype type, int n, int h, int w,
                                void *data)
{
    *labels = (struct tensor){.type = type, .rank = h ? 3 : 1, .dims = {n, h, w}, .data = data};
    return (struct dataset){.n_samples = n, .sample_names = names, .labels = labels};
}

static struct graph *graph_of(struct arena *a, int c, int h, int w)
{
    struct graph *g = mini_graph(a, "input y 1,3,2,3\nr Relu y -> out\noutput out\n");
    g->values[g->outputs[0]].type =
        (struct tensor){.type = DT_F32, .rank = 4, .dims = {1, c, h, w}};
    return g;
}

void test_labels__top_five_are_in_order_and_the_first_of_equals_wins(void)
{
    const float v[] = {1, 5, 3, 5, -2, 4, 3};
    int32_t top[LABELS_TOP];
    labels_top(v, 7, top);
    const int32_t want[] = {1, 3, 5, 2, 6};
    CHECK_MEM(top, want, sizeof want);
    labels_top(v, 2, top);
    const int32_t two[] = {1, 0, -1, -1, -1};
    CHECK_MEM(top, two, sizeof two);
}

void test_labels__a_map_finds_the_output_with_its_size(void)
{
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    struct tensor t;
    uint8_t map[2 * 2 * 3] = {0, 1, 2, 255};
    struct dataset d = data_with(&t, DT_U8, 2, 2, 3, map);
    struct labels l;
    struct graph *g = graph_of(&a, 3, 2, 3);
    CHECK_OK(labels_choose(g, &d, NULL, &l, &e), e);
    CHECK(l.map);
    CHECK_INT(l.output, 0);
    CHECK_INT(l.classes, 3);
    CHECK_INT(l.axis, 1);
    CHECK_OK(labels_choose(graph_of(&a, 2, 3, 4), &d, NULL, &l, &e), e);
    CHECK_INT(l.axis, 3);
    CHECK_INT(l.classes, 4);
    CHECK_INT(labels_choose(graph_of(&a, 2, 2, 3), &d, NULL, &l, &e), -1); /* class 2 */
    CHECK_STR(e.at, "/options/label_output");
    arena_done(&a);
}

void test_labels__areas_count_agreement_and_leave_out_what_is_ignored(void)
{
    struct err e = ERR_INIT;
    struct tensor t;
    uint8_t map[] = {0, 0, 0, 0, 1, 1, 0, 255};
    struct dataset d = data_with(&t, DT_U8, 2, 2, 2, map);
    struct labels l = {.map = true, .classes = 2, .axis = 1};
    const float v[] = {0, 1, 0, 9, /* class 0 */ 1, 0, 2, 3 /* class 1 */};
    struct tensor y = {.type = DT_F32, .rank = 4, .dims = {1, 2, 2, 2}, .data = (void *)v};
    struct area areas[2];
    /* said 1 0 1 0 where 1 1 0 and nothing are right: class 0 agrees nowhere, class 1 once. */
    CHECK_OK(labels_areas(&l, &d, 1, &y, v, areas, &e), e);
    CHECK_INT(areas[0].both, 0);
    CHECK_INT(areas[0].either, 2);
    CHECK_INT(areas[1].both, 1);
    CHECK_INT(areas[1].either, 3);
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

void test_labels__mean_iou_is_of_the_summed_areas_with_a_paired_interval(void)
{
    struct tensor t;
    uint8_t map[2 * 4] = {0};
    struct dataset d = data_with(&t, DT_U8, 2, 2, 2, map);
    struct labels l = {.map = true, .classes = 3, .axis = 1};
    struct accuracy *a = accuracy_new(&l, &d, 2);
    /* class 2 is seen by nobody: it does not count. */
    const struct area exact[] = {{2, 4}, {1, 1}, {0, 0}}, worse[] = {{1, 4}, {1, 1}, {0, 0}};
    accuracy_areas(a, 0, (const struct area *const[]){exact, exact});
    accuracy_areas(a, 1, (const struct area *const[]){exact, worse});
    json_t *o = accuracy_json(a, "y");
    CHECK_STR(json_str(o, "metric", ""), "mean-iou");
    CHECK_NEAR(number(o, "float"), (0.5 + 1) / 2, 1e-12);
    CHECK_NEAR(number(o, "quantized"), (3.0 / 8 + 1) / 2, 1e-12);
    /* left out in turn: -0.125 and 0; mean -0.0625, half 1.96·sqrt(2·0.0625²/2) */
    const json_t *interval = json_object_get(o, "difference_interval");
    double half = 1.959963984540054 * 0.0625;
    CHECK_NEAR(json_number_value(json_array_get(interval, 0)), -0.0625 - half, 1e-12);
    CHECK_NEAR(json_number_value(json_array_get(interval, 1)), -0.0625 + half, 1e-12);
    CHECK(json_is_null(
        json_object_get(json_array_get(json_object_get(o, "classes"), 2), "quantized")));
    CHECK(json_is_null(accuracy_top5_json(a, "y")));
    json_decref(o);
    accuracy_free(a);
}

void test_labels__top_one_and_top_five_are_paired(void)
{
    struct tensor t;
    int64_t y[] = {3, 2};
    struct dataset d = data_with(&t, DT_I64, 2, 0, 0, y);
    struct labels l = {.classes = 10};
    struct accuracy *a = accuracy_new(&l, &d, 2);
    const int32_t first[2][LABELS_TOP] = {{3, 1, 2, 4, 5}, {1, 3, 2, 4, 5}};
    const int32_t second[2][LABELS_TOP] = {{2, 1, 3, 4, 5}, {2, 3, 6, 4, 5}};
    accuracy_top(a, 0, first);
    accuracy_top(a, 1, second);
    json_t *one = accuracy_json(a, "y"), *five = accuracy_top5_json(a, "y");
    CHECK_NEAR(number(one, "float"), 1, 0);
    CHECK_NEAR(number(one, "quantized"), 0.5, 0);
    CHECK_STR(json_str(five, "metric", ""), "top-5");
    CHECK_NEAR(number(five, "quantized"), 1, 0);
    /* lost 1 of 2: diff (0.5 - 1.5)/4, variance (2/4 - 1/16)/4 */
    const json_t *interval = json_object_get(one, "difference_interval");
    CHECK_NEAR(json_number_value(json_array_get(interval, 1)),
               -0.25 + 1.959963984540054 * sqrt((0.5 - 0.0625) / 4), 1e-12);
    json_decref(one);
    json_decref(five);
    accuracy_free(a);
}
