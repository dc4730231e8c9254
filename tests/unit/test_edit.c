/* Edits of a calibrated model: one test for each of the chapter's. */
#include "tests/test.h"

#include <string.h>

#include "tests/unit/mini.h"
#include "worker/quant/edit.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/survey.h"

static struct arena arena;

#define GRAPH                                                                                      \
    "input x 1,4,8,8\nconst w 4,4,1,1\nconst v 4,4,1,1\nconst s 4 1 1 2 2\noutput o\n"             \
    "c Conv x,w -> a\nr Relu a -> b\nm Mul b,x -> d\nz Resize d,-,s -> f mode=nearest\n"           \
    "e Conv f,v -> o\n"

static struct plan *calibrated(void)
{
    struct err e = ERR_INIT;
    struct quant_config *c;
    struct resolved r;
    struct plan *p;
    json_t *v = json_string("{'model_config': {'activation': {'calibration_type': 'fixed'}}}");
    CHECK_OK(config_parse(v, "", mini_graph(&arena, GRAPH), &march_nash_e, &arena, &c, &e), e);
    resolve(c, c->graph, &march_nash_e, &arena, &r);
    struct survey *s = survey_new(&r, c, &march_nash_e, 1);
    CHECK_OK(survey_plan(s, &c->candidates[0], &arena, NULL, &p, &e), e);
    survey_free(s);
    json_decref(v);
    return p;
}

static int edit(const char *text, struct plan **ret, struct err *e)
{
    json_t *v = json_loads(text, 0, NULL);
    CHECK(v);
    int rc = plan_edit(calibrated(), v, "", &march_nash_e, &arena, ret, e);
    json_decref(v);
    return rc;
}

/* After the edit exactly the named calibrations (a list closed by NULL) are int16. */
static void check_int16(const char *select, const char *const *names)
{
    struct err e = ERR_INIT;
    struct plan *p;
    int expected = 0, found = 0;
    CHECK_OK(
        edit(arena_printf(&arena, "[{\"select\": {%s}, \"set\": {\"qtype\": \"int16\"}}]", select),
             &p, &e),
        e);
    for (; names[expected]; expected++) {
        int k = plan_find(p, names[expected]);
        if (k < 0 || p->calibs[k].qtype != Q_INT16)
            FAIL("%s is not int16", names[expected]);
    }
    for (int k = 0; k < p->n_calibs; k++)
        found += p->calibs[k].qtype == Q_INT16;
    CHECK_INT(found, expected);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define X          "x_HzCalibration"
#define W          "w_HzCalibration"
#define B          "b_HzCalibration"
#define D          "d_HzCalibration"
#define F          "f_HzCalibration"
#define V          "v_HzCalibration"

void test_edit__one_calibration(void)
{
    check_int16("\"name\": \"d_HzCalibration\"", NAMES(D));
}

void test_edit__all_activations(void)
{
    check_int16("\"tensor_type\": \"feature\"", NAMES(X, B, D, F));
}

void test_edit__all_weights(void)
{
    check_int16("\"tensor_type\": \"weight\"", NAMES(W, V));
}

void test_edit__all(void)
{
    check_int16("", NAMES(X, W, B, D, F, V));
}

void test_edit__inputs_of_named_nodes(void)
{
    check_int16("\"inputs_of\": [\"c\"], \"tensor_type\": \"feature\"", NAMES(X));
    check_int16("\"inputs_of\": [\"c\", \"m\"]", NAMES(X, W, B));
}

void test_edit__output_of_named_nodes_behind_the_fused_chain(void)
{
    check_int16("\"output_of\": \"c\"", NAMES(B));
}

void test_edit__inputs_by_op_type(void)
{
    check_int16("\"inputs_of_op_type\": \"Conv\", \"tensor_type\": \"feature\"", NAMES(X, F));
}

void test_edit__port_that_ec_is_for(void)
{
    check_int16("\"ec_port_of\": [\"c\"]", NAMES(W));
    check_int16("\"ec_port_of\": [\"z\"]", NAMES(D, F)); /* nearest: the output too */
}

void test_edit__thresholds_keep_their_number_and_are_fixed(void)
{
    struct err e = ERR_INIT;
    struct plan *p;
    CHECK_OK(edit("[{\"select\": {\"name\": \"d_HzCalibration\"}, \"set\": {\"thresholds\": "
                  "[4.23]}}]",
                  &p, &e),
             e);
    const struct calib *k = &p->calibs[plan_find(p, D)];
    struct fq_param f;
    fq_of_calib(k, 0, &f);
    CHECK_NEAR(f.scale, 4.23 / 127, 1e-8);
    CHECK(k->fixed_threshold);
    CHECK_INT(edit("[{\"select\": {\"name\": \"d_HzCalibration\"}, \"set\": {\"thresholds\": "
                   "[1, 2]}}]",
                   &p, &e),
              -1);
    CHECK_STR(e.at, "/0/set/thresholds");
}

void test_edit__original_stays_as_it_was(void)
{
    struct err e = ERR_INIT;
    struct plan *before = calibrated(), *after;
    json_t *v = json_loads("[{\"select\": {}, \"set\": {\"switch\": \"OFF\"}}]", 0, NULL);
    CHECK_OK(plan_edit(before, v, "", &march_nash_e, &arena, &after, &e), e);
    json_decref(v);
    CHECK(before->calibs[0].on && !after->calibs[0].on);
}

static void refused(const char *text, const char *at)
{
    struct err e = ERR_INIT;
    struct plan *p;
    CHECK_INT(edit(text, &p, &e), -1);
    CHECK_STR(e.at, at);
}

void test_edit__nothing_is_ignored_in_silence(void)
{
    refused("[{\"select\": {\"name\": \"q\"}, \"set\": {\"qtype\": \"int8\"}}]", "/0/select/name");
    refused("[{\"select\": {\"nam\": \"q\"}, \"set\": {\"qtype\": \"int8\"}}]", "/0/select/nam");
    refused("[{\"select\": {}, \"set\": {}}]", "/0/set");
    refused("[{\"select\": {}, \"set\": {\"qtype\": \"int4\"}}]", "/0/set/qtype");
    refused("[{\"select\": {\"inputs_of\": [\"c\", \"k\"]}, \"set\": {\"qtype\": \"int8\"}}]",
            "/0/select/inputs_of/1");
    refused("[{\"select\": {\"name\": \"x_HzCalibration\", \"tensor_type\": \"weight\"}, \"set\": "
            "{\"qtype\": \"int8\"}}]",
            "/0/select");
}
