/* The table of job kinds: each row stands at the end of the file that defines it. */
#include <stddef.h>

#include "worker/jobs/core.h"

extern const struct job_kind job_calibrate, job_channelwise, job_check_config, job_edit_model,
    job_evaluate, job_export, job_inspect_data, job_inspect_model, job_plot_acc_error,
    job_plot_distribution, job_runall, job_sensitive_samples, job_sensitivity,
    job_sensitivity_analysis, job_tensor_analysis;

const struct job_kind *const job_kinds[] = {&job_calibrate,       &job_channelwise,
                                            &job_check_config,    &job_edit_model,
                                            &job_evaluate,        &job_export,
                                            &job_inspect_data,    &job_inspect_model,
                                            &job_plot_acc_error,  &job_plot_distribution,
                                            &job_runall,          &job_sensitive_samples,
                                            &job_sensitivity,     &job_sensitivity_analysis,
                                            &job_tensor_analysis, NULL};

const struct job_kind *job_kind_find(const char *name)
{
    return job_kind_in(job_kinds, name);
}
