/* Packs a data folder into a tar: the only place in the client that knows libarchive. */
#ifndef PTQ_CLI_ARCHIVE_H
#define PTQ_CLI_ARCHIVE_H

#include "common/err.h"

/*
 * folder: <input name>/<sample>.npy, and labels.npy or calibration_labels.npy; labels: a file that
 * becomes labels.npy, or NULL. The same files give the same bytes: sorted, without owners or
 * times. ERR_INVALID names what does not belong to a data set.
 */
int pack_folder(const char *folder, const char *labels, const char *out, struct err *e);

#endif
