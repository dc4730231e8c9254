/* The sweep against full runs of the executor, on random graphs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/test.h"
#include "tests/unit/mini.h"
#include "tests/unit/random_net.h"
#include "worker/exec/sweep.h"
#include "worker/load/dataset.h"
#include "worker/load/model.h"
#include "worker/quant/candidates.h"
#include "worker/quant/place.h"

static struct arena arena; /* to the test's end */

static struct candidates *found(const struct plan *p, enum node_type type, json_t *outputs,
                                json_t *interested)
{
    struct candidates *c;
    struct err e = ERR_INIT;
    CHECK_OK(candidates_find(p, type, outputs, interested, &arena, &c, &e), e);
    json_decref(outputs);
    json_decref(interested);
    return c;
}

static struct sweep *swept(const struct random_net *r, const struct candidates *c, uint64_t keep)
{
    struct sweep *s;
    struct err e = ERR_INIT;
    struct sweep_opts opts = {
        .plan = r->plan, .outputs = c->outputs, .n_outputs = c->n_outputs, .keep_max = keep};
    CHECK_OK(sweep_new(r->graph, &r->input, &opts, &s, &e), e);
    CHECK_OK(sweep_load(s, &r->input, &e), e);
    return s;
}

/* ---- a full run that shares nothing with the sweep ---- */

struct outputs {
    const struct candidates *c;
    struct tensor t[64];
};

static int keep_output(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct outputs *o = ctx;
    (void)e;
    for (int i = 0; i < o->c->n_outputs && !quantized; i++)
        if (o->c->outputs[i] == value) {
            o->t[i] = *t;
            o->t[i].layout = LAYOUT_PLAIN;
            o->t[i].data = arena_alloc(&arena, tensor_bytes(t) + 1);
            tensor_reorder(t, &o->t[i]);
        }
    return 0;
}

static void run_alone(const struct random_net *r, const struct plan *p, struct outputs *ret)
{
    struct exec *x;
    struct err e = ERR_INIT;
    struct exec_opts opts = {.plan = p};
    CHECK_OK(exec_new(r->graph, &r->input, &opts, &x, &e), e);
    CHECK_OK(exec_run(x, &r->input, keep_output, ret, &e), e);
    exec_free(x);
}

static void check_candidate(const struct random_net *r, const struct candidates *all,
                            const struct candidate *c, struct sweep *s, const struct outputs *exact,
                            int64_t *executed, int64_t *whole)
{
    struct metric_sums fast[64], naive[64], alone;
    struct sweep_counts n_fast, n_naive;
    struct err e = ERR_INIT;
    struct outputs q = {.c = all};
    CHECK_OK(sweep_run(s, c->calibs, c->n_calibs, fast, &n_fast, &e), e);
    CHECK_OK(sweep_run_naive(s, c->calibs, c->n_calibs, naive, &n_naive, &e), e);
    CHECK_MEM(fast, naive, (size_t)all->n_outputs * sizeof *fast);
    CHECK_INT(n_fast.whole, n_naive.executed);
    CHECK(n_fast.executed <= n_fast.whole);
    run_alone(r, plan_only(r->plan, c->calibs, c->n_calibs, &arena), &q);
    for (int o = 0; o < all->n_outputs; o++) {
        metric_sum(exact->t[o].data, q.t[o].data, tensor_count(&q.t[o]), &alone);
        CHECK_MEM(&fast[o], &alone, sizeof alone);
        if (!c->reaches[o])
            CHECK(alone.dd == 0);
    }
    *executed += n_fast.executed;
    *whole += n_fast.whole;
}

static void check_sweep(const struct random_net *r, const struct candidates *all, uint64_t keep,
                        int64_t *executed, int64_t *whole)
{
    struct sweep *s = swept(r, all, keep);
    struct outputs exact = {.c = all};
    CHECK(all->n_outputs <= 64);
    CHECK(!keep || sweep_kept_bytes(s) <= keep);
    run_alone(r, NULL, &exact);
    for (int i = 0; i < all->n; i++)
        check_candidate(r, all, &all->list[i], s, &exact, executed, whole);
    sweep_free(s);
}

