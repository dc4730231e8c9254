#include "worker/quant/candidates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "worker/ops/op.h"

static const char *const type_names[NODE_TYPE_COUNT] = {"node", "weight", "activation"};

const char *node_type_name(enum node_type t)
{
    return type_names[t];
}

int node_type_parse(const char *name, enum node_type *ret)
{
    for (int i = 0; i < NODE_TYPE_COUNT; i++)
        if (!strcmp(type_names[i], name)) {
            *ret = (enum node_type)i;
            return 0;
        }
    return -1;
}

struct finding {
    const struct plan *plan;
    enum node_type type;
    struct arena *a;
    struct candidates *all;
    struct err *e;
    bool *touched; /* per value, while reach is looked for */
};

/* ---- outputs ---- */

static int unknown_name(struct finding *f, const char *what, const char *name,
                        const char *const *known, int n, const char *at)
{
    char near[256];
    json_nearest(name, known, (size_t)n, near, sizeof near);
    return err_set(f->e, ERR_UNKNOWN_NAME, at, "The model has no %s \"%.100s\"%s%s%s.", what, name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

static int unknown_output(struct finding *f, const char *name, const char *at)
{
    const struct graph *g = f->plan->graph;
    const char **known = arena_array(f->a, (size_t)(g->n_nodes + g->n_outputs), sizeof *known);
    int n = 0;
    for (int i = 0; i < g->n_outputs; i++)
        known[n++] = g->values[g->outputs[i]].name;
    for (int i = 0; i < g->n_nodes; i++)
        known[n++] = g->nodes[i].name;
    return unknown_name(f, "node or output", name, known, n, at);
}

static int output_value(const struct graph *g, const char *name)
{
    int node = graph_node(g, name);
    for (int i = 0; node >= 0 && i < g->nodes[node].n_out; i++)
        if (g->nodes[node].out[i] != VALUE_NONE)
            return g->nodes[node].out[i];
    return graph_value(g, name);
}

static int choose_outputs(struct finding *f, const json_t *asked)
{
    const struct graph *g = f->plan->graph;
    bool all = !asked || json_is_null(asked);
    int n = all ? g->n_outputs : (int)json_array_size(asked);
    int *values = arena_array(f->a, (size_t)n + 1, sizeof *values);
    const char **names = arena_array(f->a, (size_t)n + 1, sizeof *names);
    for (int i = 0; i < n; i++) {
        char at[64];
        snprintf(at, sizeof at, "/options/outputs/%d", i);
        const char *name = all ? g->values[g->outputs[i]].name
                               : json_string_value(json_array_get(asked, (size_t)i));
        if (!name)
            return err_set(f->e, ERR_INVALID, at, "This must be a name.");
        values[i] = all ? g->outputs[i] : output_value(g, name);
        names[i] = arena_strdup(f->a, name);
        if (values[i] < 0)
            return unknown_output(f, name, at);
        for (int j = 0; j < i && !all; j++)
            if (values[j] == values[i])
                return err_set(f->e, ERR_INVALID, at, "This is the same output as \"%.100s\".",
                               names[j]);
    }
    f->all->outputs = values;
    f->all->output_names = names;
    f->all->n_outputs = n;
    return 0;
}

/* ---- reach ---- */

/* Port i of the node reads calibration k, itself or through others that stand on it. */
static bool reads_calib(const struct plan *p, const struct node *n, int i, int k)
{
    int c = n->in[i] == VALUE_NONE ? -1 : p->port[n->first_port + i];
    while (c >= 0 && c != k)
        c = p->calibs[c].parent;
    return c >= 0;
}

static bool is_touched(const struct finding *f, const struct node *n, const int *calibs,
                       int n_calibs)
{
    if (n->op && n->op->traits & T_VALUEFREE)
        return false;
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] != VALUE_NONE && f->touched[n->in[i]])
            return true;
        for (int k = 0; k < n_calibs; k++)
            if (reads_calib(f->plan, n, i, calibs[k]))
                return true;
    }
    return false;
}

/* What the node's subgraphs read is not among its inputs. */
static void touch_readers(const struct graph *g, int v, bool *via_subgraph)
{
    for (int r = 0; r < g->values[v].n_readers; r++)
        via_subgraph[g->values[v].readers[r]] = true;
}

/* The value is a graph output that is taken behind one of the calibrations. */
static bool ends_behind(const struct plan *p, int value, const int *calibs, int n_calibs)
{
    for (int i = 0; i < p->graph->n_outputs; i++)
        for (int k = 0; k < n_calibs && p->graph->outputs[i] == value; k++)
            if (p->output[i] == calibs[k])
                return true;
    return false;
}

