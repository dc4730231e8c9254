#include "server/db.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tests/test.h"

static uv_loop_t loop;

static struct db *open_db(const char *path)
{
    struct err e = ERR_INIT;
    struct db *db = NULL;
    CHECK_OK(db_open(&loop, path, &db, &e), e);
    return db;
}

static struct db *start(void)
{
    uv_loop_init(&loop);
    return open_db(test_path("ptqd.sqlite"));
}

static void stop(struct db *db)
{
    db_close(db);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(uv_loop_close(&loop), 0);
}

/* One write of a test: inserts a blob row named after its number, and does what it is told. */
struct op {
    int number, fail, told_as;
    enum err_code code;
};
static int n_told;

static int insert(struct tx *tx, int number, struct err *e)
{
    char name[80];
    snprintf(name, sizeof name, "%064d", number);
    struct stmt *s = tx_stmt(tx, "INSERT INTO blobs VALUES(?1, ?2, 0)", e);
    if (!s)
        return -1;
    db_put_text(s, name);
    db_put_int(s, number);
    int r = db_step(s, e);
    db_end(s);
    return r;
}

static int write_op(struct tx *tx, void *ctx, struct err *e)
{
    struct op *o = ctx;
    if (insert(tx, o->number, e))
        return -1;
    return o->fail ? err_set(e, ERR_CONFLICT, "", "told to fail") : 0;
}

static void done_op(void *ctx, const struct err *e)
{
    struct op *o = ctx;
    o->told_as = n_told++;
    o->code = e ? e->code : ERR_NONE;
}

static void wait_told(int n)
{
    while (n_told < n)
        uv_run(&loop, UV_RUN_ONCE);
}

static int64_t ask(struct db *db, const char *sql)
{
    struct err e = ERR_INIT;
    struct stmt *s = db_stmt(db, sql, &e);
    CHECK(s != NULL);
    CHECK_INT(db_step(s, &e), 1);
    int64_t v = db_int(s, 0);
    db_end(s);
    return v;
}

void test_db__writes_are_committed_in_groups_and_told_in_order(void)
{
    enum { N = 2000 };
    static struct op ops[N];
    struct db *db = start();
    for (int i = 0; i < N; i++) {
        ops[i].number = i;
        db_write(db, write_op, done_op, &ops[i]);
    }
    wait_told(N);
    for (int i = 0; i < N; i++) {
        CHECK_INT(ops[i].told_as, i);
        CHECK_INT(ops[i].code, ERR_NONE);
    }
    struct db_stats st;
    db_stats(db, &st);
    CHECK_INT(st.writes, N);
    CHECK(st.commits < N / 10);
    CHECK_INT(ask(db, "SELECT count(*) FROM blobs"), N);
    stop(db);
}

void test_db__a_failed_write_undoes_itself_and_not_its_neighbours(void)
{
    struct op ops[] = {{.number = 1}, {.number = 2, .fail = 1}, {.number = 3}, {.number = 3}};
    struct db *db = start();
    for (int i = 0; i < 4; i++)
        db_write(db, write_op, done_op, &ops[i]);
    wait_told(4);
    CHECK_INT(ops[0].code, ERR_NONE);
    CHECK_INT(ops[1].code, ERR_CONFLICT);
    CHECK_INT(ops[2].code, ERR_NONE);
    CHECK_INT(ops[3].code, ERR_INTERNAL); /* the key is taken */
    CHECK_INT(ask(db, "SELECT sum(size) FROM blobs"), 4);
    stop(db);
}

static struct db *seen_db;
static int64_t seen_rows;

static void count_rows(void *ctx, const struct err *e)
{
    done_op(ctx, e);
    seen_rows = ask(seen_db, "SELECT count(*) FROM blobs");
}

void test_db__done_runs_after_the_commit(void)
{
    struct op o = {.number = 7};
    seen_db = start();
    db_write(seen_db, write_op, count_rows, &o);
    wait_told(1);
    CHECK_INT(seen_rows, 1);
    stop(seen_db);
}

static void write_more(void *ctx, const struct err *e)
{
    static struct op again = {.number = 99};
    done_op(ctx, e);
    db_write(seen_db, write_op, done_op, &again);
}

void test_db__close_writes_what_is_queued_even_by_callbacks(void)
{
    struct op o = {.number = 7};
    seen_db = start();
    db_write(seen_db, write_op, write_more, &o);
    db_close(seen_db);
    CHECK_INT(n_told, 2);
    struct db *db = open_db(test_path("ptqd.sqlite"));
    CHECK_INT(ask(db, "SELECT count(*) FROM blobs"), 2);
    stop(db);
}

