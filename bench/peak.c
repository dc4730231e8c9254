/* What one core can do: fused multiply-adds a second in the widest vectors it has, in GFLOP/s, the
 * best of several tries. `peak kernels` tells the engine's profile instead. */
#include <stdio.h>
#include <time.h>

#include "worker/exec/backend.h"

typedef float wide __attribute__((vector_size(64)));
enum { CHAINS = 12, STEPS = 2000000, TRIES = 7 };

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) static float
multiply_add(float seed)
{
    wide acc[CHAINS], a = seed + (wide){0}, b = seed / 3 + (wide){0};
    float sum = 0;
    for (int k = 0; k < CHAINS; k++)
        acc[k] = a * (float)k;
    for (int i = 0; i < STEPS; i++)
        for (int k = 0; k < CHAINS; k++)
            acc[k] = acc[k] * a + b;
    for (int k = 0; k < CHAINS; k++)
        sum += acc[k][0];
    return sum;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        const struct backend *b;
        struct err e = ERR_INIT;
        return backend_find(NULL, &b, &e) || puts(engine_profile(b)) < 0;
    }
    double best = 0;
    volatile float sink = 0;
    for (int i = 0; i < TRIES; i++) {
        double from = seconds();
        sink = sink + multiply_add(0.5f);
        double rate = 2.0 * 16 * CHAINS * STEPS / (seconds() - from) / 1e9;
        best = rate > best ? rate : best;
    }
    printf("%.1f\n", best);
}
