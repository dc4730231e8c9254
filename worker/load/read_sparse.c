/* Sparse constants become dense ones: what computes knows no others. */
#include <string.h>

#include "worker/load/read.h"

enum { DENSE_MAX_BYTES = 1 << 30 };

struct sparse {
    struct tensor values, indices; /* [n]; [n] linear, or [n, rank] */
};

static int read_parts(struct reader *r, const Onnx__SparseTensorProto *p, const char *name,
                      struct sparse *s)
{
    const struct tensor *v = &s->values, *at = &s->indices;
    if (!p->values || !p->indices || read_tensor(r, p->values, name, &s->values) ||
        read_tensor(r, p->indices, name, &s->indices))
        return p->values && p->indices
                   ? -1
                   : err_set(r->e, ERR_BAD_MODEL, name, "The sparse tensor has no values.");
    bool fits = v->rank == 1 && at->type == DT_I64 && (at->rank == 1 || at->rank == 2) &&
                at->dims[0] == v->dims[0] && (at->rank == 1 || at->dims[1] == (int64_t)p->n_dims);
    return fits ? 0
                : err_set(r->e, ERR_BAD_MODEL, name,
                          "The sparse tensor's values and indices do not fit each other.");
}

/* The place of value i in the dense tensor, or -1. */
static int64_t place(const struct sparse *s, int64_t i, const struct tensor *dense)
{
    const int64_t *at = s->indices.data;
    int64_t n = 0;
    if (s->indices.rank == 1)
        return at[i] < tensor_count(dense) ? at[i] : -1;
    for (int d = 0; d < dense->rank; d++) {
        int64_t k = at[i * dense->rank + d];
        if (k < 0 || k >= dense->dims[d])
            return -1;
        n = n * dense->dims[d] + k;
    }
    return n;
}

int read_sparse(struct reader *r, const Onnx__SparseTensorProto *p, const char *name,
                struct tensor *ret)
{
    struct sparse s;
    if (read_parts(r, p, name, &s))
        return -1;
    if (tensor_set(ret, s.values.type, (int)p->n_dims, p->dims, r->e))
        return err_in(r->e, name);
    size_t size = dtype_size(ret->type), bytes = tensor_bytes(ret);
    r->dense_bytes += bytes;
    if (bytes > DENSE_MAX_BYTES || r->dense_bytes > DENSE_MAX_BYTES ||
        !(ret->data = arena_try(r->arena, bytes + 1)))
        return err_set(r->e, ERR_LIMIT, name, "The sparse tensor would be %zu dense bytes.", bytes);
    for (int64_t i = 0; i < s.values.dims[0]; i++) {
        int64_t to = place(&s, i, ret);
        if (to < 0)
            return err_set(r->e, ERR_BAD_MODEL, name, "Index %lld lies outside of the tensor.",
                           (long long)i);
        memcpy((char *)ret->data + (size_t)to * size,
               (const char *)s.values.data + (size_t)i * size, size);
    }
    return 0;
}
