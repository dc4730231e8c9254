/* Data sets that come as tar, zip, npz or npy. */
#include "worker/load/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/unit/dataset_kit.h"
#include "worker/load/npy.h"
#include "worker/load/tar.h"

#define QUOTA ((uint64_t)64 << 20)

/* ---- archives ---- */

struct tarball {
    struct buf b;
};

/* Adds an entry, its type byte and link as told, with the header's sum made right again. */
static void tar_add(struct tarball *t, const char *name, char type, const char *link,
                    const void *data, size_t len)
{
    char block[TAR_BLOCK];
    struct err e = ERR_INIT;
    CHECK_OK(tar_put_header(block, name, len, &e), e);
    block[156] = type;
    if (link)
        memcpy(block + 157, link, strlen(link));
    memset(block + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++)
        sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum);
    buf_add(&t->b, block, TAR_BLOCK);
    buf_add(&t->b, data, len);
    static const char zeros[TAR_BLOCK];
    buf_add(&t->b, zeros, -len % TAR_BLOCK);
}

static void tar_sample(struct tarball *t, const char *name, float x)
{
    struct buf b;
    kit_array(&b, DT_F32, x, 1);
    tar_add(t, name, '0', NULL, b.data, b.len);
    buf_done(&b);
}

static const char *tar_close(struct tarball *t, const char *file)
{
    static const char zeros[2 * TAR_BLOCK];
    buf_add(&t->b, zeros, sizeof zeros);
    const char *path = test_path("%s", file);
    test_write(path, t->b.data, t->b.len);
    buf_done(&t->b);
    return path;
}

static void tar_open(struct tarball *t)
{
    buf_init(&t->b, 8 << 20);
}

static int normalize(const char *path, struct err *e)
{
    return dataset_normalize(path, test_dir(), QUOTA, test_path("out.tar"), NULL, NULL, e);
}

static void expect_refused(const char *path, const char *at, const char *word)
{
    struct err e = ERR_INIT;
    if (!normalize(path, &e))
        FAIL("%s was read", path);
    CHECK_INT(e.code, ERR_BAD_DATA);
    if (!strstr(e.at, at) || !strstr(e.detail, word))
        FAIL("\"%s\" (at \"%s\") does not say \"%s\" at \"%s\"", e.detail, e.at, word, at);
    CHECK(access(test_path("out.tar"), F_OK) != 0);
}

/* Normalizes and opens. */
static struct dataset *reopen(const char *path, const struct graph *g)
{
    struct dataset *d;
    struct err e = ERR_INIT;
    CHECK_OK(normalize(path, &e), e);
    CHECK_OK(dataset_open(test_path("out.tar"), g, &d, &e), e);
    return d;
}

void test_dataset__a_tar_in_any_order_becomes_the_folder_it_was_made_of(void)
{
    kit_folder("in:0", 3);
    kit_put_labels(test_path("data/labels.npy"), 3);
    struct tarball t;
    tar_open(&t);
    tar_add(&t, "./", '5', NULL, "", 0);
    tar_sample(&t, "./in:0/2.npy", 2);
    tar_sample(&t, "./in:0/0.npy", 0);
    size_t len;
    char *labels = test_read(test_path("data/labels.npy"), &len);
    tar_add(&t, "./labels.npy", '0', NULL, labels, len);
    tar_add(&t, "./._junk", '0', NULL, "junk", 4);
    tar_sample(&t, "./in:0/1.npy", 1);
    struct dataset *d = reopen(tar_close(&t, "a.tar"), kit_graph("in:0", NULL));
    CHECK_INT(d->n_samples, 3);
    CHECK(d->labels != NULL);
    struct tensor x;
    dataset_sample(d, 2, 0, &x);
    CHECK_NEAR(((float *)x.data)[0], 2, 0);
    CHECK_INT((intptr_t)x.data % 64, 0);
    CHECK(dataset_is_open_form(test_path("out.tar")));
    dataset_free(d);
}

