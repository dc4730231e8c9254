/* edit-model: a calibrated model with some of its calibrations changed (quant/edit.h). */
#include "worker/quant/edit.h"
#include "worker/jobs/calibration.h"
#include "worker/load/model.h"

#define EDITED_FILE "edited_model.onnx" /* known to the server */

static int write_edited(struct job *j, const struct model *m, const struct plan *p, struct err *e)
{
    const char *path = arena_printf(job_arena(j), "%s/" EDITED_FILE, job_out_dir(j));
    if (model_write(m->float_graph, p, path, e))
        return -1;
    return job_artifact(j, EDITED_FILE, "application/octet-stream", EDITED_FILE, e);
}

static int edit(struct job *j, const struct model *m, json_t **ret, struct err *e)
{
    const struct march *march;
    struct plan *p;
    if (!m->plan)
        return err_set(e, ERR_INVALID, "/model", "The model has no calibrations to edit.");
    if (calibration_march(j, &march, e) ||
        plan_edit(m->plan, json_object_get(job_spec(j), "edits"), "/edits", march, job_arena(j), &p,
                  e) ||
        write_edited(j, m, p, e))
        return -1;
    *ret = json_pack("{s:i}", "calibrations", p->n_calibs);
    return 0;
}

static int run(struct job *j, json_t **ret_result, const char **ret_verdict, struct err *e)
{
    struct model *m;
    (void)ret_verdict;
    if (job_open_model(j, &m, e))
        return -1;
    int rc = edit(j, m, ret_result, e);
    model_free(m);
    return rc;
}

extern const struct job_kind job_edit_model;
const struct job_kind job_edit_model = {
    .name = "edit-model",
    .internal = true,
    .run = run,
    .text = "Changes calibrations of a calibrated model.",
};
