/* The effective-precision ledger: one line a quantizable port, and one a node that runs in float.
 */
#include <string.h>

#include "worker/quant/compensate.h"
#include "worker/quant/place.h"
#include "worker/quant/resolve.h"

static struct ledger_line *add_line(const struct resolving *s, struct ledger *l,
                                    struct ledger_line line)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        struct ledger_line *more = arena_array(s->arena, (size_t)l->cap, sizeof *more);
        if (l->n)
            memcpy(more, l->lines, (size_t)l->n * sizeof *more);
        l->lines = more;
    }
    l->lines[l->n] = line;
    return &l->lines[l->n++];
}

static bool allows(const struct march_row *row, enum qtype q)
{
    return q == Q_FLOAT16 || q == Q_FLOAT32 || !row || row->allowed & 1u << q;
}

/* Why a port got another type than it asked for. */
static void explain(const struct resolving *s, struct ledger_line *line, int placed, bool weight)
{
    const struct march_row *row = march_row(s->march, s->g, &s->g->nodes[line->node], line->input);
    line->decided_by = "constraint";
    if (!allows(row, line->requested)) {
        line->rule = row->rule;
        line->text = row->text;
    } else if (placed >= 0 && s->cause[placed].rule) {
        line->rule = s->cause[placed].rule;
        line->text = s->cause[placed].text;
    } else if (weight && line->effective == Q_INT8) {
        line->rule = "weight-int8";
        line->text = "integer requests leave weights at int8";
    } else {
        line->decided_by = "sharing";
        line->rule = "sharing";
        line->text = "another request for the same calibration is finer or more precise";
    }
}

static void add_notes(const struct resolving *s, struct ledger_line *line)
{
    const struct node *n = &s->g->nodes[line->node];
    const struct march_note *note =
        line->input == 0 ? march_note(s->march, s->g, n, line->effective) : NULL;
    if (line->rule)
        return;
    if (line->effective == Q_FLOAT16 || line->effective == Q_FLOAT32) {
        line->rule = "leaves-bpu";
        line->text = "in float16 or float32 the operator leaves the BPU";
    } else if (note) {
        line->rule = note->rule;
        line->text = note->text;
    }
}

static bool asks_ec(const struct quant_config *c, int node, int input)
{
    for (int i = 0; i < c->n_requests; i++)
        if (c->requests[i].compensate && c->requests[i].node == node &&
            c->requests[i].input == input)
            return true;
    return false;
}

static void tell_compensation(const struct resolving *s, const struct resolved *r,
                              struct ledger_line *line)
{
    line->compensated = true;
    line->decided_by = "node";
    line->rule = "ec";
    line->text = "int8 here, and a second int8 operator for what int8 leaves over";
    if (r->plan->port[s->g->nodes[line->node].first_port + line->input] < 0) {
        line->rule = "ec-no-effect";
        line->text = "the value was quantized further up: int8 leaves nothing over here";
    } else if (!compensate_lifts_output(s->g, line->node)) {
        line->rule = "ec-input-only";
        line->text = "the input is compensated; the output interpolates and stays int8, whose loss "
                     "cannot be compensated";
    }
}

static void port_line(const struct resolving *s, const struct resolved *r, const int *placed,
                      int node, int input, struct ledger *l)
{
    const struct wish w = s->port[s->g->nodes[node].first_port + input];
    struct ledger_line line = {.node = node,
                               .input = input,
                               .calib = plan_find_input(r->plan, node, input),
                               .requested = w.qtype,
                               .effective = w.qtype,
                               .decided_by = level_name(w.level)};
    if (asks_ec(s->config, node, input)) {
        line.effective = line.calib < 0 ? w.qtype : r->plan->calibs[line.calib].qtype;
        tell_compensation(s, r, &line);
        add_line(s, l, line);
        return;
    }
    if (line.calib < 0) {
        line.rule = "fused";
        line.text = "nothing stands here: the operators around are fused, or run in float";
        add_line(s, l, line);
        return;
    }
    const struct calib *k = &r->plan->calibs[line.calib];
    line.effective = k->qtype;
    if (line.effective != line.requested)
        explain(s, &line, placed[line.calib], k->kind == CALIB_WEIGHT);
    add_notes(s, &line);
    add_line(s, l, line);
}

static bool computes_floats(const struct graph *g, const struct node *n)
{
    if (n->op && n->op->traits & T_VALUEFREE)
        return false;
    for (int o = 0; o < n->n_out; o++)
        if (n->out[o] != VALUE_NONE && g->values[n->out[o]].type.type == DT_F32)
            return true;
    return false;
}

