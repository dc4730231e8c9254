#include "cli/debug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/sensitivity.h"
#include "cli/show.h"
#include "common/json.h"

enum { MOST_OPTIONS = 18 };

enum value_kind { V_LIST, V_NESTED, V_WORD, V_INT, V_REAL, V_BOOL };

struct tool_option {
    const char *letter, *name; /* -nq, --non_quantize_node */
    enum value_kind kind;
    const char *key, *text; /* of the job's options */
};

static const struct tool {
    const char *name, *text;
    struct tool_option options[MOST_OPTIONS];
} tools[] = {
    {"plot-distribution",
     "draw the values of tensors before and after quantization",
     {{"-n", "--nodes_list", V_LIST, "nodes_list", "nodes or calibrations"},
      {"-d", "--data_num", V_INT, "data_num", "the first N samples (1)"}}},
    {"get-channelwise-data-distribution",
     "draw the values of each channel side by side",
     {{"-n", "--nodes_list", V_LIST, "nodes_list", "nodes or calibrations"},
      {"-a", "--axis", V_INT, "axis", "the channels' axis (1; a weight's own)"},
      {"-d", "--data_num", V_INT, "data_num", "the first N samples (1)"}}},
    {"plot-acc-error",
     "draw how the error grows from node to node",
     {{"-q", "--quantize_node", V_NESTED, "quantize_node",
       "only these are quantized; 'weight' and 'activation' are all of them"},
      {"-nq", "--non_quantize_node", V_NESTED, "non_quantize_node", "all but these are"},
      {"-m", "--metric", V_WORD, "metric", "cosine-similarity, mse, mae, mre, sqnr, chebyshev"},
      {"-a", "--average_mode", V_BOOL, "average_mode", "True: mean over all samples"}}},
    {"sensitivity-analysis",
     "raise the most sensitive nodes and measure the outputs",
     {{"-m", "--metric", V_WORD, "metric", "that ranks and measures"},
      {"-p", "--pick_threshold", V_REAL, "pick_threshold", "nodes at or below it (0.999)"},
      {"-d", "--data_num", V_INT, "data_num", "the first N samples (1)"},
      {"-sn", "--sensitive_nodes", V_LIST, "sensitive_nodes", "raise these instead"},
      {"-q", "--qtype", V_WORD, "qtype", "to which type (float32)"}}},
    {"tensor-analysis",
     "tell how well tensors fit the types that they are quantized to",
     {{"-n", "--node_names", V_LIST, "node_names", "nodes or calibrations"},
      {"-d", "--data_num", V_INT, "data_num", "the first N samples (1)"}}},
    {"select-sensitive-samples",
     "find the samples that lose most by quantization",
     {{"-m", "--metric", V_WORD, "metric", "that ranks"},
      {"-n", "--num", V_INT, "num", "how many (10)"},
      {"-d", "--data_num", V_INT, "samples", "of the first N samples (all)"}}},
    {"runall",
     "all of these one after the other",
     {{"-nm", "--ns_metrics", V_LIST, "ns_metrics", "metrics of the ranking"},
      {"-o", "--output_node", V_LIST, "output_node", "outputs of the ranking"},
      {"-nt", "--node_type", V_LIST, "node_type", "what is ranked (['weight','activation'])"},
      {"-dn", "--data_num", V_INT, "data_num", "the first N samples (1)"},
      {"-v", "--verbose", V_BOOL, "verbose", "True: every sample's scores too"},
      {"-i", "--interested_nodes", V_NESTED, "interested_nodes", "rank only these"},
      {"-dnl", "--dis_nodes_list", V_LIST, "dis_nodes_list", "draw these (the worst ten)"},
      {"-cn", "--cw_nodes_list", V_LIST, "cw_nodes_list", "draw these by channel (the worst ten)"},
      {"-a", "--axis", V_INT, "axis", "the channels' axis"},
      {"-qn", "--quantize_node", V_NESTED, "quantize_node", "as plot-acc-error -q"},
      {"-nqn", "--non_quantize_node", V_NESTED, "non_quantize_node", "as plot-acc-error -nq"},
      {"-am", "--ae_metric", V_WORD, "ae_metric", "metric of plot-acc-error"},
      {"-avm", "--average_mode", V_BOOL, "average_mode", "as plot-acc-error -a"},
      {"-pt", "--pick_threshold", V_REAL, "pick_threshold", "as sensitivity-analysis -p"},
      {"-sn", "--sensitive_nodes", V_LIST, "sensitive_nodes", "as sensitivity-analysis -sn"}}},
};
enum { TOOLS = sizeof tools / sizeof *tools };

