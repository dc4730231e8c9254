/* ptq: the table of commands, their options and their help. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/debug.h"
#include "cli/http.h"

/* ---- options ---- */

enum option_bit {
    O_CONFIG = 1 << 0,
    O_OUT = 1 << 1,
    O_NAME = 1 << 2,
    O_LABELS = 1 << 3,
    O_CALIBRATION = 1 << 4,
    O_LOCAL = 1 << 5,
    O_STORE = 1 << 6,
    O_SAMPLES = 1 << 7,
    O_LIMIT = 1 << 8,
    O_STATE = 1 << 9,
    O_AFTER = 1 << 10,
    O_NO_WAIT = 1 << 11,
    O_ALWAYS = 1 << 12,
    O_SWEEP = 1 << 13,
    O_DATA = 1 << 14,
    O_NODES = 1 << 15,
    O_OPSET21 = 1 << 16,
    O_MARCH = 1 << 17,
    O_NAMES = 1 << 18
};

static const struct option_row {
    const char *name, *letter, *value, *text;
    enum option_bit bit;
    size_t at; /* in struct options; a value is NULL for a flag */
} option_rows[] = {
    {"--metrics", "-m", "LIST", "['cosine-similarity','mse',…]; the first one ranks", O_SWEEP,
     offsetof(struct options, metrics)},
    {"--node-type", "-n", "TYPE", "node (default), weight or activation", O_SWEEP,
     offsetof(struct options, node_type)},
    {"--output-nodes", "-o", "LIST", "compare these nodes' outputs (default: the model's)", O_SWEEP,
     offsetof(struct options, outputs)},
    {"--data-num", "-d", "N", "the first N samples (default 1)", O_SWEEP,
     offsetof(struct options, data_num)},
    {"--interested-nodes", "-i", "LIST", "only these; [[a,b],[c]] quantizes a and b together",
     O_SWEEP, offsetof(struct options, interested)},
    {"--verbose", "-v", "BOOL", "True: every sample too, in the JSON", O_SWEEP,
     offsetof(struct options, verbose)},
    {"--save-dir", "-s", "DIR", "write the table and the JSON there", O_SWEEP,
     offsetof(struct options, save_dir)},
    {"--fast", NULL, NULL, "leave the harmless after few samples; tells how many each row saw",
     O_SWEEP, offsetof(struct options, fast)},
    {"--memory", NULL, "BYTES", "what the sweep may hold; computes again what does not fit",
     O_SWEEP, offsetof(struct options, memory)},
    {"--full-names", NULL, NULL, "do not cut long names in the table", O_NAMES,
     offsetof(struct options, full_names)},
    {"--config", "-c", "FILE",
     "quant_config: which precision goes where; JSON, or as Python prints it", O_CONFIG,
     offsetof(struct options, config)},
    {"--out", "-o", "FILE", "where the file goes (- is standard output)", O_OUT,
     offsetof(struct options, out)},
    {"--samples", NULL, "N", "use the first N samples only", O_SAMPLES,
     offsetof(struct options, samples)},
    {"--calibration-data", NULL, "DATA", "calibrate on this data, not on what is evaluated",
     O_CALIBRATION, offsetof(struct options, calibration)},
    {"--calibration-data", "-c", "DATA", "a folder, or one npy file", O_DATA,
     offsetof(struct options, calibration)},
    {"--opset21", NULL, NULL, "make it a model of opset 21, whose 16 bit pairs are standard",
     O_OPSET21, offsetof(struct options, opset21)},
    {"--march", NULL, "NAME", "whose rules hold: nash-e (default) or nash-m", O_MARCH,
     offsetof(struct options, march)},
    {"--nodes", NULL, NULL, "compare every node's output too", O_NODES,
     offsetof(struct options, nodes)},
    {"--labels", NULL, "FILE", "an npy of a class number, or a map of them, a sample", O_LABELS,
     offsetof(struct options, labels)},
    {"--name", NULL, "NAME", "what the server calls it (default: the file's name)", O_NAME,
     offsetof(struct options, name)},
    {"--limit", NULL, "N", "show at most N (default 20, at most 100)", O_LIMIT,
     offsetof(struct options, limit)},
    {"--state", NULL, "STATE", "only jobs in this state: running, failed …", O_STATE,
     offsetof(struct options, state)},
    {"--after", NULL, "SEQ", "only events behind this sequence number", O_AFTER,
     offsetof(struct options, after)},
    {"--no-wait", NULL, NULL, "print the job's id and leave it to the server", O_NO_WAIT,
     offsetof(struct options, wait_not)},
    {"--local", NULL, NULL, "compute here with ptq-worker, without a server", O_LOCAL,
     offsetof(struct options, local)},
    {"--store", NULL, "DIR", "with --local: keep results of tasks here for the next time", O_STORE,
     offsetof(struct options, store)},
    {"--url", NULL, "URL", "the server (default: PTQ_URL, else http://127.0.0.1:8080)", O_ALWAYS,
     offsetof(struct options, url)},
    {"--json", NULL, NULL, "JSON on standard output, for programs", O_ALWAYS,
     offsetof(struct options, json)},
    {"--help", "-h", NULL, "this text", O_ALWAYS, offsetof(struct options, help)},
};
enum { N_OPTIONS = sizeof option_rows / sizeof option_rows[0] };

