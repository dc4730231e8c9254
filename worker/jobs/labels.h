/*
 * Labels against an output. A class number a sample: the output scores the classes, top-1 and
 * top-5 accuracy. A map of class numbers a sample: the output scores the classes of each place,
 * mean IoU. Both in float and quantized, with the 95 % interval of the paired difference.
 */
#ifndef PTQ_WORKER_JOBS_LABELS_H
#define PTQ_WORKER_JOBS_LABELS_H

#include <jansson.h>

#include "worker/load/dataset.h"

enum { LABELS_TOP = 5, LABELS_CLASSES_MAX = 4096, LABELS_IGNORED = 255 };

/* What is compared with which output. */
struct labels {
    int output;  /* of the graph, or -1: nothing is */
    bool map;    /* a map a sample, else a number */
    int classes; /* that the output scores, 0: not known before it runs. A map of one channel has
                    two: class 1 is where it is above 0.5 */
    int axis;    /* of a map: the output's axis of classes, or -1: one channel without an axis */
};

/* By options "labels" ("auto" or false) and "label_output"; pointers begin at /options. */
int labels_choose(const struct graph *g, const struct dataset *d, const json_t *options,
                  struct labels *ret, struct err *e);

/* The numbers of the largest elements, best first, the lower number first among equals; -1 where
 * there are no more. */
void labels_top(const float *v, int64_t n, int32_t ret[LABELS_TOP]);

/* Of a class: places where output and label both say it, and where one of them does. */
struct area {
    int64_t both, either;
};
/* ret[classes] of a sample; y: the output in plain layout as float32. Labels 255 (and below 0)
 * are left out. */
int labels_areas(const struct labels *l, const struct dataset *d, int sample,
                 const struct tensor *y, const float *data, struct area *ret, struct err *e);
/* Identity of a sample's label map. */
void labels_digest(const struct labels *l, const struct dataset *d, int sample, struct digest *ret);

/* ---- over the samples ---- */
struct accuracy;
struct accuracy *accuracy_new(const struct labels *l, const struct dataset *d, int n_samples);
void accuracy_free(struct accuracy *a);
/* top[0], areas[0]: in float; [1]: quantized. */
void accuracy_top(struct accuracy *a, int sample, const int32_t top[2][LABELS_TOP]);
void accuracy_areas(struct accuracy *a, int sample, const struct area *const areas[2]);
/* {"metric": "top-1" or "mean-iou", …}, or null without labels. */
json_t *accuracy_json(const struct accuracy *a, const char *output);
/* The same with "top-5"; null for maps and where there are no more than five classes. */
json_t *accuracy_top5_json(const struct accuracy *a, const char *output);

#endif
