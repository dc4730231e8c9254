#include "worker/jobs/inspect.h"

#include <string.h>

#include "worker/jobs/calibration.h"
#include "worker/jobs/core.h"
#include "worker/jobs/labels.h"
#include "worker/jobs/shapes.h"
#include "worker/ops/op.h"
#include "worker/quant/plan.h"

enum { SAMPLE_NAMES_MAX = 100, DATA_MAX_GIB = 64 };

#define SKELETON_FILE     "skeleton.onnx" /* known to the server, like */
#define CALIBRATIONS_FILE "calibrations.json"

/* Names come from files: what is not UTF-8 is shown with question marks. */
static json_t *text(const char *s)
{
    json_t *v = json_string(s);
    if (v)
        return v;
    struct arena a = ARENA_INIT;
    char *copy = arena_strdup(&a, s);
    for (char *p = copy; *p; p++)
        if (*p & 0x80)
            *p = '?';
    v = json_string(copy);
    arena_done(&a);
    return v;
}

/* ---- the model ---- */

static json_t *value_names(const struct graph *g, const int *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, values[i] == VALUE_NONE ? json_string("")
                                                            : text(g->values[values[i]].name));
    return list;
}

static json_t *shape_of(const struct value *v, const struct tensor *t)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++) {
        const char *name = v->dim_names && i < v->type.rank ? v->dim_names[i] : NULL;
        json_array_append_new(shape,
                              t->dims[i] < 0 && name ? text(name) : json_integer(t->dims[i]));
    }
    return shape;
}

static json_t *value_list(const struct shapes *l, const int *values, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        const struct value *v = &l->g->values[values[i]];
        const struct tensor *t = &l->types[values[i]];
        if (t->type == DT_NONE)
            t = &v->type;
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", text(v->name), "type",
                                              dtype_name(t->type), "shape", shape_of(v, t)));
    }
    return list;
}

static json_t *int_or_null(int64_t v)
{
    return v < 0 ? json_null() : json_integer(v);
}

static json_t *node_list(const struct shapes *l, int64_t *ret_macs)
{
    json_t *list = json_array();
    *ret_macs = 0;
    for (int i = 0; i < l->g->n_nodes; i++) {
        const struct node *n = &l->g->nodes[i];
        int64_t macs = shapes_macs(l, n);
        *ret_macs = macs < 0 || *ret_macs < 0 ? -1 : *ret_macs + macs;
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "name", text(n->name), "op_type",
                            text(n->op_type), "inputs", value_names(l->g, n->in, n->n_in),
                            "outputs", value_names(l->g, n->out, n->n_out), "macs",
                            int_or_null(macs), "quantizable", n->op && (n->op->traits & T_QUANT)));
    }
    return list;
}

static json_t *origin_list(const struct graph *g)
{
    json_t *list = json_array();
    for (int i = 0; i < g->n_origins; i++) {
        const struct origin *o = &g->origins[i];
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:s}", "original", text(o->original), "optimized",
                            o->optimized ? text(o->optimized) : json_null(), "how", o->how));
    }
    return list;
}

static json_t *operator_counts(const struct graph *g)
{
    json_t *counts = json_object();
    for (int i = 0; i < g->n_nodes; i++) {
        const char *type = g->nodes[i].op_type;
        json_int_t n = json_integer_value(json_object_get(counts, type));
        json_object_set_new(counts, type, json_integer(n + 1));
    }
    return counts;
}

static json_t *opset_list(const struct graph *g)
{
    json_t *list = json_array();
    for (int i = 0; i < g->n_opsets; i++)
        json_array_append_new(list, json_pack("{s:o, s:i}", "domain", text(g->opsets[i].domain),
                                              "version", g->opsets[i].version));
    return list;
}

/* Elements of float constants: weights, biases, tables. */
static int64_t count_parameters(const struct graph *g)
{
    int64_t sum = 0;
    for (int i = 0; i < g->n_values; i++) {
        const struct tensor *t = &g->values[i].type;
        if (g->values[i].producer < 0 && t->data && dtype_is_float(t->type))
            sum += tensor_count(t);
    }
    return sum;
}

static json_t *summary_of(const struct model *m, const struct shapes *l)
{
    int64_t macs;
    json_t *nodes = node_list(l, &macs);
    json_t *counts =
        json_pack("{s:i, s:i, s:I, s:o}", "nodes", m->original->n_nodes, "nodes_optimized",
                  m->float_graph->n_nodes, "parameters", (json_int_t)count_parameters(m->original),
                  "macs", int_or_null(macs));
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:i, s:o}", "ir_version",
                     m->ir_version, "producer", text(m->producer ? m->producer : ""), "opsets",
                     opset_list(m->original), "inputs", value_list(l, l->g->inputs, l->g->n_inputs),
                     "outputs", value_list(l, l->g->outputs, l->g->n_outputs), "counts", counts,
                     "nodes", nodes, "origins", origin_list(m->float_graph), "calibrated",
                     m->plan != NULL, "calibrations", m->plan ? m->plan->n_calibs : 0, "operators",
                     operator_counts(m->original));
}

json_t *inspect_model(const struct model *m, struct err *e)
{
    struct shapes l = {0};
    json_t *summary = NULL;
    if (!shapes_open(&l, m->float_graph, e))
        summary = summary_of(m, &l);
    shapes_done(&l);
    return summary;
}

static bool same_values(const struct graph *a, const struct graph *b)
{
    if (a->n_nodes != b->n_nodes || a->n_values != b->n_values)
        return false;
    for (int v = 0; v < a->n_values; v++)
        if (strcmp(a->values[v].name, b->values[v].name) ||
            a->values[v].type.type != b->values[v].type.type ||
            !tensor_same_shape(&a->values[v].type, &b->values[v].type))
            return false;
    return true;
}