static void output_lines(const struct resolving *s, const struct resolved *r, const int *placed,
                         struct ledger *l)
{
    for (int i = 0; i < s->config->n_requests; i++) {
        const struct request *q = &s->config->requests[i];
        int k = q->input == REQUEST_OUTPUT ? plan_find_output(r->plan, q->node) : -1;
        if (k < 0)
            continue;
        struct ledger_line line = {.node = q->node,
                                   .input = REQUEST_OUTPUT,
                                   .calib = k,
                                   .requested = q->qtype,
                                   .effective = r->plan->calibs[k].qtype,
                                   .decided_by = level_name(q->level)};
        if (line.effective != line.requested) {
            bool caused = placed[k] >= 0 && s->cause[placed[k]].rule;
            line.decided_by = caused ? "constraint" : "sharing";
            line.rule = caused ? s->cause[placed[k]].rule : "sharing";
            line.text = caused ? s->cause[placed[k]].text
                               : "another request for the same calibration decides";
        }
        add_line(s, l, line);
    }
}

/* What model_output_type asked for and got, a line a graph output. */
static void end_lines(const struct resolving *s, const struct resolved *r, const int *placed,
                      struct ledger *l)
{
    for (int i = 0; i < s->g->n_outputs; i++) {
        const struct value *v = &s->g->values[s->g->outputs[i]];
        int k = r->plan->output[i];
        if (v->producer < 0 || v->type.type != DT_F32)
            continue;
        struct ledger_line line = {
            .node = v->producer,
            .input = REQUEST_OUTPUT,
            .calib = k,
            .requested = s->config->output,
            .effective = k < 0 ? Q_FLOAT32 : r->plan->calibs[k].qtype,
            .decided_by = level_name(LEVEL_DEFAULT),
            .rule = "model-output",
            .text = "model_output_type: the graph output is taken behind this calibration"};
        if (k < 0) {
            line.decided_by = "constraint";
            line.rule = "cpu";
            line.text = "the operator runs on the CPU: the graph output stays in float";
        } else if (line.effective != line.requested) {
            bool caused = s->cause[placed[k]].rule;
            line.decided_by = caused ? "constraint" : "node";
            line.rule = caused ? s->cause[placed[k]].rule : "output-type";
            line.text = caused ? s->cause[placed[k]].text : "the node's OutputType is finer";
        }
        add_line(s, l, line);
    }
}

void ledger_make(const struct resolving *s, const struct resolved *r, const int *placed,
                 struct ledger *ret)
{
    for (int n = 0; n < s->g->n_nodes; n++) {
        const struct node *node = &s->g->nodes[n];
        if (s->off_device[n] && computes_floats(s->g, node))
            add_line(s, ret,
                     (struct ledger_line){.node = n,
                                          .input = REQUEST_ALL,
                                          .calib = -1,
                                          .requested = s->config->all,
                                          .effective = Q_FLOAT32,
                                          .decided_by = "constraint",
                                          .rule = "cpu",
                                          .text = "the march has no such operator: it runs on the "
                                                  "CPU, in float"});
        for (int i = 0; !s->off_device[n] && i < node->n_in; i++)
            if (place_is_port(s->g, node, i))
                port_line(s, r, placed, n, i, ret);
    }
    output_lines(s, r, placed, ret);
    if (s->config->output_given)
        end_lines(s, r, placed, ret);
}

static json_t *text_or_null(const char *s)
{
    return s ? json_string(s) : json_null();
}

static json_t *line_json(const struct ledger_line *l, const struct plan *p)
{
    const struct graph *g = p->graph;
    const struct node *n = &g->nodes[l->node];
    json_t *o = json_object();
    json_object_set_new(o, "node", json_string(n->name));
    json_object_set_new(o, "op_type", json_string(n->op_type));
    json_object_set_new(o, "input", l->input >= 0 ? json_integer(l->input) : json_null());
    json_object_set_new(o, "output", json_boolean(l->input == REQUEST_OUTPUT));
    json_object_set_new(o, "tensor",
                        l->input >= 0 ? json_string(g->values[n->in[l->input]].name) : json_null());
    json_object_set_new(o, "calibration",
                        l->calib >= 0 ? json_string(p->calibs[l->calib].name) : json_null());
    json_object_set_new(o, "requested",
                        json_string(l->compensated ? "ec" : qtype_name(l->requested)));
    bool known = l->calib >= 0 || l->input == REQUEST_ALL;
    json_object_set_new(o, "effective",
                        known ? json_string(qtype_name(l->effective)) : json_null());
    json_object_set_new(o, "decided_by", json_string(l->decided_by));
    json_object_set_new(o, "rule", text_or_null(l->rule));
    json_object_set_new(o, "text", text_or_null(l->text));
    return o;
}

json_t *ledger_json(const struct ledger *l, const struct plan *p)
{
    json_t *list = json_array();
    for (int i = 0; i < l->n; i++)
        json_array_append_new(list, line_json(&l->lines[i], p));
    return list;
}