enum { GRAPHS = 60 };

void test_sweep__equals_full_runs_bit_by_bit_on_random_graphs(void)
{
    int64_t executed = 0, whole = 0, candidates = 0;
    for (unsigned n = 0; n < GRAPHS; n++) {
        struct random_net r;
        random_net(n, &arena, &r);
        struct candidates *c = found(r.plan, (enum node_type)(n % NODE_TYPE_COUNT), NULL, NULL);
        check_sweep(&r, c, 0, &executed, &whole);
        candidates += c->n;
        arena_done(&arena);
    }
    CHECK(candidates > 4 * GRAPHS);
    CHECK(executed < whole * 8 / 10);
}

void test_sweep__equals_full_runs_when_not_all_values_can_be_kept(void)
{
    int64_t executed = 0, whole = 0, all_kept = 0;
    for (unsigned n = 0; n < GRAPHS; n++) {
        struct random_net r;
        random_net(n, &arena, &r);
        struct candidates *c = found(r.plan, BY_NODE, NULL, NULL);
        check_sweep(&r, c, 0, &all_kept, &whole);
        check_sweep(&r, c, n % 3 ? 700 * n : 1, &executed, &whole);
        arena_done(&arena);
    }
    CHECK(executed > all_kept);
}

/* The outputs of some nodes in the middle. */
void test_sweep__equals_full_runs_for_chosen_outputs(void)
{
    int64_t executed = 0, whole = 0;
    for (unsigned n = 100; n < 100 + GRAPHS; n++) {
        struct random_net r;
        random_net(n, &arena, &r);
        int nodes = r.graph->n_nodes;
        const char *a = r.graph->nodes[nodes / 2].name, *b = r.graph->nodes[nodes * 3 / 4].name;
        json_t *names = json_pack("[s]", a);
        if (strcmp(a, b) != 0)
            json_array_append_new(names, json_string(b));
        check_sweep(&r, found(r.plan, BY_NODE, names, NULL), n % 2 ? 0 : 3000, &executed, &whole);
        arena_done(&arena);
    }
    CHECK(executed < whole * 7 / 10);
}

/* Nodes that only move data, or clip what is not negative, have the same loss: one run does. */
void test_sweep__candidates_that_come_to_the_same_tensor_share_a_run(void)
{
    struct random_net r = {.input = random_input(3, &arena)};
    r.graph = mini_graph(&arena, "input x 1,4,8,8\nconst w 4,4,1,1 .5 .2 .1 -.3 .7\noutput y\n"
                                 "s Sigmoid x -> a\nt Transpose a -> b perm=[0,1,3,2]\n"
                                 "m Relu b -> c\nu Transpose c -> d perm=[0,1,3,2]\n"
                                 "k Conv d,w -> e\ng GlobalAveragePool e -> y\n");
    r.plan = random_plan(r.graph, &r.input, &arena);
    for (int k = 0; k < r.plan->n_calibs; k++)
        if (r.plan->calibs[k].kind != CALIB_WEIGHT) {
            static const float one = 1;
            r.plan->calibs[k].thresholds = &one;
            r.plan->calibs[k].n_thresholds = 1;
            r.plan->calibs[k].affine = false;
            r.plan->calibs[k].qtype = Q_INT8;
        }
    struct candidates *c = found(r.plan, BY_NODE, NULL, NULL);
    int64_t executed = 0, whole = 0;
    check_sweep(&r, c, 0, &executed, &whole);
    struct sweep *s = swept(&r, c, 0);
    struct metric_sums sums[64], first[64];
    struct sweep_counts counts;
    struct err e = ERR_INIT;
    int same = 0;
    for (int i = 0; i < c->n; i++) {
        const struct candidate *k = &c->list[i];
        bool moves = !strcmp(k->name, "t") || !strcmp(k->name, "m") || !strcmp(k->name, "u");
        CHECK_OK(sweep_run(s, k->calibs, k->n_calibs, moves && !same ? first : sums, &counts, &e),
                 e);
        if (moves && same++)
            CHECK_MEM(sums, first, sizeof *sums);
    }
    CHECK(same >= 2);
    CHECK_INT(sweep_shared_runs(s), same - 1);
    sweep_free(s);
}