void test_dataset__normalizing_twice_gives_the_same_bytes(void)
{
    struct tarball t;
    tar_open(&t);
    tar_sample(&t, "calibration_data/a:0/x.npy", 1);
    tar_sample(&t, "calibration_data/b/x.npy", 2);
    struct err e = ERR_INIT;
    CHECK_OK(normalize(tar_close(&t, "a.tar"), &e), e);
    size_t n1, n2;
    char *one = test_read(test_path("out.tar"), &n1);
    rename(test_path("out.tar"), test_path("b.tar"));
    CHECK_OK(normalize(test_path("b.tar"), &e), e);
    char *two = test_read(test_path("out.tar"), &n2);
    CHECK_INT(n1, n2);
    CHECK_MEM(one, two, n1);
    struct arena a = ARENA_INIT;
    const char *const *names;
    CHECK_OK(dataset_normalize(test_path("a.tar"), test_dir(), QUOTA, test_path("out.tar"), &a,
                               &names, &e),
             e);
    CHECK_STR(names[0], "x");
    arena_done(&a);
    struct dataset *d;
    CHECK_OK(dataset_open(test_path("out.tar"), kit_graph("a:0", "b"), &d, &e), e);
    dataset_free(d);
}

void test_dataset__an_input_without_a_name_stays_so(void)
{
    kit_put_sample(test_path("s.npy"), 1, 2);
    struct err e = ERR_INIT;
    CHECK_OK(normalize(test_path("s.npy"), &e), e);
    rename(test_path("out.tar"), test_path("b.tar"));
    struct dataset *d = reopen(test_path("b.tar"), NULL);
    CHECK_STR(d->inputs[0].name, "");
    dataset_free(d);
}

void test_dataset__a_gzipped_tar_and_a_bare_npy_are_read(void)
{
    kit_folder("x", 2);
    char *cmd = NULL;
    CHECK(asprintf(&cmd, "cd '%s' && tar czf a.tgz data", test_dir()) > 0);
    CHECK_INT(system(cmd), 0);
    free(cmd);
    struct dataset *d = reopen(test_path("a.tgz"), kit_graph("x", NULL));
    CHECK_INT(d->n_samples, 2);
    dataset_free(d);
    d = reopen(test_path("data/x/1.npy"), kit_graph("x", NULL));
    CHECK_INT(d->n_samples, 1);
    dataset_free(d);
}

void test_dataset__paths_that_climb_are_refused(void)
{
    static const char *const paths[] = {"../x/0.npy", "x/../../0.npy", "/etc/0.npy", "a/b/c/0.npy"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct tarball t;
        tar_open(&t);
        tar_sample(&t, paths[i], 1);
        expect_refused(tar_close(&t, "a.tar"), paths[i], "path");
    }
}

void test_dataset__links_and_devices_are_refused(void)
{
    static const char types[] = "123467";
    for (const char *type = types; *type; type++) {
        struct tarball t;
        tar_open(&t);
        tar_sample(&t, "x/0.npy", 1);
        tar_add(&t, "x/1.npy", *type, *type < '3' ? "/etc/passwd" : NULL, "", 0);
        if (*type == '7') /* contiguous: an old word for a regular file, but an empty one */
            expect_refused(tar_close(&t, "a.tar"), "x/1.npy", "npy");
        else
            expect_refused(tar_close(&t, "a.tar"), "x/1.npy", "links");
    }
}

void test_dataset__archives_in_archives_are_refused(void)
{
    struct tarball t;
    tar_open(&t);
    tar_add(&t, "x/0.npz", '0', NULL, "PK\3\4", 4);
    expect_refused(tar_close(&t, "a.tar"), "x/0.npz", "archives in the archive");
    tar_open(&t);
    tar_add(&t, "x/0.npy", '0', NULL, "PK\3\4aaaaaaaaaaaa", 16);
    expect_refused(tar_close(&t, "a.tar"), "x/0.npy", "not an npy file");
}