void test_db__a_barrier_is_told_in_its_place_and_costs_no_commit(void)
{
    struct op ops[] = {{.number = 0}, {.number = 1}};
    struct db *db = start();
    struct db_stats before, after;
    db_stats(db, &before);
    db_write(db, NULL, done_op, &ops[0]);
    wait_told(1);
    db_stats(db, &after);
    CHECK_INT(after.commits, before.commits);
    db_write(db, write_op, done_op, &ops[1]);
    db_write(db, NULL, done_op, &ops[0]);
    wait_told(3);
    CHECK_INT(ops[0].told_as, 2);
    stop(db);
}

void test_db__values_come_back_as_they_went(void)
{
    struct db *db = start();
    struct err e = ERR_INIT;
    struct stmt *s = db_stmt(db, "SELECT ?1, ?2, ?3, ?4, ?5", &e);
    CHECK(s != NULL);
    db_put_text(s, "h\xc3\xa9llo");
    db_put_int(s, INT64_MIN);
    db_put_null(s);
    db_put_blob(s, "a\0b", 3);
    db_put_text(s, NULL);
    CHECK_INT(db_step(s, &e), 1);
    CHECK_STR(db_text(s, 0), "h\xc3\xa9llo");
    CHECK(db_int(s, 1) == INT64_MIN);
    CHECK(db_is_null(s, 2));
    size_t len;
    CHECK_MEM(db_blob(s, 3, &len), "a\0b", 3);
    CHECK_INT(len, 3);
    CHECK(db_is_null(s, 4) && !db_text(s, 4));
    CHECK_INT(db_step(s, &e), 0);
    db_end(s);
    stop(db);
}

void test_db__the_reader_cannot_write(void)
{
    struct db *db = start();
    struct err e = ERR_INIT;
    struct stmt *s = db_stmt(db, "DELETE FROM blobs", &e);
    CHECK(s != NULL);
    CHECK_INT(db_step(s, &e), -1);
    db_end(s);
    stop(db);
}

void test_db__a_second_opener_is_refused_until_the_first_has_closed(void)
{
    struct db *db = start(), *other = NULL;
    struct err e = ERR_INIT;
    CHECK_INT(db_open(&loop, test_path("ptqd.sqlite"), &other, &e), -1);
    CHECK_INT(e.code, ERR_CONFLICT);
    db_close(db);
    stop(open_db(test_path("ptqd.sqlite")));
}

static void by_hand(const char *path, const char *sql)
{
    sqlite3 *h;
    CHECK_INT(sqlite3_open(path, &h), SQLITE_OK);
    CHECK_INT(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(h);
}

static enum err_code refused(void)
{
    struct err e = ERR_INIT;
    struct db *db = NULL;
    uv_loop_init(&loop);
    CHECK_INT(db_open(&loop, test_path("ptqd.sqlite"), &db, &e), -1);
    CHECK_INT(uv_loop_close(&loop), 0);
    return e.code;
}

void test_db__a_newer_schema_is_refused_and_left_alone(void)
{
    stop(start());
    by_hand(test_path("ptqd.sqlite"), "PRAGMA user_version = 1000");
    CHECK_INT(refused(), ERR_CONFLICT);
    by_hand(test_path("ptqd.sqlite"), "CREATE TABLE still_mine(x)");
}

void test_db__an_older_schema_is_brought_up(void)
{
    stop(start());
    by_hand(
        test_path("ptqd.sqlite"),
        "INSERT INTO blobs VALUES('aa', 1, 1); "
        "INSERT INTO models(id,blob,external,name,state,summary,created_ms) "
        "VALUES('mdl_x','aa','[]','','ready','{}',1); "
        "INSERT INTO tasks(digest,kind,job_id,attempt,cpu_us,at_ms) VALUES(x'dd','k','j',1,2,3); "
        "DROP INDEX idempotency_age; ALTER TABLE tasks DROP COLUMN times; "
        "ALTER TABLE models DROP COLUMN skeleton; ALTER TABLE models DROP COLUMN calibrations; "
        "PRAGMA user_version = 1");
    struct db *db = start();
    struct err e = ERR_INIT;
    struct stmt *s = db_stmt(db, "SELECT id, skeleton, calibrations FROM models", &e);
    CHECK(s != NULL);
    CHECK_INT(db_step(s, &e), 1);
    CHECK_STR(db_text(s, 0), "mdl_x");
    CHECK(db_is_null(s, 1) && db_is_null(s, 2));
    db_end(s);
    s = db_stmt(db, "SELECT times FROM tasks", &e);
    CHECK_INT(db_step(s, &e), 1);
    CHECK_INT(db_int(s, 0), 1);
    db_end(s);
    stop(db);
}

void test_db__damage_is_refused(void)
{
    static struct op ops[300];
    struct db *db = start();
    for (int i = 0; i < 300; i++) {
        ops[i].number = i;
        db_write(db, write_op, done_op, &ops[i]);
    }
    wait_told(300);
    stop(db);
    int fd = open(test_path("ptqd.sqlite"), O_RDWR);
    for (int page = 1; page < 20; page++)
        CHECK_INT(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, page * 4096), 8);
    close(fd);
    CHECK_INT(refused(), ERR_IO);
}

