/*
 * Edits of a calibrated model (spec §8), as data: a list of {"select": …, "set": …}, done in order.
 *
 * select: everything that is given must hold; {} is every calibration.
 *   "name"        one calibration's name, or several
 *   "tensor_type" "feature" or "weight"
 *   "inputs_of"   nodes: what find_input_calibration gives for each input
 *   "output_of"   nodes: what find_output_calibration gives
 *   "inputs_of_op_type"  operator types, as inputs_of for all nodes of these types
 *   "ec_port_of"  nodes: the trial before error compensation: the int8-only port (a computed
 *                 second input is none), and in mode nearest the output too
 * set: "qtype" (scales follow from the same thresholds), "thresholds" (as many as there are; they
 *   are fixed from then on), "switch" "ON" or "OFF".
 *
 * No march binds an edit. An edit that selects nothing is an error: nothing is ignored in silence.
 */
#ifndef PTQ_WORKER_QUANT_EDIT_H
#define PTQ_WORKER_QUANT_EDIT_H

#include <jansson.h>

#include "worker/quant/march.h"
#include "worker/quant/plan.h"

/* m says which ports "ec" is for. pointer is put in front of those of errors. */
int plan_edit(const struct plan *p, const json_t *edits, const char *pointer, const struct march *m,
              struct arena *a, struct plan **ret, struct err *e);

#endif
