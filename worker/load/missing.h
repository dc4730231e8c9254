#ifndef PTQ_WORKER_LOAD_MISSING_H
#define PTQ_WORKER_LOAD_MISSING_H

#include "common/err.h"
#include "onnx.pb-c.h"
#include "worker/load/graph.h"

/* ERR_UNSUPPORTED that lists every operator without a row, with its nodes, subgraphs included. */
int missing_check(const Onnx__GraphProto *g, const struct opset *opsets, int n_opsets,
                  struct err *e);

#endif
