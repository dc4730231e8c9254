#include "server/profiles.h"

#include <string.h>

#include "common/json.h"

extern const char profiles_json[];

enum { MARCHES_MAX = 32 };

const json_t *profiles_all(void)
{
    static json_t *all; /* for the life of the process */
    if (!all)
        all = json_loads(profiles_json, 0, NULL);
    return all;
}

const char *profiles_default(void)
{
    return json_str(json_array_get(profiles_all(), 0), "march", "");
}

json_t *profiles_find(const char *march)
{
    size_t i;
    json_t *one;
    json_array_foreach(profiles_all(), i, one)
    {
        if (!strcmp(json_str(one, "march", ""), march))
            return one;
    }
    return NULL;
}

int profiles_check(const char *march, const char *at, struct err *e)
{
    const char *names[MARCHES_MAX];
    size_t n = json_array_size(profiles_all());
    char near[128];
    if (!march || profiles_find(march))
        return 0;
    for (size_t i = 0; i < n && i < MARCHES_MAX; i++)
        names[i] = json_str(json_array_get(profiles_all(), i), "march", "");
    json_nearest(march, names, n < MARCHES_MAX ? n : MARCHES_MAX, near, sizeof near);
    return err_set(e, ERR_UNKNOWN_NAME, at, "There is no march \"%.60s\"%s%s%s.", march,
                   *near ? "; did you mean " : "", near, *near ? "?" : "");
}
