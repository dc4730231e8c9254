/*
 * ONNX Runtime's C interface, as far as the benchmarks use it: a table of functions whose places
 * never change; those that are used are named by their place (onnxruntime_c_api.h, version 1).
 */
#ifndef PTQ_BENCH_ORT_API_H
#define PTQ_BENCH_ORT_API_H

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "worker/load/npy.h"

enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    CREATE_SESSION_FROM_ARRAY = 8,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    SET_OPTIMIZATION = 23,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    CREATE_TENSOR_WITH_DATA = 49,
    GET_TENSOR_DATA = 51,
    GET_ELEMENT_COUNT = 64,
    GET_TYPE_AND_SHAPE = 65,
    CREATE_CPU_MEMORY = 69,
    RELEASE_SESSION = 95,
    RELEASE_VALUE = 96,
    RELEASE_TYPE_AND_SHAPE = 99,
};
enum { PORTS_MAX = 64, OPTIMIZE_ALL = 99, LOG_ERRORS = 3, ARENA = 1, DEFAULT = 0 };

struct api_base {
    void *const *(*get_api)(uint32_t version);
    const char *(*version)(void);
};
static void *const *api;

static inline void die(const char *what, const char *why)
{
    fprintf(stderr, "ort: %s: %s\n", what, why);
    exit(1);
}

static inline void ok(void *status, const char *what)
{
    if (status)
        die(what, ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
}

/* ONNX's number of the element type. */
static inline int onnx_type(enum dtype t)
{
    static const int types[] = {[DT_F32] = 1, [DT_I32] = 6, [DT_I64] = 7, [DT_BOOL] = 9};
    return (size_t)t < sizeof types / sizeof types[0] ? types[t] : 0;
}

static inline void *load_value(const char *path, void *memory)
{
    typedef void *make(void *, void *, size_t, const int64_t *, size_t, int, void **);
    struct err e = ERR_INIT;
    struct tensor t;
    struct stat st;
    size_t offset;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st))
        die(path, "cannot be read");
    void *file = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED || npy_parse(file, (size_t)st.st_size, &t, &offset, &e))
        die(path, e.detail);
    close(fd);
    void *value = NULL;
    ok(((make *)api[CREATE_TENSOR_WITH_DATA])(memory, (char *)file + offset, tensor_bytes(&t),
                                              t.dims, (size_t)t.rank, onnx_type(t.type), &value),
       path);
    return value;
}

static inline const struct api_base *open_library(const char *path)
{
    void *lib = dlopen(path, RTLD_NOW);
    const struct api_base *(*base)(void) =
        lib ? (const struct api_base *(*)(void))dlsym(lib, "OrtGetApiBase") : NULL;
    if (!base || !(api = base()->get_api(1)))
        die(path, "is no ONNX Runtime");
    return base();
}

static inline void *cpu_memory(void)
{
    void *memory = NULL;
    ok(((void *(*)(int, int, void **))api[CREATE_CPU_MEMORY])(ARENA, DEFAULT, &memory), "memory");
    return memory;
}

/* All graph optimizations. */
static inline void *session_options(int threads)
{
    typedef void *set(void *, int);
    void *options = NULL;
    ok(((void *(*)(void **))api[CREATE_SESSION_OPTIONS])(&options), "options");
    ok(((set *)api[SET_OPTIMIZATION])(options, OPTIMIZE_ALL), "optimization");
    ok(((set *)api[SET_INTRA_OP_THREADS])(options, threads), "threads");
    ok(((set *)api[SET_INTER_OP_THREADS])(options, 1), "threads");
    return options;
}

static inline void *open_env(void)
{
    void *env = NULL;
    ok(((void *(*)(int, const char *, void **))api[CREATE_ENV])(LOG_ERRORS, "bench", &env), "env");
    return env;
}

#endif
