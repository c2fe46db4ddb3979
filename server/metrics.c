#include "server/metrics.h"

#include "server/access.h"
#include "server/http.h"
#include "server/metrics_int.h"
#include "server/rank.h"
#include "server/sandbox.h"
#include "server/shadow.h"
#include "server/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const route_names[METRICS_ROUTES] = {
    [METRICS_RANK] = "/rank",
    [METRICS_USERS] = "/users/{id}",
    [METRICS_CONTENTS] = "/contents/{id}",
    [METRICS_LIVEZ] = "/livez",
    [METRICS_READYZ] = "/readyz",
    [METRICS_METRICS] = "/metrics",
    [METRICS_OPENAPI] = "/openapi.json",
    [METRICS_VERSION] = "/version",
    [METRICS_HOT] = "/hot",
    [METRICS_CONSOLE] = "console",
    [METRICS_ADMIN] = "admin",
    [METRICS_OTHER] = "other",
    [METRICS_REFUSED] = "refused",
};

const char *metrics_route_name(enum metrics_route route)
{
    return route_names[route];
}

static const char *const missing_names[METRICS_MISSING] = {
    [METRICS_NOT_FOUND] = "not_found",
    [METRICS_CORRUPT] = "corrupt",
    [METRICS_UNAVAILABLE] = "unavailable",
};

/* The last row counts what no other names. */
static const unsigned statuses[METRICS_STATUSES] = {
    200, 304, 400, 401, 404, 405, 408, 411, 413, 414, 415, 431, 503, 500};

/* ---- counting ---- */

/* Upper bounds, and as Prometheus writes them: seconds. */
static const struct {
    uint64_t ns;
    const char *seconds;
} buckets[METRICS_BUCKETS] = {
    {5000, "5e-06"},
    {10000, "1e-05"},
    {25000, "2.5e-05"},
    {50000, "5e-05"},
    {100000, "0.0001"},
    {250000, "0.00025"},
    {500000, "0.0005"},
    {1000000, "0.001"},
    {2500000, "0.0025"},
    {5000000, "0.005"},
    {10000000, "0.01"},
    {25000000, "0.025"},
    {50000000, "0.05"},
    {100000000, "0.1"},
    {250000000, "0.25"},
    {500000000, "0.5"},
    {1000000000, "1"},
    {2500000000, "2.5"},
    {5000000000, "5"},
};

void metrics_observe(struct metrics_histogram *histogram, uint64_t ns, uint64_t count)
{
    size_t bucket = 0;
    while (bucket < METRICS_BUCKETS && ns > buckets[bucket].ns)
        bucket++;
    metrics_add(&histogram->bucket[bucket], count);
    metrics_add(&histogram->nanoseconds, ns * count);
}

void metrics_request(struct metrics *metrics, enum metrics_route route, unsigned status, uint64_t ns)
{
    size_t row = 0;
    while (row < METRICS_STATUSES - 1 && statuses[row] != status)
        row++;
    metrics_observe(&metrics->requests[route][row], ns, 1);
}

/* ---- the page's means ---- */

uint64_t metrics_sum(const struct service *service, size_t offset)
{
    uint64_t total = 0;
    for (size_t i = 0; i < service->thread_count; i++) {
        const char *base = (const char *)&service->threads[i].metrics;
        total += atomic_load_explicit(
            (const metrics_counter *)(const void *)(base + offset), memory_order_relaxed);
    }
    return total;
}

void metrics_head(struct writer *w, const char *name, const char *type, const char *help)
{
    writer_printf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_single(struct writer *w, const char *name, const char *type, const char *help, uint64_t value)
{
    metrics_head(w, name, type, help);
    writer_printf(w, "%s %" PRIu64 "\n", name, value);
}

static size_t bucket_offset(size_t histogram, size_t bucket)
{
    return histogram + offsetof(struct metrics_histogram, bucket) + bucket * sizeof(metrics_counter);
}

void metrics_write_histogram(
    struct writer *w, const struct service *service, const char *name, const char *labels, size_t offset)
{
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    uint64_t below = 0;
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        below += metrics_sum(service, bucket_offset(offset, i));
        writer_printf(
            w, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", name, labels, comma, buckets[i].seconds, below);
    }
    below += metrics_sum(service, bucket_offset(offset, METRICS_BUCKETS));
    const uint64_t ns = metrics_sum(service, offset + offsetof(struct metrics_histogram, nanoseconds));
    writer_printf(w, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, below);
    writer_printf(w, "%s_sum%s%s%s %.9g\n", name, open, labels, close, (double)ns / 1e9);
    writer_printf(w, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, below);
}

static uint64_t observed(const struct service *service, size_t offset)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= METRICS_BUCKETS; i++)
        count += metrics_sum(service, bucket_offset(offset, i));
    return count;
}

