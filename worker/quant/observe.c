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

void observer_start(struct observer *o, int skip, struct buf *ret)
{
    o->ret = ret;
    o->skip = skip;
    o->met = o->emitted = 0;
    o->full = false;
    o->count_at = ret->len;
    buf_add(ret, (const char[OBSERVE_RECORD_HEAD]){0}, OBSERVE_RECORD_HEAD);
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
