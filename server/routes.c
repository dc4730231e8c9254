#include "server/routes.h"

#include <stddef.h>
#include <string.h>

extern const struct route api_blobs_routes[], api_meta_routes[], api_jobs_routes[],
    api_results_routes[], api_nodes_routes[], api_models_routes[], api_datasets_routes[],
    api_configs_routes[], api_edit_routes[];

const struct route *const route_tables[] = {api_blobs_routes,    api_meta_routes,
                                            api_jobs_routes,     api_results_routes,
                                            api_nodes_routes,    api_models_routes,
                                            api_datasets_routes, api_configs_routes,
                                            api_edit_routes,     NULL};

/* One pattern segment: text before and after an optional {name}. */
struct part {
    const char *head, *name, *tail;
    size_t head_len, name_len, tail_len;
    bool rest; /* {name...} */
};

static struct part part_of(const char *s, size_t len)
{
    struct part p = {.head = s, .head_len = len};
    const char *open = memchr(s, '{', len);
    if (!open)
        return p;
    const char *close = memchr(open, '}', len - (size_t)(open - s));
    p.head_len = (size_t)(open - s);
    p.name = open + 1;
    p.name_len = (size_t)(close - p.name);
    p.tail = close + 1;
    p.tail_len = len - (size_t)(p.tail - s);
    p.rest = p.name_len > 3 && memcmp(close - 3, "...", 3) == 0;
    if (p.rest)
        p.name_len -= 3;
    return p;
}

static bool part_fits(const struct part *p, const char *seg, size_t len)
{
    if (!p->name)
        return len == p->head_len && memcmp(seg, p->head, len) == 0;
    return len > p->head_len + p->tail_len && memcmp(seg, p->head, p->head_len) == 0 &&
           memcmp(seg + len - p->tail_len, p->tail, p->tail_len) == 0;
}

static size_t segment_len(const char *s)
{
    return strcspn(s, "/");
}

/* Literal bytes matched, so that more of them win; -1 for no match. Fills m's parameters, raw. */
static int pattern_match(const char *pattern, const char *path, struct route_match *m)
{
    int literal = 0;
    m->n_params = 0;
    while (*pattern == '/' && *path == '/') {
        pattern++, path++;
        size_t pattern_len = segment_len(pattern), len = segment_len(path);
        struct part p = part_of(pattern, pattern_len);
        if (p.rest)
            len = strlen(path);
        if (!part_fits(&p, path, len))
            return -1;
        literal += 1 + (int)(p.head_len + p.tail_len);
        if (p.name)
            m->params[m->n_params++] = (struct route_param){p.name, p.name_len, path + p.head_len,
                                                            len - p.head_len - p.tail_len};
        pattern += pattern_len;
        path += len;
    }
    return *pattern || *path ? -1 : literal;
}

static bool method_fits(const struct route *r, const char *method)
{
    return !strcmp(r->method, method) || (!strcmp(r->method, "GET") && !strcmp(method, "HEAD"));
}

static void allow_add(struct buf *allow, const char *method)
{
    buf_addf(allow, "%s%s%s", allow->len ? ", " : "", method,
             strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

bool route_find(const struct route *const *tables, const char *method, const char *path,
                struct route_match *ret, struct buf *ret_allow)
{
    int best = -1;
    memset(ret, 0, sizeof *ret);
    for (; *tables; tables++)
        for (const struct route *r = *tables; r->method; r++) {
            struct route_match m = {.route = r};
            int literal = pattern_match(r->pattern, path, &m);
            if (literal < 0 || literal < best)
                continue;
            if (literal > best) {
                buf_clear(ret_allow);
                ret->route = NULL;
                best = literal;
            }
            allow_add(ret_allow, r->method);
            if (method_fits(r, method))
                *ret = m;
        }
    return best >= 0;
}
