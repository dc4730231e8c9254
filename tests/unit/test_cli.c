/* The client's tables, its packing of data, and its following of streams that break. */
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/archive.h"
#include "cli/http.h"
#include "cli/show.h"
#include "common/json.h"
#include "tests/test.h"

/* ---- tables ---- */

static const char *printed(void (*show)(const void *), const void *what)
{
    size_t len;
    fflush(stdout);
    int before = dup(STDOUT_FILENO);
    CHECK(freopen(test_path("out.txt"), "w", stdout) != NULL);
    show(what);
    fflush(stdout);
    dup2(before, STDOUT_FILENO);
    close(before);
    return test_read(test_path("out.txt"), &len);
}

static void show_plain(const void *t)
{
    table_plain(t);
}

static void show_boxed(const void *t)
{
    table_boxed(t);
}

void test_cli__the_plain_table_has_one_width(void)
{
    const char *rows[][TABLE_COLUMNS_MAX] = {{"Output", "L1 Distance"},
                                             {"drive_area_seg", "0.004005"}};
    struct table t = {.n_columns = 2, .n_rows = 2, .rows = rows};
    CHECK_STR(printed(show_plain, &t), "=============================\n"
                                       "Output          L1 Distance  \n"
                                       "-----------------------------\n"
                                       "drive_area_seg  0.004005     \n");
}

void test_cli__the_boxed_table_centres_its_cells(void)
{
    const char *rows[][TABLE_COLUMNS_MAX] = {{"Output", "Min"}, {"box_arrow", "-0.231095"}};
    struct table t = {.n_columns = 2, .n_rows = 2, .rows = rows};
    CHECK_STR(printed(show_boxed, &t), "+-----------+-----------+\n"
                                       "|   Output  |    Min    |\n"
                                       "+-----------+-----------+\n"
                                       "| box_arrow | -0.231095 |\n"
                                       "+-----------+-----------+\n");
}

static void show_result(const void *result)
{
    show_evaluation(result);
}

void test_cli__an_evaluation_is_told_in_tables(void)
{
    struct err e = ERR_INIT;
    static const char text[] =
        "{\"samples\":1,\"outputs\":[],\"first_sample\":[{\"output\":\"det_out\","
        "\"cosine-similarity\":0.9953524,\"l1\":7.633481,\"l2\":289.637665,\"chebyshev\":null}],"
        "\"accuracy\":{\"metric\":\"top-1\",\"float\":0.5,\"quantized\":0.25,\"samples\":4,"
        "\"relative\":0.5,\"difference_interval\":[-0.6,0.1]}}";
    json_t *result = json_parse(text, strlen(text), &e);
    CHECK(result != NULL);
    CHECK_STR(printed(show_result, result),
              "The quantized model output:\n"
              "==========================================================================\n"
              "Output   Cosine Similarity  L1 Distance  L2 Distance  Chebyshev Distance  \n"
              "--------------------------------------------------------------------------\n"
              "det_out  0.995352           7.633481     289.637665   nan                 \n"
              "Accuracy (top-1, 4 samples): float 0.50000, quantized 0.25000 (50.00 % of float), "
              "difference within [-0.60000, +0.10000] at 95 % confidence\n");
    json_decref(result);
}

static void show_all_of(const void *result)
{
    show_info(result);
}

