/* Sweeps: HMCT's list syntax on the command line, and its table. */
#include "cli/sensitivity.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cli/show.h"
#include "common/json.h"

enum { NAME_SHOWN = 50, NAME_TAIL = 47, LISTS_DEEP = 2, NUMBER_MAX = 400, DATA_MAX = 1 << 30 };

/* ---- lists ---- */

struct reading {
    const char *at;
    struct err *e;
};

static void skip_space(struct reading *r)
{
    r->at += strspn(r->at, " \t\n");
}

static int expected(struct reading *r, const char *what)
{
    return err_set(r->e, ERR_BAD_REQUEST, "", "%s is expected at \"%.40s\".", what, r->at);
}

/* 'a', "a", or a as the shell leaves it; NULL on error. */
static json_t *read_name(struct reading *r)
{
    bool quoted = *r->at == '\'' || *r->at == '"';
    const char *from = r->at + quoted;
    char end[2] = {*r->at, 0};
    size_t n = strcspn(from, quoted ? end : ",[]");
    if (quoted && !from[n]) {
        expected(r, "A closing quote");
        return NULL;
    }
    r->at = from + n + quoted;
    while (!quoted && n && strchr(" \t\n", from[n - 1]))
        n--;
    if (!n) {
        expected(r, "A name");
        return NULL;
    }
    return json_stringn(from, n);
}

static json_t *read_list(struct reading *r, int deep);

static json_t *read_item(struct reading *r, int deep)
{
    skip_space(r);
    if (*r->at != '[')
        return read_name(r);
    if (deep == LISTS_DEEP) {
        expected(r, "A name, no further list,");
        return NULL;
    }
    return read_list(r, deep + 1);
}

static json_t *read_list(struct reading *r, int deep)
{
    json_t *list = json_array();
    do {
        r->at++; /* '[' or ',' */
        json_t *item = read_item(r, deep);
        if (!item) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, item);
        skip_space(r);
    } while (*r->at == ',');
    if (*r->at != ']') {
        expected(r, "\",\" or \"]\"");
        json_decref(list);
        return NULL;
    }
    r->at++;
    return list;
}

json_t *list_parse(const char *text, bool nested, struct err *e)
{
    struct reading r = {text, e};
    skip_space(&r);
    json_t *v;
    if (*r.at == '[') {
        v = read_list(&r, nested ? 1 : LISTS_DEEP);
    } else {
        json_t *name = read_name(&r);
        v = name ? json_pack("[o]", name) : NULL;
    }
    skip_space(&r);
    if (v && *r.at) {
        expected(&r, "The end of the list");
        json_decref(v);
        return NULL;
    }
    return v;
}

int word_flag(const char *word, bool *ret)
{
    static const char *const yes[] = {"true", "1", "yes", NULL}, *const no[] = {"false", "0", "no",
                                                                                NULL};
    for (int i = 0; yes[i]; i++)
        if (!strcasecmp(word, yes[i]) || !strcasecmp(word, no[i])) {
            *ret = !strcasecmp(word, yes[i]);
            return 0;
        }
    return -1;
}

/* ---- the request ---- */

static int take_list(json_t *options, const char *key, const char *text, bool nested,
                     const char *option, struct err *e)
{
    if (!text)
        return 0;
    json_t *v = list_parse(text, nested, e);
    if (!v)
        return err_in(e, option);
    json_object_set_new(options, key, v);
    return 0;
}

static int take_number(json_t *options, const char *key, const char *text, long most,
                       const char *option, struct err *e)
{
    char *end;
    long n = text ? strtol(text, &end, 10) : 0;
    if (!text)
        return 0;
    if (*end || end == text || n < 1 || n > most)
        return err_set(e, ERR_BAD_REQUEST, option, "This must be a number from 1 on, not \"%s\".",
                       text);
    json_object_set_new(options, key, json_integer(n));
    return 0;
}

static int take_verbose(json_t *options, const char *text, struct err *e)
{
    bool verbose = false;
    if (text && word_flag(text, &verbose))
        return err_set(e, ERR_BAD_REQUEST, "--verbose", "This must be True or False, not \"%s\".",
                       text);
    if (text)
        json_object_set_new(options, "verbose", json_boolean(verbose));
    return 0;
}

int sensitivity_request(const struct options *o, json_t *options, struct err *e)
{
    if (o->fast)
        json_object_set_new(options, "fast", json_true());
    if (o->node_type)
        json_object_set_new(options, "node_type", json_string(o->node_type));
    return take_list(options, "metrics", o->metrics, false, "--metrics", e) ||
                   take_list(options, "outputs", o->outputs, false, "--output-nodes", e) ||
                   take_list(options, "interested_nodes", o->interested, true, "--interested-nodes",
                             e) ||
                   take_number(options, "data_num", o->data_num, DATA_MAX, "--data-num", e) ||
                   take_number(options, "memory", o->memory, LONG_MAX, "--memory", e) ||
                   take_verbose(options, o->verbose, e)
               ? -1
               : 0;
}

/* ---- the table ---- */

const char *number_text(struct arena *a, double v)
{
    char text[NUMBER_MAX];
    if (isnan(v))
        return "nan";
    if (isinf(v))
        return v > 0 ? "inf" : "-inf";
    snprintf(text, sizeof text, "%.5f", v);
    size_t n = strlen(text);
    while (text[n - 1] == '0' && text[n - 2] != '.')
        text[--n] = '\0';
    return arena_strdup(a, strcmp(text, "-0.0") ? text : "0.0");
}

