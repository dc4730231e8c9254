/*
 * Runs ONNX's node tests: `conformance [-s SKIPS] [-d DEVIATIONS [-p]] DIR…`, each DIR a test
 * (model.onnx, test_data_set_N with input_K.pb and output_K.pb) or a folder of tests. A
 * child runs them; after one that ends it, another goes on. Tests matched by SKIPS, else
 * tests/conformance-skips.txt (pattern, reason), are skipped. Those matched by DEVIATIONS are run,
 * and must compute something else than their outputs: one that agrees fails, and so does a pattern
 * that matches none, but for a part of the tests (-p). The skips are counted by reason; the last
 * line counts all.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "onnx.pb-c.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"

enum { INPUTS_MAX = 64, LINE_SIZE = 512, RULES_MAX = 256, TIME_MAX_S = 60 };
enum result { PASSED, FAILED, SKIPPED, RESULTS };

static struct arena memory = ARENA_INIT; /* of the test that runs */
static struct arena lists = ARENA_INIT;  /* names and rules */

/* A list of patterns for tests' names, each with a reason. */
struct rule {
    const char *pattern, *reason;
    int matches;
};
struct rules {
    int n;
    struct rule rule[RULES_MAX];
};
static struct rules skips, deviations;

/* ---- tensors from files ---- */

static unsigned char *read_file(const char *path, size_t *ret_size)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st)) {
        if (f)
            fclose(f);
        return NULL;
    }
    unsigned char *bytes = arena_alloc(&memory, (size_t)st.st_size + 1);
    *ret_size = fread(bytes, 1, (size_t)st.st_size, f);
    fclose(f);
    return bytes;
}

/* An element from the list that its type is written in. */
static void copy_element(const Onnx__TensorProto *p, struct tensor *t, size_t i)
{
    size_t size = dtype_size(t->type);
    const void *from = NULL;
    if (i < p->n_float_data)
        from = &p->float_data[i];
    else if (i < p->n_int32_data) /* little-endian: the low bytes are the number */
        from = &p->int32_data[i];
    else if (i < p->n_int64_data)
        from = &p->int64_data[i];
    else if (i < p->n_double_data)
        from = &p->double_data[i];
    else if (i < p->n_uint64_data)
        from = &p->uint64_data[i];
    if (from)
        memcpy((char *)t->data + i * size, from, size);
}

static int load_tensor(const char *path, struct tensor *ret, struct err *e)
{
    size_t size = 0;
    unsigned char *bytes = read_file(path, &size);
    Onnx__TensorProto *p = bytes ? onnx__tensor_proto__unpack(NULL, size, bytes) : NULL;
    if (!p)
        return err_set(e, ERR_BAD_DATA, path, "The tensor cannot be read.");
    if (!dtype_size((enum dtype)p->data_type))
        return err_set(e, ERR_UNSUPPORTED, path, "Element type %d.", p->data_type);
    if (tensor_set(ret, (enum dtype)p->data_type, (int)p->n_dims, p->dims, e))
        return -1;
    ret->data = arena_alloc(&memory, tensor_bytes(ret) + 1);
    if (p->has_raw_data && p->raw_data.len && p->raw_data.len == tensor_bytes(ret))
        memcpy(ret->data, p->raw_data.data, p->raw_data.len);
    else
        for (size_t i = 0; i < (size_t)tensor_count(ret); i++)
            copy_element(p, ret, i);
    onnx__tensor_proto__free_unpacked(p, NULL);
    return 0;
}

/* ---- comparing ---- */

static bool near(const struct tensor *want, double a, double b)
{
    bool half = want->type == DT_F16;
    double relative = half ? 1e-2 : 1e-3, absolute = half ? 2e-3 : 1e-5;
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b);
    return a == b || fabs(a - b) <= absolute + relative * fabs(a);
}

static const char OUTPUTS[] = "outputs"; /* where an error is that is a difference */

