/*
 * sensitivity: what each candidate costs by itself (spec §5). The unit of reuse is a row, one
 * candidate on one sample with all metrics: a sweep that was interrupted, or is repeated with more
 * samples, other metrics or other candidates, computes the rows that the store does not have.
 */
#include "worker/jobs/sensitivity.h"

#include <stdlib.h>

#include "common/json.h"
#include "worker/load/model.h"

enum { KEEP_DEFAULT = 1 << 30 };

static const struct json_field options_fields[] = {
    {"metrics", JSON_K_ARRAY, 0, 1, METRIC_COUNT},
    {"node_type", JSON_K_STRING, 0, 1, 32},
    {"outputs", JSON_K_ARRAY, 0, 1, 4096},
    {"data_num", JSON_K_INT, 0, 1, 1e9},
    {"interested_nodes", JSON_K_ARRAY, 0, 1, 1e6},
    {"verbose", JSON_K_BOOL, 0, 0, 0},
    {"naive", JSON_K_BOOL, 0, 0, 0},
    {"fast", JSON_K_BOOL, 0, 0, 0},
    {"keep_bytes", JSON_K_INT, 0, 1, 1e15},
    {"memory", JSON_K_INT, 0, 1, 1e15},
    {0},
};

/* ---- what is asked ---- */

static int read_metrics(struct sensitivity *s, const json_t *list, struct err *e)
{
    s->metrics[0] = M_COSINE;
    s->n_metrics = 1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        char at[48];
        snprintf(at, sizeof at, "/options/metrics/%zu", i);
        if (!name || metric_parse(name, &s->metrics[i]))
            return err_set(e, ERR_INVALID, at, "There is no metric \"%.60s\".", name ? name : "");
        for (size_t j = 0; j < i; j++)
            if (s->metrics[j] == s->metrics[i])
                return err_set(e, ERR_INVALID, at, "This metric is named twice.");
        s->n_metrics = (int)i + 1;
    }
    return 0;
}

static int read_options(struct sensitivity *s, const json_t *options, struct err *e)
{
    const char *type = json_str(options, "node_type", "node");
    if (node_type_parse(type, &s->type))
        return err_set(e, ERR_INVALID, "/options/node_type",
                       "This must be \"node\", \"weight\" or \"activation\", not \"%.60s\".", type);
    int64_t samples = json_int(options, "data_num", 1);
    s->n_samples = samples < s->data->n_samples ? (int)samples : s->data->n_samples;
    s->verbose = json_flag(options, "verbose", 0);
    s->naive = json_flag(options, "naive", 0);
    s->fast = json_flag(options, "fast", 0);
    s->memory = (uint64_t)json_int(options, "memory", 0);
    s->keep_max = (uint64_t)json_int(options, "keep_bytes", s->memory ? 0 : KEEP_DEFAULT);
    return read_metrics(s, json_object_get(options, "metrics"), e);
}

static int find_candidates(struct sensitivity *s, const json_t *options, struct err *e)
{
    if (candidates_find(s->plan, s->type, json_object_get(options, "outputs"),
                        json_object_get(options, "interested_nodes"), job_arena(s->job), &s->all,
                        e))
        return -1;
    for (int i = 0; i < s->all->n_unheard; i++)
        job_event(s->job, "warning",
                  json_pack("{s:o}", "message",
                            json_sprintf("\"%s\" reaches none of the outputs: it is not listed.",
                                         s->all->unheard[i])));
    if (s->all->n)
        return 0;
    return err_set(e, ERR_INVALID, "/options/outputs",
                   "No %s with a calibration reaches the outputs.", node_type_name(s->type));
}

/* ---- the program ---- */

static void find_unique(struct sensitivity *s)
{
    size_t n = (size_t)s->all->n + 1;
    s->unique = arena_array(job_arena(s->job), n, sizeof *s->unique);
    s->row = arena_array(job_arena(s->job), n, sizeof *s->row);
    s->seen = arena_array(job_arena(s->job), n, sizeof *s->seen);
    for (int c = 0; c < s->all->n; c++) {
        int first = s->all->list[c].same;
        s->row[c] = first == c ? s->n_unique : s->row[first];
        if (first == c)
            s->unique[s->n_unique++] = c;
    }
}

static int all_rows(struct sensitivity *s, struct err *e)
{
    int *which = xcalloc((size_t)s->n_unique + 1, sizeof *which);
    for (int i = 0; i < s->n_unique; i++)
        which[i] = i;
    int rc = sensitivity_rows(s, 0, s->n_samples, which, s->n_unique, e);
    free(which);
    return rc;
}

static int sensitivity(struct sensitivity *s, json_t **ret, struct err *e)
{
    const json_t *options = json_object_get(job_spec(s->job), "options");
    if (read_options(s, options, e) || find_candidates(s, options, e))
        return -1;
    find_unique(s);
    size_t rows = (size_t)s->n_samples * (size_t)s->n_unique;
    s->scores = arena_array(job_arena(s->job), rows * (size_t)s->all->n_outputs,
                            METRIC_COUNT * sizeof *s->scores);
    if (s->fast ? sensitivity_fast(s, e) : all_rows(s, e))
        return -1;
    *ret = sensitivity_result(s);
    return 0;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    const json_t *options = json_object_get(job_spec(j), "options");
    (void)ret_verdict;
    if ((options && json_check(options, options_fields, "/options", e)) || job_open_model(j, &m, e))
        return -1;
    int rc = m->plan ? job_open_data(j, "data", m->float_graph, &d, e)
                     : err_set(e, ERR_INVALID, "/model",
                               "The model has no calibrations: calibrate it first.");
    if (!rc) {
        struct sensitivity s = {.job = j, .graph = m->float_graph, .plan = m->plan, .data = d};
        rc = sensitivity(&s, ret_result, e);
        json_decref(s.rounds);
    }
    dataset_free(d);
    model_free(m);
    return rc ? -1 : 0;
}

extern const struct job_kind job_sensitivity;
const struct job_kind job_sensitivity = {
    .name = "sensitivity",
    .run = run,
    .text = "Measures what each node, weight or activation costs when it alone is quantized.",
};
