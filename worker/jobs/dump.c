#include "worker/jobs/dump.h"

#include <stdio.h>

#include "worker/load/npy.h"
#include "worker/load/tar.h"

#define ROOT "calibration_data"

static int digits_for(int n)
{
    int digits = 2;
    for (int most = 100; n > most; most *= 10)
        digits++;
    return digits;
}

static int write_entry(FILE *f, const char *name, const struct tensor *t, struct err *e)
{
    static const char zeros[2 * TAR_BLOCK];
    char block[TAR_BLOCK];
    struct buf header;
    buf_init(&header, NPY_HEADER_MAX);
    int rc = npy_put_header(&header, t, e);
    size_t bytes = tensor_bytes(t), size = header.len + bytes;
    rc = rc || tar_put_header(block, name, size, e);
    if (!rc) { /* ferror is looked at when all is written */
        fwrite(block, 1, sizeof block, f);
        fwrite(header.data, 1, header.len, f);
        if (bytes)
            fwrite(t->data, 1, bytes, f);
        fwrite(zeros, 1, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK, f);
    }
    buf_done(&header);
    return rc;
}

static int write_all(FILE *f, const struct dataset *d, int n_samples, struct err *e)
{
    static const char end[2 * TAR_BLOCK];
    struct arena a = ARENA_INIT;
    int rc = 0, digits = digits_for(n_samples);
    for (int k = 0; k < d->n_inputs && !rc; k++)
        for (int i = 0; i < n_samples && !rc; i++) {
            struct tensor t;
            dataset_sample(d, i, k, &t);
            rc = write_entry(f,
                             arena_printf(&a, ROOT "/%s/%0*d.npy",
                                          dataset_encode(&a, d->inputs[k].name), digits, i),
                             &t, e);
        }
    arena_done(&a);
    fwrite(end, 1, sizeof end, f);
    return rc;
}

int dump_calibration_data(const struct dataset *d, int n_samples, const char *path, struct err *e)
{
    FILE *f = fopen(path, "wbe");
    if (!f)
        return err_errno(e, path, "The calibration data cannot be written");
    int rc = write_all(f, d, n_samples, e), failed = ferror(f);
    if (fclose(f) || failed)
        return rc ? rc : err_errno(e, path, "The calibration data cannot be written");
    return rc;
}
