/*
 * Data sets: for every input of a model the same number of samples, each an npy array whose shape
 * includes the batch. Three forms are read, all by mmap, nothing is copied:
 *   a folder      <input name>/<sample>.npy, sorted by name; labels.npy beside the folders, one
 *                 integer, or a map of integers, a sample in the order of the names with
 *                 numbers by value
 *   one .npy      one sample of an input without a name: fits a model of one input
 *   a canonical tar, as dataset_normalize makes it of any archive
 * A folder's name is the input's, raw or with bytes as %XX ("input%3A0" for "input:0").
 */
#ifndef PTQ_WORKER_LOAD_DATASET_H
#define PTQ_WORKER_LOAD_DATASET_H

#include "common/sha256.h"
#include "worker/load/graph.h"

enum { DATASET_FILES_MAX = 10000 }; /* npy files of one data set */

struct dataset_input {
    const char *name;   /* as the graph calls it, else as the data does; "" if it has none */
    struct tensor type; /* of sample 0; data NULL */
    bool uniform;       /* all samples have that shape */
};

struct dataset {
    struct arena arena; /* everything below */
    int n_inputs, n_samples;
    const struct dataset_input *inputs; /* the graph's order, or sorted by name without a graph */
    const char *const *sample_names;    /* without ".npy", of the first input */
    const struct tensor *labels;        /* NULL: none. Integers: element i, or map i of as
                                           many maps as samples, belongs to sample i */
    /* private */
    struct dataset_file *files; /* n_inputs × n_samples */
    struct dataset_map *maps;
};

/*
 * g: the model's graph: every input must be there, with its type and a shape that fits; inputs
 * come in the graph's order. NULL: any. ERR_BAD_DATA names the file and says what to do.
 */
int dataset_open(const char *path, const struct graph *g, struct dataset **ret, struct err *e);
void dataset_free(struct dataset *d);

/* Sample i of input k: a plain tensor, its data read-only in the mapping. Cannot fail. */
void dataset_sample(const struct dataset *d, int i, int k, struct tensor *ret);

/* Sample i is not needed for now: its pages of the mapping may go, and come again when it is read.
 */
void dataset_release(const struct dataset *d, int i);

/* Identity of a sample: SHA-256 over type, dims and bytes of all inputs, sorted by name. */
void dataset_sample_digest(const struct dataset *d, int i, struct digest *ret);
/* Of all samples and the labels: the data set's identity, whatever form it came in. */
void dataset_digest(const struct dataset *d, struct digest *ret);

/* Would dataset_open read this file or folder as it is? (Else: dataset_normalize.) */
bool dataset_is_open_form(const char *path);

/*
 * Makes the canonical tar of a tar, tar.gz, zip, npz or npy (known by content): ustar, one entry
 * `<input name, %XX-encoded>/<%08d>.npy` a sample in sorted order, then `labels.npy`. The same
 * arrays under the same names give the same bytes. tmp_dir takes a temporary file. Nothing in the
 * archive is trusted: links, devices, paths that climb, more than DATASET_FILES_MAX entries, more
 * than max_bytes in all, a compression ratio over 200, archives in the archive and sizes that lie
 * are ERR_BAD_DATA naming the entry. ret_names (may be NULL): what the first input's samples were
 * called, in their order, allocated in a.
 */
int dataset_normalize(const char *path, const char *tmp_dir, uint64_t max_bytes, const char *out,
                      struct arena *a, const char *const **ret_names, struct err *e);

/* %XX for every byte but [A-Za-z0-9_-]; both allocate in a. decode: a malformed %XX stays. */
char *dataset_encode(struct arena *a, const char *name);
char *dataset_decode(struct arena *a, const char *folder);

#endif
