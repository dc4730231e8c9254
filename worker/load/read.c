#include "worker/load/read.h"

#include <stdio.h>
#include <string.h>

#include "worker/load/scan.h"

/* Function calls, below. */
static bool is_reference(const Onnx__AttributeProto *p);
static int opset_of(const struct reader *r, const char *domain);
static const char *function_name(struct reader *r, const char *name);
static const char *function_node(struct reader *r, const char *name);
static int function_attr(struct reader *r, const Onnx__AttributeProto *p, struct build *b,
                         struct attr *ret);
static int read_call(struct reader *r, const Onnx__NodeProto *p, const Onnx__FunctionProto *f,
                     struct build *b);

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

enum { OPSETS_MAX = 100 };

int read_opsets(struct reader *r, Onnx__OperatorSetIdProto **p, size_t n, const struct opset **ret,
                int *ret_n)
{
    struct opset *list = arena_array(r->arena, n + 1, sizeof *list);
    if (n > OPSETS_MAX)
        return err_set(r->e, ERR_LIMIT, "", "%zu opsets are imported, at most %d are read.", n,
                       OPSETS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *domain = p[i]->domain && strcmp(p[i]->domain, "ai.onnx") ? p[i]->domain : "";
        if (p[i]->version < 1 || p[i]->version > 1000000)
            return err_set(r->e, ERR_BAD_MODEL, "",
                           "Opset %lld of domain \"%.200s\" is no version.",
                           (long long)p[i]->version, domain);
        list[i] = (struct opset){arena_strdup(r->arena, domain), (int)p[i]->version};
    }
    *ret = list;
    *ret_n = (int)n;
    return 0;
}

/* ---- nodes ---- */

static const char *domain_of(struct reader *r, const char *domain)
{
    return !domain || !strcmp(domain, "ai.onnx") ? "" : own(r, domain);
}

static int *value_list(struct reader *r, struct build *b, char **names, size_t n)
{
    int *list = arena_array(r->arena, n + 1, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const char *name = function_name(r, names[i]);
        list[i] = build_value(b, map_get(&b->names, name) >= 0 ? name : own(r, name));
    }
    return list;
}

/* Absent optional inputs at the end are the same as inputs that are not there. */
static int trimmed(const int *list, size_t n)
{
    while (n && list[n - 1] == VALUE_NONE)
        n--;
    return (int)n;
}

/* The list without references that stand for nothing. */
static int read_attrs(struct reader *r, const Onnx__NodeProto *p, struct build *b,
                      struct attr **ret, int *ret_n)
{
    struct attr *attrs = arena_array(r->arena, p->n_attribute + 1, sizeof *attrs);
    *ret = attrs;
    *ret_n = 0;
    for (size_t i = 0; i < p->n_attribute; i++) {
        int rc = is_reference(p->attribute[i])
                     ? function_attr(r, p->attribute[i], b, &attrs[*ret_n])
                     : read_attr(r, p->attribute[i], b, &attrs[*ret_n]);
        if (rc < 0)
            return -1;
        *ret_n += rc == 0;
    }
    return 0;
}

/* Errors of what lies inside get the node in front. */
static int inside(struct reader *r, const char *at)
{
    return r->e->at[0] ? err_in(r->e, arena_printf(r->arena, "%s: ", at)) : err_in(r->e, at);
}

static int read_node(struct reader *r, const Onnx__NodeProto *p, struct build *b)
{
    const char *name = own(r, p->name), *type = own(r, p->op_type);
    const char *at = *name ? name : type, *domain = domain_of(r, p->domain);
    int function = functions_find(r->functions, p);
    if (function >= 0)
        return read_call(r, p, r->functions->list[function], b) ? inside(r, at) : 0;
    int opset = opset_of(r, domain);
    if (opset < 0)
        return err_set(r->e, ERR_BAD_MODEL, at,
                       "The model imports no version of domain \"%.200s\".", domain);
    build_import(b, domain, opset);
    name = *name && r->call ? function_node(r, name) : name;
    int *in = value_list(r, b, p->input, p->n_input);
    int *out = value_list(r, b, p->output, p->n_output);
    int node = build_node(b, name, domain, type, opset, in, trimmed(in, p->n_input), out,
                          trimmed(out, p->n_output));
    struct attr *attrs;
    int n_attrs;
    if (read_attrs(r, p, b, &attrs, &n_attrs))
        return inside(r, at);
    b->nodes[node].attrs = attrs;
    b->nodes[node].n_attrs = n_attrs;
    return 0;
}

