/* A thread of its own and not the one that watches the live pointer: loading takes long, and what happens to the live generation meanwhile must not
 * wait for it. It reads by a link of its own, and writes by another, of a store opened for that alone: where an embedded store
 * is being written to by a process that has been stopped, a writer waits without end, and what it uses is left to it then. */
#include "server/clock.h"
#include "server/shadow_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    RETRY_MS = 10000, /* a generation that was refused is tried again: somebody may have repaired it */
    SAVE_MS = 5000,
    PATIENCE_MS = 2000, /* with a call that writes, at the end */
};

/* ---- what is in memory ---- */

static void log_change(struct shadow *shadow, const char *message, const char *name, const struct err *why)
{
    struct log_line line;
    log_begin(&line, shadow->service->log, why ? LOG_WARN : LOG_INFO, message);
    log_text(&line, "generation", name);
    if (why)
        log_text(&line, "detail", why->message);
    log_end(&line);
}

static void set_current(struct shadow *shadow, struct live_generation *fresh)
{
    pthread_mutex_lock(&shadow->lock);
    struct live_generation *old = shadow->current;
    shadow->current = fresh;
    shadow->working[0] = '\0';
    if (fresh)
        atomic_store(&shadow->seed, XXH3_64bits(fresh->name, strlen(fresh->name)));
    atomic_store(&shadow->present, fresh && !atomic_load(&shadow->stopping));
    pthread_cond_broadcast(&shadow->changed);
    pthread_mutex_unlock(&shadow->lock);
    if (old && old != fresh) {
        old->next = shadow->retired;
        shadow->retired = old;
        log_change(shadow, "shadow given up", old->name, NULL);
    }
}

/* The generation of this name is in hand from now on: whoever wants it waits. It is returned if it is the current one. */
static struct live_generation *begin_work(struct shadow *shadow, const char *name)
{
    pthread_mutex_lock(&shadow->lock);
    struct live_generation *current = shadow->current;
    if (current && strcmp(current->name, name) != 0)
        current = NULL;
    memcpy(shadow->working, name, strlen(name) + 1);
    pthread_mutex_unlock(&shadow->lock);
    return current;
}

static void end_work(struct shadow *shadow)
{
    pthread_mutex_lock(&shadow->lock);
    shadow->working[0] = '\0';
    pthread_cond_broadcast(&shadow->changed);
    pthread_mutex_unlock(&shadow->lock);
}

struct live_generation *shadow_hand_over(struct shadow *shadow, const char *name)
{
    struct live_generation *taken = NULL;
    if (!shadow)
        return NULL;
    pthread_mutex_lock(&shadow->lock);
    while (strcmp(shadow->working, name) == 0)
        pthread_cond_wait(&shadow->changed, &shadow->lock);
    if (shadow->current && strcmp(shadow->current->name, name) == 0) {
        taken = shadow->current;
        shadow->current = NULL;
        atomic_store(&shadow->present, false);
    }
    pthread_mutex_unlock(&shadow->lock);
    return taken;
}

static bool is_current(struct shadow *shadow, const char *name)
{
    pthread_mutex_lock(&shadow->lock);
    const bool current = shadow->current && strcmp(shadow->current->name, name) == 0;
    pthread_mutex_unlock(&shadow->lock);
    return current;
}

/* ---- which it should be ---- */

/* Names begin with the time at which their generation was made; within a second their order means nothing. */
enum { NAME_TIME = sizeof "20261124T030000Z" - 1 };

/* NULL: none. The one that is named, unless it is live or not complete; or the newest that is ready. */
static const struct store_generation *choose(
    const struct shadow *shadow, const struct store_generation *rows, size_t count)
{
    const char *name = shadow->service->config->shadow.generation;
    const struct store_generation *best = NULL, *live = NULL;
    for (size_t i = 0; i < count; i++)
        if (rows[i].state == STORE_LIVE)
            live = &rows[i];
    for (size_t i = 0; live && i < count; i++) { /* oldest name first */
        const struct store_generation *row = &rows[i];
        const bool older = strncmp(row->name, live->name, NAME_TIME) < 0;
        if (*name ? strcmp(row->name, name) == 0 && (row->state == STORE_READY || row->state == STORE_RETIRED)
                  : row->state == STORE_READY && !older)
            best = row;
    }
    return best;
}

/* Has the generation in memory become live? Then it stays until the watcher takes it over, unless that has loaded it for
 * itself. */
