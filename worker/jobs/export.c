/* export: a calibrated model as one with QuantizeLinear and DequantizeLinear for other runtimes. */
#include "worker/jobs/export.h"

#include <string.h>

#include "common/json.h"
#include "worker/load/model.h"
#include "worker/quant/export.h"

static const struct json_field options_fields[] = {{"opset21", JSON_K_BOOL, 0, 0, 0}, {0}};

/* How many tensors are quantized to each type, by what they are read back from. */
static json_t *count_types(const struct graph *g)
{
    json_t *types = json_object();
    for (int i = 0; i < g->n_nodes; i++) {
        const struct node *n = &g->nodes[i];
        if (strcmp(n->op_type, "DequantizeLinear") != 0 || n->n_in < 3 || n->in[2] < 0)
            continue;
        const char *type = dtype_name(g->values[n->in[2]].type.type);
        json_object_set_new(types, type, json_integer(json_int(types, type, 0) + 1));
    }
    return types;
}

static int opset_of(const struct graph *g)
{
    for (int i = 0; i < g->n_opsets; i++)
        if (!*g->opsets[i].domain)
            return g->opsets[i].version;
    return 0;
}

int export_artifact(struct job *j, const struct plan *p, bool opset21, json_t **ret, struct err *e)
{
    struct export_opts opts = {.opset21 = opset21};
    struct graph *g;
    const char *path = arena_printf(job_arena(j), "%s/%s", job_out_dir(j), EXPORT_FILE);
    if (export_qdq(p, &opts, job_arena(j), &g, e) || model_write(g, NULL, path, e) ||
        job_artifact(j, EXPORT_FILE, "application/octet-stream", EXPORT_FILE, e))
        return -1;
    *ret = json_pack("{s:s, s:i, s:i, s:o}", "artifact", EXPORT_FILE, "opset", opset_of(g), "nodes",
                     g->n_nodes, "types", count_types(g));
    return 0;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m = NULL;
    const json_t *options = json_object_get(job_spec(j), "options");
    (void)ret_verdict;
    if ((options && json_check(options, options_fields, "/options", e)) || job_open_model(j, &m, e))
        return -1;
    int rc = m->plan ? export_artifact(j, m->plan, json_flag(options, "opset21", 0), ret_result, e)
                     : err_set(e, ERR_INVALID, "/model",
                               "The model has no calibrations: calibrate it first.");
    model_free(m);
    return rc;
}

extern const struct job_kind job_export;
const struct job_kind job_export = {
    .name = "export",
    .run = run,
    .text =
        "Writes a calibrated model with QuantizeLinear and DequantizeLinear for other runtimes.",
};
