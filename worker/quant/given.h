/* Thresholds that come from elsewhere, for calibration type "load": those of a calibrated model, or
 * a list as a calibration's result has it. */
#ifndef PTQ_WORKER_QUANT_GIVEN_H
#define PTQ_WORKER_QUANT_GIVEN_H

#include <jansson.h>

#include "worker/quant/plan.h"

struct given_one {
    const char *name; /* of the calibration */
    int n;
    const float *thresholds;
    bool affine; /* as struct calib's */
    int axis;    /* -1: per tensor */
};

struct given {
    int n;
    struct given_one *list; /* sorted by name */
};

/* All calibrations of a plan that have thresholds. */
const struct given *given_from_plan(const struct plan *p, struct arena *a);
/* A list of {"name", "thresholds"}, and "affine" (false) and "axis" (null), other members being
 * left alone: "calibrations" of a result goes as it is. Pointers of errors start at `at`. */
int given_from_json(const json_t *list, const char *at, struct arena *a, const struct given **ret,
                    struct err *e);
const struct given_one *given_find(const struct given *g, const char *name); /* or NULL */

#endif
