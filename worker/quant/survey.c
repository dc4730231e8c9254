#include "worker/quant/survey_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/quant/place.h"

/* ---- what the candidates need ---- */

static bool is_seen(const struct survey *s, int k)
{
    const struct calib *c = &s->r->plan->calibs[k];
    return c->kind == CALIB_FEATURE && s->r->like[k] < 0 &&
           !place_is_constant(&s->r->plan->graph->values[c->value]);
}

static bool any_candidate(const struct survey *s, bool (*is)(const struct calib_method *a))
{
    for (int i = 0; i < s->c->n_candidates; i++)
        if (is(&s->c->candidates[i]))
            return true;
    return false;
}

static bool is_percentile(const struct calib_method *a)
{
    return a->method == METHOD_MAX && a->max_percentile < 1;
}

static bool is_binned(const struct calib_method *a)
{
    return a->method == METHOD_KL || a->method == METHOD_MSE;
}

static bool is_per_channel(const struct calib_method *a)
{
    return a->per_channel;
}

static bool is_measured(const struct calib_method *a)
{
    return a->method != METHOD_FIXED && a->method != METHOD_LOAD;
}

static unsigned sides_of(const struct survey *s, bool (*is)(const struct calib_method *a))
{
    unsigned sides = 0;
    for (int i = 0; i < s->c->n_candidates; i++) {
        const struct calib_method *a = &s->c->candidates[i];
        if (is(a))
            sides |= a->asymmetric ? 1u << SIDE_UP | 1u << SIDE_DOWN : 1u << SIDE_ABS;
    }
    return sides;
}

static void collect_percentiles(struct survey *s)
{
    for (int i = 0; i < s->c->n_candidates; i++) {
        const struct calib_method *a = &s->c->candidates[i];
        bool there = !is_percentile(a);
        for (int k = 0; k < s->n_percentiles; k++)
            there |= s->percentiles[k] == a->max_percentile;
        if (!there)
            s->percentiles[s->n_percentiles++] = a->max_percentile;
    }
}

static void start_upper(struct survey *s, int n_samples)
{
    const struct plan *p = s->r->plan;
    struct observe_target *t = arena_array(&s->arena, 2 * (size_t)p->n_calibs + 1, sizeof *t);
    s->want = (struct observe_want){OBSERVE_UPPER, n_samples, 1, 0, t};
    for (int i = 0; i < s->n_percentiles; i++)
        if (s->percentiles[i] < s->want.min_percentile)
            s->want.min_percentile = s->percentiles[i];
    for (int k = 0; k < p->n_calibs; k++) {
        struct found *f = &s->found[k];
        *f = (struct found){.upper = -1, .upper_channels = -1};
        if (!is_seen(s, k))
            continue;
        f->upper = s->want.n_targets;
        t[s->want.n_targets++] = (struct observe_target){
            .value = p->calibs[k].value, .axis = -1, .sides = sides_of(s, is_percentile)};
        if (!any_candidate(s, is_per_channel) || !survey_folds(s->r, s->march, k))
            continue;
        f->upper_channels = s->want.n_targets;
        t[s->want.n_targets++] = (struct observe_target){
            .value = p->calibs[k].value, .axis = 1, .sides = s->n_percentiles ? 1u << SIDE_ABS : 0};
    }
    s->pass = any_candidate(s, is_measured) && s->want.n_targets ? PASS_UPPER : PASS_DONE;
}

struct survey *survey_new(const struct resolved *r, const struct quant_config *c,
                          const struct march *m, int n_samples)
{
    struct survey *s = xcalloc(1, sizeof *s);
    *s = (struct survey){.r = r, .c = c, .march = m};
    s->found = arena_array(&s->arena, (size_t)r->plan->n_calibs + 1, sizeof *s->found);
    collect_percentiles(s);
    start_upper(s, n_samples);
    return s;
}

/* Calibrations stand on the same values, but a port limit may have added or taken away some, whose
 * thresholds are another's. */
void survey_resolved(struct survey *s, const struct resolved *r)
{
    const struct resolved *before = s->r;
    struct found *now = arena_array(&s->arena, (size_t)r->plan->n_calibs + 1, sizeof *now);
    s->r = r;
    for (int k = 0; k < r->plan->n_calibs; k++) {
        now[k] = (struct found){.upper = -1, .upper_channels = -1};
        for (int i = 0; i < before->plan->n_calibs && is_seen(s, k); i++)
            if (before->like[i] < 0 && before->plan->calibs[i].kind == CALIB_FEATURE &&
                before->plan->calibs[i].value == r->plan->calibs[k].value)
                now[k] = s->found[i];
    }
    s->found = now;
}