/* ---- commands ---- */

static const struct command {
    const char *name, *noun; /* noun: a second word of the name, or NULL */
    const char *args;
    int min_words, max_words;
    unsigned options;
    int (*run)(struct cli *c, struct err *e);
    const char *text, *more;
} commands[] = {
    {"model", "add", "FILE|DIR", 1, 1, O_NAME, cmd_model_add, "upload an ONNX model",
     "Prints the model's id. What the server has already is not sent again. DIR holds one .onnx\n"
     "file and its external data: a model given as a folder works in every command.\n\n"
     "Example:\n  ptq model add yolop.onnx\n"},
    {"data", "add", "DIR|FILE", 1, 1, O_NAME | O_LABELS, cmd_data_add, "upload calibration data",
     "DIR holds one folder for each input of the model, with one npy file for each sample:\n"
     "<input name>/<sample>.npy, shape with the batch. '/' in an input's name is written %2F.\n"
     "labels.npy beside the folders is one class number a sample, in the order of file names.\n"
     "FILE is such a folder as tar, tar.gz or zip, or an npz, or one npy.\n\n"
     "Example:\n  ptq data add calibration_data --labels calibration_labels.npy\n"},
    {"calibrate", NULL, "MODEL DATA", 2, 2,
     O_CONFIG | O_OUT | O_SAMPLES | O_NO_WAIT | O_LOCAL | O_STORE | O_LABELS | O_MARCH,
     cmd_calibrate, "make a calibrated model",
     "MODEL and DATA are paths or ids. The calibrated model is written to -o FILE, or to\n"
     "<model>_calibrated_model.onnx in this folder.\n\n"
     "Example:\n  echo '{\"model_config\": {\"all_node_type\": \"int16\"}}' > int16.json\n"
     "  ptq calibrate model.onnx calibration_data -c int16.json -o model_int16.onnx\n"},
    {"check", NULL, "MODEL", 1, 1, O_CONFIG | O_LOCAL | O_MARCH | O_NAMES, cmd_check,
     "tell what a configuration would give, without computing",
     "Every port's precision, who decided, by which rule, and the cost, in milliseconds. Names "
     "are\n"
     "those of the optimized graph. The exit status is 1 when the configuration is wrong.\n\n"
     "Example:\n  ptq check model.onnx -c int16.json\n  ptq check mdl_abc… -c config.py --json\n"},
    {"edit", NULL, "MODEL EDITS", 2, 2, O_OUT | O_NAME | O_LOCAL | O_MARCH, cmd_edit,
     "change calibrations of a calibrated model",
     "EDITS is a file with a list of {\"select\", \"set\"}, done in order. select: name, "
     "tensor_type,\n"
     "inputs_of, output_of, inputs_of_op_type, ec_port_of; {} is all. set: qtype, thresholds, "
     "switch.\n"
     "Prints the new model's id; with -o FILE the model is written there too.\n\n"
     "Example:\n  echo '[{\"select\": {\"tensor_type\": \"feature\"}, \"set\": {\"qtype\": "
     "\"int16\"}}]' > e\n"
     "  ptq edit model_calibrated_model.onnx e -o wider.onnx\n"},
    {"evaluate", NULL, "MODEL DATA", 2, 2,
     O_CONFIG | O_SAMPLES | O_CALIBRATION | O_NO_WAIT | O_LOCAL | O_STORE | O_LABELS | O_NODES |
         O_MARCH,
     cmd_evaluate, "compare a calibrated model with its float self",
     "Runs all samples quantized and in float and compares every output; with labels in DATA\n"
     "the accuracy of both too. MODEL is a calibrated model; or a float one, which is calibrated\n"
     "first as -c says, on --calibration-data or on DATA itself.\n\n"
     "Example:\n  ptq evaluate model_calibrated_model.onnx calibration_data\n"
     "  ptq evaluate model.onnx test_data -c int16.json --calibration-data calibration_data\n"},
    {"export", NULL, "MODEL", 1, 1, O_OUT | O_OPSET21 | O_NO_WAIT | O_LOCAL, cmd_export,
     "write a calibrated model for other runtimes",
     "Every calibration becomes QuantizeLinear and DequantizeLinear (QDQ), as ONNX Runtime and "
     "others\n"
     "read it. 16 bit pairs are of com.microsoft, or with --opset21 of ai.onnx where every "
     "operator\n"
     "means the same in opset 21.\n\n"
     "Example:\n  ptq export model_calibrated_model.onnx -o model_qdq.onnx\n"},
    {"info", NULL, "MODEL -c DATA", 1, 1, O_DATA | O_SAMPLES | O_NO_WAIT | O_LOCAL | O_STORE,
     cmd_info, "show a calibrated model's nodes and how far its outputs are from float",
     "DATA is a folder, or one npy file: the figures of each node, then those of each output, for\n"
     "one sample as they are, for several as minimum, maximum and mean.\n"
     "Called by the name hmct-info, the program is this command.\n\n"
     "Example:\n  ptq info model_calibrated_model.onnx -c calibration_data/input/00.npy\n"},
    {"get-sensitivity-of-nodes", NULL, "MODEL DATA", 2, 2,
     O_SWEEP | O_NAMES | O_NO_WAIT | O_LOCAL | O_STORE, cmd_sensitivity,
     "measure what each node costs when it alone is quantized",
     "MODEL is a calibrated model. The table is sorted by the first metric, worst first.\n"
     "Called by the name hmct-debugger, the program takes this command as that tool does.\n\n"
     "Example:\n  ptq get-sensitivity-of-nodes model_calibrated_model.onnx calibration_data \\\n"
     "      -m ['cosine-similarity','mse'] -n node -v True -s ./debug_result\n"},
    {"sensitivity", NULL, "MODEL DATA", 2, 2, O_SWEEP | O_NAMES | O_NO_WAIT | O_LOCAL | O_STORE,
     cmd_sensitivity, "get-sensitivity-of-nodes, in short",
     "See `ptq get-sensitivity-of-nodes --help`.\n"},
    {"jobs", NULL, "", 0, 0, O_LIMIT | O_STATE, cmd_jobs, "list jobs, newest first",
     "Example:\n  ptq jobs --state running\n"},
    {"watch", NULL, "JOB", 1, 1, O_AFTER, cmd_watch, "follow a job to its end",
     "Goes on where it was when the connection breaks. With --json each event is a line.\n\n"
     "Example:\n  ptq watch job_01KXYZ…\n"},
    {"cancel", NULL, "JOB", 1, 1, 0, cmd_cancel, "end a job",
     "What it has computed is kept: the same work is not done again.\n\n"
     "Example:\n  ptq cancel job_01KXYZ…\n"},
    {"get", NULL, "ID [ARTIFACT]", 1, 2, O_OUT, cmd_get, "show or download a resource",
     "A job, model or data set as JSON. With -o FILE: the model's ONNX file, the data's tar, the\n"
     "job's result. With a job's ARTIFACT: that file, to -o FILE or to its own name.\n\n"
     "Example:\n  ptq get job_01KXYZ… quant_config.json\n"
     "  ptq get mdl_abc… -o model.onnx\n"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

/* ---- help ---- */

static void show_option(const struct option_row *o)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s%s", o->letter ? o->letter : "", o->letter ? ", " : "",
             o->name, o->value ? " " : "", o->value ? o->value : "");
    printf("  %-24s %s\n", left, o->text);
}

