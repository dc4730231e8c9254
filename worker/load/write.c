/* A graph and its plan as an ONNX file, the same bytes for the same input; or its skeleton. */
#include <stdio.h>
#include <string.h>

#include "onnx.pb-c.h"
#include "worker/load/calibrations.h"
#include "worker/load/fold_weight.h"
#include "worker/load/model.h"
#include "worker/quant/fakequant.h"
#include "worker/quant/plan.h"

enum { WRITTEN_IR_VERSION = 8, HORIZON_VERSION = 1 };

/* The first IR version that goes with an opset of ai.onnx. */
static const struct {
    int opset, ir;
} ir_versions[] = {{23, 11}, {21, 10}, {19, 9}};

struct writer {
    struct arena a; /* messages; what they point to in the graph is not copied */
    const struct graph *g;
    const struct plan *plan;
    struct map names;        /* of values, with those that calibrations add */
    const char **calibrated; /* per calibration: the name of its output */
    const char **source;     /* per calibration: the name of its input */
    bool skeleton;
    struct err *e;
};

static ProtobufCBinaryData text_data(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
}

/* ---- tensors, types ---- */

/* Integers may be shapes, axes and indices; floats the scales of a Resize. */
enum { KEPT_INTS_BYTES = 64 << 10, KEPT_FLOATS_BYTES = 1 << 10, LOCATION_EXTERNAL = 1 };

static bool is_large(const struct tensor *t)
{
    return tensor_bytes(t) >
           (size_t)(dtype_is_float(t->type) ? KEPT_FLOATS_BYTES : KEPT_INTS_BYTES);
}

/* External data that is nowhere: only a reader of skeletons takes it. */
static void leave_out(struct writer *w, Onnx__TensorProto *p)
{
    Onnx__StringStringEntryProto *entry = arena_alloc(&w->a, sizeof *entry);
    onnx__string_string_entry_proto__init(entry);
    entry->key = (char *)"location";
    entry->has_value = 1;
    entry->value = text_data("");
    p->external_data = arena_copy(&w->a, &entry, sizeof entry);
    p->n_external_data = 1;
    p->has_data_location = 1;
    p->data_location = LOCATION_EXTERNAL;
}

static Onnx__TensorProto *put_tensor(struct writer *w, const char *name, const struct tensor *t)
{
    Onnx__TensorProto *p = arena_alloc(&w->a, sizeof *p);
    onnx__tensor_proto__init(p);
    p->name = (char *)name;
    p->n_dims = (size_t)t->rank;
    p->dims = (int64_t *)t->dims;
    p->has_data_type = 1;
    p->data_type = t->type;
    if (w->skeleton && is_large(t)) {
        leave_out(w, p);
        return p;
    }
    p->has_raw_data = 1;
    p->raw_data = (ProtobufCBinaryData){tensor_bytes(t), t->data};
    return p;
}

static Onnx__TensorShapeProto *put_shape(struct writer *w, const struct value *v)
{
    Onnx__TensorShapeProto *shape = arena_alloc(&w->a, sizeof *shape);
    onnx__tensor_shape_proto__init(shape);
    shape->n_dim = (size_t)v->type.rank;
    shape->dim = arena_array(&w->a, shape->n_dim + 1, sizeof *shape->dim);
    for (int i = 0; i < v->type.rank; i++) {
        Onnx__TensorShapeProto__Dimension *d = arena_alloc(&w->a, sizeof *d);
        onnx__tensor_shape_proto__dimension__init(d);
        d->has_dim_value = v->type.dims[i] >= 0;
        d->dim_value = v->type.dims[i];
        if (!d->has_dim_value && v->dim_names)
            d->dim_param = (char *)v->dim_names[i];
        shape->dim[i] = d;
    }
    return shape;
}

static Onnx__ValueInfoProto *put_value(struct writer *w, const struct value *v, const char *name)
{
    Onnx__ValueInfoProto *p = arena_alloc(&w->a, sizeof *p);
    onnx__value_info_proto__init(p);
    p->name = (char *)name;
    if (!v->type.type)
        return p;
    p->type = arena_alloc(&w->a, sizeof *p->type);
    onnx__type_proto__init(p->type);
    p->type->tensor_type = arena_alloc(&w->a, sizeof *p->type->tensor_type);
    onnx__type_proto__tensor__init(p->type->tensor_type);
    p->type->tensor_type->has_elem_type = 1;
    p->type->tensor_type->elem_type = v->type.type;
    p->type->tensor_type->shape = put_shape(w, v);
    return p;
}

