#include "server/inputs.h"

#include <string.h>

#include "common/json.h"
#include "common/sha256.h"
#include "server/blobs.h"

void inputs_add(struct arena *a, Ptq__Start *start, const char *role, const char *path,
                const char *name, const char *sha256)
{
    size_t n = start->n_inputs;
    Ptq__Input **more = arena_array(a, n + 1, sizeof *more);
    if (n)
        memcpy(more, start->inputs, n * sizeof *more);
    Ptq__Input *in = arena_alloc(a, sizeof *in);
    ptq__input__init(in);
    in->role = arena_strdup(a, role);
    in->path = arena_strdup(a, path);
    in->name = name ? arena_strdup(a, name) : NULL;
    in->sha256 = sha256 ? arena_strdup(a, sha256) : NULL;
    more[n] = in;
    start->inputs = more;
    start->n_inputs = n + 1;
}

const char *digest_of_name(struct arena *a, const char *name)
{
    struct digest d;
    if (strncmp(name, "sha256:", 7) || digest_parse(name + 7, &d))
        return NULL;
    return arena_strdup(a, name + 7);
}

void inputs_add_model(struct server *s, struct arena *a, Ptq__Start *start, const char *path,
                      const char *sha256, const json_t *external)
{
    size_t k;
    json_t *x;
    inputs_add(a, start, "model", path, NULL, sha256);
    json_array_foreach(external, k, x)
    {
        const char *sha = digest_of_name(a, json_str(x, "blob", ""));
        if (sha)
            inputs_add(a, start, "external", blobs_path(s->blobs, a, sha),
                       json_str(x, "location", ""), sha);
    }
}
