/* The sweep against full runs of the executor, on random graphs. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/unit/mini.h"
#include "tests/unit/random_net.h"
#include "worker/exec/sweep.h"
#include "worker/quant/candidates.h"

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