/* ---- candidates ---- */

#define TWO_HEADS                                                                                  \
    "input x 1,4,8,8\nconst w 4,4,1,1\nconst v 4,4,1,1\nconst u 4,4,1,1\noutput a\noutput b\n"     \
    "c1 Conv x,w -> y\nr1 Relu y -> r\nc2 Conv r,v -> a\nc3 Sigmoid r -> s\nc4 Conv s,u -> b\n"

static const struct candidate *named(const struct candidates *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->list[i].name, name))
            return &c->list[i];
    return NULL;
}

static struct plan *two_heads(void)
{
    return place(mini_graph(&arena, TWO_HEADS), NULL, &arena);
}

void test_sweep__a_node_has_its_inputs_calibrations_weights_included(void)
{
    struct plan *p = two_heads();
    struct candidates *c = found(p, BY_NODE, NULL, NULL);
    const struct candidate *c1 = named(c, "c1");
    CHECK_INT(c1->n_calibs, 2);
    CHECK_STR(p->calibs[c1->calibs[0]].name, "x_HzCalibration");
    CHECK_STR(p->calibs[c1->calibs[1]].name, "w_HzCalibration");
    CHECK(c1->reaches[0] && c1->reaches[1]);
    CHECK(!named(c, "c4")->reaches[0] && named(c, "c4")->reaches[1]);
}

void test_sweep__nodes_that_reach_no_chosen_output_are_not_listed(void)
{
    struct candidates *c = found(two_heads(), BY_NODE, json_pack("[s]", "c2"), NULL);
    CHECK(named(c, "c1") && named(c, "c2"));
    CHECK(!named(c, "c4"));
}

void test_sweep__types_list_weights_and_activations_by_their_calibrations(void)
{
    struct plan *p = two_heads();
    struct candidates *w = found(p, BY_WEIGHT, NULL, NULL);
    struct candidates *a = found(p, BY_ACTIVATION, NULL, NULL);
    CHECK_INT(w->n, 3);
    CHECK(named(w, "u_HzCalibration") && !named(w, "x_HzCalibration"));
    CHECK(named(a, "x_HzCalibration") && named(a, "s_HzCalibration"));
    CHECK_INT(w->n + a->n, p->n_calibs);
}

void test_sweep__groups_are_quantized_together(void)
{
    json_t *asked = json_pack("[[s,s],s]", "c1", "c4", "c2");
    struct candidates *c = found(two_heads(), BY_NODE, NULL, asked);
    CHECK_INT(c->n, 2);
    CHECK_STR(c->list[0].name, "c1+c4");
    CHECK_INT(c->list[0].n_calibs, 4);
    CHECK_STR(c->list[1].name, "c2");
}

void test_sweep__nodes_with_the_same_calibrations_are_one(void)
{
    struct plan *p = place(mini_graph(&arena, "input x 1,4,8,8\noutput a\noutput b\n"
                                              "s1 Sigmoid x -> a\nm1 Tanh x -> b\n"),
                           NULL, &arena);
    struct candidates *c = found(p, BY_NODE, NULL, NULL);
    CHECK_INT(c->n, 2);
    CHECK_INT(c->list[0].same, 0);
    CHECK_INT(c->list[1].same, 0);
}

static void check_refused(json_t *outputs, json_t *interested, enum err_code code, const char *at)
{
    struct candidates *c;
    struct err e = ERR_INIT;
    CHECK_INT(candidates_find(two_heads(), BY_NODE, outputs, interested, &arena, &c, &e), -1);
    CHECK_INT(e.code, code);
    CHECK_STR(e.at, at);
    json_decref(outputs);
    json_decref(interested);
}

void test_sweep__unknown_names_are_refused_with_their_place(void)
{
    check_refused(json_pack("[s,s]", "a", "nope"), NULL, ERR_UNKNOWN_NAME, "/options/outputs/1");
    check_refused(NULL, json_pack("[s,[s,s]]", "c1", "c2", "c9"), ERR_UNKNOWN_NAME,
                  "/options/interested_nodes/1/1");
    check_refused(json_pack("[s,s]", "a", "c2"), NULL, ERR_INVALID, "/options/outputs/1");
}

