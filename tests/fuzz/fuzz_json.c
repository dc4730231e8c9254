/* JSON text from outside. What is read, written canonically and read again is the same text. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = ERR_INIT;
    json_t *v = json_parse((const char *)data, size, &e);
    if (!v) {
        PROMISE(e.code == ERR_BAD_JSON && e.detail[0]);
        return 0;
    }
    char *text = json_text(v);
    json_t *again = json_parse(text, strlen(text), &e);
    PROMISE(again);
    char *text_again = json_text(again);
    PROMISE(strcmp(text, text_again) == 0);
    free(text);
    free(text_again);
    json_decref(v);
    json_decref(again);
    return 0;
}
