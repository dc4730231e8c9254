/* Marches are tables: a second one is one more file, and a changed row changes what is decided. */
#include "tests/test.h"

#include <string.h>

#include "tests/unit/mini.h"
#include "worker/ops/op.h"
#include "worker/quant/resolve.h"

static struct arena arena;

#define GRAPH                                                                                      \
    "input x 1,4,8,8\nconst w 4,4,1,1\nconst sizes 4 1 1 2 2\noutput y\n"                          \
    "c Conv x,w -> a\nr Resize a,-,sizes -> b\nd Conv b,w -> y\n"
#define INT16 "{'model_config': {'all_node_type': 'int16'}}"

static struct resolved under(const struct march *m)
{
    struct err e = ERR_INIT;
    struct quant_config *c;
    struct resolved r;
    json_t *v = json_string(INT16);
    CHECK_OK(config_parse(v, "", mini_graph(&arena, GRAPH), m, &arena, &c, &e), e);
    resolve(c, c->graph, m, &arena, &r);
    config_done(c);
    json_decref(v);
    return r;
}

static const struct ledger_line *line(const struct resolved *r, const char *node, int input)
{
    int n = graph_node(r->plan->graph, node);
    for (int i = 0; i < r->ledger.n; i++)
        if (r->ledger.lines[i].node == n && r->ledger.lines[i].input == input)
            return &r->ledger.lines[i];
    FAIL("no ledger line for input %d of %s", input, node);
}

void test_march__every_row_has_a_rule_of_its_march_and_an_operator(void)
{
    for (int i = 0; marches[i]; i++)
        for (const struct march_row *m = marches[i]->rows; m->op; m++) {
            size_t len = strlen(marches[i]->name);
            bool known = !strcmp(m->op, "Lut");
            for (const struct op *const *f = op_families; *f && !known; f++)
                for (const struct op *op = *f; op->type; op++)
                    known |= !strcmp(op->type, m->op);
            CHECK(m->rule && m->text && *m->text && m->allowed);
            CHECK(!strncmp(m->rule, marches[i]->name, len) && m->rule[len] == '/');
            if (!known)
                FAIL("no operator is called %s", m->op);
        }
}

void test_march__is_found_by_its_name(void)
{
    struct err e = ERR_INIT;
    const struct march *m;
    CHECK_OK(march_find(NULL, "/march", &m, &e), e);
    CHECK(m == &march_nash_e);
    CHECK_OK(march_find("nash-m", "/march", &m, &e), e);
    CHECK(m == &march_nash_m);
    CHECK_INT(march_find("nash-n", "/march", &m, &e), -1);
    CHECK_INT(e.code, ERR_UNKNOWN_NAME);
    CHECK_STR(e.at, "/march");
    CHECK(strstr(e.detail, "\"nash-m\"") != NULL);
}

void test_march__names_its_own_rules_in_the_ledger(void)
{
    struct resolved e = under(&march_nash_e), m = under(&march_nash_m);
    CHECK_STR(line(&e, "r", 0)->rule, "nash-e/resize-int8");
    CHECK_STR(line(&m, "r", 0)->rule, "nash-m/resize-int8");
    CHECK_INT(line(&m, "r", 0)->effective, Q_INT8);
    CHECK_INT(line(&m, "c", 0)->effective, Q_INT16);
}

void test_march__a_row_in_front_of_the_others_holds(void)
{
    struct march_row rows[3] = {
        {"Resize", 0, Q8 | Q16, false, false, NULL, "other/resize", "int8 or int16", false},
        {"Conv", MARCH_REST, Q8, false, false, NULL, "other/conv", "int8 alone", false}};
    struct march other = march_nash_e;
    other.name = "other";
    other.rows = rows;
    struct resolved r = under(&other);
    CHECK_INT(line(&r, "r", 0)->effective, Q_INT16);
    CHECK_INT(line(&r, "c", 0)->effective, Q_INT8);
    CHECK_STR(line(&r, "c", 0)->rule, "other/conv");
}