/* ---- attributes ---- */

static Onnx__GraphProto *put_graph(struct writer *w, const struct graph *g);

static Onnx__AttributeProto *put_attr(struct writer *w, const struct attr *a)
{
    Onnx__AttributeProto *p = arena_alloc(&w->a, sizeof *p);
    onnx__attribute_proto__init(p);
    p->name = (char *)a->name;
    p->has_type = 1;
    p->type = a->type;
    switch (a->type) {
    case ATTR_FLOAT:
        p->has_f = 1;
        p->f = a->f;
        break;
    case ATTR_INT:
        p->has_i = 1;
        p->i = a->i;
        break;
    case ATTR_STRING:
        p->has_s = 1;
        p->s = text_data(a->s);
        break;
    case ATTR_TENSOR:
        p->t = put_tensor(w, "", a->t);
        break;
    case ATTR_GRAPH:
        p->g = put_graph(w, a->g);
        break;
    case ATTR_FLOATS:
        p->n_floats = a->n;
        p->floats = (float *)a->floats;
        break;
    case ATTR_INTS:
        p->n_ints = a->n;
        p->ints = (int64_t *)a->ints;
        break;
    case ATTR_STRINGS:
        p->n_strings = a->n;
        p->strings = arena_array(&w->a, a->n + 1, sizeof *p->strings);
        for (size_t i = 0; i < a->n; i++)
            p->strings[i] = text_data(a->strings[i]);
        break;
    }
    return p;
}

/* ---- calibrations ---- */

static const char *unique(struct writer *w, const char *name)
{
    while (map_get(&w->names, name) >= 0)
        name = arena_printf(&w->a, "%s_", name);
    map_set(&w->names, name, 0);
    return name;
}

/* "<tensor>_HzCalibration" gives "<tensor>_calibrated". */
static const char *calibrated_name(struct writer *w, const struct calib *k)
{
    size_t n = strlen(k->name), tail = strlen(CALIBRATION_TAIL);
    if (n > tail && !strcmp(k->name + n - tail, CALIBRATION_TAIL))
        n -= tail;
    return unique(w, arena_printf(&w->a, "%.*s%s", (int)n, k->name, CALIBRATED_TAIL));
}

static void name_calibrations(struct writer *w)
{
    const struct plan *p = w->plan;
    map_init(&w->names, &w->a);
    for (int v = 0; v < w->g->n_values; v++)
        map_set(&w->names, w->g->values[v].name, v);
    w->calibrated = arena_array(&w->a, (size_t)p->n_calibs + 1, sizeof *w->calibrated);
    w->source = arena_array(&w->a, (size_t)p->n_calibs + 1, sizeof *w->source);
    for (int i = 0; i < p->n_calibs; i++)
        w->calibrated[i] = calibrated_name(w, &p->calibs[i]);
    for (int i = 0; i < p->n_calibs; i++) {
        const struct calib *k = &p->calibs[i];
        w->source[i] = k->parent >= 0 ? w->calibrated[k->parent] : w->g->values[k->value].name;
    }
}

struct attr_list {
    struct writer *w;
    Onnx__NodeProto *n;
};

static void add_attr(struct attr_list *l, const struct attr *a)
{
    l->n->attribute[l->n->n_attribute++] = put_attr(l->w, a);
}

static void add_int(struct attr_list *l, const char *name, int64_t v)
{
    add_attr(l, &(struct attr){.name = name, .type = ATTR_INT, .n = 1, .i = v});
}

static void add_string(struct attr_list *l, const char *name, const char *v)
{
    add_attr(l, &(struct attr){.name = name, .type = ATTR_STRING, .n = 1, .s = v});
}

static void add_floats(struct attr_list *l, const char *name, const float *v, int n)
{
    add_attr(l, &(struct attr){.name = name, .type = ATTR_FLOATS, .n = (size_t)n, .floats = v});
}

