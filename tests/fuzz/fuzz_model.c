/*
 * Fuzzes the whole of model_open: scan, unpack, build, fold, optimize; what opens is written and
 * must open again. libFuzzer: clang -fsanitize=fuzzer,address,undefined.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/load/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_fd(int fd, bool skeleton, struct model **ret, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return model_open(&(struct model_source){.path = path, .skeleton = skeleton}, ret, e);
}

static void write_and_reopen(const struct model *m, bool skeleton)
{
    char path[64];
    struct model *again;
    struct err e = ERR_INIT;
    int fd = memfd_create("written", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int rc = skeleton ? model_write_skeleton(m->float_graph, path, &e)
                      : model_write(m->float_graph, m->plan, path, &e);
    if (rc == 0) {
        int bad = open_fd(fd, skeleton, &again, &e);
        if (bad && (!skeleton || e.code == ERR_NONE || e.code == ERR_INTERNAL)) {
            fprintf(stderr, "A written %s does not open: %s (at \"%s\")\n",
                    skeleton ? "skeleton" : "model", e.detail, e.at);
            abort();
        }
        if (!bad)
            model_free(again);
    }
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *m;
    struct err e = ERR_INIT;
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    if (open_fd(fd, false, &m, &e) == 0) {
        write_and_reopen(m, false);
        write_and_reopen(m, true);
        model_free(m);
    } else if (e.code == ERR_NONE || e.code == ERR_INTERNAL) {
        fprintf(stderr, "Refused without a reason: %s (at \"%s\")\n", e.detail, e.at);
        abort();
    }
    close(fd);
    return 0;
}
