/* Attributes of nodes; graphs among them are read by read.c. */
#include "worker/load/read.h"

enum { SPARSE_TENSOR = 11 }; /* AttributeProto.AttributeType */

/* Files of IR version 1 and 2 do not say the type: it is that of the field in use. */
static int attr_type(const Onnx__AttributeProto *p)
{
    if (p->has_type && p->type)
        return p->type;
    return p->has_f       ? ATTR_FLOAT
           : p->has_i     ? ATTR_INT
           : p->has_s     ? ATTR_STRING
           : p->t         ? ATTR_TENSOR
           : p->g         ? ATTR_GRAPH
           : p->n_floats  ? ATTR_FLOATS
           : p->n_strings ? ATTR_STRINGS
                          : ATTR_INTS;
}

static int read_attr_tensor(struct reader *r, const Onnx__AttributeProto *p, struct attr *ret)
{
    struct tensor *t = arena_alloc(r->arena, sizeof *t);
    ret->t = t;
    if (!p->t)
        return err_set(r->e, ERR_BAD_MODEL, "", "The attribute \"%.200s\" has no tensor.",
                       ret->name);
    return read_tensor(r, p->t, ret->name, t);
}

/* Read as a tensor. */
static int read_attr_sparse(struct reader *r, const Onnx__AttributeProto *p, struct attr *ret)
{
    struct tensor *t = arena_alloc(r->arena, sizeof *t);
    ret->type = ATTR_TENSOR;
    ret->t = t;
    if (!p->sparse_tensor)
        return err_set(r->e, ERR_BAD_MODEL, "", "The attribute \"%.200s\" has no tensor.",
                       ret->name);
    return read_sparse(r, p->sparse_tensor, ret->name, t);
}

static int read_attr_graph(struct reader *r, const Onnx__AttributeProto *p, struct build *b,
                           struct attr *ret)
{
    struct graph *g;
    if (!p->g)
        return err_set(r->e, ERR_BAD_MODEL, "", "The attribute \"%.200s\" has no graph.",
                       ret->name);
    if (read_graph(r, p->g, b, &g))
        return -1;
    ret->g = g;
    return 0;
}

static int read_attr_strings(struct reader *r, const Onnx__AttributeProto *p, struct attr *ret)
{
    const char **list = arena_array(r->arena, p->n_strings + 1, sizeof *list);
    ret->n = p->n_strings;
    ret->strings = list;
    for (size_t i = 0; i < p->n_strings; i++)
        if (read_text(r, &p->strings[i], &list[i]))
            return -1;
    return 0;
}

int read_attr(struct reader *r, const Onnx__AttributeProto *p, struct build *b, struct attr *ret)
{
    *ret = (struct attr){.name = arena_strdup(r->arena, p->name ? p->name : ""),
                         .type = (enum attr_type)attr_type(p),
                         .n = 1};
    if (attr_type(p) == SPARSE_TENSOR)
        return read_attr_sparse(r, p, ret);
    switch (ret->type) {
    case ATTR_FLOAT:
        ret->f = p->f;
        return 0;
    case ATTR_INT:
        ret->i = p->i;
        return 0;
    case ATTR_STRING:
        return read_text(r, &p->s, &ret->s);
    case ATTR_TENSOR:
        return read_attr_tensor(r, p, ret);
    case ATTR_GRAPH:
        return read_attr_graph(r, p, b, ret);
    case ATTR_FLOATS:
        ret->n = p->n_floats;
        ret->floats = arena_copy(r->arena, p->floats, p->n_floats * sizeof *p->floats);
        return 0;
    case ATTR_INTS:
        ret->n = p->n_ints;
        ret->ints = arena_copy(r->arena, p->ints, p->n_ints * sizeof *p->ints);
        return 0;
    case ATTR_STRINGS:
        return read_attr_strings(r, p, ret);
    }
    return err_set(r->e, ERR_UNSUPPORTED, "", "The attribute \"%.200s\" has type %d.", ret->name,
                   ret->type);
}
