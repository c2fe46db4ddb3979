/* The page's part on what lies behind the requests: the store, the generation in memory, the process. */
#include "server/metrics_int.h"
#include "server/process.h"
#include "server/worker.h"

#include <inttypes.h>
#include <string.h>

/* ---- the store ---- */

void metrics_write_store(struct writer *w, struct service *service)
{
    metrics_head(w, "embsum_store_errors_total", "counter",
        "Calls to the store that failed; paused: not made, as its connection may not try again yet.");
    for (size_t i = 0; i < STORE_FAULTS; i++)
        writer_printf(w, "embsum_store_errors_total{kind=\"%s\"} %" PRIu64 "\n",
            store_fault_name((enum store_fault)i), METRICS_SUM(service, store_errors[i]));
    metrics_single(w, "embsum_store_breaker_open", "gauge",
        "1 while the store is away: it is asked once a second, what is in memory is ranked.",
        breaker_is_open(&service->breaker));
    metrics_single(w, "embsum_store_breaker_opened_total", "counter", "How often the breaker has opened.",
        breaker_opened(&service->breaker));
}

/* ---- the generation ---- */

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
        metrics_head(w, rows[i].name, rows[i].type, rows[i].help);
        for (size_t kind = 0; kind < 2; kind++) {
            uint64_t value;
            memcpy(&value, (const char *)&stats[kind] + rows[i].offset, sizeof value);
            writer_printf(w, "%s{kind=\"%s\"} %" PRIu64 "\n", rows[i].name, kind ? "content" : "user", value);
        }
    }
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
    metrics_head(w, "embsum_generation_refused_info", "gauge",
        "The live generation in the store, where it was refused, and why.");
    if (!live->refused[0])
        return;
    writer_printf(w, "embsum_generation_refused_info{generation=\"%s\",reason=\"", live->refused);
    write_label(w, live->reason);
    writer_printf(w, "\"} 1\n");
}

static void write_times(struct writer *w, const struct live_generation *generation)
{
    const time_t refreshed = atomic_load_explicit(&generation->refreshed, memory_order_relaxed);
    metrics_single(w, "embsum_generation_created_timestamp_seconds", "gauge", "When the generation was made.",
        (uint64_t)generation->manifest.created);
    metrics_head(w, "embsum_generation_refreshed_timestamp_seconds", "gauge",
        "When a refresh last saw all of the generation's texts and histories; not there where none has.");
    if (refreshed > 0)
        writer_printf(w, "embsum_generation_refreshed_timestamp_seconds %" PRId64 "\n", (int64_t)refreshed);
    metrics_single(w, "embsum_generation_loaded_timestamp_seconds", "gauge", "When it was taken into memory.",
        (uint64_t)generation->loaded);
    metrics_head(w, "embsum_generation_load_seconds", "gauge", "How long loading it took.");
    writer_printf(w, "embsum_generation_load_seconds %.9g\n", generation->load_seconds);
}

static void write_following(struct writer *w, const struct service *service, const struct live_stats *live)
{
    metrics_single(
        w, "embsum_generation_loads_total", "counter", "Generations taken into memory.", live->loads);
    metrics_single(w, "embsum_generation_refusals_total", "counter",
        "Generations refused: incomplete or damaged.", live->refusals);
    write_refused(w, live);
    metrics_single(w, "embsum_generation_changes_total", "counter",
        "Changes inside generations that were followed.", live->changes);
    metrics_head(w, "embsum_change_delay_seconds", "histogram",
        "How long after it was written a change inside the generation was followed, at most.");
    metrics_write_histogram(
        w, service, "embsum_change_delay_seconds", "", offsetof(struct metrics, change_delay));
    metrics_head(w, "embsum_generation_checked_timestamp_seconds", "gauge",
        "When the daemon last saw in the store that what it has in memory is what is live there.");
    if (live->checked > 0)
        writer_printf(w, "embsum_generation_checked_timestamp_seconds %" PRId64 "\n", (int64_t)live->checked);
}

void metrics_write_generation(struct writer *w, const struct service *service)
{
    struct live_stats live;
    live_stats(service->live, &live);
    write_following(w, service, &live);
    struct live_generation *generation = live_acquire(service->live);
    metrics_single(
        w, "embsum_ready", "gauge", "1 if a verified generation is in memory.", generation != NULL);
    if (!generation)
        return;
    const struct manifest *manifest = &generation->manifest;
    metrics_head(w, "embsum_generation_info", "gauge", "The generation in memory.");
    writer_printf(w,
        "embsum_generation_info{generation=\"%s\",m=\"%zu\",n=\"%zu\",d=\"%zu\",dtype=\"%s\",kernel=\"%s\"} "
        "1\n",
        generation->name, manifest->m, manifest->n, manifest->d, service->config->scoring.dtype,
        scorer_kernel(generation->scorer));
    write_times(w, generation);
    metrics_single(w, "embsum_generation_users", "gauge", "Users in the generation.",
        atomic_load_explicit(&generation->user_count, memory_order_relaxed));
    metrics_single(w, "embsum_generation_contents", "gauge", "Contents in the generation.",
        atomic_load_explicit(&generation->content_count, memory_order_relaxed));
    write_hot(w, generation);
    live_release(generation);
}

/* ---- the process, by the names that Prometheus' own libraries use ---- */

void metrics_write_process(struct writer *w, const struct service *service)
{
    struct process_stats stats;
    if (!service->process || !process_stats(service->process, &stats))
        return;
    metrics_head(w, "process_cpu_seconds_total", "counter", "Processor time spent, by all threads.");
    writer_printf(w, "process_cpu_seconds_total %.9g\n", stats.cpu_seconds);
    metrics_single(
        w, "process_start_time_seconds", "gauge", "When the process started.", (uint64_t)stats.started);
    metrics_single(w, "process_resident_memory_bytes", "gauge", "Memory that the process has resident.",
        stats.resident_bytes);
    metrics_single(w, "embsum_memory_limit_bytes", "gauge",
        "Memory that the process may have: its control group's limit when it started, or the machine's "
        "memory.",
        stats.limit_bytes);
}
