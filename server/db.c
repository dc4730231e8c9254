#include "server/db.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

#include "common/arena.h"
#include "server/db_conn.h"

/*
 * To change the schema: change schema.sql and its user_version, raise SCHEMA_VERSION, and add the
 * statements that make the old version the new one as the last row of `steps`, ending with their
 * own PRAGMA user_version. A row, once released, is never changed.
 */
enum { SCHEMA_VERSION = 3 };
extern const char schema_sql[];
static const struct step {
    int from;
    const char *sql;
} steps[] = {{1, "ALTER TABLE models ADD COLUMN skeleton TEXT REFERENCES blobs(sha256);"
                 "ALTER TABLE models ADD COLUMN calibrations TEXT REFERENCES blobs(sha256);"
                 "PRAGMA user_version = 2"},
             {2, "ALTER TABLE tasks ADD COLUMN times INTEGER NOT NULL DEFAULT 1;"
                 "CREATE INDEX idempotency_age ON idempotency(created_ms);"
                 "PRAGMA user_version = 3"},
             {0, NULL}};

enum { STMTS_MAX = 160, TEXT_MAX_BYTES = 64 << 20 };

struct stmt {
    sqlite3_stmt *s;
    struct conn *conn;
    const char *sql; /* as the caller gave it: string literals, compared by address first */
    int params;
    bool busy;
};

struct conn {
    sqlite3 *h;
    struct stmt stmts[STMTS_MAX];
    int n_stmts;
    bool io_failed;
};

struct db {
    int lock_fd;
    char *path;
    struct conn *reader;
    struct writer *writer;
};

/* ---- one connection ---- */

static enum err_code code_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_FULL:
        return ERR_DISK_FULL;
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
        return ERR_IO;
    case SQLITE_TOOBIG:
        return ERR_LIMIT;
    default:
        return ERR_INTERNAL;
    }
}

static int conn_err(struct conn *c, struct err *e)
{
    int rc = sqlite3_extended_errcode(c->h);
    if (rc == SQLITE_IOERR_FSYNC || rc == SQLITE_IOERR_DIR_FSYNC || rc == SQLITE_IOERR_TRUNCATE)
        c->io_failed = true;
    return err_set(e, code_of(rc), "", "The database says: %s (%d).", sqlite3_errmsg(c->h), rc);
}

