#include "worker/ops/walk.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the walk ---- */

void walk_init(struct walk *w, int rank, const int64_t *dims)
{
    w->n = 0;
    w->rank = rank;
    memcpy(w->dims, dims, (size_t)rank * sizeof *dims);
}

void walk_add(struct walk *w, const void *data, size_t size, const int64_t *strides)
{
    w->data[w->n] = (char *)data;
    w->size[w->n] = size;
    memcpy(w->stride[w->n], strides, (size_t)w->rank * sizeof *strides);
    w->n++;
}

void walk_add_tensor(struct walk *w, const struct tensor *t)
{
    int64_t own[TENSOR_RANK_MAX], s[WALK_RANK_MAX] = {0};
    tensor_strides(t, own);
    int lead = w->rank - t->rank;
    for (int d = 0; d < t->rank; d++)
        s[lead + d] = t->dims[d] == 1 ? 0 : own[d];
    walk_add(w, t->data, dtype_size(t->type), s);
}

static int64_t magnitude(int64_t v)
{
    return v < 0 ? -v : v;
}

static void swap_dims(struct walk *w, int a, int b)
{
    int64_t t = w->dims[a];
    w->dims[a] = w->dims[b];
    w->dims[b] = t;
    for (int k = 0; k < w->n; k++) {
        t = w->stride[k][a];
        w->stride[k][a] = w->stride[k][b];
        w->stride[k][b] = t;
    }
}

/* Does dim a belong outside dim b? Asked of the last tensor first; broadcast strides abstain. */
static bool lies_outside(const struct walk *w, int a, int b)
{
    for (int k = w->n - 1; k >= 0; k--) {
        int64_t sa = magnitude(w->stride[k][a]), sb = magnitude(w->stride[k][b]);
        if (sa && sb && sa != sb)
            return sa > sb;
    }
    return a < b;
}

static bool merges(const struct walk *w, int outer, int inner)
{
    for (int k = 0; k < w->n; k++)
        if (w->stride[k][outer] != w->stride[k][inner] * w->dims[inner])
            return false;
    return true;
}

static void drop_dim(struct walk *w, int d)
{
    for (int i = d; i + 1 < w->rank; i++)
        swap_dims(w, i, i + 1);
    w->rank--;
}

/* Ones dropped, dims ordered by the output's strides, neighbours merged; at least one dim left. */
static void walk_merge(struct walk *w)
{
    for (int d = w->rank - 1; d >= 0; d--)
        if (w->dims[d] == 1)
            drop_dim(w, d);
    for (int i = 1; i < w->rank; i++)
        for (int j = i; j > 0 && lies_outside(w, j, j - 1); j--)
            swap_dims(w, j, j - 1);
    for (int d = w->rank - 2; d >= 0; d--) {
        if (!merges(w, d, d + 1))
            continue;
        w->dims[d + 1] *= w->dims[d];
        drop_dim(w, d);
    }
    if (w->rank == 0) {
        w->rank = 1;
        w->dims[0] = 1;
        for (int k = 0; k < w->n; k++)
            w->stride[k][0] = 0;
    }
}

/* Steps all but the `inner` last dims; false when they are done. */
static bool next_outer(const struct walk *w, int inner, int64_t *at, char **p)
{
    for (int d = w->rank - 1 - inner; d >= 0; d--) {
        bool wraps = ++at[d] == w->dims[d];
        int64_t step = wraps ? -(w->dims[d] - 1) : 1;
        for (int k = 0; k < w->n; k++)
            p[k] += step * w->stride[k][d] * (int64_t)w->size[k];
        if (!wraps)
            return true;
        at[d] = 0;
    }
    return false;
}

static bool is_empty(int rank, const int64_t *dims)
{
    for (int d = 0; d < rank; d++)
        if (dims[d] == 0)
            return true;
    return false;
}

