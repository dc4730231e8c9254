/* The functions that a model defines: which there are, and which a node calls. */
#include <stdio.h>
#include <string.h>

#include "worker/load/read.h"
#include "worker/load/scan.h"

enum { KEY_SIZE = 3 * (SCAN_NAME_MAX + 1) };

static const char *key_of(char ret[KEY_SIZE], const char *domain, const char *name,
                          const char *overload)
{
    if (!domain || !strcmp(domain, "ai.onnx"))
        domain = "";
    snprintf(ret, KEY_SIZE, "%s\n%s\n%s", domain, name ? name : "", overload ? overload : "");
    return ret;
}

int functions_init(struct functions *f, const Onnx__ModelProto *m, struct arena *a, struct err *e)
{
    char key[KEY_SIZE];
    f->list = m->functions;
    map_init(&f->numbers, a);
    if (m->n_functions > FUNCTIONS_MAX)
        return err_set(e, ERR_LIMIT, "", "The model has %zu functions, at most %d are read.",
                       m->n_functions, FUNCTIONS_MAX);
    for (int i = 0; i < (int)m->n_functions; i++) {
        const Onnx__FunctionProto *p = m->functions[i];
        key_of(key, p->domain, p->name, p->overload);
        if (map_set(&f->numbers, arena_strdup(a, key), i) >= 0)
            return err_set(e, ERR_BAD_MODEL, "", "There are two functions \"%.200s\".",
                           p->name ? p->name : "");
    }
    return 0;
}

int functions_find(const struct functions *f, const Onnx__NodeProto *p)
{
    char key[KEY_SIZE];
    return f->numbers.count ? map_get(&f->numbers, key_of(key, p->domain, p->op_type, p->overload))
                            : -1;
}
