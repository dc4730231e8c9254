#include "worker/jobs/labels.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"

/* ---- which output ---- */

/* A sample's labels: 1 element, or a map's dims. */
static int64_t label_dims(const struct dataset *d, struct tensor *ret)
{
    *ret = *d->labels;
    if (tensor_count(d->labels) == d->n_samples) {
        ret->rank = 0;
        return 1;
    }
    do
        memmove(ret->dims, ret->dims + 1, (size_t)--ret->rank * sizeof *ret->dims);
    while (ret->rank > 1 && ret->dims[0] == 1);
    return tensor_count(ret);
}

static int64_t classes_of(const struct dataset *d)
{
    int64_t most = 0, n = tensor_count(d->labels);
    bool map = n != d->n_samples;
    for (int64_t i = 0; i < n; i++) {
        int64_t v = tensor_int(d->labels, i);
        most = v > most && !(map && v == LABELS_IGNORED) ? v : most;
    }
    return most + 1;
}

/* One score a class: [1, C] or [C], with unknown dims taken for 1. */
static bool is_class_output(const struct tensor *t, int64_t classes)
{
    if (t->rank < 1 || t->dims[t->rank - 1] < classes)
        return false;
    for (int i = 0; i + 1 < t->rank; i++)
        if (t->dims[i] > 1)
            return false;
    return true;
}

static bool same_dims(const struct tensor *t, int skip, const struct tensor *map)
{
    int at = 0;
    for (int i = 1; i < t->rank; i++) {
        if (i == skip)
            continue;
        if (at == map->rank || (t->dims[i] >= 0 && t->dims[i] != map->dims[at]))
            return false;
        at++;
    }
    return at == map->rank;
}

/* [1, C, H, W] or [1, H, W, C] for maps of [H, W]; without C: one channel. */
static bool is_map_output(const struct tensor *t, const struct tensor *map, int64_t classes,
                          struct labels *ret)
{
    if (t->rank < 2 || t->dims[0] > 1)
        return false;
    for (int axis = 1; axis < t->rank; axis++) {
        int64_t c = t->dims[axis];
        if (!same_dims(t, axis, map) || c < 1 || c > LABELS_CLASSES_MAX)
            continue;
        if (c == 1 ? classes > 2 : c < classes)
            continue;
        ret->axis = axis;
        ret->classes = c == 1 ? 2 : (int)c;
        return true;
    }
    if (!same_dims(t, -1, map) || classes > 2)
        return false;
    ret->axis = -1;
    ret->classes = 2;
    return true;
}

static bool fits(const struct graph *g, int output, const struct dataset *d, int64_t classes,
                 struct labels *ret)
{
    const struct tensor *t = &g->values[g->outputs[output]].type;
    struct tensor map;
    *ret = (struct labels){.output = output, .axis = -1};
    if (label_dims(d, &map) == 1) {
        ret->classes = t->rank && t->dims[t->rank - 1] > 0 ? (int)t->dims[t->rank - 1] : 0;
        return is_class_output(t, classes);
    }
    ret->map = true;
    return is_map_output(t, &map, classes, ret);
}

