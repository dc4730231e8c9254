/* From method and path to the row that handles it. */
#ifndef PTQ_SERVER_ROUTES_H
#define PTQ_SERVER_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "server/http.h"

enum { ROUTE_PARAMS_MAX = 4 };

struct route_param {
    const char *name; /* name_len bytes of the pattern */
    size_t name_len;
    const char *value; /* value_len bytes of the path, not decoded */
    size_t value_len;
};
struct route_match {
    const struct route *route; /* NULL if no row of the pattern has the method */
    struct route_param params[ROUTE_PARAMS_MAX];
    int n_params;
};

/* The row whose pattern matches with the most literal bytes: "/v1/jobs/{id}:cancel" comes before
 * "/v1/jobs/{id}". False if no pattern matches; ret_allow then is empty, else the value for Allow.
 * The path is split before it is decoded: an encoded slash never makes a segment. */
bool route_find(const struct route *const *tables, const char *method, const char *path,
                struct route_match *ret, struct buf *ret_allow);

#endif
