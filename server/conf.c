#include "server/conf.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { PATH, NUMBER, LEVEL };

static const struct option_row {
    const char *name, *value, *text;
    enum kind kind;
    size_t at; /* offset in struct conf */
    int64_t min, max;
} rows[] = {
    {"--data", "DIR", "the data folder; made if it is not there (ptqd-data)", PATH,
     offsetof(struct conf, data), 0, 0},
    {"--host", "ADDRESS", "the loopback address to listen on (127.0.0.1)", PATH,
     offsetof(struct conf, host), 0, 0},
    {"--port", "N", "the port; 0 takes any free one, told in DIR/port (8080)", NUMBER,
     offsetof(struct conf, port), 0, 65535},
    {"--workers", "N", "slots: processes that compute at the same time (number of cores)", NUMBER,
     offsetof(struct conf, workers), 1, 1024},
    {"--worker-path", "PATH", "the ptq-worker program (beside ptqd)", PATH,
     offsetof(struct conf, worker_path), 0, 0},
    {"--memory", "BYTES", "for all workers together (three quarters of the machine's)", NUMBER,
     offsetof(struct conf, memory), 64 << 20, INT64_MAX},
    {"--upload-max", "BYTES", "the largest upload (8 GiB)", NUMBER,
     offsetof(struct conf, upload_max), 1, INT64_MAX},
    {"--job-timeout", "SECONDS", "the longest a job's attempt may run; 0 is no limit (0)", NUMBER,
     offsetof(struct conf, job_timeout_s), 0, 10000000},
    {"--blob-grace", "SECONDS", "how long a blob that nothing refers to is kept (3600)", NUMBER,
     offsetof(struct conf, blob_grace_s), 1, 10000000},
    {"--log-level", "LEVEL", "error, warn, info or debug (info)", LEVEL,
     offsetof(struct conf, log_level), 0, 0},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void defaults(struct conf *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    *c = (struct conf){.data = "ptqd-data",
                       .host = "127.0.0.1",
                       .port = 8080,
                       .workers = cores > 0 ? cores : 1,
                       .memory = memory > 0 ? memory / 4 * 3 : (int64_t)1 << 30,
                       .upload_max = (int64_t)8 << 30,
                       .blob_grace_s = 3600,
                       .log_level = LOG_INFO};
}

static void help(void)
{
    puts("usage: ptqd [options]\n");
    for (int i = 0; i < ROWS; i++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", rows[i].name, rows[i].value);
        printf("  %-24s %s\n", left, rows[i].text);
    }
    printf("  %-24s this text\n  %-24s the version\n", "--help", "--version");
}

static int set_number(const struct option_row *row, int64_t *to, const char *text, struct err *e)
{
    char *end;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || v < row->min || v > row->max)
        return err_set(e, ERR_INVALID, row->name,
                       "\"%.60s\" is not an integer between %lld and %lld.", text,
                       (long long)row->min, (long long)row->max);
    *to = v;
    return 0;
}

static int set_level(const struct option_row *row, int64_t *to, const char *text, struct err *e)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(text, names[i])) {
            *to = i;
            return 0;
        }
    }
    return err_set(e, ERR_INVALID, row->name, "\"%.60s\" is not error, warn, info or debug.", text);
}

static int set(struct conf *c, const struct option_row *row, const char *text, struct err *e)
{
    void *to = (char *)c + row->at;
    if (row->kind == NUMBER)
        return set_number(row, to, text, e);
    if (row->kind == LEVEL)
        return set_level(row, to, text, e);
    if (!*text)
        return err_set(e, ERR_INVALID, row->name, "The value is empty.");
    *(const char **)to = text;
    return 0;
}

/* The row of an argument; *ret_value is what stands behind its '=', or NULL. */
static const struct option_row *find(const char *arg, const char **ret_value)
{
    size_t len = strcspn(arg, "=");
    *ret_value = arg[len] ? arg + len + 1 : NULL;
    for (int i = 0; i < ROWS; i++)
        if (strlen(rows[i].name) == len && !strncmp(rows[i].name, arg, len))
            return &rows[i];
    return NULL;
}

static int find_worker(struct conf *c, struct err *e)
{
    if (c->worker_path)
        return 0;
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return err_errno(e, "--worker-path", "The program's own path cannot be read");
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    if ((size_t)snprintf(c->worker_path_buf, sizeof c->worker_path_buf, "%s/ptq-worker", self) >=
        sizeof c->worker_path_buf)
        return err_set(e, ERR_LIMIT, "--worker-path", "The path is too long.");
    c->worker_path = c->worker_path_buf;
    return 0;
}

int conf_parse(struct conf *ret, int argc, char **argv, struct err *e)
{
    defaults(ret);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            help();
            return 1;
        }
        if (!strcmp(argv[i], "--version")) {
            puts("ptqd " PTQ_VERSION);
            return 1;
        }
        const char *value;
        const struct option_row *row = find(argv[i], &value);
        if (!row)
            return err_set(e, ERR_INVALID, argv[i], "There is no such option; see ptqd --help.");
        if (!value && i + 1 == argc)
            return err_set(e, ERR_INVALID, row->name, "The value is missing: %s.", row->value);
        if (set(ret, row, value ? value : argv[++i], e))
            return -1;
    }
    return find_worker(ret, e);
}
