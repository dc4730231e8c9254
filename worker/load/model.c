#include "worker/load/model.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "worker/load/calibrations.h"
#include "worker/load/missing.h"
#include "worker/load/optimize.h"
#include "worker/load/read.h"
#include "worker/load/scan.h"

enum { IR_VERSION_MAX = 13, FOLD_COST_PER_BYTE = 4 };

/* ---- unpacking within a budget ---- */

struct purse {
    struct arena arena;
    uint64_t left;
};

static void *purse_alloc(void *data, size_t size)
{
    struct purse *p = data;
    if (size > p->left)
        return NULL;
    p->left -= size;
    return arena_try(&p->arena, size);
}

static void purse_free(void *data, void *pointer)
{
    (void)data;
    (void)pointer; /* with the arena */
}

static int unpack(const struct model_map *file, struct purse *purse, Onnx__ModelProto **ret,
                  struct err *e)
{
    struct scan_result scan;
    if (scan_onnx(file->data, file->size, &scan, e))
        return -1;
    purse->left = scan_budget(file->size - scan.payload_bytes);
    ProtobufCAllocator capped = {purse_alloc, purse_free, purse};
    *ret =
        onnx__model_proto__unpack(&capped, scan.skeleton.len, (const uint8_t *)scan.skeleton.data);
    buf_done(&scan.skeleton);
    if (*ret)
        return 0;
    return err_set(e, ERR_LIMIT, "", "The model's structure does not fit %llu bytes of memory.",
                   (unsigned long long)scan_budget(file->size - scan.payload_bytes));
}

/* ---- the file's head ---- */

static int read_head(struct reader *r, const Onnx__ModelProto *p, struct model *m)
{
    if (!p->has_ir_version || !p->graph)
        return err_set(r->e, ERR_BAD_MODEL, "",
                       "This is no ONNX model: it has no IR version or no graph.");
    if (p->ir_version < 1 || p->ir_version > IR_VERSION_MAX)
        return err_set(r->e, ERR_UNSUPPORTED, "", "IR version %lld is not read, 1 to %d are.",
                       (long long)p->ir_version, IR_VERSION_MAX);
    m->ir_version = (int)p->ir_version;
    m->producer = arena_printf(&m->arena, "%s%s%s", p->producer_name ? p->producer_name : "",
                               p->producer_version && *p->producer_version ? " " : "",
                               p->producer_version ? p->producer_version : "");
    return read_opsets(r, p->opset_import, p->n_opset_import, &r->opsets, &r->n_opsets);
}

static int read_model(const struct model_source *src, struct model *m, struct err *e)
{
    struct purse purse = {.arena = ARENA_INIT};
    struct functions functions;
    Onnx__ModelProto *p;
    struct reader r = {.arena = &m->arena,
                       .src = src,
                       .maps = &m->maps,
                       .file = m->maps,
                       .functions = &functions,
                       .e = e};
    int rc = unpack(m->maps, &purse, &p, e) || read_head(&r, p, m) ||
             functions_init(&functions, p, &purse.arena, e) ||
             missing_check(p->graph, &functions, r.opsets, r.n_opsets, e) ||
             read_graph(&r, p->graph, NULL, &m->original);
    arena_done(&purse.arena);
    for (const struct model_map *map = m->maps; map && !rc; map = map->next)
        m->original->fold_left += FOLD_COST_PER_BYTE * (int64_t)map->size;
    return rc ? -1 : 0;
}

/* A calibrated file holds a graph that was optimized before: its names are taken as they are. */
static int make_float_graph(const struct model_source *src, struct model *m, struct err *e)
{
    if (src->skeleton)
        return optimize_types(m->original, &m->float_graph, e);
    if (!calibrations_any(m->original))
        return optimize(m->original, &m->float_graph, e);
    struct graph *stripped;
    if (calibrations_strip(m->original, &stripped, e) ||
        optimize_types(stripped, &m->float_graph, e))
        return -1;
    return calibrations_plan(m->original, m->float_graph, &m->plan, e);
}

int model_open(const struct model_source *src, struct model **ret, struct err *e)
{
    struct model *m = xcalloc(1, sizeof *m);
    m->arena = (struct arena)ARENA_INIT;
    *ret = NULL;
    if (mapping_open(src, &m->arena, &m->maps, e) || read_model(src, m, e) ||
        make_float_graph(src, m, e)) {
        model_free(m);
        return -1;
    }
    *ret = m;
    return 0;
}

void model_free(struct model *m)
{
    if (!m)
        return;
    mapping_close(m->maps);
    arena_done(&m->arena);
    free(m);
}
