/* The search per layer (spec §2). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/exec/sweep.h"
#include "worker/jobs/search.h"
#include "worker/quant/candidates.h"
#include "worker/quant/place.h"

/* ---- scores of candidates on the first sample ---- */

struct own {
    struct digest sample, candidate;
};

struct scoring {
    struct job *job;
    const struct plan *plan;
    const struct dataset *data;
    const struct candidates *all;
    struct tensor *inputs;
    struct sweep *sweep;
    double (*scores)[METRIC_COUNT]; /* a candidate's, over the outputs that it reaches */
};

static int load_sample(void *ctx, struct err *e)
{
    struct scoring *s = ctx;
    struct sweep_opts opts = {.backend = job_backend(s->job),
                              .plan = s->plan,
                              .outputs = s->all->outputs,
                              .n_outputs = s->all->n_outputs,
                              .keep_max = 1 << 30,
                              .memory_max = job_memory(s->job)};
    for (int k = 0; k < s->plan->graph->n_inputs; k++)
        dataset_sample(s->data, 0, k, &s->inputs[k]);
    if (sweep_new(s->plan->graph, s->inputs, &opts, &s->sweep, e))
        return -1;
    return sweep_load(s->sweep, s->inputs, e);
}

static int run_row(void *ctx, int index, struct buf *ret, struct err *e)
{
    struct scoring *s = ctx;
    const struct candidate *c = &s->all->list[index];
    struct sweep_counts counts;
    size_t n = (size_t)s->all->n_outputs;
    struct metric_sums *sums = xcalloc(n + 1, sizeof *sums);
    int rc = sweep_run(s->sweep, c->calibs, c->n_calibs, sums, &counts, e);
    buf_add(ret, sums, n * sizeof *sums);
    free(sums);
    return rc ? err_in(e, c->name) : 0;
}

static int take_row(void *ctx, int index, const void *result, size_t len, struct err *e)
{
    struct scoring *s = ctx;
    struct metric_stat stats[METRIC_COUNT] = {{0}};
    struct metric_sums sums;
    size_t n = (size_t)s->all->n_outputs;
    if (len != n * sizeof sums)
        return err_set(e, ERR_INTERNAL, "", "A stored row is malformed.");
    for (size_t o = 0; o < n; o++) {
        memcpy(&sums, (const char *)result + o * sizeof sums, sizeof sums);
        for (int m = 0; m < METRIC_COUNT && s->all->list[index].reaches[o]; m++)
            metric_stat_add(&stats[m], metric_of((enum metric)m, &sums));
    }
    for (int m = 0; m < METRIC_COUNT; m++)
        s->scores[index][m] = metric_stat_mean(&stats[m]);
    return 0;
}

/* Every candidate of the plan alone; *ret lives in the job's arena. */
static int score_all(struct job *j, const struct calibration *c, const struct plan *p,
                     const struct candidates *all, double (**ret)[METRIC_COUNT], struct err *e)
{
    static const struct task_kind kind = {
        .name = "layers-1", .run = run_row, .before = load_sample};
    struct arena *a = job_arena(j);
    size_t n = (size_t)all->n + 1;
    struct scoring s = {.job = j, .plan = p, .data = c->data, .all = all};
    struct own *own = arena_array(a, n, sizeof *own);
    struct task *tasks = arena_array(a, n, sizeof *tasks);
    struct digest graph;
    s.scores = *ret = arena_array(a, n, sizeof *s.scores);
    s.inputs = arena_array(a, (size_t)p->graph->n_inputs + 1, sizeof *s.inputs);
    for (int i = 0; i < all->n; i++) {
        dataset_sample_digest(c->data, 0, &own[i].sample);
        candidate_digest(p, &all->list[i], &own[i].candidate);
        tasks[i] = (struct task){.own = &own[i], .own_len = sizeof own[i]};
    }
    graph_digest(p->graph, &graph);
    int rc =
        job_map(j, &kind, "search per layer", &graph, sizeof graph, tasks, all->n, take_row, &s, e);
    sweep_free(s.sweep);
    return rc;
}

