/*
 * The oneDNN backend (2.6 C API); the only file that sees the library. Activations are asked for
 * as channels-last by name, because the library's own choice would cost reorders between nodes;
 * weights lie as it wants them, packed once. Where it has nothing but its reference loops it says
 * ERR_UNSUPPORTED, and the next backend takes the node.
 */
#include "worker/exec/backend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <oneapi/dnnl/dnnl.h>

#include "worker/exec/conv.h"

enum { A_SRC, A_WEIGHT, A_BIAS, A_DST, A_SCRATCH, N_ARGS };

struct dnn_conv {
    struct conv_desc d;
    int64_t out_pixels;        /* of the whole batch */
    const struct arena *arena; /* whose release frees this */
    struct dnn_conv *next;     /* of all that live */
    dnnl_primitive_t primitive, reorder;
    dnnl_memory_t mem[N_ARGS], plain_weight;
    dnnl_exec_arg_t args[N_ARGS];
    size_t packed_bytes; /* reorder at run time: the weight's room at the start of scratch */
    float *zeros;        /* a bias for who has none at run time */
};

static struct {
    pthread_once_t once;
    dnnl_status_t status;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct dnn_conv *live;
    char version[64];
} lib = {.once = PTHREAD_ONCE_INIT};

static const char *isa_name(dnnl_cpu_isa_t isa)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {
        {dnnl_cpu_isa_sse41, "sse41"},
        {dnnl_cpu_isa_avx, "avx"},
        {dnnl_cpu_isa_avx2, "avx2"},
        {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
        {dnnl_cpu_isa_avx512_core, "avx512_core"},
        {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
        {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
        {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].isa == isa)
            return names[i].name;
    return "other";
}

/* One thread, said before the first parallel region: GNU OpenMP does not survive a fork after one.
 * The library brings OpenMP along; this program is not linked with it. */
static void one_thread(void)
{
    void (*set)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    if (set)
        set(1);
}

static void start(void)
{
    const dnnl_version_t *v = dnnl_version();
    one_thread();
    lib.status = dnnl_engine_create(&lib.engine, dnnl_cpu, 0);
    if (lib.status == dnnl_success)
        lib.status = dnnl_stream_create(&lib.stream, lib.engine, dnnl_stream_default_flags);
    snprintf(lib.version, sizeof lib.version, "%d.%d.%d %s", v->major, v->minor, v->patch,
             isa_name(dnnl_get_effective_cpu_isa()));
}

static const char *dnn_version(void)
{
    pthread_once(&lib.once, start);
    return lib.version;
}

static int check(dnnl_status_t s, const char *what, struct err *e)
{
    if (s == dnnl_success)
        return 0;
    if (s == dnnl_out_of_memory)
        return err_set(e, ERR_MEMORY_LIMIT, NULL, "oneDNN: no memory to %s", what);
    return err_set(e, s == dnnl_runtime_error ? ERR_INTERNAL : ERR_UNSUPPORTED, NULL,
                   "oneDNN cannot %s (status %d)", what, (int)s);
}

static int dnn_ready(struct err *e)
{
    pthread_once(&lib.once, start);
    return check(lib.status, "start", e);
}

/* The memory descriptors of a convolution. */
struct shapes {
    dnnl_memory_desc_t src, dst, bias, weight, plain_weight;
    dnnl_dims_t stride, dilate, pad_l, pad_r;
};

static dnnl_format_tag_t weight_tag(const struct conv_desc *d)
{
    static const dnnl_format_tag_t tags[2][2][CONV_SPATIAL_MAX] = {
        {{dnnl_oiw, dnnl_oihw, dnnl_oidhw}, {dnnl_goiw, dnnl_goihw, dnnl_goidhw}},
        /* the file's order, input before output, in the library's letters: a, b are (output,
         * input), or b, c behind the groups */
        {{dnnl_bac, dnnl_bacd, dnnl_bacde}, {dnnl_acbd, dnnl_acbde, dnnl_acbdef}}};
    return tags[d->transposed][d->groups > 1][d->spatial - 1];
}

static dnnl_status_t describe_weight(const struct conv_desc *d, struct shapes *s)
{
    dnnl_dims_t dims;
    int n = 0;
    if (d->groups > 1)
        dims[n++] = d->groups;
    dims[n++] = d->out_channels / d->groups;
    dims[n++] = d->in_channels / d->groups;
    for (int i = 0; i < d->spatial; i++)
        dims[n++] = d->kernel[i];
    dnnl_status_t st =
        dnnl_memory_desc_init_by_tag(&s->plain_weight, n, dims, dnnl_f32, weight_tag(d));
    return st ? st
              : dnnl_memory_desc_init_by_tag(&s->weight, n, dims, dnnl_f32, dnnl_format_tag_any);
}

/* The end padding that gives exactly the wanted output; ONNX's own may leave a rest over. */
static int64_t pad_end(const struct conv_desc *d, int i)
{
    int64_t reach = (d->kernel[i] - 1) * d->dilation[i] + 1;
    return d->transposed ? (d->in[i] - 1) * d->stride[i] + reach - d->out[i] - d->pad_begin[i]
                         : (d->out[i] - 1) * d->stride[i] + reach - d->in[i] - d->pad_begin[i];
}

static dnnl_status_t describe(const struct conv_desc *d, struct shapes *s)
{
    static const dnnl_format_tag_t tags[] = {dnnl_nwc, dnnl_nhwc, dnnl_ndhwc};
    dnnl_dims_t in = {d->batch, d->in_channels}, out = {d->batch, d->out_channels};
    dnnl_dims_t channels = {d->out_channels};
    for (int i = 0; i < d->spatial; i++) {
        in[2 + i] = d->in[i];
        out[2 + i] = d->out[i];
        s->stride[i] = d->stride[i];
        s->dilate[i] = d->dilation[i] - 1;
        s->pad_l[i] = d->pad_begin[i];
        s->pad_r[i] = pad_end(d, i);
    }
    dnnl_format_tag_t tag = tags[d->spatial - 1];
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&s->src, 2 + d->spatial, in, dnnl_f32, tag);
    if (!st)
        st = dnnl_memory_desc_init_by_tag(&s->dst, 2 + d->spatial, out, dnnl_f32, tag);
    if (!st)
        st = dnnl_memory_desc_init_by_tag(&s->bias, 1, channels, dnnl_f32, dnnl_a);
    return st ? st : describe_weight(d, s);
}

/* No post-ops: the library's relu and clip turn a NaN into a number, this project's keep it. */
static dnnl_status_t make_attr(dnnl_primitive_attr_t *ret)
{
    dnnl_status_t st = dnnl_primitive_attr_create(ret);
    return st ? st : dnnl_primitive_attr_set_scratchpad_mode(*ret, dnnl_scratchpad_mode_user);
}

static dnnl_status_t make_desc(const struct conv_desc *d, const struct shapes *s, bool bias,
                               dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *ret)
{
    dnnl_convolution_desc_t conv;
    dnnl_deconvolution_desc_t deconv;
    const dnnl_memory_desc_t *b = bias ? &s->bias : NULL;
    dnnl_status_t st;
    if (d->transposed)
        st = dnnl_dilated_deconvolution_forward_desc_init(
            &deconv, dnnl_forward_inference, dnnl_deconvolution_direct, &s->src, &s->weight, b,
            &s->dst, s->stride, s->dilate, s->pad_l, s->pad_r);
    else
        st = dnnl_dilated_convolution_forward_desc_init(
            &conv, dnnl_forward_inference, dnnl_convolution_direct, &s->src, &s->weight, b, &s->dst,
            s->stride, s->dilate, s->pad_l, s->pad_r);
    return st ? st
              : dnnl_primitive_desc_create(ret, d->transposed ? (void *)&deconv : (void *)&conv,
                                           attr, lib.engine, NULL);
}

/* The library's reference loops are slower than any other backend. */
static int refuse_reference(dnnl_primitive_desc_t pd, struct err *e)
{
    const char *impl = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &impl);
    if (!strncmp(impl, "ref", 3) || strstr(impl, ":ref"))
        return err_set(e, ERR_UNSUPPORTED, NULL, "oneDNN has only \"%s\" for this shape", impl);
    return 0;
}

