#include "server/metrics.h"

#include "server/http.h"
#include "server/sandbox.h"
#include "server/shadow.h"
#include "server/worker.h"

#include <inttypes.h>
#include <string.h>

static const char *const route_names[METRICS_ROUTES] = {
    [METRICS_RANK] = "/rank",
    [METRICS_USERS] = "/users/{id}",
    [METRICS_LIVEZ] = "/livez",
    [METRICS_READYZ] = "/readyz",
    [METRICS_METRICS] = "/metrics",
    [METRICS_VERSION] = "/version",
    [METRICS_ADMIN] = "admin",
    [METRICS_OTHER] = "other",
    [METRICS_REFUSED] = "refused",
};

static const char *const missing_names[METRICS_MISSING] = {
    [METRICS_NOT_FOUND] = "not_found",
    [METRICS_CORRUPT] = "corrupt",
    [METRICS_UNAVAILABLE] = "unavailable",
};

/* The last row counts what no other names. */
static const unsigned statuses[METRICS_STATUSES] = {
    200, 400, 401, 404, 405, 408, 411, 413, 414, 415, 431, 503, 500};

/* Upper bounds in microseconds, and as Prometheus writes them: seconds. */
static const struct {
    uint64_t us;
    const char *seconds;
} buckets[METRICS_BUCKETS] = {
    {50, "5e-05"},
    {100, "0.0001"},
    {250, "0.00025"},
    {500, "0.0005"},
    {1000, "0.001"},
    {2500, "0.0025"},
    {5000, "0.005"},
    {10000, "0.01"},
    {25000, "0.025"},
    {50000, "0.05"},
    {100000, "0.1"},
    {250000, "0.25"},
    {1000000, "1"},
    {5000000, "5"},
};

void metrics_request(struct metrics *metrics, enum metrics_route route, unsigned status, uint64_t ns)
{
    size_t row = 0, bucket = 0;
    while (row < METRICS_STATUSES - 1 && statuses[row] != status)
        row++;
    while (bucket < METRICS_BUCKETS && ns > 1000 * buckets[bucket].us)
        bucket++;
    metrics_add(&metrics->requests[route][row], 1);
    metrics_add(&metrics->bucket[route][bucket], 1);
    metrics_add(&metrics->nanoseconds[route], ns);
}

/* ---- the page ---- */

/* The sum over the threads of the counter at this offset in struct metrics. */
static uint64_t sum(const struct service *service, size_t offset)
{
    uint64_t total = 0;
    for (size_t i = 0; i < service->thread_count; i++) {
        const char *base = (const char *)&service->threads[i].metrics;
        total += atomic_load_explicit(
            (const metrics_counter *)(const void *)(base + offset), memory_order_relaxed);
    }
    return total;
}

#define SUM(service, member) sum(service, offsetof(struct metrics, member))

static void head(struct writer *w, const char *name, const char *type, const char *help)
{
    writer_printf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct writer *w, const char *name, const char *type, const char *help, uint64_t value)
{
    head(w, name, type, help);
    writer_printf(w, "%s %" PRIu64 "\n", name, value);
}

static void write_requests(struct writer *w, const struct service *service)
{
    head(w, "embsum_http_requests_total", "counter", "Requests answered, by route and status.");
    for (size_t route = 0; route < METRICS_ROUTES; route++) {
        for (size_t row = 0; row < METRICS_STATUSES; row++) {
            const uint64_t count = SUM(service, requests[route][row]);
            if (count)
                writer_printf(w, "embsum_http_requests_total{route=\"%s\",code=\"%u\"} %" PRIu64 "\n",
                    route_names[route], statuses[row], count);
        }
    }
    head(w, "embsum_http_request_duration_seconds", "histogram",
        "Time from a complete request to its answer's first byte, by route.");
    for (size_t route = 0; route < METRICS_REFUSED; route++) {
        uint64_t below = 0;
        for (size_t i = 0; i < METRICS_BUCKETS; i++) {
            below += SUM(service, bucket[route][i]);
            writer_printf(w,
                "embsum_http_request_duration_seconds_bucket{route=\"%s\",le=\"%s\"} %" PRIu64 "\n",
                route_names[route], buckets[i].seconds, below);
        }
        below += SUM(service, bucket[route][METRICS_BUCKETS]);
        const uint64_t nanoseconds = SUM(service, nanoseconds[route]);
        writer_printf(w,
            "embsum_http_request_duration_seconds_bucket{route=\"%s\",le=\"+Inf\"} %" PRIu64 "\n"
            "embsum_http_request_duration_seconds_sum{route=\"%s\"} %.9g\n"
            "embsum_http_request_duration_seconds_count{route=\"%s\"} %" PRIu64 "\n",
            route_names[route], below, route_names[route], (double)nanoseconds / 1e9, route_names[route],
            below);
    }
}