static const bool *find_reach(struct finding *f, const int *calibs, int n_calibs)
{
    const struct graph *g = f->plan->graph;
    bool *reaches = arena_array(f->a, (size_t)f->all->n_outputs + 1, sizeof *reaches);
    bool *reading = xcalloc((size_t)g->n_nodes + 1, sizeof *reading);
    memset(f->touched, 0, (size_t)g->n_values * sizeof *f->touched);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        bool subgraphs = n->op && n->op->traits & T_SUBGRAPHS;
        if (!is_touched(f, n, calibs, n_calibs) && !(subgraphs && reading[i]))
            continue;
        for (int o = 0; o < n->n_out; o++)
            if (n->out[o] != VALUE_NONE) {
                f->touched[n->out[o]] = true;
                touch_readers(g, n->out[o], reading);
            }
    }
    free(reading);
    for (int o = 0; o < f->all->n_outputs; o++)
        reaches[o] = f->touched[f->all->outputs[o]] ||
                     ends_behind(f->plan, f->all->outputs[o], calibs, n_calibs);
    return reaches;
}

/* ---- candidates ---- */

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int sorted_set(int *v, int n)
{
    int kept = 0;
    qsort(v, (size_t)n, sizeof *v, ascending);
    for (int i = 0; i < n; i++)
        if (i == 0 || v[i] != v[i - 1])
            v[kept++] = v[i];
    return kept;
}

/* The calibrations of the thing of that number: a node, or a calibration itself. */
static int calibs_of(const struct finding *f, int index, int *ret)
{
    const struct plan *p = f->plan;
    int n = 0;
    if (f->type != BY_NODE) {
        bool weight = p->calibs[index].kind == CALIB_WEIGHT;
        ret[0] = index;
        return weight == (f->type == BY_WEIGHT);
    }
    for (int i = 0; i < p->graph->nodes[index].n_in; i++) {
        int k = plan_find_input(p, index, i);
        if (k >= 0)
            ret[n++] = k;
    }
    return sorted_set(ret, n);
}

static const char *name_of(const struct finding *f, int index)
{
    return f->type == BY_NODE ? f->plan->graph->nodes[index].name : f->plan->calibs[index].name;
}

static int count_of(const struct finding *f)
{
    return f->type == BY_NODE ? f->plan->graph->n_nodes : f->plan->n_calibs;
}

static bool same_set(const struct candidate *a, const struct candidate *b)
{
    return a->n_calibs == b->n_calibs &&
           !memcmp(a->calibs, b->calibs, (size_t)a->n_calibs * sizeof *a->calibs);
}

/* False: it reaches none of the outputs. */
static bool add(struct finding *f, const char *name, const int *calibs, int n)
{
    struct candidate *c = &f->all->list[f->all->n];
    *c = (struct candidate){.name = name, .n_calibs = n, .calibs = calibs, .same = f->all->n};
    c->reaches = find_reach(f, calibs, n);
    bool any = false;
    for (int o = 0; o < f->all->n_outputs; o++)
        any = any || c->reaches[o];
    if (!any)
        return false;
    for (int i = f->all->n - 1; i >= 0; i--)
        if (same_set(&f->all->list[i], c))
            c->same = i;
    f->all->n++;
    return true;
}

static void add_all(struct finding *f)
{
    int n = count_of(f);
    f->all->list = arena_array(f->a, (size_t)n + 1, sizeof *f->all->list);
    for (int i = 0; i < n; i++) {
        int room = f->type == BY_NODE ? f->plan->graph->nodes[i].n_in : 1;
        int *calibs = arena_array(f->a, (size_t)room + 1, sizeof *calibs);
        int found = calibs_of(f, i, calibs);
        if (found)
            add(f, name_of(f, i), calibs, found);
    }
}

/* ---- those asked for ---- */

static int number_of(struct finding *f, const char *name, const char *at)
{
    int n = count_of(f);
    const char **known = arena_array(f->a, (size_t)n + 1, sizeof *known);
    for (int i = 0; i < n; i++) {
        known[i] = name_of(f, i);
        if (!strcmp(known[i], name))
            return i;
    }
    return unknown_name(f, f->type == BY_NODE ? "node" : "calibration", name, known, n, at);
}

struct group {
    int *calibs, n, cap;
    struct buf name;
};

