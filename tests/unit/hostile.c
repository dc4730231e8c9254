#include "tests/unit/hostile.h"

#include <string.h>
#include <sys/resource.h>

#include "tests/test.h"
#include "worker/exec/exec.h"
#include "worker/load/model.h"

enum { MEMORY_MAX = 64 << 20 };

int hostile_try(struct onnx_maker *m, struct err *e)
{
    struct arena a = ARENA_INIT;
    struct model *model;
    struct exec *x = NULL;
    struct exec_opts opts = {.memory_max = MEMORY_MAX};
    const char *path = maker_save(m, "m.onnx");
    maker_done(m);
    if (model_open(&(struct model_source){.path = path}, &model, e))
        return -1;
    const struct graph *g = model->float_graph;
    struct tensor *in = arena_array(&a, (size_t)g->n_inputs + 1, sizeof *in);
    for (int i = 0; i < g->n_inputs; i++) {
        in[i] = g->values[g->inputs[i]].type;
        for (int d = 0; d < in[i].rank; d++)
            in[i].dims[d] = in[i].dims[d] < 0 ? 1 : in[i].dims[d];
        in[i].data = arena_alloc(&a, tensor_bytes(&in[i]) + 1);
    }
    int rc = exec_new(g, in, &opts, &x, e);
    if (!rc)
        rc = exec_run(x, in, NULL, NULL, e);
    exec_free(x);
    model_free(model);
    arena_done(&a);
    return rc;
}

void hostile_refused(struct onnx_maker *m, const char *at)
{
    struct err e = ERR_INIT;
    CHECK_INT(hostile_try(m, &e), -1);
    CHECK(e.code != ERR_NONE && e.code != ERR_INTERNAL);
    if (!strstr(e.at, at))
        FAIL("refused at \"%s\", not at \"%s\": %s", e.at, at, e.detail);
}

long hostile_peak_mb(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
#ifdef PTQ_SAN
    r.ru_maxrss = 0;
#endif
    return r.ru_maxrss / 1024;
}

double hostile_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
#ifdef PTQ_SAN
    return 0;
#endif
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec);
}
