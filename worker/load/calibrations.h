/*
 * HzCalibration nodes of a file ↔ a plan (spec §3). Reading takes them out of the graph: what was
 * read through them is read directly, and the plan says what they said.
 */
#ifndef PTQ_WORKER_LOAD_CALIBRATIONS_H
#define PTQ_WORKER_LOAD_CALIBRATIONS_H

#include "worker/load/graph.h"
#include "worker/ops/op.h"

#define CALIBRATION_OP   "HzCalibration"
#define CALIBRATION_TAIL "_HzCalibration" /* of its name */
#define CALIBRATED_TAIL  "_calibrated"    /* of its output */

/* The node's attributes, as worker/ops/calibration.c parses them. */
struct calibration_attrs {
    const char *qtype, *on, *tensor_type;
    struct floats thresholds, scales, fold;
    struct ints zero_point;
    int64_t axis, group, constant; /* axis CALIBRATION_PER_TENSOR: absent */
    struct strings info;
    float dequantize_scale;
};
enum { CALIBRATION_PER_TENSOR = -1000 };
enum { CALIBRATION_FIXED_THRESHOLD = 1, CALIBRATION_FIXED_SCALE = 2 }; /* attribute `constant` */

bool calibrations_any(const struct graph *g);
/* The graph without them; everything in g's arena. */
int calibrations_strip(const struct graph *g, struct graph **ret, struct err *e);

/* The plan that the nodes of `original` mean for `stripped`. */
struct plan;
int calibrations_plan(const struct graph *original, const struct graph *stripped, struct plan **ret,
                      struct err *e);

#endif
