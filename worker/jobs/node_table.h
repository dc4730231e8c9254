/* What hmct-info tells of each node: where it runs, and how far its output is from float. */
#ifndef PTQ_WORKER_JOBS_NODE_TABLE_H
#define PTQ_WORKER_JOBS_NODE_TABLE_H

#include <jansson.h>

#include "worker/jobs/job.h"
#include "worker/load/dataset.h"
#include "worker/quant/plan.h"

/*
 * One object a node, in topological order: {node, type, on, subgraph, cosine-similarity, threshold,
 * input_qtype, output_qtype}. on: "BPU" or "CPU"; subgraph: BPU nodes between CPU nodes have one
 * number, null on the CPU; the cosine is the mean over the samples, null where the output is no
 * float; threshold and input_qtype are those of the calibration behind input 0.
 */
int node_table(struct job *j, const struct plan *p, const struct dataset *d, int n_samples,
               json_t **ret, struct err *e);

#endif
