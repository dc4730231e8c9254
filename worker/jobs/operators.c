#include "worker/jobs/operators.h"

#include <stdlib.h>
#include <string.h>

#include "worker/ops/op.h"

enum { OPERATORS_MAX = 1024 };

static int by_name(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a, *y = *(const struct op *const *)b;
    int order = strcmp(x->domain, y->domain);
    order = order ? order : strcmp(x->type, y->type);
    return order ? order : x->since - y->since;
}

/* All rows in order; returns how many. */
static size_t sorted(const struct op *ret[OPERATORS_MAX])
{
    size_t n = 0;
    for (const struct op *const *f = op_families; *f; f++)
        for (const struct op *op = *f; op->type && n < OPERATORS_MAX; op++)
            ret[n++] = op;
    qsort(ret, n, sizeof *ret, by_name);
    return n;
}

static const char *domain_of(const struct op *op)
{
    return *op->domain ? op->domain : "ai.onnx";
}

/* ---- for people ---- */

static const struct {
    unsigned types;
    const char *name;
} sets[] = {{TYPES_ALL, "all"},
            {TYPES_NUMBER, "numbers"},
            {TYPES_FLOAT, "floats"},
            {TYPES_INT, "integers"},
            {TYPES_SIGNED, "signed integers"},
            {TYPES_UNSIGNED, "unsigned integers"}};

static void add_types(struct buf *b, unsigned types)
{
    const char *between = "";
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if ((types & sets[i].types) == sets[i].types) {
            buf_addf(b, "%s%s", between, sets[i].name);
            types &= ~sets[i].types;
            between = ", ";
        }
    for (int t = 0; t < DT_COUNT; t++)
        if (types & 1u << t) {
            buf_addf(b, "%s%s", between, dtype_name((enum dtype)t));
            between = ", ";
        }
}

static void add_row(struct buf *b, const struct op *op)
{
    buf_addf(b, "| %s | %s | %d", op->type, domain_of(op), op->since);
    if (op->until && op->until != op->since)
        buf_addf(b, "-%d", op->until);
    else if (!op->until)
        buf_adds(b, " on");
    buf_adds(b, " | ");
    add_types(b, op->types);
    buf_addf(b, " | %s | %s |\n", op->traits & T_QUANT ? "yes" : "", op->note ? op->note : "");
}

static const char intro[] =
    "# The operators that models may have\n"
    "\n"
    "Made from the rows of worker/ops by `make docs`; `GET /v1/operators` gives the same. A model\n"
    "with any other operator is refused when it is read, all of them named at once.\n"
    "\n"
    "*Opsets* are versions of the operator's domain: a row stands for every version of the\n"
    "specification in its range, \"on\" for the newest as well. *Types* are those of the first\n"
    "input: floats are float16, float32 and float64, integers those of 8 to 64 bits, numbers "
    "both,\n"
    "all has bool too; strings, sequences, optionals, bfloat16, float8 and what is smaller are "
    "not\n"
    "computed. *Quantizable* operators get calibrations. Operators of the domain `horizon` come "
    "of\n"
    "the optimizer, or of calibrated models.\n"
    "\n"
    "| operator | domain | opsets | types | quantizable | limits |\n"
    "|---|---|---|---|---|---|\n";

void operators_markdown(struct buf *ret)
{
    const struct op *list[OPERATORS_MAX];
    size_t n = sorted(list);
    buf_adds(ret, intro);
    for (size_t i = 0; i < n; i++)
        add_row(ret, list[i]);
}

/* ---- for programs ---- */

static json_t *one_json(const struct op *op)
{
    json_t *types = json_array();
    for (int t = 0; t < DT_COUNT; t++)
        if (op->types & 1u << t)
            json_array_append_new(types, json_string(dtype_name((enum dtype)t)));
    return json_pack("{s:s, s:s, s:i, s:o, s:o, s:b, s:s?}", "domain", domain_of(op), "op_type",
                     op->type, "since", op->since, "until",
                     op->until ? json_integer(op->until) : json_null(), "types", types,
                     "quantizable", (op->traits & T_QUANT) != 0, "limits", op->note);
}

json_t *operators_json(void)
{
    const struct op *list[OPERATORS_MAX];
    size_t n = sorted(list);
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, one_json(list[i]));
    return all;
}
