/* Data sets for tests: small arrays and folders, below the test's own folder. */
#ifndef PTQ_TESTS_UNIT_DATASET_KIT_H
#define PTQ_TESTS_UNIT_DATASET_KIT_H

#include "common/buf.h"
#include "worker/load/dataset.h"

/* A graph of one input (b: NULL) or two, float32 [N, 2]; only what matching reads. */
struct graph *kit_graph(const char *a, const char *b);
/* An npy file [1, 2] in memory (the caller's: buf_done); its length. */
size_t kit_array(struct buf *ret, enum dtype type, float x, float y);
void kit_put_sample(const char *path, float x, float y);
/* The labels 0 … n - 1; n is at most 16. */
void kit_put_labels(const char *path, int n);
/* The folder "data" with n samples of that input. */
void kit_folder(const char *input, int n);
/* Opening must fail, with these words in the error's place and text. */
void kit_expect_bad(const char *path, const struct graph *g, const char *at, const char *word);

#endif
