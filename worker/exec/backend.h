/*
 * The kernel table: who multiplies. Each backend is one file (exec/dnn.c: oneDNN; exec/blas.c:
 * OpenBLAS with banded im2col; exec/plain.c: loops in C, the reference for both). All take NHWC
 * activations and give the same values up to float rounding; each alone gives the same bytes in
 * every run and process.
 */
#ifndef PTQ_WORKER_EXEC_BACKEND_H
#define PTQ_WORKER_EXEC_BACKEND_H

#include "common/arena.h"
#include "common/err.h"
#include "worker/load/tensor.h"

enum { CONV_SPATIAL_MAX = 3 };

/* What may be fused behind the sum; the same formula as the unfused operator, bit for bit. */
enum activation { ACT_NONE, ACT_RELU, ACT_CLIP };

/* A (transposed) convolution, float32. Input N × spatial × Cin, output N × spatial × Cout, weight
 * as ONNX has it (Conv: Cout × Cin/groups × k…; ConvTranspose: Cin × Cout/groups × k…). */
struct conv_desc {
    int spatial; /* 1 … 3 */
    bool transposed;
    int64_t batch, in_channels, out_channels, groups;
    int64_t in[CONV_SPATIAL_MAX], out[CONV_SPATIAL_MAX], kernel[CONV_SPATIAL_MAX];
    int64_t stride[CONV_SPATIAL_MAX], dilation[CONV_SPATIAL_MAX];
    int64_t pad_begin[CONV_SPATIAL_MAX], pad_end[CONV_SPATIAL_MAX];
    enum activation act;
    float act_min, act_max; /* ACT_CLIP */
};

/* C[m,n] = alpha · A[m,k] · B[k,n] + beta · C; row-major and dense; A may be given as its transpose
 * [k,m], B as [n,k]. With beta 0, C is not read. */
struct gemm_desc {
    int64_t m, n, k;
    bool a_transposed, b_transposed;
    float alpha, beta;
};

struct backend {
    const char *name;             /* "onednn", "openblas", "plain" */
    const char *(*version)(void); /* library, version and kernels in use, for the engine profile */
    /* Packs weight and bias (bias NULL = none) into *ret, in the arena. scratch: bytes that run
     * wants. ERR_UNSUPPORTED if the backend cannot do it: the caller takes the next one. */
    int (*conv_prepare)(const struct conv_desc *d, const float *weight, const float *bias,
                        struct arena *a, const void **ret, size_t *ret_scratch, struct err *e);
    int (*conv_run)(const void *prep, const float *in, float *out, void *scratch, struct err *e);
    /* A weight that is computed at run time: conv_prepare with weight and bias NULL, then this. */
    int (*conv_run_weight)(const void *prep, const float *in, const float *weight,
                           const float *bias, float *out, void *scratch, struct err *e);
    int (*gemm)(const struct gemm_desc *d, const float *a, const float *b, float *c, struct err *e);
    /* Gives back what the library itself holds for preparations that were made in `a`; to be
     * called before arena_done. NULL: all of it is in the arena. */
    void (*release)(const struct arena *a);
};

extern const struct backend backend_plain, backend_blas;
#ifdef PTQ_WITH_DNN
extern const struct backend backend_dnn;
#endif

/* conv_prepare by `first` or, where that one says ERR_UNSUPPORTED, by the next of them; *ret_used
 * is the one that took it, and runs it. */
int backend_conv(const struct backend *first, const struct conv_desc *d, const float *weight,
                 const float *bias, struct arena *a, const struct backend **ret_used,
                 const void **ret_prep, size_t *ret_scratch, struct err *e);
/* All backends' release; for every arena that was given to an operator's prepare. */
void backend_release(const struct arena *a);

/* By name, or the best one that was built for NULL. ERR_INVALID names those there are. */
int backend_find(const char *name, const struct backend **ret, struct err *e);
/* Backend i, best first; NULL behind the last. */
const struct backend *backend_at(int i);
/* "ptq-engine 1; onednn 2.6.3 avx512_core; fma" — part of every task digest. Static storage. */
const char *engine_profile(const struct backend *b);

#endif
