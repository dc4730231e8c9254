#include "server/jobspec.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "server/blobs.h"
#include "server/inputs.h"
#include "server/jobspec_options.h"
#include "server/profiles.h"
#include "server/store.h"

enum { LABELS_MAX = 64, LABEL_MAX = 255, PRIORITY_MAX = 100 };

static const struct json_field body_fields[] = {
    {"kind", JSON_K_STRING, 1, 0, 0},
    {"model", JSON_K_ANY, 1, 0, 0},
    {"data", JSON_K_STRING, 0, 0, 0}, /* required by most kinds */
    {"calibration_data", JSON_K_STRING, 0, 0, 0},
    {"quant_config", JSON_K_ANY, 0, 0, 0}, /* an object, or text in the dialect */
    {"options", JSON_K_OBJECT, 0, 0, 0},
    {"labels", JSON_K_OBJECT, 0, 0, 0},
    {"priority", JSON_K_INT, 0, -PRIORITY_MAX, PRIORITY_MAX},
    {0}};
static const struct json_field from_job_fields[] = {
    {"from_job", JSON_K_STRING, 1, 0, 0}, {"artifact", JSON_K_STRING, 1, 0, 0}, {0}};
static const struct json_field blob_fields[] = {{"blob", JSON_K_STRING, 1, 0, 0}, {0}};
static const struct json_field patch_fields[] = {
    {"labels", JSON_K_OBJECT, 0, 0, 0},
    {"priority", JSON_K_INT, 0, -PRIORITY_MAX, PRIORITY_MAX},
    {0}};

static json_t *automatic(void)
{
    return json_string("auto");
}

static int check_samples(const json_t *v, const char *at, struct err *e)
{
    if (json_is_null(v) || (json_is_integer(v) && json_integer_value(v) >= 1))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be an integer from 1 on, or null.");
}

static int check_labels_option(const json_t *v, const char *at, struct err *e)
{
    const char *s = json_string_value(v);
    if (json_is_false(v) || (s && !strcmp(s, "auto")))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be \"auto\" or false.");
}

static int check_output(const json_t *v, const char *at, struct err *e)
{
    if (json_is_null(v) || (json_is_string(v) && json_string_length(v) > 0))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be the name of an output, or null.");
}

static int check_bool(const json_t *v, const char *at, struct err *e)
{
    return json_is_boolean(v) ? 0 : err_set(e, ERR_INVALID, at, "This must be true or false.");
}

static int check_export(const json_t *v, const char *at, struct err *e)
{
    const char *s = json_string_value(v);
    if (json_is_null(v) || (s && (!strcmp(s, "qdq") || !strcmp(s, "qdq-opset21"))))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be \"qdq\", \"qdq-opset21\" or null.");
}

static int check_thresholds(const json_t *v, const char *at, struct err *e)
{
    if (json_is_null(v) || (json_is_array(v) && json_array_size(v) > 0))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be a list of calibrations, or null.");
}

static int check_debug_mode(const json_t *v, const char *at, struct err *e)
{
    const char *s = json_string_value(v);
    if (json_is_null(v) || (s && !strcmp(s, "dump_calibration_data")))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be \"dump_calibration_data\", or null.");
}

static json_t *default_march(void)
{
    return json_string(profiles_default());
}

static int check_march(const json_t *v, const char *at, struct err *e)
{
    if (!json_is_string(v))
        return err_set(e, ERR_INVALID, at, "This must be the name of a march.");
    return profiles_check(json_string_value(v), at, e);
}

static const struct option calibrate_options[] = {
    {"samples", json_null, check_samples},       {"march", default_march, check_march},
    {"thresholds", json_null, check_thresholds}, {"debug_mode", json_null, check_debug_mode},
    {"export", json_null, check_export},         {0}};
static const struct option export_options[] = {{"opset21", json_false, check_bool}, {0}};
static const struct option evaluate_options[] = {
    {"samples", json_null, check_samples},      {"march", default_march, check_march},
    {"labels", automatic, check_labels_option}, {"label_output", json_null, check_output},
    {"nodes", json_false, check_bool},          {0}};
