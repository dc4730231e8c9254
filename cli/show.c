#include "cli/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/json.h"

enum { BAR = 24, PERCENT = 100, LEDGER_SHOWN = 10 };

/* ---- progress ---- */

void progress_end(struct progress *p)
{
    if (p->on_line)
        fputc('\n', stderr);
    p->on_line = false;
}

static void draw_bar(double part)
{
    int full = (int)(part * BAR + 0.5);
    fputc('[', stderr);
    for (int i = 0; i < BAR; i++)
        fputc(i < full ? '#' : '-', stderr);
    fprintf(stderr, "] %3.0f%%", part * PERCENT);
}

static bool begin_line(struct progress *p, const char *phase, bool ended)
{
    bool tty = isatty(STDERR_FILENO), fresh = strcmp(p->phase, phase) != 0;
    if (fresh)
        progress_end(p);
    snprintf(p->phase, sizeof p->phase, "%s", phase);
    if (tty)
        fputs("\r\033[K", stderr);
    p->on_line = tty && !ended;
    return tty || fresh || ended;
}

void progress_jobs(struct progress *p, const json_t *data)
{
    const char *phase = json_str(data, "phase", "");
    double done = json_num(data, "done", 0), total = json_num(data, "total", 0);
    double rate = json_num(data, "rate", 0), eta = json_num(data, "eta_s", 0);
    bool ended = total > 0 && done >= total;
    if (p->ended && ended && !strcmp(p->phase, phase))
        return; /* told already */
    p->ended = ended;
    if (!begin_line(p, phase, ended))
        return;
    fprintf(stderr, "%-12s ", phase);
    if (total > 0 && isatty(STDERR_FILENO))
        draw_bar(done / total);
    fprintf(stderr, " %.0f/%.0f", done, total);
    if (rate > 0 && !ended)
        fprintf(stderr, "  %.1f/s  %.0f s left", rate, eta);
    if (!p->on_line)
        fputc('\n', stderr);
    fflush(stderr);
}

void progress_bytes(void *progress, uint64_t done, uint64_t total)
{
    struct progress *p = progress;
    if (!total || !isatty(STDERR_FILENO))
        return;
    begin_line(p, "transfer", false);
    fprintf(stderr, "%-12s ", p->phase);
    draw_bar((double)done / (double)total);
    fprintf(stderr, " %.1f/%.1f MB", (double)done / 1e6, (double)total / 1e6);
    fflush(stderr);
}

/* ---- tables ---- */

static size_t column_width(const struct table *t, int column)
{
    size_t width = 0;
    for (int r = 0; r < t->n_rows; r++) {
        size_t n = strlen(t->rows[r][column]);
        width = n > width ? n : width;
    }
    return width;
}

static void fill(char c, size_t n)
{
    while (n--)
        putchar(c);
}

static void rule(const struct table *t, char c)
{
    size_t width = 0;
    for (int i = 0; i < t->n_columns; i++)
        width += column_width(t, i) + 2;
    fill(c, width);
    putchar('\n');
}

void table_plain(const struct table *t)
{
    rule(t, '=');
    for (int r = 0; r < t->n_rows; r++) {
        for (int i = 0; i < t->n_columns; i++)
            printf("%-*s  ", (int)column_width(t, i), t->rows[r][i]);
        putchar('\n');
        if (r == 0)
            rule(t, '-');
    }
}

static void box_rule(const struct table *t)
{
    for (int i = 0; i < t->n_columns; i++) {
        putchar('+');
        fill('-', column_width(t, i) + 2);
    }
    puts("+");
}

/* As Python's str.center() does: what cannot be halved goes to the right of odd texts and to the
 * left of even ones. */
static void centred(const char *text, size_t width)
{
    size_t n = strlen(text), spare = width - n;
    size_t left = spare / 2 + (spare % 2 && n % 2 == 0);
    putchar(' ');
    fill(' ', left);
    fputs(text, stdout);
    fill(' ', spare - left + 1);
}

