#include "tests/unit/mini.h"

#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "worker/load/build.h"

enum { WORDS_MAX = 64, OPSET = 16 };

static int split(char *line, const char *by, char **ret)
{
    int n = 0;
    for (char *save, *w = strtok_r(line, by, &save); w && n < WORDS_MAX;
         w = strtok_r(NULL, by, &save))
        ret[n++] = w;
    return n;
}

static void set_dims(struct tensor *t, enum dtype type, char *text)
{
    char *dims[WORDS_MAX];
    *t = (struct tensor){.type = type, .rank = split(text, ",", dims)};
    for (int i = 0; i < t->rank; i++)
        t->dims[i] = atoll(dims[i]);
}

static void add_const(struct build *b, char **words, int n)
{
    int index = build_value(b, words[1]);
    struct build_value *v = &b->values[index];
    bool ints = !strcmp(words[0], "ints");
    set_dims(&v->type, ints ? DT_I64 : DT_F32, words[2]);
    int64_t count = tensor_count(&v->type);
    void *data = arena_array(b->arena, (size_t)count + 1, 8);
    for (int64_t i = 0; i < count; i++) {
        double x = n > 3 ? atof(words[3 + i % (n - 3)]) : 1;
        if (ints)
            ((int64_t *)data)[i] = (int64_t)x;
        else
            ((float *)data)[i] = (float)x;
    }
    v->type.data = data;
    v->is_const = true;
}

static int values_of(struct build *b, char *list, int *ret)
{
    char *names[WORDS_MAX];
    int n = split(list, ",", names);
    for (int i = 0; i < n; i++)
        ret[i] = strcmp(names[i], "-") ? build_value(b, names[i]) : VALUE_NONE;
    return n;
}

static void add_ints(struct build *b, int node, const char *name, char *list)
{
    char *words[WORDS_MAX];
    int64_t v[WORDS_MAX];
    int n = split(list, ",]", words);
    for (int i = 0; i < n; i++)
        v[i] = atoll(words[i]);
    build_attr_ints(b, node, name, v, (size_t)n);
}

static void add_node(struct build *b, char **words, int n)
{
    int in[WORDS_MAX], out[WORDS_MAX];
    int n_in = values_of(b, words[2], in), n_out = values_of(b, words[4], out);
    int node = build_node(b, words[0], "", words[1], OPSET, in, n_in, out, n_out);
    for (int i = 5; i < n; i++) {
        char *is = strchr(words[i], '=');
        *is = '\0';
        if (is[1] == '[')
            add_ints(b, node, arena_strdup(b->arena, words[i]), is + 2);
        else if (strchr("-0123456789", is[1]))
            build_attr_int(b, node, arena_strdup(b->arena, words[i]), atoll(is + 1));
        else
            build_attr_string(b, node, arena_strdup(b->arena, words[i]),
                              arena_strdup(b->arena, is + 1));
    }
}

static void add_line(struct build *b, char *line)
{
    char *words[WORDS_MAX];
    int n = split(line, " ", words);
    if (n == 0)
        return;
    if (!strcmp(words[0], "input")) {
        int v = build_value(b, words[1]);
        set_dims(&b->values[v].type, DT_F32, words[2]);
        build_input(b, v);
    } else if (!strcmp(words[0], "output")) {
        build_output(b, build_value(b, words[1]));
    } else if (!strcmp(words[0], "const") || !strcmp(words[0], "ints")) {
        add_const(b, words, n);
    } else {
        add_node(b, words, n);
    }
}

struct graph *mini_graph(struct arena *a, const char *text)
{
    static const struct opset opset = {"", OPSET};
    struct err e = ERR_INIT;
    struct graph *g = NULL;
    struct build *b = build_new(a, "mini");
    char *lines[1024], *copy = arena_strdup(a, text);
    int n = 0;
    b->opsets = &opset;
    b->n_opsets = 1;
    for (char *save, *l = strtok_r(copy, "\n", &save); l && n < 1024;
         l = strtok_r(NULL, "\n", &save))
        lines[n++] = l;
    for (int i = 0; i < n; i++)
        add_line(b, lines[i]);
    CHECK_OK(build_freeze(b, &g, &e), e);
    for (int v = 0; v < g->n_values; v++)
        if (g->values[v].type.type == DT_NONE)
            g->values[v].type = (struct tensor){.type = DT_F32, .rank = 4, .dims = {1, 4, 8, 8}};
    return g;
}
