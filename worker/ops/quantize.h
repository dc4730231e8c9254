/* What the quantized operators share. */
#ifndef PTQ_WORKER_OPS_QUANTIZE_H
#define PTQ_WORKER_OPS_QUANTIZE_H

#include "worker/ops/walk.h"

/* The range of a quantized type; -1 if it is none. */
int quantize_range(enum dtype t, double *ret_lo, double *ret_hi);

#endif
