/*
 * Every configuration of the tuning chapter, from its own text ($PTQ_SPEC, or the folder `spec`
 * beside $PTQ_MODELS), against a graph that has the nodes it names.
 */
#include "tests/test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "tests/unit/mini.h"
#include "worker/quant/dialect.h"
#include "worker/quant/resolve.h"

#define CHAPTER "accuracy-tuning-practice.txt"

static struct arena arena;

static char *chapter_text(void)
{
    const char *spec = getenv("PTQ_SPEC"), *models = getenv("PTQ_MODELS");
    size_t len;
    if (!spec && !models)
        SKIP("neither PTQ_SPEC nor PTQ_MODELS is set");
    const char *path = spec ? arena_printf(&arena, "%s/" CHAPTER, spec)
                            : arena_printf(&arena, "%s/../spec/" CHAPTER, models);
    if (access(path, R_OK))
        SKIP("%s is not there", path);
    return test_read(path, &len);
}

/* The next object that starts with a section of a configuration; its length in *ret_len. */
static char *next_config(char *at, size_t *ret_len)
{
    static const char *const sections[] = {"\"model_config\"", "\"node_config\"",
                                           "\"subgraph_config\"", "\"op_config\""};
    for (; (at = strchr(at, '{')); at++) {
        const char *inside = at + 1 + strspn(at + 1, " \n");
        bool is = false;
        for (int i = 0; i < 4; i++)
            is |= !strncmp(inside, sections[i], strlen(sections[i]));
        if (!is)
            continue;
        int depth = 0;
        for (char *end = at; *end; end++) {
            depth += *end == '{' ? 1 : *end == '}' ? -1 : 0;
            if (depth == 0) {
                *ret_len = (size_t)(end - at) + 1;
                return at;
            }
        }
    }
    return NULL;
}

/* The text file has lost the ends of lines: a comment ends where the next name starts. */
static char *with_line_ends(const char *text, size_t len)
{
    char *copy = arena_printf(&arena, "%.*s", (int)len, text);
    for (char *c = copy; (c = strchr(c, '#')); c++) {
        char *next = strpbrk(c, "\"\n");
        if (next && *next == '"' && next > c + 1)
            next[-1] = '\n';
    }
    return copy;
}

struct names {
    int n;
    const char *list[256];
};

static void add_name(struct names *l, const char *name)
{
    size_t len = strlen(name), tail = strlen("_split_low");
    bool twin = len > tail && !strcmp(name + len - tail, "_split_low");
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->list[i], name))
            return;
    CHECK(l->n < 256);
    if (!twin) /* the configuration itself makes it */
        l->list[l->n++] = name;
}

static void add_names(struct names *l, const json_t *config)
{
    const char *key, *parts[] = {"inputs", "outputs"};
    json_t *v;
    json_object_foreach(json_object_get(config, "node_config"), key, v) add_name(l, key);
    json_object_foreach(json_object_get(config, "subgraph_config"), key,
                        v) for (int p = 0; p < 2;
                                p++) for (size_t i = 0;
                                          i < json_array_size(json_object_get(v, parts[p])); i++)
        add_name(l, json_string_value(json_array_get(json_object_get(v, parts[p]), i)));
}

/* A chain of Convs with these names, and GridSamples beside it: what they give is int8. */
static struct graph *chain_of(const struct names *l)
{
    struct buf b;
    buf_init(&b, 1 << 17);
    buf_addf(&b,
             "input t0 1,4,8,8\nconst w 4,4,1,1 0.5 -0.25\nconst grid 1,8,8,2 0.1\noutput t%d\n",
             l->n ? l->n : 1);
    for (int i = 0; i < l->n; i++)
        if (!strncmp(l->list[i], "GridSample", 10))
            buf_addf(&b, "%s GridSample t%d,grid -> side%d\nbeside%d Conv t%d,w -> t%d\n",
                     l->list[i], i, i, i, i, i + 1);
        else
            buf_addf(&b, "%s Conv t%d,w -> t%d\n", l->list[i], i, i + 1);
    if (!l->n)
        buf_addf(&b, "Conv_0 Conv t0,w -> t1\n");
    struct graph *g = mini_graph(&arena, b.data);
    buf_done(&b);
    return g;
}

static const struct ledger_line *find_line(const struct resolved *r, const char *node, int input)
{
    int n = graph_node(r->plan->graph, node);
    for (int i = 0; n >= 0 && i < r->ledger.n; i++)
        if (r->ledger.lines[i].node == n && r->ledger.lines[i].input == input)
            return &r->ledger.lines[i];
    FAIL("the ledger has no input %d of %s", input, node);
}

/* What the entry of a node asks for its inputs 0 and 1 is what it got. */
static void check_entry(const struct resolved *r, const char *node, const json_t *entry)
{
    for (int input = 0; input < 2; input++) {
        const char *own = json_string_value(
                       json_object_get(entry, arena_printf(&arena, "input%d", input))),
                   *all = json_string_value(json_object_get(entry, "qtype"));
        if (own && !strcmp(own, "ec"))
            CHECK(!strncmp(find_line(r, node, input)->rule, "ec", 2));
        else if (all && input == 0)
            CHECK_STR(qtype_name(find_line(r, node, 0)->effective), all);
    }
}

static int check_config(char *text)
{
    struct err e = ERR_INIT;
    struct names names = {0};
    struct quant_config *c;
    struct resolved r;
    const char *node;
    json_t *entry, *given = dialect_parse(text, strlen(text), NULL, &e), *v = json_string(text);
    if (!given)
        FAIL("%.60s…: %s", text, e.detail);
    add_names(&names, given);
    CHECK_OK(config_parse(v, "", chain_of(&names), &march_nash_e, &arena, &c, &e), e);
    resolve(c, c->graph, &march_nash_e, &arena, &r);
    json_object_foreach(json_object_get(given, "node_config"), node, entry)
        check_entry(&r, node, entry);
    config_done(c);
    json_decref(v);
    json_decref(given);
    return names.n;
}

void test_models_chapter__all_its_configurations_resolve(void)
{
    int n = 0, largest = 0;
    size_t len;
    for (char *at = chapter_text(); (at = next_config(at, &len)); at += len) {
        int nodes = check_config(with_line_ends(at, len));
        largest = nodes > largest ? nodes : largest;
        n++;
    }
    CHECK_INT(n, 9);
    CHECK(largest > 40);
}
