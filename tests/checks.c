/* What a test calls: checks, its folder, its files. Runs in the test's own process. */
#include "tests/test.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/runner.h"

void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fflush(stdout);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    _exit(TEST_EXIT_FAILED);
}

void test_skip(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fflush(stdout);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    _exit(TEST_EXIT_SKIPPED);
}

/* What checks.c allocates lives as long as the test's process; held here, it is no leak. */
static void *hold(void *p)
{
    static void **held;
    static size_t n;
    void **more = realloc(held, sizeof *held * (n + 1));
    if (!p || !more)
        FAIL("no memory");
    held = more;
    held[n++] = p;
    return p;
}

void test_check_int(const char *file, int line, const char *what, long long a, long long b)
{
    if (a != b)
        test_fail(file, line, "%s is %lld, not %lld", what, a, b);
}

void test_check_str(const char *file, int line, const char *what, const char *a, const char *b)
{
    if (a == b || (a && b && strcmp(a, b) == 0))
        return;
    test_fail(file, line, "%s is\n  \"%s\", not\n  \"%s\"", what, a ? a : "(null)",
              b ? b : "(null)");
}

void test_check_mem(const char *file, int line, const char *what, const void *a, const void *b,
                    size_t len)
{
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < len; i++)
        if (x[i] != y[i])
            test_fail(file, line, "%s differs at byte %zu of %zu: %02x, not %02x", what, i, len,
                      x[i], y[i]);
}

void test_check_near(const char *file, int line, const char *what, double a, double b, double tol)
{
    if (!(fabs(a - b) <= tol))
        test_fail(file, line, "%s is %.17g, not %.17g within %g (off by %g)", what, a, b, tol,
                  fabs(a - b));
}

const char *test_path(const char *fmt, ...)
{
    char *rest = NULL, *path = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&rest, fmt, ap) < 0 || asprintf(&path, "%s/%s", test_dir(), rest) < 0)
        FAIL("no memory for a path");
    va_end(ap);
    free(rest);
    return hold(path);
}

const char *test_model(const char *path)
{
    const char *dir = getenv("PTQ_MODELS");
    char *full = NULL;
    if (!dir || !*dir)
        SKIP("needs %s of the model collection, and PTQ_MODELS is not set", path);
    if (asprintf(&full, "%s/%s", dir, path) < 0)
        FAIL("no memory for a path");
    if (access(full, R_OK) != 0)
        SKIP("needs %s, which is not there", full);
    return hold(full);
}

void test_write(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, len, f) != len || fclose(f) != 0)
        FAIL("cannot write %s", path);
}

char *test_read(const char *path, size_t *ret_len)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        FAIL("cannot read %s", path);
    size_t len = (size_t)ftell(f);
    char *data = hold(malloc(len + 1));
    rewind(f);
    if (fread(data, 1, len, f) != len)
        FAIL("cannot read the %zu bytes of %s", len, path);
    fclose(f);
    data[len] = 0;
    if (ret_len)
        *ret_len = len;
    return data;
}
