/* What geometry feeds to samplers and frames: AffineGrid, CenterCropPad, MelWeightMatrix. */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

struct grid_attr {
    int64_t align_corners, output_datatype;
    struct ints axes;
};

static void put(struct tensor *t, int64_t i, double v)
{
    row_storer(t->type)(1, &v, (char *)t->data + (size_t)i * dtype_size(t->type), 1);
}

/* ---- AffineGrid: theta[N,d,d+1] over a grid of [-1,1]^d; coordinates x first ---- */

/* The spatial dims of the size; their number. */
static int grid_size(const struct op_ctx *c, int64_t *ret, int *ret_n, struct err *e)
{
    const struct tensor *theta = c->in[0];
    int64_t size[5];
    int n, rc = op_input_ints(c, 1, NULL, size, 5, &n, e);
    if (rc)
        return rc;
    if (n < 4 || theta->rank != 3 || theta->dims[1] != n - 2 || theta->dims[2] != n - 1 ||
        theta->dims[0] != size[0])
        return op_bad(c, 0, e, "it does not fit a size of %d numbers", n);
    *ret_n = n - 2;
    for (int d = 0; d < n - 2; d++) {
        ret[d] = size[2 + d];
        if (ret[d] < 1)
            return op_bad(c, 1, e, "a grid of %lld places makes no sense", (long long)ret[d]);
    }
    return 0;
}

static int affine_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[5];
    int n;
    if (op_need(c, 2, e) || op_takes_float(c, 0, e))
        return -1;
    int rc = grid_size(c, dims + 1, &n, e);
    if (rc)
        return rc;
    dims[0] = c->in[0]->dims[0];
    dims[n + 1] = n;
    return op_out(c, 0, c->in[0]->type, n + 2, dims, e);
}

/* Place i of n in [-1, 1]: on the corners, or in the middles of n equal parts. */
static double coordinate(int64_t i, int64_t n, bool on_corners)
{
    if (on_corners)
        return n > 1 ? -1 + 2 * (double)i / (double)(n - 1) : -1;
    return (2 * (double)i + 1) / (double)n - 1;
}

static int affine_run(const struct op_ctx *c, struct err *e)
{
    const struct grid_attr *a = c->attr;
    int64_t size[3];
    int n;
    if (grid_size(c, size, &n, e))
        return -1;
    int64_t places = dims_product(size, 0, n);
    for (int64_t i = 0; i < c->in[0]->dims[0] * places; i++) {
        double at[4]; /* x, y, z, 1 */
        int64_t rest = i % places, first = i / places * n * (n + 1);
        for (int d = n - 1; d >= 0; rest /= size[d--])
            at[n - 1 - d] = coordinate(rest % size[d], size[d], a->align_corners != 0);
        at[n] = 1;
        for (int k = 0; k < n; k++) {
            double sum = 0;
            for (int j = 0; j <= n; j++)
                sum += tensor_num(c->in[0], first + k * (n + 1) + j) * at[j];
            put(c->out[0], i * n + k, sum);
        }
    }
    return 0;
}

/* ---- CenterCropPad ---- */

static int crop_dims(const struct op_ctx *c, int64_t *dims, struct err *e)
{
    const struct grid_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t wanted[TENSOR_RANK_MAX];
    int axes[TENSOR_RANK_MAX], n_axes, n;
    int rc = op_input_axes(c, c->n_in, &a->axes, x->rank, axes, &n_axes, e);
    rc = rc ? rc : op_input_ints(c, 1, NULL, wanted, TENSOR_RANK_MAX, &n, e);
    if (rc)
        return rc;
    if (n != (n_axes < 0 ? x->rank : n_axes))
        return op_bad(c, 1, e, "there must be one number an axis");
    memcpy(dims, x->dims, sizeof x->dims);
    for (int k = 0; k < n; k++)
        dims[n_axes < 0 ? k : axes[k]] = wanted[k];
    return 0;
}

static int crop_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[TENSOR_RANK_MAX];
    if (op_need(c, 2, e))
        return -1;
    int rc = crop_dims(c, dims, e);
    return rc ? rc : op_out(c, 0, c->in[0]->type, c->in[0]->rank, dims, e);
}

/* The box that both have is in the middle of each; an odd element is left at the end. */
static int crop_run(const struct op_ctx *c, struct err *e)
{
    (void)e;
    const struct tensor *x = c->in[0];
    struct tensor *y = c->out[0];
    int64_t in[TENSOR_RANK_MAX], out[TENSOR_RANK_MAX], box[TENSOR_RANK_MAX], from = 0, to = 0;
    int64_t size = (int64_t)dtype_size(x->type);
    tensor_strides(x, in);
    tensor_strides(y, out);
    for (int d = 0; d < x->rank; d++) {
        int64_t more = y->dims[d] - x->dims[d];
        box[d] = more < 0 ? y->dims[d] : x->dims[d];
        from += more < 0 ? -more / 2 * in[d] : 0;
        to += more > 0 ? more / 2 * out[d] : 0;
    }
    memset(y->data, 0, tensor_bytes(y));
    if (dims_product(box, 0, x->rank) > 0)
        walk_copy(x->rank, box, (size_t)size, (const char *)x->data + from * size, in,
                  (char *)y->data + to * size, out);
    return 0;
}

