/* Boxes: NonMaxSuppression and RoiAlign. */
#include "worker/ops/walk.h"

#include <math.h>
#include <string.h>

/* ---- NonMaxSuppression ---- */

struct nms_attr {
    int64_t center_point_box;
};

struct nms {
    const float *boxes, *scores; /* of one batch; of one class */
    int64_t n, limit;
    float iou, threshold;
    bool by_threshold, center;
    int64_t *order; /* n: the candidates by score */
};

struct box {
    float y1, x1, y2, x2;
};

static struct box box_at(const struct nms *m, int64_t i)
{
    const float *b = m->boxes + 4 * i;
    if (m->center) /* x, y, width, height */
        return (struct box){b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2};
    return (struct box){fminf(b[0], b[2]), fminf(b[1], b[3]), fmaxf(b[0], b[2]), fmaxf(b[1], b[3])};
}

static bool overlap(const struct nms *m, int64_t i, int64_t j)
{
    struct box a = box_at(m, i), b = box_at(m, j);
    float h = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1), w = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1);
    if (!(h > 0) || !(w > 0))
        return false;
    float both = h * w;
    float all = (a.y2 - a.y1) * (a.x2 - a.x1) + (b.y2 - b.y1) * (b.x2 - b.x1) - both;
    return both / all > m->iou;
}

static bool scores_higher(const struct nms *m, int64_t a, int64_t b)
{
    return m->scores[a] > m->scores[b] || (!(m->scores[a] < m->scores[b]) && a < b);
}

static void sift(const struct nms *m, int64_t at, int64_t n)
{
    int64_t *h = m->order;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && scores_higher(m, h[child], h[child + 1]);
        if (!scores_higher(m, h[at], h[child]))
            return;
        int64_t t = h[at];
        h[at] = h[child];
        h[child] = t;
    }
}

/* Candidates above the threshold, highest first (a heap with the lowest at its root). */
static int64_t sort_candidates(const struct nms *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++)
        if (!m->by_threshold || m->scores[i] > m->threshold)
            m->order[n++] = i;
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift(m, i, n);
    for (int64_t k = n - 1; k > 0; k--) {
        int64_t t = m->order[0];
        m->order[0] = m->order[k];
        m->order[k] = t;
        sift(m, 0, k);
    }
    return n;
}

/* Chosen boxes come to stand at the front of the order. */
static int64_t suppress(const struct nms *m)
{
    int64_t n = sort_candidates(m), chosen = 0;
    for (int64_t i = 0; i < n && chosen < m->limit; i++) {
        bool keep = true;
        for (int64_t k = 0; keep && k < chosen; k++)
            keep = !overlap(m, m->order[i], m->order[k]);
        if (keep)
            m->order[chosen++] = m->order[i];
    }
    return chosen;
}

static int nms_scalar(const struct op_ctx *c, int i, double *ret, struct err *e)
{
    const struct tensor *t = i < c->n_in ? c->in[i] : NULL;
    if (!t || tensor_count(t) == 0)
        return 0;
    if (tensor_count(t) != 1)
        return op_bad(c, i, e, "it must be one number");
    if (!t->data)
        return SHAPE_WAITS;
    *ret = tensor_num(t, 0);
    return 0;
}

/* Chooses for all batches and classes; rows (batch, class, box) into `to` unless NULL. */
static int nms_all(const struct op_ctx *c, int64_t *order, int64_t *to, int64_t *ret_n,
                   struct err *e)
{
    const struct nms_attr *a = c->attr;
    const struct tensor *boxes = c->in[0], *scores = c->in[1];
    double limit = 0, iou = 0, threshold = 0;
    int rc;
    if ((rc = nms_scalar(c, 2, &limit, e)) || (rc = nms_scalar(c, 3, &iou, e)) ||
        (rc = nms_scalar(c, 4, &threshold, e)))
        return rc;
    struct nms m = {.n = boxes->dims[1],
                    .limit = double_to_int64(limit),
                    .iou = (float)iou,
                    .threshold = (float)threshold,
                    .center = a->center_point_box != 0,
                    .by_threshold = c->n_in > 4 && c->in[4],
                    .order = order};
    *ret_n = 0;
    for (int64_t g = 0; g < scores->dims[0] * scores->dims[1]; g++) {
        int64_t batch = g / scores->dims[1];
        m.boxes = (const float *)boxes->data + batch * m.n * 4;
        m.scores = (const float *)scores->data + g * m.n;
        int64_t n = suppress(&m);
        for (int64_t k = 0; to && k < n; k++)
            memcpy(to + 3 * (*ret_n + k), (int64_t[]){batch, g % scores->dims[1], order[k]},
                   3 * sizeof *to);
        *ret_n += n;
    }
    return 0;
}

