#include "tests/unit/big_nets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IR = 8, OPSET = 13 };

static void begin(struct onnx_maker *m)
{
    maker_init(m, IR, OPSET);
    maker_input(m, "x", "2");
}

/* base_0 base_1 … base_(n-1), the caller's to free. */
static char *numbered(const char *base, int n)
{
    size_t each = strlen(base) + 12, at = 0;
    char *list = calloc((size_t)n + 1, each);
    for (int i = 0; i < n; i++)
        at += (size_t)sprintf(list + at, "%s_%d ", base, i);
    return list;
}

/* x → op → op → … → y. `more`: further inputs of each. */
static void chain(struct onnx_maker *m, const char *op, const char *more, const char *attrs, int n)
{
    char in[64], out[24];
    snprintf(in, sizeof in, "x %s", more);
    for (int i = 0; i < n; i++) {
        snprintf(out, sizeof out, i == n - 1 ? "y" : "v%d", i);
        maker_node(m, op, "", in, out, attrs);
        snprintf(in, sizeof in, "%s %s", out, more);
    }
}

static void make_line(struct onnx_maker *m, int n)
{
    begin(m);
    chain(m, "Neg", "", NULL, n);
    maker_output(m, "y", "2");
}

/* The file has the last node first. */
static void make_backwards(struct onnx_maker *m, int n)
{
    char in[24], out[24];
    begin(m);
    for (int i = n - 1; i >= 0; i--) {
        snprintf(in, sizeof in, i ? "v%d" : "x", i - 1);
        snprintf(out, sizeof out, i == n - 1 ? "y" : "v%d", i);
        maker_node(m, "Neg", "", in, out, NULL);
    }
    maker_output(m, "y", "2");
}

/* One value with n readers; one node that reads them all, so that all live at once. */
static void make_fan(struct onnx_maker *m, int n)
{
    char out[24], *all = numbered("v", n);
    begin(m);
    for (int i = 0; i < n; i++) {
        snprintf(out, sizeof out, "v_%d", i);
        maker_node(m, "Neg", "", "x", out, NULL);
    }
    maker_node(m, "Concat", "", all, "y", "axis=i:0");
    maker_output(m, "y", "?");
    free(all);
}

/* Every value is a graph output. */
static void make_outputs(struct onnx_maker *m, int n)
{
    char out[24];
    begin(m);
    for (int i = 0; i < n; i++) {
        snprintf(out, sizeof out, "v_%d", i);
        maker_node(m, "Neg", "", "x", out, NULL);
        maker_output(m, out, "2");
    }
}

/* Constants for each node, all folded away but the last. */
static void make_constants(struct onnx_maker *m, int n)
{
    char in[48], out[24], name[24];
    const int64_t one = 1;
    begin(m);
    for (int i = 0; i < n / 2; i++) {
        snprintf(name, sizeof name, "c%d", i);
        maker_ints(m, name, "1", &one);
        if (!i)
            continue;
        snprintf(in, sizeof in, i == 1 ? "c%d c%d" : "s%d c%d", i - 1, i);
        snprintf(out, sizeof out, "s%d", i);
        maker_node(m, "Add", "", in, out, NULL);
    }
    snprintf(in, sizeof in, "x s%d", n / 2 - 1);
    maker_node(m, "Tile", "", in, "y", NULL);
    maker_output(m, "y", "?");
}

/* Arithmetic on an unknown dim. */
static void make_shapes(struct onnx_maker *m, int n)
{
    const int64_t zero = 0;
    maker_init(m, IR, OPSET);
    maker_input(m, "z", "N");
    maker_ints(m, "zero", "1", &zero);
    maker_node(m, "Shape", "", "z", "x", NULL);
    chain(m, "Add", "zero", NULL, n);
    maker_node(m, "Expand", "", "z y", "out", NULL);
    maker_output(m, "out", "?");
}

/* What each pass takes out one of. */
static void make_identities(struct onnx_maker *m, int n)
{
    begin(m);
    chain(m, "Identity", "", NULL, n);
    maker_output(m, "y", "2");
}

