/* One connection and its prepared statements: the seam between db.c, which sees SQLite, and
 * db_writer.c, which sees the thread. Private to the two. */
#ifndef PTQ_SERVER_DB_CONN_H
#define PTQ_SERVER_DB_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "server/db.h"

struct conn;

struct tx {
    struct conn *conn;
};

int conn_open(const char *path, bool read_only, struct conn **ret, struct err *e);
void conn_close(struct conn *c);
struct stmt *conn_stmt(struct conn *c, const char *sql, struct err *e);
int conn_run(struct conn *c, const char *sql, struct err *e); /* a cached statement without rows */
/* False after SQLite has undone the whole transaction by itself (a full disk, an I/O error). */
bool conn_in_transaction(const struct conn *c);
/* True if the last error may have left less on the disk than SQLite believes. */
bool conn_io_failed(const struct conn *c);
/* Ends what a write forgot to end; false if there was something. */
bool conn_end_all(struct conn *c);

/* The writer: owns the connection from start to stop. */
struct writer;
struct writer *writer_start(uv_loop_t *loop, struct conn *c);
void writer_add(struct writer *w, int (*write)(struct tx *, void *, struct err *),
                void (*done)(void *, const struct err *), void *ctx);
/* Writes what is queued, joins the thread, tells everybody, and gives the connection back. The
 * rest goes with the loop's next turn. */
struct conn *writer_stop(struct writer *w);
void writer_stats(struct writer *w, struct db_stats *ret);

#endif
