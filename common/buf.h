/*
 * Growable bytes with a maximum given at birth. data is always followed by a zero byte, so text
 * can be read as a C string. Adding past the maximum returns -1 and sets `full`; nothing is added
 * then, so several adds may be checked once, at the end, by looking at `full`.
 */
#ifndef PTQ_COMMON_BUF_H
#define PTQ_COMMON_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;
    size_t len, cap, max; /* bytes; cap counts the zero byte, max does not */
    bool full;
};

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* len 0, memory kept */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_adds(struct buf *b, const char *s);
int buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Room for len more bytes behind len, NULL past the maximum; take them with b->len += n. */
char *buf_room(struct buf *b, size_t len);
void buf_drop(struct buf *b, size_t len); /* takes the first len bytes away */

#endif
