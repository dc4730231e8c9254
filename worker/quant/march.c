#include "worker/quant/march.h"

#include <string.h>

#include "common/json.h"
#include "worker/ops/op.h"

const struct march *const marches[] = {&march_nash_e, &march_nash_m, NULL};
enum { MARCHES = sizeof marches / sizeof *marches - 1 };

int march_find(const char *name, const char *at, const struct march **ret, struct err *e)
{
    const char *names[MARCHES];
    char near[128];
    for (int i = 0; i < MARCHES; i++) {
        names[i] = marches[i]->name;
        if (!name || !strcmp(name, names[i])) {
            *ret = marches[i];
            return 0;
        }
    }
    json_nearest(name, names, MARCHES, near, sizeof near);
    return err_set(e, ERR_UNKNOWN_NAME, at, "There is no march \"%.60s\"%s%s%s.", name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

/* "Lut" stands for a family. */
static bool is_of(const char *op, const struct node *n)
{
    return !strcmp(op, n->op_type) || (!strcmp(op, "Lut") && n->op && n->op->traits & T_LUT);
}

const struct march_row *march_row(const struct march *m, const struct graph *g,
                                  const struct node *n, int port)
{
    const struct march_row *rest = NULL;
    for (const struct march_row *r = m->rows; r->op; r++) {
        if (!is_of(r->op, n) || (r->when && !r->when(g, n)))
            continue;
        if (r->port == port)
            return r;
        if (r->port == MARCH_REST && port != MARCH_OUT && !rest)
            rest = r;
    }
    return rest;
}

static bool rank_fits(const struct march *m, const struct graph *g, const int *values, int n)
{
    for (int i = 0; i < n; i++)
        if (values[i] != VALUE_NONE && g->values[values[i]].type.rank > m->max_rank)
            return false;
    return true;
}

void march_off_device(const struct march *m, const struct graph *g, bool *ret)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        ret[i] = !march_row(m, g, n, 0) || !rank_fits(m, g, n->in, n->n_in) ||
                 !rank_fits(m, g, n->out, n->n_out);
    }
}

const struct march_note *march_note(const struct march *m, const struct graph *g,
                                    const struct node *n, enum qtype q)
{
    for (const struct march_note *r = m->notes; r->op; r++)
        if (r->qtype == q && is_of(r->op, n) && (!r->when || r->when(g, n)))
            return r;
    return NULL;
}
