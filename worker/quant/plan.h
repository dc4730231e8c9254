/*
 * The plan: what is quantized, how. It is a value: passes take a plan and give a plan. One struct
 * calib is one HzCalibration of the calibrated model (spec: placement, names, attributes).
 */
#ifndef PTQ_WORKER_QUANT_PLAN_H
#define PTQ_WORKER_QUANT_PLAN_H

#include "common/arena.h"
#include "common/err.h"
#include "common/sha256.h"
#include "worker/load/graph.h"

enum qtype { Q_INT8, Q_INT16, Q_FLOAT16, Q_FLOAT32, Q_COUNT }; /* from least to most precise */
const char *qtype_name(enum qtype q);                          /* "int8" … */
int qtype_parse(const char *name, enum qtype *ret);            /* -1 if unknown */

enum calib_kind { CALIB_FEATURE, CALIB_WEIGHT };

struct calib {
    const char *name; /* "<tensor>_HzCalibration" */
    int value;        /* graph value: an activation or constant (feature), a weight */
    int parent;       /* the calibration whose output it reads (port limits), or -1: value */
    enum calib_kind kind;
    enum qtype qtype;
    bool on;                           /* switch */
    bool fixed_threshold, fixed_scale; /* attribute `constant` 1, 2 */
    bool affine;                       /* thresholds are [lo, hi] */
    int axis;                          /* channel axis of the value, or -1: per tensor */
    int group;
    int n_thresholds; /* 0: not calibrated yet; 1; C; or 2 when affine per tensor. Affine along an
                         axis: C times the upper end of [0, T], zero point -128 */
    const float *thresholds;
    float dequantize_scale; /* > 0: per-channel activation folded into weights (spec §2); else 0 */
    int n_fold;             /* a Conv's weight behind such an activation: its input channels, all */
    const float *fold;      /* groups together, and r of each: quantized as fake_quant(w·r)/r */
};

struct plan {
    const struct graph *graph;
    struct arena *arena; /* owns calibs, port and what they point to */
    int n_calibs;
    struct calib *calibs; /* in topological order of `value`; a child behind its parent */
    int *port;            /* graph->n_ports: the calibration that a node's input reads, or -1 */
    int *output; /* graph->n_outputs: the calibration behind which it is taken (model_output_type),
                    which no port reads; or -1: in float */
};

struct plan *plan_new(const struct graph *g, struct arena *a, int max_calibs);
/* Deep: changing the copy leaves the original alone. */
struct plan *plan_copy(const struct plan *p, struct arena *a);
/* The same with room for so many more calibrations behind the last. */
struct plan *plan_copy_room(const struct plan *p, struct arena *a, int room);
/* A copy with only these n calibrations ON. Names, thresholds and ports are the original's. */
struct plan *plan_only(const struct plan *p, const int *calibs, int n, struct arena *a);
int plan_find(const struct plan *p, const char *calib_name); /* -1 if there is none */
bool plan_is_output(const struct plan *p, int calib); /* some graph output is taken behind it */
/* All that says another calibration's place takes the new one: now[k] is where old k has gone. */
void plan_renumber(struct plan *p, const int *now);
/* Over everything that changes a result: names, qtypes, thresholds, switches, ports. */
void plan_digest(const struct plan *p, struct digest *ret);

/* spec §3: through the value-preserving producers; -1 if there is none. */
int plan_find_input(const struct plan *p, int node, int input);
int plan_find_output(const struct plan *p, int node);

#endif