/* ---- MelWeightMatrix: triangles over the bins of a spectrum ---- */

struct mel {
    int64_t bins, points, rate;
    double low, high; /* mel */
};

static int mel_of(const struct op_ctx *c, struct mel *m, struct err *e)
{
    int rc = op_input_int(c, 0, &m->bins, e);
    rc = rc ? rc : op_input_int(c, 1, &m->points, e);
    rc = rc ? rc : op_input_int(c, 2, &m->rate, e);
    for (int i = 3; rc == 0 && i < 5; i++) {
        if (op_takes_float(c, i, e) || tensor_count(c->in[i]) != 1)
            return op_bad(c, i, e, "it must be one float");
        rc = c->in[i]->data ? 0 : SHAPE_WAITS;
    }
    if (rc)
        return rc;
    m->low = 2595 * log10(1 + tensor_num(c->in[3], 0) / 700);
    m->high = 2595 * log10(1 + tensor_num(c->in[4], 0) / 700);
    if (m->bins < 0 || m->points < 0 || m->rate < 1 || m->bins > INT32_MAX ||
        m->points > INT32_MAX || !isfinite(m->low) || !isfinite(m->high))
        return op_bad(c, 0, e, "these bins, points, rate and edges make no sense");
    return 0;
}

static int mel_shape(struct op_ctx *c, struct err *e)
{
    const struct grid_attr *a = c->attr;
    struct mel m;
    if (op_need(c, 5, e))
        return -1;
    int rc = mel_of(c, &m, e);
    if (rc)
        return rc;
    if (a->output_datatype <= 0 || a->output_datatype >= DT_COUNT ||
        !row_storer((enum dtype)a->output_datatype))
        return err_set(e, ERR_UNSUPPORTED, NULL, "Element type %lld is not computed here.",
                       (long long)a->output_datatype);
    return op_out(c, 0, (enum dtype)a->output_datatype, 2, (int64_t[]){m.points / 2 + 1, m.bins},
                  e);
}

/* The spectrum's bin where mel bin k begins. */
static double mel_edge(const struct mel *m, int64_t k)
{
    double mel = m->low + (double)k * ((m->high - m->low) / (double)(m->bins + 2));
    double hertz = 700 * (pow(10, mel / 2595) - 1);
    return floor((double)(m->points + 1) * hertz / (double)m->rate);
}

/* Column k: up to 1 from edge k to edge k+1, down to 0 at edge k+2. */
static void triangle(struct tensor *y, int64_t k, int64_t left, int64_t middle, int64_t right)
{
    int64_t cols = y->dims[1];
    if (left == middle)
        put(y, middle * cols + k, 1);
    for (int64_t j = left; left != middle && j <= middle; j++)
        put(y, j * cols + k, (double)(j - left) / (double)(middle - left));
    for (int64_t j = middle; j < right; j++)
        put(y, j * cols + k, (double)(right - j) / (double)(right - middle));
}

static int mel_run(const struct op_ctx *c, struct err *e)
{
    struct tensor *y = c->out[0];
    struct mel m;
    if (mel_of(c, &m, e))
        return -1;
    memset(y->data, 0, tensor_bytes(y));
    for (int64_t k = 0; k < m.bins; k++) {
        double edge[3];
        for (int i = 0; i < 3; i++)
            edge[i] = mel_edge(&m, k + i);
        if (!(edge[0] >= 0 && edge[0] <= edge[1] && edge[1] < (double)y->dims[0] &&
              edge[1] <= edge[2] && edge[2] <= (double)y->dims[0]))
            return op_bad(c, 4, e, "mel bin %lld lies outside the spectrum", (long long)k);
        triangle(y, k, (int64_t)edge[0], (int64_t)edge[1], (int64_t)edge[2]);
    }
    return 0;
}

static const struct attr_def affine_attrs[] = {ATTR(INT, grid_attr, align_corners), {0}};
static const struct attr_def crop_attrs[] = {ATTR(INTS, grid_attr, axes), {0}};
static const struct attr_def mel_attrs[] = {ATTR(INT, grid_attr, output_datatype, .number = 1),
                                            {0}};
#define ROW(name, stem, from, n, ...)                                                              \
    {                                                                                              \
        name, ONNX, .since = from, .min_in = n, .max_in = n, .attrs = stem##_attrs,                \
                    .attr_size = sizeof(struct grid_attr), .shape = stem##_shape,                  \
                    .run = stem##_run, __VA_ARGS__                                                 \
    }

const struct op ops_grid[] = {
    ROW("AffineGrid", affine, 20, 2, .note = "2 or 3 spatial dims", .types = TYPES_FLOAT),
    ROW("CenterCropPad", crop, 18, 2, .layout = L_ANY, .types = TYPES_ALL),
    ROW("MelWeightMatrix", mel, 17, 5, .layout = L_PLAIN, .types = TYPES_INT),
    {0}};
