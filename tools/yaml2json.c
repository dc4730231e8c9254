/*
 * yaml2json FILE: the JSON of a YAML file, on standard output. Used by the build alone, for
 * api/openapi.yaml. Reads what such a file needs, YAML 1.2's core schema: plain scalars that are
 * null, true, false or numbers become those, all else is text. A duplicate key, an anchor, a tag
 * and a second document are errors, so that what is in the file is what one sees.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *path;
};

static json_t *read_node(struct reader *r);

static void die(const struct reader *r, const char *what)
{
    fprintf(stderr, "%s:%zu:%zu: %s\n", r->path, r->event.start_mark.line + 1,
            r->event.start_mark.column + 1, what);
    exit(1);
}

static void next(struct reader *r)
{
    yaml_event_delete(&r->event);
    if (yaml_parser_parse(&r->parser, &r->event))
        return;
    fprintf(stderr, "%s:%zu: %s\n", r->path, r->parser.problem_mark.line + 1, r->parser.problem);
    exit(1);
}

static json_t *must(const struct reader *r, json_t *v)
{
    if (!v)
        die(r, "not a JSON value (bad UTF-8, or out of memory)");
    return v;
}

static json_t *plain_number(const char *text)
{
    char *end;
    errno = 0;
    long long i = strtoll(text, &end, 10);
    if (*text && !*end && errno == 0)
        return json_integer(i);
    if (strspn(text, "+-.0123456789eE") != strlen(text) || !strpbrk(text, "0123456789"))
        return NULL;
    double d = strtod(text, &end);
    return *end ? NULL : json_real(d);
}

static json_t *scalar(struct reader *r)
{
    const char *text = (const char *)r->event.data.scalar.value;
    if (r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        if (!*text || strcmp(text, "null") == 0 || strcmp(text, "~") == 0)
            return json_null();
        if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
            return json_boolean(*text == 't');
        json_t *n = plain_number(text);
        if (n)
            return n;
    }
    return must(r, json_stringn(text, r->event.data.scalar.length));
}

static json_t *sequence(struct reader *r)
{
    json_t *a = json_array();
    for (next(r); r->event.type != YAML_SEQUENCE_END_EVENT; next(r))
        json_array_append_new(a, must(r, read_node(r)));
    return a;
}

static json_t *mapping(struct reader *r)
{
    json_t *o = json_object();
    for (next(r); r->event.type != YAML_MAPPING_END_EVENT; next(r)) {
        if (r->event.type != YAML_SCALAR_EVENT)
            die(r, "a key must be a scalar");
        char *key = strdup((const char *)r->event.data.scalar.value);
        if (!key || json_object_get(o, key))
            die(r, "this key was there already");
        next(r);
        json_object_set_new(o, key, must(r, read_node(r)));
        free(key);
    }
    return o;
}

/* The event that begins the node has been read; on return, the one that ends it. */
static json_t *read_node(struct reader *r)
{
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        if (r->event.data.scalar.anchor || r->event.data.scalar.tag)
            die(r, "anchors and tags are not read");
        return scalar(r);
    case YAML_SEQUENCE_START_EVENT:
        if (r->event.data.sequence_start.anchor || r->event.data.sequence_start.tag)
            die(r, "anchors and tags are not read");
        return sequence(r);
    case YAML_MAPPING_START_EVENT:
        if (r->event.data.mapping_start.anchor || r->event.data.mapping_start.tag)
            die(r, "anchors and tags are not read");
        return mapping(r);
    default:
        die(r, "a value is wanted here");
        return NULL;
    }
}

static void expect(struct reader *r, yaml_event_type_t type, const char *what)
{
    next(r);
    if (r->event.type != type)
        die(r, what);
}

int main(int argc, char **argv)
{
    struct reader r = {.path = argc == 2 ? argv[1] : "yaml2json"};
    FILE *f = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!f || !yaml_parser_initialize(&r.parser)) {
        fprintf(stderr, "usage: yaml2json FILE (which must be readable)\n");
        return 2;
    }
    yaml_parser_set_input_file(&r.parser, f);
    expect(&r, YAML_STREAM_START_EVENT, "a stream is wanted");
    expect(&r, YAML_DOCUMENT_START_EVENT, "the file is empty");
    next(&r);
    json_t *v = read_node(&r);
    expect(&r, YAML_DOCUMENT_END_EVENT, "the document should end here");
    expect(&r, YAML_STREAM_END_EVENT, "one document only");
    int failed = json_dumpf(v, stdout, JSON_COMPACT | JSON_ENCODE_ANY) != 0 || fflush(stdout) != 0;
    json_decref(v);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    fclose(f);
    return failed;
}
