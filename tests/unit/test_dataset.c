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

/* ---- folders ---- */

void test_dataset__a_folder_is_read_in_order_of_names(void)
{
    kit_folder("x", 11);
    kit_put_labels(test_path("data/labels.npy"), 11);
    struct dataset *d;
    struct err e = ERR_INIT;
    CHECK_OK(dataset_open(test_path("data"), kit_graph("x", NULL), &d, &e), e);
    CHECK_INT(d->n_inputs, 1);
    CHECK_INT(d->n_samples, 11);
    CHECK_STR(d->sample_names[2], "10");
    struct tensor t;
    dataset_sample(d, 2, 0, &t);
    CHECK_NEAR(((float *)t.data)[0], 10, 0);
    CHECK(d->inputs[0].uniform);
    /* Samples as the names sort, labels by number: each sample holds its own label. */
    for (int i = 0; i < 11; i++) {
        dataset_sample(d, i, 0, &t);
        CHECK_INT(tensor_int(d->labels, i), (int)((float *)t.data)[0]);
    }
    dataset_free(d);
}

void test_dataset__labels_stay_with_their_samples_in_an_archive(void)
{
    kit_folder("x", 12);
    kit_put_labels(test_path("data/calibration_labels.npy"), 12);
    char *cmd = NULL;
    CHECK(asprintf(&cmd, "cd '%s' && tar czf a.tgz data", test_dir()) > 0);
    CHECK_INT(system(cmd), 0);
    free(cmd);
    struct dataset *d, *folder;
    struct err e = ERR_INIT;
    struct digest a, b;
    CHECK_OK(dataset_normalize(test_path("a.tgz"), test_dir(), QUOTA, test_path("out.tar"), NULL,
                               NULL, &e),
             e);
    CHECK_OK(dataset_open(test_path("out.tar"), NULL, &d, &e), e);
    for (int i = 0; i < 12; i++) {
        struct tensor t;
        dataset_sample(d, i, 0, &t);
        CHECK_INT(tensor_int(d->labels, i), (int)((float *)t.data)[0]);
    }
    CHECK_OK(dataset_open(test_path("data"), NULL, &folder, &e), e);
    dataset_digest(d, &a);
    dataset_digest(folder, &b);
    CHECK_MEM(&a, &b, sizeof a);
    dataset_free(d);
    dataset_free(folder);
}

void test_dataset__names_may_be_raw_or_encoded(void)
{
    kit_folder("a:0", 2);
    kit_folder("b%2Fc%2E1", 2);
    struct dataset *d;
    struct err e = ERR_INIT;
    CHECK_OK(dataset_open(test_path("data"), kit_graph("b/c.1", "a:0"), &d, &e), e);
    CHECK_STR(d->inputs[0].name, "b/c.1");
    CHECK_STR(d->inputs[1].name, "a:0");
    dataset_free(d);
}

void test_dataset__one_npy_fits_a_model_of_one_input(void)
{
    kit_put_sample(test_path("00.npy"), 5, 6);
    struct dataset *d;
    struct err e = ERR_INIT;
    CHECK_OK(dataset_open(test_path("00.npy"), kit_graph("x", NULL), &d, &e), e);
    CHECK_INT(d->n_samples, 1);
    CHECK_STR(d->inputs[0].name, "x");
    dataset_free(d);
    kit_expect_bad(test_path("00.npy"), kit_graph("x", "y"), "x", "which of the model's 2 inputs");
}

void test_dataset__wrong_counts_are_refused(void)
{
    kit_folder("x", 3);
    kit_folder("y", 2);
    kit_expect_bad(test_path("data"), NULL, "y", "same number of files");
}

void test_dataset__wrong_names_are_refused_on_both_sides(void)
{
    kit_folder("x", 1);
    kit_expect_bad(test_path("data"), kit_graph("input", NULL), "input", "the data is for \"x\"");
    kit_folder("z", 1);
    kit_expect_bad(test_path("data"), kit_graph("x", NULL), "z", "has no input \"z\"");
}