enum kind_trait {
    K_CALIBRATION_DATA = 1, /* may be given */
    K_CONFIG = 2,           /* quant_config is {} when it is absent */
    K_AS_IS = 4,            /* takes a calibrated model as it is: no quant_config */
    K_NO_DATA = 8
};
static const struct kind {
    const char *name;
    const struct option *options;
    unsigned traits;
} kinds[] = {{"calibrate", calibrate_options, K_CONFIG},
             {"evaluate", evaluate_options, K_CALIBRATION_DATA},
             {"export", export_options, K_AS_IS | K_NO_DATA},
             {"get-channelwise-data-distribution", channelwise_options, K_AS_IS},
             {"plot-acc-error", acc_error_options, K_AS_IS},
             {"plot-distribution", distribution_options, K_AS_IS},
             {"runall", runall_options, K_AS_IS},
             {"select-sensitive-samples", samples_options, K_AS_IS},
             {"sensitivity", sensitivity_options, K_AS_IS},
             {"sensitivity-analysis", sensitivity_analysis_options, K_AS_IS},
             {"tensor-analysis", tensor_options, K_AS_IS}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct kind *find_kind(const char *name)
{
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kinds[i].name, name))
            return &kinds[i];
    return NULL;
}

bool jobspec_is_kind(const char *kind)
{
    return find_kind(kind) != NULL;
}