/* What every tool takes beside its own: text or flag of struct options. */
static const struct {
    const char *letter, *name, *text;
    bool flag;
    size_t at;
} common[] = {
    {"-s", "--save_dir", "where results go (./debug_result/)", false,
     offsetof(struct options, save_dir)},
    {"-sd", "--save-dir", "the same", false, offsetof(struct options, save_dir)},
    {NULL, "--url", "the server (PTQ_URL, else http://127.0.0.1:8080)", false,
     offsetof(struct options, url)},
    {NULL, "--local", "compute here with ptq-worker, without a server", true,
     offsetof(struct options, local)},
    {NULL, "--store", "with --local: keep results of tasks here", false,
     offsetof(struct options, store)},
    {NULL, "--no-wait", "print the job's id and leave it to the server", true,
     offsetof(struct options, wait_not)},
    {NULL, "--json", "JSON on standard output", true, offsetof(struct options, json)},
    {"-h", "--help", "this text", true, offsetof(struct options, help)},
};

/* ---- the command line ---- */

/* The vendor's command line has them with '_' too. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if (*a != *b && !((*a == '_' || *a == '-') && (*b == '_' || *b == '-')))
            return false;
    return *a == *b;
}

static const struct tool *find_tool(const char *word)
{
    for (int i = 0; i < TOOLS; i++)
        if (same_name(word, tools[i].name))
            return &tools[i];
    return NULL;
}

bool debug_is_command(const char *word)
{
    return find_tool(word) != NULL;
}

void debug_help_list(void)
{
    for (int i = 0; i < TOOLS; i++)
        printf("  %-24s %s\n", tools[i].name, tools[i].text);
}

static int help(const struct tool *t)
{
    char left[64];
    printf("ptq %s MODEL DATA: %s\n\nMODEL is a calibrated model, DATA its calibration "
           "data.\n\nOptions:\n",
           t->name, t->text);
    for (const struct tool_option *o = t->options; o->name; o++) {
        snprintf(left, sizeof left, "%s, %s", o->letter, o->name);
        printf("  %-28s %s\n", left, o->text);
    }
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        snprintf(left, sizeof left, "%s%s%s", common[i].letter ? common[i].letter : "",
                 common[i].letter ? ", " : "", common[i].name);
        printf("  %-28s %s\n", left, common[i].text);
    }
    return EXIT_OK;
}

static json_t *read_value(enum value_kind kind, const char *text, struct err *e)
{
    char *end = NULL;
    bool yes = false;
    json_t *v = NULL;
    if (kind == V_LIST || kind == V_NESTED)
        return list_parse(text, kind == V_NESTED, e);
    if (kind == V_WORD)
        return json_string(text);
    if (kind == V_BOOL)
        v = word_flag(text, &yes) ? NULL : json_boolean(yes);
    else if (kind == V_INT)
        v = json_integer(strtoll(text, &end, 10));
    else
        v = json_real(strtod(text, &end));
    if (v && !(end && (*end || end == text)))
        return v;
    json_decref(v);
    err_set(e, ERR_BAD_REQUEST, "", "\"%.60s\" is no %s.", text,
            kind == V_BOOL ? "True or False" : "number");
    return NULL;
}

static bool take_common(struct cli *c, char **argv, int *ret_words)
{
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        char *to = (char *)&c->opt + common[i].at;
        if (!(common[i].letter && !strcmp(argv[0], common[i].letter)) &&
            !same_name(argv[0], common[i].name))
            continue;
        *ret_words = common[i].flag ? 1 : argv[1] ? 2 : 0;
        if (common[i].flag)
            *(bool *)to = true;
        else
            memcpy(to, &argv[1], sizeof argv[1]);
        return true;
    }
    return false;
}

/* A list that the shell has cut at its spaces is as many words. */
static const char *whole_list(struct arena *a, char **argv, int *ret_words)
{
    int deep = 0, n = 0;
    const char *all = "";
    if (argv[0][0] != '[') {
        *ret_words = 1;
        return argv[0];
    }
    do {
        for (const char *p = argv[n]; *p; p++)
            deep += (*p == '[') - (*p == ']');
        all = arena_printf(a, "%s%s%s", all, n ? " " : "", argv[n]);
        n++;
    } while (deep > 0 && argv[n]);
    *ret_words = n;
    return all;
}

