/* calibrate: a float model and data to a calibrated model, its configuration and its ledger. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/calibration.h"
#include "worker/jobs/dump.h"
#include "worker/jobs/export.h"
#include "worker/load/model.h"

#define MODEL_FILE  "calibrated_model.onnx"
#define CONFIG_FILE "quant_config.json"
#define DATA_FILE   "calibration_data.tar"
#define DUMP        "dump_calibration_data"

static const struct json_field options_fields[] = {
    {"samples", JSON_K_INT, 0, 1, 1e9},
    {"thresholds", JSON_K_ARRAY, 0, 1, 1e6}, /* for calibration type "load" */
    {"debug_mode", JSON_K_STRING, 0, 0, 0},
    {"march", JSON_K_STRING, 0, 0, 0},
    {"export", JSON_K_STRING, 0, 1, 32},
    {0},
};

static const char *out_path(struct job *j, const char *name)
{
    return arena_printf(job_arena(j), "%s/%s", job_out_dir(j), name);
}

static int write_config(struct job *j, const json_t *config, struct err *e)
{
    const char *path = out_path(j, CONFIG_FILE);
    if (json_dump_file(config, path, JSON_INDENT(2) | JSON_REAL_PRECISION(17)))
        return err_errno(e, path, "The configuration cannot be written");
    return job_artifact(j, CONFIG_FILE, "application/json", CONFIG_FILE, e);
}

static int write_model(struct job *j, const struct calibration *c, struct err *e)
{
    if (model_write(c->graph, c->plan, out_path(j, MODEL_FILE), e))
        return -1;
    return job_artifact(j, MODEL_FILE, "application/octet-stream", MODEL_FILE, e);
}

static int check_debug_mode(const json_t *options, struct err *e)
{
    const char *mode = json_str(options, "debug_mode", DUMP);
    return strcmp(mode, DUMP)
               ? err_set(e, ERR_INVALID, "/options/debug_mode", "This must be \"" DUMP "\".")
               : 0;
}

static int write_data(struct job *j, const struct calibration *c, struct err *e)
{
    const json_t *options = json_object_get(job_spec(j), "options");
    if (!json_str(options, "debug_mode", NULL))
        return 0;
    if (dump_calibration_data(c->data, c->n_samples, out_path(j, DATA_FILE), e))
        return -1;
    return job_artifact(j, DATA_FILE, "application/x-tar", DATA_FILE, e);
}

/* Option "export": the QDQ model too. */
static int write_export(struct job *j, const struct calibration *c, json_t **ret, struct err *e)
{
    const char *form = json_str(json_object_get(job_spec(j), "options"), "export", NULL);
    *ret = json_null();
    if (!form)
        return 0;
    if (strcmp(form, "qdq") && strcmp(form, "qdq-opset21"))
        return err_set(e, ERR_INVALID, "/options/export",
                       "This must be \"qdq\" or \"qdq-opset21\", not \"%.40s\".", form);
    return export_artifact(j, c->plan, !strcmp(form, "qdq-opset21"), ret, e);
}

static json_t *identity(const struct calibration *c)
{
    struct digest d;
    char graph[SHA256_HEX], plan[SHA256_HEX];
    graph_digest(c->graph, &d);
    digest_hex(&d, graph);
    plan_digest(c->plan, &d);
    digest_hex(&d, plan);
    return json_pack("{s:s, s:s, s:s}", "artifact", MODEL_FILE, "graph_digest", graph,
                     "plan_digest", plan);
}

static int finish(struct job *j, struct calibration *c, json_t **ret, struct err *e)
{
    json_t *export;
    if (write_model(j, c, e) || write_config(j, c->quant_config, e) || write_data(j, c, e) ||
        write_export(j, c, &export, e))
        return -1;
    *ret = json_pack("{s:o, s:O, s:o, s:O, s:O, s:O, s:i, s:o}", "model", identity(c),
                     "quant_config", c->quant_config, "calibrations", calibrations_json(c->plan),
                     "ledger", c->ledger, "search", c->search, "bias_correction", c->bias,
                     "samples", c->n_samples, "export", export);
    return 0;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    const json_t *options = json_object_get(job_spec(j), "options");
    (void)ret_verdict;
    if (options &&
        (json_check(options, options_fields, "/options", e) || check_debug_mode(options, e)))
        return -1;
    int rc = job_open_model(j, &m, e) || job_open_data(j, "data", m->float_graph, &d, e);
    if (!rc) {
        struct calibration c = {.graph = m->float_graph,
                                .data = d,
                                .loaded = m->plan,
                                .n_samples = calibration_samples(options, "samples", d)};
        rc = calibration_run(j, &c, e) || finish(j, &c, ret_result, e);
        calibration_done(&c);
    }
    dataset_free(d);
    model_free(m);
    return rc ? -1 : 0;
}

extern const struct job_kind job_calibrate;
const struct job_kind job_calibrate = {
    .name = "calibrate",
    .run = run,
    .text = "Finds the thresholds of all activations and weights, and writes the calibrated model.",
};