static int named_output(const struct graph *g, const char *name, struct err *e)
{
    const char **known = xcalloc((size_t)g->n_outputs + 1, sizeof *known);
    char near[256];
    for (int i = 0; i < g->n_outputs; i++) {
        known[i] = g->values[g->outputs[i]].name;
        if (!strcmp(known[i], name)) {
            free(known);
            return i;
        }
    }
    json_nearest(name, known, (size_t)g->n_outputs, near, sizeof near);
    free(known);
    return err_set(e, ERR_UNKNOWN_NAME, "/options/label_output",
                   "The model has no output \"%.100s\"%s%s%s.", name,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}

static int choose_output(const struct graph *g, const struct dataset *d, struct labels *ret,
                         struct err *e)
{
    int n = 0;
    int64_t classes = classes_of(d);
    struct labels l;
    for (int i = 0; i < g->n_outputs; i++)
        if (fits(g, i, d, classes, &l)) {
            *ret = l;
            n++;
        }
    if (n == 1)
        return 0;
    return err_set(e, ERR_INVALID, "/options/label_output",
                   "%s output has one score for each of the %lld classes of the labels%s: name it "
                   "here, or set labels to false.",
                   n ? "More than one" : "No", (long long)classes,
                   tensor_count(d->labels) == d->n_samples ? "" : " at each place of their maps");
}

static int choose_named(const struct graph *g, const struct dataset *d, const char *name,
                        struct labels *ret, struct err *e)
{
    char text[TENSOR_TEXT_MAX], map[TENSOR_TEXT_MAX];
    int output = named_output(g, name, e);
    if (output < 0)
        return -1;
    if (fits(g, output, d, classes_of(d), ret) || !ret->map)
        return 0; /* a class output of odd dims is taken at its word */
    return err_set(e, ERR_INVALID, "/options/label_output",
                   "Labels %s with %lld classes do not fit the output %s.",
                   tensor_text(d->labels, map), (long long)classes_of(d),
                   tensor_text(&g->values[g->outputs[output]].type, text));
}

int labels_choose(const struct graph *g, const struct dataset *d, const json_t *options,
                  struct labels *ret, struct err *e)
{
    const json_t *labels = json_object_get(options, "labels");
    const char *name = json_str(options, "label_output", NULL);
    *ret = (struct labels){.output = -1};
    if (labels && !json_is_null(labels) && !json_is_false(labels) &&
        (!json_is_string(labels) || strcmp(json_string_value(labels), "auto")))
        return err_set(e, ERR_INVALID, "/options/labels", "This must be \"auto\" or false.");
    if (json_is_false(labels) || (!d->labels && !name))
        return 0;
    if (!d->labels)
        return err_set(e, ERR_BAD_DATA, "/options/label_output", "The data set has no labels.");
    return name ? choose_named(g, d, name, ret, e) : choose_output(g, d, ret, e);
}

/* ---- one sample ---- */

void labels_top(const float *v, int64_t n, int32_t ret[LABELS_TOP])
{
    int found = 0;
    for (int64_t i = 0; i < n; i++) {
        int at = found;
        while (at > 0 && v[i] > v[ret[at - 1]])
            at--;
        if (at == LABELS_TOP)
            continue;
        int last = found < LABELS_TOP ? found++ : LABELS_TOP - 1;
        memmove(ret + at + 1, ret + at, (size_t)(last - at) * sizeof *ret);
        ret[at] = (int32_t)i;
    }
    while (found < LABELS_TOP)
        ret[found++] = -1;
}

/* The class that the output says at a place: the first of the largest. */
static int said_at(const struct labels *l, const float *v, int64_t channels, int64_t inner,
                   int64_t place)
{
    const float *p = v + place / inner * channels * inner + place % inner;
    int best = 0;
    if (channels == 1)
        return *p > 0.5f;
    for (int c = 1; c < l->classes; c++)
        best = p[c * inner] > p[best * inner] ? c : best;
    return best;
}

int labels_areas(const struct labels *l, const struct dataset *d, int sample,
                 const struct tensor *y, const float *data, struct area *ret, struct err *e)
{
    struct tensor map;
    int64_t n = label_dims(d, &map), inner = 1, channels = l->axis < 0 ? 1 : y->dims[l->axis];
    for (int i = l->axis + 1; l->axis >= 0 && i < y->rank; i++)
        inner *= y->dims[i];
    if (tensor_count(y) != n * channels || (channels > 1 && channels != l->classes))
        return err_set(e, ERR_BAD_DATA, d->sample_names[sample],
                       "The output has not the shape of the label map.");
    memset(ret, 0, (size_t)l->classes * sizeof *ret);
    for (int64_t i = 0; i < n; i++) {
        int64_t want = tensor_int(d->labels, (int64_t)sample * n + i);
        if (want < 0 || want >= l->classes)
            continue;
        int said = said_at(l, data, channels, inner, i);
        ret[want].either++;
        if (said == want)
            ret[want].both++;
        else
            ret[said].either++;
    }
    return 0;
}

void labels_digest(const struct labels *l, const struct dataset *d, int sample, struct digest *ret)
{
    struct tensor map;
    struct sha256 *h = sha256_new();
    if (l->map) {
        const int32_t ints[] = {l->classes, l->axis, d->labels->type};
        int64_t n = label_dims(d, &map);
        size_t bytes = (size_t)n * dtype_size(map.type);
        sha256_field(h, ints, sizeof ints);
        sha256_field(h, map.dims, (size_t)map.rank * sizeof *map.dims);
        sha256_field(h, (const char *)d->labels->data + (size_t)sample * bytes, bytes);
    }
    sha256_finish(h, ret);
}
