/*
 * Files mapped read-only for the life of a model: the ONNX file and its external data. Confined:
 * a location comes from an untrusted file, so it is either looked up in the list the caller gave,
 * or walked below the model's folder component by component, without following links.
 */
#ifndef PTQ_WORKER_LOAD_MAPPING_H
#define PTQ_WORKER_LOAD_MAPPING_H

#include "worker/load/model.h"

struct model_map {
    struct model_map *next;
    const char *location; /* NULL: the ONNX file itself, or zeros */
    const unsigned char *data;
    size_t size;
    bool zeros; /* no file */
};

/* Maps src->path. The struct lives in the arena, the mapping until mapping_close. */
int mapping_open(const struct model_source *src, struct arena *a, struct model_map **list,
                 struct err *e);
/* The external file of that location, mapped at its first use. ERR_BAD_MODEL for a location that
 * is absolute, leads out of the folder or through a link, or is not among the model's files. */
int mapping_external(const struct model_source *src, const char *location, struct arena *a,
                     struct model_map **list, const struct model_map **ret, struct err *e);
/* At least so many zero bytes, which take no memory as long as nobody reads them. */
int mapping_zeros(size_t bytes, struct arena *a, struct model_map **list, const void **ret,
                  struct err *e);
void mapping_close(struct model_map *list);

#endif