static void show_command_name(const struct command *k, char ret[64])
{
    snprintf(ret, 64, "%s%s%s %s", k->name, k->noun ? " " : "", k->noun ? k->noun : "", k->args);
}

static int help_command(const struct command *k)
{
    char name[64];
    show_command_name(k, name);
    printf("ptq %s: %s\n\n%s\nOptions:\n", name, k->text, k->more);
    for (int i = 0; i < N_OPTIONS; i++)
        if (option_rows[i].bit & (k->options | O_ALWAYS))
            show_option(&option_rows[i]);
    return EXIT_OK;
}

static int help_all(void)
{
    puts("ptq quantizes ONNX models with a ptqd server, or by itself with --local.\n\nCommands:");
    for (int i = 0; i < N_COMMANDS; i++) {
        char name[64];
        show_command_name(&commands[i], name);
        printf("  %-24s %s\n", name, commands[i].text);
    }
    debug_help_list();
    puts("\nThe main job, in two lines:\n"
         "  ptq calibrate model.onnx calibration_data\n"
         "  ptq evaluate model_calibrated_model.onnx calibration_data\n"
         "\nMODEL and DATA are paths or ids. `ptq COMMAND --help` tells more of a command.\n"
         "The server is --url URL, or PTQ_URL, or http://127.0.0.1:8080.\n"
         "Exit status: 0 done, 1 the job failed or was refused, 2 wrong usage, 3 no server, 4 the\n"
         "job's target was not met.");
    return EXIT_OK;
}

