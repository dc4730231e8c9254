/* Marches as JSON: the rows of their tables, and the numerics they share. */
#include "worker/quant/march.h"

static json_t *port_json(int port)
{
    if (port == MARCH_OUT)
        return json_string("output");
    return port == MARCH_REST ? json_string("inputs") : json_sprintf("input%d", port);
}

static json_t *row_json(const struct march_row *r)
{
    json_t *allowed = json_array();
    for (int q = Q_INT8; q <= Q_INT16; q++)
        if (r->allowed & 1u << q)
            json_array_append_new(allowed, json_string(qtype_name((enum qtype)q)));
    return json_pack("{s:s, s:o, s:o, s:b, s:b, s:b, s:s, s:s}", "op_type", r->op, "port",
                     port_json(r->port), "allowed", allowed, "if_input0_int8", r->reads_int8, "ec",
                     r->may_compensate, "conditional", r->when != NULL, "rule", r->rule, "text",
                     r->text);
}

static json_t *note_json(const struct march_note *n)
{
    return json_pack("{s:s, s:s, s:b, s:s, s:s}", "op_type", n->op, "qtype", qtype_name(n->qtype),
                     "conditional", n->when != NULL, "rule", n->rule, "text", n->text);
}

/* Spec §2: scales and integer ranges by type. */
static json_t *numerics_json(void)
{
    return json_pack("[{s:s, s:i, s:i, s:s}, {s:s, s:i, s:i, s:s}, {s:s, s:i, s:i, s:s}, "
                     "{s:s, s:n, s:n, s:s}, {s:s, s:n, s:n, s:s}]",
                     "qtype", "int8", "min", -128, "max", 127, "scale", "threshold / 127", "qtype",
                     "int8 affine", "min", -128, "max", 127, "scale", "(hi - lo) / 255", "qtype",
                     "int16", "min", -32768, "max", 32767, "scale", "threshold / 32767", "qtype",
                     "float16", "min", "max", "scale", "none: rounded to float16", "qtype",
                     "float32", "min", "max", "scale", "none: passed through");
}

static json_t *march_json(const struct march *m)
{
    json_t *rules = json_array(), *notes = json_array();
    for (const struct march_row *r = m->rows; r->op; r++)
        json_array_append_new(rules, row_json(r));
    for (const struct march_note *n = m->notes; n->op; n++)
        json_array_append_new(notes, note_json(n));
    return json_pack("{s:s, s:b, s:s, s:{s:i, s:i}, s:o, s:o, s:o}", "march", m->name, "default",
                     m == marches[0], "text", m->text, "limits", "inputs_and_outputs", m->max_ports,
                     "rank", m->max_rank, "numerics", numerics_json(), "rules", rules, "notes",
                     notes);
}

json_t *marches_json(void)
{
    json_t *list = json_array();
    for (int i = 0; marches[i]; i++)
        json_array_append_new(list, march_json(marches[i]));
    return list;
}
