#include "worker/jobs/debug.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/core.h"
#include "worker/load/model.h"

enum { NAME_KEPT = 150 /* of a name in a file's name */ };

/* ---- a tool ---- */

int debug_run(struct job *j, const struct json_field *options, debug_tool *tool, json_t **ret,
              struct err *e)
{
    struct model *m = NULL;
    struct dataset *d = NULL;
    const json_t *given = json_object_get(job_spec(j), "options");
    if ((given && json_check(given, options, "/options", e)) || job_open_model(j, &m, e))
        return -1;
    int rc = m->plan ? job_open_data(j, "data", m->float_graph, &d, e)
                     : err_set(e, ERR_INVALID, "/model",
                               "The model has no calibrations: calibrate it first.");
    if (!rc) {
        struct debugging g = {j, m->float_graph, m->plan, d, given, json_array(), ""};
        rc = tool(&g, ret, e);
        if (!rc)
            json_object_set(*ret, "files", g.files);
        json_decref(g.files);
    }
    dataset_free(d);
    model_free(m);
    return rc ? -1 : 0;
}

int debug_sensitivity(struct debugging *d, json_t *options, json_t **ret, struct err *e)
{
    extern const struct job_kind job_sensitivity;
    const char *verdict;
    json_t *outer = d->job->spec, *inner = json_copy(outer);
    json_object_set_new(inner, "options", options);
    d->job->spec = inner;
    int rc = job_sensitivity.run(d->job, ret, &verdict, e);
    d->job->spec = outer;
    json_decref(inner);
    return rc;
}

/* ---- files ---- */

static const char *file_name(struct arena *a, const char *name)
{
    size_t n = strlen(name), skip = n > NAME_KEPT ? n - NAME_KEPT : 0;
    char *s = arena_strdup(a, name + skip);
    for (char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            *p = '_';
    return s;
}

const char *debug_path(struct debugging *d, const char *folder, const char *name, const char *end)
{
    struct arena *a = job_arena(d->job);
    return arena_printf(a, "%s%s%s.%s", folder, *folder ? "/" : "", file_name(a, name), end);
}

static bool is_taken(const struct debugging *d, const char *artifact)
{
    for (size_t i = 0; i < json_array_size(d->files); i++)
        if (!strcmp(json_str(json_array_get(d->files, i), "artifact", ""), artifact))
            return true;
    return false;
}

int debug_file(struct debugging *d, const char *path, const char *media_type, const struct buf *b,
               struct err *e)
{
    struct arena *a = job_arena(d->job);
    const char *full = arena_printf(a, "%s%s", d->folder, path), *name = file_name(a, full);
    for (int i = 1; is_taken(d, name); i++)
        name = arena_printf(a, "%d_%s", i, file_name(a, full));
    if (*name == '.')
        name = arena_printf(a, "_%s", name);
    const char *at = arena_printf(a, "%s/%s", job_out_dir(d->job), name);
    FILE *f = fopen(at, "wbe");
    bool ok = f && fwrite(b->data, 1, b->len, f) == b->len;
    if ((f && fclose(f)) || !ok)
        return err_errno(e, at, "The file cannot be written");
    json_array_append_new(d->files, json_pack("{s:s, s:s, s:s}", "path", full, "artifact", name,
                                              "media_type", media_type));
    return job_artifact(d->job, name, media_type, name, e);
}

/* ---- names ---- */

static int unknown_name(const struct debugging *d, const char *name, const char *pointer,
                        struct err *e)
{
    int n = 0;
    char near[512];
    const char **known =
        xcalloc((size_t)(d->graph->n_nodes + d->plan->n_calibs) + 1, sizeof *known);
    for (int i = 0; i < d->graph->n_nodes; i++)
        known[n++] = d->graph->nodes[i].name;
    for (int i = 0; i < d->plan->n_calibs; i++)
        known[n++] = d->plan->calibs[i].name;
    json_nearest(name, known, (size_t)n, near, sizeof near);
    free(known);
    return err_set(e, ERR_UNKNOWN_NAME, pointer,
                   "There is no node or calibration \"%.150s\"%s%s%s.", name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

static int find_subject(struct debugging *d, const char *name, const char *pointer,
                        struct subject *ret, struct err *e)
{
    *ret = (struct subject){name, plan_find(d->plan, name), graph_node(d->graph, name), -1};
    if (ret->calib >= 0) {
        ret->node = -1;
        ret->value = d->plan->calibs[ret->calib].value;
    } else if (ret->node >= 0 && d->graph->nodes[ret->node].n_out) {
        ret->value = d->graph->nodes[ret->node].out[0];
    }
    return ret->value >= 0 ? 0 : unknown_name(d, name, pointer, e);
}

int debug_subjects(struct debugging *d, const json_t *names, const char *pointer,
                   struct subject **ret, int *ret_n, struct err *e)
{
    size_t n = json_is_string(names) ? 1 : json_array_size(names);
    char at[ERR_AT_MAX];
    if (!n)
        return err_set(e, ERR_INVALID, pointer, "This must name nodes or calibrations.");
    *ret = arena_array(job_arena(d->job), n, sizeof **ret);
    *ret_n = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_string(names) ? names : json_array_get(names, i);
        snprintf(at, sizeof at, "%s/%zu", pointer, i);
        if (!json_is_string(v))
            return err_set(e, ERR_INVALID, at, "This must be a name.");
        if (find_subject(d, json_string_value(v), at, &(*ret)[i], e))
            return -1;
    }
    return 0;
}

int debug_calibs(struct debugging *d, const char *name, const char *pointer, bool *ret,
                 struct err *e)
{
    const struct plan *p = d->plan;
    struct subject s;
    bool weights = !strcmp(name, "weight"), activations = !strcmp(name, "activation");
    for (int i = 0; (weights || activations) && i < p->n_calibs; i++)
        ret[i] |= weights == (p->calibs[i].kind == CALIB_WEIGHT);
    if (weights || activations)
        return 0;
    if (find_subject(d, name, pointer, &s, e))
        return -1;
    if (s.calib >= 0)
        ret[s.calib] = true;
    for (int i = 0; s.node >= 0 && i < d->graph->nodes[s.node].n_in; i++) {
        int k = plan_find_input(p, s.node, i);
        if (k >= 0)
            ret[k] = true;
    }
    return 0;
}

int debug_metric(const json_t *options, const char *key, enum metric *ret, struct err *e)
{
    const char *name = json_str(options, key, metric_rows[M_COSINE].name);
    char at[64];
    snprintf(at, sizeof at, "/options/%s", key);
    return metric_parse(name, ret)
               ? err_set(e, ERR_INVALID, at, "There is no metric \"%.60s\".", name)
               : 0;
}

int debug_samples(const struct debugging *d, const char *key, int absent)
{
    int all = d->data->n_samples;
    int64_t n = json_int(d->options, key, absent ? absent : all);
    return n < all ? (int)n : all;
}