void survey_free(struct survey *s)
{
    if (!s)
        return;
    seen_free(s->seen);
    arena_done(&s->arena);
    free(s);
}

const struct observe_want *survey_next(struct survey *s)
{
    return s->pass == PASS_DONE ? NULL : &s->want;
}

/* ---- after the first pass ---- */

static int check_values(const struct survey *s, struct err *e)
{
    const struct graph *g = s->r->plan->graph;
    for (int i = 0; i < s->first.n_targets; i++) {
        const struct seen *t = &s->seen->targets[i];
        const char *name = g->values[s->first.targets[i].value].name;
        for (int c = 0; c < t->channels; c++)
            if (t->ranges[c].nan)
                return err_set(e, ERR_BAD_DATA, name,
                               "%lld of the %lld values of this tensor are NaN: it has no "
                               "threshold.",
                               (long long)t->ranges[c].nan, (long long)t->ranges[c].n);
    }
    return 0;
}

/* Did some sample keep too little, because the samples are not alike? Then once more, exactly. */
static bool kept_too_little(struct survey *s)
{
    struct observe_target *t =
        arena_copy(&s->arena, s->first.targets, (size_t)s->first.n_targets * sizeof *t);
    bool again = false;
    for (int i = 0; i < s->first.n_targets; i++) {
        const struct seen *v = &s->seen->targets[i];
        for (int c = 0; t[i].sides && c < v->channels; c++) {
            int64_t need = observe_rank(v->ranges[c].n, s->want.min_percentile);
            t[i].keep = need > t[i].keep ? need : t[i].keep;
            again |= need > v->kept_least;
        }
    }
    if (again)
        s->want.targets = t;
    return again;
}

static void add_quantile(struct survey *s, int target, int channel, enum side side, double p)
{
    const struct seen *v = &s->seen->targets[target];
    struct quantile q = {.target = target, .channel = channel, .side = side, .p = p};
    int64_t rank = observe_rank(v->ranges[channel].n, p);
    int64_t key = tally_find(seen_upper(s->seen, target, channel, side), rank, &q.within);
    if (key < 0)
        return;
    q.upper = (uint32_t)key;
    if (s->n_quantiles == s->quantiles_cap) {
        s->quantiles_cap = s->quantiles_cap ? 2 * s->quantiles_cap : 256;
        struct quantile *more = arena_array(&s->arena, (size_t)s->quantiles_cap, sizeof *more);
        if (s->n_quantiles)
            memcpy(more, s->quantiles, (size_t)s->n_quantiles * sizeof *more);
        s->quantiles = more;
    }
    s->quantiles[s->n_quantiles++] = q;
}

static void find_quantiles(struct survey *s)
{
    for (int i = 0; i < s->first.n_targets; i++)
        for (int c = 0; c < s->seen->targets[i].channels; c++)
            for (int side = 0; side < SIDE_COUNT; side++)
                for (int p = 0; p < s->n_percentiles; p++)
                    if (s->first.targets[i].sides & 1u << side)
                        add_quantile(s, i, c, (enum side)side, s->percentiles[p]);
}

/* One pick a quantile; those of one target are in a row. */
static void start_lower(struct survey *s)
{
    struct observe_target *t = arena_array(&s->arena, (size_t)s->first.n_targets + 1, sizeof *t);
    struct observe_pick *picks = arena_array(&s->arena, (size_t)s->n_quantiles + 1, sizeof *picks);
    int *of = arena_array(&s->arena, (size_t)s->n_quantiles + 1, sizeof *of), n = 0;
    for (int i = 0; i < s->n_quantiles; i++) {
        struct quantile *q = &s->quantiles[i];
        if (i == 0 || q->target != s->quantiles[i - 1].target) {
            t[n] = s->first.targets[q->target];
            t[n] =
                (struct observe_target){.value = t[n].value, .axis = t[n].axis, .picks = picks + i};
            n++;
        }
        of[i] = n - 1;
        q->pick = t[n - 1].n_picks++;
        picks[i] = (struct observe_pick){q->channel, q->side, q->upper, q->within};
    }
    s->lower_of = of;
    s->want = (struct observe_want){OBSERVE_LOWER, s->first.n_samples, 1, n, t};
    s->pass = PASS_LOWER;
}

static void take_lower(struct survey *s, const struct seen_all *seen)
{
    for (int i = 0; i < s->n_quantiles; i++) {
        struct quantile *q = &s->quantiles[i];
        int64_t within,
            key = tally_find(&seen->targets[s->lower_of[i]].tallies[q->pick], q->within, &within);
        q->value = observe_value(q->upper, key < 0 ? 0 : (uint32_t)key);
    }
}

