/* runall: the debugger's tools one after the other, each into a folder of its own. */
#include <string.h>

#include "common/json.h"
#include "worker/jobs/debug.h"

enum { WORST_SHOWN = 10 };

static const struct json_field options_fields[] = {{"ns_metrics", JSON_K_ARRAY, 0, 1, METRIC_COUNT},
                                                   {"output_node", JSON_K_ARRAY, 0, 1, 4096},
                                                   {"node_type", JSON_K_ARRAY, 0, 1, 3},
                                                   {"data_num", JSON_K_INT, 0, 1, 1e9},
                                                   {"verbose", JSON_K_BOOL, 0, 0, 0},
                                                   {"interested_nodes", JSON_K_ARRAY, 0, 1, 1e6},
                                                   {"dis_nodes_list", JSON_K_ANY, 0, 0, 0},
                                                   {"cw_nodes_list", JSON_K_ANY, 0, 0, 0},
                                                   {"axis", JSON_K_INT, 0, -12, 11},
                                                   {"quantize_node", JSON_K_ANY, 0, 0, 0},
                                                   {"non_quantize_node", JSON_K_ANY, 0, 0, 0},
                                                   {"ae_metric", JSON_K_STRING, 0, 1, 32},
                                                   {"average_mode", JSON_K_BOOL, 0, 0, 0},
                                                   {"pick_threshold", JSON_K_REAL, 0, -1e30, 1e30},
                                                   {"sensitive_nodes", JSON_K_ANY, 0, 0, 0},
                                                   {0}};

/* What an inner tool takes of runall's options, under its own name. */
struct passed {
    const char *to, *from;
};
static const struct passed sweep_options[] = {{"metrics", "ns_metrics"},
                                              {"outputs", "output_node"},
                                              {"data_num", "data_num"},
                                              {"verbose", "verbose"},
                                              {"interested_nodes", "interested_nodes"},
                                              {0}};
static const struct passed plot_options[] = {{"data_num", "data_num"}, {"axis", "axis"}, {0}};
static const struct passed error_options[] = {{"quantize_node", "quantize_node"},
                                              {"non_quantize_node", "non_quantize_node"},
                                              {"metric", "ae_metric"},
                                              {"average_mode", "average_mode"},
                                              {0}};
static const struct passed raise_options[] = {{"pick_threshold", "pick_threshold"},
                                              {"sensitive_nodes", "sensitive_nodes"},
                                              {"data_num", "data_num"},
                                              {0}};

static json_t *pass(const json_t *options, const struct passed *p)
{
    json_t *o = json_object();
    for (; p->to; p++) {
        json_t *v = json_object_get(options, p->from);
        if (v && !json_is_null(v))
            json_object_set(o, p->to, v);
    }
    return o;
}

/* A tool with its own options (taken) and folder; its result under `key`. */
static int run_tool(struct debugging *d, debug_tool *tool, const char *folder, json_t *options,
                    json_t *results, const char *key, struct err *e)
{
    const json_t *outer = d->options;
    json_t *found = NULL;
    d->options = options;
    d->folder = arena_printf(job_arena(d->job), "%s/", folder);
    int rc = tool(d, &found, e);
    d->options = outer;
    d->folder = "";
    json_decref(options);
    if (rc)
        json_decref(found);
    else
        json_object_set_new(results, key, found);
    return rc;
}

/* The ranking as the file that the vendor's tool leaves. */
static int write_ranking(struct debugging *d, const char *type, const json_t *found, struct err *e)
{
    struct buf b;
    json_t *row;
    size_t i, k;
    const json_t *metrics = json_object_get(found, "metrics");
    buf_init(&b, JSON_TEXT_MAX);
    buf_adds(&b, "node");
    for (k = 0; k < json_array_size(metrics); k++)
        buf_addf(&b, "\t%s", json_string_value(json_array_get(metrics, k)));
    json_array_foreach(json_object_get(found, "rows"), i, row)
    {
        buf_addf(&b, "\n%s", json_str(row, "node", ""));
        for (k = 0; k < json_array_size(metrics); k++)
            buf_addf(&b, "\t%.5f", json_num(row, json_string_value(json_array_get(metrics, k)), 0));
    }
    buf_adds(&b, "\n");
    int rc = debug_file(
        d, arena_printf(job_arena(d->job), "node_sensitivity/sensitivity_of_%s.log", type),
        "text/plain", &b, e);
    buf_done(&b);
    return rc;
}

