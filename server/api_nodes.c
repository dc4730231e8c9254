/* /v1/jobs/{id}/results/nodes: the rows of a sweep by any of its metrics, for one output or for
 * all, page by page or as CSV. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/json.h"
#include "server/api.h"
#include "server/blobs.h"

enum { LIMIT_DEFAULT = 20, LIMIT_MAX = 100, CSV_MAX = 256 << 20 };

struct asked {
    const char *sort, *output; /* output NULL: over all */
    long limit, after;         /* limit 0: no end */
    bool csv;
};

struct line {
    const json_t *row, *scores;
    double score;
    bool higher_better;
    size_t index;
};

/* ---- what is asked for ---- */

static int wrong(struct req *r, const char *text)
{
    struct err e = ERR_INIT;
    err_set(&e, ERR_INVALID, NULL, "%s", text);
    reply_problem(r, &e);
    return -1;
}

static int read_number(struct req *r, const char *name, long otherwise, long max, long *ret)
{
    const char *v = req_query(r, name);
    char *end;
    *ret = otherwise;
    if (!v)
        return 0;
    *ret = strtol(v, &end, 10);
    if (*v < '0' || *v > '9' || *end || *ret < 1 || *ret > max)
        return wrong(r, "\"limit\" is a number from 1 to 100, \"after\" the \"next\" of a page.");
    return 0;
}

static int read_asked(struct req *r, struct asked *ret)
{
    static const char *const names[] = {"sort", "output", "limit", "after", "format"};
    static const char *const formats[] = {"json", "csv", NULL};
    const char *format = NULL;
    if (req_only_query(r, names, 5) || query_word(r, "format", formats, &format))
        return -1;
    *ret = (struct asked){.sort = req_query(r, "sort"), .output = req_query(r, "output")};
    ret->csv = format ? !strcmp(format, "csv") : api_header_has(r, "Accept", "text/csv");
    return read_number(r, "limit", ret->csv ? 0 : LIMIT_DEFAULT, LIMIT_MAX, &ret->limit) ||
           read_number(r, "after", 0, INT32_MAX, &ret->after);
}

static bool in_list(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), name))
            return true;
    return false;
}

/* What is asked for is in this result. */
static int check_asked(struct req *r, const json_t *result, struct asked *a)
{
    const json_t *metrics = json_object_get(result, "metrics");
    if (!a->sort)
        a->sort = json_string_value(json_array_get(metrics, 0));
    if (!in_list(metrics, a->sort))
        return wrong(r, "\"sort\" is not one of the job's metrics.");
    if (a->output && !in_list(json_object_get(result, "outputs"), a->output))
        return wrong(r, "\"output\" is not one of the job's outputs.");
    return 0;
}

/* ---- the lines ---- */

/* Worst first, what is no number last, ties in the result's order. */
static int by_score(const void *x, const void *y)
{
    const struct line *a = x, *b = y;
    if (isnan(a->score) != isnan(b->score))
        return isnan(a->score) ? 1 : -1;
    if (!isnan(a->score) && a->score != b->score)
        return (a->score > b->score) == a->higher_better ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static double score_of(const json_t *row, const json_t *scores, const char *metric)
{
    const json_t *v = json_object_get(scores, metric);
    if (json_is_number(v))
        return json_number_value(v);
    bool exact = json_is_true(json_object_get(row, "exact")) && !strcmp(metric, "sqnr");
    return exact ? INFINITY : NAN;
}

static struct line *sorted_lines(struct req *r, const json_t *result, const struct asked *a,
                                 size_t *ret_n)
{
    const json_t *rows = json_object_get(result, "rows");
    size_t n = json_array_size(rows);
    struct line *lines = arena_array(req_arena(r), n + 1, sizeof *lines);
    bool higher = !strcmp(a->sort, "cosine-similarity") || !strcmp(a->sort, "sqnr");
    *ret_n = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *scores =
            a->output ? json_object_get(json_object_get(row, "outputs"), a->output) : row;
        if (scores)
            lines[(*ret_n)++] =
                (struct line){row, scores, score_of(row, scores, a->sort), higher, i};
    }
    qsort(lines, *ret_n, sizeof *lines, by_score);
    return lines;
}

static json_t *line_json(const json_t *metrics, const struct line *l, size_t rank)
{
    static const char *const kept[] = {"node", "tied_with", "exact", "outputs"};
    json_t *o = json_pack("{s:I}", "rank", (json_int_t)rank);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (json_object_get(l->row, kept[i]))
            json_object_set(o, kept[i], json_object_get(l->row, kept[i]));
    for (size_t m = 0; m < json_array_size(metrics); m++) {
        const char *name = json_string_value(json_array_get(metrics, m));
        json_object_set(o, name, json_object_get(l->scores, name));
    }
    return o;
}