/* One scale and zero point per channel (per tensor: one), of the types that have them. */
static void add_scales(struct attr_list *l, const struct calib *k)
{
    int n = k->axis < 0 ? 1 : k->n_thresholds;
    if (!k->n_thresholds || (k->qtype != Q_INT8 && k->qtype != Q_INT16))
        return;
    float *scales = arena_array(&l->w->a, (size_t)n, sizeof *scales);
    int64_t *zeros = arena_array(&l->w->a, (size_t)n, sizeof *zeros);
    for (int c = 0; c < n; c++) {
        struct fq_param p;
        fq_of_calib(k, c, &p);
        scales[c] = p.scale;
        zeros[c] = p.zero_point;
    }
    add_floats(l, "scales", scales, n);
    add_attr(
        l, &(struct attr){.name = "zero_point", .type = ATTR_INTS, .n = (size_t)n, .ints = zeros});
}

static void add_info(struct attr_list *l, const struct calib *k)
{
    const char **info = arena_array(&l->w->a, 3, sizeof *info);
    info[0] = k->kind == CALIB_WEIGHT ? "weight" : "feature";
    info[1] = k->axis < 0 ? "per-tensor" : "per-channel";
    info[2] = "scale";
    add_attr(l,
             &(struct attr){.name = "info_strings", .type = ATTR_STRINGS, .n = 3, .strings = info});
}

static void add_calibration_attrs(struct attr_list *l, const struct calib *k)
{
    add_string(l, "qtype", qtype_name(k->qtype));
    if (k->n_thresholds)
        add_floats(l, "thresholds", k->thresholds, k->n_thresholds);
    add_scales(l, k);
    if (k->axis >= 0)
        add_int(l, "axis", k->axis);
    add_int(l, "group", k->group);
    if (k->fixed_threshold || k->fixed_scale)
        add_int(l, "constant",
                k->fixed_scale ? CALIBRATION_FIXED_SCALE : CALIBRATION_FIXED_THRESHOLD);
    add_string(l, "switch", k->on ? "ON" : "OFF");
    add_info(l, k);
    if (k->dequantize_scale > 0)
        add_attr(l, &(struct attr){.name = "dequantize_scale",
                                   .type = ATTR_FLOAT,
                                   .n = 1,
                                   .f = k->dequantize_scale});
    if (k->n_fold)
        add_floats(l, "fold", k->fold, k->n_fold);
}

static Onnx__NodeProto *put_calibration(struct writer *w, int i)
{
    enum { ATTRS = 11 };
    const struct calib *k = &w->plan->calibs[i];
    Onnx__NodeProto *n = arena_alloc(&w->a, sizeof *n);
    onnx__node_proto__init(n);
    n->name = (char *)k->name;
    n->op_type = (char *)CALIBRATION_OP;
    n->domain = (char *)HORIZON;
    n->n_input = n->n_output = 1;
    n->input = arena_copy(&w->a, &w->source[i], sizeof w->source[i]);
    n->output = arena_copy(&w->a, &w->calibrated[i], sizeof w->calibrated[i]);
    n->attribute = arena_array(&w->a, ATTRS, sizeof *n->attribute);
    add_calibration_attrs(&(struct attr_list){w, n}, k);
    return n;
}

/* ---- nodes, graphs ---- */

static const char *input_name(const struct writer *w, const struct graph *g, const struct node *n,
                              int i)
{
    if (n->in[i] < 0)
        return "";
    int k = g == w->g && w->plan ? w->plan->port[n->first_port + i] : -1;
    return k >= 0 ? w->calibrated[k] : g->values[n->in[i]].name;
}

static Onnx__NodeProto *put_node(struct writer *w, const struct graph *g, const struct node *n)
{
    Onnx__NodeProto *p = arena_alloc(&w->a, sizeof *p);
    onnx__node_proto__init(p);
    p->name = (char *)n->name;
    p->op_type = (char *)n->op_type;
    p->domain = (char *)n->domain;
    p->n_input = (size_t)n->n_in;
    p->input = arena_array(&w->a, p->n_input + 1, sizeof *p->input);
    for (int i = 0; i < n->n_in; i++)
        p->input[i] = (char *)input_name(w, g, n, i);
    p->n_output = (size_t)n->n_out;
    p->output = arena_array(&w->a, p->n_output + 1, sizeof *p->output);
    for (int i = 0; i < n->n_out; i++)
        p->output[i] = (char *)(n->out[i] < 0 ? "" : g->values[n->out[i]].name);
    p->n_attribute = (size_t)n->n_attrs;
    p->attribute = arena_array(&w->a, p->n_attribute + 1, sizeof *p->attribute);
    for (int i = 0; i < n->n_attrs; i++)
        p->attribute[i] = put_attr(w, &n->attrs[i]);
    return p;
}

