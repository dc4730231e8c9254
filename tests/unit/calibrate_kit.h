/* Calibration jobs for tests: a small convolutional net and its data in the test's folder. */
#ifndef PTQ_TESTS_UNIT_CALIBRATE_KIT_H
#define PTQ_TESTS_UNIT_CALIBRATE_KIT_H

#include <jansson.h>

#include "worker/load/model.h"

enum { KIT_SAMPLES = 6 };

/* Writes kit.onnx (Conv, Relu, ConvTranspose, a branch with a Concat, depthwise and plain Convs;
 * inner values with a few large outliers) and the folder data. */
void kit_write(void);
/* Runs a job of that kind, as `ptq-worker job.json` does; its exit status. config: in the dialect,
 * or NULL. Takes options. Files go to the folder `name`. */
int kit_try(const char *name, const char *kind, const char *model, const char *config,
            json_t *options, int slots, bool store);
/* The same, which must succeed: the result (one that lives to the test's end). */
json_t *kit_run(const char *name, const char *kind, const char *model, const char *config,
                json_t *options);
/* name/calibrated_model.onnx */
struct model *kit_model(const char *name);
/* Of a result, the calibration of that name. */
json_t *kit_calibration(const json_t *result, const char *name);

#endif