static void run_rows(const struct walk *w, walk_row *row, void *arg)
{
    int64_t at[WALK_RANK_MAX] = {0}, s[WALK_TENSORS];
    char *p[WALK_TENSORS];
    for (int k = 0; k < w->n; k++) {
        p[k] = w->data[k];
        s[k] = w->stride[k][w->rank - 1];
    }
    do {
        row(w->dims[w->rank - 1], p, s, arg);
    } while (next_outer(w, 1, at, p));
}

void walk_run(struct walk *w, walk_row *row, void *arg)
{
    if (is_empty(w->rank, w->dims))
        return;
    walk_merge(w);
    run_rows(w, row, arg);
}

/* ---- copies ---- */

#define COPY_ROW(bits)                                                                             \
    static void copy_##bits(int64_t n, char *const *p, const int64_t *s, void *arg)                \
    {                                                                                              \
        (void)arg;                                                                                 \
        const uint##bits##_t *from = (const void *)p[0];                                           \
        uint##bits##_t *to = (void *)p[1];                                                         \
        int64_t a = s[0], b = s[1];                                                                \
        if (a == 1 && b == 1) {                                                                    \
            memcpy(to, from, (size_t)n * sizeof *to);                                              \
            return;                                                                                \
        }                                                                                          \
        if (b == 1 && a == 0) {                                                                    \
            uint##bits##_t v = *from;                                                              \
            for (int64_t i = 0; i < n; i++)                                                        \
                to[i] = v;                                                                         \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++)                                                            \
            to[i * b] = from[i * a];                                                               \
    }
COPY_ROW(8)
COPY_ROW(16)
COPY_ROW(32)
COPY_ROW(64)

static walk_row *copy_row(size_t size)
{
    return size == 1 ? copy_8 : size == 2 ? copy_16 : size == 4 ? copy_32 : copy_64;
}

/* A plane that lies transposed: read down, written along, tile by tile to stay in the cache. */
enum { TILE = 16 };
#define COPY_PLANE(bits)                                                                           \
    static void plane_##bits(const struct walk *w, char *const *p)                                 \
    {                                                                                              \
        const uint##bits##_t *from = (const void *)p[0];                                           \
        uint##bits##_t *to = (void *)p[1];                                                         \
        int64_t m = w->dims[w->rank - 2], n = w->dims[w->rank - 1];                                \
        int64_t down = w->stride[0][w->rank - 1], out = w->stride[1][w->rank - 2];                 \
        for (int64_t i0 = 0; i0 < m; i0 += TILE)                                                   \
            for (int64_t j0 = 0; j0 < n; j0 += TILE)                                               \
                for (int64_t i = i0; i < m && i < i0 + TILE; i++)                                  \
                    for (int64_t j = j0; j < n && j < j0 + TILE; j++)                              \
                        to[i * out + j] = from[i + j * down];                                      \
    }
COPY_PLANE(8)
COPY_PLANE(16)
COPY_PLANE(32)
COPY_PLANE(64)

/* Does a dim beside the innermost lie densest in the source? Then it is moved next to it. */
static bool is_transposed(struct walk *w)
{
    int last = w->rank - 1;
    if (last < 1 || w->stride[1][last] != 1 || w->stride[0][last] == 1 || w->dims[last] < 4)
        return false;
    for (int d = 0; d < last; d++) {
        if (w->stride[0][d] != 1 || w->dims[d] < 4)
            continue;
        for (int i = d; i < last - 1; i++)
            swap_dims(w, i, i + 1);
        return true;
    }
    return false;
}

static void copy_planes(struct walk *w)
{
    size_t size = w->size[0];
    int64_t at[WALK_RANK_MAX] = {0};
    char *p[2] = {w->data[0], w->data[1]};
    do {
        (size == 1 ? plane_8 : size == 2 ? plane_16 : size == 4 ? plane_32 : plane_64)(w, p);
    } while (next_outer(w, 2, at, p));
}

