#include "worker/jobs/node_table.h"

#include <math.h>
#include <stdlib.h>

#include "common/json.h"
#include "worker/jobs/node_errors.h"
#include "worker/quant/march.h"

struct table {
    const struct plan *p;
    struct metric_stat *cosine; /* by node */
};

static int take(void *ctx, int plan, int sample, const struct metric_sums *sums, struct err *e)
{
    struct table *t = ctx;
    (void)plan, (void)sample, (void)e;
    for (int i = 0; i < t->p->graph->n_nodes; i++)
        if (sums[i].n)
            metric_stat_add(&t->cosine[i], metric_of(M_COSINE, &sums[i]));
    return 0;
}

/* Subgraphs grow by one whenever a value comes back from the CPU. */
static void number_subgraphs(const struct graph *g, const bool *off, int *ret)
{
    for (int i = 0; i < g->n_nodes; i++) {
        ret[i] = 0;
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            int v = g->nodes[i].in[k], from = v < 0 ? -1 : g->values[v].producer;
            if (from < 0)
                continue;
            int least = ret[from] + (off[from] && !off[i]);
            ret[i] = least > ret[i] ? least : ret[i];
        }
    }
}

static const char *qtype_at(const struct plan *p, int calib)
{
    return calib < 0 || !p->calibs[calib].on ? qtype_name(Q_FLOAT32)
                                             : qtype_name(p->calibs[calib].qtype);
}

static double largest_threshold(const struct plan *p, int calib)
{
    double most = NAN;
    for (int i = 0; calib >= 0 && i < p->calibs[calib].n_thresholds; i++) {
        double t = fabs((double)p->calibs[calib].thresholds[i]);
        most = isnan(most) || t > most ? t : most;
    }
    return most;
}

static json_t *node_json(const struct table *t, int node, bool off, int subgraph)
{
    const struct plan *p = t->p;
    const struct node *n = &p->graph->nodes[node];
    int in = n->n_in ? plan_find_input(p, node, 0) : -1, out = plan_find_output(p, node);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:s}", "node", n->name, "type",
                     n->op_type, "on", off ? "CPU" : "BPU", "subgraph",
                     off ? json_null() : json_integer(subgraph), "cosine-similarity",
                     json_real_or_null(metric_stat_mean(&t->cosine[node])), "threshold",
                     json_real_or_null(largest_threshold(p, in)), "input_qtype", qtype_at(p, in),
                     "output_qtype", qtype_at(p, out));
}

int node_table(struct job *j, const struct plan *p, const struct dataset *d, int n_samples,
               json_t **ret, struct err *e)
{
    const struct graph *g = p->graph;
    size_t n = (size_t)g->n_nodes + 1;
    struct table t = {p, arena_array(job_arena(j), n, sizeof *t.cosine)};
    struct node_errors errors = {.graph = g,
                                 .data = d,
                                 .n_plans = 1,
                                 .n_samples = n_samples,
                                 .plans = &p,
                                 .take = take,
                                 .ctx = &t};
    bool *off = arena_array(job_arena(j), n, sizeof *off);
    int *subgraph = arena_array(job_arena(j), n, sizeof *subgraph);
    if (node_errors_run(j, &errors, "nodes", e))
        return -1;
    march_off_device(&march_nash_e, g, off);
    number_subgraphs(g, off, subgraph);
    *ret = json_array();
    for (int i = 0; i < g->n_nodes; i++)
        json_array_append_new(*ret, node_json(&t, i, off[i], subgraph[i]));
    return 0;
}