static dnnl_status_t make_memory(struct dnn_conv *c, int arg, int id, const dnnl_memory_desc_t *md)
{
    c->args[arg].arg = id;
    dnnl_status_t st = dnnl_memory_create(&c->mem[arg], md, lib.engine, DNNL_MEMORY_NONE);
    c->args[arg].memory = c->mem[arg];
    return st;
}

static dnnl_status_t make_memories(struct dnn_conv *c, const struct shapes *s,
                                   dnnl_primitive_desc_t pd)
{
    const dnnl_memory_desc_t *weight = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    dnnl_status_t st = make_memory(c, A_SRC, DNNL_ARG_SRC, &s->src);
    if (!st)
        st = make_memory(c, A_WEIGHT, DNNL_ARG_WEIGHTS, weight);
    if (!st)
        st = make_memory(c, A_BIAS, DNNL_ARG_BIAS, &s->bias);
    if (!st)
        st = make_memory(c, A_DST, DNNL_ARG_DST, &s->dst);
    if (!st)
        st = make_memory(c, A_SCRATCH, DNNL_ARG_SCRATCHPAD, scratch);
    if (!st)
        st = dnnl_memory_create(&c->plain_weight, &s->plain_weight, lib.engine, DNNL_MEMORY_NONE);
    c->packed_bytes =
        (dnnl_memory_desc_get_size(weight) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return st;
}

static dnnl_status_t make_reorder(struct dnn_conv *c, const struct shapes *s,
                                  dnnl_primitive_desc_t pd)
{
    dnnl_primitive_desc_t reorder = NULL;
    dnnl_status_t st = dnnl_reorder_primitive_desc_create(
        &reorder, &s->plain_weight, lib.engine,
        dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), lib.engine, NULL);
    if (!st)
        st = dnnl_primitive_create(&c->reorder, reorder);
    dnnl_primitive_desc_destroy(reorder);
    return st;
}

