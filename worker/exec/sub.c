/* Subgraphs: an exec for each shape that a node's graph was last bound to. */
#include "worker/exec/sub.h"

#include <stdlib.h>
#include <string.h>

#include "worker/exec/inner.h"

struct sub {
    struct sub *next;
    const struct graph *graph;
    struct exec *exec;
    struct tensor *bound; /* one per input of the exec */
};

static void sub_free(struct sub *s)
{
    exec_free(s->exec);
    free(s->bound);
    free(s);
}

void exec_free_subs(struct exec *x)
{
    while (x->subs) {
        struct sub *s = x->subs;
        x->subs = s->next;
        sub_free(s);
    }
}

uint64_t exec_subs_bytes(const struct exec *x)
{
    uint64_t bytes = 0;
    for (const struct sub *s = x->subs; s; s = s->next)
        bytes += exec_bytes(s->exec);
    return bytes;
}

/* ---- what a graph is given ---- */

int exec_capture(struct exec *x, struct step *s, struct err *e)
{
    for (int i = 0; i < s->n_held; i++) {
        const struct tensor *t = &x->places[s->held[i]]->t;
        if (exec_turn(x, &t, LAYOUT_PLAIN, e))
            return -1;
        s->captured[i] = *t;
        s->captured[i].layout = LAYOUT_PLAIN;
    }
    return 0;
}

static int n_outer(const struct graph *g)
{
    int n = 0;
    for (int v = 0; v < g->n_values; v++)
        n += g->values[v].outer >= 0;
    return n;
}

static const struct step *step_of(const struct op_ctx *c)
{
    const struct exec *x = c->exec;
    return x->steps[x->node_step[c->node - x->graph->nodes]];
}

/* Where the graph's own part of step->captured begins. */
static int first_held(const struct node *n, const struct graph *g)
{
    int at = 0;
    for (int k = 0; k < n->n_attrs && n->attrs[k].g != g; k++)
        if (n->attrs[k].type == ATTR_GRAPH)
            at += n_outer(n->attrs[k].g);
    return at;
}

/* Graph inputs, then outer values; malloced. */
static struct tensor *all_inputs(const struct op_ctx *c, const struct graph *g,
                                 const struct tensor *in, int *ret_n)
{
    const struct step *s = step_of(c);
    int outer = n_outer(g), from = first_held(c->node, g);
    struct tensor *all = xcalloc((size_t)g->n_inputs + (size_t)outer + 1, sizeof *all);
    for (int i = 0; i < g->n_inputs; i++)
        all[i] = in[i];
    for (int i = 0; i < outer; i++)
        all[g->n_inputs + i] = s->captured[from + i];
    *ret_n = g->n_inputs + outer;
    return all;
}

/* ---- binding ---- */

static bool fits(const struct sub *s, const struct graph *g, const struct tensor *in, int n)
{
    if (s->graph != g)
        return false;
    for (int i = 0; i < n; i++)
        if (s->bound[i].type != in[i].type || !tensor_same_shape(&s->bound[i], &in[i]))
            return false;
    return true;
}

/* Lets the oldest exec of the graph go when there are enough of them. */
static void make_room(struct exec *x, const struct graph *g)
{
    struct sub **oldest = NULL;
    int n = 0;
    for (struct sub **s = &x->subs; *s; s = &(*s)->next)
        if ((*s)->graph == g) {
            oldest = s;
            n++;
        }
    if (n < SUB_KEPT)
        return;
    struct sub *gone = *oldest;
    *oldest = gone->next;
    sub_free(gone);
}

/* Only constants of the graph around may count as constants inside. */
static void keep_constants(const struct op_ctx *c, const struct graph *g, struct tensor *bound,
                           int n)
{
    const struct step *s = step_of(c);
    int from = first_held(c->node, g) - g->n_inputs;
    for (int i = 0; i < n; i++)
        if (i < g->n_inputs || c->exec->places[s->held[from + i]]->kind != PLACE_CONST)
            bound[i].data = NULL;
}