static bool awaits_hand_over(struct shadow *shadow, const struct store_generation *rows, size_t count)
{
    bool awaits = false;
    for (size_t i = 0; i < count; i++)
        awaits |= rows[i].state == STORE_LIVE && is_current(shadow, rows[i].name);
    if (!awaits)
        return false;
    struct live_generation *live = live_acquire(shadow->service->live);
    awaits = !live || !is_current(shadow, live->name);
    live_release(live);
    return awaits;
}

/* ---- one look at the store ---- */

static void refuse(struct shadow *shadow, const char *name, const struct err *why)
{
    if (strcmp(shadow->refused, name) != 0) { /* once for each generation, not once for each try */
        atomic_fetch_add_explicit(&shadow->refusals, 1, memory_order_relaxed);
        log_change(shadow, "shadow refused", name, why);
    }
    memcpy(shadow->refused, name, strlen(name) + 1);
    shadow->refused_ms = clock_ms();
}

static int load(struct shadow *shadow, const char *name, struct err *err)
{
    struct live_generation *fresh = NULL, *live = live_acquire(shadow->service->live);
    const int code = live_generation_load(&fresh, shadow->service->shadow_watcher, name, live, err);
    live_release(live);
    if (code == -ERR_CORRUPT)
        refuse(shadow, name, err);
    if (code < 0) {
        end_work(shadow);
        return code;
    }
    shadow->refused[0] = '\0';
    atomic_fetch_add_explicit(&shadow->loads, 1, memory_order_relaxed);
    set_current(shadow, fresh); /* it may be another's by now */
    log_change(shadow, "shadow loaded", name, NULL);
    return 0;
}

/* The generation of this name is to be in memory as it is in the store. */
static int load_or_follow(struct shadow *shadow, const char *name, struct err *err)
{
    struct worker *watcher = shadow->service->shadow_watcher;
    size_t changes;
    struct live_generation *current = begin_work(shadow, name);
    if (current) {
        const int code = live_generation_follow(current, watcher, &changes, err);
        if (code != -ERR_NOT_FOUND) {
            end_work(shadow);
            if (code < 0)
                worker_note_store(watcher, code, err);
            return code;
        }
        end_work(shadow);
    }
    set_current(shadow, NULL); /* before another one is loaded: there is memory for one */
    live_generation_sweep(&shadow->retired);
    if (strcmp(shadow->refused, name) == 0 && clock_ms() - shadow->refused_ms < RETRY_MS)
        return err_set(err, ERR_CORRUPT, "generation %s was refused", name);
    begin_work(shadow, name);
    return load(shadow, name, err);
}

int shadow_poll(struct shadow *shadow, struct err *err)
{
    struct service *service = shadow->service;
    struct store_generation *rows = NULL;
    size_t count = 0;
    struct err why = ERR_INIT;
    live_generation_sweep(&shadow->retired);
    if (!breaker_allows(&service->breaker))
        return err_set(err, ERR_UNAVAILABLE, "the store is away, and the next probe is not due yet");
    int code = store_generations(service->shadow_watcher->link, &rows, &count, &why);
    worker_note_store(service->shadow_watcher, code, &why);
    if (code == 0 && !awaits_hand_over(shadow, rows, count)) {
        const struct store_generation *wanted = choose(shadow, rows, count);
        if (wanted)
            code = load_or_follow(shadow, wanted->name, &why);
        else
            set_current(shadow, NULL);
    }
    free(rows);
    return code < 0 ? err_set(err, (enum err_code) - code, "%s", why.message) : 0;
}

/* ---- life ---- */

