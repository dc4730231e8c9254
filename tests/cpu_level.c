/*
 * An older processor: linked with -Wl,--wrap=__cpu_indicator_init, this hides from gcc's
 * dispatchers what lies above CPU_LEVEL of x86-64 (1: SSE2; 3: AVX2), in the very objects that the
 * program has. Which bits stand for it is found by taking each away and asking again.
 */
#include <stdbool.h>

enum { WORDS = 3 };
struct cpu_model {
    unsigned vendor, type, subtype, features[1];
};
extern struct cpu_model __cpu_model;
extern unsigned __cpu_features2[];
int __real___cpu_indicator_init(void);
int __wrap___cpu_indicator_init(void);

static unsigned above(void)
{
    unsigned n = 0;
    n += __builtin_cpu_supports("avx512f") != 0;
    n += __builtin_cpu_supports("avx512bw") != 0;
    n += __builtin_cpu_supports("avx512dq") != 0;
    n += __builtin_cpu_supports("avx512vl") != 0;
    n += __builtin_cpu_supports("x86-64-v4") != 0;
    if (CPU_LEVEL >= 3)
        return n;
    n += __builtin_cpu_supports("avx") != 0;
    n += __builtin_cpu_supports("avx2") != 0;
    n += __builtin_cpu_supports("fma") != 0;
    n += __builtin_cpu_supports("x86-64-v2") != 0;
    n += __builtin_cpu_supports("x86-64-v3") != 0;
    return n;
}

static void hide(volatile unsigned *word)
{
    for (int bit = 0; bit < 32; bit++) {
        unsigned was = *word, before = above();
        *word = was & ~(1u << bit);
        __asm__ volatile("" ::: "memory");
        if (above() == before)
            *word = was;
        __asm__ volatile("" ::: "memory");
    }
}

int __wrap___cpu_indicator_init(void)
{
    int rc = __real___cpu_indicator_init();
    hide(&__cpu_model.features[0]);
    for (int i = 0; i < WORDS; i++)
        hide(&__cpu_features2[i]);
    return rc;
}