/* Nodes in the graph's order; each calibration as soon as what it reads is there. */
static void put_nodes(struct writer *w, const struct graph *g, Onnx__GraphProto *p)
{
    int n_calibs = g == w->g && w->plan ? w->plan->n_calibs : 0, next = 0;
    p->node = arena_array(&w->a, (size_t)(g->n_nodes + n_calibs) + 1, sizeof *p->node);
    for (int i = 0; i <= g->n_nodes; i++) {
        while (next < n_calibs && g->values[w->plan->calibs[next].value].producer < i)
            p->node[p->n_node++] = put_calibration(w, next++);
        if (i < g->n_nodes)
            p->node[p->n_node++] = put_node(w, g, &g->nodes[i]);
    }
}

static bool is_constant(const struct value *v)
{
    return v->producer < 0 && v->outer < 0 && !v->is_input && v->type.data;
}

static void put_constants(struct writer *w, const struct graph *g, Onnx__GraphProto *p)
{
    p->initializer = arena_array(&w->a, (size_t)g->n_values + 1, sizeof *p->initializer);
    for (int v = 0; v < g->n_values; v++)
        if (is_constant(&g->values[v]))
            p->initializer[p->n_initializer++] =
                put_tensor(w, g->values[v].name, &g->values[v].type);
}

/* A graph output behind a calibration has that one's name. */
static const char *output_name(const struct writer *w, const struct graph *g, int i)
{
    int k = g == w->g && w->plan ? w->plan->output[i] : -1;
    return k >= 0 ? w->calibrated[k] : g->values[g->outputs[i]].name;
}

static Onnx__GraphProto *put_graph(struct writer *w, const struct graph *g)
{
    Onnx__GraphProto *p = arena_alloc(&w->a, sizeof *p);
    onnx__graph_proto__init(p);
    p->name = (char *)(*g->name ? g->name : "graph");
    put_constants(w, g, p);
    put_nodes(w, g, p);
    p->input = arena_array(&w->a, (size_t)g->n_inputs + 1, sizeof *p->input);
    for (int i = 0; i < g->n_inputs; i++)
        p->input[p->n_input++] =
            put_value(w, &g->values[g->inputs[i]], g->values[g->inputs[i]].name);
    p->output = arena_array(&w->a, (size_t)g->n_outputs + 1, sizeof *p->output);
    for (int i = 0; i < g->n_outputs; i++)
        p->output[p->n_output++] = put_value(w, &g->values[g->outputs[i]], output_name(w, g, i));
    return p;
}

/* A weight behind an activation with one scale a channel is written multiplied by r (spec §2). */
static int put_folded_weights(struct writer *w, Onnx__GraphProto *p)
{
    for (int i = 0; w->plan && i < w->plan->n_calibs; i++) {
        const struct calib *k = &w->plan->calibs[i];
        if (!k->n_fold)
            continue;
        const struct value *v = &w->g->values[k->value];
        struct tensor folded;
        if (v->n_readers != 1)
            return err_set(w->e, ERR_UNSUPPORTED, k->name,
                           "The weight \"%.200s\" has several readers, but one is folded.",
                           v->name);
        if (fold_weight(&v->type, k->fold, k->n_fold, &w->a, &folded, w->e))
            return err_in(w->e, k->name);
        for (size_t c = 0; c < p->n_initializer; c++)
            if (!strcmp(p->initializer[c]->name, v->name))
                p->initializer[c]->raw_data.data = folded.data;
    }
    return 0;
}

/* ---- the file ---- */

static bool has_horizon(const struct writer *w)
{
    if (w->plan && w->plan->n_calibs)
        return true;
    for (int i = 0; i < w->g->n_nodes; i++)
        if (!strcmp(w->g->nodes[i].domain, HORIZON))
            return true;
    return false;
}

