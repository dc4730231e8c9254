#include "worker/exec/backend.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { ENGINE_VERSION = 1 };

/* Best first; each one's fallback is the next. */
static const struct backend *const backends[] = {
#ifdef PTQ_WITH_DNN
    &backend_dnn,
#endif
    &backend_blas,
    &backend_plain,
};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

const struct backend *backend_at(int i)
{
    return i >= 0 && i < N_BACKENDS ? backends[i] : NULL;
}

int backend_find(const char *name, const struct backend **ret, struct err *e)
{
    char names[128] = "";
    if (!name) {
        *ret = backends[0];
        return 0;
    }
    for (int i = 0; i < N_BACKENDS; i++) {
        size_t len = strlen(names);
        if (!strcmp(backends[i]->name, name)) {
            *ret = backends[i];
            return 0;
        }
        snprintf(names + len, sizeof names - len, "%s%s", i ? ", " : "", backends[i]->name);
    }
    return err_set(e, ERR_INVALID, NULL, "no backend \"%s\"; this build has %s", name, names);
}

int backend_conv(const struct backend *first, const struct conv_desc *d, const float *weight,
                 const float *bias, struct arena *a, const struct backend **ret_used,
                 const void **ret_prep, size_t *ret_scratch, struct err *e)
{
    int at = 0;
    while (at < N_BACKENDS - 1 && backends[at] != first)
        at++;
    for (; at < N_BACKENDS; at++) {
        struct err why = ERR_INIT;
        if (!backends[at]->conv_prepare(d, weight, bias, a, ret_prep, ret_scratch, &why)) {
            *ret_used = backends[at];
            return 0;
        }
        if (why.code != ERR_UNSUPPORTED || at == N_BACKENDS - 1)
            return err_set(e, why.code, why.at, "%s: %s", backends[at]->name, why.detail);
    }
    return -1;
}

void backend_release(const struct arena *a)
{
    for (int i = 0; i < N_BACKENDS; i++)
        if (backends[i]->release)
            backends[i]->release(a);
}

/* The level that SIMD functions of this program run at. */
static const char *simd_level(void)
{
#if defined(__x86_64__) && !defined(PTQ_SAN)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "x86-64-v4";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return "x86-64-v3";
#endif
    return "baseline";
}

static char profiles[N_BACKENDS][256];

static void write_profiles(void)
{
    for (int i = 0; i < N_BACKENDS; i++)
        snprintf(profiles[i], sizeof profiles[i], "ptq-engine %d; %s %s; %s", ENGINE_VERSION,
                 backends[i]->name, backends[i]->version(), simd_level());
}

const char *engine_profile(const struct backend *b)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, write_profiles);
    for (int i = 0; i < N_BACKENDS; i++)
        if (backends[i] == b)
            return profiles[i];
    return "unknown";
}
