/* What dataset.c found is put in order here: files into inputs and samples, inputs to a graph's. */
#ifndef PTQ_WORKER_LOAD_DATASET_MATCH_H
#define PTQ_WORKER_LOAD_DATASET_MATCH_H

#include "worker/load/dataset.h"

struct dataset_file {
    const char *input, *sample; /* names as the data has them; input "": it has none */
    const char *place;          /* for messages: "<input>/<sample>.npy" */
    void *bytes;                /* the npy file in a mapping */
    size_t len;
    struct tensor tensor;
};

/* Is this an entry of a canonical tar: an encoded input name (or "%": none) and "%08d.npy"? */
bool dataset_is_canonical_name(const char *folder, const char *file);

/* Sorts the n files by input and sample, fills in d's inputs, samples, names. */
int dataset_group(struct dataset *d, struct dataset_file *files, int n, struct err *e);
/*
 * Which sample label r belongs to: ret[r], by the samples' names (without ".npy") with numbers in
 * them compared by value, since whoever wrote 0.npy, 1.npy … 10.npy wrote the labels in that order.
 */
void dataset_label_order(const char *const *names, int n, int *ret);
/* After the grouping: one integer a sample, brought into the order of the samples. */
int dataset_take_labels(struct dataset *d, const struct dataset_file *labels, struct err *e);
/* Puts the inputs in the graph's order; types and shapes must fit. */
int dataset_match(struct dataset *d, const struct graph *g, struct err *e);

#endif