void test_dataset__bombs_are_refused_by_their_ratio(void)
{
    char *cmd = NULL;
    CHECK(asprintf(&cmd,
                   "cd '%s' && mkdir x && { printf '\\223NUMPY\\1\\0v\\0%%-117s\\n' \"{'descr': "
                   "'|u1', 'fortran_order': False, 'shape': (33554432,), }\"; head -c 33554432 "
                   "/dev/zero; } > x/0.npy && tar czf bomb.tgz x && rm -r x",
                   test_dir()) > 0);
    CHECK_INT(system(cmd), 0);
    free(cmd);
    expect_refused(test_path("bomb.tgz"), "x/0.npy", "more than 200 times");
}

void test_dataset__more_bytes_than_allowed_are_refused(void)
{
    struct tarball t;
    tar_open(&t);
    tar_sample(&t, "x/0.npy", 1);
    tar_sample(&t, "x/1.npy", 1);
    struct err e = ERR_INIT;
    CHECK(dataset_normalize(tar_close(&t, "a.tar"), test_dir(), 200, test_path("out.tar"), NULL,
                            NULL, &e));
    CHECK_STR(e.at, "x/1.npy");
}

void test_dataset__too_many_entries_are_refused(void)
{
    struct tarball t;
    buf_init(&t.b, 64 << 20);
    for (int i = 0; i <= 2 * DATASET_FILES_MAX; i++) {
        char name[64];
        snprintf(name, sizeof name, "x/.%d", i);
        tar_add(&t, name, '0', NULL, "", 0);
    }
    expect_refused(tar_close(&t, "a.tar"), "x/.", "too many entries");
}

void test_dataset__the_same_entry_twice_is_refused(void)
{
    struct tarball t;
    tar_open(&t);
    tar_sample(&t, "x/0.npy", 1);
    tar_sample(&t, "./x/0.npy", 2);
    expect_refused(tar_close(&t, "a.tar"), "x/0.npy", "twice");
}

void test_dataset__an_archive_that_makes_no_data_set_is_refused_by_its_own_names(void)
{
    struct tarball t;
    tar_open(&t);
    tar_sample(&t, "data/x/a.npy", 1);
    tar_sample(&t, "data/x/b.npy", 1);
    tar_sample(&t, "data/y/a.npy", 1);
    expect_refused(tar_close(&t, "a.tar"), "y", "same number of files");
    struct buf b;
    kit_array(&b, DT_F64, 1, 2);
    tar_open(&t);
    tar_sample(&t, "data/x/a.npy", 1);
    tar_add(&t, "data/x/b.npy", '0', NULL, b.data, b.len);
    expect_refused(tar_close(&t, "a.tar"), "data/x/b.npy", "float64");
    tar_open(&t);
    tar_sample(&t, "x/a.npy", 1);
    tar_add(&t, "labels.npy", '0', NULL, b.data, b.len);
    expect_refused(tar_close(&t, "a.tar"), "labels.npy", "integers");
    buf_done(&b);
}

void test_dataset__cut_archives_never_crash(void)
{
    struct tarball t;
    tar_open(&t);
    tar_sample(&t, "x/0.npy", 1);
    tar_sample(&t, "x/1.npy", 2);
    const char *path = tar_close(&t, "a.tar");
    size_t len;
    char *whole = test_read(path, &len);
    int refused = 0;
    for (size_t cut = 0; cut < len - 2 * TAR_BLOCK; cut += 37) {
        struct err e = ERR_INIT;
        test_write(test_path("cut.tar"), whole, cut);
        if (normalize(test_path("cut.tar"), &e)) {
            CHECK_INT(e.code, ERR_BAD_DATA);
            refused++;
        }
    }
    CHECK(refused > 30);
}

