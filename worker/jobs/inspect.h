/* What a model or a data set is, as the API shows it. */
#ifndef PTQ_WORKER_JOBS_INSPECT_H
#define PTQ_WORKER_JOBS_INSPECT_H

#include <jansson.h>

#include "worker/load/dataset.h"
#include "worker/load/model.h"

/* New references. inspect_model shapes the graph as far as it goes: a model whose shapes
 * contradict each other is an error. */
json_t *inspect_model(const struct model *m, struct err *e);
/* names: of the samples, where the data set was made of an archive; NULL: the data set's own. */
json_t *inspect_data(const struct dataset *d, const char *const *names);

#endif
