/*
 * Observers: what one sample shows of the tensors that are to be calibrated, as bytes small enough
 * to be stored, and the sum of such bytes over a data set. Everything adds up exactly, so the
 * order and the number of workers make no difference.
 *
 * An exact percentile takes two passes: the upper 16 bits of each value's float pattern (mapped so
 * that a larger value has a larger key), then, within the one bin that holds the rank, the lower
 * 16. A sample's bins are cut below what any percentile wanted can reach.
 */
#ifndef PTQ_WORKER_QUANT_OBSERVE_H
#define PTQ_WORKER_QUANT_OBSERVE_H

#include "common/buf.h"
#include "worker/quant/plan.h"

enum { OBSERVE_RESULT_MAX = 1000 * 1000 /* bytes, below a task's 1 MiB */ };

/* A record: number of targets (4 bytes), 1 if another record goes on, then the targets. */
enum { OBSERVE_RECORD_HEAD = 5 };

/* What is counted: |x|, x, or -x. For OBSERVE_BINS the last two count values above zero only. */
enum side { SIDE_ABS, SIDE_UP, SIDE_DOWN, SIDE_COUNT };

enum stage {
    OBSERVE_UPPER, /* range of each channel, and upper halves, the `keep` largest values' */
    OBSERVE_LOWER, /* lower halves within picks */
    OBSERVE_BINS   /* a histogram of even bins */
};

struct observe_pick {
    int32_t channel;
    enum side side;
    uint32_t upper; /* the key of the bin that is looked into */
    int64_t keep;   /* the largest so many values in it are enough */
};

struct observe_target {
    int value;
    int axis;       /* channel axis, or -1 */
    unsigned sides; /* bits 1 << side; 0: the range alone */
    int64_t keep;   /* OBSERVE_UPPER: as below when 0 */
    int n_picks;    /* OBSERVE_LOWER */
    const struct observe_pick *picks;
    float width; /* OBSERVE_BINS: of a bin */
    int bins;
};

struct observe_want {
    enum stage stage;
    int n_samples; /* of the data set, for keep: a sample with n elements of a tensor keeps */
    double min_percentile; /* the values at rank >= ceil(p·n·n_samples), all samples being alike */
    int n_targets;         /* several may look at one value */
    const struct observe_target *targets;
};

/* The identity of what is looked for, as part of a task's digest. */
void observe_want_bytes(const struct observe_want *w, struct buf *ret);

/* Of n values in all, the number of largest ones among which the p-quantile by nearest rank is the
 * smallest: n - ceil(p·n) + 1. 0 for none. */
int64_t observe_rank(int64_t n, double p);

/* ---- one sample ---- */
struct observer;
struct observer *observer_new(const struct observe_want *w);
void observer_free(struct observer *o);
/* Starts a record in `ret`, leaving out the first `skip` targets that come. */
void observer_start(struct observer *o, int skip, struct buf *ret);
/* The tensor of a value; others than the targets' are ignored. ERR_LIMIT for a target whose record
 * alone is too large. */
int observer_see(struct observer *o, int value, const struct tensor *t, struct err *e);
void observer_end(struct observer *o);

/* ---- all samples (seen.c) ---- */
struct tally { /* counts by key, largest key first */
    int n, cap;
    uint32_t *keys;
    int64_t *counts;
};
struct range {
    int64_t n, nan;            /* elements; of them NaN, which count nowhere else */
    float min, max, first_max; /* first_max: largest |x| of the first sample */
};
struct seen {
    int channels;         /* 0: not seen yet */
    struct range *ranges; /* channels; OBSERVE_UPPER */
    int n_tallies;        /* UPPER: channels × sides wanted; LOWER: picks; BINS: sides */
    struct tally *tallies;
    int64_t kept_least; /* UPPER: the smallest `keep` by which a sample was really cut */
};
struct seen_all {
    struct observe_want want;
    struct seen *targets;
};
struct seen_all *seen_new(const struct observe_want *w);
void seen_free(struct seen_all *s);
/* Adds a record; `first`: it is of sample 0. *ret_more: 0, or how many targets more than in this
 * one are to be left out (observer_start's skip) in the record that continues it. */
int seen_add(struct seen_all *s, const void *record, size_t len, bool first, int *ret_more,
             struct err *e);
/* The tally of a channel and side of an UPPER target. */
const struct tally *seen_upper(const struct seen_all *s, int target, int channel, enum side side);

/* The key that holds the rank-th largest value (1 = the largest); *ret_within: its rank within
 * that key. -1 when the tally holds fewer. */
int64_t tally_find(const struct tally *t, int64_t rank, int64_t *ret_within);
/* The value of an upper and a lower half, as the side counted it. */
float observe_value(uint32_t upper, uint32_t lower);

#endif