void walk_copy(int rank, const int64_t *dims, size_t size, const void *from,
               const int64_t *from_strides, void *to, const int64_t *to_strides)
{
    struct walk w;
    walk_init(&w, rank, dims);
    walk_add(&w, from, size, from_strides);
    walk_add(&w, to, size, to_strides);
    if (is_empty(rank, dims))
        return;
    walk_merge(&w);
    if (is_transposed(&w))
        copy_planes(&w);
    else
        run_rows(&w, copy_row(size), NULL);
}

void walk_fill(int rank, const int64_t *dims, size_t size, const void *element, void *to,
               const int64_t *strides)
{
    static const int64_t zero[WALK_RANK_MAX];
    walk_copy(rank, dims, size, element, zero, to, strides);
}

void walk_bytes(const struct tensor *in, struct tensor *out)
{
    if (out->data != in->data && tensor_count(out) > 0)
        memcpy(out->data, in->data, tensor_bytes(out));
}

/* ---- rows as double ---- */

int64_t double_to_int64(double v)
{
    if (!(v > -0x1p63))
        return v != v ? 0 : INT64_MIN;
    return v >= 0x1p63 ? INT64_MAX : (int64_t)v;
}

#define LOAD_ROW(dt, sfx, T)                                                                       \
    static void load_##sfx(int64_t n, const char *p, int64_t s, double *ret)                       \
    {                                                                                              \
        const T *v = (const void *)p;                                                              \
        for (int64_t i = 0; i < n; i++)                                                            \
            ret[i] = (double)v[i * s];                                                             \
    }
DTYPES_NUMBER(LOAD_ROW)
LOAD_ROW(DT_BOOL, bool, uint8_t)

#define STORE_FLOAT_ROW(dt, sfx, T)                                                                \
    static void store_##sfx(int64_t n, const double *v, char *p, int64_t s)                        \
    {                                                                                              \
        T *o = (void *)p;                                                                          \
        for (int64_t i = 0; i < n; i++)                                                            \
            o[i * s] = (T)v[i];                                                                    \
    }
DTYPES_FLOAT(STORE_FLOAT_ROW)

#define STORE_INT_ROW(lo, hi, sfx, T)                                                              \
    static void store_##sfx(int64_t n, const double *v, char *p, int64_t s)                        \
    {                                                                                              \
        T *o = (void *)p;                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            int64_t x = double_to_int64(v[i]);                                                     \
            o[i * s] = (T)(x < (lo) ? (lo) : x > (hi) ? (hi) : x);                                 \
        }                                                                                          \
    }
STORE_INT_ROW(INT8_MIN, INT8_MAX, i8, int8_t)
STORE_INT_ROW(INT16_MIN, INT16_MAX, i16, int16_t)
STORE_INT_ROW(INT32_MIN, INT32_MAX, i32, int32_t)
STORE_INT_ROW(INT64_MIN, INT64_MAX, i64, int64_t)
STORE_INT_ROW(0, UINT8_MAX, u8, uint8_t)
STORE_INT_ROW(0, UINT16_MAX, u16, uint16_t)
STORE_INT_ROW(0, (int64_t)UINT32_MAX, u32, uint32_t)

static void store_u64(int64_t n, const double *v, char *p, int64_t s)
{
    uint64_t *o = (void *)p;
    for (int64_t i = 0; i < n; i++)
        o[i * s] = !(v[i] > 0) ? 0 : v[i] >= 0x1p64 ? UINT64_MAX : (uint64_t)v[i];
}

static void store_bool(int64_t n, const double *v, char *p, int64_t s)
{
    for (int64_t i = 0; i < n; i++)
        p[i * s] = v[i] != 0;
}

row_load *row_loader(enum dtype t)
{
    static row_load *const rows[DT_COUNT] = {
#define X(dt, sfx, T) [dt] = load_##sfx,
        DTYPES_NUMBER(X)
#undef X
            [DT_BOOL] = load_bool};
    return rows[t];
}

row_store *row_storer(enum dtype t)
{
    static row_store *const rows[DT_COUNT] = {
#define X(dt, sfx, T) [dt] = store_##sfx,
        DTYPES_NUMBER(X)
#undef X
            [DT_BOOL] = store_bool};
    return rows[t];
}