static int conn_exec(struct conn *c, const char *sql, struct err *e)
{
    return sqlite3_exec(c->h, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : conn_err(c, e);
}

static int conn_configure(struct conn *c, bool read_only, struct err *e)
{
    sqlite3_extended_result_codes(c->h, 1);
    sqlite3_busy_timeout(c->h, 5000);
    sqlite3_limit(c->h, SQLITE_LIMIT_LENGTH, TEXT_MAX_BYTES);
    sqlite3_limit(c->h, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_db_config(c->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    const char *both = "PRAGMA trusted_schema=OFF; PRAGMA foreign_keys=ON;";
    const char *writing = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                          "PRAGMA wal_autocheckpoint=1000; PRAGMA journal_size_limit=67108864;";
    if (conn_exec(c, both, e))
        return -1;
    return conn_exec(c, read_only ? "PRAGMA query_only=ON;" : writing, e);
}

int conn_open(const char *path, bool read_only, struct conn **ret, struct err *e)
{
    struct conn *c = xcalloc(1, sizeof *c);
    int how = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE |
              (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    if (sqlite3_open_v2(path, &c->h, how, NULL) != SQLITE_OK) {
        err_set(e, ERR_IO, path, "The database cannot be opened: %s.",
                c->h ? sqlite3_errmsg(c->h) : "out of memory");
        conn_close(c);
        return -1;
    }
    if (conn_configure(c, read_only, e)) {
        conn_close(c);
        return -1;
    }
    *ret = c;
    return 0;
}

void conn_close(struct conn *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_stmts; i++)
        sqlite3_finalize(c->stmts[i].s);
    sqlite3_close_v2(c->h);
    free(c);
}

static struct stmt *take(struct stmt *s)
{
    s->busy = true;
    s->params = 0;
    return s;
}

struct stmt *conn_stmt(struct conn *c, const char *sql, struct err *e)
{
    for (int i = 0; i < c->n_stmts; i++) {
        struct stmt *s = &c->stmts[i];
        if (!s->busy && (s->sql == sql || !strcmp(s->sql, sql)))
            return take(s);
    }
    if (c->n_stmts == STMTS_MAX) {
        err_set(e, ERR_INTERNAL, "", "There are more than %d statements.", STMTS_MAX);
        return NULL;
    }
    struct stmt *s = &c->stmts[c->n_stmts];
    if (sqlite3_prepare_v3(c->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->s, NULL) != SQLITE_OK) {
        conn_err(c, e);
        return NULL;
    }
    c->n_stmts++;
    s->conn = c;
    s->sql = sql;
    return take(s);
}

int conn_run(struct conn *c, const char *sql, struct err *e)
{
    struct stmt *s = conn_stmt(c, sql, e);
    int r = s ? db_step(s, e) : -1;
    db_end(s);
    return r < 0 ? -1 : 0;
}

bool conn_in_transaction(const struct conn *c)
{
    return !sqlite3_get_autocommit(c->h);
}

bool conn_io_failed(const struct conn *c)
{
    return c->io_failed;
}

bool conn_end_all(struct conn *c)
{
    bool clean = true;
    for (int i = 0; i < c->n_stmts; i++) {
        clean = clean && !c->stmts[i].busy;
        if (c->stmts[i].busy)
            db_end(&c->stmts[i]);
    }
    return clean;
}

/* ---- statements ---- */

/* A value that cannot be bound (too long) must not become NULL in silence: the step fails. */
static void bound(struct stmt *s, int rc)
{
    if (rc != SQLITE_OK)
        s->params = -1000000;
}

void db_put_text(struct stmt *s, const char *v)
{
    bound(s, v ? sqlite3_bind_text(s->s, ++s->params, v, -1, SQLITE_TRANSIENT)
               : sqlite3_bind_null(s->s, ++s->params));
}

void db_put_int(struct stmt *s, int64_t v)
{
    bound(s, sqlite3_bind_int64(s->s, ++s->params, v));
}

void db_put_null(struct stmt *s)
{
    bound(s, sqlite3_bind_null(s->s, ++s->params));
}

void db_put_blob(struct stmt *s, const void *v, size_t len)
{
    bound(s, sqlite3_bind_blob64(s->s, ++s->params, v ? v : "", len, SQLITE_TRANSIENT));
}

int db_step(struct stmt *s, struct err *e)
{
    if (s->params < 0)
        return err_set(e, ERR_LIMIT, "", "A value does not fit into the database.");
    int rc = sqlite3_step(s->s);
    if (rc == SQLITE_ROW)
        return 1;
    return rc == SQLITE_DONE ? 0 : conn_err(s->conn, e);
}

const char *db_text(struct stmt *s, int column)
{
    return (const char *)sqlite3_column_text(s->s, column);
}

int64_t db_int(struct stmt *s, int column)
{
    return sqlite3_column_int64(s->s, column);
}

bool db_is_null(struct stmt *s, int column)
{
    return sqlite3_column_type(s->s, column) == SQLITE_NULL;
}

const void *db_blob(struct stmt *s, int column, size_t *ret_len)
{
    const void *p = sqlite3_column_blob(s->s, column);
    *ret_len = (size_t)sqlite3_column_bytes(s->s, column);
    return p;
}

void db_end(struct stmt *s)
{
    if (!s)
        return;
    sqlite3_reset(s->s);
    sqlite3_clear_bindings(s->s);
    s->busy = false;
}

struct stmt *db_stmt(struct db *db, const char *sql, struct err *e)
{
    return conn_stmt(db->reader, sql, e);
}

struct stmt *tx_stmt(struct tx *tx, const char *sql, struct err *e)
{
    return conn_stmt(tx->conn, sql, e);
}

int tx_changes(struct tx *tx)
{
    return sqlite3_changes(tx->conn->h);
}

/* ---- opening ---- */

static int lock_folder(struct db *db, struct err *e)
{
    char *path = xmalloc(strlen(db->path) + 8);
    strcpy(path, db->path);
    char *slash = strrchr(path, '/');
    strcpy(slash ? slash + 1 : path, "lock");
    db->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int r = 0;
    if (db->lock_fd < 0)
        r = err_errno(e, path, "The lock file cannot be opened");
    else if (flock(db->lock_fd, LOCK_EX | LOCK_NB))
        r = errno == EWOULDBLOCK
                ? err_set(e, ERR_CONFLICT, path, "Another ptqd is using this data folder.")
                : err_errno(e, path, "The data folder cannot be locked");
    free(path);
    return r;
}

/* The first column of the first row. ret has ret_size bytes. */
static int ask(struct conn *c, const char *sql, char *ret, size_t ret_size, struct err *e)
{
    struct stmt *s = conn_stmt(c, sql, e);
    int r = s ? db_step(s, e) : -1;
    snprintf(ret, ret_size, "%s", r == 1 ? db_text(s, 0) : "");
    db_end(s);
    return r < 0 ? -1 : 0;
}

static int version(struct conn *c, int *ret, struct err *e)
{
    char text[32];
    if (ask(c, "PRAGMA user_version", text, sizeof text, e))
        return -1;
    *ret = atoi(text);
    return 0;
}

static int check(struct conn *c, struct err *e)
{
    char text[512];
    if (ask(c, "PRAGMA quick_check(1)", text, sizeof text, e))
        return -1;
    if (!strcmp(text, "ok"))
        return 0;
    return err_set(e, ERR_IO, "", "The database is damaged (%s). Put a copy back in its place.",
                   text);
}

static int apply(struct conn *c, const char *sql, struct err *e)
{
    if (conn_exec(c, "BEGIN IMMEDIATE", e))
        return -1;
    if (!conn_exec(c, sql, e) && !conn_exec(c, "COMMIT", e))
        return 0;
    struct err ignored = ERR_INIT;
    conn_exec(c, "ROLLBACK", &ignored);
    return -1;
}

/* Brings the schema to SCHEMA_VERSION, one step at a time, each in its transaction. */
static int migrate(struct conn *c, struct err *e)
{
    int v;
    if (version(c, &v, e))
        return -1;
    if (v > SCHEMA_VERSION)
        return err_set(e, ERR_CONFLICT, "",
                       "The data folder has schema version %d, this ptqd knows up to %d.", v,
                       SCHEMA_VERSION);
    if (v == 0)
        return apply(c, schema_sql, e);
    for (const struct step *s = steps; s->sql; s++) {
        if (s->from != v)
            continue;
        if (apply(c, s->sql, e) || version(c, &v, e))
            return -1;
    }
    if (v != SCHEMA_VERSION)
        return err_set(e, ERR_INTERNAL, "", "There is no step from schema version %d.", v);
    return 0;
}

static int open_all(uv_loop_t *loop, struct db *db, struct err *e)
{
    struct conn *c;
    if (lock_folder(db, e) || conn_open(db->path, false, &c, e))
        return -1;
    if (check(c, e) || migrate(c, e) || conn_open(db->path, true, &db->reader, e)) {
        conn_close(c);
        return err_in(e, db->path);
    }
    db->writer = writer_start(loop, c);
    return 0;
}

static void release(struct db *db)
{
    conn_close(db->reader);
    if (db->lock_fd >= 0)
        close(db->lock_fd); /* last: another daemon may open now */
    free(db->path);
    free(db);
}

int db_open(uv_loop_t *loop, const char *path, struct db **ret, struct err *e)
{
    struct db *db = xcalloc(1, sizeof *db);
    db->lock_fd = -1;
    db->path = xstrdup(path);
    if (open_all(loop, db, e)) {
        release(db);
        return -1;
    }
    *ret = db;
    return 0;
}

void db_close(struct db *db)
{
    conn_close(writer_stop(db->writer));
    release(db);
}

void db_write(struct db *db, int (*write)(struct tx *, void *, struct err *),
              void (*done)(void *, const struct err *), void *ctx)
{
    writer_add(db->writer, write, done, ctx);
}

void db_stats(const struct db *db, struct db_stats *ret)
{
    writer_stats(db->writer, ret);
    char wal[PATH_MAX];
    struct stat st;
    snprintf(wal, sizeof wal, "%s-wal", db->path);
    ret->wal_bytes = stat(wal, &st) ? 0 : st.st_size;
}
