/* Between tests/runner.c and tests/checks.c: how a test's process says what became of it. */
#ifndef PTQ_TESTS_RUNNER_H
#define PTQ_TESTS_RUNNER_H

enum { TEST_EXIT_FAILED = 1, TEST_EXIT_SKIPPED = 77 };

#endif
