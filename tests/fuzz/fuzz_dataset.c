/* An archive from outside: made canonical, then opened. What is canonical opens. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "worker/load/dataset.h"

static const char *scratch_dir(void)
{
    static char dir[] = "/dev/shm/ptqd-fuzz-XXXXXX";
    static int made;
    if (!made)
        PROMISE(mkdtemp(dir));
    made = 1;
    return dir;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32], out[64];
    struct err e = ERR_INIT;
    struct arena a;
    int fd = fuzz_file(data, size, path);
    memset(&a, 0, sizeof a);
    snprintf(out, sizeof out, "%s/out.tar", scratch_dir());
    if (dataset_normalize(path, scratch_dir(), 8 << 20, out, &a, NULL, &e) == 0) {
        struct dataset *d;
        PROMISE(dataset_is_open_form(out));
        PROMISE(dataset_open(out, NULL, &d, &e) == 0);
        PROMISE(d->n_samples >= 1 && d->n_inputs >= 1);
        dataset_free(d);
    } else {
        PROMISE(e.code != ERR_NONE && e.code != ERR_INTERNAL && e.detail[0]);
    }
    unlink(out);
    arena_done(&a);
    close(fd);
    return 0;
}