/* The forms that HMCT's users parse: a node's line, an output's line, and the box of a data set. */
void test_cli__info_prints_nodes_and_outputs_as_hmct_info(void)
{
    struct err e = ERR_INIT;
    static const char one[] =
        "{\"samples\":1,\"nodes\":[{\"node\":\"Conv_0\",\"type\":\"Conv\",\"on\":\"BPU\","
        "\"subgraph\":0,\"cosine-similarity\":0.9999996,\"threshold\":2.5,\"input_qtype\":\"int8\","
        "\"output_qtype\":\"int16\"},{\"node\":\"TopK_1\",\"type\":\"TopK\",\"on\":\"CPU\","
        "\"subgraph\":null,\"cosine-similarity\":null,\"threshold\":null,\"input_qtype\":"
        "\"float32\",\"output_qtype\":\"float32\"}],\"first_sample\":[{\"output\":\"lane_line_"
        "seg\","
        "\"cosine-similarity\":0.9999331,\"l1\":0.000417,\"l2\":0.000069,\"chebyshev\":0.564768}]}";
    json_t *result = json_parse(one, strlen(one), &e);
    CHECK(result != NULL);
    CHECK_STR(printed(show_all_of, result),
              "The quantized model nodes:\n"
              "============================================================================\n"
              "Node    ON   Subgraph  Type  Cosine Similarity  Threshold  In/Out DataType  \n"
              "----------------------------------------------------------------------------\n"
              "Conv_0  BPU  id(0)     Conv  1.000000           2.500000   int8/int16       \n"
              "TopK_1  CPU  --        TopK  --                 --         float32/float32  \n"
              "\n"
              "The quantized model output:\n"
              "================================================================================\n"
              "Output         Cosine Similarity  L1 Distance  L2 Distance  Chebyshev Distance  \n"
              "--------------------------------------------------------------------------------\n"
              "lane_line_seg  0.999933           0.000417     0.000069     0.564768            \n");
    json_decref(result);
    static const char many[] =
        "{\"samples\":2,\"nodes\":null,\"first_sample\":[],\"outputs\":[{\"output\":\"box_arrow\","
        "\"metrics\":{\"cosine-similarity\":{\"min\":-0.231095,\"max\":0.99862,\"avg\":0.850558},"
        "\"l1\":{\"min\":1,\"max\":2,\"avg\":1.5},\"l2\":{\"min\":1,\"max\":2,\"avg\":1.5},"
        "\"chebyshev\":{\"min\":null,\"max\":null,\"avg\":null}}}]}";
    result = json_parse(many, strlen(many), &e);
    CHECK(result != NULL);
    CHECK_STR(printed(show_all_of, result),
              "+-----------+-------------------+-----------+----------+----------+\n"
              "|   Output  |       Metric      |    Min    |   Max    |   Avg    |\n"
              "+-----------+-------------------+-----------+----------+----------+\n"
              "| box_arrow | cosine-similarity | -0.231095 | 0.998620 | 0.850558 |\n"
              "| box_arrow |         l1        |  1.000000 | 2.000000 | 1.500000 |\n"
              "| box_arrow |         l2        |  1.000000 | 2.000000 | 1.500000 |\n"
              "| box_arrow |     chebyshev     |    nan    |   nan    |   nan    |\n"
              "+-----------+-------------------+-----------+----------+----------+\n");
    json_decref(result);
}

/* ---- packing ---- */

static void make_data(void)
{
    mkdir(test_path("data"), 0755);
    mkdir(test_path("data/a:0"), 0755);
    test_write(test_path("data/a:0/1.npy"), "one", 3);
    test_write(test_path("data/a:0/0.npy"), "zero", 4);
    test_write(test_path("data/.hidden"), "x", 1);
    test_write(test_path("labels.npy"), "labels", 6);
}

void test_cli__packing_the_same_files_gives_the_same_bytes(void)
{
    struct err e = ERR_INIT;
    size_t n1, n2;
    make_data();
    CHECK_OK(pack_folder(test_path("data"), test_path("labels.npy"), test_path("1.tar"), &e), e);
    chmod(test_path("data/a:0/1.npy"), 0600);
    test_write(test_path("data/a:0/0.npy"), "zero", 4);
    CHECK_OK(pack_folder(test_path("data"), test_path("labels.npy"), test_path("2.tar"), &e), e);
    char *one = test_read(test_path("1.tar"), &n1), *two = test_read(test_path("2.tar"), &n2);
    CHECK_INT(n1, n2);
    CHECK_MEM(one, two, n1);
    CHECK_STR(one, "labels.npy");
    CHECK_STR(one + 1024, "a:0/0.npy");
    CHECK_STR(one + 2048, "a:0/1.npy");
}