static int compare(int k, const struct tensor *want, const struct tensor *got, struct err *e)
{
    char a[TENSOR_TEXT_MAX], b[TENSOR_TEXT_MAX];
    if (want->type != got->type || !tensor_same_shape(want, got))
        return err_set(e, ERR_BAD_DATA, OUTPUTS, "Output %d is %s, not %s.", k, tensor_text(got, b),
                       tensor_text(want, a));
    for (int64_t i = 0, n = tensor_count(want); i < n; i++) {
        if (dtype_is_float(want->type)) {
            double x = tensor_num(want, i), y = tensor_num(got, i);
            if (!near(want, x, y))
                return err_set(e, ERR_BAD_DATA, OUTPUTS,
                               "Output %d, element %lld is %.9g, not %.9g.", k, (long long)i, y, x);
        } else if (tensor_int(want, i) != tensor_int(got, i)) {
            return err_set(e, ERR_BAD_DATA, OUTPUTS, "Output %d, element %lld is %lld, not %lld.",
                           k, (long long)i, (long long)tensor_int(got, i),
                           (long long)tensor_int(want, i));
        }
    }
    return 0;
}

/* ---- a test ---- */

static int run_set(const struct graph *g, const char *dir, struct err *e)
{
    struct tensor in[INPUTS_MAX], want;
    struct exec *x = NULL;
    if (g->n_inputs > INPUTS_MAX)
        return err_set(e, ERR_LIMIT, dir, "Too many inputs.");
    for (int i = 0; i < g->n_inputs; i++) {
        if (load_tensor(arena_printf(&memory, "%s/input_%d.pb", dir, i), &in[i], e))
            return -1;
    }
    struct exec_opts opts = {.backend = NULL};
    int rc = exec_new(g, in, &opts, &x, e);
    if (rc == 0)
        rc = exec_run(x, in, NULL, NULL, e);
    for (int i = 0; rc == 0 && i < g->n_outputs; i++) {
        const char *path = arena_printf(&memory, "%s/output_%d.pb", dir, i);
        rc = load_tensor(path, &want, e) || compare(i, &want, exec_output(x, i), e) ? -1 : 0;
    }
    exec_free(x);
    return rc;
}

static int run_test(const char *dir, struct err *e)
{
    struct model *m;
    struct model_source src = {.path = arena_printf(&memory, "%s/model.onnx", dir), .local = true};
    if (model_open(&src, &m, e))
        return -1;
    int rc = 0, n = 0;
    for (; rc == 0; n++) {
        const char *set = arena_printf(&memory, "%s/test_data_set_%d", dir, n);
        if (access(set, F_OK))
            break;
        rc = run_set(m->float_graph, set, e);
    }
    model_free(m);
    return rc == 0 && n == 0 ? err_set(e, ERR_BAD_DATA, dir, "There is no test data.") : rc;
}

/* Whether it ran and its outputs differ, by the error it ended with. */
static bool differs(const struct err *e)
{
    return e->code == ERR_BAD_DATA && !strcmp(e->at, OUTPUTS);
}

/* ---- lists ---- */

static int read_rules(const char *path, struct rules *ret)
{
    FILE *f = fopen(path, "r");
    char line[LINE_SIZE], pattern[LINE_SIZE], reason[LINE_SIZE];
    if (!f) {
        perror(path);
        return -1;
    }
    while (ret->n < RULES_MAX && fgets(line, sizeof line, f))
        if (sscanf(line, "%511s %511[^\n]", pattern, reason) == 2 && pattern[0] != '#')
            ret->rule[ret->n++] = (struct rule){.pattern = arena_strdup(&lists, pattern),
                                                .reason = arena_strdup(&lists, reason)};
    fclose(f);
    return 0;
}

static struct rule *find_rule(struct rules *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (!fnmatch(list->rule[i].pattern, name, FNM_EXTMATCH)) {
            list->rule[i].matches++;
            return &list->rule[i];
        }
    return NULL;
}

/* How many tests each reason took out. */
static void print_reasons(const struct rules *list, const char *word)
{
    for (int i = 0; i < list->n; i++) {
        const char *reason = list->rule[i].reason;
        int n = 0, earlier = 0;
        for (int k = 0; k < list->n; k++) {
            bool same = !strcmp(list->rule[k].reason, reason);
            n += same ? list->rule[k].matches : 0;
            earlier += same && k < i;
        }
        if (n && !earlier)
            printf("%4d %s: %s\n", n, word, reason);
    }
}

static int count_idle(const struct rules *list)
{
    int n = 0;
    for (int i = 0; i < list->n; i++)
        if (!list->rule[i].matches) {
            printf("FAILED the pattern %s matches no test\n", list->rule[i].pattern);
            n++;
        }
    return n;
}

/* ---- all tests ---- */

struct test {
    const char *dir, *name;
    const struct rule *deviation;
};
struct tests {
    int n, room;
    struct test *test;
};