/* ---- even bins ---- */

static float abs_max(const struct range *r)
{
    float down = -r->min, t = down > r->max ? down : r->max;
    return t > 0 ? t : 0;
}

/* One target each pair of bin numbers that a candidate names. */
static void add_bins(struct survey *s, int k, struct observe_target *list)
{
    const struct range *r = &s->seen->targets[s->found[k].upper].ranges[0];
    float max = abs_max(r), first = r->first_max > 0 ? r->first_max : max;
    struct found *f = &s->found[k];
    for (int i = 0; i < s->c->n_candidates && max > 0 && isfinite(max); i++) {
        const struct calib_method *a = &s->c->candidates[i];
        bool there = !is_binned(a) || f->n_bins == BIN_TARGETS;
        for (int b = 0; b < f->n_bins; b++)
            there |= f->bins[b].num_bin == a->num_bin && f->bins[b].max_num_bin == a->max_num_bin;
        if (there)
            continue;
        float width = first / (float)a->num_bin;
        if (!(width > 0) || max / width > (float)a->max_num_bin)
            width = max / (float)a->max_num_bin;
        int bins = (int)ceilf(max / width);
        bins = bins > a->max_num_bin ? a->max_num_bin : bins < 1 ? 1 : bins;
        f->bins[f->n_bins] = (struct bins){a->num_bin, a->max_num_bin, width, bins, {NULL}};
        s->bins_of[s->want.n_targets] = k;
        s->bins_at[s->want.n_targets] = f->n_bins++;
        unsigned sides = sides_of(s, is_binned);
        list[s->want.n_targets++] = (struct observe_target){.value = s->r->plan->calibs[k].value,
                                                            .axis = -1,
                                                            .sides = sides,
                                                            .width = width,
                                                            .bins = bins};
    }
}

static void start_bins(struct survey *s)
{
    size_t most = (size_t)s->r->plan->n_calibs * (size_t)s->c->n_candidates + 1;
    struct observe_target *t = arena_array(&s->arena, most, sizeof *t);
    s->bins_of = arena_array(&s->arena, most, sizeof *s->bins_of);
    s->bins_at = arena_array(&s->arena, most, sizeof *s->bins_at);
    s->want = (struct observe_want){OBSERVE_BINS, s->first.n_samples, 1, 0, t};
    for (int k = 0; k < s->r->plan->n_calibs; k++)
        if (s->found[k].upper >= 0)
            add_bins(s, k, t);
    s->pass = s->want.n_targets ? PASS_BINS : PASS_DONE;
}

static void take_bins(struct survey *s, const struct seen_all *seen)
{
    for (int i = 0; i < s->want.n_targets; i++) {
        struct bins *b = &s->found[s->bins_of[i]].bins[s->bins_at[i]];
        int tally = 0;
        for (int side = 0; side < SIDE_COUNT; side++) {
            if (!(s->want.targets[i].sides & 1u << side))
                continue;
            b->counts[side] = arena_array(&s->arena, (size_t)b->bins, sizeof **b->counts);
            const struct tally *t = &seen->targets[i].tallies[tally++];
            for (int n = 0; n < t->n; n++)
                b->counts[side][t->keys[n]] += t->counts[n];
        }
    }
}

/* ---- from pass to pass ---- */

static void after_ranges(struct survey *s)
{
    if (s->n_quantiles)
        start_lower(s);
    else if (any_candidate(s, is_binned))
        start_bins(s);
    else
        s->pass = PASS_DONE;
}

static int take_upper(struct survey *s, struct seen_all *seen, struct err *e)
{
    seen_free(s->seen);
    s->seen = seen;
    s->first = s->want;
    if (check_values(s, e))
        return -1;
    if (s->pass == PASS_UPPER && kept_too_little(s)) {
        s->pass = PASS_UPPER_AGAIN;
        return 0;
    }
    find_quantiles(s);
    after_ranges(s);
    return 0;
}

int survey_take(struct survey *s, struct seen_all *seen, struct err *e)
{
    if (s->pass == PASS_UPPER || s->pass == PASS_UPPER_AGAIN)
        return take_upper(s, seen, e);
    if (s->pass == PASS_LOWER) {
        take_lower(s, seen);
        s->n_percentiles = 0;
        if (any_candidate(s, is_binned))
            start_bins(s);
        else
            s->pass = PASS_DONE;
    } else {
        take_bins(s, seen);
        s->pass = PASS_DONE;
    }
    seen_free(seen);
    return 0;
}
