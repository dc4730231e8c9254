/* The table of job kinds: each row stands at the end of the file that defines it. */
#include <stddef.h>

#include "worker/jobs/core.h"

extern const struct job_kind job_inspect_model, job_inspect_data;

const struct job_kind *const job_kinds[] = {&job_inspect_model, &job_inspect_data, NULL};

const struct job_kind *job_kind_find(const char *name)
{
    return job_kind_in(job_kinds, name);
}