static void reply_page(struct req *r, const json_t *metrics, const struct asked *a,
                       const struct line *lines, size_t n)
{
    size_t from = (size_t)a->after < n ? (size_t)a->after : n;
    size_t end = n - from > (size_t)a->limit ? from + (size_t)a->limit : n;
    json_t *items = json_array();
    for (size_t i = from; i < end; i++)
        json_array_append_new(items, line_json(metrics, &lines[i], i + 1));
    api_reply(r, 200,
              json_pack("{s:o, s:b, s:o}", "items", items, "has_more", end < n, "next",
                        end < n ? json_sprintf("%zu", end) : json_null()));
}

/* RFC 4180: in quotes, and quotes doubled. */
static void put_quoted(struct buf *b, const char *text)
{
    buf_adds(b, "\"");
    for (; *text; text++)
        buf_addf(b, *text == '"' ? "\"\"" : "%c", *text);
    buf_adds(b, "\"");
}

static void reply_tagged(struct req *r, const char *text)
{
    char tag[API_ETAG_MAX];
    json_t *v = json_string(text);
    api_etag(v, tag);
    json_decref(v);
    reply_header(r, "ETag", arena_printf(req_arena(r), "\"%s\"", tag));
    reply_text(r, 200, "text/csv", text);
}

static void reply_csv(struct req *r, const json_t *metrics, const struct asked *a,
                      const struct line *lines, size_t n)
{
    struct buf b;
    buf_init(&b, CSV_MAX);
    buf_adds(&b, "rank,node");
    for (size_t m = 0; m < json_array_size(metrics); m++)
        buf_addf(&b, ",%s", json_string_value(json_array_get(metrics, m)));
    buf_adds(&b, "\r\n");
    size_t end = a->limit && (size_t)(a->after + a->limit) < n ? (size_t)(a->after + a->limit) : n;
    for (size_t i = (size_t)a->after; i < end; i++) {
        buf_addf(&b, "%zu,", i + 1);
        put_quoted(&b, json_str(lines[i].row, "node", ""));
        for (size_t m = 0; m < json_array_size(metrics); m++) {
            double v = score_of(lines[i].row, lines[i].scores,
                                json_string_value(json_array_get(metrics, m)));
            if (isnan(v))
                buf_adds(&b, ",");
            else
                buf_addf(&b, ",%.17g", v);
        }
        buf_adds(&b, "\r\n");
    }
    reply_tagged(r, b.data);
    buf_done(&b);
}

/* ---- the route ---- */

/* The job's result; NULL when a problem was replied. */
static json_t *load_result(struct req *r)
{
    struct err e = ERR_INIT;
    struct job_row j;
    const char *id = req_param(r, "id");
    int found = job_load(FROM_DB(req_server(r)->db), id, req_arena(r), &j, &e);
    if (found == 0)
        return api_not_found(r, "job", id), NULL;
    if (found == 1 && strcmp(j.kind, "sensitivity") != 0)
        err_set(&e, ERR_CONFLICT, NULL, "A job of the kind %s has no rows of nodes.", j.kind);
    else if (found == 1 && !j.result)
        err_set(&e, ERR_CONFLICT, NULL, "The job is %s: it has no result.", j.state);
    json_t *result = NULL;
    if (e.code == ERR_NONE) {
        const char *path = blobs_path(req_server(r)->blobs, req_arena(r), j.result);
        result = json_load_file(path, 0, NULL);
        if (!result)
            err_set(&e, ERR_INTERNAL, NULL, "The result cannot be read.");
    }
    if (!result)
        reply_problem(r, &e);
    return result;
}

static void get_nodes(struct req *r)
{
    struct asked a;
    size_t n;
    if (read_asked(r, &a))
        return;
    json_t *result = load_result(r);
    if (result && !check_asked(r, result, &a)) {
        const json_t *metrics = json_object_get(result, "metrics");
        const struct line *lines = sorted_lines(r, result, &a, &n);
        (a.csv ? reply_csv : reply_page)(r, metrics, &a, lines, n);
    }
    json_decref(result);
}

extern const struct route api_nodes_routes[];
const struct route api_nodes_routes[] = {
    {"GET", "/v1/jobs/{id}/results/nodes", "getJobNodes", BODY_NONE, get_nodes}, {0}};
