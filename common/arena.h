/*
 * Arena: memory that dies together. Ask "when does this die?" and take that arena.
 *
 * Small allocations cannot fail: when the system has none left the process ends with a message
 * and status ARENA_EXIT (the server maps a worker's to ERR_MEMORY_LIMIT). What grows with a
 * model's tensors is asked for with arena_try, which returns NULL, so that it can be refused
 * politely. Everything is zeroed; pieces of 64 bytes and more are aligned to ARENA_ALIGN, smaller
 * ones to ARENA_SMALL_ALIGN. Not thread-safe.
 */
#ifndef PTQ_COMMON_ARENA_H
#define PTQ_COMMON_ARENA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum { ARENA_ALIGN = 64, ARENA_SMALL_ALIGN = 16, ARENA_EXIT = 12 };

struct arena_block;
struct arena {
    struct arena_block *head; /* the block being filled */
    size_t used_bytes;        /* handed out since init, padding included */
};

#define ARENA_INIT                                                                                 \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t count, size_t size); /* ends the process on overflow */
void *arena_try(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *from, size_t size);
char *arena_strdup(struct arena *a, const char *s);
char *arena_strndup(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(struct arena *a, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
/* Gives everything back; the arena may be used again. */
void arena_done(struct arena *a);
/* The most bytes that all arenas of this process have held at once, since it was asked to begin
 * anew (`restart`: from what they hold now). */
size_t arena_peak_bytes(bool restart);

/* malloc and realloc that end the process instead of failing, for what has no arena. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);

#endif
