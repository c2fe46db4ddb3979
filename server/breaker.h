/* Keeps the daemon from asking a store that is away: whoever misses something is told at once that it is unavailable,
 * in place of waiting for a time-out, and what is in memory is ranked as ever.
 *
 * BREAKER_FAILURES calls in a row that fail open it, whoever made them; then one call a second is let through, the
 * probe, and the first that succeeds closes it. Any number of threads may use one. */
#ifndef EMBSUM_SERVER_BREAKER_H
#define EMBSUM_SERVER_BREAKER_H

#include "server/log.h"

#include <pthread.h>
#include <stdatomic.h>

enum { BREAKER_FAILURES = 5, BREAKER_PROBE_MS = 1000 };

struct breaker {
    const struct log *log;
    pthread_mutex_t lock; /* for writers of what follows */
    atomic_bool open;
    atomic_uint failures; /* in a row */
    uint64_t opened_ms, probe_ms;
    atomic_uint_fast64_t openings; /* so far */
};

void breaker_init(struct breaker *breaker, const struct log *log);
void breaker_done(struct breaker *breaker);

/* May the store be asked now? Who is allowed to is expected to ask, as it may be the probe. */
bool breaker_allows(struct breaker *breaker);

/* How a call to the store has ended. It opens or closes with a line in the log, which tells why. */
void breaker_succeeded(struct breaker *breaker);
void breaker_failed(struct breaker *breaker, const char *why);

static inline uint64_t breaker_opened(struct breaker *breaker) /* how often so far */
{
    return atomic_load_explicit(&breaker->openings, memory_order_relaxed);
}

static inline bool breaker_is_open(struct breaker *breaker)
{
    return atomic_load_explicit(&breaker->open, memory_order_relaxed);
}

#endif
