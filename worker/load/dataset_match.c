#include "worker/load/dataset_match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

enum { NAMES_TEXT_MAX = 512 };

/* ---- grouping ---- */

static int by_input_and_sample(const void *a, const void *b)
{
    const struct dataset_file *x = a, *y = b;
    int c = strcmp(x->input, y->input);
    return c ? c : strcmp(x->place, y->place); /* whole file names, as Python sorts them */
}

static int count_inputs(const struct dataset_file *files, int n)
{
    int inputs = 0;
    for (int i = 0; i < n; i++)
        inputs += i == 0 || strcmp(files[i].input, files[i - 1].input) != 0;
    return inputs;
}

static const char *shown(const char *input)
{
    return *input ? input : "(no name)";
}

/* Every input has the first one's number of files. */
static int check_counts(const struct dataset_file *files, int n, int inputs, int *ret_samples,
                        struct err *e)
{
    int samples = 0, first = 0;
    for (int i = 1; i <= n; i++) {
        if (i < n && !strcmp(files[i].input, files[first].input))
            continue;
        if (!samples)
            samples = i;
        if (i - first != samples)
            return err_set(e, ERR_BAD_DATA, files[first].input,
                           "Input \"%s\" has %d samples, input \"%s\" has %d: each input needs the "
                           "same number of files.",
                           shown(files[first].input), i - first, shown(files[0].input), samples);
        first = i;
    }
    if (inputs > 1 && !*files[0].input)
        return err_set(e, ERR_BAD_DATA, files[0].place,
                       "This file lies beside the inputs' folders: put it into <input name>/.");
    *ret_samples = samples;
    return 0;
}

static void fill_input(const struct dataset_file *files, int samples, struct dataset_input *ret)
{
    *ret = (struct dataset_input){files[0].input, files[0].tensor, true};
    ret->type.data = NULL;
    for (int i = 1; i < samples; i++)
        ret->uniform &= tensor_same_shape(&files[0].tensor, &files[i].tensor);
}

static int check_types(const struct dataset_file *files, int samples, struct err *e)
{
    for (int i = 1; i < samples; i++)
        if (files[i].tensor.type != files[0].tensor.type)
            return err_set(e, ERR_BAD_DATA, files[i].place,
                           "The array is %s, those before it are %s.",
                           dtype_name(files[i].tensor.type), dtype_name(files[0].tensor.type));
    return 0;
}

int dataset_group(struct dataset *d, struct dataset_file *files, int n, struct err *e)
{
    if (!n)
        return err_set(e, ERR_BAD_DATA, "",
                       "There are no samples. A data set is <input name>/<sample>.npy, one file a "
                       "sample.");
    qsort(files, (size_t)n, sizeof *files, by_input_and_sample);
    for (int i = 1; i < n; i++)
        if (by_input_and_sample(&files[i - 1], &files[i]) == 0)
            return err_set(e, ERR_BAD_DATA, files[i].place, "The name occurs twice.");
    int inputs = count_inputs(files, n), samples = 0;
    if (check_counts(files, n, inputs, &samples, e))
        return -1;
    struct dataset_input *in = arena_array(&d->arena, (size_t)inputs, sizeof *in);
    for (int k = 0; k < inputs; k++) {
        if (check_types(files + k * samples, samples, e))
            return -1;
        fill_input(files + k * samples, samples, &in[k]);
    }
    const char **names = arena_array(&d->arena, (size_t)samples, sizeof *names);
    for (int i = 0; i < samples; i++)
        names[i] = files[i].sample;
    d->files = files;
    d->inputs = in;
    d->n_inputs = inputs;
    d->n_samples = samples;
    d->sample_names = names;
    return 0;
}

/* ---- labels ---- */

/* Compares texts with each run of digits taken as a number. */
static int compare_natural(const char *a, const char *b)
{
    static const char digits[] = "0123456789";
    const char *x = a, *y = b;
    while (*x && *y) {
        size_t n = strspn(x, digits), m = strspn(y, digits);
        if (!n || !m) {
            if (*x != *y)
                return (unsigned char)*x - (unsigned char)*y;
            x++, y++;
            continue;
        }
        size_t zx = strspn(x, "0"), zy = strspn(y, "0");
        zx = zx < n ? zx : n - 1;
        zy = zy < m ? zy : m - 1;
        if (n - zx != m - zy)
            return n - zx < m - zy ? -1 : 1;
        int c = memcmp(x + zx, y + zy, n - zx);
        if (c)
            return c;
        x += n;
        y += m;
    }
    return *x || *y ? (unsigned char)*x - (unsigned char)*y : strcmp(a, b);
}

struct ranked {
    const char *name;
    int sample;
};

static int by_natural_name(const void *a, const void *b)
{
    return compare_natural(((const struct ranked *)a)->name, ((const struct ranked *)b)->name);
}