/* ---- requests ---- */

/* Most routes never answer most codes, and a page of a machine with many threads is not to go through all their buckets:
 * who was answered has taken time. Only what was refused is not timed. */
static uint64_t answered(const struct service *service, size_t route, size_t row)
{
    const size_t offset = offsetof(struct metrics, requests[route][row]);
    const bool timed = metrics_sum(service, offset + offsetof(struct metrics_histogram, nanoseconds)) > 0;
    return timed || route == METRICS_REFUSED ? observed(service, offset) : 0;
}

/* Codes appear when they have been answered, but for those that rates are taken of: a rate wants a start. */
static bool is_shown(size_t route, size_t row, uint64_t count)
{
    const bool awaited = statuses[row] == 200 || (route == METRICS_RANK && statuses[row] >= 500);
    return count || (route < METRICS_OTHER && awaited);
}

static void write_requests(struct writer *w, const struct service *service)
{
    static const char requests[] = "embsum_http_requests_total",
                      duration[] = "embsum_http_request_duration_seconds";
    uint64_t count[METRICS_ROUTES][METRICS_STATUSES];
    metrics_head(w, requests, "counter", "Requests answered, by route and status.");
    for (size_t route = 0; route < METRICS_ROUTES; route++) {
        for (size_t row = 0; row < METRICS_STATUSES; row++) {
            count[route][row] = answered(service, route, row);
            if (is_shown(route, row, count[route][row]))
                writer_printf(w, "%s{route=\"%s\",code=\"%u\"} %" PRIu64 "\n", requests, route_names[route],
                    statuses[row], count[route][row]);
        }
    }
    metrics_head(w, duration, "histogram",
        "Time from a complete request to its answer's first byte, by route and status.");
    for (size_t route = 0; route < METRICS_REFUSED; route++) {
        for (size_t row = 0; row < METRICS_STATUSES; row++) {
            char labels[64];
            snprintf(labels, sizeof labels, "route=\"%s\",code=\"%u\"", route_names[route], statuses[row]);
            if (is_shown(route, row, count[route][row]))
                metrics_write_histogram(
                    w, service, duration, labels, offsetof(struct metrics, requests[route][row]));
        }
    }
}

static uint64_t ranked_by(const struct worker *worker)
{
    uint64_t count = 0;
    for (size_t row = 0; row < METRICS_STATUSES; row++)
        for (size_t i = 0; i <= METRICS_BUCKETS; i++)
            count += atomic_load_explicit(
                &worker->metrics.requests[METRICS_RANK][row].bucket[i], memory_order_relaxed);
    return count;
}

static void write_threads(struct writer *w, const struct service *service)
{
    metrics_head(
        w, "embsum_worker_requests_total", "counter", "Requests ranked, by the worker that finished them.");
    for (size_t i = 0; i < service->worker_count; i++)
        writer_printf(w, "embsum_worker_requests_total{worker=\"%zu\"} %" PRIu64 "\n", i,
            ranked_by(&service->workers[i]));
    metrics_head(w, "embsum_loop_requests_total", "counter",
        "Short requests ranked by the loop that read them, without a worker.");
    for (size_t i = 0; i < service->loop_count; i++)
        writer_printf(
            w, "embsum_loop_requests_total{loop=\"%zu\"} %" PRIu64 "\n", i, ranked_by(&service->loops[i]));
    metrics_single(w, "embsum_worker_queue", "gauge", "Tasks that no worker has begun.",
        pool_waiting(service->worker_pool));
    metrics_single(w, "embsum_worker_queue_limit", "gauge",
        "Requests that may wait for a worker: server.queue_max.",
        (uint64_t)service->config->server.queue_max);
    metrics_single(w, "embsum_reader_queue", "gauge", "Batches that no reader has begun.",
        pool_waiting(service->reader_pool));
}

static void write_connections(struct writer *w, const struct service *service)
{
    struct http_stats stats;
    if (!service->http)
        return;
    http_stats(service->http, &stats);
    metrics_single(w, "embsum_http_connections", "gauge", "Connections open.", stats.connections);
    metrics_single(w, "embsum_http_connections_limit", "gauge",
        "Connections that may be open: server.connections_max, or what the system allows.",
        (uint64_t)service->config->server.connections_max);
    metrics_single(w, "embsum_http_connections_refused_total", "counter",
        "Connections answered with 503 at the limit.", stats.refused);
    static const char *const phases[] = {"header", "body", "write"};
    metrics_head(w, "embsum_http_connections_cut_total", "counter",
        "Connections closed because a header or a body came, or an answer was taken, too slowly.");
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        writer_printf(
            w, "embsum_http_connections_cut_total{phase=\"%s\"} %" PRIu64 "\n", phases[i], stats.cut[i]);
    metrics_single(
        w, "embsum_http_body_bytes", "gauge", "Bodies of the requests under way together.", stats.body_bytes);
}

