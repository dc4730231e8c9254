#include "common/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_MIN = 64 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t size, used; /* bytes behind the header */
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

static void out_of_memory(size_t size)
{
    char text[96];
    int n = snprintf(text, sizeof text, "ptq: out of memory, %zu bytes wanted\n", size);
    if (write(2, text, (size_t)n) < 0)
        _exit(ARENA_EXIT);
    _exit(ARENA_EXIT);
}

/* Of all arenas; each belongs to one thread, these to all. */
static size_t held_bytes, peak_bytes;

static void hold(size_t bytes)
{
    size_t now = __atomic_add_fetch(&held_bytes, bytes, __ATOMIC_RELAXED);
    size_t peak = __atomic_load_n(&peak_bytes, __ATOMIC_RELAXED);
    while (now > peak && !__atomic_compare_exchange_n(&peak_bytes, &peak, now, true,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}

size_t arena_peak_bytes(bool restart)
{
    size_t peak = __atomic_load_n(&peak_bytes, __ATOMIC_RELAXED);
    if (restart)
        __atomic_store_n(&peak_bytes, __atomic_load_n(&held_bytes, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    return peak;
}

static size_t round_up(size_t size, size_t align)
{
    return (size + align - 1) & ~(align - 1);
}

static struct arena_block *block_new(size_t size)
{
    size_t total;
    if (__builtin_add_overflow(sizeof(struct arena_block) + ARENA_ALIGN, size, &total))
        return NULL;
    total = round_up(total, ARENA_ALIGN);
    struct arena_block *b = aligned_alloc(ARENA_ALIGN, total);
    if (!b)
        return NULL;
    b->next = NULL;
    b->size = total - sizeof *b;
    b->used = 0;
    hold(total);
    return b;
}

void *arena_try(struct arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t want = round_up(size ? size : 1, size < ARENA_ALIGN ? ARENA_SMALL_ALIGN : ARENA_ALIGN);
    struct arena_block *b = a->head;
    if (b && size >= ARENA_ALIGN)
        b->used = round_up(b->used, ARENA_ALIGN);
    if (!b || b->used > b->size || b->size - b->used < want) {
        /* A large piece gets a block of its own behind the head, which goes on being filled. */
        struct arena_block *fresh = block_new(want > BLOCK_MIN / 4 ? want : BLOCK_MIN);
        if (!fresh)
            return NULL;
        if (b && want > BLOCK_MIN / 4) {
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            a->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += want;
    a->used_bytes += want;
    return memset(p, 0, size);
}

void *arena_alloc(struct arena *a, size_t size)
{
    void *p = arena_try(a, size);
    if (!p)
        out_of_memory(size);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        out_of_memory(SIZE_MAX);
    return arena_alloc(a, total);
}

void *arena_copy(struct arena *a, const void *from, size_t size)
{
    void *p = arena_alloc(a, size);
    return size ? memcpy(p, from, size) : p;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
    char *p = arena_alloc(a, len + 1);
    memcpy(p, s, len);
    return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_strndup(a, s, strlen(s));
}

char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *p = arena_vprintf(a, fmt, ap);
    va_end(ap);
    return p;
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        __atomic_sub_fetch(&held_bytes, b->size + sizeof *b, __ATOMIC_RELAXED);
        free(b);
    }
    *a = (struct arena)ARENA_INIT;
}

void *xmalloc(size_t size)
{
    return xrealloc(NULL, size);
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

void *xrealloc(void *p, size_t size)
{
    p = realloc(p, size ? size : 1);
    if (!p)
        out_of_memory(size);
    return p;
}

char *xstrdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(xmalloc(n), s, n);
}
