/* A model's files, as a word of the command line names them. */
#ifndef PTQ_CLI_MODEL_H
#define PTQ_CLI_MODEL_H

#include "cli/cli.h"

struct model_external {
    const char *path;     /* of the file */
    const char *location; /* below the ONNX file's folder, as the ONNX file says it */
};

struct model_files {
    const char *onnx;
    int n_external;
    struct model_external *external;
};

/*
 * word: an ONNX file, which stands alone; or a folder with exactly one file *.onnx in it, where
 * all other files, those of its folders too, are the external data (hidden files are left out).
 * Names live in c's arena.
 */
int model_files(struct cli *c, const char *word, struct model_files *ret, struct err *e);

#endif
