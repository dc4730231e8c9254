/*
 * quant_config (spec §1): parsed strictly against a graph. Every error is ERR_INVALID or
 * ERR_UNKNOWN_NAME with a JSON Pointer and the nearest known names; what is valid but not built is
 * ERR_UNSUPPORTED with its pointer. Nothing is ignored in silence: what has no effect is a warning.
 */
#ifndef PTQ_WORKER_QUANT_CONFIG_H
#define PTQ_WORKER_QUANT_CONFIG_H

#include <jansson.h>

#include "common/json.h"
#include "worker/quant/march.h"
#include "worker/quant/metrics.h"
#include "worker/quant/plan.h"

/* Who decided, from coarse to fine; the finer wins. */
enum level {
    LEVEL_DEFAULT,
    LEVEL_SEARCH /* raised by the search per layer */,
    LEVEL_OP,
    LEVEL_SUBGRAPH,
    LEVEL_NODE,
    LEVEL_INPUT,
    LEVEL_COUNT
};
const char *level_name(enum level l); /* LEVEL_INPUT is "node" too */

enum { REQUEST_ALL = -1, REQUEST_OUTPUT = -2 };
struct request {
    int node;
    int input; /* an input's number, REQUEST_ALL inputs, or REQUEST_OUTPUT */
    enum qtype qtype;
    bool compensate; /* "ec"; qtype is then Q_INT8 */
    enum level level;
    const char *pointer; /* where it stands in the configuration */
};

enum method {
    METHOD_MAX,
    METHOD_KL,
    METHOD_MIN_MAX,
    METHOD_MSE,
    METHOD_FIXED,
    METHOD_LOAD, /* from `given` thresholds */
    METHOD_COUNT
};
const char *method_name(enum method m);

/* How the thresholds of activations are found. */
struct calib_method {
    enum method method;
    double max_percentile;    /* METHOD_MAX; 1: the maximum */
    bool per_channel;         /* METHOD_MAX */
    bool asymmetric;          /* all but METHOD_MIN_MAX */
    int num_bin, max_num_bin; /* METHOD_KL, METHOD_MSE */
};

/* Thresholds from elsewhere, by the name of a calibration (quant/given.h). */
struct given;

struct quant_config {
    struct arena *arena;
    const struct graph *graph; /* the graph given, with the parts that "ec" adds (compensate.h) */
    enum qtype all;            /* all_node_type */
    bool output_given;         /* model_output_type */
    enum qtype output;
    int n_candidates; /* 1: no search */
    struct calib_method *candidates;
    struct { /* of the search over the model */
        enum metric metric;
        double similarity;
        int num_sample;
    } search;
    struct { /* layerwise_search, or calibration type "mix" */
        bool asked;
        enum metric metric;
        int topk;         /* 0: all whose cosine is below LAYER_COSINE */
        enum qtype qtype; /* of those that are chosen: Q_INT8 or Q_INT16 */
    } layer;
    double weight_percentile; /* a factor on the weights' maxima */
    bool weight_load;         /* their thresholds are `given` too */
    struct {                  /* bias_correction */
        bool asked;
        enum metric metric;
        int num_sample;
    } bias;
    const struct given *given; /* set by who has them; NULL: none */
    const bool *raised;        /* per value: raised to layer.qtype; set by the search, else NULL */
    int n_requests;
    struct request *requests;
    json_t *source;   /* as given (an object) */
    json_t *warnings; /* array of strings */
};

/* v: an object, or a string in the dialect (quant/dialect.h), or NULL or null for {}. pointer is
 * put in front of all pointers. The config lives in `a` but for source and warnings: config_done.
 * Its requests number the nodes of c->graph, which is not g where "ec" is asked for.
 */
int config_parse(const json_t *v, const char *pointer, const struct graph *g, const struct march *m,
                 struct arena *a, struct quant_config **ret, struct err *e);
void config_done(struct quant_config *c);

#define LAYER_COSINE 0.999

/* As resolved: source with the method that `used` says (new reference). */
json_t *config_resolved(const struct quant_config *c, const struct calib_method *used);
json_t *calib_method_json(const struct calib_method *a);
bool calib_method_same(const struct calib_method *a, const struct calib_method *b);

/* config_model.c: model_config; config_nodes.c: the rest. For config.c. */
struct config_ctx {
    struct quant_config *c;
    const struct graph *g;
    const struct march *march;
    struct arena *arena;
    struct err *e;
    int requests_cap;
};
int config_model(struct config_ctx *x, const json_t *o, const char *at);
int config_ops(struct config_ctx *x, const json_t *o, const char *at);
int config_subgraphs(struct config_ctx *x, const json_t *o, const char *at);
int config_nodes(struct config_ctx *x, const json_t *o, const char *at);
/* The keys that objects of a configuration may have, as api/quant_config.schema.json has them:
 * `place` is the way to the object, a name of the user's own is *. Closed by an empty row. */
struct config_keys {
    const char *place;
    const struct json_field *fields;
};
extern const struct config_keys config_model_keys[], config_nodes_keys[];
/* "input3" or "InputType3" gives 3, else -1. */
int config_input_number(const char *key);
/* A qtype's name at that place. */
int config_qtype(struct config_ctx *x, const json_t *v, const char *at, enum qtype *ret);
/* at + "/" + key, escaped, in the arena. */
const char *config_at(struct config_ctx *x, const char *at, const char *key);
int config_unknown(struct config_ctx *x, const char *at, const char *what, const char *name,
                   const char *const *known, size_t n);
void config_warn(struct config_ctx *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
