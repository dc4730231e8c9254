/*
 * Offsets for very many buffers, as a heap gives them: step after step, what nobody reads any more
 * is free, what begins takes the first hole that is large enough among the first few, else the end.
 * Holes that touch are one; beyond a number of them a hole is forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/exec/inner.h"

enum { HOLES_LOOKED_AT = 64, HOLES_MAX = 4096 };

struct hole {
    size_t offset, bytes;
};

struct heap {
    struct hole *holes; /* by offset, none touches the next */
    int n;
    size_t end;
};

static int by_first(const void *a, const void *b)
{
    const struct buffer *const *p = a, *const *q = b;
    return (*p)->first != (*q)->first ? ((*p)->first > (*q)->first ? 1 : -1)
                                      : (*p > *q) - (*p < *q);
}

static int by_last(const void *a, const void *b)
{
    const struct buffer *const *p = a, *const *q = b;
    return (*p)->last != (*q)->last ? ((*p)->last > (*q)->last ? 1 : -1) : (*p > *q) - (*p < *q);
}

static void remove_hole(struct heap *h, int i)
{
    memmove(&h->holes[i], &h->holes[i + 1], (size_t)(h->n - i - 1) * sizeof *h->holes);
    h->n--;
}

/* The number of holes that begin before the offset. */
static int holes_before(const struct heap *h, size_t offset)
{
    int low = 0, high = h->n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (h->holes[mid].offset < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void give_back(struct heap *h, const struct buffer *b)
{
    int i = holes_before(h, b->offset);
    struct hole *before = i ? &h->holes[i - 1] : NULL;
    if (before && before->offset + before->bytes == b->offset) {
        before->bytes += b->bytes;
        i--;
    } else if (h->n == HOLES_MAX) {
        return;
    } else {
        memmove(&h->holes[i + 1], &h->holes[i], (size_t)(h->n - i) * sizeof *h->holes);
        h->holes[i] = (struct hole){b->offset, b->bytes};
        h->n++;
    }
    struct hole *here = &h->holes[i];
    if (i + 1 < h->n && here->offset + here->bytes == here[1].offset) {
        here->bytes += here[1].bytes;
        remove_hole(h, i + 1);
    }
}

static void take(struct heap *h, struct buffer *b)
{
    for (int i = 0; i < h->n && i < HOLES_LOOKED_AT; i++) {
        if (h->holes[i].bytes < b->bytes)
            continue;
        b->offset = h->holes[i].offset;
        h->holes[i].offset += b->bytes;
        h->holes[i].bytes -= b->bytes;
        if (!h->holes[i].bytes)
            remove_hole(h, i);
        return;
    }
    b->offset = h->end;
    h->end += b->bytes;
}

void exec_place_in_time(struct buffer **list, int n, struct arena *a)
{
    struct heap h = {.holes = arena_array(a, HOLES_MAX + 1, sizeof *h.holes)};
    struct buffer **ends = arena_copy(a, list, (size_t)n * sizeof *ends);
    int gone = 0;
    qsort(list, (size_t)n, sizeof *list, by_first);
    qsort(ends, (size_t)n, sizeof *ends, by_last);
    for (int i = 0; i < n; i++) {
        for (; gone < n && ends[gone]->last < list[i]->first; gone++)
            give_back(&h, ends[gone]);
        take(&h, list[i]);
    }
}