void table_boxed(const struct table *t)
{
    box_rule(t);
    for (int r = 0; r < t->n_rows; r++) {
        for (int i = 0; i < t->n_columns; i++) {
            putchar('|');
            centred(t->rows[r][i], column_width(t, i));
        }
        puts("|");
        if (r == 0)
            box_rule(t);
    }
    box_rule(t);
}

/* ---- results ---- */

void show_json(const json_t *v)
{
    char *text = json_dumps(v, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    puts(text ? text : "null");
    free(text);
}

/* Metric keys of a result and their heads in the first table. */
static const struct {
    const char *key, *head;
} metrics[] = {{"cosine-similarity", "Cosine Similarity"},
               {"l1", "L1 Distance"},
               {"l2", "L2 Distance"},
               {"chebyshev", "Chebyshev Distance"}};
enum { N_METRICS = sizeof metrics / sizeof metrics[0] };

/* Six decimals; what has no number (NaN, infinity) is null in JSON. */
static const char *six(struct arena *a, const json_t *v)
{
    return json_is_number(v) ? arena_printf(a, "%.6f", json_number_value(v)) : "nan";
}

static void init_table(struct table *t, struct arena *a, int n_columns, size_t max_rows)
{
    *t = (struct table){.n_columns = n_columns};
    t->rows = arena_array(a, max_rows + 1, sizeof *t->rows);
}

/* One sample: each output's four figures. */
static void show_first_sample(struct arena *a, const json_t *list)
{
    struct table t;
    init_table(&t, a, N_METRICS + 1, json_array_size(list));
    t.rows[0][0] = "Output";
    for (int m = 0; m < N_METRICS; m++)
        t.rows[0][m + 1] = metrics[m].head;
    t.n_rows = 1;
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
    {
        t.rows[t.n_rows][0] = json_str(o, "output", "");
        for (int m = 0; m < N_METRICS; m++)
            t.rows[t.n_rows][m + 1] = six(a, json_object_get(o, metrics[m].key));
        t.n_rows++;
    }
    puts("The quantized model output:");
    table_plain(&t);
}

/* All samples: the least, the largest and the mean of each figure. */
static void show_all_samples(struct arena *a, const json_t *list)
{
    static const char *const head[] = {"Output", "Metric", "Min", "Max", "Avg"};
    struct table t;
    init_table(&t, a, 5, N_METRICS * json_array_size(list));
    memcpy(t.rows[0], head, sizeof head);
    t.n_rows = 1;
    for (int m = 0; m < N_METRICS; m++) {
        size_t i;
        json_t *o;
        json_array_foreach(list, i, o)
        {
            const json_t *v = json_object_get(json_object_get(o, "metrics"), metrics[m].key);
            const char **row = t.rows[t.n_rows++];
            row[0] = json_str(o, "output", "");
            row[1] = metrics[m].key;
            row[2] = six(a, json_object_get(v, "min"));
            row[3] = six(a, json_object_get(v, "max"));
            row[4] = six(a, json_object_get(v, "avg"));
        }
    }
    table_boxed(&t);
}

static const char *types_text(struct arena *a, const json_t *node)
{
    return arena_printf(a, "%s/%s", json_str(node, "input_qtype", ""),
                        json_str(node, "output_qtype", ""));
}

/* Each node: where it runs, how far its output is from float. */
static void show_nodes(struct arena *a, const json_t *list)
{
    static const char *const head[] = {
        "Node", "ON", "Subgraph", "Type", "Cosine Similarity", "Threshold", "In/Out DataType"};
    struct table t;
    init_table(&t, a, 7, json_array_size(list));
    memcpy(t.rows[0], head, sizeof head);
    t.n_rows = 1;
    size_t i;
    json_t *n;
    json_array_foreach(list, i, n)
    {
        const json_t *cosine = json_object_get(n, "cosine-similarity"),
                     *threshold = json_object_get(n, "threshold"),
                     *subgraph = json_object_get(n, "subgraph");
        const char **row = t.rows[t.n_rows++];
        row[0] = json_str(n, "node", "");
        row[1] = json_str(n, "on", "");
        row[2] = json_is_integer(subgraph)
                     ? arena_printf(a, "id(%" JSON_INTEGER_FORMAT ")", json_integer_value(subgraph))
                     : "--";
        row[3] = json_str(n, "type", "");
        row[4] = json_is_number(cosine) ? six(a, cosine) : "--";
        row[5] = json_is_number(threshold) ? six(a, threshold) : "--";
        row[6] = types_text(a, n);
    }
    puts("The quantized model nodes:");
    table_plain(&t);
    putchar('\n');
}

static void show_accuracy(const json_t *acc)
{
    const json_t *relative = json_object_get(acc, "relative");
    const json_t *interval = json_object_get(acc, "difference_interval");
    printf("Accuracy (%s, %lld samples): float %.5f, quantized %.5f", json_str(acc, "metric", ""),
           (long long)json_int(acc, "samples", 0), json_num(acc, "float", 0),
           json_num(acc, "quantized", 0));
    if (json_is_number(relative))
        printf(" (%.2f %% of float)", PERCENT * json_number_value(relative));
    if (json_array_size(interval) == 2)
        printf(", difference within [%+.5f, %+.5f] at 95 %% confidence",
               json_number_value(json_array_get(interval, 0)),
               json_number_value(json_array_get(interval, 1)));
    putchar('\n');
}

void show_info(const json_t *result)
{
    struct arena a = ARENA_INIT;
    if (json_is_array(json_object_get(result, "nodes")))
        show_nodes(&a, json_object_get(result, "nodes"));
    if (json_int(result, "samples", 0) > 1)
        show_all_samples(&a, json_object_get(result, "outputs"));
    else
        show_first_sample(&a, json_object_get(result, "first_sample"));
    arena_done(&a);
}

void show_evaluation(const json_t *result)
{
    struct arena a = ARENA_INIT;
    const json_t *nodes = json_object_get(result, "nodes");
    if (json_is_array(nodes))
        show_nodes(&a, nodes);
    show_first_sample(&a, json_object_get(result, "first_sample"));
    if (json_int(result, "samples", 0) > 1) {
        printf("\nOver %lld samples:\n", (long long)json_int(result, "samples", 0));
        show_all_samples(&a, json_object_get(result, "outputs"));
    }
    static const char *const scores[] = {"accuracy", "accuracy_top5"};
    for (int i = 0; i < 2; i++)
        if (json_is_object(json_object_get(result, scores[i])))
            show_accuracy(json_object_get(result, scores[i]));
    arena_done(&a);
}

/* Where a request was not granted, and why: the ledger's lines in which the two differ. */
static void show_refusals(const json_t *ledger)
{
    size_t i, n = 0;
    json_t *line;
    json_array_foreach(ledger, i, line)
    {
        const char *asked = json_str(line, "requested", ""),
                   *got = json_str(line, "effective", NULL);
        if (!got || !strcmp(asked, got) || n++ >= LEDGER_SHOWN)
            continue;
        printf("  %s, %s: %s asked for, %s given. %s\n", json_str(line, "node", ""),
               json_str(line, "tensor", ""), asked, got, json_str(line, "text", ""));
    }
    if (n > LEDGER_SHOWN)
        printf("  and %zu more: --json shows all of them under \"ledger\".\n", n - LEDGER_SHOWN);
}

void show_calibration(const json_t *result, const char *path)
{
    size_t n = json_array_size(json_object_get(result, "calibrations"));
    const char *id = json_str(result, "calibrated_model_id", NULL);
    printf("%s: %zu calibrations from %lld samples%s%s\n", path, n,
           (long long)json_int(result, "samples", 0), id ? ", on the server as " : "",
           id ? id : "");
    show_refusals(json_object_get(result, "ledger"));
}

void show_export(const json_t *result, const char *path)
{
    const char *type;
    json_t *n;
    printf("%s: opset %lld, quantized tensors:", path, (long long)json_int(result, "opset", 0));
    json_object_foreach(json_object_get(result, "types"), type, n)
    {
        printf(" %lld %s", (long long)json_integer_value(n), type);
    }
    putchar('\n');
}