static int sub_new(const struct op_ctx *c, const struct graph *g, const struct tensor *in, int n,
                   struct sub **ret, struct err *e)
{
    struct exec *x = c->exec;
    struct exec_opts opts = {.backend = x->backend};
    if (x->depth + 1 > SUB_DEPTH_MAX)
        return err_set(e, ERR_LIMIT, "", "graphs are nested more than %d deep", SUB_DEPTH_MAX);
    make_room(x, g);
    if (exec_check_room(x, 0, e))
        return -1;
    if (x->opts.memory_max)
        opts.memory_max = x->opts.memory_max - exec_bytes(x) + 1;
    struct sub *s = xcalloc(1, sizeof *s);
    s->graph = g;
    s->bound = xcalloc((size_t)n + 1, sizeof *s->bound);
    memcpy(s->bound, in, (size_t)n * sizeof *s->bound);
    keep_constants(c, g, s->bound, n);
    if (exec_make(g, s->bound, &opts, x->depth + 1, &s->exec, e)) {
        free(s->bound);
        free(s);
        return -1;
    }
    s->exec->sub_runs = x->sub_runs;
    s->next = x->subs;
    x->subs = s;
    *ret = s;
    return 0;
}

static int sub_find(const struct op_ctx *c, const struct graph *g, const struct tensor *in, int n,
                    struct sub **ret, struct err *e)
{
    struct exec *x = c->exec;
    for (struct sub **at = &x->subs; *at; at = &(*at)->next) {
        struct sub *s = *at;
        if (!fits(s, g, in, n))
            continue;
        *at = s->next; /* to the front */
        s->next = x->subs;
        x->subs = s;
        *ret = s;
        return 0;
    }
    return sub_new(c, g, in, n, ret, e);
}

/* ---- for operators ---- */

int exec_sub_run(const struct op_ctx *c, const struct graph *g, const struct tensor *in,
                 const struct tensor **ret, struct err *e)
{
    int n;
    struct sub *s = NULL;
    if (++*c->exec->sub_runs > SUB_RUNS_MAX)
        return err_set(e, ERR_LIMIT, "", "the run has not ended after %d iterations of its loops",
                       SUB_RUNS_MAX);
    struct tensor *all = all_inputs(c, g, in, &n);
    int rc = sub_find(c, g, all, n, &s, e);
    if (!rc)
        rc = exec_run(s->exec, all, NULL, NULL, e);
    free(all);
    for (int i = 0; !rc && i < g->n_outputs; i++)
        ret[i] = exec_output(s->exec, i);
    return rc;
}

/* What the file says of an output, with 0 for open dims. */
static int declared(const struct value *v, struct tensor *ret, struct err *e)
{
    *ret = v->type;
    ret->data = NULL;
    if (!ret->type)
        return err_set(e, ERR_UNSUPPORTED, v->name,
                       "the shape of an output that nothing computes cannot be told");
    for (int i = 0; i < ret->rank; i++)
        if (ret->dims[i] < 0)
            ret->dims[i] = 0;
    return 0;
}

int exec_sub_type(const struct op_ctx *c, const struct graph *g, const struct tensor *in, int i,
                  struct tensor *ret, struct err *e)
{
    int n, v = g->outputs[i];
    struct sub *s = NULL;
    struct tensor *all = all_inputs(c, g, in, &n);
    int rc = sub_find(c, g, all, n, &s, e);
    free(all);
    if (rc)
        return -1;
    *ret = s->exec->types[v];
    ret->data = NULL;
    return ret->type ? 0 : declared(&g->values[v], ret, e);
}

int exec_sub_out(const struct op_ctx *c, int i, const struct tensor *type, struct err *e)
{
    struct tensor *t = i < c->n_out ? c->out[i] : NULL;
    if (!t)
        return 0;
    return tensor_set(t, type->type, type->rank, type->dims, e) ? -1 : exec_allot(c->exec, t, e);
}

size_t exec_sub_room(const struct op_ctx *c)
{
    const struct exec *x = c->exec;
    if (!x->opts.memory_max)
        return SIZE_MAX / 4;
    uint64_t used = exec_bytes(x);
    return used < x->opts.memory_max ? (size_t)(x->opts.memory_max - used) : 0;
}
