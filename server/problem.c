#include "server/problem.h"

#include <string.h>

#include "common/buf.h"

/* Details may quote what a model or a client sent, or be cut within a character. */
static json_t *text_value(const char *s)
{
    json_t *v = json_string(s);
    if (v)
        return v;
    struct buf b;
    buf_init(&b, strlen(s));
    buf_adds(&b, s);
    for (size_t i = 0; i < b.len; i++)
        if ((unsigned char)b.data[i] >= 0x80)
            b.data[i] = '?';
    v = json_string(b.len ? b.data : "");
    buf_done(&b);
    return v;
}

/* Node and tensor names may begin with a slash too, but not in errors of these kinds. */
static bool is_pointer(const struct err *e)
{
    return e->at[0] == '/' && (e->code == ERR_INVALID || e->code == ERR_UNKNOWN_NAME ||
                               e->code == ERR_LIMIT || e->code == ERR_BAD_JSON);
}

json_t *problem_json(const struct err *e, const char *instance, const char *request_id)
{
    json_t *p = json_object();
    json_object_set_new(p, "type", json_sprintf("/problems/%s", err_slug(e->code)));
    json_object_set_new(p, "title", json_string(err_title(e->code)));
    json_object_set_new(p, "status", json_integer(err_status(e->code)));
    json_object_set_new(p, "detail", text_value(e->detail));
    json_object_set_new(p, "retryable", json_boolean(err_retryable(e->code)));
    if (e->at[0])
        json_object_set_new(p, "at", text_value(e->at));
    if (is_pointer(e))
        json_object_set_new(p, "errors",
                            json_pack("[{s:o,s:s,s:o}]", "pointer", text_value(e->at), "code",
                                      err_slug(e->code), "message", text_value(e->detail)));
    if (instance)
        json_object_set_new(p, "instance", text_value(instance));
    json_object_set_new(p, "request_id", request_id ? text_value(request_id) : json_null());
    return p;
}