static void make_norms(struct onnx_maker *m, int n)
{
    const float one[] = {1}, weight[] = {2};
    maker_init(m, IR, OPSET);
    maker_input(m, "z", "1,1,2,2");
    maker_floats(m, "w", "1,1,1,1", weight);
    maker_floats(m, "one", "1", one);
    maker_node(m, "Conv", "", "z w", "v_0", NULL);
    for (int i = 1; i < n; i++) {
        char in[48], out[24];
        snprintf(in, sizeof in, "v_%d one one one one", i - 1);
        snprintf(out, sizeof out, i == n - 1 ? "y" : "v_%d", i);
        maker_node(m, "BatchNormalization", "", in, out, NULL);
    }
    maker_output(m, "y", "?,?,?,?");
}

static void make_pads(struct onnx_maker *m, int n)
{
    const int64_t pads[8] = {0};
    const float weight[] = {2};
    maker_init(m, IR, OPSET);
    maker_input(m, "x", "1,1,2,2");
    maker_ints(m, "pads", "8", pads);
    maker_floats(m, "w", "1,1,1,1", weight);
    for (int i = 0; i < n; i++) {
        char in[48], out[24];
        snprintf(in, sizeof in, i ? "v_%d pads" : "x pads", i - 1);
        snprintf(out, sizeof out, "v_%d", i);
        maker_node(m, "Pad", "", in, out, NULL);
    }
    char in[48];
    snprintf(in, sizeof in, "v_%d w", n - 1);
    maker_node(m, "Conv", "", in, "y", NULL);
    maker_output(m, "y", "?,?,?,?");
}

/* Pairs of Conv and BatchNormalization that all share one weight, each to be scaled on its own. */
static void make_shared_weights(struct onnx_maker *m, int n)
{
    const float one[] = {1}, weight[] = {2};
    char in[48], mid[24], out[24];
    maker_init(m, IR, OPSET);
    maker_input(m, "x", "1,1,2,2");
    maker_floats(m, "w", "1,1,1,1", weight);
    maker_floats(m, "one", "1", one);
    for (int i = 0; i < n / 2; i++) {
        snprintf(in, sizeof in, i ? "v%d w" : "x w", i - 1);
        snprintf(mid, sizeof mid, "c%d", i);
        snprintf(out, sizeof out, i == n / 2 - 1 ? "y" : "v%d", i);
        maker_node(m, "Conv", "", in, mid, NULL);
        snprintf(in, sizeof in, "%s one one one one", mid);
        maker_node(m, "BatchNormalization", "", in, out, NULL);
    }
    maker_output(m, "y", "?,?,?,?");
}

/* An If whose condition is constant, in another, in another … side by side. */
static void make_branches(struct onnx_maker *m, int n)
{
    struct onnx_maker branch;
    char in[24] = "x", out[24];
    const int64_t one = 1;
    maker_init(&branch, IR, OPSET);
    maker_node(&branch, "Neg", "same", "x", "inner", NULL);
    maker_output(&branch, "inner", "2");
    begin(m);
    maker_ints(m, "one", "", &one);
    maker_node(m, "Cast", "", "one", "yes", "to=i:9");
    for (int i = 0; i < (n - 1) / 3; i++) {
        snprintf(out, sizeof out, "v%d", i);
        maker_body(m, "then_branch", &branch);
        maker_body(m, "else_branch", &branch);
        maker_node(m, "If", "", "yes", out, NULL);
        snprintf(in, sizeof in, "%s", out);
    }
    maker_done(&branch);
    maker_output(m, in, "2");
}

const struct big_net big_nets[] = {{"line", make_line},
                                   {"backwards", make_backwards},
                                   {"fan", make_fan},
                                   {"outputs", make_outputs},
                                   {"constants", make_constants},
                                   {"shapes", make_shapes},
                                   {"identities", make_identities},
                                   {"norms", make_norms},
                                   {"pads", make_pads},
                                   {"shared_weights", make_shared_weights},
                                   {"branches", make_branches},
                                   {0}};