void dataset_label_order(const char *const *names, int n, int *ret)
{
    struct ranked *r = xcalloc((size_t)n, sizeof *r);
    for (int i = 0; i < n; i++)
        r[i] = (struct ranked){names[i], i};
    qsort(r, (size_t)n, sizeof *r, by_natural_name);
    for (int i = 0; i < n; i++)
        ret[i] = r[i].sample;
    free(r);
}

static void *in_sample_order(struct dataset *d, const struct tensor *t)
{
    size_t unit = tensor_bytes(t) / (size_t)d->n_samples;
    int *order = arena_array(&d->arena, (size_t)d->n_samples, sizeof *order);
    char *data = arena_array(&d->arena, (size_t)d->n_samples, unit);
    dataset_label_order(d->sample_names, d->n_samples, order);
    for (int r = 0; r < d->n_samples; r++)
        memcpy(data + (size_t)order[r] * unit, (char *)t->data + (size_t)r * unit, unit);
    return data;
}

int dataset_take_labels(struct dataset *d, const struct dataset_file *labels, struct err *e)
{
    const struct tensor *t = &labels->tensor;
    char text[TENSOR_TEXT_MAX];
    if (dtype_is_float(t->type) || t->type == DT_BOOL)
        return err_set(e, ERR_BAD_DATA, labels->place,
                       "Labels are class numbers, integers, not %s: save y.astype('int64').",
                       dtype_name(t->type));
    bool maps = t->rank > 1 && t->dims[0] == d->n_samples && tensor_count(t) > 0;
    if (tensor_count(t) != d->n_samples && !maps)
        return err_set(e, ERR_BAD_DATA, labels->place,
                       "There are %d samples, but the labels are %s: one integer, or one map of "
                       "integers, a sample, in the order of the file names, numbers in them by "
                       "value.",
                       d->n_samples, tensor_text(t, text));
    struct tensor *own = arena_copy(&d->arena, t, sizeof *t);
    d->labels = own;
    if (t->data)
        own->data = in_sample_order(d, t);
    return 0;
}

/* ---- matching ---- */

/* Input names of the data or the graph, for messages. */
static const char *list_names(const char *const *names, int n, char ret[NAMES_TEXT_MAX])
{
    struct buf b;
    buf_init(&b, NAMES_TEXT_MAX - 1);
    for (int i = 0; i < n; i++)
        if (buf_addf(&b, "%s\"%s\"", i ? ", " : "", names[i]))
            break;
    snprintf(ret, NAMES_TEXT_MAX, "%s", b.data);
    buf_done(&b);
    return ret;
}

static const char **graph_names(const struct graph *g, struct arena *a)
{
    const char **names = arena_array(a, (size_t)g->n_inputs + 1, sizeof *names);
    for (int i = 0; i < g->n_inputs; i++)
        names[i] = g->values[g->inputs[i]].name;
    return names;
}

static const char **data_names(const struct dataset *d, struct arena *a)
{
    const char **names = arena_array(a, (size_t)d->n_inputs, sizeof *names);
    for (int i = 0; i < d->n_inputs; i++)
        names[i] = d->inputs[i].name;
    return names;
}

/* The data's input with this name, raw or decoded; -1 if there is none. */
static int find_input(struct dataset *d, const char *name)
{
    for (int k = 0; k < d->n_inputs; k++)
        if (!strcmp(d->inputs[k].name, name))
            return k;
    for (int k = 0; k < d->n_inputs; k++)
        if (!strcmp(dataset_decode(&d->arena, d->inputs[k].name), name))
            return k;
    return -1;
}

static int missing_input(struct dataset *d, const struct graph *g, const char *name, struct err *e)
{
    char have[NAMES_TEXT_MAX];
    if (!*d->inputs[0].name)
        return err_set(e, ERR_BAD_DATA, name,
                       "The data does not say which of the model's %d inputs it is for: put the "
                       "files into one folder an input, <input name>/<sample>.npy.",
                       g->n_inputs);
    list_names(data_names(d, &d->arena), d->n_inputs, have);
    return err_set(e, ERR_BAD_DATA, name,
                   "The model's input \"%s\" has no data; the data is for %s. Name the folder as "
                   "the model names its input.",
                   name, have);
}

static int surplus_input(struct dataset *d, const struct graph *g, const bool *taken, struct err *e)
{
    char want[NAMES_TEXT_MAX];
    int k = 0;
    while (taken[k])
        k++;
    list_names(graph_names(g, &d->arena), g->n_inputs, want);
    return err_set(e, ERR_BAD_DATA, d->inputs[k].name,
                   "The model has no input \"%s\"; it has %s. Remove the folder.",
                   shown(d->inputs[k].name), want);
}

static int wrong_type(const struct dataset_file *f, const struct value *v, struct err *e)
{
    const char *want = dtype_name(v->type.type), *have = dtype_name(f->tensor.type);
    bool raw_image = f->tensor.type == DT_U8 && dtype_is_float(v->type.type);
    return err_set(e, ERR_BAD_DATA, f->place,
                   "The array is %s, the model's input \"%s\" is %s. %s save x.astype('%s').", have,
                   v->name, want,
                   raw_image ? "Do the preprocessing that the model was trained with (mean, scale, "
                               "layout), then"
                             : "Convert it:",
                   want);
}

