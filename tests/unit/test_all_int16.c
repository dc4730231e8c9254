/* all_node_type int16 leaves the int8 ports of the march, and those alone; an edit takes them. */
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "tests/unit/mini.h"
#include "worker/ops/op.h"
#include "worker/quant/edit.h"
#include "worker/quant/resolve.h"

static struct arena arena;
static struct quant_config *config;

/* One node of each kind of rule, everything read by another. */
#define NET                                                                                        \
    "input x 1,4,8,8\ninput y 1,4,8,8\nconst w 4,4,1,1\nconst b 4\nconst t 4,4,2,2\n"              \
    "const k 8,8\nconst s 4 1 1 2 2\nconst grid 1,8,8,2 0.1\nconst q 8,8\nconst a 1,4,8,8 0.5\n"   \
    "output o1\noutput o2\noutput o3\noutput o4\noutput o5\n"                                      \
    "conv Conv x,w,b -> v1\n"                                                                      \
    "sig Sigmoid v1 -> v2\n"                                                                       \
    "trans ConvTranspose v2,t -> v3\n"                                                             \
    "soft Softmax v3 -> v4\n"                                                                      \
    "pool GlobalAveragePool v4 -> o1\n"                                                            \
    "const_mm MatMul v2,k -> v5\n"                                                                 \
    "mm MatMul v5,y -> v6\n"                                                                       \
    "add Add v6,a -> v7\n"                                                                         \
    "near Resize v7,-,s -> v8 mode=nearest\n"                                                      \
    "conv2 Conv v8,w -> o2\n"                                                                      \
    "lin Resize v7,-,s -> v9 mode=linear\n"                                                        \
    "mul Mul v9,v9 -> o3\n"                                                                        \
    "gs GridSample v7,grid -> v10\n"                                                               \
    "cat Concat v10,v7 -> v11 axis=1\n"                                                            \
    "gap GlobalAveragePool v11 -> o4\n"                                                            \
    "red ReduceMean v7 -> v12 keepdims=1\n"                                                        \
    "flat Flatten v12 -> v13\n"                                                                    \
    "gemm Gemm v13,g1 -> o5\n"                                                                     \
    "const g1 1,3\n"

/* Section 4, in the graph's order: node and input. Who reads what Resize and GridSample give reads
 * int8 too, since their output is limited, an int16 Concat as well. */
static const char expected[] = "conv:1 trans:1 const_mm:1 mm:1 near:0 conv2:0 conv2:1 lin:0 mul:0 "
                               "mul:1 gs:0 cat:0 gemm:1 ";

static char *int8_ports(const struct plan *p)
{
    const struct graph *g = p->graph;
    char *list = arena_printf(&arena, "%s", "");
    for (int n = 0; n < g->n_nodes; n++)
        for (int i = 0; i < g->nodes[n].n_in; i++) {
            bool reads = g->nodes[n].in[i] != VALUE_NONE;
            int k = reads ? p->port[g->nodes[n].first_port + i] : -1;
            if (k >= 0 && p->calibs[k].qtype == Q_INT8)
                list = arena_printf(&arena, "%s%s:%d ", list, g->nodes[n].name, i);
        }
    return list;
}

static struct resolved all_int16(void)
{
    struct err e = ERR_INIT;
    struct resolved r;
    json_t *v = json_string("{'model_config': {'all_node_type': 'int16'}}");
    CHECK_OK(config_parse(v, "", mini_graph(&arena, NET), &march_nash_e, &arena, &config, &e), e);
    json_decref(v);
    resolve(config, config->graph, &march_nash_e, &arena, &r);
    return r;
}

void test_all_int16__leaves_exactly_the_int8_ports_of_the_march(void)
{
    struct resolved r = all_int16();
    CHECK_STR(int8_ports(r.plan), expected);
    for (int i = 0; i < r.ledger.n; i++) { /* and says so */
        const struct ledger_line *l = &r.ledger.lines[i];
        CHECK_INT(l->requested, Q_INT16);
        if (l->calib >= 0 && l->effective == Q_INT8) {
            CHECK_STR(l->decided_by, "constraint");
            CHECK(l->rule && strlen(l->rule) > 0);
        }
    }
}

void test_all_int16__an_edit_of_all_calibrations_leaves_none(void)
{
    struct err e = ERR_INIT;
    struct plan *p;
    struct resolved r = all_int16();
    json_t *edits = json_pack("[{s:{}, s:{s:s}}]", "select", "set", "qtype", "int16");
    CHECK_OK(plan_edit(r.plan, edits, "", &march_nash_e, &arena, &p, &e), e);
    json_decref(edits);
    CHECK_STR(int8_ports(p), "");
    for (int k = 0; k < p->n_calibs; k++)
        CHECK_INT(p->calibs[k].qtype, Q_INT16);
}