void test_db__what_is_not_a_database_is_refused(void)
{
    test_write(test_path("ptqd.sqlite"), "this is not a database, by any measure of length", 48);
    CHECK_INT(refused(), ERR_IO);
}

/* ---- a full disk ---- */

static enum err_code write_one(struct db *db, struct op *o)
{
    n_told = 0;
    db_write(db, write_op, done_op, o);
    wait_told(1);
    return o->code;
}

void test_db__a_full_disk_fails_the_write_and_heals(void)
{
    const char *dir = test_path("small");
    mkdir(dir, 0700);
    if (mount("none", dir, "tmpfs", 0, "size=1m"))
        SKIP("a tmpfs cannot be mounted here");
    uv_loop_init(&loop);
    struct db *db = open_db(test_path("small/ptqd.sqlite"));
    struct op o = {0};
    int good = 0;
    while (write_one(db, &o) == ERR_NONE && good < 100000) {
        good++;
        o.number++;
    }
    enum err_code code = o.code;
    int remounted = mount("none", dir, "tmpfs", MS_REMOUNT, "size=64m");
    enum err_code again = write_one(db, &o);
    int64_t rows = ask(db, "SELECT count(*) FROM blobs");
    stop(db);
    umount2(dir, MNT_DETACH);
    CHECK_INT(code, ERR_DISK_FULL);
    CHECK_INT(remounted, 0);
    CHECK_INT(again, ERR_NONE);
    CHECK_INT(rows, good + 1);
}

/* ---- kill -9 ---- */

static int ack_fd;

static void acknowledge(void *ctx, const struct err *e)
{
    struct op *o = ctx;
    if (e || write(ack_fd, &o->number, sizeof o->number) != sizeof o->number)
        _exit(3);
    o->number += 64;
    db_write(seen_db, write_op, acknowledge, o);
}

/* Inserts for ever, from the given number on, 64 at a time in flight. */
static void enqueue_for_ever(int first)
{
    static struct op ops[64];
    ack_fd = open(test_path("acks"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    seen_db = start();
    for (int i = 0; i < 64; i++) {
        ops[i].number = first + i;
        db_write(seen_db, write_op, acknowledge, &ops[i]);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    _exit(4);
}

static int count_lost(int *ret_acks)
{
    size_t len;
    int *acks = (int *)test_read(test_path("acks"), &len);
    int lost = 0;
    *ret_acks = (int)(len / sizeof *acks);
    struct db *db = start();
    struct err e = ERR_INIT;
    for (int i = 0; i < *ret_acks; i++) {
        struct stmt *s = db_stmt(db, "SELECT 1 FROM blobs WHERE sha256 = printf('%064d', ?1)", &e);
        CHECK(s != NULL);
        db_put_int(s, acks[i]);
        lost += db_step(s, &e) != 1;
        db_end(s);
    }
    stop(db);
    return lost;
}

static void wait_for_growth(const char *path, off_t from)
{
    struct stat st = {0};
    while (stat(path, &st) || st.st_size <= from)
        usleep(500);
}

static void kill_loop(int kills)
{
    off_t size = 0;
    for (int i = 0; i < kills; i++) {
        pid_t pid = fork();
        if (pid == 0)
            enqueue_for_ever(i * 1000000);
        wait_for_growth(test_path("acks"), size);
        usleep((useconds_t)(rand() % 20000));
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        struct stat st;
        CHECK_INT(stat(test_path("acks"), &st), 0);
        size = st.st_size;
    }
    int acks, lost = count_lost(&acks);
    CHECK(acks >= kills);
    CHECK_INT(lost, 0);
}

void test_db__no_acknowledged_row_is_lost_to_kill_9(void)
{
    kill_loop(8);
}

void test_long_db__no_acknowledged_row_is_lost_to_200_kills(void)
{
    kill_loop(200);
}