static dnnl_status_t pack_weight(struct dnn_conv *c, const float *weight, void *packed)
{
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, c->plain_weight}, {DNNL_ARG_TO, c->mem[A_WEIGHT]}};
    dnnl_status_t st = dnnl_memory_set_data_handle(c->plain_weight, (void *)weight);
    if (!st)
        st = dnnl_memory_set_data_handle(c->mem[A_WEIGHT], packed);
    if (!st)
        st = dnnl_primitive_execute(c->reorder, lib.stream, 2, args);
    return st ? st : dnnl_stream_wait(lib.stream);
}

static void conv_destroy(struct dnn_conv *c)
{
    for (int i = 0; i < N_ARGS; i++)
        dnnl_memory_destroy(c->mem[i]);
    dnnl_memory_destroy(c->plain_weight);
    dnnl_primitive_destroy(c->reorder);
    dnnl_primitive_destroy(c->primitive);
    memset(c, 0, sizeof *c);
}

static void dnn_release(const struct arena *a)
{
    for (struct dnn_conv **at = &lib.live; *at;) {
        struct dnn_conv *c = *at;
        if (c->arena != a) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        conv_destroy(c);
    }
}

/* What stays the same in every run: the packed weight and the bias, when they are known. */
static int load_constants(struct dnn_conv *c, const struct conv_desc *d, const float *weight,
                          const float *bias, struct arena *a, struct err *e)
{
    if (!weight || bias) {
        float *b = arena_array(a, d->out_channels, sizeof *b);
        if (bias)
            memcpy(b, bias, d->out_channels * sizeof *b);
        c->zeros = bias ? NULL : b;
        if (check(dnnl_memory_set_data_handle(c->mem[A_BIAS], b), "set a bias", e))
            return -1;
    }
    if (!weight)
        return 0;
    void *packed = arena_try(a, c->packed_bytes);
    if (!packed)
        return err_set(e, ERR_MEMORY_LIMIT, NULL, "no memory for a packed weight of %zu bytes",
                       c->packed_bytes);
    return check(pack_weight(c, weight, packed), "pack a weight", e);
}