/* ---- layers ---- */

/* The first calibration of what is decided together: a Concat's, and those whose thresholds are
 * another's. -1: a weight. */
static int *roots_of(const struct plan *p, const int *like, struct arena *a)
{
    int *root = arena_array(a, (size_t)p->n_calibs + 1, sizeof *root);
    int *group = arena_array(a, (size_t)p->n_calibs + 1, sizeof *group);
    place_groups(p, group);
    for (int k = 0; k < p->n_calibs; k++) {
        int of = k;
        while (like[of] >= 0)
            of = like[of];
        root[k] = p->calibs[k].kind == CALIB_WEIGHT ? -1 : group[of];
    }
    return root;
}

static json_t *members(const struct plan *p, const int *root, int of)
{
    json_t *list = json_array();
    for (int k = 0; k < p->n_calibs; k++)
        if (root[k] == of)
            json_array_append_new(list, json_string(p->calibs[k].name));
    return list;
}

struct layer {
    const char *name; /* of its root */
    int value;        /* of its root */
    double score;     /* under the best method, before anything is raised */
    int own;          /* the method that it gets */
    double own_score;
};

struct searching {
    struct job *job;
    struct calibration *c;
    struct survey *survey;
    struct quant_config *q;
    const struct march *march;
    int best, n;
    struct layer *layers; /* those that are chosen, worst first */
};

/* Candidates of the plan, one a layer: all, or those chosen, in their order. */
static int find_layers(const struct searching *s, const struct plan *p, const int *root,
                       const struct layer *only, int n_only, struct candidates **ret, struct err *e)
{
    json_t *asked = json_array();
    for (int i = 0; i < (only ? n_only : p->n_calibs); i++) {
        int k = only ? root[plan_find(p, only[i].name)] : i;
        if (root[k] == k)
            json_array_append_new(asked, members(p, root, k));
    }
    int rc = candidates_find(p, BY_ACTIVATION, NULL, asked, job_arena(s->job), ret, e);
    json_decref(asked);
    return rc;
}

static int worst_first(const void *a, const void *b, void *metric)
{
    const struct layer *p = a, *q = b;
    enum metric m = *(enum metric *)metric;
    if (isnan(p->score) != isnan(q->score))
        return isnan(p->score) ? 1 : -1;
    if (metric_better(m, p->score, q->score))
        return 1;
    return metric_better(m, q->score, p->score) ? -1 : p->value - q->value;
}

/* The worst `topk`, or all with a cosine below LAYER_COSINE. */
static int choose_layers(struct searching *s, const struct resolved *r, struct err *e)
{
    struct arena *a = job_arena(s->job);
    struct candidates *all;
    struct plan *p;
    double(*scores)[METRIC_COUNT];
    if (survey_plan(s->survey, &s->q->candidates[s->best], a, NULL, &p, e))
        return -1;
    const int *root = roots_of(p, r->like, a);
    if (find_layers(s, p, root, NULL, 0, &all, e) || score_all(s->job, s->c, p, all, &scores, e))
        return -1;
    enum metric m = s->q->layer.metric;
    s->layers = arena_array(a, (size_t)all->n + 1, sizeof *s->layers);
    for (int i = 0; i < all->n; i++) {
        const struct calib *k = &p->calibs[all->list[i].calibs[0]];
        if (isnan(scores[i][m]) || (!s->q->layer.topk && !(scores[i][M_COSINE] < LAYER_COSINE)))
            continue;
        s->layers[s->n++] = (struct layer){k->name, k->value, scores[i][m], s->best, NAN};
    }
    qsort_r(s->layers, (size_t)s->n, sizeof *s->layers, worst_first, &m);
    if (s->q->layer.topk && s->n > s->q->layer.topk)
        s->n = s->q->layer.topk;
    return 0;
}

