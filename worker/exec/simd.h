/*
 * SIMD for any x86-64: SIMD in front of a function makes gcc build it for three levels of the
 * architecture, and the loader takes the best that the machine has. The loops inside are plain C
 * or gcc vectors. Sanitizers cannot instrument the resolvers, so they get the plain build.
 */
#ifndef PTQ_WORKER_EXEC_SIMD_H
#define PTQ_WORKER_EXEC_SIMD_H

#if defined(__x86_64__) && !defined(PTQ_SAN)
#define SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD
#endif

enum { VEC = 16 };
/* 16 floats at any address; gcc splits them where registers are shorter. */
typedef float vec
    __attribute__((vector_size(VEC * sizeof(float)), aligned(sizeof(float)), may_alias));

#endif
