/*
 * ONNX files: bounded scan, unpack, build, and the way back. load/scan.c checks the wire format
 * and its limits on the mapped file before protobuf-c sees a byte; protobuf-c's ONNX messages are
 * known to scan.c, read*.c, missing.c, model.c and write.c only. Tensor data stays in the mapping
 * where it is aligned to its element size.
 */
#ifndef PTQ_WORKER_LOAD_MODEL_H
#define PTQ_WORKER_LOAD_MODEL_H

#include "worker/load/graph.h"

struct plan;

struct external {
    const char *location; /* as the ONNX file says it */
    const char *path;     /* where its bytes are */
};

struct model_source {
    const char *path;
    const struct external *external; /* files that belong to the model; NULL: none. In a local run
                                        model_open resolves locations in the file's own folder */
    int n_external;
    bool local;    /* locations may be resolved beside the file, confined to its folder */
    bool skeleton; /* what model_write_skeleton wrote: large constants are zeros, which nobody may
                      take for values, and the graph is optimized already */
};

struct model {
    struct arena arena;        /* everything below */
    struct graph *original;    /* as in the file; HzCalibration nodes still in it */
    struct graph *float_graph; /* optimized, HzCalibration taken out */
    struct plan *plan;         /* what the HzCalibration nodes said, or NULL if there were none */
    const char *producer;
    int ir_version;
    /* private: mappings */
    struct model_map *maps;
};

/* Reads, checks, optimizes. ERR_BAD_MODEL with the node, tensor or byte offset; ERR_UNSUPPORTED
 * listing every operator that is missing, with its nodes; ERR_LIMIT. On error nothing is left. */
int model_open(const struct model_source *src, struct model **ret, struct err *e);
void model_free(struct model *m);

/* Writes the float graph with the plan's calibrations as HzCalibration nodes (plan may be NULL).
 * The same graph and plan give the same bytes. */
int model_write(const struct graph *g, const struct plan *plan, const char *path, struct err *e);
/* The float graph without its large constants: all that shapes, quant_config, placement and a
 * march's rules look at, in kilobytes. */
int model_write_skeleton(const struct graph *g, const char *path, struct err *e);

#endif
