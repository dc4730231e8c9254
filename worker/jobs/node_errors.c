#include "worker/jobs/node_errors.h"

#include <stdlib.h>
#include <string.h>

#include "worker/jobs/core.h"
#include "worker/jobs/runner.h"

enum { KEEP_MAX = 256 << 20 /* bytes of float outputs at a time */ };

struct state {
    const struct node_errors *n;
    struct runner exact, quantized;
    int *node; /* value → the node whose first output it is, or -1 */

    /* of the task under way */
    struct metric_sums *sums;
    struct tensor *kept; /* by node; data NULL: not kept in this round */
    bool *done;
    size_t kept_bytes;
    int n_kept;
};

/* ---- one sample ---- */

static int keep(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct state *s = ctx;
    int node = quantized ? -1 : s->node[value];
    size_t bytes = tensor_bytes(t);
    if (node < 0 || s->done[node] || t->type != DT_F32 ||
        (s->n_kept && s->kept_bytes + bytes > KEEP_MAX))
        return 0;
    s->kept[node] = *t;
    if (!(s->kept[node].data = malloc(bytes + 1)))
        return err_set(e, ERR_MEMORY_LIMIT, s->n->graph->nodes[node].name,
                       "There is no memory for %zu bytes.", bytes);
    memcpy(s->kept[node].data, t->data, bytes);
    s->kept_bytes += bytes;
    s->n_kept++;
    return 0;
}

static void sum_node(struct state *s, int node, const struct tensor *y)
{
    const struct tensor *x = &s->kept[node];
    struct tensor turned = *x;
    if (y->type != DT_F32 || !tensor_same_shape(x, y))
        return;
    if (y->layout != x->layout) {
        turned.data = xmalloc(tensor_bytes(x) + 1);
        tensor_reorder(y, &turned);
        y = &turned;
    }
    metric_sum(x->data, y->data, tensor_count(x), &s->sums[node]);
    if (y == &turned)
        free(turned.data);
}

static int compare(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct state *s = ctx;
    int node = quantized ? -1 : s->node[value];
    (void)e;
    if (node >= 0 && s->kept[node].data)
        sum_node(s, node, t);
    return 0;
}

static void forget_kept(struct state *s)
{
    for (int i = 0; i < s->n->graph->n_nodes; i++) {
        s->done[i] |= s->kept[i].data != NULL;
        free(s->kept[i].data);
        s->kept[i].data = NULL;
    }
    s->kept_bytes = 0;
    s->n_kept = 0;
}

static int run_rounds(struct state *s, int sample, struct err *e)
{
    int rc, kept;
    do {
        rc = runner_run(&s->exact, s->n->data, sample, keep, s, e);
        kept = s->n_kept;
        if (!rc && kept)
            rc = runner_run(&s->quantized, s->n->data, sample, compare, s, e);
        forget_kept(s);
    } while (!rc && kept);
    return rc;
}

static int run(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct state *s = ctx;
    const struct node_errors *n = s->n;
    size_t nodes = (size_t)n->graph->n_nodes;
    const struct plan *plan = n->plans[index / n->n_samples];
    if (s->quantized.plan != plan)
        runner_done(&s->quantized);
    s->quantized.plan = plan;
    s->sums = xcalloc(nodes + 1, sizeof *s->sums);
    s->kept = xcalloc(nodes + 1, sizeof *s->kept);
    s->done = xcalloc(nodes + 1, sizeof *s->done);
    int rc = run_rounds(s, index % n->n_samples, e);
    if (!rc)
        buf_add(ret, s->sums, nodes * sizeof *s->sums);
    free(s->sums);
    free(s->kept);
    free(s->done);
    return rc;
}

/* ---- the job's side ---- */

static int take(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    const struct node_errors *n = ((const struct state *)ctx)->n;
    size_t nodes = (size_t)n->graph->n_nodes;
    struct metric_sums *sums = xcalloc(nodes + 1, sizeof *sums);
    if (len != nodes * sizeof *sums) {
        free(sums);
        return err_set(e, ERR_INTERNAL, "", "Stored errors of nodes are malformed.");
    }
    memcpy(sums, result, len);
    int rc = n->take(n->ctx, index / n->n_samples, index % n->n_samples, sums, e);
    free(sums);
    return rc;
}

static int *first_outputs(const struct graph *g, struct arena *a)
{
    int *node = arena_array(a, (size_t)g->n_values + 1, sizeof *node);
    for (int v = 0; v < g->n_values; v++)
        node[v] = -1;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].n_out && g->nodes[i].out[0] >= 0)
            node[g->nodes[i].out[0]] = i;
    return node;
}

static struct task *make_tasks(struct job *j, const struct node_errors *n)
{
    struct own {
        struct digest plan, sample;
    };
    size_t count = (size_t)n->n_plans * (size_t)n->n_samples;
    struct own *own = arena_array(job_arena(j), count + 1, sizeof *own);
    struct task *tasks = arena_array(job_arena(j), count + 1, sizeof *tasks);
    for (size_t k = 0; k < count; k++) {
        plan_digest(n->plans[k / (size_t)n->n_samples], &own[k].plan);
        dataset_sample_digest(n->data, (int)(k % (size_t)n->n_samples), &own[k].sample);
        tasks[k] = (struct task){.own = &own[k], .own_len = sizeof own[k]};
    }
    return tasks;
}

int node_errors_run(struct job *j, const struct node_errors *n, const char *phase, struct err *e)
{
    static const struct task_kind kind = {.name = "node-errors-1", .run = run};
    struct state s = {.n = n};
    struct runner r = {.graph = n->graph, .backend = job_backend(j), .memory_max = job_memory(j)};
    struct digest graph;
    if ((size_t)n->graph->n_nodes * sizeof *s.sums > TASK_RESULT_MAX)
        return err_set(e, ERR_LIMIT, "", "%d nodes are too many to be compared one by one.",
                       n->graph->n_nodes);
    graph_digest(n->graph, &graph);
    s.node = first_outputs(n->graph, job_arena(j));
    s.exact = s.quantized = r;
    s.quantized.share = &s.exact;
    s.quantized.plan = n->plans[0];
    int rc = runner_prepare(&s.exact, n->data, 0, e) ||
             runner_prepare(&s.quantized, n->data, 0, e) ||
             job_map(j, &kind, phase, &graph, sizeof graph, make_tasks(j, n),
                     n->n_plans * n->n_samples, take, &s, e);
    runner_done(&s.quantized);
    runner_done(&s.exact);
    return rc ? -1 : 0;
}
