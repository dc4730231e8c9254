/* For tests of job_map: a store in memory that counts, and tasks whose faults can be chosen. */
#ifndef PTQ_TESTS_UNIT_MAP_KIT_H
#define PTQ_TESTS_UNIT_MAP_KIT_H

#include "worker/jobs/core.h"

enum { N = 300 };

struct row {
    struct digest d;
    char *bytes;
    size_t len;
};
struct memory {
    struct row rows[2 * N];
    int n, lookups, hits, stored, events, last_done;
};

enum fault { F_NONE, F_ERROR, F_SEGV, F_KILL, F_EXIT, F_MEMORY, F_HANG, F_LARGE };
struct world {
    enum fault fault[N];
    int delay_us[N];
    int order[N], n_taken; /* as take() saw them */
    uint64_t sum;          /* depends on the order */
    int fail_take;         /* take() fails at this index, or -1 */
    struct task tasks[N];
    char own[N][16];
};

extern const struct job_io memory_io; /* its context is a struct memory */
void memory_done(struct memory *m);

struct world *make_world(void);
/* Does what its fault says; its result is "result of <own>". */
int run_task(void *ctx, int index, struct buf *ret, struct err *e);
int take_result(void *ctx, int index, const void *result, size_t len, struct err *e);
/* Results 0 to n - 1 were taken in order. */
void check_order(const struct world *w, int n);

#endif
