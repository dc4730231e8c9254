/* The options of the debugger's tools: what can be checked without the model. */
#include <string.h>

#include "server/jobspec_options.h"

static int check_list(const json_t *v, const char *at, struct err *e)
{
    return json_is_null(v) ? err_set(e, ERR_INVALID, at, "This must be a list of names.")
                           : option_names(v, at, false, e);
}

static int check_names(const json_t *v, const char *at, struct err *e)
{
    return option_names(v, at, false, e);
}

static int check_nested(const json_t *v, const char *at, struct err *e)
{
    return option_names(v, at, true, e);
}

static int check_metric(const json_t *v, const char *at, struct err *e)
{
    return option_is_metric(v)
               ? 0
               : err_set(e, ERR_INVALID, at,
                         "A metric is cosine-similarity, mse, mae, mre, sqnr or chebyshev.");
}

static int check_axis(const json_t *v, const char *at, struct err *e)
{
    if (json_is_null(v) ||
        (json_is_integer(v) && json_integer_value(v) >= -12 && json_integer_value(v) < 12))
        return 0;
    return err_set(e, ERR_INVALID, at, "This must be an axis from -12 to 11, or null.");
}

static int check_number(const json_t *v, const char *at, struct err *e)
{
    return json_is_number(v) ? 0 : err_set(e, ERR_INVALID, at, "This must be a number.");
}

static int check_qtype(const json_t *v, const char *at, struct err *e)
{
    static const char *const known[] = {"int8", "int16", "float16", "float32"};
    for (int i = 0; json_is_string(v) && i < 4; i++)
        if (!strcmp(json_string_value(v), known[i]))
            return 0;
    return err_set(e, ERR_INVALID, at, "This must be int8, int16, float16 or float32.");
}

static int check_all_or_count(const json_t *v, const char *at, struct err *e)
{
    return json_is_null(v) ? 0 : option_count(v, at, e);
}

static int check_node_types(const json_t *v, const char *at, struct err *e)
{
    bool good = json_array_size(v) > 0;
    for (size_t i = 0; i < json_array_size(v); i++)
        good = good && option_is_node_type(json_array_get(v, i));
    return good ? 0
                : err_set(e, ERR_INVALID, at,
                          "This must be a list of \"node\", \"weight\", \"activation\".");
}

static json_t *cosine(void)
{
    return json_string("cosine-similarity");
}

static json_t *cosine_list(void)
{
    return json_pack("[s]", "cosine-similarity");
}

static json_t *near_one(void)
{
    return json_real(0.999);
}

static json_t *float32(void)
{
    return json_string("float32");
}

static json_t *ten(void)
{
    return json_integer(10);
}

static json_t *both(void)
{
    return json_pack("[s, s]", "weight", "activation");
}

const struct option distribution_options[] = {
    {"nodes_list", json_null, check_list}, {"data_num", option_one, option_count}, {0}};
const struct option channelwise_options[] = {{"nodes_list", json_null, check_list},
                                             {"axis", json_null, check_axis},
                                             {"data_num", option_one, option_count},
                                             {0}};
const struct option acc_error_options[] = {{"quantize_node", json_null, check_nested},
                                           {"non_quantize_node", json_null, check_nested},
                                           {"metric", cosine, check_metric},
                                           {"average_mode", json_false, option_flag},
                                           {0}};
const struct option sensitivity_analysis_options[] = {
    {"metric", cosine, check_metric},       {"pick_threshold", near_one, check_number},
    {"data_num", option_one, option_count}, {"sensitive_nodes", json_null, check_names},
    {"qtype", float32, check_qtype},        {0}};
const struct option tensor_options[] = {
    {"node_names", json_null, check_list}, {"data_num", option_one, option_count}, {0}};
const struct option samples_options[] = {{"metric", cosine, check_metric},
                                         {"samples", json_null, check_all_or_count},
                                         {"num", ten, option_count},
                                         {0}};
const struct option runall_options[] = {{"ns_metrics", cosine_list, option_metrics},
                                        {"output_node", json_null, check_names},
                                        {"node_type", both, check_node_types},
                                        {"data_num", option_one, option_count},
                                        {"verbose", json_false, option_flag},
                                        {"interested_nodes", json_null, check_nested},
                                        {"dis_nodes_list", json_null, check_names},
                                        {"cw_nodes_list", json_null, check_names},
                                        {"axis", json_null, check_axis},
                                        {"quantize_node", json_null, check_nested},
                                        {"non_quantize_node", json_null, check_nested},
                                        {"ae_metric", cosine, check_metric},
                                        {"average_mode", json_false, option_flag},
                                        {"pick_threshold", near_one, check_number},
                                        {"sensitive_nodes", json_null, check_names},
                                        {0}};
