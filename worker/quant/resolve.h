/*
 * From a configuration to a plan without thresholds: place → resolve requests → constrain by the
 * march, and the effective-precision ledger: for every quantizable port what was asked for, what it
 * got, who decided and by which rule (spec §1, §4).
 */
#ifndef PTQ_WORKER_QUANT_RESOLVE_H
#define PTQ_WORKER_QUANT_RESOLVE_H

#include "worker/quant/config.h"

struct ledger_line {
    int node;
    int input; /* an input's number; REQUEST_OUTPUT; REQUEST_ALL: the node as a whole */
    int calib; /* in the plan, or -1: none stands there */
    enum qtype requested, effective; /* effective counts with a calibration only */
    bool compensated;                /* "ec" was asked for */
    const char *decided_by;  /* "default", "op", "subgraph", "node", "constraint", "sharing" */
    const char *rule, *text; /* or NULL */
};

struct ledger {
    int n, cap;
    struct ledger_line *lines;
};

struct resolved {
    struct plan *plan; /* n_thresholds 0 everywhere */
    int *like;         /* n_calibs: the calibration whose thresholds a second one takes, or -1 */
    struct ledger ledger;
};

/* Cannot fail: what is not allowed keeps the allowed type and is told in the ledger. Requests that
 * meet no calibration are added to the configuration's warnings. */
void resolve(struct quant_config *c, const struct graph *g, const struct march *m, struct arena *a,
             struct resolved *ret);

json_t *ledger_json(const struct ledger *l, const struct plan *p);

/* ---- ledger.c for resolve.c ---- */

/* What a port asked for, and how finely. */
struct wish {
    enum qtype qtype;
    enum level level;
};
/* Why a calibration has not the type that its readers asked for. */
struct cause {
    const char *rule, *text; /* NULL: nobody changed it */
};
struct resolving {
    struct quant_config *config;
    const struct graph *g;
    const struct march *march;
    struct arena *arena;
    bool *off_device;    /* n_nodes */
    struct plan *plan;   /* as placed; then with second calibrations */
    struct wish *port;   /* n_ports */
    struct wish *calib;  /* n_calibs of the placed plan */
    struct cause *cause; /* n_calibs of the placed plan */
    bool *limited;       /* n_ports: gets a second calibration, int8 */
    int *on;             /* n_values: the placed plan's feature calibration on it, or -1 */
    int *end;            /* n_values: the one that a graph output is taken behind, or -1 */
};
void ledger_make(const struct resolving *s, const struct resolved *r, const int *placed,
                 struct ledger *ret);

#endif
