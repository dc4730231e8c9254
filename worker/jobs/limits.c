#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker/jobs/host.h"

enum { FILES_MAX = 1024, FIRST_INHERITED = 3 };

static int limit(int what, rlim_t value, struct err *e)
{
    struct rlimit now;
    if (getrlimit(what, &now))
        return err_errno(e, "", "A resource limit cannot be read");
    if (now.rlim_max != RLIM_INFINITY && value > now.rlim_max)
        value = now.rlim_max;
    struct rlimit want = {value, value};
    return setrlimit(what, &want) ? err_errno(e, "", "A resource limit cannot be set") : 0;
}

int limits_begin(bool close_inherited, struct err *e)
{
    if (close_inherited && close_range(FIRST_INHERITED, ~0u, 0))
        return err_errno(e, "", "Inherited descriptors cannot be closed");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_errno(e, "", "New privileges cannot be given up");
    return limit(RLIMIT_CORE, 0, e) || limit(RLIMIT_NOFILE, FILES_MAX, e) ? -1 : 0;
}

int limits_memory(uint64_t memory_bytes, struct err *e)
{
#ifdef PTQ_SAN /* the sanitizer's shadow memory is address space */
    (void)memory_bytes;
    (void)e;
    return 0;
#else
    return memory_bytes ? limit(RLIMIT_AS, memory_bytes, e) : 0;
#endif
}