static int nms_shape(struct op_ctx *c, struct err *e)
{
    int64_t dims[2] = {0, 3};
    if (op_need(c, 2, e))
        return -1;
    const struct tensor *boxes = c->in[0], *scores = c->in[1];
    if (boxes->type != DT_F32 || scores->type != DT_F32 || boxes->rank != 3 || scores->rank != 3 ||
        boxes->dims[2] != 4 || boxes->dims[0] != scores->dims[0] ||
        boxes->dims[1] != scores->dims[2])
        return op_bad(c, 0, e, "boxes are float32[batch,n,4] and scores float32[batch,classes,n]");
    if (tensor_count(scores) && (!boxes->data || !scores->data))
        return SHAPE_WAITS;
    int64_t *order = arena_try(c->arena, (size_t)boxes->dims[1] * sizeof *order + 1);
    if (!order)
        return err_set(e, ERR_MEMORY_LIMIT, NULL, "No memory for %lld boxes.",
                       (long long)boxes->dims[1]);
    int rc = nms_all(c, order, NULL, &dims[0], e);
    return rc ? rc : op_out(c, 0, DT_I64, 2, dims, e);
}

static int nms_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)
{
    (void)e;
    c->scratch_bytes = (size_t)c->in[0]->dims[1] * sizeof(int64_t);
    *ret_prep = NULL;
    return 0;
}

static int nms_run(const struct op_ctx *c, struct err *e)
{
    int64_t n;
    return nms_all(c, c->scratch, c->out[0]->data, &n, e);
}

/* ---- RoiAlign ---- */

struct roi_attr {
    const char *mode, *coordinate_transformation_mode;
    int64_t output_height, output_width, sampling_ratio;
    float spatial_scale;
};

static int roi_shape(struct op_ctx *c, struct err *e)
{
    const struct roi_attr *a = c->attr;
    if (op_need(c, 3, e) || op_takes_float(c, 0, e) || op_same_type(c, 0, 1, e))
        return -1;
    const struct tensor *x = c->in[0], *rois = c->in[1], *at = c->in[2];
    if (x->rank != 4 || rois->rank != 2 || rois->dims[1] != 4 || at->rank != 1 ||
        at->dims[0] != rois->dims[0] || at->type != DT_I64)
        return op_bad(c, 1, e, "regions are [n,4] with int64[n] batch indices over a rank 4 input");
    if ((strcmp(a->mode, "avg") && strcmp(a->mode, "max")) || a->output_height < 1 ||
        a->output_width < 1 || a->sampling_ratio < 0 || a->sampling_ratio > 1024)
        return err_set(e, ERR_BAD_MODEL, NULL, "RoiAlign's attributes do not make sense.");
    int64_t dims[4] = {rois->dims[0], x->dims[1], a->output_height, a->output_width};
    return op_out(c, 0, x->type, 4, dims, e);
}

struct roi {
    double y0, x0, bin_h, bin_w;
    int64_t grid_h, grid_w; /* samples a bin */
};

static void roi_of(const struct op_ctx *c, const double *box, struct roi *r)
{
    const struct roi_attr *a = c->attr;
    bool half_pixel =
        c->node->opset >= 16 && !strcmp(a->coordinate_transformation_mode, "half_pixel");
    double shift = half_pixel ? 0.5 : 0, scale = (double)a->spatial_scale;
    double w = (box[2] - box[0]) * scale, h = (box[3] - box[1]) * scale;
    r->x0 = box[0] * scale - shift;
    r->y0 = box[1] * scale - shift;
    w = half_pixel || w > 1 ? w : 1;
    h = half_pixel || h > 1 ? h : 1;
    r->bin_h = h / (double)a->output_height;
    r->bin_w = w / (double)a->output_width;
    r->grid_h = a->sampling_ratio ? a->sampling_ratio : double_to_int64(fmin(ceil(r->bin_h), 1e4));
    r->grid_w = a->sampling_ratio ? a->sampling_ratio : double_to_int64(fmin(ceil(r->bin_w), 1e4));
}

