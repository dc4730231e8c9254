#include "worker/load/optimize/edit.h"

#include <string.h>

void edit_init(struct edit *ed, const struct graph *g, struct err *e)
{
    *ed = (struct edit){.g = g, .e = e};
}

struct build *edit_builder(struct edit *ed)
{
    if (!ed->b) {
        ed->b = build_from(ed->g, ed->g->arena);
        ed->touched = arena_alloc(ed->g->arena, (size_t)ed->g->n_nodes + 1);
    }
    return ed->b;
}

int edit_done(struct edit *ed, const struct graph **ret)
{
    struct graph *g;
    *ret = ed->g;
    if (!ed->b)
        return 0;
    if (build_freeze(ed->b, &g, ed->e))
        return -1;
    *ret = g;
    return 0;
}

bool node_is(const struct node *n, const char *op_type)
{
    return !*n->domain && !strcmp(n->op_type, op_type);
}

int edit_sole_producer(const struct edit *ed, const struct node *n, int i)
{
    if (i >= n->n_in || n->in[i] < 0)
        return -1;
    const struct value *v = &ed->g->values[n->in[i]];
    if (v->producer < 0 || v->n_readers != 1 || v->is_output)
        return -1;
    if (ed->g->nodes[v->producer].out[0] != n->in[i])
        return -1;
    return ed->touched && ed->touched[v->producer] ? -1 : v->producer;
}

void edit_touch(struct edit *ed, int node)
{
    edit_builder(ed);
    ed->touched[node] = true;
}

void edit_fuse_behind(struct edit *ed, int into, int gone)
{
    struct build *b = edit_builder(ed);
    b->nodes[into].out[0] = b->nodes[gone].out[0];
    build_drop(b, gone, into, "fused");
    edit_touch(ed, into);
    edit_touch(ed, gone);
}

const struct tensor *edit_const(const struct graph *g, const struct node *n, int i)
{
    if (i >= n->n_in || n->in[i] < 0)
        return NULL;
    const struct value *v = &g->values[n->in[i]];
    return v->producer < 0 && !v->is_input && v->type.data ? &v->type : NULL;
}

bool edit_scalar(const struct graph *g, const struct node *n, int i, float *ret)
{
    const struct tensor *t = edit_const(g, n, i);
    if (!t || t->type != DT_F32 || tensor_count(t) != 1)
        return false;
    *ret = *(const float *)t->data;
    return true;
}

const struct attr *node_attr(const struct node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++)
        if (!strcmp(n->attrs[i].name, name))
            return &n->attrs[i];
    return NULL;
}

float node_float(const struct node *n, const char *name, float otherwise)
{
    const struct attr *a = node_attr(n, name);
    return a && a->type == ATTR_FLOAT ? a->f : otherwise;
}

int64_t node_int(const struct node *n, const char *name, int64_t otherwise)
{
    const struct attr *a = node_attr(n, name);
    return a && a->type == ATTR_INT ? a->i : otherwise;
}

void edit_replace_const(struct edit *ed, int node, int i, const struct tensor *t)
{
    struct build *b = edit_builder(ed);
    int old = b->nodes[node].in[i];
    if (old < ed->g->n_values && ed->g->values[old].n_readers == 1)
        b->values[old].type = *t;
    else
        b->nodes[node].in[i] = build_const(b, b->values[old].name, t);
}
