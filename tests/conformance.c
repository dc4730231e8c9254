/*
 * Runs ONNX's node tests: `conformance [-s SKIPS] DIR…`, each DIR a test (model.onnx,
 * test_data_set_N with input_K.pb and output_K.pb) or a folder of tests. Each runs in a process of
 * its own. Tests matched by SKIPS, else tests/conformance-skips.txt (pattern, reason), are skipped.
 * The last line counts.
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

enum { INPUTS_MAX = 64, LINE_SIZE = 512 };
enum result { PASSED, FAILED, SKIPPED, RESULTS };

static struct arena memory;
static const char *skips_path = "tests/conformance-skips.txt";

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

static int compare(int k, const struct tensor *want, const struct tensor *got, struct err *e)
{
    char a[TENSOR_TEXT_MAX], b[TENSOR_TEXT_MAX];
    if (want->type != got->type || !tensor_same_shape(want, got))
        return err_set(e, ERR_BAD_DATA, "", "Output %d is %s, not %s.", k, tensor_text(got, b),
                       tensor_text(want, a));
    for (int64_t i = 0, n = tensor_count(want); i < n; i++) {
        if (dtype_is_float(want->type)) {
            double x = tensor_num(want, i), y = tensor_num(got, i);
            if (!near(want, x, y))
                return err_set(e, ERR_BAD_DATA, "", "Output %d, element %lld is %.9g, not %.9g.", k,
                               (long long)i, y, x);
        } else if (tensor_int(want, i) != tensor_int(got, i)) {
            return err_set(e, ERR_BAD_DATA, "", "Output %d, element %lld is %lld, not %lld.", k,
                           (long long)i, (long long)tensor_int(got, i),
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

static bool is_skipped(const char *name, char reason[LINE_SIZE])
{
    FILE *f = fopen(skips_path, "r");
    char line[LINE_SIZE], pattern[LINE_SIZE];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        if (sscanf(line, "%511s %511[^\n]", pattern, reason) == 2 && pattern[0] != '#')
            found = fnmatch(pattern, name, 0) == 0;
    if (f)
        fclose(f);
    return found;
}

static enum result try_test(const char *dir, const char *name)
{
    char reason[LINE_SIZE];
    if (is_skipped(name, reason)) {
        printf("skipped %s: %s\n", name, reason);
        return SKIPPED;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct err e = ERR_INIT;
        alarm(60);
        int rc = run_test(dir, &e);
        if (rc)
            printf("FAILED %s: %s (at \"%s\")\n", name, e.detail, e.at);
        fflush(stdout);
        _exit(rc != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status))
        printf("FAILED %s: signal %d\n", name, WTERMSIG(status));
    return status == 0 ? PASSED : FAILED;
}

static void walk(const char *dir, int count[RESULTS])
{
    if (!access(arena_printf(&memory, "%s/model.onnx", dir), F_OK)) {
        const char *slash = strrchr(dir, '/');
        count[try_test(dir, slash ? slash + 1 : dir)]++;
        return;
    }
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *path = arena_printf(&memory, "%s/%s", dir, names[i]->d_name);
        struct stat st;
        if (names[i]->d_name[0] != '.' && !stat(path, &st) && S_ISDIR(st.st_mode))
            walk(path, count);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

int main(int argc, char **argv)
{
    int count[RESULTS] = {0}, first = 1;
    if (argc > 2 && !strcmp(argv[1], "-s")) {
        skips_path = argv[2];
        first = 3;
    }
    if (access(skips_path, R_OK)) {
        perror(skips_path);
        return 1;
    }
    for (int i = first; i < argc; i++) {
        size_t n = strlen(argv[i]);
        if (n > 1 && argv[i][n - 1] == '/')
            argv[i][n - 1] = 0;
        walk(argv[i], count);
    }
    printf("%d passed, %d failed, %d skipped\n", count[PASSED], count[FAILED], count[SKIPPED]);
    return count[FAILED] != 0 || count[PASSED] == 0;
}