/* The worst rows' names go into `worst`. */
static int run_sweeps(struct debugging *d, json_t *results, json_t *worst, struct err *e)
{
    json_t *types = json_object_get(d->options, "node_type"), *all = json_object();
    bool own = !json_array_size(types);
    types = own ? json_pack("[s, s]", "weight", "activation") : json_incref(types);
    int rc = 0;
    json_object_set_new(results, "node_sensitivity", all);
    for (size_t i = 0; i < json_array_size(types) && !rc; i++) {
        json_t *options = pass(d->options, sweep_options), *found = NULL;
        const char *type = json_string_value(json_array_get(types, i));
        json_object_set(options, "node_type", json_array_get(types, i));
        rc = !type ? err_set(e, ERR_INVALID, "/options/node_type", "These must be names.") : 0;
        if (rc)
            json_decref(options);
        else
            rc = debug_sensitivity(d, options, &found, e) || write_ranking(d, type, found, e) ? -1
                                                                                              : 0;
        const json_t *rows = json_object_get(found, "rows");
        for (size_t r = 0; r < json_array_size(rows) && r < WORST_SHOWN; r++)
            if (type && strcmp(type, "node"))
                json_array_append(worst, json_object_get(json_array_get(rows, r), "node"));
        if (found && !rc)
            json_object_set(all, type, found);
        json_decref(found);
    }
    json_decref(types);
    return rc;
}

static int run_plots(struct debugging *d, json_t *results, json_t *worst, struct err *e)
{
    static const struct {
        const char *list, *folder;
        debug_tool *tool;
    } plots[] = {{"dis_nodes_list", "data_distribution", plot_distribution},
                 {"cw_nodes_list", "channelwise_distribution", channelwise_distribution}};
    for (int i = 0; i < 2; i++) {
        json_t *options = pass(d->options, plot_options),
               *named = json_object_get(d->options, plots[i].list);
        json_object_set(options, "nodes_list", named && !json_is_null(named) ? named : worst);
        if (!json_array_size(json_object_get(options, "nodes_list")) &&
            !json_is_string(json_object_get(options, "nodes_list"))) {
            json_decref(options);
            continue;
        }
        if (run_tool(d, plots[i].tool, plots[i].folder, options, results, plots[i].folder, e))
            return -1;
    }
    return 0;
}

static int runall(struct debugging *d, json_t **ret, struct err *e)
{
    json_t *results = json_object(), *worst = json_array();
    json_t *errors = pass(d->options, error_options);
    if (!json_object_get(errors, "quantize_node") && !json_object_get(errors, "non_quantize_node"))
        json_object_set_new(errors, "quantize_node", json_pack("[s, s]", "weight", "activation"));
    int rc = run_sweeps(d, results, worst, e) || run_plots(d, results, worst, e) ? -1 : 0;
    if (rc)
        json_decref(errors);
    else
        rc = run_tool(d, plot_acc_error, "accumulate_error", errors, results, "accumulate_error",
                      e) ||
                     run_tool(d, sensitivity_analysis, "sensitivity_analysis",
                              pass(d->options, raise_options), results, "sensitivity_analysis", e)
                 ? -1
                 : 0;
    json_decref(worst);
    *ret = results;
    return rc;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    (void)ret_verdict;
    return debug_run(j, options_fields, runall, ret_result, e);
}

extern const struct job_kind job_runall;
const struct job_kind job_runall = {
    .name = "runall",
    .run = run,
    .text = "The debugger's tools one after the other.",
};