/* Words taken at argv[0], or 0 with an error. */
static int take_option(struct cli *c, const struct tool *t, char **argv, struct err *e)
{
    int words = 0;
    if (take_common(c, argv, &words))
        return words ? words
                     : (err_set(e, ERR_BAD_REQUEST, argv[0], "This option needs a value."), 0);
    for (const struct tool_option *o = t->options; o->name; o++) {
        if (strcmp(argv[0], o->letter) && !same_name(argv[0], o->name))
            continue;
        if (!argv[1])
            return err_set(e, ERR_BAD_REQUEST, argv[0], "This option needs a value."), 0;
        bool list = o->kind == V_LIST || o->kind == V_NESTED;
        words = 1;
        const char *text = list ? whole_list(&c->arena, argv + 1, &words) : argv[1];
        json_t *v = read_value(o->kind, text, e);
        if (!v)
            return err_in(e, o->name), 0;
        json_object_set_new(c->tool_options, o->key, v);
        return 1 + words;
    }
    return err_set(e, ERR_BAD_REQUEST, argv[0], "ptq %s has no such option: see --help.", t->name),
           0;
}

static int parse(struct cli *c, const struct tool *t, char **argv, struct err *e)
{
    bool named = false;
    while (*argv) {
        if (argv[0][0] == '-' && argv[0][1]) {
            int n = take_option(c, t, argv, e);
            if (!n)
                return -1;
            argv += n;
        } else if (!named && find_tool(*argv) == t) {
            named = true;
            argv++;
        } else if (c->n_words == 2) {
            return err_set(e, ERR_BAD_REQUEST, *argv, "It is ptq %s MODEL DATA.", t->name);
        } else {
            c->words[c->n_words++] = *argv++;
        }
    }
    return c->opt.help || c->n_words == 2
               ? 0
               : err_set(e, ERR_BAD_REQUEST, "", "It is ptq %s MODEL DATA.", t->name);
}

int debug_command(struct cli *c, char **argv)
{
    const struct tool *t = NULL;
    struct err e = ERR_INIT;
    for (char **p = argv; *p && !t; p++)
        t = find_tool(*p);
    c->tool_options = json_object();
    int status;
    if (parse(c, t, argv, &e))
        status = cli_fail(&e), status = EXIT_USAGE;
    else if (c->opt.help)
        status = help(t);
    else
        status = job_run_kind(c, t->name, &e);
    json_decref(c->tool_options);
    return status;
}

/* ---- what is left in the folder ---- */

static int make_folders(char *path, struct err *e)
{
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = '\0';
        int rc = mkdir(path, 0777) && errno != EEXIST
                     ? err_errno(e, path, "The folder cannot be made")
                     : 0;
        *p = '/';
        if (rc)
            return -1;
    }
    return 0;
}

/* Paths come from the job's result: none leads out of the folder. */
static bool is_inside(const char *path)
{
    return *path && *path != '/' && !strstr(path, "..");
}

int debug_save(const char *dir, const json_t *result, debug_fetch *fetch, void *ctx, struct err *e)
{
    struct arena a = ARENA_INIT;
    size_t i;
    json_t *file;
    char *json = arena_printf(&a, "%s/result.json", dir);
    int rc = make_folders(json, e);
    if (!rc && json_dump_file(result, json, JSON_INDENT(2) | JSON_SORT_KEYS))
        rc = err_errno(e, json, "The file cannot be written");
    json_array_foreach(json_object_get(result, "files"), i, file)
    {
        const char *path = json_str(file, "path", "");
        char *to = arena_printf(&a, "%s/%s", dir, path);
        if (!rc && is_inside(path))
            rc = make_folders(to, e) || fetch(ctx, json_str(file, "artifact", ""), to, e) ? -1 : 0;
        if (!rc)
            printf("%s\n", to);
    }
    arena_done(&a);
    return rc;
}