void test_dataset__unknown_bytes_are_refused_with_what_is_read(void)
{
    test_write(test_path("a.bin"), "hello, this is a text", 21);
    expect_refused(test_path("a.bin"), "", "neither a tar");
}

/* ---- zip and npz, written by hand: stored entries ---- */

static uint32_t crc32_of(const unsigned char *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
    }
    return ~c;
}

struct zipball {
    struct buf b, central;
    int n;
};

static void put_le(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        char c = i < 8 ? (char)(v >> (8 * i)) : 0;
        buf_add(b, &c, 1);
    }
}

/* lie: what the headers add to the true size. */
static void zip_add(struct zipball *z, const char *name, const void *data, size_t len, size_t lie)
{
    size_t at = z->b.len;
    uint32_t crc = crc32_of(data, len);
    for (int central = 0; central < 2; central++) {
        struct buf *b = central ? &z->central : &z->b;
        put_le(b, central ? 0x02014b50 : 0x04034b50, 4);
        put_le(b, 20, central ? 4 : 2);
        put_le(b, 0, 2 + 2 + 4); /* flags, stored, time */
        put_le(b, crc, 4);
        put_le(b, len + lie, 4);
        put_le(b, len + lie, 4);
        put_le(b, strlen(name), 2);
        put_le(b, 0, central ? 2 + 2 + 2 + 2 + 4 : 2);
        if (central)
            put_le(b, at, 4);
        buf_adds(b, name);
    }
    buf_add(&z->b, data, len);
    z->n++;
}

static const char *zip_close(struct zipball *z, const char *file)
{
    size_t at = z->b.len;
    buf_add(&z->b, z->central.data, z->central.len);
    put_le(&z->b, 0x06054b50, 4);
    put_le(&z->b, 0, 4);
    put_le(&z->b, (uint64_t)z->n, 2);
    put_le(&z->b, (uint64_t)z->n, 2);
    put_le(&z->b, z->central.len, 4);
    put_le(&z->b, at, 4);
    put_le(&z->b, 0, 2);
    const char *path = test_path("%s", file);
    test_write(path, z->b.data, z->b.len);
    buf_done(&z->b);
    buf_done(&z->central);
    return path;
}

static void zip_sample(struct zipball *z, const char *name, float x, size_t lie)
{
    struct buf b;
    kit_array(&b, DT_F32, x, 1);
    zip_add(z, name, b.data, b.len, lie);
    buf_done(&b);
}

static void zip_open(struct zipball *z)
{
    z->n = 0;
    buf_init(&z->b, 1 << 20);
    buf_init(&z->central, 1 << 20);
}

void test_dataset__the_arrays_of_an_npz_are_inputs(void)
{
    struct zipball z;
    zip_open(&z);
    zip_sample(&z, "y.npy", 7, 0);
    zip_sample(&z, "x.npy", 8, 0);
    struct dataset *d = reopen(zip_close(&z, "a.npz"), kit_graph("x", "y"));
    struct tensor t;
    dataset_sample(d, 0, 1, &t);
    CHECK_NEAR(((float *)t.data)[0], 7, 0);
    dataset_free(d);
}

void test_dataset__a_zip_of_folders_is_read(void)
{
    struct zipball z;
    zip_open(&z);
    zip_sample(&z, "data/x/1.npy", 1, 0);
    zip_sample(&z, "data/x/0.npy", 0, 0);
    zip_add(&z, "__MACOSX/data/x/._0.npy", "junk", 4, 0);
    struct dataset *d = reopen(zip_close(&z, "a.zip"), kit_graph("x", NULL));
    CHECK_INT(d->n_samples, 2);
    dataset_free(d);
}

void test_dataset__a_zip_that_lies_about_sizes_is_refused(void)
{
    struct zipball z;
    zip_open(&z);
    zip_sample(&z, "x/0.npy", 1, 5000);
    expect_refused(zip_close(&z, "a.zip"), "x/0.npy", "");
}
