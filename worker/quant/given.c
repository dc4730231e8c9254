#include "worker/quant/given.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct given_one *)a)->name, ((const struct given_one *)b)->name);
}

static struct given *new_given(struct arena *a, size_t most)
{
    struct given *g = arena_alloc(a, sizeof *g);
    g->list = arena_array(a, most + 1, sizeof *g->list);
    g->n = 0;
    return g;
}

static void sort(struct given *g)
{
    qsort(g->list, (size_t)g->n, sizeof *g->list, by_name);
}

const struct given *given_from_plan(const struct plan *p, struct arena *a)
{
    struct given *g = new_given(a, (size_t)p->n_calibs);
    for (int i = 0; i < p->n_calibs; i++) {
        const struct calib *k = &p->calibs[i];
        if (k->n_thresholds)
            g->list[g->n++] =
                (struct given_one){k->name, k->n_thresholds, k->thresholds, k->affine, k->axis};
    }
    sort(g);
    return g;
}

static int read_numbers(const json_t *v, const char *at, struct arena *a, struct given_one *ret,
                        struct err *e)
{
    size_t n = json_array_size(v);
    float *t = arena_array(a, n + 1, sizeof *t);
    if (n == 0)
        return err_set(e, ERR_INVALID, at, "This must be a list of one threshold or more.");
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_number(x))
            return err_set(e, ERR_INVALID, at, "Element %zu is no number.", i);
        t[i] = (float)json_number_value(x);
    }
    ret->thresholds = t;
    ret->n = (int)n;
    return 0;
}

static const struct json_field one_fields[] = {
    {"name", JSON_K_STRING, 1, 1, 1 << 16},
    {"thresholds", JSON_K_ARRAY, 1, 1, 1e7},
    {"affine", JSON_K_BOOL, 0, 0, 0},
    {"axis", JSON_K_INT, 0, 0, 15},
    {"tensor", JSON_K_STRING, 0, 0, 0},
    {"tensor_type", JSON_K_STRING, 0, 0, 0},
    {"qtype", JSON_K_STRING, 0, 0, 0},
    {"switch", JSON_K_STRING, 0, 0, 0},
    {0},
};

static int read_one(const json_t *v, const char *at, struct arena *a, struct given_one *ret,
                    struct err *e)
{
    if (json_check(v, one_fields, at, e) ||
        read_numbers(json_object_get(v, "thresholds"), arena_printf(a, "%s/thresholds", at), a, ret,
                     e))
        return -1;
    ret->name = arena_strdup(a, json_str(v, "name", ""));
    ret->affine = json_is_true(json_object_get(v, "affine"));
    ret->axis = (int)json_int(v, "axis", -1);
    return 0;
}

int given_from_json(const json_t *list, const char *at, struct arena *a, const struct given **ret,
                    struct err *e)
{
    struct given *g = new_given(a, json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_one(json_array_get(list, i), arena_printf(a, "%s/%zu", at, i), a, &g->list[g->n++],
                     e))
            return -1;
    sort(g);
    for (int i = 1; i < g->n; i++)
        if (!strcmp(g->list[i].name, g->list[i - 1].name))
            return err_set(e, ERR_INVALID, at, "\"%.200s\" is there twice.", g->list[i].name);
    *ret = g;
    return 0;
}

const struct given_one *given_find(const struct given *g, const char *name)
{
    struct given_one key = {.name = name};
    return g ? bsearch(&key, g->list, (size_t)g->n, sizeof *g->list, by_name) : NULL;
}