static uint64_t ranked_by(const struct worker *worker)
{
    uint64_t count = 0;
    for (size_t row = 0; row < METRICS_STATUSES; row++)
        count += atomic_load_explicit(&worker->metrics.requests[METRICS_RANK][row], memory_order_relaxed);
    return count;
}

static void write_threads(struct writer *w, const struct service *service)
{
    head(w, "embsum_worker_requests_total", "counter", "Requests ranked, by the worker that finished them.");
    for (size_t i = 0; i < service->worker_count; i++)
        writer_printf(w, "embsum_worker_requests_total{worker=\"%zu\"} %" PRIu64 "\n", i,
            ranked_by(&service->workers[i]));
    head(w, "embsum_loop_requests_total", "counter",
        "Short requests ranked by the loop that read them, without a worker.");
    for (size_t i = 0; i < service->loop_count; i++)
        writer_printf(
            w, "embsum_loop_requests_total{loop=\"%zu\"} %" PRIu64 "\n", i, ranked_by(&service->loops[i]));
    single(w, "embsum_worker_queue", "gauge", "Tasks that no worker has begun.",
        pool_waiting(service->worker_pool));
    single(w, "embsum_reader_queue", "gauge", "Batches that no reader has begun.",
        pool_waiting(service->reader_pool));
}

static void write_ranking(struct writer *w, const struct service *service)
{
    static const char *const sheds[METRICS_SHEDS] = {"queue_full", "would_wait", "has_waited"};
    head(w, "embsum_shed_total", "counter", "Requests refused with 503 because the daemon was too busy.");
    for (size_t i = 0; i < METRICS_SHEDS; i++)
        writer_printf(w, "embsum_shed_total{reason=\"%s\"} %" PRIu64 "\n", sheds[i], SUM(service, shed[i]));
    single(
        w, "embsum_scored_total", "counter", "Pairs of a user and a candidate scored.", SUM(service, scored));
    head(w, "embsum_missing_total", "counter", "Candidates that could not be scored, by reason.");
    for (size_t i = 0; i < METRICS_MISSING; i++)
        writer_printf(w, "embsum_missing_total{reason=\"%s\"} %" PRIu64 "\n", missing_names[i],
            SUM(service, missing[i]));
    head(w, "embsum_blobs_refused_total", "counter", "Blobs read from the store and refused, by reason.");
    for (size_t i = BLOB_OK + 1; i < BLOB_REASONS; i++)
        writer_printf(w, "embsum_blobs_refused_total{reason=\"%s\"} %" PRIu64 "\n",
            blob_reason_name((enum blob_reason)i), SUM(service, blobs[i]));
}

static void write_hot(struct writer *w, const struct live_generation *generation)
{
    /* Counters begin anew with each generation, as Prometheus allows. */
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } rows[] = {
        {"embsum_hot_entries", "gauge", "Matrices in memory.", offsetof(struct hot_stats, entries)},
        {"embsum_hot_bytes", "gauge", "Bytes of memory in use.", offsetof(struct hot_stats, bytes)},
        {"embsum_hot_limit_bytes", "gauge", "Bytes that may be used.",
            offsetof(struct hot_stats, limit_bytes)},
        {"embsum_hot_hits_total", "counter", "Look-ups that found their matrix.",
            offsetof(struct hot_stats, hits)},
        {"embsum_hot_misses_total", "counter", "Look-ups that did not.", offsetof(struct hot_stats, misses)},
        {"embsum_hot_evictions_total", "counter", "Matrices forgotten for others.",
            offsetof(struct hot_stats, evictions)},
    };
    struct hot_stats stats[2];
    hot_stats(matrices_hot(generation->users), &stats[0]);
    hot_stats(matrices_hot(generation->contents), &stats[1]);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        head(w, rows[i].name, rows[i].type, rows[i].help);
        for (size_t kind = 0; kind < 2; kind++) {
            uint64_t value;
            memcpy(&value, (const char *)&stats[kind] + rows[i].offset, sizeof value);
            writer_printf(w, "%s{kind=\"%s\"} %" PRIu64 "\n", rows[i].name, kind ? "content" : "user", value);
        }
    }
}