/* ---- rankings ---- */

static void write_times(struct writer *w, const struct service *service)
{
    static const char *const stages[METRICS_STAGES] = {"parse", "fetch", "score", "write"};
    metrics_head(w, "embsum_rank_stage_seconds", "histogram",
        "What a request to /rank has spent in each stage that it reached, as in Server-Timing.");
    for (size_t i = 0; i < METRICS_STAGES; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "stage=\"%s\"", stages[i]);
        metrics_write_histogram(
            w, service, "embsum_rank_stage_seconds", labels, offsetof(struct metrics, stages[i]));
    }
    metrics_head(
        w, "embsum_rank_queue_seconds", "histogram", "How long requests to /rank have waited for a worker.");
    metrics_write_histogram(w, service, "embsum_rank_queue_seconds", "", offsetof(struct metrics, queue));
}

static void write_ranking(struct writer *w, const struct service *service)
{
    static const char *const sheds[METRICS_SHEDS] = {"queue_full", "would_wait", "has_waited"};
    static const char *const degraded[METRICS_DEGRADED] = {"store_unavailable", "user_corrupt"};
    metrics_head(
        w, "embsum_shed_total", "counter", "Requests refused with 503 because the daemon was too busy.");
    for (size_t i = 0; i < METRICS_SHEDS; i++)
        writer_printf(
            w, "embsum_shed_total{reason=\"%s\"} %" PRIu64 "\n", sheds[i], METRICS_SUM(service, shed[i]));
    write_times(w, service);
    metrics_single(w, "embsum_scored_total", "counter", "Pairs of a user and a candidate scored.",
        METRICS_SUM(service, scored));
    metrics_head(w, "embsum_ranked_users_total", "counter",
        "Users of answers to /rank, by what was found of them; default: ranked as the default user.");
    for (size_t i = 0; i < METRICS_USER_STATUSES; i++)
        writer_printf(w, "embsum_ranked_users_total{status=\"%s\"} %" PRIu64 "\n",
            rank_user_status_name((enum user_status)i), METRICS_SUM(service, users[i]));
    metrics_head(w, "embsum_degraded_total", "counter", "Answers to /rank marked as degraded, by reason.");
    for (size_t i = 0; i < METRICS_DEGRADED; i++)
        writer_printf(w, "embsum_degraded_total{reason=\"%s\"} %" PRIu64 "\n", degraded[i],
            METRICS_SUM(service, degraded[i]));
    metrics_head(w, "embsum_missing_total", "counter", "Candidates that could not be scored, by reason.");
    for (size_t i = 0; i < METRICS_MISSING; i++)
        writer_printf(w, "embsum_missing_total{reason=\"%s\"} %" PRIu64 "\n", missing_names[i],
            METRICS_SUM(service, missing[i]));
    metrics_head(
        w, "embsum_blobs_refused_total", "counter", "Blobs read from the store and refused, by reason.");
    for (size_t i = BLOB_OK + 1; i < BLOB_REASONS; i++)
        writer_printf(w, "embsum_blobs_refused_total{reason=\"%s\"} %" PRIu64 "\n",
            blob_reason_name((enum blob_reason)i), METRICS_SUM(service, blobs[i]));
}

/* ---- the rest ---- */

static void write_access(struct writer *w, const struct service *service)
{
    static const char *const unlogged[METRICS_UNLOGGED] = {"full", "limit"};
    metrics_single(w, "embsum_access_log_lines_total", "counter",
        "Lines of the access log that were written.", access_lines(service->access));
    metrics_head(w, "embsum_access_log_dropped_total", "counter",
        "Lines that the access log lacks: full, what writes or reads it is too slow; limit, too many "
        "errors.");
    for (size_t i = 0; i < METRICS_UNLOGGED; i++)
        writer_printf(w, "embsum_access_log_dropped_total{reason=\"%s\"} %" PRIu64 "\n", unlogged[i],
            METRICS_SUM(service, unlogged[i]));
}

void metrics_handle(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct service *service = worker->service;
    struct writer *w = &response->body;
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_head(w, "embsum_build_info", "gauge", "The program's version.");
    writer_printf(w, "embsum_build_info{version=\"" EMBSUM_VERSION "\"} 1\n");
    write_requests(w, service);
    write_ranking(w, service);
    write_threads(w, service);
    metrics_write_store(w, service);
    metrics_write_generation(w, service);
    write_access(w, service);
    shadow_write(service->shadow, w);
    int last;
    metrics_single(w, "embsum_sandbox_refused_total", "counter", "System calls that the sandbox refused.",
        sandbox_refused(&last));
    write_connections(w, service);
    metrics_write_process(w, service);
}