static const char *name_text(struct arena *a, const char *name, bool full)
{
    size_t n = strlen(name);
    return full || n <= NAME_SHOWN ? name : arena_printf(a, "...%s", name + n - NAME_TAIL);
}

static const char *score_text(struct arena *a, const json_t *row, const char *metric)
{
    const json_t *v = json_object_get(row, metric);
    if (json_is_number(v))
        return number_text(a, json_number_value(v));
    bool exact = json_is_true(json_object_get(row, "exact")) && !strcmp(metric, "sqnr");
    return exact ? "inf" : "nan";
}

struct layout {
    size_t n_columns, n_rows;
    const char *(*rows)[TABLE_COLUMNS_MAX];
    size_t width[TABLE_COLUMNS_MAX], whole;
};

/* row NULL: the headline. metric NULL: behind the metrics, where the fast mode tells samples. */
static const char *cell_text(struct arena *a, const json_t *row, size_t column, const char *metric,
                             bool full)
{
    if (!column)
        return row ? name_text(a, json_str(row, "node", ""), full) : "node";
    if (!metric)
        return row ? arena_printf(a, "%lld", (long long)json_int(row, "samples_seen", 0))
                   : "samples";
    return row ? score_text(a, row, metric) : metric;
}

static void lay_out(struct arena *a, const json_t *result, bool full, struct layout *t)
{
    const json_t *metrics = json_object_get(result, "metrics"),
                 *rows = json_object_get(result, "rows");
    size_t m = json_array_size(metrics), n = json_array_size(rows);
    bool fast = json_object_get(result, "rounds") != NULL;
    m += fast && m + 2 < TABLE_COLUMNS_MAX;
    *t = (struct layout){.n_columns = (m < TABLE_COLUMNS_MAX ? m : TABLE_COLUMNS_MAX - 1) + 1,
                         .n_rows = n + 1};
    t->rows = arena_array(a, n + 1, sizeof *t->rows);
    for (size_t r = 0; r <= n; r++)
        for (size_t c = 0; c < t->n_columns; c++) {
            const json_t *row = r ? json_array_get(rows, r - 1) : NULL;
            t->rows[r][c] =
                cell_text(a, row, c, json_string_value(json_array_get(metrics, c - 1)), full);
            size_t len = strlen(t->rows[r][c]);
            t->width[c] = len > t->width[c] ? len : t->width[c];
        }
    for (size_t c = 0; c < t->n_columns; c++)
        t->whole += t->width[c] + 2;
}

static void fill(struct buf *b, char c, size_t n)
{
    while (n--)
        buf_add(b, &c, 1);
}

void sensitivity_table(const json_t *result, bool full_names, struct buf *ret)
{
    struct arena a = ARENA_INIT;
    struct layout t;
    lay_out(&a, result, full_names, &t);
    const char *title = arena_printf(&a, "%s sensitivity", json_str(result, "node_type", "node"));
    size_t spare = t.whole > strlen(title) ? t.whole - strlen(title) : 0;
    fill(ret, '=', spare / 2);
    buf_adds(ret, title);
    fill(ret, '=', spare - spare / 2);
    buf_adds(ret, "\n");
    for (size_t r = 0; r < t.n_rows; r++) {
        for (size_t c = 0; c < t.n_columns; c++)
            buf_addf(ret, "%-*s  ", (int)t.width[c], t.rows[r][c]);
        buf_adds(ret, "\n");
        if (r == 0) {
            fill(ret, '-', t.whole);
            buf_adds(ret, "\n");
        }
    }
    arena_done(&a);
}

/* ---- the end ---- */

static int save(const char *dir, const char *type, const char *end, const char *text, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s_sensitivity.%s", dir, type, end);
    FILE *f = fopen(path, "wbe");
    bool ok = f && fputs(text, f) >= 0;
    if ((f && fclose(f)) || !ok)
        return err_errno(e, path, "The file cannot be written");
    return 0;
}

static int save_all(const char *dir, const json_t *result, const char *table, struct err *e)
{
    const char *type = json_str(result, "node_type", "node");
    if (mkdir(dir, 0777) && errno != EEXIST)
        return err_errno(e, dir, "The folder cannot be made");
    char *json = json_dumps(result, JSON_INDENT(2) | JSON_SORT_KEYS);
    int rc = save(dir, type, "json", json, e) || save(dir, type, "txt", table, e);
    free(json);
    return rc ? -1 : 0;
}

static void show_advice(const json_t *result)
{
    const json_t *list = json_object_get(json_object_get(result, "health"), "advice");
    for (size_t i = 0; i < json_array_size(list); i++)
        fprintf(stderr, "advice: %s\n", json_string_value(json_array_get(list, i)));
}

int sensitivity_conclude(const struct options *o, const json_t *result, struct err *e)
{
    struct buf table;
    buf_init(&table, DATA_MAX);
    sensitivity_table(result, o->full_names, &table);
    if (o->json)
        show_json(result);
    else
        fputs(table.data, stdout);
    show_advice(result);
    int rc = o->save_dir ? save_all(o->save_dir, result, table.data, e) : 0;
    buf_done(&table);
    return rc;
}
