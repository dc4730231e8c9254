#include "tests/unit/service.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/log.h"
#include "server/daemon.h"
#include "tests/test.h"

const char *model_id, *data_id;
int service_grace_s = 3600;
static struct conf conf;
static int port;
static pthread_t thread;
/* Memory for the test's life, reachable to its end. Requests come from several threads. */
static struct arena memory;
static pthread_mutex_t memory_lock = PTHREAD_MUTEX_INITIALIZER;

static void *keep(const void *p, size_t len)
{
    pthread_mutex_lock(&memory_lock);
    void *copy = arena_copy(&memory, p, len);
    pthread_mutex_unlock(&memory_lock);
    return copy;
}

char *text(const char *fmt, ...)
{
    char *made;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&made, fmt, ap) < 0)
        abort();
    va_end(ap);
    char *kept = keep(made, strlen(made) + 1);
    free(made);
    return kept;
}

static void configure(int slots)
{
    conf = (struct conf){.data = text("%s", test_path("data")),
                         .host = "127.0.0.1",
                         .worker_path = "/proc/self/exe",
                         .workers = slots,
                         .upload_max = 1 << 20,
                         .memory = 1 << 30,
                         .blob_grace_s = service_grace_s};
    log_init("ptqd", LOG_INFO);
}

static struct daemon *start(int slots)
{
    struct err e = ERR_INIT;
    configure(slots);
    struct daemon *d = daemon_start(&conf, &e);
    if (!d)
        FAIL("daemon_start: %s", e.detail);
    return d;
}

static void *run(void *d)
{
    daemon_run(d);
    return NULL;
}

void service_start(int slots)
{
    struct daemon *d = start(slots);
    port = daemon_port(d);
    CHECK_INT(pthread_create(&thread, NULL, run, d), 0);
}

void service_stop(void)
{
    kill(getpid(), SIGTERM);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

int service_fork(int slots)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        daemon_run(start(slots));
        _exit(0);
    }
    return pid;
}

static int dial(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

void service_attach(void)
{
    for (;;) {
        FILE *f = fopen(test_path("data/port"), "r");
        int fd = -1;
        if (f && fscanf(f, "%d", &port) == 1)
            fd = dial();
        if (f)
            fclose(f);
        if (fd >= 0) {
            close(fd);
            return;
        }
        usleep(2000);
    }
}

static void send_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the answer will show it */
        p += n;
        len -= (size_t)n;
    }
}

static void receive_all(int fd, struct buf *ret)
{
    char chunk[16384];
    ssize_t n;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0)
        buf_add(ret, chunk, (size_t)n);
}

struct answer ask(const char *method, const char *path, const char *extra, const char *body)
{
    struct answer a = {.status = 0};
    struct buf in;
    buf_init(&in, 64 << 20);
    int fd = dial();
    if (fd >= 0) {
        buf_addf(&in, "%s %s HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n%s", method, path, port,
                 extra ? extra : "");
        buf_addf(&in, "Content-Length: %zu\r\n\r\n%s", body ? strlen(body) : 0, body ? body : "");
        send_all(fd, in.data, in.len);
        buf_clear(&in);
        receive_all(fd, &in);
        close(fd);
    }
    char *all = keep(in.data, in.len + 1), *end = strstr(all, "\r\n\r\n");
    buf_done(&in);
    a.head = all;
    a.body = (char *)"";
    if (end) {
        *end = '\0';
        a.body = end + 4;
    }
    sscanf(all, "HTTP/%*s %d", &a.status);
    a.json = json_loads(a.body, JSON_REJECT_DUPLICATES, NULL);
    keep(&a.json, sizeof a.json); /* so that it is known to be in use */
    return a;
}

struct answer get(const char *path)
{
    return ask("GET", path, NULL, NULL);
}

const char *field(const struct answer *a, const char *key)
{
    const char *v = json_string_value(json_object_get(a->json, key));
    return v ? v : "";
}

bool has_header(const struct answer *a, const char *line)
{
    return strcasestr(a->head, line) != NULL;
}

void service_fill(void)
{
    struct answer m = ask("PUT", "/v1/models", NULL, "a model of no importance");
    CHECK(m.status == 201 || m.status == 200);
    model_id = field(&m, "id");
    struct answer d = ask("PUT", "/v1/datasets", NULL, "some samples");
    CHECK(d.status == 201 || d.status == 200);
    data_id = field(&d, "id");
}

const char *submit(const char *kind, const char *how)
{
    struct answer a =
        ask("POST", "/v1/jobs", NULL,
            text("{\"kind\":\"%s\",\"model\":\"%s\",\"data\":\"%s\",\"quant_config\":{\"fake\":"
                 "\"%s\"}}",
                 kind, model_id, data_id, how));
    if (a.status != 202)
        FAIL("POST /v1/jobs: %s\n%s", a.head, a.body);
    return field(&a, "id");
}

const char *wait_end(const char *job)
{
    for (;;) {
        struct answer a = ask("GET", text("/v1/jobs/%s", job), "Prefer: wait=30\r\n", NULL);
        CHECK_INT(a.status, 200);
        const char *state = field(&a, "state");
        if (!strcmp(state, "succeeded") || !strcmp(state, "failed") || !strcmp(state, "cancelled"))
            return state;
    }
}