/* Does the skeleton say of every value what the graph says? */
static bool is_faithful(const char *path, const struct graph *g)
{
    struct err e = ERR_INIT;
    struct model *s;
    if (model_open(&(struct model_source){.path = path, .skeleton = true}, &s, &e))
        return false;
    bool is = same_values(g, s->float_graph);
    model_free(s);
    return is;
}

/* A graph that no file can say (nodes of functions with another opset), or whose shapes hang on a
 * large constant, has no skeleton: whoever needs one reads the model itself. */
static int write_skeleton(struct job *j, const struct model *m, struct err *e)
{
    const char *path = arena_printf(job_arena(j), "%s/" SKELETON_FILE, job_out_dir(j));
    if (model_write_skeleton(m->float_graph, path, e)) {
        if (e->code != ERR_UNSUPPORTED)
            return -1;
        *e = (struct err)ERR_INIT;
        return 0;
    }
    if (!is_faithful(path, m->float_graph))
        return 0;
    return job_artifact(j, SKELETON_FILE, "application/octet-stream", SKELETON_FILE, e);
}

static int write_calibrations(struct job *j, const struct model *m, struct err *e)
{
    if (!m->plan)
        return 0;
    const char *path = arena_printf(job_arena(j), "%s/" CALIBRATIONS_FILE, job_out_dir(j));
    json_t *list = calibrations_found_json(m->plan);
    int bad = json_dump_file(list, path, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(list);
    if (bad)
        return err_errno(e, path, "The calibrations cannot be written");
    return job_artifact(j, CALIBRATIONS_FILE, "application/json", CALIBRATIONS_FILE, e);
}

static int run_inspect_model(struct job *j, json_t **ret_result, const char **ret_verdict,
                             struct err *e)
{
    struct model *m;
    *ret_verdict = NULL;
    if (job_open_model(j, &m, e))
        return -1;
    *ret_result = inspect_model(m, e);
    int rc = *ret_result ? write_skeleton(j, m, e) || write_calibrations(j, m, e) : -1;
    model_free(m);
    return rc;
}

/* ---- the data ---- */

static json_t *label_summary(const struct tensor *t, int samples)
{
    int64_t most = -1, ignored = tensor_count(t) == samples ? -1 : LABELS_IGNORED;
    bool negative = false;
    for (int64_t i = 0; i < tensor_count(t); i++) {
        int64_t v = tensor_int(t, i);
        most = v > most && v != ignored ? v : most;
        negative |= v < 0;
    }
    return json_pack("{s:s, s:i, s:o}", "dtype", dtype_name(t->type), "count", samples, "classes",
                     negative ? json_null() : json_integer(most + 1));
}

static json_t *input_summary(const struct dataset_input *in)
{
    json_t *shape = json_array();
    for (int i = 0; i < in->type.rank; i++)
        json_array_append_new(shape, json_integer(in->type.dims[i]));
    return json_pack("{s:o, s:s, s:o, s:b}", "name", text(in->name), "dtype",
                     dtype_name(in->type.type), "shape", shape, "uniform", in->uniform);
}

json_t *inspect_data(const struct dataset *d, const char *const *names)
{
    json_t *inputs = json_array(), *shown = json_array(), *digests = json_array();
    for (int k = 0; k < d->n_inputs; k++)
        json_array_append_new(inputs, input_summary(&d->inputs[k]));
    for (int i = 0; i < d->n_samples && i < SAMPLE_NAMES_MAX; i++)
        json_array_append_new(shown, text(names ? names[i] : d->sample_names[i]));
    for (int i = 0; i < d->n_samples; i++) {
        struct digest sum;
        char hex[SHA256_HEX];
        dataset_sample_digest(d, i, &sum);
        digest_hex(&sum, hex);
        json_array_append_new(digests, json_string(hex));
    }
    return json_pack("{s:o, s:i, s:o, s:o, s:o}", "inputs", inputs, "samples", d->n_samples,
                     "sample_names", shown, "sample_digests", digests, "labels",
                     d->labels ? label_summary(d->labels, d->n_samples) : json_null());
}

static int run_inspect_data(struct job *j, json_t **ret_result, const char **ret_verdict,
                            struct err *e)
{
    static const char file[] = "data.tar";
    const struct job_input *in = job_input(j, "upload");
    if (!in)
        in = job_input(j, "data");
    if (!in)
        return err_set(e, ERR_INVALID, "/data", "The job has no data.");
    *ret_verdict = NULL;
    const char *out = arena_printf(job_arena(j), "%s/%s", job_out_dir(j), file);
    const char *const *names = NULL;
    struct dataset *d;
    if (dataset_normalize(in->path, job_out_dir(j), (uint64_t)DATA_MAX_GIB << 30, out, job_arena(j),
                          &names, e) ||
        dataset_open(out, NULL, &d, e))
        return -1;
    *ret_result = inspect_data(d, names);
    dataset_free(d);
    return job_artifact(j, file, "application/x-tar", file, e);
}

const struct job_kind job_inspect_model = {
    .name = "inspect-model",
    .internal = true,
    .run = run_inspect_model,
    .text = "Reads a model, tells its inputs, outputs, nodes and cost, and writes its skeleton."};
const struct job_kind job_inspect_data = {
    .name = "inspect-data",
    .internal = true,
    .run = run_inspect_data,
    .text = "Brings uploaded data into canonical form and tells its inputs and samples."};
