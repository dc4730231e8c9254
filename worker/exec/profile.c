/* What the steps of a run cost. Processor time of the thread, not of the clock on the wall: other
 * processes on the machine do not count. */
#include <time.h>

#include "worker/exec/inner.h"

int64_t exec_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void exec_time(struct exec *x)
{
    if (!x->began_ns)
        x->began_ns = arena_array(&x->arena, (size_t)x->n_steps + 1, sizeof *x->began_ns);
}

static int64_t bytes_of(const struct exec *x, const int *places, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        if (places[i] != NONE && x->places[places[i]]->t.type != DT_NONE)
            sum += (int64_t)tensor_bytes(&x->places[places[i]]->t);
    return sum;
}

static void name_step(const struct exec *x, const struct step *s, struct exec_cost *ret)
{
    const struct node *n = &x->graph->nodes[s->index];
    int source;
    switch (s->kind) {
    case STEP_NODE:
        ret->name = n->name;
        ret->type = n->op->type;
        ret->backend = s->ctx.used ? s->ctx.used->name : NULL;
        ret->macs = n->op->macs ? n->op->macs(&s->ctx) : 0;
        break;
    case STEP_QUANT:
        ret->name = x->plan->calibs[s->index].name;
        ret->type = "(quantize)";
        break;
    case STEP_REORDER:
    case STEP_FOLDED:
        source = x->places[s->out[0]]->source;
        ret->name = source < x->graph->n_values ? x->graph->values[source].name
                                                : x->plan->calibs[source - x->graph->n_values].name;
        ret->type = s->kind == STEP_REORDER ? "(reorder)" : "(folded)";
        break;
    }
}

bool exec_cost(const struct exec *x, int i, struct exec_cost *ret)
{
    if (!x->began_ns || i >= x->n_steps)
        return false;
    const struct step *s = x->steps[i];
    *ret = (struct exec_cost){.begin_ns = x->began_ns[i] - x->began_ns[0],
                              .ns = x->began_ns[i + 1] - x->began_ns[i],
                              .bytes = bytes_of(x, s->in, s->n_in) + bytes_of(x, s->out, s->n_out)};
    name_step(x, s, ret);
    return true;
}
