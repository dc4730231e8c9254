/* A float graph, data and a configuration to a plan: what calibrate and evaluate share. */
#ifndef PTQ_WORKER_JOBS_CALIBRATION_H
#define PTQ_WORKER_JOBS_CALIBRATION_H

#include "worker/jobs/job.h"
#include "worker/load/dataset.h"
#include "worker/quant/plan.h"

struct calibration {
    const struct graph *graph; /* afterwards the plan's, which has the parts that "ec" adds */
    const struct dataset *data;
    int n_samples;             /* the first so many */
    const struct plan *loaded; /* of a model that is calibrated already, for "load"; or NULL */

    struct plan *plan;    /* in the job's arena */
    json_t *quant_config; /* as resolved, with the method that was used */
    json_t *ledger;
    json_t *search; /* null, or the candidates and their scores */
    json_t *bias;   /* null, or what bias correction did */
};

/* Fills the second half; warnings become events of the job. The configuration is the spec's
 * "quant_config". */
int calibration_run(struct job *j, struct calibration *c, struct err *e);
void calibration_done(struct calibration *c);

/* [{name, tensor, tensor_type, qtype, thresholds, axis, switch, …}] */
json_t *calibrations_json(const struct plan *p);

/* The same, with what the finders give it for: "input_of": [{node, op_type, input}] and
 * "output_of": [nodes]. */
json_t *calibrations_found_json(const struct plan *p);

/* The option "march", or the default. */
struct march;
int calibration_march(const struct job *j, const struct march **ret, struct err *e);

/* The option "samples", cut to what there is: all when it is absent. */
int calibration_samples(const json_t *options, const char *key, const struct dataset *d);

#endif
