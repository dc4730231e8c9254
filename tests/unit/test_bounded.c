/* Calibration takes the same memory whatever the number of samples. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/test.h"
#include "tests/unit/calibrate_kit.h"
#include "tests/unit/mini.h"
#include "worker/load/npy.h"

static struct arena arena;

enum { SAMPLES = 64, SIDE = 64, CHANNELS = 8, COUNT = CHANNELS * SIDE * SIDE };

/* Activations of 128 to 256 KiB: a few that were kept of each sample would show. */
#define NET                                                                                        \
    "input x 1,8,64,64\nconst w 16,8,3,3 0.1 -0.2 0.3\nconst v 16,16,1,1 0.3 -0.1\noutput o\n"     \
    "c1 Conv x,w -> a pads=[1,1,1,1]\nr1 Relu a -> b\nc2 Conv b,v -> c\ns2 Sigmoid c -> d\n"       \
    "c3 Conv d,v -> e\nm Mul e,e -> f\nc4 Conv f,v -> o\n"

static void write_data(void)
{
    struct err e = ERR_INIT;
    float *x = arena_array(&arena, COUNT, sizeof *x);
    struct tensor t = {.type = DT_F32, .rank = 4, .dims = {1, CHANNELS, SIDE, SIDE}, .data = x};
    CHECK_OK(model_write(mini_graph(&arena, NET), NULL, test_path("m.onnx"), &e), e);
    CHECK(!mkdir(test_path("data"), 0777) && !mkdir(test_path("data/x"), 0777));
    for (int i = 0; i < SAMPLES; i++) {
        for (int k = 0; k < COUNT; k++)
            x[k] = sinf((float)k * 0.37f + (float)i) * cosf((float)k * 0.011f);
        CHECK_OK(npy_write(test_path("data/x/%02d.npy", i), &t, &e), e);
    }
}

struct used {
    size_t arenas;
    long resident_kb;
};

/* In a process of its own: all methods, with the percentiles' and the histograms' passes. */
static struct used calibrate(int samples)
{
    struct used u = {0};
    struct rusage r;
    int fd[2], status;
    CHECK(!pipe(fd));
    pid_t child = fork();
    if (!child) {
        arena_peak_bytes(true);
        if (kit_try("out", "calibrate", "m.onnx", "{}", json_pack("{s:i}", "samples", samples), 0,
                    false))
            _exit(1);
        size_t peak = arena_peak_bytes(false);
        _exit(write(fd[1], &peak, sizeof peak) == sizeof peak ? 0 : 1);
    }
    CHECK(read(fd[0], &u.arenas, sizeof u.arenas) == sizeof u.arenas);
    CHECK(wait4(child, &status, 0, &r) == child && status == 0);
    close(fd[0]);
    close(fd[1]);
    u.resident_kb = r.ru_maxrss;
    return u;
}

void test_bounded__sixty_four_samples_take_the_memory_of_eight(void)
{
    write_data();
    struct used few = calibrate(8), many = calibrate(SAMPLES);
    printf("8 samples: arenas %zu bytes, resident %ld KiB; 64: %zu bytes, %ld KiB\n", few.arenas,
           few.resident_kb, many.arenas, many.resident_kb);
    CHECK(few.arenas > 100000);
    CHECK_INT(many.arenas, few.arenas);
#ifndef PTQ_SAN /* which keeps freed memory for a while */
    CHECK((double)many.resident_kb < 1.03 * (double)few.resident_kb);
#endif
}
