/* The harness itself: a check that fails ends its process with the status the runner counts. */
#include "tests/test.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/runner.h"

/* The exit status of a process that does `fn`; its output is thrown away. */
static int status_of(void (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        close(2);
        fn();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void wrong_int(void)
{
    CHECK_INT(1, 2);
}
static void wrong_str(void)
{
    CHECK_STR("a", NULL);
}
static void wrong_nan(void)
{
    CHECK_NEAR(NAN, 0.0, 1e9);
}
static void wrong_mem(void)
{
    CHECK_MEM("ab", "ac", 2);
}
static void skips(void)
{
    SKIP("why");
}
static void right(void)
{
    CHECK(1);
    CHECK_INT(2, 2);
    CHECK_STR("a", "a");
    CHECK_STR(NULL, NULL);
    CHECK_NEAR(1.0, 1.1, 0.2);
    CHECK_MEM("ab", "ac", 1);
}

void test_runner__checks_fail_when_they_are_false(void)
{
    CHECK_INT(status_of(wrong_int), TEST_EXIT_FAILED);
    CHECK_INT(status_of(wrong_str), TEST_EXIT_FAILED);
    CHECK_INT(status_of(wrong_nan), TEST_EXIT_FAILED);
    CHECK_INT(status_of(wrong_mem), TEST_EXIT_FAILED);
    CHECK_INT(status_of(skips), TEST_EXIT_SKIPPED);
    CHECK_INT(status_of(right), 0);
}

void test_runner__gives_each_test_an_empty_folder(void)
{
    struct stat st;
    CHECK(stat(test_dir(), &st) == 0 && S_ISDIR(st.st_mode));
    test_write(test_path("%s", "x"), "abc", 3);
    size_t len;
    CHECK_STR(test_read(test_path("x"), &len), "abc");
    CHECK_INT(len, 3);
}