void test_cli__packing_refuses_what_is_no_data(void)
{
    struct err e = ERR_INIT;
    make_data();
    test_write(test_path("data/a:0/model.onnx"), "x", 1);
    CHECK_INT(pack_folder(test_path("data"), NULL, test_path("1.tar"), &e), -1);
    CHECK(strstr(e.at, "a:0/model.onnx"));
    struct err empty = ERR_INIT;
    mkdir(test_path("none"), 0755);
    CHECK_INT(pack_folder(test_path("none"), NULL, test_path("1.tar"), &empty), -1);
    CHECK(strstr(empty.detail, "no samples"));
}

/* ---- streams: a server that breaks off after two events a connection ---- */

static int listen_anywhere(int *ret_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_INT(listen(fd, 8), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static void serve_two_events(int fd)
{
    char request[4096], *last;
    int c = accept(fd, NULL, NULL);
    size_t n = 0;
    while (n < sizeof request - 1) {
        ssize_t got = read(c, request + n, sizeof request - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
        request[n] = '\0';
        if (strstr(request, "\r\n\r\n"))
            break;
    }
    last = strstr(request, "Last-Event-ID: ");
    int seq = last ? atoi(last + 15) : 0;
    dprintf(c,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n");
    for (int i = seq + 1; i <= seq + 2; i++)
        dprintf(
            c,
            ": hb\n\nid: %d\r\nevent: log\r\ndata: {\"seq\":%d,\"type\":\"log\",\"data\":{}}\n\n",
            i, i);
    dprintf(c, "id: %d\ndata: {\"seq\":%d,\"ty", seq + 3, seq + 3); /* torn */
    close(c);
}

struct heard {
    long long seq[16];
    int n;
};

static int hear(void *ctx, long long seq, const char *type, const json_t *data)
{
    struct heard *h = ctx;
    CHECK_STR(type, "log");
    CHECK(json_is_object(data));
    h->seq[h->n++] = seq;
    return h->n == 7;
}

void test_cli__a_stream_that_breaks_goes_on_where_it_was(void)
{
    int port, fd = listen_anywhere(&port);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            serve_two_events(fd);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    struct remote *h = remote_new(url);
    struct heard heard = {.n = 0};
    struct err e = ERR_INIT;
    long long seq = 0;
    CHECK_OK(remote_follow(h, "/v1/jobs/job_1/events", &seq, hear, &heard, &e), e);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    remote_free(h);
    CHECK_INT(heard.n, 7);
    for (int i = 0; i < 7; i++)
        CHECK_INT(heard.seq[i], i + 1);
}

void test_cli__no_server_is_an_error_of_its_own(void)
{
    int port, fd = listen_anywhere(&port);
    close(fd);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
    struct remote *h = remote_new(url);
    struct err e = ERR_INIT;
    CHECK_INT(remote_call(h, "GET", "/v1/jobs", NULL, NULL, &e), -1);
    CHECK_INT(e.code, ERR_UNAVAILABLE);
    CHECK(strstr(e.detail, "ptqd --data"));
    remote_free(h);
}

static void answer_once(int fd, const char *answer)
{
    char request[4096];
    int c = accept(fd, NULL, NULL);
    if (read(c, request, sizeof request) > 0)
        dprintf(c, "%s", answer);
    close(c);
}

void test_cli__a_problem_document_becomes_the_error(void)
{
    int port, fd = listen_anywhere(&port);
    static const char body[] = "{\"type\":\"/problems/bad-model\",\"title\":\"t\",\"status\":422,"
                               "\"detail\":\"Node Conv_3 is bad.\",\"at\":\"Conv_3\"}";
    char answer[512], url[64];
    snprintf(answer, sizeof answer,
             "HTTP/1.1 422 X\r\nContent-Type: application/problem+json\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
             strlen(body), body);
    pid_t pid = fork();
    if (pid == 0) {
        answer_once(fd, answer);
        _exit(0);
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
    struct remote *h = remote_new(url);
    struct err e = ERR_INIT;
    json_t *body_json = json_pack("{}");
    CHECK_INT(remote_call(h, "POST", "/v1/models", body_json, NULL, &e), -1);
    CHECK_INT(e.code, ERR_BAD_MODEL);
    CHECK_STR(e.at, "Conv_3");
    CHECK_STR(e.detail, "Node Conv_3 is bad.");
    json_decref(body_json);
    remote_free(h);
    waitpid(pid, NULL, 0);
}
