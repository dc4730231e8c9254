/* An npy file from outside. What is read lies within the file, and its header written again is read
 * again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "worker/load/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = ERR_INIT;
    struct tensor t, again;
    size_t offset, offset_again;
    if (npy_header((const void *)data, size, &t, &offset, &e))
        return 0;
    PROMISE(offset <= size);
    struct buf head;
    buf_init(&head, NPY_HEADER_MAX + 64);
    PROMISE(npy_put_header(&head, &t, &e) == 0);
    PROMISE(npy_header(head.data, head.len, &again, &offset_again, &e) == 0);
    PROMISE(offset_again == head.len && again.type == t.type && again.rank == t.rank);
    PROMISE(memcmp(again.dims, t.dims, sizeof t.dims[0] * (size_t)t.rank) == 0);
    buf_done(&head);
    return 0;
}
