/* The whole daemon in a thread of the test's process, with tests/unit/fake_worker.c as its worker,
 * and a small HTTP client: one request a connection, HTTP/1.0, so that a stream ends with it. */
#ifndef PTQ_TESTS_SERVICE_H
#define PTQ_TESTS_SERVICE_H

#include <stdbool.h>

#include <jansson.h>

struct answer {
    int status;
    char *head, *body; /* die with the test */
    json_t *json;      /* of the body, or NULL; dies with the test */
};

extern int service_grace_s;    /* of blobs that nothing refers to; set before the start */
void service_start(int slots); /* data in test_path("data") */
void service_stop(void);       /* SIGTERM, until it has ended in order */
/* In a process of its own, to be killed: its id. */
int service_fork(int slots);
void service_attach(void); /* waits until the port file's service answers */

/* extra: header lines, each ended by \r\n, or NULL; body: text, or NULL. */
struct answer ask(const char *method, const char *path, const char *extra, const char *body);
struct answer get(const char *path);
const char *field(const struct answer *a, const char *key); /* a string of the JSON, or "" */
bool has_header(const struct answer *a, const char *line);

/* Uploads a model and a data set; then a job that does as `how` says: its id. */
void service_fill(void);
const char *submit(const char *kind, const char *how);
extern const char *model_id, *data_id;
/* Waits for the job's end: its state. */
const char *wait_end(const char *job);
/* printf into memory that dies with the test. */
char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