/* ---- the command line ---- */

static int usage(const char *what, const char *word)
{
    fprintf(stderr, "ptq: %s%s%s. `ptq --help` lists the commands.\n", what, word ? ": " : "",
            word ? word : "");
    return EXIT_USAGE;
}

/* --data_num is --data-num. */
static bool is_called(const struct option_row *o, const char *word, size_t len)
{
    if (o->letter && len == 2 && !strncmp(word, o->letter, 2))
        return true;
    if (strlen(o->name) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (o->name[i] != word[i] && !(o->name[i] == '-' && word[i] == '_' && i > 1))
            return false;
    return true;
}

/* The option of that name that the command takes; else any, for the message. */
static const struct option_row *find_option(const struct command *k, const char *word, size_t len)
{
    const struct option_row *any = NULL;
    for (int i = 0; i < N_OPTIONS; i++) {
        const struct option_row *o = &option_rows[i];
        if (!is_called(o, word, len))
            continue;
        if (!k || o->bit & (k->options | O_ALWAYS))
            return o;
        any = o;
    }
    return any;
}

/* A list that the shell has cut at its spaces: how many words it is; 1 for anything else. */
static int list_words(char **argv)
{
    int deep = 0, n = 0;
    if (argv[0][0] != '[')
        return 1;
    do {
        for (const char *p = argv[n]; *p; p++)
            deep += (*p == '[') - (*p == ']');
        n++;
    } while (deep > 0 && argv[n]);
    return deep ? 1 : n;
}

static const char *joined(struct arena *a, char **argv, int n)
{
    const char *all = argv[0];
    for (int i = 1; i < n; i++)
        all = arena_printf(a, "%s %s", all, argv[i]);
    return all;
}

/* Takes an option at argv[0]: how many words it took, 0 on error. "--name=value" is one word. */
static int take_option(struct cli *c, const struct command *k, char **argv, unsigned *seen)
{
    const char *equals = !strncmp(argv[0], "--", 2) ? strchr(argv[0], '=') : NULL;
    size_t len = equals ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const struct option_row *o = find_option(k, argv[0], len);
    if (!o)
        return usage("This option is not known", argv[0]), 0;
    char *to = (char *)&c->opt + o->at;
    const char *value = equals ? equals + 1 : o->value ? argv[1] : NULL;
    *seen |= o->bit;
    if (!o->value && !equals) {
        *(bool *)to = true;
        return 1;
    }
    if (!o->value || !value)
        return usage(o->value ? "This option needs a value" : "This option takes no value",
                     argv[0]),
               0;
    int words = equals || strcmp(o->value, "LIST") != 0 ? 1 : list_words(argv + 1);
    if (words > 1)
        value = joined(&c->arena, argv + 1, words);
    memcpy(to, &value, sizeof value);
    return equals ? 1 : 1 + words;
}

static int parse(struct cli *c, const struct command *k, char **argv, unsigned *seen)
{
    for (int i = 0; argv[i];) {
        if (argv[i][0] == '-' && argv[i][1]) {
            int took = take_option(c, k, argv + i, seen);
            if (!took)
                return EXIT_USAGE;
            i += took;
        } else {
            if (c->n_words == WORDS_MAX)
                return usage("There are too many words", argv[i]);
            c->words[c->n_words++] = argv[i++];
        }
    }
    return EXIT_OK;
}

/* The command of that name. A folder may be called "data": a name of two words is both. */
static const struct command *find_command(char **word)
{
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(*word, commands[i].name) &&
            (!commands[i].noun || (word[1] && !strcmp(word[1], commands[i].noun))))
            return &commands[i];
    return NULL;
}

