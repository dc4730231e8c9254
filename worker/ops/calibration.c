/* HzCalibration (domain horizon): loading turns these nodes into a plan, so none is ever run. */
#include "worker/load/calibrations.h"

#include <string.h>

#include "worker/ops/op.h"

#define AT(field) offsetof(struct calibration_attrs, field)

static const struct attr_def attrs[] = {
    {.name = "qtype", .type = ATTR_STRING, .offset = AT(qtype), .required = true},
    {.name = "thresholds", .type = ATTR_FLOATS, .offset = AT(thresholds)},
    {.name = "scales", .type = ATTR_FLOATS, .offset = AT(scales)},
    {.name = "zero_point", .type = ATTR_INTS, .offset = AT(zero_point)},
    {.name = "axis", .type = ATTR_INT, .offset = AT(axis), .number = CALIBRATION_PER_TENSOR},
    {.name = "group", .type = ATTR_INT, .offset = AT(group), .number = 1},
    {.name = "constant", .type = ATTR_INT, .offset = AT(constant)},
    {.name = "switch", .type = ATTR_STRING, .offset = AT(on), .text = "ON"},
    {.name = "tensor_type", .type = ATTR_STRING, .offset = AT(tensor_type)},
    {.name = "info_strings", .type = ATTR_STRINGS, .offset = AT(info)},
    {.name = "dequantize_scale", .type = ATTR_FLOAT, .offset = AT(dequantize_scale)},
    {.name = "fold", .type = ATTR_FLOATS, .offset = AT(fold)},
    {0},
};

static int one_of(const char *name, const char *value, const char *const *known, struct err *e)
{
    for (const char *const *k = known; *k; k++)
        if (!strcmp(*k, value))
            return 0;
    return err_set(e, ERR_BAD_MODEL, "", "The %s of a calibration cannot be \"%.100s\".", name,
                   value);
}

static int check(const struct node *n, void *attr, struct err *e)
{
    static const char *const qtypes[] = {"int8", "int16", "float16", "float32", NULL};
    static const char *const switches[] = {"ON", "OFF", NULL};
    static const char *const kinds[] = {"feature", "weight", NULL};
    const struct calibration_attrs *c = attr;
    (void)n;
    if (one_of("qtype", c->qtype, qtypes, e) || one_of("switch", c->on, switches, e) ||
        (c->tensor_type && one_of("tensor_type", c->tensor_type, kinds, e)))
        return -1;
    for (size_t i = 0; i < c->thresholds.n; i++)
        if (c->thresholds.v[i] != c->thresholds.v[i])
            return err_set(e, ERR_BAD_MODEL, "", "A threshold is not a number.");
    return 0;
}

static int run(const struct op_ctx *c, struct err *e)
{
    return err_set(e, ERR_INTERNAL, c->node->name, "A calibration is part of a plan, not a node.");
}

const struct op ops_calibration[] = {
    {.type = CALIBRATION_OP,
     .domain = HORIZON,
     .since = 1,
     .min_in = 1,
     .max_in = 1,
     .layout = L_SAME,
     .attrs = attrs,
     .attr_size = sizeof(struct calibration_attrs),
     .check = check,
     .shape = op_shape_same,
     .run = run,
     .types = TYPES_ALL,
     .note = "read as a calibration of the plan"},
    {0},
};