static int build(struct dnn_conv *c, const struct shapes *s, dnnl_primitive_desc_t pd,
                 struct err *e)
{
    if (refuse_reference(pd, e) ||
        check(dnnl_primitive_create(&c->primitive, pd), "make a convolution", e) ||
        check(make_memories(c, s, pd), "describe memory", e) ||
        check(make_reorder(c, s, pd), "make a reorder", e))
        return -1;
    return 0;
}

static int dnn_conv_prepare(const struct conv_desc *d, const float *weight, const float *bias,
                            struct arena *a, const void **ret, size_t *ret_scratch, struct err *e)
{
    struct shapes s;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool with_bias = bias || !weight;
    memset(&s, 0, sizeof s);
    if (dnn_ready(e) || check(describe(d, &s), "describe a convolution", e))
        return -1;
    struct dnn_conv *c = arena_alloc(a, sizeof *c);
    int rc = check(make_attr(&attr), "make attributes", e);
    if (!rc)
        rc = check(make_desc(d, &s, with_bias, attr, &pd), "do this convolution", e);
    if (!rc)
        rc = build(c, &s, pd, e);
    if (!rc)
        rc = load_constants(c, d, weight, bias, a, e);
    if (!rc) {
        *ret_scratch = dnnl_memory_desc_get_size(
                           dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0)) +
                       (weight ? 0 : c->packed_bytes);
        c->d = *d;
        c->out_pixels = d->batch;
        for (int i = 0; i < d->spatial; i++)
            c->out_pixels *= d->out[i];
        c->arena = a;
        c->next = lib.live;
        lib.live = c;
        *ret = c;
    } else {
        conv_destroy(c);
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    return rc;
}

static dnnl_status_t execute(const struct dnn_conv *c, const float *in, float *out, void *scratch)
{
    dnnl_status_t st = dnnl_memory_set_data_handle(c->mem[A_SRC], (void *)in);
    if (!st)
        st = dnnl_memory_set_data_handle(c->mem[A_DST], out);
    if (!st)
        st = dnnl_memory_set_data_handle(c->mem[A_SCRATCH], scratch);
    if (!st)
        st = dnnl_primitive_execute(c->primitive, lib.stream, N_ARGS, c->args);
    if (!st)
        st = dnnl_stream_wait(lib.stream);
    if (!st)
        conv_finish(&c->d, NULL, out, c->out_pixels);
    return st;
}

static int dnn_conv_run(const void *prep, const float *in, float *out, void *scratch, struct err *e)
{
    return check(execute(prep, in, out, scratch), "run a convolution", e);
}

static int dnn_conv_run_weight(const void *prep, const float *in, const float *weight,
                               const float *bias, float *out, void *scratch, struct err *e)
{
    struct dnn_conv *c = (struct dnn_conv *)prep;
    const float *b = bias ? bias : c->zeros;
    if (check(dnnl_memory_set_data_handle(c->mem[A_BIAS], (void *)b), "set a bias", e) ||
        check(pack_weight(c, weight, scratch), "pack a weight", e))
        return -1;
    return check(execute(c, in, out, (char *)scratch + c->packed_bytes), "run a convolution", e);
}

static int dnn_gemm(const struct gemm_desc *d, const float *a, const float *b, float *c,
                    struct err *e)
{
    if (dnn_ready(e))
        return -1;
    if (!d->m || !d->n)
        return 0;
    return check(dnnl_sgemm(d->a_transposed ? 'T' : 'N', d->b_transposed ? 'T' : 'N', d->m, d->n,
                            d->k, d->alpha, a, d->a_transposed ? d->m : d->k, b,
                            d->b_transposed ? d->k : d->n, d->beta, c, d->n),
                 "multiply matrices", e);
}

const struct backend backend_dnn = {
    .name = "onednn",
    .version = dnn_version,
    .conv_prepare = dnn_conv_prepare,
    .conv_run = dnn_conv_run,
    .conv_run_weight = dnn_conv_run_weight,
    .gemm = dnn_gemm,
    .release = dnn_release,
};