static int join(struct finding *f, struct group *g, const json_t *v, const char *at)
{
    const char *name = json_string_value(v);
    int i = name ? number_of(f, name, at) : err_set(f->e, ERR_INVALID, at, "This must be a name.");
    if (i < 0)
        return -1;
    int room = f->type == BY_NODE ? f->plan->graph->nodes[i].n_in : 1;
    int *found = arena_array(f->a, (size_t)room + 1, sizeof *found);
    int n = calibs_of(f, i, found);
    if (!n)
        return err_set(f->e, ERR_INVALID, at, "\"%.100s\" has no %s.", name,
                       f->type == BY_NODE ? "calibrated input" : "calibration of this node_type");
    int *all = arena_array(f->a, (size_t)(g->n + n), sizeof *all);
    if (g->n)
        memcpy(all, g->calibs, (size_t)g->n * sizeof *all);
    memcpy(all + g->n, found, (size_t)n * sizeof *all);
    g->calibs = all;
    g->n += n;
    buf_addf(&g->name, "%s%s", g->name.len ? "+" : "", name);
    return 0;
}

static int join_all(struct finding *f, struct group *g, const json_t *v, int index)
{
    char at[96];
    snprintf(at, sizeof at, "/options/interested_nodes/%d", index);
    if (!json_is_array(v))
        return join(f, g, v, at);
    if (!json_array_size(v))
        return err_set(f->e, ERR_INVALID, at, "A group names at least one.");
    for (size_t i = 0; i < json_array_size(v); i++) {
        snprintf(at, sizeof at, "/options/interested_nodes/%d/%zu", index, i);
        if (join(f, g, json_array_get(v, i), at))
            return -1;
    }
    return 0;
}

static int add_asked(struct finding *f, const json_t *asked)
{
    int n = (int)json_array_size(asked), n_unheard = 0;
    const char **unheard = arena_array(f->a, (size_t)n + 1, sizeof *unheard);
    f->all->list = arena_array(f->a, (size_t)n + 1, sizeof *f->all->list);
    for (int i = 0; i < n; i++) {
        struct group g = {0};
        buf_init(&g.name, JSON_TEXT_MAX);
        int rc = join_all(f, &g, json_array_get(asked, (size_t)i), i);
        const char *name = arena_strdup(f->a, rc ? "" : g.name.data);
        buf_done(&g.name);
        if (rc)
            return -1;
        if (!add(f, name, g.calibs, sorted_set(g.calibs, g.n)))
            unheard[n_unheard++] = name;
    }
    f->all->unheard = unheard;
    f->all->n_unheard = n_unheard;
    return 0;
}

int candidates_find(const struct plan *p, enum node_type type, const json_t *outputs,
                    const json_t *interested, struct arena *a, struct candidates **ret,
                    struct err *e)
{
    struct finding f = {.plan = p, .type = type, .a = a, .e = e};
    f.all = *ret = arena_alloc(a, sizeof *f.all);
    f.touched = arena_array(a, (size_t)p->graph->n_values + 1, sizeof *f.touched);
    if (choose_outputs(&f, outputs))
        return -1;
    if (interested && !json_is_null(interested))
        return add_asked(&f, interested);
    add_all(&f);
    return 0;
}

/* Which of the candidate's calibrations the i-th reads, or -1: the tensor itself. */
static int on_parent(const struct plan *p, const struct candidate *c, int i)
{
    for (int k = p->calibs[c->calibs[i]].parent; k >= 0; k = p->calibs[k].parent)
        for (int j = 0; j < c->n_calibs; j++)
            if (c->calibs[j] == k)
                return j;
    return -1;
}

void candidate_digest(const struct plan *p, const struct candidate *c, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    for (int i = 0; i < c->n_calibs; i++) {
        const struct calib *k = &p->calibs[c->calibs[i]];
        const int32_t ints[] = {k->value, k->qtype,        k->affine,         k->axis,
                                k->group, k->n_thresholds, on_parent(p, c, i)};
        sha256_field(h, ints, sizeof ints);
        sha256_field(h, k->thresholds, (size_t)k->n_thresholds * sizeof *k->thresholds);
        sha256_field(h, k->fold, (size_t)k->n_fold * sizeof *k->fold);
        /* Who reads it: with the graph, whose digest goes along, the whole of its effect. */
        for (int n = 0; n < p->graph->n_nodes; n++)
            for (int in = 0; in < p->graph->nodes[n].n_in; in++)
                if (reads_calib(p, &p->graph->nodes[n], in, c->calibs[i])) {
                    const int32_t port[] = {n, in};
                    sha256_field(h, port, sizeof port);
                }
        for (int o = 0; o < p->graph->n_outputs; o++)
            if (p->output[o] == c->calibs[i])
                sha256_field(h, &o, sizeof o);
    }
    sha256_finish(h, ret);
}
