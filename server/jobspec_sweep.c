/* The options of a sensitivity sweep: what can be checked without the model. */
#include <string.h>

#include "server/jobspec_options.h"

/* As worker/quant/metrics.c and worker/quant/candidates.c know them. */
static const char *const metrics[] = {"cosine-similarity", "mse", "mae", "mre", "sqnr",
                                      "chebyshev",         NULL};
static const char *const node_types[] = {"node", "weight", "activation", NULL};

static bool is_one_of(const json_t *v, const char *const *known)
{
    const char *s = json_string_value(v);
    for (; s && *known; known++)
        if (!strcmp(s, *known))
            return true;
    return false;
}

bool option_is_metric(const json_t *v)
{
    return is_one_of(v, metrics);
}

bool option_is_node_type(const json_t *v)
{
    return is_one_of(v, node_types);
}

static int place_in(struct err *e, const char *at, size_t i, const char *text)
{
    char place[ERR_AT_MAX];
    snprintf(place, sizeof place, "%s/%zu", at, i);
    return err_set(e, ERR_INVALID, place, "%s", text);
}

int option_metrics(const json_t *v, const char *at, struct err *e)
{
    if (!json_is_array(v) || !json_array_size(v))
        return err_set(e, ERR_INVALID, at, "This must be a list of metrics.");
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (!is_one_of(json_array_get(v, i), metrics))
            return place_in(e, at, i,
                            "A metric is cosine-similarity, mse, mae, mre, sqnr or chebyshev.");
        for (size_t j = 0; j < i; j++)
            if (json_equal(json_array_get(v, i), json_array_get(v, j)))
                return place_in(e, at, i, "This metric is named twice.");
    }
    return 0;
}

static int check_node_type(const json_t *v, const char *at, struct err *e)
{
    if (is_one_of(v, node_types))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be \"node\", \"weight\" or \"activation\".");
}

/* Names, or with `nested` lists of names as well; null: all. */
int option_names(const json_t *v, const char *at, bool nested, struct err *e)
{
    char place[ERR_AT_MAX];
    if (json_is_null(v))
        return 0;
    if (!json_is_array(v) || !json_array_size(v))
        return err_set(e, ERR_INVALID, at, "This must be a list of names, or null.");
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        snprintf(place, sizeof place, "%s/%zu", at, i);
        if (nested && json_is_array(one)) {
            if (option_names(one, place, false, e))
                return -1;
        } else if (!json_is_string(one) || !json_string_length(one)) {
            return place_in(e, at, i, "This must be a name.");
        }
    }
    return 0;
}

static int check_outputs(const json_t *v, const char *at, struct err *e)
{
    return option_names(v, at, false, e);
}

static int check_interested(const json_t *v, const char *at, struct err *e)
{
    return option_names(v, at, true, e);
}

int option_count(const json_t *v, const char *at, struct err *e)
{
    if (json_is_integer(v) && json_integer_value(v) >= 1)
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be an integer from 1 on.");
}

static int check_bytes(const json_t *v, const char *at, struct err *e)
{
    return json_is_null(v) ? 0 : option_count(v, at, e);
}

int option_flag(const json_t *v, const char *at, struct err *e)
{
    if (json_is_boolean(v))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be true or false.");
}

static json_t *cosine(void)
{
    return json_pack("[s]", "cosine-similarity");
}

static json_t *node(void)
{
    return json_string("node");
}

json_t *option_one(void)
{
    return json_integer(1);
}

const struct option sensitivity_options[] = {{"metrics", cosine, option_metrics},
                                             {"node_type", node, check_node_type},
                                             {"outputs", json_null, check_outputs},
                                             {"data_num", option_one, option_count},
                                             {"interested_nodes", json_null, check_interested},
                                             {"verbose", json_false, option_flag},
                                             {"naive", json_false, option_flag},
                                             {"fast", json_false, option_flag},
                                             {"keep_bytes", json_null, check_bytes},
                                             {"memory", json_null, check_bytes},
                                             {0}};
