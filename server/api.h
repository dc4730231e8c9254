/* What the api_*.c files for stored things share: lists with cursors, ETags of JSON. */
#ifndef PTQ_SERVER_API_H
#define PTQ_SERVER_API_H

#include "server/http.h"
#include "server/store.h"

enum { API_ETAG_MAX = 40 };
/* A strong validator of the text that this value becomes. */
void api_etag(const json_t *v, char ret[API_ETAG_MAX]);
/* reply_json with that ETag. */
void api_reply(struct req *r, int status, json_t *body);
/* Answers 404 for a resource that is not there. */
void api_not_found(struct req *r, const char *what, const char *id);
/* An item of the request's header that is a list, like Prefer. */
bool api_header_has(const struct req *r, const char *header, const char *item);

/* One page: limit and cursor of the request. The cursor is "<created_ms>.<id>". */
struct page {
    int limit;
    int64_t after_ms; /* INT64_MAX: from the newest */
    const char *after_id;
};
/* Checks limit and after, and that no other parameters are there than those and the n names.
 * -1: a problem was replied. */
int page_read(struct req *r, const char *const *names, size_t n, struct page *ret);
/* A query parameter that must be one of the words (closed by NULL). -1: a problem was replied. */
int query_word(struct req *r, const char *name, const char *const *words, const char **ret);
/* A boolean query parameter. -1: a problem was replied. */
int query_flag(struct req *r, const char *name, bool otherwise, bool *ret);

/* Steps s (its statement ends with a LIMIT of limit + 1), makes each row's JSON by item(), sets
 * its id and time for the cursor, and replies. Ends s. item returns NULL with *e set on error. */
typedef json_t *page_item(struct req *r, struct stmt *s, const char **ret_id, int64_t *ret_ms,
                          struct err *e);
void page_reply(struct req *r, const struct page *p, struct stmt *s, page_item *item);

#endif