static int wrong_shape(const struct dataset_file *f, const struct value *v, struct err *e)
{
    char have[TENSOR_TEXT_MAX], want[TENSOR_TEXT_MAX];
    bool no_batch = f->tensor.rank + 1 == v->type.rank;
    return err_set(e, ERR_BAD_DATA, f->place, "The array is %s, the model's input \"%s\" is %s.%s",
                   tensor_text(&f->tensor, have), v->name, tensor_text(&v->type, want),
                   no_batch ? " The shape includes the batch: save x[None]." : "");
}

static bool shape_fits(const struct tensor *have, const struct tensor *want)
{
    if (have->rank != want->rank)
        return false;
    for (int i = 0; i < have->rank; i++)
        if (want->dims[i] >= 0 && want->dims[i] != have->dims[i])
            return false;
    return true;
}

static int check_files(const struct dataset_file *files, int n, const struct value *v,
                       struct err *e)
{
    for (int i = 0; i < n; i++) {
        if (files[i].tensor.type != v->type.type)
            return wrong_type(&files[i], v, e);
        if (!shape_fits(&files[i].tensor, &v->type))
            return wrong_shape(&files[i], v, e);
    }
    return 0;
}

/* ret[k]: the data's input for the graph's input k. */
static int pair_inputs(struct dataset *d, const struct graph *g, int *ret, struct err *e)
{
    bool *taken = arena_array(&d->arena, (size_t)d->n_inputs, sizeof *taken);
    bool alone = d->n_inputs == 1 && g->n_inputs == 1 && !*d->inputs[0].name;
    for (int k = 0; k < g->n_inputs; k++) {
        const char *name = g->values[g->inputs[k]].name;
        ret[k] = alone ? 0 : find_input(d, name);
        if (ret[k] < 0)
            return missing_input(d, g, name, e);
        taken[ret[k]] = true;
    }
    return g->n_inputs < d->n_inputs ? surplus_input(d, g, taken, e) : 0;
}

int dataset_match(struct dataset *d, const struct graph *g, struct err *e)
{
    size_t n = (size_t)g->n_inputs, samples = (size_t)d->n_samples;
    if (!n)
        return err_set(e, ERR_BAD_DATA, "", "The model has no inputs, so it takes no data.");
    int *from = arena_array(&d->arena, n, sizeof *from);
    if (pair_inputs(d, g, from, e))
        return -1;
    struct dataset_input *in = arena_array(&d->arena, n, sizeof *in);
    struct dataset_file *files = arena_array(&d->arena, n * samples, sizeof *files);
    for (size_t k = 0; k < n; k++) {
        const struct value *v = &g->values[g->inputs[k]];
        memcpy(files + k * samples, d->files + (size_t)from[k] * samples, samples * sizeof *files);
        if (check_files(files + k * samples, d->n_samples, v, e))
            return -1;
        in[k] = d->inputs[from[k]];
        in[k].name = v->name;
    }
    d->files = files;
    d->inputs = in;
    d->n_inputs = g->n_inputs;
    return 0;
}

/* ---- digests ---- */

static void add_tensor(struct sha256 *h, const struct tensor *t)
{
    const char *type = dtype_name(t->type);
    sha256_field(h, type, strlen(type));
    sha256_field(h, t->dims, (size_t)t->rank * sizeof t->dims[0]);
    sha256_field(h, t->data, tensor_bytes(t));
}

/* The inputs' indices sorted by name: few, so by insertion. */
static void sorted_inputs(const struct dataset *d, int *ret)
{
    for (int k = 0; k < d->n_inputs; k++) {
        int j = k;
        for (; j > 0 && strcmp(d->inputs[ret[j - 1]].name, d->inputs[k].name) > 0; j--)
            ret[j] = ret[j - 1];
        ret[j] = k;
    }
}

void dataset_sample_digest(const struct dataset *d, int i, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    int *order = xcalloc((size_t)d->n_inputs, sizeof *order);
    sorted_inputs(d, order);
    for (int k = 0; k < d->n_inputs; k++) {
        struct tensor t;
        dataset_sample(d, i, order[k], &t);
        add_tensor(h, &t);
    }
    free(order);
    sha256_finish(h, ret);
}

void dataset_digest(const struct dataset *d, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    int *order = xcalloc((size_t)d->n_inputs, sizeof *order);
    sorted_inputs(d, order);
    for (int k = 0; k < d->n_inputs; k++)
        sha256_field(h, d->inputs[order[k]].name, strlen(d->inputs[order[k]].name));
    free(order);
    for (int i = 0; i < d->n_samples; i++) {
        struct digest s;
        dataset_sample_digest(d, i, &s);
        sha256_add(h, s.bytes, sizeof s.bytes);
    }
    if (d->labels)
        add_tensor(h, d->labels);
    sha256_finish(h, ret);
}
