/* Which layout an operator reads and writes: the one place that knows what L_… means. */
#include "worker/exec/inner.h"

bool exec_same_bytes(const struct tensor *t)
{
    if (t->rank < 3 || t->dims[1] == 1)
        return true;
    for (int i = 2; i < t->rank; i++)
        if (t->dims[i] != 1)
            return false;
    return true;
}

/* L_ANY: channels-last as soon as one of the largest inputs lies so and no other way. */
static void want_any(const struct offer *in, int n_in, enum layout *ret)
{
    int rank = 0;
    enum layout target = LAYOUT_PLAIN;
    for (int i = 0; i < n_in; i++)
        if (in[i].t && in[i].t->rank > rank)
            rank = in[i].t->rank;
    for (int i = 0; i < n_in; i++)
        if (in[i].t && in[i].t->rank == rank && rank >= 3 && !in[i].neutral &&
            in[i].ready[LAYOUT_CL])
            target = LAYOUT_CL;
    for (int i = 0; i < n_in; i++)
        if (in[i].t && in[i].t->rank == rank)
            ret[i] = target;
        else
            ret[i] = in[i].ready[LAYOUT_PLAIN] ? LAYOUT_PLAIN : LAYOUT_CL;
}

void exec_want(const struct op *op, const struct offer *in, int n_in, enum layout *ret)
{
    for (int i = 0; i < n_in; i++)
        ret[i] = LAYOUT_PLAIN;
    if (!n_in)
        return;
    if (op->layout == L_ANY)
        want_any(in, n_in, ret);
    bool large = in[0].t && in[0].t->rank >= 3;
    if (op->layout == L_CL && large)
        ret[0] = LAYOUT_CL;
    if (op->layout == L_SAME && large && in[0].ready[LAYOUT_CL] && !in[0].neutral)
        ret[0] = LAYOUT_CL;
}

enum layout exec_gives(const struct op *op, const struct tensor *const *in, int n_in,
                       const struct tensor *out, int i)
{
    if (out->rank < 3 || op->layout == L_PLAIN)
        return LAYOUT_PLAIN;
    if (op->layout == L_CL)
        return i == 0 ? LAYOUT_CL : LAYOUT_PLAIN;
    if (op->layout == L_SAME)
        return n_in && in[0] && in[0]->rank == out->rank ? in[0]->layout : LAYOUT_PLAIN;
    for (int k = 0; k < n_in; k++)
        if (in[k] && in[k]->rank == out->rank)
            return in[k]->layout;
    return LAYOUT_PLAIN;
}
