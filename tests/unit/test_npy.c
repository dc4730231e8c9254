#include "worker/load/npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/test.h"

/* A version 1.0 file with this header text and n bytes of zeros behind it. */
static size_t make_npy(char *to, const char *dict, size_t n)
{
    size_t len = strlen(dict);
    memcpy(to, "\x93NUMPY\1\0", 8);
    to[8] = (char)(len & 255);
    to[9] = (char)(len >> 8);
    memcpy(to + 10, dict, len);
    memset(to + 10 + len, 0, n);
    return 10 + len + n;
}

static void expect_refused(const char *dict, size_t n, const char *word)
{
    char file[2048];
    size_t len = make_npy(file, dict, n), offset;
    struct tensor t;
    struct err e = ERR_INIT;
    if (!npy_parse(file, len, &t, &offset, &e))
        FAIL("%s was read", dict);
    CHECK_INT(e.code, ERR_BAD_DATA);
    if (!strstr(e.detail, word))
        FAIL("%s: \"%s\" does not say \"%s\"", dict, e.detail, word);
}

void test_npy__reads_what_numpy_writes(void)
{
    char file[2048];
    size_t len =
        make_npy(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }     \n", 24);
    size_t offset;
    struct tensor t;
    struct err e = ERR_INIT;
    CHECK_OK(npy_parse(file, len, &t, &offset, &e), e);
    CHECK_INT(t.type, DT_F32);
    CHECK_INT(t.rank, 3);
    CHECK_INT(t.dims[2], 3);
    CHECK((char *)t.data == file + len - 24);
}

void test_npy__reads_every_type_of_its_list(void)
{
    static const struct {
        const char *descr;
        enum dtype type;
    } rows[] = {{"<f2", DT_F16}, {"<f4", DT_F32}, {"<f8", DT_F64}, {"|i1", DT_I8},
                {"<i2", DT_I16}, {"<i4", DT_I32}, {"<i8", DT_I64}, {"|u1", DT_U8},
                {"<u2", DT_U16}, {"<u4", DT_U32}, {"<u8", DT_U64}, {"|b1", DT_BOOL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dict[128], file[512];
        snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': False, 'shape': (2,)}\n",
                 rows[i].descr);
        size_t len = make_npy(file, dict, 2 * dtype_size(rows[i].type)), offset;
        struct tensor t;
        struct err e = ERR_INIT;
        CHECK_OK(npy_parse(file, len, &t, &offset, &e), e);
        CHECK_INT(t.type, rows[i].type);
    }
}

void test_npy__a_scalar_has_one_element(void)
{
    char file[512];
    size_t len = make_npy(file, "{'descr':'<i8','fortran_order':False,'shape':()}", 8), offset;
    struct tensor t;
    struct err e = ERR_INIT;
    CHECK_OK(npy_parse(file, len, &t, &offset, &e), e);
    CHECK_INT(t.rank, 0);
    CHECK_INT(tensor_count(&t), 1);
}

void test_npy__refuses_what_is_not_a_plain_array(void)
{
    expect_refused("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", 8, "Object");
    expect_refused("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4, "big-endian");
    expect_refused("{'descr': '<f4', 'fortran_order': True, 'shape': (2,2)}", 16, "Fortran");
    expect_refused("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8, "not read");
    expect_refused("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", 16, "not read");
    expect_refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4,
                   "records");
}

void test_npy__refuses_headers_that_are_not_the_three_keys(void)
{
    expect_refused("{'descr': '<f4', 'shape': (1,)}", 4, "missing");
    expect_refused("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4,
                   "once");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4, "keys");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", 4, "tuple");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} or x()", 4, "follows");
    expect_refused("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", 4, "True");
    expect_refused("__import__('os')", 4, "dict");
    expect_refused("{'descr': '<f4", 4, "end");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, "number");
}

void test_npy__refuses_sizes_that_lie_or_overflow(void)
{
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, "cut short");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 9, "too long");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4,
                   "too large");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}",
                   4, "");
    expect_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1)}",
                   4, "dimensions");
}

void test_npy__every_cut_of_a_file_is_refused(void)
{
    char file[512];
    size_t len = make_npy(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", 12);
    for (size_t cut = 0; cut < len; cut++) {
        struct tensor t;
        size_t offset;
        struct err e = ERR_INIT;
        CHECK(npy_parse(file, cut, &t, &offset, &e) == -1);
        CHECK_INT(e.code, ERR_BAD_DATA);
    }
}

void test_npy__what_is_written_is_read_back(void)
{
    float data[6] = {1, -2, 3.5f, 0, INFINITY, 1e-40f};
    int64_t dims[2] = {2, 3};
    struct tensor t, back;
    struct err e = ERR_INIT;
    CHECK_OK(tensor_set(&t, DT_F32, 2, dims, &e), e);
    t.data = data;
    CHECK_OK(npy_write(test_path("x.npy"), &t, &e), e);
    size_t len, offset;
    char *file = test_read(test_path("x.npy"), &len);
    CHECK_INT(len, 128 + 24);
    CHECK_MEM(file + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 59);
    CHECK_INT(file[127], '\n');
    CHECK_OK(npy_parse(file, len, &back, &offset, &e), e);
    CHECK(tensor_same_shape(&t, &back));
    CHECK_MEM(back.data, data, sizeof data);
}
