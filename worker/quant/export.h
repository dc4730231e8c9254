/*
 * A plan as QuantizeLinear/DequantizeLinear nodes of the graph itself, as other runtimes read
 * them. Every calibration that is ON becomes such a pair on the tensor that it stands on, a
 * constant becomes integers and a DequantizeLinear:
 *   int8   as int8; never-negative tensors as uint8 with zero point 0 (the same values)
 *   int16  as int16, of com.microsoft, or of ai.onnx from opset 21 on
 *   float16  as Clip, Cast and back
 * 8 bit pairs are of ai.onnx from opset 13 on (before, it has no axis), else of com.microsoft.
 * An activation with a scale a channel is quantized by each, read with the largest, and the weight
 * behind it is folded, as it is on the device. Biases stay float.
 * Operators that the optimizer made (domain horizon) become standard ones again.
 */
#ifndef PTQ_WORKER_QUANT_EXPORT_H
#define PTQ_WORKER_QUANT_EXPORT_H

#include "worker/quant/plan.h"

struct export_opts {
    bool opset21; /* the graph is made one of opset 21, so that all pairs are of ai.onnx */
};

/* A graph of its own in `a`. ERR_UNSUPPORTED names a node that means something else in opset 21. */
int export_qdq(const struct plan *p, const struct export_opts *o, struct arena *a,
               struct graph **ret, struct err *e);

/* Makes every node mean the same in opset 21 (export_opset.c). */
struct build;
int export_raise(struct build *b, const struct graph *g, struct err *e);

#endif
