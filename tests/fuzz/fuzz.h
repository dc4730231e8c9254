/* What the fuzz targets share. Each fuzz_<name>.c is one libFuzzer program; its seeds are in
 * corpus/<name>/. An input may be refused; it may not crash, leak, hang or break a promise that
 * the target checks with abort(). */
#ifndef PTQ_TESTS_FUZZ_H
#define PTQ_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PROMISE(cond)                                                                              \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #cond);             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* The input as a file without a disk; path: at least 32 bytes. Close the result. */
static inline int fuzz_file(const uint8_t *data, size_t size, char *path)
{
    int fd = memfd_create("fuzz", 0);
    PROMISE(fd >= 0);
    PROMISE(write(fd, data, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