/* ---- a spoiled node is found ---- */

typedef int sweeping(struct sweep *s, const int *calibs, int n, struct metric_sums *ret,
                     struct sweep_counts *counts, struct err *e);

/* As a ranking by mse has it: the mean over the outputs that the candidate reaches. */
static double mse_of(sweeping *run, struct sweep *s, const struct candidates *all, int i)
{
    struct metric_sums sums[64];
    struct sweep_counts n;
    struct err e = ERR_INIT;
    const struct candidate *c = &all->list[i];
    double mse = 0;
    int reached = 0;
    CHECK_OK(run(s, c->calibs, c->n_calibs, sums, &n, &e), e);
    for (int o = 0; o < all->n_outputs; o++)
        if (c->reaches[o]) {
            mse += metric_of(M_MSE, &sums[o]);
            reached++;
        }
    return mse / reached;
}

static int worst_of(sweeping *run, struct sweep *s, const struct candidates *all, int but,
                    double *ret_mse)
{
    int worst = -1;
    *ret_mse = -1;
    for (int i = 0; i < all->n; i++) {
        double mse = i == but ? -1 : mse_of(run, s, all, i);
        if (mse > *ret_mse) {
            *ret_mse = mse;
            worst = i;
        }
    }
    return worst;
}

/* The weight calibration that the node has for itself, or NULL. */
static struct calib *own_weight(const struct plan *p, const struct candidate *c)
{
    for (int i = 0; i < c->n_calibs; i++)
        if (p->calibs[c->calibs[i]].kind == CALIB_WEIGHT)
            return &p->calibs[c->calibs[i]];
    return NULL;
}

struct spoiling {
    struct sweep *s; /* takes changed thresholds as they are */
    const struct candidates *all;
    int victim;
    struct calib *k;
    const float *whole; /* its thresholds before */
    double wanted;      /* mse */
};

static double spoil(const struct spoiling *sp, double by)
{
    float *t = arena_array(&arena, (size_t)sp->k->n_thresholds, sizeof *t);
    for (int i = 0; i < sp->k->n_thresholds; i++)
        t[i] = sp->whole[i] * (float)by;
    sp->k->thresholds = t;
    return mse_of(sweep_run, sp->s, sp->all, sp->victim);
}

/* Larger thresholds until the loss is just what is wanted; false if the loss jumps over it. */
static bool spoil_enough(const struct spoiling *sp)
{
    double low = 1, high = 1;
    if (spoil(sp, low) >= sp->wanted)
        return false; /* the worst already */
    while (spoil(sp, high) < sp->wanted && high < 1000)
        high *= 2;
    for (int i = 0; i < 7; i++) {
        double middle = sqrt(low * high);
        *(spoil(sp, middle) < sp->wanted ? &low : &high) = middle;
    }
    double mse = spoil(sp, high);
    return mse >= sp->wanted && mse < 1.1 * sp->wanted;
}

/* Spoils the node by three decibels over the worst other; false: it cannot be, by just so much. */
static bool spoil_node(struct sweep *s, const struct candidates *all, int victim, struct calib *k)
{
    static const double three_decibels = 1.9952623149688795; /* 10^0.3, in power */
    struct spoiling sp = {.s = s, .all = all, .victim = victim, .k = k, .whole = k->thresholds};
    enum qtype before = k->qtype;
    double limit;
    k->qtype = Q_INT8;
    worst_of(sweep_run, s, all, victim, &limit);
    sp.wanted = limit * three_decibels;
    if (limit > 0 && spoil_enough(&sp))
        return true;
    k->thresholds = sp.whole;
    k->qtype = before;
    return false;
}

