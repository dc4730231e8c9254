/* What tests of models that mean harm share. */
#ifndef PTQ_TESTS_UNIT_HOSTILE_H
#define PTQ_TESTS_UNIT_HOSTILE_H

#include "common/err.h"
#include "tests/onnx_maker.h"

/* Opens, binds to inputs of the declared shapes (1 for what is open) and runs, with little memory.
 * Takes the maker. */
int hostile_try(struct onnx_maker *m, struct err *e);
/* The same must be refused at a place that holds `at`. */
void hostile_refused(struct onnx_maker *m, const char *at);

/* Of this process, so far: peak memory and processor time; 0 in a sanitized build, whose figures
 * are the sanitizers'. */
long hostile_peak_mb(void);
double hostile_seconds(void);

#endif
