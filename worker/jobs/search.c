/* Which calibration method: of all candidates the best for the model, and for single activations a
 * better one (spec §2, modelwise and layerwise search). */
#include "worker/jobs/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "worker/jobs/compare.h"

struct scores {
    const struct quant_config *config;
    struct metric_stat *of; /* a candidate's, over outputs and samples */
    int first;              /* candidate of plan 0 */
    int n_outputs;
};

static int take_score(void *ctx, int plan, int sample, const struct compared *v, struct err *e)
{
    struct scores *s = ctx;
    (void)sample;
    (void)e;
    for (int i = 0; i < s->n_outputs; i++)
        metric_stat_add(&s->of[s->first + plan],
                        metric_of(s->config->search.metric, &v->outputs[i]));
    return 0;
}

static int score_range(struct job *j, struct calibration *c, const struct survey *survey,
                       struct scores *s, int from, int to, struct plan **plans, struct err *e)
{
    struct compare cmp = {.graph = c->graph,
                          .data = c->data,
                          .n_plans = to - from,
                          .n_samples = s->config->search.num_sample,
                          .plans = (const struct plan *const *)plans + from,
                          .take = take_score,
                          .ctx = s};
    if (cmp.n_samples > c->n_samples)
        cmp.n_samples = c->n_samples;
    s->first = from;
    for (int i = from; i < to; i++)
        if (survey_plan(survey, &s->config->candidates[i], job_arena(j), NULL, &plans[i], e))
            return -1;
    if (from >= to || plans[from]->graph == c->graph)
        return from < to ? compare_run(j, &cmp, "search", e) : 0;
    cmp.n_plans = 1; /* compensated weights differ from candidate to candidate */
    for (int i = from; i < to; i++) {
        cmp.graph = plans[i]->graph;
        cmp.plans = (const struct plan *const *)plans + i;
        s->first = i;
        if (compare_run(j, &cmp, "search", e))
            return -1;
    }
    return 0;
}

static int best_of(const struct scores *s, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (metric_better(s->config->search.metric, metric_stat_mean(&s->of[i]),
                          metric_stat_mean(&s->of[best])))
            best = i;
    return best;
}

static json_t *search_json(const struct scores *s, int n, int best)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "activation",
                                              calib_method_json(&s->config->candidates[i]), "score",
                                              json_real_or_null(metric_stat_mean(&s->of[i]))));
    double similarity = s->config->search.similarity;
    return json_pack("{s:s, s:o, s:o, s:o}", "metric", metric_rows[s->config->search.metric].name,
                     "similarity", json_real_or_null(isinf(similarity) ? NAN : similarity),
                     "candidates", list, "chosen", calib_method_json(&s->config->candidates[best]));
}

/* Per-tensor candidates first; those with a scale a channel only when none of them is enough. */
int search_model(struct job *j, struct calibration *c, const struct survey *survey,
                 const struct quant_config *q, int *ret_best, struct err *e)
{
    struct scores s = {.config = q, .n_outputs = c->graph->n_outputs};
    struct plan **plans = arena_array(job_arena(j), (size_t)q->n_candidates, sizeof *plans);
    int tensors = 0, n;
    s.of = arena_array(job_arena(j), (size_t)q->n_candidates, sizeof *s.of);
    *ret_best = 0;
    c->search = json_null();
    if (q->n_candidates == 1)
        return 0;
    while (tensors < q->n_candidates && !q->candidates[tensors].per_channel)
        tensors++;
    if (score_range(j, c, survey, &s, 0, tensors, plans, e))
        return -1;
    n = tensors;
    double best = n ? metric_stat_mean(&s.of[best_of(&s, n)]) : NAN;
    if (isnan(best) || metric_better(q->search.metric, q->search.similarity, best)) {
        if (score_range(j, c, survey, &s, tensors, q->n_candidates, plans, e))
            return -1;
        n = q->n_candidates;
    }
    *ret_best = best_of(&s, n);
    c->search = search_json(&s, n, *ret_best);
    return 0;
}
