#include "worker/load/read.h"

#include <string.h>

int read_text(struct reader *r, const ProtobufCBinaryData *p, const char **ret)
{
    if (p->len && memchr(p->data, '\0', p->len))
        return err_set(r->e, ERR_BAD_MODEL, "", "There is a zero byte in a text.");
    *ret = arena_strndup(r->arena, p->len ? (const char *)p->data : "", p->len);
    return 0;
}

static const char *own(struct reader *r, const char *s)
{
    return s ? arena_strdup(r->arena, s) : "";
}

/* ---- attributes ---- */

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

static int read_attr(struct reader *r, const Onnx__AttributeProto *p, struct build *b,
                     struct attr *ret)
{
    *ret = (struct attr){.name = own(r, p->name), .type = (enum attr_type)attr_type(p), .n = 1};
    if (p->ref_attr_name && *p->ref_attr_name)
        return err_set(r->e, ERR_BAD_MODEL, "",
                       "The attribute \"%.200s\" refers to one of a function, but is in none.",
                       ret->name);
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

/* ---- nodes ---- */

static const char *domain_of(struct reader *r, const char *domain)
{
    return !domain || !strcmp(domain, "ai.onnx") ? "" : own(r, domain);
}

static int *value_list(struct reader *r, struct build *b, char **names, size_t n)
{
    int *list = arena_array(r->arena, n + 1, sizeof *list);
    for (size_t i = 0; i < n; i++)
        list[i] = map_get(&b->names, names[i]) >= 0 ? build_value(b, names[i])
                                                    : build_value(b, own(r, names[i]));
    return list;
}

/* Absent optional inputs at the end are the same as inputs that are not there. */
static int trimmed(const int *list, size_t n)
{
    while (n && list[n - 1] == VALUE_NONE)
        n--;
    return (int)n;
}

static int read_node(struct reader *r, const Onnx__NodeProto *p, struct build *b)
{
    const char *name = own(r, p->name), *type = own(r, p->op_type);
    const char *at = *name ? name : type, *domain = domain_of(r, p->domain);
    int opset = build_opset(b, domain);
    if (opset < 0)
        return err_set(r->e, ERR_BAD_MODEL, at,
                       "The model imports no version of domain \"%.200s\".", domain);
    int *in = value_list(r, b, p->input, p->n_input);
    int *out = value_list(r, b, p->output, p->n_output);
    int node = build_node(b, name, domain, type, opset, in, trimmed(in, p->n_input), out,
                          trimmed(out, p->n_output));
    struct attr *attrs = arena_array(r->arena, p->n_attribute + 1, sizeof *attrs);
    for (size_t i = 0; i < p->n_attribute; i++) {
        if (read_attr(r, p->attribute[i], b, &attrs[i]))
            return r->e->at[0] ? err_in(r->e, arena_printf(r->arena, "%s: ", at))
                               : err_in(r->e, at);
    }
    b->nodes[node].attrs = attrs;
    b->nodes[node].n_attrs = (int)p->n_attribute;
    return 0;
}

/* ---- graphs ---- */

/* A graph input or output as the file declares it; 0, negative and missing dims are unknown. */
static int read_type(struct reader *r, const Onnx__ValueInfoProto *p, struct build_value *v)
{
    const Onnx__TypeProto *type = p->type;
    if (!type || !type->tensor_type || !type->tensor_type->shape)
        return 0;
    const Onnx__TensorShapeProto *shape = type->tensor_type->shape;
    int elem = type->tensor_type->elem_type;
    if (elem <= 0 || elem >= DT_COUNT)
        return err_set(r->e, ERR_UNSUPPORTED, v->name, "Element type %d is not read.", elem);
    int64_t none[TENSOR_RANK_MAX] = {0};
    if (tensor_set(&v->type, (enum dtype)elem, (int)shape->n_dim, none, r->e))
        return err_in(r->e, v->name);
    v->dim_names = arena_array(r->arena, shape->n_dim + 1, sizeof *v->dim_names);
    for (size_t i = 0; i < shape->n_dim; i++) {
        const Onnx__TensorShapeProto__Dimension *d = shape->dim[i];
        v->type.dims[i] = d->dim_value > 0 ? d->dim_value : -1;
        if (d->dim_param && *d->dim_param)
            v->dim_names[i] = own(r, d->dim_param);
    }
    return 0;
}

static int read_inputs(struct reader *r, const Onnx__GraphProto *p, struct build *b)
{
    for (size_t i = 0; i < p->n_input; i++) {
        int v = build_value(b, own(r, p->input[i]->name));
        if (v < 0)
            return err_set(r->e, ERR_BAD_MODEL, "", "Graph input %zu has no name.", i);
        if (b->values[v].is_input)
            return err_set(r->e, ERR_BAD_MODEL, b->values[v].name, "Two inputs have this name.");
        if (b->values[v].is_const) /* up to IR version 3 initializers are listed as inputs */
            continue;
        if (read_type(r, p->input[i], &b->values[v]))
            return -1;
        if (!b->parent && !b->values[v].type.type)
            return err_set(r->e, ERR_UNSUPPORTED, b->values[v].name,
                           "A graph input must be a tensor of known rank.");
        build_input(b, v);
    }
    return 0;
}

static int read_outputs(struct reader *r, const Onnx__GraphProto *p, struct build *b)
{
    for (size_t i = 0; i < p->n_output; i++) {
        int v = build_value(b, own(r, p->output[i]->name));
        if (v < 0)
            return err_set(r->e, ERR_BAD_MODEL, "", "Graph output %zu has no name.", i);
        bool typed = b->values[v].is_const || b->values[v].is_input;
        if (!typed && read_type(r, p->output[i], &b->values[v]))
            return -1;
        build_output(b, v);
    }
    return 0;
}

static int read_initializers(struct reader *r, const Onnx__GraphProto *p, struct build *b)
{
    if (p->n_sparse_initializer)
        return err_set(r->e, ERR_UNSUPPORTED, "", "Sparse initializers are not read.");
    for (size_t i = 0; i < p->n_initializer; i++) {
        int v = build_value(b, own(r, p->initializer[i]->name));
        if (v < 0)
            return err_set(r->e, ERR_BAD_MODEL, "", "Initializer %zu has no name.", i);
        struct build_value *to = &b->values[v];
        if (to->is_const)
            return err_set(r->e, ERR_BAD_MODEL, to->name, "Two initializers have this name.");
        if (read_tensor(r, p->initializer[i], to->name, &to->type))
            return -1;
        to->is_const = true;
    }
    return 0;
}

int read_graph(struct reader *r, const Onnx__GraphProto *p, struct build *parent,
               struct graph **ret)
{
    struct build *b = build_new(r->arena, own(r, p->name));
    b->parent = parent;
    b->opsets = r->opsets;
    b->n_opsets = r->n_opsets;
    if (read_initializers(r, p, b) || read_inputs(r, p, b))
        return -1;
    for (size_t i = 0; i < p->n_node; i++)
        if (read_node(r, p->node[i], b))
            return -1;
    if (read_outputs(r, p, b))
        return -1;
    return build_freeze(b, ret, r->e);
}