/* The four pixels around a place and their weights; none of them beyond the border by a pixel. */
static int roi_taps(double y, double x, int64_t h, int64_t w, int64_t at[4], double weight[4])
{
    if (!(y >= -1 && y <= (double)h && x >= -1 && x <= (double)w))
        return 0;
    y = fmax(y, 0);
    x = fmax(x, 0);
    int64_t y0 = (int64_t)y, x0 = (int64_t)x;
    y0 = y0 > h - 1 ? h - 1 : y0;
    x0 = x0 > w - 1 ? w - 1 : x0;
    int64_t y1 = y0 < h - 1 ? y0 + 1 : y0, x1 = x0 < w - 1 ? x0 + 1 : x0;
    double ly = y0 < h - 1 ? y - (double)y0 : 0, lx = x0 < w - 1 ? x - (double)x0 : 0;
    memcpy(at, (int64_t[]){y0 * w + x0, y0 * w + x1, y1 * w + x0, y1 * w + x1}, 4 * sizeof *at);
    memcpy(weight, (double[]){(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx},
           4 * sizeof *weight);
    return 4;
}

/* One bin of one channel. The maximum is over the weighted pixels, as the specification has it. */
static double roi_bin(const struct op_ctx *c, const struct roi *r, int64_t plane, int64_t ph,
                      int64_t pw)
{
    const struct roi_attr *a = c->attr;
    const struct tensor *x = c->in[0];
    int64_t h = x->dims[2], w = x->dims[3], at[4];
    double sum = 0, most = -INFINITY, weight[4], v;
    bool largest = !strcmp(a->mode, "max");
    for (int64_t iy = 0; iy < r->grid_h; iy++)
        for (int64_t ix = 0; ix < r->grid_w; ix++) {
            double y = r->y0 + ((double)ph + ((double)iy + 0.5) / (double)r->grid_h) * r->bin_h;
            double z = r->x0 + ((double)pw + ((double)ix + 0.5) / (double)r->grid_w) * r->bin_w;
            int n = roi_taps(y, z, h, w, at, weight);
            for (int k = 0; k < n; k++) {
                size_t pixel = (size_t)(plane * h * w + at[k]) * dtype_size(x->type);
                row_loader(x->type)(1, (const char *)x->data + pixel, 1, &v);
                sum += weight[k] * v;
                most = fmax(most, weight[k] * v);
            }
            most = n == 0 ? fmax(most, 0) : most;
        }
    int64_t count = r->grid_h * r->grid_w;
    if (largest)
        return count > 0 ? most : 0;
    return sum / (double)(count > 1 ? count : 1);
}

static int roi_run(const struct op_ctx *c, struct err *e)
{
    const struct tensor *x = c->in[0], *rois = c->in[1];
    struct tensor *y = c->out[0];
    size_t size = dtype_size(x->type);
    int64_t bins = y->dims[2] * y->dims[3], channels = x->dims[1];
    for (int64_t n = 0; n < rois->dims[0]; n++) {
        double box[4];
        struct roi r;
        int64_t batch = tensor_int(c->in[2], n);
        if (batch < 0 || batch >= x->dims[0])
            return op_bad(c, 2, e, "there is no batch %lld", (long long)batch);
        row_loader(rois->type)(4, (const char *)rois->data + (size_t)n * 4 * size, 1, box);
        roi_of(c, box, &r);
        for (int64_t i = 0; i < channels * bins; i++) {
            double v = x->dims[2] * x->dims[3] == 0
                           ? 0
                           : roi_bin(c, &r, batch * channels + i / bins, i % bins / y->dims[3],
                                     i % y->dims[3]);
            row_storer(y->type)(1, &v, (char *)y->data + (size_t)(n * channels * bins + i) * size,
                                1);
        }
    }
    return 0;
}

static const struct attr_def nms_attrs[] = {ATTR(INT, nms_attr, center_point_box), {0}};
static const struct attr_def roi_attrs[] = {
    ATTR(STRING, roi_attr, mode, .text = "avg"),
    ATTR(STRING, roi_attr, coordinate_transformation_mode, .text = "half_pixel"),
    ATTR(INT, roi_attr, output_height, .number = 1),
    ATTR(INT, roi_attr, output_width, .number = 1),
    ATTR(INT, roi_attr, sampling_ratio),
    ATTR(FLOAT, roi_attr, spatial_scale, .number = 1),
    {0}};

const struct op ops_vision[] = {
    {"NonMaxSuppression", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 2, .max_in = 5,
     .attrs = nms_attrs, .attr_size = sizeof(struct nms_attr), .shape = nms_shape,
     .prepare = nms_prepare, .run = nms_run, .types = TYPE(F32)},
    {"RoiAlign", ONNX, .since = 10, .traits = T_HEAVY, .min_in = 3, .max_in = 3, .attrs = roi_attrs,
     .attr_size = sizeof(struct roi_attr), .shape = roi_shape, .run = roi_run,
     .types = TYPES_FLOAT},
    {0}};
