/*
 * Unit tests. A test is a function `void test_<module>__<sentence>(void)` in tests/unit/ or
 * tests/ops/; the table of all tests is made from the symbols of their object files, so that
 * writing the function is all there is to do. Each test runs in a process of its own with a
 * folder of its own and a time limit; the first failed check ends it. Standard output and error
 * are captured and shown when the test fails.
 *
 * Two prefixes leave a test out of the usual run: `test_models_…` needs the model collection
 * ($PTQ_MODELS, `make test-models`, where a skip is a failure), `test_long_…` takes more than a
 * few seconds (`make test-long`).
 */
#ifndef PTQ_TESTS_TEST_H
#define PTQ_TESTS_TEST_H

#include <stdbool.h>
#include <stddef.h>

#define CHECK(cond)          ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, "%s is false", #cond))
#define CHECK_INT(a, b)      test_check_int(__FILE__, __LINE__, #a, (long long)(a), (long long)(b))
#define CHECK_STR(a, b)      test_check_str(__FILE__, __LINE__, #a, a, b)
#define CHECK_MEM(a, b, len) test_check_mem(__FILE__, __LINE__, #a, a, b, len)
/* |a - b| <= tol; a NaN on either side fails. */
#define CHECK_NEAR(a, b, tol) test_check_near(__FILE__, __LINE__, #a, a, b, tol)
/* The call returns 0; else the error that it left in e is shown. e: a struct err, not a pointer. */
#define CHECK_OK(call, e)                                                                          \
    ((call) == 0 ? (void)0                                                                         \
                 : test_fail(__FILE__, __LINE__, "%s: %s (at \"%s\")", #call, (e).detail, (e).at))
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) test_skip(__VA_ARGS__)

void test_fail(const char *file, int line, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
void test_skip(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void test_check_int(const char *file, int line, const char *what, long long a, long long b);
void test_check_str(const char *file, int line, const char *what, const char *a, const char *b);
void test_check_mem(const char *file, int line, const char *what, const void *a, const void *b,
                    size_t len);
void test_check_near(const char *file, int line, const char *what, double a, double b, double tol);

/* The test's own empty folder, removed afterwards. */
const char *test_dir(void);
/* A path in it: test_path("a/%d", 7). Valid to the test's end. */
const char *test_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A path in the model collection; SKIPs when $PTQ_MODELS does not hold it. */
const char *test_model(const char *path);
/* Writes a file (made anew) and reads one whole (zero-terminated, lives as long as the test); a
 * failure of either fails the test. */
void test_write(const char *path, const void *data, size_t len);
char *test_read(const char *path, size_t *ret_len);

/* The generated table, closed by an empty row. */
struct test_row {
    const char *name; /* without the prefix test_ */
    void (*run)(void);
};
extern const struct test_row test_table[];

#endif