static void write_store(struct writer *w, struct service *service)
{
    head(w, "embsum_store_errors_total", "counter",
        "Calls to the store that failed; paused: not made, as its connection may not try again yet.");
    for (size_t i = 0; i < STORE_FAULTS; i++)
        writer_printf(w, "embsum_store_errors_total{kind=\"%s\"} %" PRIu64 "\n",
            store_fault_name((enum store_fault)i), SUM(service, store_errors[i]));
    single(w, "embsum_store_breaker_open", "gauge",
        "1 while the store is away: it is asked once a second, what is in memory is ranked.",
        breaker_is_open(&service->breaker));
}

/* A label's text: messages quote what came from outside. */
static void write_label(struct writer *w, const char *text)
{
    for (; *text; text++) {
        const bool plain = *text >= ' ' && *text < 0x7F;
        writer_printf(w, *text == '"' || *text == '\\' ? "\\%c" : "%c", plain ? *text : '?');
    }
}

/* There as long as the store's pointer names it. */
static void write_refused(struct writer *w, const struct live_stats *live)
{
    head(w, "embsum_generation_refused_info", "gauge",
        "The live generation in the store, where it was refused, and why.");
    if (!live->refused[0])
        return;
    writer_printf(w, "embsum_generation_refused_info{generation=\"%s\",reason=\"", live->refused);
    write_label(w, live->reason);
    writer_printf(w, "\"} 1\n");
}

static void write_generation(struct writer *w, const struct service *service)
{
    struct live_stats live;
    live_stats(service->live, &live);
    single(w, "embsum_generation_loads_total", "counter", "Generations taken into memory.", live.loads);
    single(w, "embsum_generation_refusals_total", "counter", "Generations refused: incomplete or damaged.",
        live.refusals);
    write_refused(w, &live);
    single(w, "embsum_generation_changes_total", "counter", "Changes inside generations that were followed.",
        live.changes);
    struct live_generation *generation = live_acquire(service->live);
    single(w, "embsum_ready", "gauge", "1 if a verified generation is in memory.", generation != NULL);
    if (!generation)
        return;
    const struct manifest *manifest = &generation->manifest;
    head(w, "embsum_generation_info", "gauge", "The generation in memory.");
    writer_printf(w,
        "embsum_generation_info{generation=\"%s\",m=\"%zu\",n=\"%zu\",d=\"%zu\",dtype=\"%s\",kernel=\"%s\"} "
        "1\n",
        generation->name, manifest->m, manifest->n, manifest->d, service->config->scoring.dtype,
        scorer_kernel(generation->scorer));
    single(w, "embsum_generation_created_timestamp_seconds", "gauge", "When the generation was made.",
        (uint64_t)manifest->created);
    single(w, "embsum_generation_loaded_timestamp_seconds", "gauge", "When it was taken into memory.",
        (uint64_t)generation->loaded);
    head(w, "embsum_generation_load_seconds", "gauge", "How long loading it took.");
    writer_printf(w, "embsum_generation_load_seconds %.9g\n", generation->load_seconds);
    single(w, "embsum_generation_users", "gauge", "Users in the generation.", manifest->users);
    single(w, "embsum_generation_contents", "gauge", "Contents in the generation.", manifest->contents);
    write_hot(w, generation);
    live_release(generation);
}

static void write_connections(struct writer *w, const struct http *http)
{
    struct http_stats stats;
    http_stats(http, &stats);
    single(w, "embsum_http_connections", "gauge", "Connections open.", stats.connections);
    single(w, "embsum_http_connections_refused_total", "counter",
        "Connections answered with 503 at the limit.", stats.refused);
    static const char *const phases[] = {"header", "body", "write"};
    head(w, "embsum_http_connections_cut_total", "counter",
        "Connections closed because a header or a body came, or an answer was taken, too slowly.");
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        writer_printf(
            w, "embsum_http_connections_cut_total{phase=\"%s\"} %" PRIu64 "\n", phases[i], stats.cut[i]);
    single(
        w, "embsum_http_body_bytes", "gauge", "Bodies of the requests under way together.", stats.body_bytes);
}

void metrics_handle(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct service *service = worker->service;
    struct writer *w = &response->body;
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    head(w, "embsum_build_info", "gauge", "The program's version.");
    writer_printf(w, "embsum_build_info{version=\"" EMBSUM_VERSION "\"} 1\n");
    write_requests(w, service);
    write_ranking(w, service);
    write_threads(w, service);
    write_store(w, service);
    write_generation(w, service);
    shadow_write(service->shadow, w);
    int last;
    single(w, "embsum_sandbox_refused_total", "counter", "System calls that the sandbox refused.",
        sandbox_refused(&last));
    if (service->http)
        write_connections(w, service->http);
}