/* ---- functions of the model: a call is read as the nodes of its function ---- */

/* A call while its function is read. Names of the function are those of the caller for inputs and
 * outputs; inner ones get the call's name in front. */
struct call {
    struct call *parent;
    const Onnx__FunctionProto *function;
    const char *name;
    struct map formal; /* formal name → index in actual */
    const char **actual;
    const struct attr *attrs; /* as the call gives them */
    int n_attrs;
};

static bool same_text(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

enum { INLINED_BASE = 256 << 20, INLINED_PER_BYTE = 4 };
static bool is_reference(const Onnx__AttributeProto *p)
{
    return p->ref_attr_name && *p->ref_attr_name;
}

static int opset_of(const struct reader *r, const char *domain)
{
    for (int i = 0; i < r->n_opsets; i++)
        if (!strcmp(r->opsets[i].domain, domain))
            return r->opsets[i].version;
    return -1;
}

static const char *function_name(struct reader *r, const char *name)
{
    if (!r->call || !*name)
        return name;
    int i = map_get(&r->call->formal, name);
    return i >= 0 ? r->call->actual[i] : arena_printf(r->arena, "%s/%s", r->call->name, name);
}

static const char *function_node(struct reader *r, const char *name)
{
    return arena_printf(r->arena, "%s/%s", r->call->name, name);
}

/* What the call gives for the name that the attribute refers to, or the function's default. 1: it
 * is absent. */
static int function_attr(struct reader *r, const Onnx__AttributeProto *p, struct build *b,
                         struct attr *ret)
{
    const struct call *call = r->call;
    if (!call)
        return err_set(r->e, ERR_BAD_MODEL, "",
                       "The attribute \"%.200s\" refers to one of a function, but is in none.",
                       p->name ? p->name : "");
    for (int i = 0; i < call->n_attrs; i++)
        if (!strcmp(call->attrs[i].name, p->ref_attr_name)) {
            *ret = call->attrs[i];
            ret->name = own(r, p->name);
            return 0;
        }
    for (size_t i = 0; i < call->function->n_attribute_proto; i++) {
        const Onnx__AttributeProto *d = call->function->attribute_proto[i];
        if (!same_text(d->name, p->ref_attr_name) || is_reference(d))
            continue;
        if (read_attr(r, d, b, ret))
            return -1;
        ret->name = own(r, p->name);
        return 0;
    }
    return 1;
}

/* Formal and actual names; formal ones that the call leaves out are absent as inputs, and inner
 * names as outputs. */
static int bind_names(struct reader *r, struct call *c, const Onnx__NodeProto *p)
{
    const Onnx__FunctionProto *f = c->function;
    int n = 0;
    if (p->n_input > f->n_input || p->n_output > f->n_output)
        return err_set(r->e, ERR_BAD_MODEL, "",
                       "The function \"%.200s\" has %zu inputs and %zu outputs, the call %zu and "
                       "%zu.",
                       f->name, f->n_input, f->n_output, p->n_input, p->n_output);
    map_init(&c->formal, r->arena);
    c->actual = arena_array(r->arena, f->n_input + f->n_output + 1, sizeof *c->actual);
    for (size_t i = 0; i < f->n_input; i++) {
        c->actual[n] = i < p->n_input ? function_name(r, own(r, p->input[i])) : "";
        if (map_set(&c->formal, own(r, f->input[i]), n++) >= 0)
            return err_set(r->e, ERR_BAD_MODEL, "", "Two inputs of \"%.200s\" have one name.",
                           f->name);
    }
    for (size_t i = 0; i < p->n_output; i++) {
        if (!*p->output[i])
            continue;
        c->actual[n] = function_name(r, own(r, p->output[i]));
        if (map_set(&c->formal, own(r, f->output[i]), n++) >= 0)
            return err_set(r->e, ERR_UNSUPPORTED, "",
                           "The function \"%.200s\" returns one value twice, or an input.",
                           f->name);
    }
    return 0;
}

static int check_call(struct reader *r, const Onnx__FunctionProto *f)
{
    int depth = 0;
    for (const struct call *c = r->call; c; c = c->parent, depth++)
        if (c->function == f)
            return err_set(r->e, ERR_BAD_MODEL, "", "The function \"%.200s\" calls itself.",
                           f->name);
    if (depth == FUNCTIONS_DEEP_MAX)
        return err_set(r->e, ERR_LIMIT, "", "Functions call each other more than %d deep.",
                       FUNCTIONS_DEEP_MAX);
    if (f->n_node > (size_t)(SCAN_NODES_MAX - r->n_inlined))
        return err_set(r->e, ERR_LIMIT, "", "The functions come to more than %d nodes.",
                       SCAN_NODES_MAX);
    r->n_inlined += (int)f->n_node;
    return 0;
}

/* Names and attributes are copied for each call of a function. */
static int check_inlined(struct reader *r)
{
    uint64_t most = INLINED_BASE + INLINED_PER_BYTE * (uint64_t)r->file->size;
    if (r->inlined_bytes + (r->arena->used_bytes - r->call_began) <= most)
        return 0;
    return err_set(r->e, ERR_LIMIT, "", "The calls of functions come to more than %llu bytes.",
                   (unsigned long long)most);
}

static int read_body(struct reader *r, struct call *c, struct build *b)
{
    const Onnx__FunctionProto *f = c->function;
    struct reader outer = *r;
    if (read_opsets(r, f->opset_import, f->n_opset_import, &r->opsets, &r->n_opsets))
        return -1;
    r->call = c;
    int rc = 0;
    for (size_t i = 0; i < f->n_node && !rc; i++)
        rc = read_node(r, f->node[i], b) || check_inlined(r) ? -1 : 0;
    r->opsets = outer.opsets;
    r->n_opsets = outer.n_opsets;
    r->call = outer.call;
    return rc;
}

static int read_call(struct reader *r, const Onnx__NodeProto *p, const Onnx__FunctionProto *f,
                     struct build *b)
{
    if (!r->call)
        r->call_began = r->arena->used_bytes;
    struct call *c = arena_alloc(r->arena, sizeof *c);
    struct attr *attrs;
    *c = (struct call){.parent = r->call, .function = f};
    const char *name = p->name && *p->name
                           ? own(r, p->name)
                           : arena_printf(r->arena, "%s_%d", p->op_type, r->n_calls);
    r->n_calls++;
    c->name = r->call ? function_node(r, name) : name;
    if (check_call(r, f) || read_attrs(r, p, b, &attrs, &c->n_attrs) || bind_names(r, c, p))
        return -1;
    c->attrs = attrs;
    if (read_body(r, c, b))
        return -1;
    if (!r->call)
        r->inlined_bytes += r->arena->used_bytes - r->call_began;
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
        int v = build_value(b, own(r, function_name(r, p->input[i]->name)));
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
        int v = build_value(b, own(r, function_name(r, p->output[i]->name)));
        if (v < 0)
            return err_set(r->e, ERR_BAD_MODEL, "", "Graph output %zu has no name.", i);
        bool typed = b->values[v].is_const || b->values[v].is_input;
        if (!typed && read_type(r, p->output[i], &b->values[v]))
            return -1;
        build_output(b, v);
    }
    return 0;
}

/* The constant of this name, to be filled. */
static struct tensor *new_constant(struct reader *r, struct build *b, const char *name, size_t i)
{
    int v = build_value(b, own(r, function_name(r, name)));
    if (v < 0) {
        err_set(r->e, ERR_BAD_MODEL, "", "Initializer %zu has no name.", i);
        return NULL;
    }
    struct build_value *to = &b->values[v];
    if (to->is_const) {
        err_set(r->e, ERR_BAD_MODEL, to->name, "Two initializers have this name.");
        return NULL;
    }
    to->is_const = true;
    return &to->type;
}

static int read_initializers(struct reader *r, const Onnx__GraphProto *p, struct build *b)
{
    for (size_t i = 0; i < p->n_initializer; i++) {
        struct tensor *to = new_constant(r, b, p->initializer[i]->name, i);
        if (!to || read_tensor(r, p->initializer[i], own(r, p->initializer[i]->name), to))
            return -1;
    }
    for (size_t i = 0; i < p->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *sparse = p->sparse_initializer[i];
        const char *name = sparse->values ? sparse->values->name : NULL;
        struct tensor *to = new_constant(r, b, name, i);
        if (!to || read_sparse(r, sparse, own(r, name), to))
            return -1;
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