static int unknown_kind(const char *name, struct err *e)
{
    const char *names[KINDS];
    char near[256];
    for (int i = 0; i < KINDS; i++)
        names[i] = kinds[i].name;
    json_nearest(name, names, KINDS, near, sizeof near);
    return err_set(e, ERR_INVALID, "/kind", "There is no kind \"%.100s\"%s%s%s.", name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

/* ---- options ---- */

static int check_option_key(const struct option *options, const char *key, struct err *e)
{
    struct json_field fields[OPTIONS_MAX] = {{0}};
    for (int i = 0; options[i].key; i++)
        fields[i] = (struct json_field){options[i].key, JSON_K_ANY, 0, 0, 0};
    json_t *one = json_pack("{s:n}", key);
    int r = json_check(one, fields, "/options", e);
    json_decref(one);
    return r;
}

/* *ret: the options with their defaults; a new reference. */
static int resolve_options(const struct kind *k, const json_t *given, json_t **ret, struct err *e)
{
    const char *key;
    json_t *v;
    char at[ERR_AT_MAX];
    json_object_foreach((json_t *)given, key, v)
    {
        if (check_option_key(k->options, key, e))
            return -1;
    }
    json_t *all = json_object();
    for (const struct option *o = k->options; o->key; o++) {
        const json_t *mine = json_object_get(given, o->key);
        json_pointer_add(at, sizeof at, "/options", o->key);
        v = mine ? json_incref((json_t *)mine) : o->fallback();
        json_object_set_new(all, o->key, v);
        if (o->check(v, at, e)) { /* a fallback that is refused: the option is required */
            json_decref(all);
            return -1;
        }
    }
    *ret = all;
    return 0;
}

/* ---- what it refers to ---- */

static int resource_state(const char *what, const char *id, const char *state, const char *error,
                          const char *at, struct err *e)
{
    if (!strcmp(state, "ready"))
        return 0;
    if (!strcmp(state, "inspecting"))
        return err_set(e, ERR_CONFLICT, at, "The %s %s is still being inspected.", what, id);
    struct err why;
    error_parse(error, &why);
    return err_set(e, ERR_INVALID, at, "The %s %s is invalid: %s", what, id, why.detail);
}

static int unknown(const char *what, const char *name, const char *at, struct err *e)
{
    return err_set(e, ERR_UNKNOWN_NAME, at, "There is no %s \"%.100s\".", what, name);
}

static int model_by_id(struct server *s, const char *id, struct arena *a, json_t *model,
                       struct err *e)
{
    struct model_row m;
    int r = model_load(FROM_DB(s->db), id, a, &m, e);
    if (r < 0)
        return -1;
    if (r == 0)
        return unknown("model", id, "/model", e);
    if (resource_state("model", id, m.state, m.error, "/model", e))
        return -1;
    json_t *external = json_parse(m.external, strlen(m.external), e);
    if (!external)
        return -1;
    json_object_set_new(model, "id", json_string(id));
    json_object_set_new(model, "blob", json_sprintf("sha256:%s", m.blob));
    json_object_set_new(model, "external_data", external);
    return 0;
}

static int model_by_job(struct server *s, const json_t *given, struct arena *a, json_t *model,
                        struct err *e)
{
    (void)a;
    if (json_check(given, from_job_fields, "/model", e))
        return -1;
    const char *job = json_str(given, "from_job", ""), *name = json_str(given, "artifact", "");
    struct stmt *q = db_stmt(s->db,
                             "SELECT a.blob FROM artifacts a JOIN jobs j ON j.id = a.job_id WHERE "
                             "a.job_id=?1 AND a.name=?2 AND j.state='succeeded'",
                             e);
    if (!q)
        return -1;
    db_put_text(q, job);
    db_put_text(q, name);
    int r = db_step(q, e);
    if (r == 1) {
        json_object_update(model, (json_t *)given);
        json_object_set_new(model, "id", json_null());
        json_object_set_new(model, "blob", json_sprintf("sha256:%s", db_text(q, 0)));
        json_object_set_new(model, "external_data", json_array());
    }
    db_end(q);
    if (r == 0)
        return err_set(e, ERR_UNKNOWN_NAME, "/model",
                       "There is no job \"%.60s\" that has succeeded with an artifact \"%.100s\".",
                       job, name);
    return r < 0 ? -1 : 0;
}

static int model_by_blob(struct server *s, const json_t *given, struct arena *a, json_t *model,
                         struct err *e)
{
    if (json_check(given, blob_fields, "/model", e))
        return -1;
    const char *name = json_str(given, "blob", ""), *sha = digest_of_name(a, name);
    if (!sha)
        return err_set(e, ERR_INVALID, "/model/blob",
                       "A blob's name is sha256: and 64 lower-case hex digits.");
    if (!blobs_has(s->blobs, sha, NULL))
        return unknown("blob", name, "/model/blob", e);
    json_object_set_new(model, "id", json_null());
    json_object_set_new(model, "blob", json_string(name));
    json_object_set_new(model, "external_data", json_array());
    return 0;
}

static int find_model(struct server *s, const json_t *given, struct arena *a, json_t *model,
                      struct err *e)
{
    if (json_is_string(given))
        return model_by_id(s, json_string_value(given), a, model, e);
    if (!json_is_object(given))
        return err_set(e, ERR_INVALID, "/model", "This must be a model's id or an object.");
    if (json_object_get(given, "blob"))
        return model_by_blob(s, given, a, model, e);
    return model_by_job(s, given, a, model, e);
}

/* It is about to be referred to: not to be collected in between. */
static void touch_blobs(struct server *s, const json_t *model, struct arena *a)
{
    const char *sha = digest_of_name(a, json_str(model, "blob", ""));
    size_t i;
    json_t *x;
    if (sha)
        blobs_touch(s->blobs, sha);
    json_array_foreach(json_object_get(model, "external_data"), i, x) touch_blobs(s, x, a);
}

json_t *jobspec_model(struct server *s, const json_t *given, struct arena *a, struct err *e)
{
    json_t *model = json_object();
    if (!find_model(s, given, a, model, e)) {
        touch_blobs(s, model, a);
        return model;
    }
    json_decref(model);
    return NULL;
}

static int resolve_data(struct server *s, const json_t *body, const char *key, struct arena *a,
                        json_t *spec, int64_t *ret_samples, struct err *e)
{
    const char *id = json_str(body, key, NULL);
    struct dataset_row d;
    char at[64];
    json_pointer_add(at, sizeof at, "", key);
    if (!id)
        return 0;
    int r = dataset_load(FROM_DB(s->db), id, a, &d, e);
    if (r < 0)
        return -1;
    if (r == 0)
        return unknown("data set", id, at, e);
    if (resource_state("data set", id, d.state, d.error, at, e))
        return -1;
    json_t *summary = json_parse(d.summary, strlen(d.summary), e);
    *ret_samples = json_int(summary, "samples", 0);
    json_decref(summary);
    json_object_set_new(spec, key, json_string(id));
    return 0;
}

static int check_sample_count(const json_t *options, int64_t there, struct err *e)
{
    static const char *const keys[] = {"samples", "data_num"};
    for (int i = 0; i < 2; i++) {
        int64_t wanted = json_int(options, keys[i], 0);
        char at[32];
        snprintf(at, sizeof at, "/options/%s", keys[i]);
        if (wanted > there)
            return err_set(e, ERR_INVALID, at, "The data set has %lld samples, %lld are asked for.",
                           (long long)there, (long long)wanted);
    }
    return 0;
}

/* ---- labels ---- */

static int check_labels(const json_t *labels, bool nulls, struct err *e)
{
    const char *key;
    json_t *v;
    char at[ERR_AT_MAX];
    if (json_object_size(labels) > LABELS_MAX)
        return err_set(e, ERR_INVALID, "/labels", "There may be at most %d labels.", LABELS_MAX);
    json_object_foreach((json_t *)labels, key, v)
    {
        json_pointer_add(at, sizeof at, "/labels", key);
        if (!*key || strlen(key) > LABEL_MAX || strchr(key, ':'))
            return err_set(e, ERR_INVALID, at, "A label's name has 1 to %d bytes and no colon.",
                           LABEL_MAX);
        if (!(nulls && json_is_null(v)) &&
            (!json_is_string(v) || json_string_length(v) > LABEL_MAX))
            return err_set(e, ERR_INVALID, at, "A label's value is a string of at most %d bytes.",
                           LABEL_MAX);
    }
    return 0;
}

static const char *canonical(struct arena *a, const json_t *v)
{
    char *text = json_text(v);
    const char *ret = arena_strdup(a, text);
    free(text);
    return ret;
}

int jobspec_patch(const json_t *patch, struct arena *a, const char **labels, int64_t *priority,
                  struct err *e)
{
    if (json_check(patch, patch_fields, "", e))
        return -1;
    const json_t *changes = json_object_get(patch, "labels");
    if (changes && check_labels(changes, true, e))
        return -1;
    json_t *all = json_parse(*labels, strlen(*labels), e);
    if (!all)
        return -1;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)changes, key, v)
    {
        if (json_is_null(v))
            json_object_del(all, key);
        else
            json_object_set(all, key, v);
    }
    int r = check_labels(all, false, e);
    *labels = canonical(a, all);
    *priority = json_int(patch, "priority", *priority);
    json_decref(all);
    return r;
}