/* The first words that are a command's name say what the letters mean; *ret_tool: they name one of
 * the debugger's tools (cli/debug.h). */
static const struct command *guess_command(char **argv, bool *ret_tool)
{
    *ret_tool = false;
    for (char **word = argv; *word; word++) {
        const struct command *k = find_command(word);
        if (k || (*ret_tool = debug_is_command(*word)))
            return k;
    }
    for (int i = 0; *argv && i < N_COMMANDS; i++)
        if (!strcmp(*argv, commands[i].name))
            return &commands[i];
    return NULL;
}

/* The command that the first words name; they are taken away. */
static const struct command *take_command(struct cli *c)
{
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command *k = &commands[i];
        int n = k->noun ? 2 : 1;
        if (c->n_words < n || strcmp(c->words[0], k->name) ||
            (k->noun && strcmp(c->words[1], k->noun)))
            continue;
        c->n_words -= n;
        memmove(c->words, c->words + n, (size_t)c->n_words * sizeof c->words[0]);
        memset(c->words + c->n_words, 0, (size_t)(WORDS_MAX - c->n_words) * sizeof c->words[0]);
        return k;
    }
    return NULL;
}

static int run(struct cli *c, const struct command *k, unsigned seen)
{
    char name[64];
    struct err e = ERR_INIT;
    if (c->opt.help)
        return help_command(k);
    show_command_name(k, name);
    if (c->n_words < k->min_words || c->n_words > k->max_words) {
        fprintf(stderr, "ptq: It is `ptq %s`. `ptq %s%s%s --help` tells more.\n", name, k->name,
                k->noun ? " " : "", k->noun ? k->noun : "");
        return EXIT_USAGE;
    }
    for (int i = 0; i < N_OPTIONS; i++)
        if (seen & option_rows[i].bit & ~(k->options | O_ALWAYS))
            return usage("This command does not take the option", option_rows[i].name);
    return k->run(c, &e);
}

struct remote *cli_remote(struct cli *c)
{
    const char *url = c->opt.url ? c->opt.url : getenv("PTQ_URL");
    if (!c->remote)
        c->remote = remote_new(url && *url ? url : "http://127.0.0.1:8080");
    return c->remote;
}

int cli_fail(const struct err *e)
{
    fprintf(stderr, "ptq: %s: %s%s%s\n", err_title(e->code), e->at, *e->at ? ": " : "", e->detail);
    return e->code == ERR_UNAVAILABLE ? EXIT_UNREACHABLE : EXIT_FAILED;
}

/* The vendor's hmct-info is one command, without its name. */
static char **with_command(struct arena *a, int argc, char **argv)
{
    static char info[] = "info";
    const char *slash = strrchr(argv[0], '/');
    if (strcmp(slash ? slash + 1 : argv[0], "hmct-info") != 0)
        return argv + 1;
    char **words = arena_array(a, (size_t)argc + 1, sizeof *words);
    words[0] = info;
    memcpy(words + 1, argv + 1, (size_t)argc * sizeof *words);
    return words;
}

int main(int argc, char **argv)
{
    struct cli c = {.arena = ARENA_INIT};
    unsigned seen = 0;
    argv = with_command(&c.arena, argc, argv);
    if (argv[0] && !argv[1] && !strcmp(argv[0], "--version"))
        return puts("ptq " PTQ_VERSION) < 0;
    bool tool;
    const struct command *guess = guess_command(argv, &tool);
    if (tool) {
        int ended = debug_command(&c, argv);
        remote_free(c.remote);
        arena_done(&c.arena);
        return ended;
    }
    int status = parse(&c, guess, argv, &seen);
    if (status)
        return status;
    const struct command *k = take_command(&c);
    if (k)
        status = run(&c, k, seen);
    else if (c.opt.help || !c.n_words)
        status = c.opt.help ? help_all() : (help_all(), EXIT_USAGE);
    else
        status = usage("This command is not known", c.words[0]);
    remote_free(c.remote);
    arena_done(&c.arena);
    return status;
}
