/*
 * SQLite, the only file that sees it. One writer thread owns the only writing connection and
 * commits in groups (WAL, synchronous=FULL): db_write() queues a closure, and `done` runs on the
 * loop thread after the COMMIT that holds it: an answer that acknowledges goes out from there.
 * Reads run on the loop thread over a read-only connection and are short.
 */
#ifndef PTQ_SERVER_DB_H
#define PTQ_SERVER_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "common/err.h"

struct db;
struct stmt;

/* Opens or makes the database at path (schema.sql is embedded), locks it against a second daemon,
 * checks it, applies the steps from older versions; refuses newer ones. */
int db_open(uv_loop_t *loop, const char *path, struct db **ret, struct err *e);
/* Writes what is queued, joins the writer, closes. */
void db_close(struct db *db);

/* A statement on whichever connection the caller may use: the reader outside of db_write, the
 * writer inside. Prepared once per connection and text, reset by db_end. Parameters are ?1, ?2 …
 * in order of the calls to db_put*. NULL with *e set on error. */
struct stmt;
struct stmt *db_stmt(struct db *db, const char *sql, struct err *e); /* on the loop thread */
void db_put_text(struct stmt *s, const char *v);                     /* NULL is SQL NULL; copied */
void db_put_int(struct stmt *s, int64_t v);
void db_put_null(struct stmt *s);
void db_put_blob(struct stmt *s, const void *v, size_t len); /* copied */
int db_step(struct stmt *s, struct err *e);                  /* 1 row, 0 done, -1 error */
const char *db_text(struct stmt *s, int column); /* valid until the next step; NULL for NULL */
int64_t db_int(struct stmt *s, int column);
bool db_is_null(struct stmt *s, int column);
const void *db_blob(struct stmt *s, int column, size_t *ret_len);
void db_end(struct stmt *s);

/* Inside a write: the same on the writer's connection. */
struct tx;
struct stmt *tx_stmt(struct tx *tx, const char *sql, struct err *e);
int tx_changes(struct tx *tx); /* rows of the last statement */

/*
 * `write` runs on the writer thread inside a transaction shared with its neighbours (each in a
 * savepoint: -1 undoes its own changes only). `done` runs on the loop thread after the commit, with
 * the error of `write` or of the commit, or NULL. Both get ctx; ctx must not be touched by the loop
 * between the call and `done`. Order is kept: writes are committed and told in the order queued.
 */
void db_write(struct db *db, int (*write)(struct tx *tx, void *ctx, struct err *e),
              void (*done)(void *ctx, const struct err *e), void *ctx);

struct db_stats {
    int64_t commits, writes, wal_bytes;
    int64_t last_commit_us, max_commit_us;
    int64_t queued;
};
void db_stats(const struct db *db, struct db_stats *ret);

#endif