static bool is_found(const struct random_net *r, const struct candidates *all)
{
    struct sweep *s = swept(r, all, 0);
    int first = all->n ? (int)(r->plan->n_calibs % all->n) : 0, victim = -1;
    double worst;
    for (int i = 0; i < all->n && victim < 0; i++) {
        int node = (first + i) % all->n;
        struct calib *k = own_weight(r->plan, &all->list[node]);
        if (k && spoil_node(s, all, node, k))
            victim = node;
    }
    sweep_free(s);
    if (victim < 0)
        return false;
    s = swept(r, all, 0);
    CHECK_INT(worst_of(sweep_run, s, all, -1, &worst), victim);
    CHECK_INT(worst_of(sweep_run_naive, s, all, -1, &worst), victim);
    sweep_free(s);
    return true;
}

/* 50 of the 200 graphs. */
static void spoil_fifty(unsigned first_graph)
{
    int found_in = 0;
    unsigned n = first_graph;
    for (; found_in < 50; n++) {
        struct random_net r;
        random_net(n, &arena, &r);
        struct candidates *all = found(r.plan, BY_NODE, NULL, NULL);
        found_in += is_found(&r, all);
        arena_done(&arena);
    }
    CHECK(n < first_graph + 100); /* few graphs have no node that can be spoiled by just that */
}

void test_sweep__a_node_spoiled_by_three_decibels_is_first_in_graphs_1_to_50(void)
{
    spoil_fifty(1000);
}

void test_sweep__a_node_spoiled_by_three_decibels_is_first_in_graphs_51_to_100(void)
{
    spoil_fifty(2000);
}

void test_sweep__a_node_spoiled_by_three_decibels_is_first_in_graphs_101_to_150(void)
{
    spoil_fifty(3000);
}

void test_sweep__a_node_spoiled_by_three_decibels_is_first_in_graphs_151_to_200(void)
{
    spoil_fifty(4000);
}

/* ---- real models ---- */

enum { MODEL_CANDIDATES = 24 };

static void check_model(const char *name)
{
    struct model *m;
    struct dataset *d;
    struct tensor in[8];
    struct err e = ERR_INIT;
    char path[256];
    snprintf(path, sizeof path, "%s/model.onnx", name);
    CHECK_OK(model_open(&(struct model_source){.path = test_model(path), .local = true}, &m, &e),
             e);
    snprintf(path, sizeof path, "%s/calibration_data", name);
    CHECK_OK(dataset_open(test_model(path), m->float_graph, &d, &e), e);
    CHECK(m->float_graph->n_inputs <= 8);
    for (int k = 0; k < m->float_graph->n_inputs; k++)
        dataset_sample(d, 0, k, &in[k]);
    struct plan *p = random_plan(m->float_graph, in, &arena);
    struct candidates *c = found(p, BY_NODE, NULL, NULL);
    struct sweep_opts opts = {.plan = p, .outputs = c->outputs, .n_outputs = c->n_outputs};
    for (int tight = 0; tight < 2; tight++) {
        struct sweep *s;
        struct metric_sums fast[64], naive[64];
        struct sweep_counts counts;
        opts.keep_max = tight ? 100000 : 0;
        CHECK_OK(sweep_new(m->float_graph, in, &opts, &s, &e), e);
        CHECK_OK(sweep_load(s, in, &e), e);
        for (int i = tight; i < c->n; i += 1 + c->n / MODEL_CANDIDATES) {
            const struct candidate *k = &c->list[i];
            CHECK_OK(sweep_run(s, k->calibs, k->n_calibs, fast, &counts, &e), e);
            CHECK_OK(sweep_run_naive(s, k->calibs, k->n_calibs, naive, &counts, &e), e);
            CHECK_MEM(fast, naive, (size_t)c->n_outputs * sizeof *fast);
        }
        sweep_free(s);
    }
    dataset_free(d);
    model_free(m);
    arena_done(&arena);
}

void test_models_sweep__equals_full_runs(void)
{
    static const char *const names[] = {
        "mnist8_cntk",        "mnist_mbv3_hswish",   "mnist_stn_gridsample", "mnist_vit_gelu",
        "superres_espcn",     "ultraface_rfb320",    "yunet_n_320",          "basic_pitch_nmp",
        "sinet_portrait_seg", "prisma_portrait_seg", "dtln_denoise_1"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(names[i]);
}
