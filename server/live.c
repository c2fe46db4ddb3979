#include "server/live.h"

#include "server/clock.h"
#include "server/shadow.h"
#include "server/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A generation that was refused is tried again now and then: somebody may have repaired it in place. */
enum { RETRY_MS = 10000 };

struct live {
    struct service *service;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    bool stopping, hurried;
    struct live_generation *current;
    char refused[STORE_GENERATION_MAX], reason[512];
    uint64_t refused_ms;

    /* The watcher's alone. */
    struct live_generation *retired; /* swapped out, perhaps still read by requests */
    int last_error;                  /* of the store, so that an outage is one line in the log */
    uint64_t followed_ns;            /* when a look began that found all changes; 0: none has */

    atomic_uint_fast64_t loads, refusals, changes;
    _Atomic time_t checked;
};

/* ---- one look at the store ---- */

static void count(atomic_uint_fast64_t *counter, size_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

static void swap(struct live *live, struct live_generation *fresh)
{
    pthread_mutex_lock(&live->lock);
    struct live_generation *old = live->current;
    live->current = fresh;
    live->refused[0] = '\0';
    pthread_mutex_unlock(&live->lock);
    if (old) {
        old->next = live->retired;
        live->retired = old;
    }
    live->followed_ns = 0; /* another generation's changes */
    count(&live->loads, 1);
    struct log_line line;
    log_begin(&line, live->service->log, LOG_INFO, "generation live");
    log_text(&line, "generation", fresh->name);
    log_text(&line, "before", old ? old->name : "");
    log_int(&line, "users", (int64_t)fresh->manifest.users);
    log_int(&line, "contents", (int64_t)fresh->manifest.contents);
    log_text(&line, "dtype", live->service->config->scoring.dtype);
    log_text(&line, "kernel", scorer_kernel(fresh->scorer));
    log_int(&line, "load_ms", (int64_t)(fresh->load_seconds * 1000));
    log_end(&line);
}

static void refuse(struct live *live, const char *name, const struct err *why)
{
    if (strcmp(live->refused, name) != 0) { /* once for each generation, not once for each try */
        count(&live->refusals, 1);
        struct log_line line;
        log_begin(&line, live->service->log, LOG_ERROR, "generation refused");
        log_text(&line, "generation", name);
        log_text(&line, "going_on_with", live->current ? live->current->name : "");
        log_text(&line, "detail", why->message);
        log_end(&line);
    }
    pthread_mutex_lock(&live->lock);
    memcpy(live->refused, name, strlen(name) + 1);
    snprintf(live->reason, sizeof live->reason, "%s", why->message);
    live->refused_ms = clock_ms();
    pthread_mutex_unlock(&live->lock);
}

/* The pointer names the generation in memory (again). */
static void forget_refused(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    live->refused[0] = '\0';
    pthread_mutex_unlock(&live->lock);
}

static bool is_refused(struct live *live, const char *name)
{
    pthread_mutex_lock(&live->lock);
    const bool refused = strcmp(live->refused, name) == 0 && clock_ms() - live->refused_ms < RETRY_MS;
    pthread_mutex_unlock(&live->lock);
    return refused;
}

/* An outage is logged when it begins and when it ends. */
static void note_store(struct live *live, int code, const struct err *err)
{
    const bool failed = code < 0 && code != -ERR_NOT_FOUND;
    if (failed && live->last_error != code)
        log_err(live->service->log, LOG_WARN, "store: the live generation cannot be read", err);
    struct log_line line;
    if (!failed && live->last_error < 0 && live->last_error != -ERR_NOT_FOUND) {
        log_begin(&line, live->service->log, LOG_INFO, "store: answers again");
        log_end(&line);
    }
    if (code == -ERR_NOT_FOUND && live->last_error != code) {
        log_begin(&line, live->service->log, LOG_WARN, "store: no generation is live");
        log_end(&line);
    }
    live->last_error = code;
}

/* A change that was not there when the last look began has come since. When exactly only the store could tell, and its
 * clock is not ours: so the time until now is what following it took at most. */
static void note_delay(struct live *live, uint64_t began_ns, size_t changes)
{
    if (changes && live->followed_ns)
        metrics_observe(
            &live->service->watcher->metrics.change_delay, clock_ns() - live->followed_ns, changes);
    if (changes < LIVE_CHANGES_AT_ONCE)
        live->followed_ns = began_ns;
}

/* What has changed inside the generation in memory. ERR_NOT_FOUND: that cannot be told any more. */
static int follow(struct live *live, struct err *err)
{
    size_t changes = 0;
    const uint64_t began_ns = clock_ns();
    const int code = live_generation_follow(live->current, live->service->watcher, &changes, err);
    if (code < 0)
        worker_note_store(live->service->watcher, code, err);
    else
        note_delay(live, began_ns, changes);
    count(&live->changes, changes);
    return code;
}

/* What was the shadow until now is in memory already. */
static void take_shadow(struct live *live, const char *name)
{
    struct live_generation *fresh = live->current && strcmp(live->current->name, name) == 0
                                        ? NULL
                                        : shadow_hand_over(live->service->shadow, name);
    if (fresh)
        swap(live, fresh);
}

/* The generation in memory is followed, where it is the one of this name; any other is loaded, and so is this one if what has
 * changed in it cannot be told any more. */
static int follow_or_load(
    struct live *live, const char *name, struct live_generation **fresh, struct err *err)
{
    if (is_refused(live, name))
        return err_set(err, ERR_CORRUPT, "generation %s was refused", name);
    const bool same = live->current && strcmp(live->current->name, name) == 0;
    int code = same ? follow(live, err) : 0;
    if (same && code != -ERR_NOT_FOUND) {
        forget_refused(live);
        return code;
    }
    code = live_generation_load(fresh, live->service->watcher, name, live->current, err);
    if (code == 0 && same)
        log_err(live->service->log, LOG_WARN, "the generation was loaded anew", err); /* err says why */
    if (code == -ERR_CORRUPT)
        refuse(live, name, err);
    return code;
}

int live_poll(struct live *live, struct err *err)
{
    char name[STORE_GENERATION_MAX];
    struct err why = ERR_INIT;
    live_generation_sweep(&live->retired);
    if (!breaker_allows(&live->service->breaker))
        return err_set(err, ERR_UNAVAILABLE, "the store is away, and the next probe is not due yet");
    int code = store_live(live->service->watcher->link, name, &why);
    worker_note_store(live->service->watcher, code, &why);
    struct live_generation *fresh = NULL;
    if (code == 0)
        take_shadow(live, name);
    if (code == 0)
        code = follow_or_load(live, name, &fresh, &why);
    note_store(live, code == -ERR_CORRUPT ? 0 : code, &why);
    if (code < 0)
        return err_set(err, (enum err_code) - code, "%s", why.message);
    if (fresh)
        swap(live, fresh);
    atomic_store_explicit(&live->checked, time(NULL), memory_order_relaxed);
    return 0;
}

/* ---- life ---- */

static void *watch(void *ctx)
{
    struct live *live = ctx;
    const long poll_ms = live->service->config->store.poll_ms;
    pthread_setname_np(pthread_self(), "watcher");
    pthread_mutex_lock(&live->lock);
    while (!live->stopping) {
        pthread_mutex_unlock(&live->lock);
        live_poll(live, NULL);
        const struct timespec next = clock_timespec(clock_ns() + (uint64_t)poll_ms * 1000000);
        pthread_mutex_lock(&live->lock);
        while (
            !live->stopping && !live->hurried && pthread_cond_timedwait(&live->wake, &live->lock, &next) == 0)
            ;
        live->hurried = false;
    }
    pthread_mutex_unlock(&live->lock);
    return NULL;
}

int live_new(struct live **out, struct service *service, struct err *err)
{
    struct live *live = calloc(1, sizeof *live);
    if (!live)
        return err_set(err, ERR_NOMEM, "no memory for the live generation");
    live->service = service;
    clock_cond_init(&live->wake);
    pthread_mutex_init(&live->lock, NULL);
    *out = live;
    return 0;
}

int live_start(struct live *live, struct err *err)
{
    errno = pthread_create(&live->thread, NULL, watch, live);
    if (errno)
        return err_errno(err, "start the thread that watches the live pointer");
    live->started = true;
    return 0;
}

void live_hurry(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    live->hurried = true;
    live->refused_ms = 0;
    pthread_cond_signal(&live->wake);
    pthread_mutex_unlock(&live->lock);
}

void live_stop(struct live *live)
{
    if (!live || !live->started)
        return;
    pthread_mutex_lock(&live->lock);
    live->stopping = true;
    pthread_cond_signal(&live->wake);
    pthread_mutex_unlock(&live->lock);
    pthread_join(live->thread, NULL);
    live->started = false;
}

void live_free(struct live *live)
{
    if (!live)
        return;
    live_generation_free(live->current);
    while (live->retired) {
        struct live_generation *next = live->retired->next;
        live_generation_free(live->retired);
        live->retired = next;
    }
    pthread_cond_destroy(&live->wake);
    pthread_mutex_destroy(&live->lock);
    free(live);
}

struct live_generation *live_acquire(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    struct live_generation *generation = live->current;
    if (generation)
        live_generation_hold(generation);
    pthread_mutex_unlock(&live->lock);
    return generation;
}

void live_release(struct live_generation *generation)
{
    if (generation)
        live_generation_release(generation);
}

void live_stats(struct live *live, struct live_stats *out)
{
    *out = (struct live_stats){
        .loads = atomic_load_explicit(&live->loads, memory_order_relaxed),
        .refusals = atomic_load_explicit(&live->refusals, memory_order_relaxed),
        .changes = atomic_load_explicit(&live->changes, memory_order_relaxed),
        .checked = atomic_load_explicit(&live->checked, memory_order_relaxed),
    };
    pthread_mutex_lock(&live->lock);
    memcpy(out->refused, live->refused, sizeof out->refused);
    memcpy(out->reason, live->reason, sizeof out->reason);
    pthread_mutex_unlock(&live->lock);
}
