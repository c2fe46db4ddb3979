#include "server/breaker.h"

#include "server/clock.h"

void breaker_init(struct breaker *breaker, const struct log *log)
{
    breaker->log = log;
    pthread_mutex_init(&breaker->lock, NULL);
    atomic_init(&breaker->open, false);
    atomic_init(&breaker->failures, 0);
    atomic_init(&breaker->openings, 0);
}

void breaker_done(struct breaker *breaker)
{
    pthread_mutex_destroy(&breaker->lock);
}

bool breaker_allows(struct breaker *breaker)
{
    if (!breaker_is_open(breaker))
        return true;
    const uint64_t now = clock_ms();
    pthread_mutex_lock(&breaker->lock);
    const bool due = !breaker_is_open(breaker) || now >= breaker->probe_ms;
    if (due)
        breaker->probe_ms = now + BREAKER_PROBE_MS;
    pthread_mutex_unlock(&breaker->lock);
    return due;
}

/* The state's lines are written under the lock, so that they are in order. */
static void log_state(const struct breaker *breaker, enum log_level level, const char *message,
    const char *detail, int64_t open_ms)
{
    struct log_line line;
    log_begin(&line, breaker->log, level, message);
    if (detail)
        log_text(&line, "detail", detail);
    else
        log_int(&line, "open_ms", open_ms);
    log_end(&line);
}

void breaker_succeeded(struct breaker *breaker)
{
    /* Nearly every call: nothing to do, and no lock. */
    if (atomic_load_explicit(&breaker->failures, memory_order_relaxed) == 0)
        return;
    pthread_mutex_lock(&breaker->lock);
    atomic_store_explicit(&breaker->failures, 0, memory_order_relaxed);
    if (breaker_is_open(breaker)) {
        atomic_store_explicit(&breaker->open, false, memory_order_relaxed);
        log_state(
            breaker, LOG_INFO, "store breaker closed", NULL, (int64_t)(clock_ms() - breaker->opened_ms));
    }
    pthread_mutex_unlock(&breaker->lock);
}

/* The pause counts from the end of the probe: a link's own, which is shorter, is over by then, too. */
void breaker_failed(struct breaker *breaker, const char *why)
{
    pthread_mutex_lock(&breaker->lock);
    const uint64_t now = clock_ms();
    const unsigned failures = atomic_load_explicit(&breaker->failures, memory_order_relaxed) + 1;
    atomic_store_explicit(
        &breaker->failures, failures < BREAKER_FAILURES ? failures : BREAKER_FAILURES, memory_order_relaxed);
    breaker->probe_ms = now + BREAKER_PROBE_MS;
    if (failures >= BREAKER_FAILURES && !breaker_is_open(breaker)) {
        breaker->opened_ms = now;
        atomic_store_explicit(&breaker->open, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&breaker->openings, 1, memory_order_relaxed);
        log_state(breaker, LOG_WARN, "store breaker opened", why, 0);
    }
    pthread_mutex_unlock(&breaker->lock);
}