/* The types with the chosen layers raised. */
static void raise_layers(struct searching *s, const struct resolved *r, struct resolved *ret)
{
    struct arena *a = job_arena(s->job);
    const struct graph *g = s->q->graph;
    bool *raised = arena_array(a, (size_t)g->n_values + 1, sizeof *raised);
    const int *root = roots_of(r->plan, r->like, a);
    *ret = *r;
    if (s->q->layer.qtype == Q_INT8 || !s->n)
        return;
    for (int i = 0; i < s->n; i++)
        for (int k = 0; k < r->plan->n_calibs; k++)
            if (root[k] >= 0 && root[k] == root[plan_find(r->plan, s->layers[i].name)])
                raised[r->plan->calibs[k].value] = true;
    s->q->raised = raised;
    resolve(s->q, g, s->march, a, ret);
    survey_resolved(s->survey, ret);
}

/* One method for all chosen layers; a tie stays with the method that is best for the model. */
static int try_method(struct searching *s, const struct resolved *r, int method, struct err *e)
{
    struct arena *a = job_arena(s->job);
    struct candidates *all;
    struct plan *p;
    double(*scores)[METRIC_COUNT];
    enum metric m = s->q->layer.metric;
    if (survey_plan(s->survey, &s->q->candidates[method], a, NULL, &p, e))
        return -1;
    const int *root = roots_of(p, r->like, a);
    if (find_layers(s, p, root, s->layers, s->n, &all, e) ||
        score_all(s->job, s->c, p, all, &scores, e))
        return -1;
    if (all->n != s->n)
        return err_set(e, ERR_INTERNAL, "", "A layer no longer reaches an output.");
    for (int i = 0; i < s->n; i++)
        if (method == s->best || metric_better(m, scores[i][m], s->layers[i].own_score)) {
            s->layers[i].own = method;
            s->layers[i].own_score = scores[i][m];
        }
    return 0;
}

static json_t *layers_json(const struct searching *s, const struct resolved *r, const int *root)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n; i++) {
        const struct layer *l = &s->layers[i];
        int k = plan_find(r->plan, l->name);
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:o, s:o}", "calibrations",
                                              members(r->plan, root, root[k]), "qtype",
                                              qtype_name(r->plan->calibs[k].qtype), "before",
                                              json_real_or_null(l->score), "activation",
                                              calib_method_json(&s->q->candidates[l->own]), "after",
                                              json_real_or_null(l->own_score)));
    }
    return list;
}

static void tell(const struct searching *s, const struct resolved *r, const int *root)
{
    if (!json_is_object(s->c->search)) {
        json_decref(s->c->search);
        s->c->search = json_pack("{s:s, s:n, s:[], s:o}", "metric",
                                 metric_rows[s->q->layer.metric].name, "similarity", "candidates",
                                 "chosen", calib_method_json(&s->q->candidates[s->best]));
    }
    json_object_set_new(s->c->search, "layers", layers_json(s, r, root));
}

int search_layers(struct job *j, struct calibration *c, struct survey *survey,
                  struct quant_config *q, const struct march *march, const struct resolved *r,
                  int best, struct layers *ret, struct err *e)
{
    struct searching s = {.job = j, .c = c, .survey = survey, .q = q, .march = march, .best = best};
    struct arena *a = job_arena(j);
    ret->resolved = arena_alloc(a, sizeof *ret->resolved);
    if (choose_layers(&s, r, e))
        return -1;
    raise_layers(&s, r, ret->resolved);
    if (s.n && try_method(&s, ret->resolved, best, e))
        return -1;
    for (int i = 0; s.n && i < q->n_candidates; i++)
        if (i != best && try_method(&s, ret->resolved, i, e))
            return -1;
    const struct plan *p = ret->resolved->plan;
    const int *root = roots_of(p, ret->resolved->like, a);
    ret->own = arena_array(a, (size_t)p->n_calibs + 1, sizeof *ret->own);
    for (int k = 0; k < p->n_calibs; k++) {
        ret->own[k] = -1;
        for (int i = 0; i < s.n && root[k] >= 0; i++)
            if (root[k] == root[plan_find(p, s.layers[i].name)])
                ret->own[k] = s.layers[i].own;
    }
    tell(&s, ret->resolved, root);
    return 0;
}
