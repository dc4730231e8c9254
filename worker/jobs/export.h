/* A plan as a QDQ model beside a job's results. */
#ifndef PTQ_WORKER_JOBS_EXPORT_H
#define PTQ_WORKER_JOBS_EXPORT_H

#include <jansson.h>

#include "worker/jobs/job.h"
#include "worker/quant/plan.h"

#define EXPORT_FILE "qdq_model.onnx"

/* *ret: {artifact, opset, nodes, types: {"int8": n, …}}, a new reference. */
int export_artifact(struct job *j, const struct plan *p, bool opset21, json_t **ret, struct err *e);

#endif