/* ---- the whole ---- */

static const char *spec_digest(struct arena *a, const char *kind, const char *spec)
{
    struct sha256 *h = sha256_new();
    struct digest d;
    char hex[SHA256_HEX];
    sha256_field(h, kind, strlen(kind));
    sha256_field(h, spec, strlen(spec));
    sha256_finish(h, &d);
    digest_hex(&d, hex);
    return arena_strdup(a, hex);
}

int jobspec_check_config(const json_t *config, struct err *e)
{
    if (!config || json_is_object(config) || json_is_string(config) || json_is_null(config))
        return 0;
    return err_set(e, ERR_INVALID, "/quant_config", "This must be an object or a string.");
}

static int resolve(struct server *s, const struct kind *k, const json_t *body, struct arena *a,
                   json_t *spec, struct err *e)
{
    json_t *options;
    if (resolve_options(k, json_object_get(body, "options"), &options, e))
        return -1;
    json_object_set_new(spec, "options", options);
    if (!(k->traits & K_NO_DATA) != !!json_object_get(body, "data"))
        return err_set(e, ERR_INVALID, "/data",
                       k->traits & K_NO_DATA ? "A job of the kind %s takes no data."
                                             : "A job of the kind %s needs data.",
                       k->name);
    if (!(k->traits & K_CALIBRATION_DATA) && json_object_get(body, "calibration_data"))
        return err_set(e, ERR_INVALID, "/calibration_data",
                       "A job of the kind %s takes \"data\" alone.", k->name);
    if (k->traits & K_AS_IS && json_object_get(body, "quant_config"))
        return err_set(e, ERR_INVALID, "/quant_config",
                       "A job of the kind %s takes a calibrated model as it is.", k->name);
    json_t *config = json_object_get(body, "quant_config");
    if (jobspec_check_config(config, e))
        return -1;
    if (config || k->traits & K_CONFIG)
        json_object_set_new(spec, "quant_config", config ? json_incref(config) : json_object());
    int64_t samples = 0, ignored;
    json_t *model = jobspec_model(s, json_object_get(body, "model"), a, e);
    if (!model)
        return -1;
    json_object_set_new(spec, "model", model);
    if (resolve_data(s, body, "data", a, spec, &samples, e) ||
        resolve_data(s, body, "calibration_data", a, spec, &ignored, e))
        return -1;
    return check_sample_count(options, samples, e);
}

int jobspec_read(struct server *s, const json_t *body, struct arena *a, struct jobspec *ret,
                 struct err *e)
{
    if (json_check(body, body_fields, "", e))
        return -1;
    const char *name = json_str(body, "kind", "");
    const struct kind *k = find_kind(name);
    if (!k)
        return unknown_kind(name, e);
    const json_t *labels = json_object_get(body, "labels");
    if (labels && check_labels(labels, false, e))
        return -1;
    json_t *spec = json_object();
    int r = resolve(s, k, body, a, spec, e);
    if (!r) {
        ret->kind = k->name;
        ret->spec = canonical(a, spec);
        ret->spec_sha256 = spec_digest(a, k->name, ret->spec);
        ret->labels = labels ? canonical(a, labels) : "{}";
        ret->priority = json_int(body, "priority", 0);
    }
    json_decref(spec);
    return r;
}