void test_dataset__wrong_types_tell_how_to_convert(void)
{
    kit_folder("x", 1);
    struct buf b;
    kit_array(&b, DT_F64, 1, 2);
    test_write(test_path("data/x/0.npy"), b.data, b.len);
    buf_done(&b);
    kit_expect_bad(test_path("data"), kit_graph("x", NULL), "x/0.npy", "astype('float32')");
}

void test_dataset__wrong_shapes_name_the_file(void)
{
    kit_folder("x", 2);
    float data[2] = {1, 2};
    int64_t dims[1] = {2};
    struct tensor t;
    struct err e = ERR_INIT;
    tensor_set(&t, DT_F32, 1, dims, &e);
    t.data = data;
    CHECK_OK(npy_write(test_path("data/x/1.npy"), &t, &e), e);
    kit_expect_bad(test_path("data"), kit_graph("x", NULL), "x/1.npy", "x[None]");
}

/* Each map holds its sample's number, in a folder and in the tar made of it. */
void test_dataset__labels_may_be_a_map_a_sample(void)
{
    struct err e = ERR_INIT;
    int32_t maps[3][2][2] = {{{0, 0}, {0, 0}}, {{1, 1}, {1, 1}}, {{2, 2}, {2, 2}}};
    struct tensor t = {.type = DT_I32, .rank = 3, .dims = {3, 2, 2}, .data = maps};
    struct dataset *d;
    kit_folder("x", 3);
    CHECK_OK(npy_write(test_path("data/labels.npy"), &t, &e), e);
    CHECK_OK(dataset_open(test_path("data"), NULL, &d, &e), e);
    CHECK_INT(tensor_count(d->labels), 12);
    for (int i = 0; i < 12; i++)
        CHECK_INT(tensor_int(d->labels, i), i / 4);
    dataset_free(d);
    t.dims[0] = 2;
    CHECK_OK(npy_write(test_path("data/labels.npy"), &t, &e), e);
    kit_expect_bad(test_path("data"), NULL, "labels.npy", "3 samples");
}

void test_dataset__labels_must_be_one_integer_a_sample(void)
{
    kit_folder("x", 3);
    kit_put_labels(test_path("data/labels.npy"), 2);
    kit_expect_bad(test_path("data"), NULL, "labels.npy", "3 samples");
}

void test_dataset__an_empty_folder_is_refused(void)
{
    mkdir(test_path("data"), 0755);
    kit_expect_bad(test_path("data"), NULL, "", "no samples");
}

void test_dataset__strange_files_are_refused(void)
{
    kit_folder("x", 1);
    test_write(test_path("data/x/readme.txt"), "hello", 5);
    kit_expect_bad(test_path("data"), NULL, "x/readme.txt", ".npy");
}

void test_dataset__a_sample_digest_sees_every_byte(void)
{
    kit_folder("x", 2);
    kit_put_sample(test_path("data/x/1.npy"), 0, 2.0000002f);
    struct dataset *d;
    struct err e = ERR_INIT;
    struct digest a, b, again;
    CHECK_OK(dataset_open(test_path("data"), NULL, &d, &e), e);
    dataset_sample_digest(d, 0, &a);
    dataset_sample_digest(d, 1, &b);
    dataset_sample_digest(d, 0, &again);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    CHECK(memcmp(&a, &again, sizeof a) == 0);
    dataset_free(d);
}

void test_dataset__decoding_undoes_encoding(void)
{
    struct arena a = ARENA_INIT;
    char name[256];
    for (int i = 1; i < 256; i++)
        name[i - 1] = (char)i;
    name[255] = '\0';
    char *encoded = dataset_encode(&a, name);
    CHECK(!strpbrk(encoded, "/.:\\ "));
    CHECK_STR(dataset_decode(&a, encoded), name);
    CHECK_STR(dataset_decode(&a, "100%"), "100%");
    CHECK_STR(dataset_decode(&a, "%00x%g1"), "%00x%g1");
    arena_done(&a);
}
