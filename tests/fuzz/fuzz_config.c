/* quant_config as people write it: the dialect, and what it says against a small graph. A
 * configuration that is accepted resolves to a plan, and says itself again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "worker/load/build.h"
#include "worker/quant/dialect.h"
#include "worker/quant/resolve.h"

static const struct graph *small_graph(void)
{
    static struct arena arena;
    static struct graph *g;
    if (g)
        return g;
    struct err e = ERR_INIT;
    struct build *b = build_new(&arena, "small");
    const struct opset opset = {"", 16};
    static float one = 1;
    const struct tensor w = {.type = DT_F32, .rank = 4, .dims = {1, 1, 1, 1}, .data = &one};
    int x = build_value(b, "x"), y = build_value(b, "y"), z = build_value(b, "z");
    int k = build_const(b, "w", &w);
    b->opsets = arena_copy(&arena, &opset, sizeof opset);
    b->n_opsets = 1;
    build_input(b, x);
    build_output(b, z);
    build_node(b, "Conv_1", "", "Conv", 16, (int[]){x, k}, 2, &y, 1);
    build_node(b, "Mul_2", "", "Mul", 16, (int[]){y, y}, 2, &z, 1);
    PROMISE(build_freeze(b, &g, &e) == 0);
    for (int v = 0; v < g->n_values; v++)
        g->values[v].type.type = DT_F32;
    return g;
}

static void check_config(const json_t *v)
{
    struct arena a = ARENA_INIT;
    struct err e = ERR_INIT;
    struct quant_config *c, *again;
    struct resolved r;
    if (config_parse(v, "/quant_config", small_graph(), &march_nash_e, &a, &c, &e)) {
        PROMISE(e.code && e.detail[0] && !strncmp(e.at, "/quant_config", 13));
        arena_done(&a);
        return;
    }
    resolve(c, small_graph(), &march_nash_e, &a, &r);
    json_decref(ledger_json(&r.ledger, r.plan));
    json_t *says = config_resolved(c, &c->candidates[0]);
    PROMISE(!config_parse(says, "", small_graph(), &march_nash_e, &a, &again, &e));
    PROMISE(again->n_requests == c->n_requests);
    config_done(again);
    config_done(c);
    json_decref(says);
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = ERR_INIT;
    json_t *warnings = json_array();
    json_t *v = dialect_parse((const char *)data, size, warnings, &e);
    if (v)
        check_config(v);
    else
        PROMISE(e.code == ERR_BAD_JSON && e.detail[0]);
    json_decref(v);
    json_decref(warnings);
    return 0;
}