static void add_test(struct tests *list, const char *dir)
{
    const char *slash = strrchr(dir, '/');
    if (list->n == list->room) {
        struct test *more = arena_array(&lists, 2 * (size_t)list->room + 64, sizeof *more);
        if (list->n)
            memcpy(more, list->test, (size_t)list->n * sizeof *more);
        list->test = more;
        list->room = 2 * list->room + 64;
    }
    list->test[list->n++] = (struct test){.dir = dir, .name = slash ? slash + 1 : dir};
}

static void find_tests(const char *dir, struct tests *ret)
{
    if (!access(arena_printf(&lists, "%s/model.onnx", dir), F_OK)) {
        add_test(ret, dir);
        return;
    }
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *path = arena_printf(&lists, "%s/%s", dir, names[i]->d_name);
        struct stat st;
        if (names[i]->d_name[0] != '.' && !stat(path, &st) && S_ISDIR(st.st_mode))
            find_tests(path, ret);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

/* Takes out those that are skipped, marks those that deviate; returns how many are skipped. */
static int apply_rules(struct tests *list)
{
    int all = list->n;
    list->n = 0;
    for (int i = 0; i < all; i++) {
        struct test t = list->test[i];
        t.deviation = find_rule(&deviations, t.name);
        if (!find_rule(&skips, t.name))
            list->test[list->n++] = t;
    }
    return all - list->n;
}

static enum result run_one(const struct test *t)
{
    struct err e = ERR_INIT;
    alarm(TIME_MAX_S);
    int rc = run_test(t->dir, &e);
    enum result r = !rc ? PASSED : FAILED;
    if (t->deviation && rc && differs(&e))
        r = SKIPPED;
    else if (t->deviation && !rc)
        r = FAILED;
    if (r == FAILED && !rc)
        printf("FAILED %s: it agrees, and is listed as a deviation\n", t->name);
    else if (r == FAILED)
        printf("FAILED %s: %s (at \"%s\")\n", t->name, e.detail, e.at);
    fflush(stdout);
    arena_done(&memory);
    return r;
}

/* A child runs tests from `first` on, and writes a result a test. Returns the first one that it did
 * not come to. */
static int run_from(const struct tests *list, int first, int count[RESULTS])
{
    int fd[2], status = 0;
    char r;
    if (pipe(fd))
        return list->n;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        for (int i = first; i < list->n; i++) {
            r = (char)run_one(&list->test[i]);
            if (write(fd[1], &r, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    close(fd[1]);
    for (; read(fd[0], &r, 1) == 1; first++)
        count[(int)r]++;
    close(fd[0]);
    waitpid(child, &status, 0);
    if (first < list->n) {
        printf("FAILED %s: it ended the process (signal %d)\n", list->test[first].name,
               WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        count[FAILED]++;
        first++;
    }
    return first;
}

static int usage(void)
{
    fprintf(stderr, "conformance [-s SKIPS] [-d DEVIATIONS [-p]] DIR…\n");
    return 2;
}

int main(int argc, char **argv)
{
    int count[RESULTS] = {0}, option;
    bool part = false;
    const char *skips_path = "tests/conformance-skips.txt", *deviations_path = NULL;
    while ((option = getopt(argc, argv, "s:d:p")) >= 0) {
        if (option == 's')
            skips_path = optarg;
        else if (option == 'd')
            deviations_path = optarg;
        else if (option == 'p')
            part = true;
        else
            return usage();
    }
    if (read_rules(skips_path, &skips) ||
        (deviations_path && read_rules(deviations_path, &deviations)))
        return 1;
    struct tests tests = {0};
    for (int i = optind; i < argc; i++) {
        size_t n = strlen(argv[i]);
        if (n > 1 && argv[i][n - 1] == '/')
            argv[i][n - 1] = 0;
        find_tests(argv[i], &tests);
    }
    count[SKIPPED] = apply_rules(&tests);
    for (int i = 0; i < tests.n;)
        i = run_from(&tests, i, count);
    count[FAILED] += part ? 0 : count_idle(&deviations);
    print_reasons(&skips, "skipped");
    print_reasons(&deviations, "deviate");
    printf("%d passed, %d failed, %d skipped\n", count[PASSED], count[FAILED], count[SKIPPED]);
    return count[FAILED] != 0 || count[PASSED] == 0;
}
