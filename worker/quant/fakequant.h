/*
 * Fake-quantization: the integers' arithmetic in float32 (spec §2, ONNX QuantizeLinear and
 * DequantizeLinear bit for bit in the int8 cases).
 *   y = (clamp(roundeven(x / scale) + zero_point, qmin, qmax) - zero_point) * scale
 * with a true division. NaN stays NaN.
 */
#ifndef PTQ_WORKER_QUANT_FAKEQUANT_H
#define PTQ_WORKER_QUANT_FAKEQUANT_H

#include "worker/quant/plan.h"

struct fq_param {
    float scale;
    int32_t zero_point, qmin, qmax;
};

/* From a threshold: symmetric int8 (T/127), int16 (T/32767); affine int8 from [lo, hi]. */
void fq_symmetric(enum qtype q, float threshold, struct fq_param *ret);
void fq_affine(float lo, float hi, struct fq_param *ret);
/* The parameters of channel c (0 for per tensor) of a calibration; q int8 or int16. */
void fq_of_calib(const struct calib *k, int c, struct fq_param *ret);

/* n elements; in may equal out. */
void fq_run(const struct fq_param *p, const float *in, float *out, int64_t n);
void fq_run_plain(const struct fq_param *p, const float *in, float *out, int64_t n); /* reference */
void fq_float16(const float *in, float *out, int64_t n); /* f32 → f16 → f32, saturating */

/* A whole tensor through a calibration (any qtype, any layout; out: same type, shape, layout;
 * in place allowed). A calibration that is OFF copies. */
void fq_tensor(const struct calib *k, const struct tensor *in, struct tensor *out);

#endif
