/* ptq check: what a configuration would give, as tables. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/http.h"
#include "cli/show.h"
#include "common/json.h"

enum { NAME_SHOWN = 50, NAME_TAIL = 47, PERCENT = 100 };

/* ---- tables ---- */

static void begin_table(struct table *t, struct arena *a, const char *const *head, int columns,
                        size_t rows)
{
    *t = (struct table){.n_columns = columns, .n_rows = 1};
    t->rows = arena_array(a, rows + 1, sizeof *t->rows);
    for (int i = 0; i < columns; i++)
        t->rows[0][i] = head[i];
}

static const char *short_name(struct arena *a, const char *name, bool full)
{
    size_t len = strlen(name);
    return full || len <= NAME_SHOWN ? name : arena_printf(a, "...%s", name + len - NAME_TAIL);
}

static const char *port_text(struct arena *a, const json_t *line)
{
    const json_t *input = json_object_get(line, "input");
    if (json_is_integer(input))
        return arena_printf(a, "input%d", (int)json_integer_value(input));
    return json_is_true(json_object_get(line, "output")) ? "output" : "--";
}

static void show_ports(struct arena *a, const json_t *ledger, bool full)
{
    static const char *const head[] = {"Node",      "Type",       "Port", "Requested",
                                       "Effective", "Decided by", "Rule"};
    struct table t;
    size_t i;
    json_t *line;
    begin_table(&t, a, head, 7, json_array_size(ledger));
    json_array_foreach(ledger, i, line)
    {
        const char **row = t.rows[t.n_rows++];
        row[0] = short_name(a, json_str(line, "node", ""), full);
        row[1] = json_str(line, "op_type", "");
        row[2] = port_text(a, line);
        row[3] = json_str(line, "requested", "");
        row[4] = json_str(line, "effective", "--");
        row[5] = json_str(line, "decided_by", "");
        row[6] = json_str(line, "rule", "");
    }
    puts("Ports:");
    table_plain(&t);
}

static void show_rules(struct arena *a, const json_t *rules)
{
    static const char *const head[] = {"Rule", "Ports", "What it says"};
    struct table t;
    size_t i;
    json_t *r;
    if (!json_array_size(rules))
        return;
    begin_table(&t, a, head, 3, json_array_size(rules));
    json_array_foreach(rules, i, r)
    {
        const char **row = t.rows[t.n_rows++];
        row[0] = json_str(r, "rule", "");
        row[1] = arena_printf(a, "%d", (int)json_int(r, "ports", 0));
        row[2] = json_str(r, "text", "");
    }
    puts("\nRules:");
    table_plain(&t);
}

static void show_cost(struct arena *a, const json_t *cost)
{
    static const char *const head[] = {"Precision", "Nodes", "MACs", "Share"};
    static const char *const order[] = {"int8",    "int16", "ec",         "float16",
                                        "float32", "cpu",   "unquantized"};
    const json_t *by = json_object_get(cost, "precisions"),
                 *relative = json_object_get(cost, "relative");
    struct table t;
    begin_table(&t, a, head, 4, sizeof order / sizeof *order);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        const json_t *p = json_object_get(by, order[i]);
        const char **row = t.rows[t.n_rows];
        if (!json_int(p, "nodes", 0))
            continue;
        row[0] = order[i];
        row[1] = arena_printf(a, "%d", (int)json_int(p, "nodes", 0));
        row[2] = arena_printf(a, "%lld", (long long)json_int(p, "macs", 0));
        row[3] = arena_printf(a, "%.2f %%", PERCENT * json_num(p, "share", 0));
        t.n_rows++;
    }
    puts("\nCost:");
    table_plain(&t);
    if (json_is_number(relative))
        printf("%.3f times the cost of int8 alone (int16 counted %g times)\n",
               json_number_value(relative), json_num(cost, "int16_factor", 0));
    if (json_int(cost, "unknown_nodes", 0))
        printf("%d nodes are not counted: their shapes are not known\n",
               (int)json_int(cost, "unknown_nodes", 0));
}

void show_check(const json_t *result, bool full)
{
    struct arena a = ARENA_INIT;
    size_t i;
    json_t *w;
    show_ports(&a, json_object_get(result, "ledger"), full);
    show_rules(&a, json_object_get(result, "rules"));
    show_cost(&a, json_object_get(result, "cost"));
    printf("March %s, %zu calibration method%s to try\n", json_str(result, "march", ""),
           json_array_size(json_object_get(result, "candidates")),
           json_array_size(json_object_get(result, "candidates")) == 1 ? "" : "s");
    json_array_foreach(json_object_get(result, "warnings"), i, w)
        printf("warning: %s\n", json_string_value(w));
    arena_done(&a);
}

/* ---- the command ---- */

/* As the server takes it: the job's request without its kind and options. */
static json_t *question(struct cli *c, const char *model, struct err *e)
{
    json_t *req = job_request(c, "check-config", e);
    if (!req)
        return NULL;
    json_object_del(req, "kind");
    json_object_del(req, "options");
    json_object_set_new(req, "model", json_string(model));
    if (c->opt.march)
        json_object_set_new(req, "march", json_string(c->opt.march));
    return req;
}

int cmd_check(struct cli *c, struct err *e)
{
    const char *model;
    json_t *answer = NULL;
    if (c->opt.local)
        return local_run(c, "check-config", e);
    if (upload_model(c, c->words[0], &model, e))
        return cli_fail(e);
    json_t *req = question(c, model, e);
    int rc = !req || remote_call(cli_remote(c), "POST", "/v1/configs:check", req, &answer, e);
    json_decref(req);
    int status = rc ? cli_fail(e) : job_conclude(c, "check-config", answer, NULL);
    json_decref(answer);
    return status;
}
