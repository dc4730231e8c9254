#include <string.h>

#include "common/arena.h"
#include "tests/test.h"
#include "worker/jobs/operators.h"
#include "worker/ops/op.h"

void test_operators__the_page_is_made_from_the_rows(void)
{
    struct buf now;
    size_t len;
    char *page = test_read("docs/operators.md", &len);
    buf_init(&now, 1 << 22);
    operators_markdown(&now);
    if (len != now.len || memcmp(page, now.data, len))
        FAIL("docs/operators.md is not what the rows say: run make docs");
    buf_done(&now);
    free(page);
}

void test_operators__every_row_tells_its_types_and_none_overlap(void)
{
    for (const struct op *const *f = op_families; *f; f++)
        for (const struct op *op = *f; op->type; op++) {
            if (op->max_in != 0 && !op->types)
                FAIL("%s has inputs, and no types", op->type);
            for (int v = op->since; v <= (op->until ? op->until : 30); v++)
                if (op_find(op->domain, op->type, v) != op)
                    FAIL("%s has two rows for opset %d", op->type, v);
        }
}

static int no_shape(struct op_ctx *c, struct err *e)
{
    (void)c;
    (void)e;
    return 0;
}

void test_operators__other_types_of_the_first_input_are_refused(void)
{
    struct op op = {.type = "Some", .types = TYPES_FLOAT | TYPE(I8), .shape = no_shape};
    for (int t = 1; t < DT_COUNT; t++) {
        struct tensor x = {.type = (enum dtype)t};
        struct op_ctx c = {.n_in = 1, .in = (const struct tensor *[]){&x}};
        struct err e = ERR_INIT;
        bool taken = dtype_is_float(x.type) || t == DT_I8;
        CHECK_INT(op_shape(&op, &c, &e), taken ? 0 : -1);
        CHECK_INT(e.code, taken ? ERR_NONE : ERR_UNSUPPORTED);
    }
}

void test_operators__json_names_each_row(void)
{
    json_t *all = operators_json(), *first = json_array_get(all, 0);
    CHECK(json_array_size(all) > 150);
    CHECK_STR(json_string_value(json_object_get(first, "domain")), "ai.onnx");
    CHECK_STR(json_string_value(json_object_get(first, "op_type")), "Abs");
    CHECK_INT(json_array_size(json_object_get(first, "types")), 11);
    CHECK(json_is_null(json_object_get(first, "until")));
    json_decref(all);
}
