/* What the HTTP side tells of itself. */
#include "server/http_priv.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"

static struct metric requests_total = {.name = "ptq_http_requests_total",
                                       .help = "Requests answered.",
                                       .labels = {"route", "method", "code"}};
static struct metric request_seconds = {
    .name = "ptq_http_request_duration_seconds",
    .help = "Time from a request's headers to the end of its reply, streams apart.",
    .labels = {"route"},
    .buckets = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100}};
static struct metric loop_lag = {.name = "ptq_loop_lag_seconds",
                                 .help = "How late the loop's timer came.",
                                 .buckets = {0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10}};

static const char *closed_method(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (!strcmp(methods[i], method))
            return methods[i];
    return "other";
}

void stats_request(const struct req *r, int status)
{
    char code[16];
    const char *route = r->route ? r->route->pattern : "none";
    snprintf(code, sizeof code, "%d", status);
    metric_add(&requests_total, 1, (const char *const[]){route, closed_method(r->method), code});
    if (!r->stream.req)
        metric_observe(&request_seconds, (double)(clock_mono_us() - r->began_us) / 1e6, &route);
}

void stats_loop_lag(int64_t lag_ms)
{
    metric_observe(&loop_lag, lag_ms > 0 ? (double)lag_ms / 1000 : 0, NULL);
}

static void sample_conns(struct gauge_out *out, void *ctx)
{
    gauge_sample(out, ((struct http *)ctx)->n_conns, NULL);
}

static void sample_streams(struct gauge_out *out, void *ctx)
{
    gauge_sample(out, ((struct http *)ctx)->n_streams, NULL);
}

void stats_start(struct http *h)
{
    h->gauge_conns = (struct gauge){.name = "ptq_http_connections",
                                    .help = "Open client connections.",
                                    .fn = sample_conns,
                                    .ctx = h};
    h->gauge_streams = (struct gauge){
        .name = "ptq_http_streams", .help = "Open event streams.", .fn = sample_streams, .ctx = h};
    gauge_add(&h->gauge_conns);
    gauge_add(&h->gauge_streams);
}

void stats_stop(struct http *h)
{
    gauge_remove(&h->gauge_conns);
    gauge_remove(&h->gauge_streams);
}
