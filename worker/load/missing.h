#ifndef PTQ_WORKER_LOAD_MISSING_H
#define PTQ_WORKER_LOAD_MISSING_H

#include "common/err.h"
#include "onnx.pb-c.h"
#include "worker/load/read.h"

/* ERR_UNSUPPORTED that lists every operator without a row, with its nodes, subgraphs and the
 * functions that are called included. */
int missing_check(const Onnx__GraphProto *g, const struct functions *functions,
                  const struct opset *opsets, int n_opsets, struct err *e);

#endif