static void put_opset(struct writer *w, Onnx__ModelProto *m, const char *domain, int version)
{
    Onnx__OperatorSetIdProto *o = arena_alloc(&w->a, sizeof *o);
    onnx__operator_set_id_proto__init(o);
    o->domain = (char *)domain;
    o->has_version = 1;
    o->version = version;
    m->opset_import[m->n_opset_import++] = o;
}

static void put_opsets(struct writer *w, Onnx__ModelProto *m)
{
    bool horizon = has_horizon(w);
    m->opset_import = arena_array(&w->a, (size_t)w->g->n_opsets + 1, sizeof *m->opset_import);
    for (int i = 0; i < w->g->n_opsets; i++) {
        put_opset(w, m, w->g->opsets[i].domain, w->g->opsets[i].version);
        horizon = horizon && strcmp(w->g->opsets[i].domain, HORIZON);
    }
    if (horizon)
        put_opset(w, m, HORIZON, HORIZON_VERSION);
}

static int ir_version(const struct graph *g)
{
    for (int i = 0; i < g->n_opsets; i++)
        for (size_t k = 0; !*g->opsets[i].domain && k < sizeof ir_versions / sizeof *ir_versions;
             k++)
            if (g->opsets[i].version >= ir_versions[k].opset)
                return ir_versions[k].ir;
    return WRITTEN_IR_VERSION;
}

static Onnx__ModelProto *put_model(struct writer *w)
{
    Onnx__ModelProto *m = arena_alloc(&w->a, sizeof *m);
    onnx__model_proto__init(m);
    m->has_ir_version = 1;
    m->ir_version = ir_version(w->g);
    m->producer_name = (char *)"ptqd";
    m->producer_version = (char *)PTQ_VERSION;
    put_opsets(w, m);
    if (w->plan)
        name_calibrations(w);
    m->graph = put_graph(w, w->g);
    return put_folded_weights(w, m->graph) ? NULL : m;
}

struct sink {
    ProtobufCBuffer base;
    FILE *f;
};

static void sink_append(ProtobufCBuffer *base, size_t n, const uint8_t *data)
{
    fwrite(data, 1, n, ((struct sink *)base)->f); /* ferror is looked at when all is written */
}

static int write_file(const Onnx__ModelProto *m, const char *path, struct err *e)
{
    struct sink sink = {{sink_append}, fopen(path, "wbe")};
    if (!sink.f)
        return err_errno(e, path, "The model cannot be written.");
    onnx__model_proto__pack_to_buffer(m, &sink.base);
    int failed = ferror(sink.f);
    if (fclose(sink.f) || failed)
        return err_errno(e, path, "The model cannot be written.");
    return 0;
}

/* A node that came out of a function may be of another version than the file would say. */
static int check_opsets(const struct graph *file, const struct graph *g, struct err *e)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        int version = -1;
        for (int k = 0; k < file->n_opsets; k++)
            if (!strcmp(file->opsets[k].domain, n->domain))
                version = file->opsets[k].version;
        if (version != n->opset)
            return err_set(e, ERR_UNSUPPORTED, n->name,
                           "%s of opset %d came out of a function; the file has opset %d.",
                           n->op_type, n->opset, version);
        for (int k = 0; k < n->n_attrs; k++)
            if (n->attrs[k].type == ATTR_GRAPH && check_opsets(file, n->attrs[k].g, e))
                return -1;
    }
    return 0;
}

static int write_all(struct writer *w, const char *path)
{
    if (check_opsets(w->g, w->g, w->e))
        return -1;
    const Onnx__ModelProto *m = put_model(w);
    int rc = m ? write_file(m, path, w->e) : -1;
    arena_done(&w->a);
    return rc;
}

int model_write(const struct graph *g, const struct plan *plan, const char *path, struct err *e)
{
    struct writer w = {.a = ARENA_INIT, .g = g, .plan = plan, .e = e};
    return write_all(&w, path);
}

int model_write_skeleton(const struct graph *g, const char *path, struct err *e)
{
    struct writer w = {.a = ARENA_INIT, .g = g, .skeleton = true, .e = e};
    return write_all(&w, path);
}
