/*
 * Products and convolutions in the element types that no backend has: plain loops. float64 is
 * summed in double, float16 in double and rounded once, integers wrap as their type does.
 */
#ifndef PTQ_WORKER_OPS_EXACT_H
#define PTQ_WORKER_OPS_EXACT_H

#include "worker/exec/backend.h"
#include "worker/ops/op.h"

/* Takes float32 (which backends do), float64, float16; integers: also 32 and 64 bits of those. All
 * of the n inputs that are there must have one type. */
int exact_check(const struct op_ctx *c, bool integers, struct err *e);

/* y = alpha · a · b; alpha is 1 for integers that it cannot scale. beta is not looked at. */
void exact_gemm(enum dtype type, const struct gemm_desc *d, const void *a, const void *b, void *y);
/* y += beta · from, element by element; step 0 repeats. */
void exact_add(enum dtype type, float beta, const void *from, int64_t from_at, void *y, int64_t at);

/* Channels last, as a backend's; weight as ONNX has it. */
void exact_conv(enum dtype type, const struct conv_desc *d, const void *in, const void *weight,
                const void *bias, void *out);

#endif
