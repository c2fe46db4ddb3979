/* What the daemon counts, for Prometheus. Each worker has counters of its own, which it alone writes; a
 * scrape adds them up. No label ever names a user or a content. docs/METRICS.md explains each one. */
#ifndef EMBSUM_SERVER_METRICS_H
#define EMBSUM_SERVER_METRICS_H

#include "server/http_message.h"
#include "store/blob.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdint.h>

enum metrics_route {
    METRICS_RANK,
    METRICS_USERS,
    METRICS_CONTENTS,
    METRICS_LIVEZ,
    METRICS_READYZ,
    METRICS_METRICS,
    METRICS_OPENAPI,
    METRICS_VERSION,
    METRICS_HOT,
    METRICS_CONSOLE, /* its page and what belongs to that */
    METRICS_ADMIN,   /* whatever the operators' listener knows */
    METRICS_OTHER,   /* no such path */
    METRICS_REFUSED, /* refused before its path was looked at */
    METRICS_ROUTES
};
const char *metrics_route_name(enum metrics_route route); /* "/rank", ... */

enum metrics_missing { METRICS_NOT_FOUND, METRICS_CORRUPT, METRICS_UNAVAILABLE, METRICS_MISSING };

/* Requests that were refused for want of room in the queue, because they would have waited too long, or had. */
enum metrics_shed { METRICS_SHED_QUEUE, METRICS_SHED_EARLY, METRICS_SHED_LATE, METRICS_SHEDS };

/* Answers that are less than they could be, and say so. */
enum metrics_degraded { METRICS_STORE_UNAVAILABLE, METRICS_USER_CORRUPT, METRICS_DEGRADED };

/* Lines that the access log lacks: its reader was too slow, or there were too many errors. */
enum metrics_unlogged { METRICS_LOG_FULL, METRICS_LOG_LIMITED, METRICS_UNLOGGED };

#define METRICS_STATUSES 14 /* rows of metrics.c's table */
#define METRICS_BUCKETS 19
#define METRICS_STAGES 4 /* of a ranking, as in Server-Timing */
#define METRICS_USER_STATUSES 5

typedef atomic_uint_fast64_t metrics_counter;

struct metrics_histogram {
    metrics_counter bucket[METRICS_BUCKETS + 1]; /* the last: slower than all */
    metrics_counter nanoseconds;
};

struct metrics {
    struct metrics_histogram requests[METRICS_ROUTES][METRICS_STATUSES];
    struct metrics_histogram stages[METRICS_STAGES];
    struct metrics_histogram queue; /* what requests have waited for a worker */
    struct metrics_histogram
        change_delay;       /* the watcher's: from a change in the store to its being followed */
    metrics_counter scored; /* pairs of a user and a candidate */
    metrics_counter users[METRICS_USER_STATUSES]; /* of enum user_status */
    metrics_counter missing[METRICS_MISSING];
    metrics_counter degraded[METRICS_DEGRADED];
    metrics_counter blobs[BLOB_REASONS]; /* blobs that were refused, by reason */
    metrics_counter shed[METRICS_SHEDS];
    metrics_counter store_errors[STORE_FAULTS];
    metrics_counter unlogged[METRICS_UNLOGGED];
};

/* The writer is one thread: no locked instruction is needed, only that a reader never sees half a number. */
static inline void metrics_add(metrics_counter *counter, uint64_t value)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

/* `count` things have taken `ns` each. */
void metrics_observe(struct metrics_histogram *histogram, uint64_t ns, uint64_t count);

void metrics_request(struct metrics *metrics, enum metrics_route route, unsigned status, uint64_t ns);

struct worker;
void metrics_handle(
    struct worker *worker, const struct http_request *request, struct http_response *response);

#endif
