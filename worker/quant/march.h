/*
 * What a march allows: one table of rows a march (quant/march/<name>.c), the single source for the
 * passes, the ledger, the profile and the docs. It binds quant_config, never an edit of a
 * calibrated model.
 */
#ifndef PTQ_WORKER_QUANT_MARCH_H
#define PTQ_WORKER_QUANT_MARCH_H

#include <jansson.h>

#include "worker/quant/plan.h"

enum { MARCH_OUT = -1, MARCH_REST = -2 /* every input without a row of its own */ };
enum { Q8 = 1 << Q_INT8, Q16 = 1 << Q_INT16 };

/*
 * One row. `op` is an operator's type, or "Lut" for the look-up-table family (trait T_LUT).
 * `allowed`: the integer types of that port. float16 and float32 may be asked for anywhere: the
 * operator then leaves the BPU, which the ledger says. On MARCH_OUT, Q8 alone means that the
 * calibration behind the operator stays int8 whoever asks. The first row that fits a port holds; an
 * operator without a row for its input 0 runs on the CPU, in float.
 */
struct march_row {
    const char *op;
    int port;
    unsigned allowed;
    bool reads_int8;     /* MARCH_OUT: holds only while input 0 is int8 */
    bool may_compensate; /* "ec" may be asked for here */
    bool (*when)(const struct graph *g, const struct node *n); /* NULL: always */
    const char *rule, *text;
    bool folds; /* scales of this input's channels can be folded into the weight of input 1 */
};

/* Not a limit: what a precision costs, told in the ledger when the node's input 0 has the type. */
struct march_note {
    const char *op;
    enum qtype qtype;
    bool (*when)(const struct graph *g, const struct node *n);
    const char *rule, *text;
};

struct march {
    const char *name;
    const struct march_row *rows;   /* closed by an empty row */
    const struct march_note *notes; /* closed by an empty row */
    int max_ports, max_rank;        /* of a graph's inputs and outputs; of a tensor */
    const char *text;               /* one sentence, for people */
};
extern const struct march march_nash_e, march_nash_m;
extern const struct march *const marches[]; /* closed by NULL; the first is the default */
/* By name; NULL: the default. ERR_UNKNOWN_NAME at `at` for one that is none. */
int march_find(const char *name, const char *at, const struct march **ret, struct err *e);

/* The row of a node's input (or MARCH_OUT), or NULL. */
const struct march_row *march_row(const struct march *m, const struct graph *g,
                                  const struct node *n, int port);
/* What the ledger says when the node's input 0 has that type, or NULL. */
const struct march_note *march_note(const struct march *m, const struct graph *g,
                                    const struct node *n, enum qtype q);
/* All marches with their tables, as GET /v1/profiles/{march} shows them: an array. */
json_t *marches_json(void);
/* Nodes that run on the CPU: ret has one flag a node. */
void march_off_device(const struct march *m, const struct graph *g, bool *ret);

#endif
