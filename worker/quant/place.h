/*
 * Where calibrations stand (spec §3). Passes ask operators' rows for ports and traits; no operator
 * is named here. What a march cannot run (quant/march.h) holds no ports and its outputs get no
 * calibration: it runs in float.
 */
#ifndef PTQ_WORKER_QUANT_PLACE_H
#define PTQ_WORKER_QUANT_PLACE_H

#include "worker/ops/op.h"
#include "worker/quant/plan.h"

/* The port of a node's input by its row; a variadic row's last port stands for all further ones.
 * `axis` of a weight is resolved. An absent input or one that is not float32 is P_NONE. */
struct port place_port(const struct graph *g, const struct node *n, int input);
/* P_FEATURE, or P_WEIGHT: float32 and quantizable. */
bool place_is_port(const struct graph *g, const struct node *n, int input);
bool place_is_constant(const struct value *v);
/* value v is read inside a fused chain only (Conv → Add → Relu): nothing stands on it. */
void place_chains(const struct graph *g, const bool *off_device, bool *ret_inside);

/* All calibrations, int8, ON, without thresholds. off_device: one flag a node, or NULL. */
struct plan *place(const struct graph *g, const bool *off_device, struct arena *a);

/* The plan with a calibration behind each float32 graph output that a node computes
 * (model_output_type). No reader takes it. Behind the others, so no longer in order of value. */
struct plan *place_ends(const struct plan *p, enum qtype q, const bool *off_device,
                        struct arena *a);

/* Calibrations that a Concat ties to one type and one threshold: ret[k] is the smallest index of
 * k's group, k itself where it stands alone. */
void place_groups(const struct plan *p, int *ret);
/* The calibration that stands on value v itself for who reads it, or -1. */
int place_on(const struct plan *p, int value);

#endif