/* True: it is to end. */
static bool pause_for(struct shadow *shadow, long ms)
{
    const struct timespec until = clock_timespec(clock_ns() + (uint64_t)ms * 1000000);
    pthread_mutex_lock(&shadow->lock);
    while (!atomic_load(&shadow->stopping) &&
           pthread_cond_timedwait(&shadow->changed, &shadow->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&shadow->lock);
    return atomic_load(&shadow->stopping);
}

/* What has been given up on ends without a look at the service. */
static bool end(struct shadow *shadow, bool asked)
{
    pthread_mutex_lock(&shadow->lock);
    shadow->ended = asked || shadow->abandoned;
    const bool ended = shadow->ended;
    pthread_cond_broadcast(&shadow->changed);
    pthread_mutex_unlock(&shadow->lock);
    return ended;
}

static void *watch(void *ctx)
{
    struct shadow *shadow = ctx;
    const long poll_ms = shadow->service->config->store.poll_ms;
    uint64_t saved_ms = clock_ms();
    bool stopping;
    pthread_setname_np(pthread_self(), "shadow");
    do {
        shadow_poll(shadow, NULL);
        stopping = pause_for(shadow, poll_ms);
        if ((stopping || clock_ms() - saved_ms >= SAVE_MS) && !breaker_is_open(&shadow->service->breaker)) {
            shadow_save(shadow, NULL);
            saved_ms = clock_ms();
        }
    } while (!end(shadow, stopping));
    return NULL;
}

/* Whoever may not have less of the processor than others has the same. */
static int start_ranker(struct shadow *shadow, struct err *err)
{
    const struct sched_param none = {0};
    errno = pthread_create(&shadow->ranker, NULL, shadow_rank_all, shadow);
    if (errno)
        return err_errno(err, "start the thread that ranks the shadow generation");
    shadow->ranks = true;
    errno = pthread_setschedparam(shadow->ranker, SCHED_IDLE, &none);
    struct err why = ERR_INIT;
    if (errno) {
        err_errno(&why, "SCHED_IDLE");
        log_err(shadow->service->log, LOG_WARN, "shadow: it gets as much of the processor as requests", &why);
    }
    return 0;
}

int shadow_new(struct shadow **out, struct service *service, struct err *err)
{
    if (!(service->config->shadow.share > 0))
        return 0;
    struct shadow *shadow = calloc(1, sizeof *shadow);
    if (!shadow)
        return err_set(err, ERR_NOMEM, "no memory for the shadow generation");
    shadow->service = service;
    pthread_mutex_init(&shadow->lock, NULL);
    clock_cond_init(&shadow->changed);
    sem_init(&shadow->ready, 0, 0);
    for (size_t i = 0; i < SHADOW_QUEUE; i++)
        shadow->samples[i].shadow = shadow;
    *out = shadow;
    int code = worker_open_store(&shadow->store, service->config, err);
    if (code == 0)
        code = store_connect(&shadow->link, shadow->store, err);
    return code == 0 ? start_ranker(shadow, err) : code;
}

int shadow_start(struct shadow *shadow, struct err *err)
{
    if (!shadow)
        return 0;
    errno = pthread_create(&shadow->watcher, NULL, watch, shadow);
    if (errno)
        return err_errno(err, "start the thread that watches the shadow generation");
    shadow->watches = true;
    return 0;
}

/* Does the thread end, or is it lost in a call that writes? */
static bool await_end(struct shadow *shadow)
{
    pthread_mutex_lock(&shadow->lock);
    while (!shadow->ended && !shadow->abandoned) {
        const uint64_t since_ms = shadow->saving_ms, now_ms = clock_ms();
        const struct timespec until = clock_timespec(clock_ns() + (uint64_t)PATIENCE_MS * 1000000 / 20);
        if (since_ms && now_ms - since_ms > PATIENCE_MS)
            shadow->abandoned = true;
        else
            pthread_cond_timedwait(&shadow->changed, &shadow->lock, &until);
    }
    const bool ended = shadow->ended;
    pthread_mutex_unlock(&shadow->lock);
    return ended;
}

void shadow_stop(struct shadow *shadow)
{
    if (!shadow)
        return;
    pthread_mutex_lock(&shadow->lock);
    atomic_store(&shadow->present, false);
    atomic_store(&shadow->stopping, true);
    pthread_cond_broadcast(&shadow->changed);
    pthread_mutex_unlock(&shadow->lock);
    sem_post(&shadow->ready);
    if (shadow->ranks)
        pthread_join(shadow->ranker, NULL);
    if (shadow->watches && await_end(shadow))
        pthread_join(shadow->watcher, NULL);
    shadow->ranks = shadow->watches = false;
}

void shadow_free(struct shadow *shadow)
{
    if (!shadow)
        return;
    live_generation_free(shadow->current);
    while (shadow->retired) {
        struct live_generation *next = shadow->retired->next;
        live_generation_free(shadow->retired);
        shadow->retired = next;
    }
    for (size_t i = 0; i < SHADOW_QUEUE; i++) {
        catalogue_release(shadow->samples[i].catalogue); /* of one that came when nobody ranked any more */
        arena_done(&shadow->samples[i].arena);
    }
    if (shadow->abandoned) /* the watcher is still at it, and the process about to end */
        return;
    shadow_figures_free(atomic_load(&shadow->figures));
    store_disconnect(shadow->link);
    store_close(shadow->store);
    sem_destroy(&shadow->ready);
    pthread_cond_destroy(&shadow->changed);
    pthread_mutex_destroy(&shadow->lock);
    free(shadow);
}
