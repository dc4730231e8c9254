/*
 * The slab: buffers whose lives do not overlap lie at the same place. A step that may work in
 * place writes over an input that nobody reads after it. Buffers are placed by size, the largest
 * first, each at the lowest offset that is free for its whole life. That looks at all pairs; with
 * very many buffers they are placed as the run comes to them, in the first hole that is free then.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/exec/inner.h"

enum { HUGE_PAGE = 2 << 20, BY_SIZE_MAX = 8192 };

static struct buffer *buffer_of(struct exec *x, int place)
{
    if (place == NONE || x->places[place]->kind != PLACE_SLAB)
        return NULL;
    int b = x->places[place]->buffer;
    while (x->buffers[b].root != b)
        b = x->buffers[b].root;
    return &x->buffers[b];
}

static void find_lives(struct exec *x)
{
    for (int i = 0; i < x->n_steps; i++) {
        const struct step *s = x->steps[i];
        for (int j = 0; j < s->n_out; j++) {
            struct buffer *b = buffer_of(x, s->out[j]);
            if (b)
                b->last = i;
            if (b && b->first < 0)
                b->first = i;
        }
        for (int j = 0; j < s->n_in; j++) {
            struct buffer *b = buffer_of(x, s->in[j]);
            if (b)
                b->last = i;
        }
        for (int j = 0; j < s->n_held; j++) {
            struct buffer *b = buffer_of(x, s->held[j]);
            if (b)
                b->last = i;
        }
    }
    for (int i = 0; i < x->n_buffers; i++)
        if (x->buffers[i].pinned)
            x->buffers[i].last = x->n_steps;
}

static bool may_overwrite(const struct exec *x, const struct step *s)
{
    if (s->n_in < 1 || s->n_out < 1 || s->late || s->kind == STEP_FOLDED)
        return false;
    if (s->kind == STEP_NODE)
        return x->graph->nodes[s->index].op->traits & T_INPLACE;
    return s->kind == STEP_QUANT;
}

/* Whether another input of the step lies in the same buffer as input 0. */
static bool read_twice(struct exec *x, const struct step *s)
{
    for (int i = 1; i < s->n_in; i++)
        if (s->in[i] != NONE && buffer_of(x, s->in[i]) == buffer_of(x, s->in[0]))
            return true;
    return false;
}

static void share_in_place(struct exec *x)
{
    for (int i = 0; i < x->n_steps; i++) {
        const struct step *s = x->steps[i];
        if (!may_overwrite(x, s))
            continue;
        struct buffer *from = buffer_of(x, s->in[0]), *to = buffer_of(x, s->out[0]);
        if (!from || !to || from == to || from->last != i || from->pinned ||
            x->places[s->in[0]]->t.layout != x->places[s->out[0]]->t.layout ||
            tensor_bytes(&x->places[s->in[0]]->t) != tensor_bytes(&x->places[s->out[0]]->t) ||
            read_twice(x, s))
            continue;
        to->root = (int)(from - x->buffers);
        from->last = to->last;
        from->pinned = to->pinned;
        if (from->bytes < to->bytes)
            from->bytes = to->bytes;
    }
}

static int by_size(const void *a, const void *b)
{
    const struct buffer *const *p = a, *const *q = b;
    if ((*p)->bytes != (*q)->bytes)
        return (*p)->bytes < (*q)->bytes ? 1 : -1;
    return *p < *q ? -1 : *p > *q;
}

static bool lives_meet(const struct buffer *a, const struct buffer *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* placed[n] is in order of offset; returns where b fits. */
static size_t lowest_free(const struct buffer *b, struct buffer *const *placed, int n)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (!lives_meet(b, placed[i]))
            continue;
        if (at + b->bytes <= placed[i]->offset)
            break;
        if (placed[i]->offset + placed[i]->bytes > at)
            at = placed[i]->offset + placed[i]->bytes;
    }
    return at;
}

static void insert(struct buffer *b, struct buffer **placed, int n)
{
    int i = n;
    for (; i > 0 && placed[i - 1]->offset > b->offset; i--)
        placed[i] = placed[i - 1];
    placed[i] = b;
}

static size_t align(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static void place_by_size(struct buffer **list, int n, struct arena *a)
{
    struct buffer **placed = arena_array(a, (size_t)n + 1, sizeof *placed);
    qsort(list, (size_t)n, sizeof *list, by_size);
    for (int i = 0; i < n; i++) {
        list[i]->offset = lowest_free(list[i], placed, i);
        insert(list[i], placed, i);
    }
}

void exec_plan_slab(struct exec *x)
{
    int n = 0;
    struct arena scratch = ARENA_INIT;
    struct buffer **list = arena_array(&scratch, (size_t)x->n_buffers + 1, sizeof *list);
    find_lives(x);
    share_in_place(x);
    for (int i = 0; i < x->n_buffers; i++) {
        x->buffers[i].bytes = align(x->buffers[i].bytes);
        if (x->buffers[i].root == i)
            list[n++] = &x->buffers[i];
    }
    if (n <= BY_SIZE_MAX)
        place_by_size(list, n, &scratch);
    else
        exec_place_in_time(list, n, &scratch);
    for (int i = 0; i < n; i++)
        if (list[i]->offset + list[i]->bytes > x->scratch_offset)
            x->scratch_offset = list[i]->offset + list[i]->bytes;
    arena_done(&scratch);
    x->slab_bytes = x->scratch_offset + align(x->scratch_bytes);
}

void exec_unmap_slab(struct exec *x)
{
    if (x->slab)
        munmap(x->slab, x->slab_bytes + HUGE_PAGE);
    x->slab = NULL;
}

/* Where each place's and each step's memory is, once the slab has an address. */
static void point_into_slab(struct exec *x, char *start)
{
    for (int i = 0; i < x->n_places; i++) {
        struct buffer *b = buffer_of(x, i);
        if (b)
            x->places[i]->t.data = start + b->offset;
    }
    for (int i = 0; i < x->n_steps; i++)
        x->steps[i]->ctx.scratch = start + x->scratch_offset;
}

void exec_use_slab(struct exec *x, char *memory)
{
    exec_unmap_slab(x);
    point_into_slab(x, memory);
    x->slab_lent = true;
}

int exec_map_slab(struct exec *x, struct err *e)
{
    pid_t me = getpid();
    if (x->slab_lent || (x->slab && x->slab_owner == me))
        return 0;
    exec_unmap_slab(x); /* a parent's: writing to it would copy it page by page */
    size_t bytes = x->slab_bytes + HUGE_PAGE;
    char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return err_set(e, ERR_MEMORY_LIMIT, "", "no memory for %zu bytes of activations", bytes);
    madvise(map, bytes, MADV_HUGEPAGE);
    x->slab = map;
    x->slab_owner = me;
    size_t past = (size_t)map % HUGE_PAGE;
    point_into_slab(x, map + (past ? HUGE_PAGE - past : 0));
    return 0;
}
