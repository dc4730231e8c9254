/*
 * Exports a calibrated model and tells what our engine has at each of its pairs:
 * `qdq [--opset21] MODEL DATA SAMPLES DIR` writes a line of JSON for each pair (pairs.jsonl), for
 * each sample the integers of each pair as int32 (<sample>_<pair>.bin; constants: sample -1), and
 * two models whose outputs are these integers, so that another runtime can be compared
 * (tests/peer/qdq.mjs): whole.onnx is the export as it is; in cut.onnx every pair is cut in two,
 * its second half is an input, so that a difference stays where it comes from.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "worker/exec/exec.h"
#include "worker/load/build.h"
#include "worker/load/dataset.h"
#include "worker/load/fold_weight.h"
#include "worker/load/model.h"
#include "worker/quant/along.h"
#include "worker/quant/export.h"
#include "worker/quant/fakequant.h"

struct dump {
    struct arena arena;
    const struct plan *p;
    const struct graph *exported;
    const char *dir;
    int sample;
};

/* The node that quantizes (a constant's: that dequantizes), or -1: there is no pair. */
static int pair_node(struct dump *d, const struct calib *k)
{
    const char *tail = strstr(k->name, "_HzCalibration");
    int n = tail ? (int)(tail - k->name) : (int)strlen(k->name);
    int q = graph_node(d->exported, arena_printf(&d->arena, "%.*s_QuantizeLinear", n, k->name));
    return q >= 0 ? q
                  : graph_node(d->exported,
                               arena_printf(&d->arena, "%.*s_DequantizeLinear", n, k->name));
}

/* A tensor as it is behind the calibration: its integers. */
static int write_integers(struct dump *d, int index, const struct tensor *t, struct err *e)
{
    const struct calib *k = &d->p->calibs[index];
    struct tensor plain = *t;
    int64_t count = tensor_count(t);
    const char *path = arena_printf(&d->arena, "%s/%d_%d.bin", d->dir, d->sample, index);
    FILE *f = fopen(path, "wbe");
    if (!f)
        return err_errno(e, path, "The file cannot be written");
    plain.layout = LAYOUT_PLAIN;
    plain.data = malloc(tensor_bytes(t) + 1);
    tensor_reorder(t, &plain);
    struct along v = look_along(&plain, k->n_thresholds > 1 ? k->axis : -1);
    for (int64_t i = 0; i < count; i++) {
        struct fq_param q;
        fq_of_calib(k, k->axis >= 0 && k->n_thresholds > 1 ? (int)(i / v.inner % v.channels) : 0,
                    &q);
        int32_t n = (int32_t)rintf(((const float *)plain.data)[i] / q.scale) + q.zero_point;
        fwrite(&n, sizeof n, 1, f);
    }
    free(plain.data);
    return fclose(f) ? err_errno(e, path, "The file cannot be written") : 0;
}

static int see(void *ctx, int value, bool quantized, const struct tensor *t, struct err *e)
{
    struct dump *d = ctx;
    if (!quantized || pair_node(d, &d->p->calibs[value]) < 0)
        return 0;
    return write_integers(d, value, t, e);
}

static int run_sample(struct dump *d, const struct dataset *data, int sample, struct err *e)
{
    struct tensor *in = calloc((size_t)d->p->graph->n_inputs + 1, sizeof *in);
    struct exec_opts opts = {.plan = d->p};
    struct exec *x = NULL;
    d->sample = sample;
    for (int k = 0; k < d->p->graph->n_inputs; k++)
        dataset_sample(data, sample, k, &in[k]);
    int rc = exec_new(d->p->graph, in, &opts, &x, e) || exec_run(x, in, see, d, e);
    exec_free(x);
    free(in);
    return rc;
}

/* What a constant is behind its calibration; a folded weight as the file has it. */
static int write_constant(struct dump *d, int index, struct err *e)
{
    struct calib k = d->p->calibs[index];
    const struct tensor *whole = &d->p->graph->values[k.value].type;
    struct tensor t = *whole;
    if (k.n_fold && fold_weight(whole, k.fold, k.n_fold, &d->arena, &t, e))
        return -1;
    struct tensor to = t;
    to.data = arena_alloc(&d->arena, tensor_bytes(&t) + 1);
    k.n_fold = 0;
    fq_tensor(&k, &t, &to);
    d->sample = -1;
    return write_integers(d, index, &to, e);
}

static bool is_pair(const struct calib *k)
{
    return k->on && (k->qtype == Q_INT8 || k->qtype == Q_INT16);
}

