/* What all samples show together: the sum of observers' records. */
#include "worker/quant/observe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct seen_all *seen_new(const struct observe_want *w)
{
    struct seen_all *s = xcalloc(1, sizeof *s);
    s->want = *w;
    s->targets = xcalloc((size_t)w->n_targets, sizeof *s->targets);
    return s;
}

void seen_free(struct seen_all *s)
{
    for (int i = 0; s && i < s->want.n_targets; i++) {
        struct seen *t = &s->targets[i];
        for (int k = 0; k < t->n_tallies; k++) {
            free(t->tallies[k].keys);
            free(t->tallies[k].counts);
        }
        free(t->tallies);
        free(t->ranges);
    }
    if (s)
        free(s->targets);
    free(s);
}

struct reader {
    const unsigned char *at, *end;
    bool bad;
};

static uint64_t read_number(struct reader *r)
{
    uint64_t v = 0;
    for (int shift = 0; r->at < r->end && shift < 64; shift += 7) {
        unsigned char c = *r->at++;
        v |= (uint64_t)(c & 0x7F) << shift;
        if (!(c & 0x80))
            return v;
    }
    r->bad = true;
    return 0;
}

static float read_float(struct reader *r)
{
    float v = 0;
    if (r->end - r->at < (ptrdiff_t)sizeof v) {
        r->bad = true;
        return 0;
    }
    memcpy(&v, r->at, sizeof v);
    r->at += sizeof v;
    return v;
}

static void tally_push(struct tally *t, uint32_t key, int64_t n)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->keys = xrealloc(t->keys, (size_t)t->cap * sizeof *t->keys);
        t->counts = xrealloc(t->counts, (size_t)t->cap * sizeof *t->counts);
    }
    t->keys[t->n] = key;
    t->counts[t->n++] = n;
}

/* Reads one tally and merges it into t. Returns the number of values read. */
static int64_t merge_tally(struct reader *r, struct tally *t)
{
    struct tally sum = {0};
    uint64_t n = read_number(r);
    uint32_t key = 0;
    int64_t told = 0;
    int at = 0;
    for (uint64_t i = 0; i < n && !r->bad; i++) {
        uint32_t step = (uint32_t)read_number(r);
        int64_t c = (int64_t)read_number(r);
        key = i == 0 ? step : key - step;
        for (; at < t->n && t->keys[at] > key; at++)
            tally_push(&sum, t->keys[at], t->counts[at]);
        bool same = at < t->n && t->keys[at] == key;
        tally_push(&sum, key, c + (same ? t->counts[at] : 0));
        at += same;
        told += c;
    }
    for (; at < t->n; at++)
        tally_push(&sum, t->keys[at], t->counts[at]);
    free(t->keys);
    free(t->counts);
    *t = sum;
    return told;
}

static int count_sides(unsigned sides)
{
    return __builtin_popcount(sides);
}

static int seen_start(const struct observe_want *w, const struct observe_target *t, struct seen *s,
                      int channels, struct err *e)
{
    if (s->channels == 0) {
        int sides = count_sides(t->sides);
        s->channels = channels;
        s->ranges = w->stage == OBSERVE_UPPER ? xcalloc((size_t)channels, sizeof *s->ranges) : NULL;
        s->n_tallies = w->stage == OBSERVE_UPPER   ? channels * sides
                       : w->stage == OBSERVE_LOWER ? t->n_picks
                                                   : sides;
        s->tallies = xcalloc((size_t)s->n_tallies + 1, sizeof *s->tallies);
        s->kept_least = INT64_MAX;
    }
    if (s->channels == channels)
        return 0;
    return err_set(e, ERR_BAD_DATA, "", "The samples give a tensor %d and %d channels.",
                   s->channels, channels);
}

static int64_t merge_range(struct reader *r, struct range *to, bool first)
{
    int64_t n = (int64_t)read_number(r), nan = (int64_t)read_number(r);
    float min = read_float(r), max = read_float(r);
    if (to->n == 0) {
        to->min = INFINITY;
        to->max = -INFINITY;
    }
    if (first)
        to->first_max = n == nan ? 0 : -min > max ? -min : max;
    to->n += n;
    to->nan += nan;
    to->min = min < to->min ? min : to->min;
    to->max = max > to->max ? max : to->max;
    return n - nan;
}

static void merge_target(const struct observe_want *w, const struct observe_target *t,
                         struct seen *s, struct reader *r, bool first)
{
    int sides = count_sides(t->sides);
    if (w->stage != OBSERVE_UPPER) {
        for (int i = 0; i < s->n_tallies; i++)
            merge_tally(r, &s->tallies[i]);
        return;
    }
    for (int c = 0; c < s->channels && !r->bad; c++) {
        int64_t n = merge_range(r, &s->ranges[c], first);
        for (int k = 0; k < sides; k++) {
            int64_t told = merge_tally(r, &s->tallies[c * sides + k]);
            if (told < n && told < s->kept_least)
                s->kept_least = told;
        }
    }
}

int seen_add(struct seen_all *s, const void *record, size_t len, bool first, int *ret_more,
             struct err *e)
{
    struct reader r = {record, (const unsigned char *)record + len, len < OBSERVE_RECORD_HEAD};
    uint32_t n = 0;
    if (!r.bad) {
        memcpy(&n, r.at, sizeof n);
        *ret_more = r.at[4] ? (int)n : 0;
        r.at += OBSERVE_RECORD_HEAD;
    }
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        uint64_t index = read_number(&r), channels = read_number(&r);
        bool upper = s->want.stage == OBSERVE_UPPER; /* a channel is at least one byte */
        uint64_t most = upper ? (uint64_t)(r.end - r.at) : INT32_MAX;
        if (index >= (uint64_t)s->want.n_targets || channels > most)
            r.bad = true;
        else if (seen_start(&s->want, &s->want.targets[index], &s->targets[index], (int)channels,
                            e))
            return -1;
        else
            merge_target(&s->want, &s->want.targets[index], &s->targets[index], &r, first);
    }
    if (r.bad || r.at != r.end)
        return err_set(e, ERR_INTERNAL, "", "A stored observation is malformed.");
    return 0;
}

const struct tally *seen_upper(const struct seen_all *s, int target, int channel, enum side side)
{
    unsigned sides = s->want.targets[target].sides, before = sides & ((1u << side) - 1);
    return &s->targets[target].tallies[channel * count_sides(sides) + count_sides(before)];
}

int64_t tally_find(const struct tally *t, int64_t rank, int64_t *ret_within)
{
    for (int i = 0; i < t->n; i++) {
        if (rank <= t->counts[i]) {
            *ret_within = rank;
            return t->keys[i];
        }
        rank -= t->counts[i];
    }
    return -1;
}
