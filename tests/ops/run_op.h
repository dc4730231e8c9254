/*
 * Runs one operator on given tensors: shape, prepare, run, as the executor would. What fails lies
 * in r.e; r.rc is what shape or run returned. All memory lives to the end of the test's process.
 *
 *   struct run r = run_op("Concat", 13, (struct attr[]){ATTR_I("axis", 1), {0}}, 1, x, y, NULL);
 *   check_floats(&r.out[0], (float[]){…}, n);
 */
#ifndef PTQ_TESTS_OPS_RUN_OP_H
#define PTQ_TESTS_OPS_RUN_OP_H

#include "tests/test.h"
#include "worker/ops/op.h"

enum { RUN_OUTS = 8, RUN_INS = 16 };

struct run {
    int rc;
    struct err e;
    struct tensor out[RUN_OUTS];
};

#define AT_I(n_, v)                                                                                \
    {                                                                                              \
        .name = n_, .type = ATTR_INT, .n = 1, .i = v                                               \
    }
#define AT_F(n_, v)                                                                                \
    {                                                                                              \
        .name = n_, .type = ATTR_FLOAT, .n = 1, .f = v                                             \
    }
#define AT_S(n_, v)                                                                                \
    {                                                                                              \
        .name = n_, .type = ATTR_STRING, .n = 1, .s = v                                            \
    }
#define AT_INTS(n_, ...)                                                                           \
    {                                                                                              \
        .name = n_, .type = ATTR_INTS, .n = sizeof((int64_t[]){__VA_ARGS__}) / 8,                  \
        .ints = (int64_t[])                                                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define AT_FLOATS(n_, ...)                                                                         \
    {                                                                                              \
        .name = n_, .type = ATTR_FLOATS, .n = sizeof((float[]){__VA_ARGS__}) / 4,                  \
        .floats = (float[])                                                                        \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define ATTRS(...)                                                                                 \
    (struct attr[])                                                                                \
    {                                                                                              \
        __VA_ARGS__,                                                                               \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/* type: an operator of ONNX, or "domain:operator". attrs: closed by an empty one, or NULL. Inputs:
 * n_in of them, NULL = absent. */
struct run run_op_list(const char *type, int opset, const struct attr *attrs, int n_out, int n_in,
                       const struct tensor *const *in);
#define run_op(type, opset, attrs, n_out, ...)                                                     \
    run_op_list(type, opset, attrs, n_out,                                                         \
                sizeof((const struct tensor *[]){__VA_ARGS__}) / sizeof(void *),                   \
                (const struct tensor *[]){__VA_ARGS__})

/* Tensors of the test. Dims are closed by -1. */
struct tensor *tensor_of(enum dtype t, const void *data, const int64_t *dims);
#define DIMS(...)                                                                                  \
    (int64_t[])                                                                                    \
    {                                                                                              \
        __VA_ARGS__, -1                                                                            \
    }
#define SCALAR      ((int64_t[]){-1})
#define FLOATS(...) tensor_of_floats(sizeof((float[]){__VA_ARGS__}) / 4, (float[]){__VA_ARGS__})
#define INTS(...)   tensor_of_ints(sizeof((int64_t[]){__VA_ARGS__}) / 8, (int64_t[]){__VA_ARGS__})
struct tensor *tensor_of_floats(size_t n, const float *v); /* one dim */
struct tensor *tensor_of_ints(size_t n, const int64_t *v); /* one dim, int64 */
struct tensor *tensor_shaped(struct tensor *t, const int64_t *dims);
/* Numbers in [-2, 2) (integers: [0, 8)) from a fixed sequence. */
struct tensor *tensor_random(enum dtype t, const int64_t *dims, unsigned seed);
/* The same values in channels-last memory. */
struct tensor *tensor_last(const struct tensor *t);
struct tensor *tensor_plain(const struct tensor *t);

void check_shape(const struct tensor *t, enum dtype type, const int64_t *dims);
void check_floats(const struct tensor *t, const float *v, size_t n, double tol);
void check_ints(const struct tensor *t, const int64_t *v, size_t n);
#define CHECK_FLOATS(t, tol, ...)                                                                  \
    check_floats(t, (float[]){__VA_ARGS__}, sizeof((float[]){__VA_ARGS__}) / 4, tol)
#define CHECK_INTS(t, ...)                                                                         \
    check_ints(t, (int64_t[]){__VA_ARGS__}, sizeof((int64_t[]){__VA_ARGS__}) / 8)
/* Same type, shape and values (by logical order), NaN equal to NaN. */
void check_same(const struct tensor *a, const struct tensor *b, double tol);
/* Runs with all inputs of rank >= 3 plain and channels-last: the outputs are the same. */
void check_layouts(const char *type, int opset, const struct attr *attrs, int n_out, int n_in,
                   const struct tensor *const *in);
#define CHECK_LAYOUTS(type, opset, attrs, n_out, ...)                                              \
    check_layouts(type, opset, attrs, n_out,                                                       \
                  sizeof((const struct tensor *[]){__VA_ARGS__}) / sizeof(void *),                 \
                  (const struct tensor *[]){__VA_ARGS__})

#endif