static int describe(struct dump *d, FILE *f, int index, struct err *e)
{
    const struct calib *k = &d->p->calibs[index];
    int node = pair_node(d, k);
    if (!is_pair(k) || node < 0)
        return 0;
    const struct node *n = &d->exported->nodes[node];
    bool constant = !strcmp(n->op_type, "DequantizeLinear");
    const struct value *v = &d->exported->values[constant ? n->in[0] : n->out[0]];
    json_t *line =
        json_pack("{s:i, s:s, s:s, s:s, s:b, s:s, s:o}", "pair", index, "calibration", k->name,
                  "tensor", v->name, "given", arena_printf(&d->arena, "given_%d", index),
                  "constant", constant, "type", dtype_name(v->type.type), "dims", json_array());
    for (int i = 0; i < v->type.rank; i++)
        json_array_append_new(json_object_get(line, "dims"), json_integer(v->type.dims[i]));
    json_dumpf(line, f, JSON_COMPACT);
    fputc('\n', f);
    json_decref(line);
    return constant ? write_constant(d, index, e) : 0;
}

/* Who reads `value` reads an input of that name. */
static void cut_behind(struct build *b, int value, const char *name)
{
    int given = build_fresh(b, name);
    b->values[given].type = b->values[value].type;
    build_input(b, given);
    for (int i = 0; i < b->n_nodes; i++)
        for (int k = 0; k < b->nodes[i].n_in; k++)
            if (b->nodes[i].in[k] == value)
                b->nodes[i].in[k] = given;
}

static int write_with_outputs(struct dump *d, bool cut, struct err *e)
{
    struct build *b = build_from(d->exported, &d->arena);
    struct graph *g;
    for (int i = 0; i < d->p->n_calibs; i++) {
        int node = is_pair(&d->p->calibs[i]) ? pair_node(d, &d->p->calibs[i]) : -1;
        if (node < 0)
            continue;
        const struct node *n = &d->exported->nodes[node];
        bool constant = !strcmp(n->op_type, "DequantizeLinear");
        build_output(b, constant ? n->in[0] : n->out[0]);
        if (cut && !constant)
            cut_behind(b, n->out[0], arena_printf(&d->arena, "given_%d", i));
    }
    const char *path = arena_printf(&d->arena, "%s/%s.onnx", d->dir, cut ? "cut" : "whole");
    return build_freeze(b, &g, e) || model_write(g, NULL, path, e) ? -1 : 0;
}

static int dump_all(struct dump *d, const struct dataset *data, int samples, struct err *e)
{
    const char *path = arena_printf(&d->arena, "%s/pairs.jsonl", d->dir);
    FILE *f = fopen(path, "wbe");
    int rc = f ? 0 : err_errno(e, path, "The file cannot be written");
    for (int i = 0; !rc && i < d->p->n_calibs; i++)
        rc = describe(d, f, i, e);
    if (f)
        fclose(f);
    for (int s = 0; !rc && s < samples && s < data->n_samples; s++)
        rc = run_sample(d, data, s, e);
    return rc;
}

static int run(char **argv, bool opset21, struct err *e)
{
    struct model_source src = {.path = argv[0], .local = true};
    struct model *m = NULL;
    struct dataset *data = NULL;
    struct dump d = {.arena = ARENA_INIT, .dir = argv[3]};
    struct graph *g = NULL;
    int rc = model_open(&src, &m, e) || dataset_open(argv[1], m->float_graph, &data, e) ||
             export_qdq(m->plan, &(struct export_opts){opset21}, &d.arena, &g, e);
    d.exported = g;
    d.p = m ? m->plan : NULL;
    mkdir(argv[3], 0777);
    if (!rc)
        rc = write_with_outputs(&d, false, e) || write_with_outputs(&d, true, e) ||
             dump_all(&d, data, atoi(argv[2]), e);
    dataset_free(data);
    model_free(m);
    arena_done(&d.arena);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = ERR_INIT;
    bool opset21 = argc > 1 && !strcmp(argv[1], "--opset21");
    if (argc - opset21 != 5) {
        fputs("qdq [--opset21] MODEL DATA SAMPLES DIR\n", stderr);
        return 2;
    }
    if (!run(argv + 1 + opset21, opset21, &e))
        return 0;
    fprintf(stderr, "%s: %s\n", e.at, e.detail);
    return e.code == ERR_UNSUPPORTED ? 3 : 1;
}
