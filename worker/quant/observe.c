#include "worker/quant/observe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/quant/along.h"

enum { KEYS = 1 << 16 };

int64_t observe_rank(int64_t n, double p)
{
    if (n <= 0)
        return 0;
    int64_t at = (int64_t)ceil(p * (double)n);
    at = at < 1 ? 1 : at > n ? n : at;
    return n - at + 1;
}

/* Larger values have larger keys; minus zero is zero. */
static uint32_t key_of(float y)
{
    uint32_t u;
    y += 0.0f;
    memcpy(&u, &y, sizeof u);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

float observe_value(uint32_t upper, uint32_t lower)
{
    uint32_t u = upper << 16 | lower;
    float y;
    u = u & 0x80000000u ? u & 0x7FFFFFFFu : ~u;
    memcpy(&y, &u, sizeof y);
    return y;
}

static void add_number(struct buf *b, uint64_t v)
{
    unsigned char out[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (unsigned char)(v | 0x80);
    out[n++] = (unsigned char)v;
    buf_add(b, out, n);
}

void observe_want_bytes(const struct observe_want *w, struct buf *ret)
{
    add_number(ret, w->stage);
    add_number(ret, (uint64_t)w->n_samples);
    buf_add(ret, &w->min_percentile, sizeof w->min_percentile);
    for (int i = 0; i < w->n_targets; i++) {
        const struct observe_target *t = &w->targets[i];
        add_number(ret, (uint64_t)t->value);
        add_number(ret, (uint64_t)(t->axis + 1));
        add_number(ret, t->sides);
        add_number(ret, (uint64_t)t->keep);
        buf_add(ret, &t->width, sizeof t->width);
        add_number(ret, (uint64_t)t->bins);
        add_number(ret, (uint64_t)t->n_picks);
        for (int k = 0; k < t->n_picks; k++) {
            add_number(ret, (uint64_t)t->picks[k].channel);
            add_number(ret, t->picks[k].side);
            add_number(ret, t->picks[k].upper);
            add_number(ret, (uint64_t)t->picks[k].keep);
        }
    }
}

/* ---- one sample ---- */

struct observer {
    const struct observe_want *want;
    int *target_of; /* value → its first target, or -1 */
    int *next;      /* target → the next one of its value, or -1 */
    int n_values;
    struct buf *ret;
    size_t count_at; /* where the record's number of targets stands */
    int skip, met, emitted;
    bool full;
    uint32_t *hist; /* KEYS or bins; all zero between uses */
    uint32_t low, high;
};

struct observer *observer_new(const struct observe_want *w)
{
    struct observer *o = xcalloc(1, sizeof *o);
    size_t bins = KEYS;
    o->want = w;
    for (int i = 0; i < w->n_targets; i++) {
        if (w->targets[i].value >= o->n_values)
            o->n_values = w->targets[i].value + 1;
        if ((size_t)w->targets[i].bins > bins)
            bins = (size_t)w->targets[i].bins;
    }
    o->target_of = xmalloc((size_t)o->n_values * sizeof *o->target_of);
    for (int v = 0; v < o->n_values; v++)
        o->target_of[v] = -1;
    o->next = xmalloc((size_t)(w->n_targets + 1) * sizeof *o->next);
    for (int i = w->n_targets; i-- > 0;) {
        o->next[i] = o->target_of[w->targets[i].value];
        o->target_of[w->targets[i].value] = i;
    }
    o->hist = xcalloc(bins, sizeof *o->hist);
    return o;
}

void observer_free(struct observer *o)
{
    if (!o)
        return;
    free(o->target_of);
    free(o->next);
    free(o->hist);
    free(o);
}

/* A record: number of targets, 1 if another record goes on, then the targets. */
enum { RECORD_HEAD = 5 };

void observer_start(struct observer *o, int skip, struct buf *ret)
{
    o->ret = ret;
    o->skip = skip;
    o->met = o->emitted = 0;
    o->full = false;
    o->count_at = ret->len;
    buf_add(ret, (const char[RECORD_HEAD]){0}, RECORD_HEAD);
}

void observer_end(struct observer *o)
{
    uint32_t n = (uint32_t)o->emitted;
    memcpy(o->ret->data + o->count_at, &n, sizeof n);
    o->ret->data[o->count_at + 4] = o->full;
}

/* One channel of a tensor. */
struct strip {
    const float *data; /* of the whole tensor */
    struct along v;
    int64_t channel;
};

#define FOR_STRIP(s, x)                                                                            \
    for (int64_t o_ = 0; o_ < (s)->v.outer; o_++)                                                  \
        for (const float *at_ = (s)->data + (o_ * (s)->v.channels + (s)->channel) * (s)->v.inner,  \
                         *end_ = at_ + (s)->v.inner;                                               \
             at_ < end_; at_++)                                                                    \
            for (float x = *at_, *once_ = &x; once_; once_ = NULL)

static void see_range(const struct strip *s, struct buf *ret)
{
    float min = INFINITY, max = -INFINITY;
    int64_t nan = 0;
    FOR_STRIP(s, x)
    {
        min = x < min ? x : min;
        max = x > max ? x : max;
        nan += x != x;
    }
    add_number(ret, (uint64_t)(s->v.outer * s->v.inner));
    add_number(ret, (uint64_t)nan);
    buf_add(ret, &min, sizeof min);
    buf_add(ret, &max, sizeof max);
}

static float by_side(enum side side, float x)
{
    return side == SIDE_ABS ? fabsf(x) : side == SIDE_UP ? x : -x;
}

static void count(struct observer *o, uint32_t key)
{
    o->hist[key]++;
    o->low = key < o->low ? key : o->low;
    o->high = key > o->high ? key : o->high;
}

static void count_upper(struct observer *o, const struct strip *s, enum side side)
{
    FOR_STRIP(s, x)
    {
        if (x == x)
            count(o, key_of(by_side(side, x)) >> 16);
    }
}

static void count_lower(struct observer *o, const struct strip *s, const struct observe_pick *p)
{
    FOR_STRIP(s, x)
    {
        uint32_t key = key_of(by_side(p->side, x));
        if (x == x && key >> 16 == p->upper)
            count(o, key & 0xFFFF);
    }
}

static void count_bins(struct observer *o, const struct strip *s, enum side side,
                       const struct observe_target *t)
{
    FOR_STRIP(s, x)
    {
        float y = by_side(side, x);
        if (!(y >= 0) || (y == 0 && side != SIDE_ABS))
            continue;
        float at = y / t->width;
        count(o, at < (float)(t->bins - 1) ? (uint32_t)at : (uint32_t)t->bins - 1);
    }
}

static void count_start(struct observer *o)
{
    o->low = UINT32_MAX;
    o->high = 0;
}

/* The counted keys from the largest on, until `keep` values are told; the histogram is cleared. */
static void tell_counts(struct observer *o, int64_t keep)
{
    uint32_t n = 0, before = 0;
    int64_t told = 0;
    if (o->low > o->high) {
        add_number(o->ret, 0);
        return;
    }
    for (uint32_t k = o->high + 1; k-- > o->low && told < keep;) {
        n += o->hist[k] != 0;
        told += o->hist[k];
    }
    add_number(o->ret, n);
    for (uint32_t k = o->high; n > 0; k--) {
        if (!o->hist[k])
            continue;
        add_number(o->ret, k == o->high ? k : before - k);
        add_number(o->ret, o->hist[k]);
        before = k;
        n--;
    }
    memset(o->hist + o->low, 0, (size_t)(o->high - o->low + 1) * sizeof *o->hist);
}

static int64_t keep_of(const struct observe_want *w, const struct observe_target *t, int64_t n)
{
    return t->keep ? t->keep : observe_rank(n * w->n_samples, w->min_percentile);
}

static void see_channel(struct observer *o, const struct observe_target *t, const struct strip *s)
{
    int64_t keep = keep_of(o->want, t, s->v.outer * s->v.inner);
    see_range(s, o->ret);
    for (int side = 0; side < SIDE_COUNT; side++) {
        if (!(t->sides & 1u << side))
            continue;
        count_start(o);
        count_upper(o, s, (enum side)side);
        tell_counts(o, keep);
    }
}

static void see_target(struct observer *o, int index, const struct tensor *tensor)
{
    const struct observe_target *t = &o->want->targets[index];
    struct strip s = {tensor->data, look_along(tensor, t->axis), 0};
    add_number(o->ret, (uint64_t)index);
    add_number(o->ret, (uint64_t)s.v.channels);
    if (o->want->stage == OBSERVE_UPPER) {
        for (; s.channel < s.v.channels; s.channel++)
            see_channel(o, t, &s);
    } else if (o->want->stage == OBSERVE_LOWER) {
        for (int i = 0; i < t->n_picks; i++) {
            s.channel = t->picks[i].channel;
            count_start(o);
            if (s.channel < s.v.channels)
                count_lower(o, &s, &t->picks[i]);
            tell_counts(o, t->picks[i].keep);
        }
    } else {
        for (int side = 0; side < SIDE_COUNT; side++) {
            if (!(t->sides & 1u << side))
                continue;
            count_start(o);
            count_bins(o, &s, (enum side)side, t);
            tell_counts(o, INT64_MAX);
        }
    }
}

static int see_one(struct observer *o, int index, const struct tensor *t, struct err *e)
{
    if (o->met++ < o->skip || o->full)
        return 0;
    size_t before = o->ret->len;
    see_target(o, index, t);
    if (o->ret->len - o->count_at <= OBSERVE_RESULT_MAX && !o->ret->full) {
        o->emitted++;
        return 0;
    }
    if (o->emitted == 0)
        return err_set(e, ERR_LIMIT, "", "What one sample shows of one tensor is over %d bytes.",
                       OBSERVE_RESULT_MAX);
    o->ret->len = before;
    o->full = true;
    return 0;
}

int observer_see(struct observer *o, int value, const struct tensor *t, struct err *e)
{
    if (value >= o->n_values || t->type != DT_F32)
        return 0;
    for (int i = o->target_of[value]; i >= 0; i = o->next[i])
        if (see_one(o, i, t, e))
            return -1;
    return 0;
}

/* ---- all samples ---- */

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
    struct reader r = {record, (const unsigned char *)record + len, len < RECORD_HEAD};
    uint32_t n = 0;
    if (!r.bad) {
        memcpy(&n, r.at, sizeof n);
        *ret_more = r.at[4] ? (int)n : 0;
        r.at += RECORD_HEAD;
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
