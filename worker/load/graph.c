#include "worker/load/graph.h"

#include <string.h>

#include "common/sha256.h"

int graph_value(const struct graph *g, const char *name)
{
    return map_get(&g->value_names, name);
}

int graph_node(const struct graph *g, const char *name)
{
    return map_get(&g->node_names, name);
}

static void add_int(struct sha256 *h, int64_t v)
{
    sha256_field(h, &v, sizeof v);
}

static void add_text(struct sha256 *h, const char *s)
{
    sha256_field(h, s ? s : "", s ? strlen(s) : 0);
}

static void add_tensor(struct sha256 *h, const struct tensor *t)
{
    add_int(h, t->type);
    add_int(h, t->rank);
    sha256_field(h, t->dims, (size_t)(t->rank > 0 ? t->rank : 0) * sizeof t->dims[0]);
    if (t->data)
        sha256_field(h, t->data, tensor_bytes(t));
}

static void add_graph(struct sha256 *h, const struct graph *g);

static void add_attr(struct sha256 *h, const struct attr *a)
{
    add_text(h, a->name);
    add_int(h, a->type);
    add_int(h, (int64_t)a->n);
    switch (a->type) {
    case ATTR_FLOAT:
        sha256_field(h, &a->f, sizeof a->f);
        break;
    case ATTR_INT:
        add_int(h, a->i);
        break;
    case ATTR_STRING:
        add_text(h, a->s);
        break;
    case ATTR_TENSOR:
        add_tensor(h, a->t);
        break;
    case ATTR_GRAPH:
        add_graph(h, a->g);
        break;
    case ATTR_FLOATS:
        sha256_field(h, a->floats, a->n * sizeof *a->floats);
        break;
    case ATTR_INTS:
        sha256_field(h, a->ints, a->n * sizeof *a->ints);
        break;
    case ATTR_STRINGS:
        for (size_t i = 0; i < a->n; i++)
            add_text(h, a->strings[i]);
        break;
    }
}

/* Values by number in the graph's own order: the same graph gives the same numbers. */
static void add_node(struct sha256 *h, const struct node *n)
{
    add_text(h, n->name);
    add_text(h, n->domain);
    add_text(h, n->op_type);
    add_int(h, n->opset);
    sha256_field(h, n->in, (size_t)n->n_in * sizeof *n->in);
    sha256_field(h, n->out, (size_t)n->n_out * sizeof *n->out);
    add_int(h, n->n_attrs);
    for (int i = 0; i < n->n_attrs; i++)
        add_attr(h, &n->attrs[i]);
}

/* The type of what nodes compute is inferred, not part of the identity. */
static void add_value(struct sha256 *h, const struct value *v)
{
    add_text(h, v->name);
    add_int(h, v->producer);
    add_int(h, v->outer);
    add_int(h, v->is_input | v->is_output << 1);
    if (v->producer < 0)
        add_tensor(h, &v->type);
}

static void add_graph(struct sha256 *h, const struct graph *g)
{
    add_int(h, g->n_values);
    for (int i = 0; i < g->n_values; i++)
        add_value(h, &g->values[i]);
    add_int(h, g->n_nodes);
    for (int i = 0; i < g->n_nodes; i++)
        add_node(h, &g->nodes[i]);
    sha256_field(h, g->inputs, (size_t)g->n_inputs * sizeof *g->inputs);
    sha256_field(h, g->outputs, (size_t)g->n_outputs * sizeof *g->outputs);
}

void graph_digest(const struct graph *g, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    add_graph(h, g);
    sha256_finish(h, ret);
}
