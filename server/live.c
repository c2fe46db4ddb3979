#include "server/live.h"

#include "server/clock.h"
#include "store/blob.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A generation that was refused is tried again now and then: somebody may have repaired it in place. */
enum { RETRY_MS = 10000 };

struct live {
    struct live_options options;
    struct store_link *link; /* the watcher's own */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* over current, stopping */
    pthread_cond_t wake;
    bool stopping;
    struct live_generation *current;

    /* The watcher's alone. */
    struct live_generation *retired; /* swapped out, perhaps still read by requests */
    char refused[STORE_GENERATION_MAX];
    uint64_t refused_ms;
    int last_error; /* of the store, so that an outage is one line in the log */

    atomic_uint_fast64_t loads, refusals, store_errors;
};

/* ---- loading ---- */

static void generation_free(struct live_generation *generation)
{
    if (!generation)
        return;
    hot_free(generation->hot);
    catalogue_free(generation->catalogue);
    free(generation->score_proj);
    free(generation->default_user);
    free(generation);
}

struct matrix_reading {
    struct blob_spec spec;
    float *matrix;
    bool found;
    enum blob_reason reason;
};

static int take_matrix(void *ctx, size_t index, const void *data, size_t len)
{
    (void)index;
    struct matrix_reading *reading = ctx;
    reading->found = data != NULL;
    if (data)
        reading->reason = blob_decode(reading->matrix, &reading->spec, data, len);
    return 0;
}

/* Read the one matrix of a kind that has the empty id; NULL if it is not there. what names it in messages. */
static int read_matrix(float **out, struct store_link *link, const char *generation, enum store_kind kind,
    enum blob_kind blob, size_t rows, size_t cols, const char *what, struct err *err)
{
    size_t count;
    if (__builtin_mul_overflow(rows, cols, &count) || count > SIZE_MAX / sizeof(float))
        return err_set(err, ERR_CORRUPT, "%s of %zu x %zu does not fit into memory", what, rows, cols);
    struct matrix_reading reading = {
        .spec = {.kind = blob, .rows = rows, .cols = cols, .generation = generation, .id = "", .id_len = 0},
        .matrix = malloc(count * sizeof(float)),
    };
    if (!reading.matrix)
        return err_set(err, ERR_NOMEM, "no memory for %s", what);
    const struct store_id id = {"", 0};
    int code = store_get(link, generation, kind, &id, 1, take_matrix, &reading, err);
    if (code == 0 && reading.found && reading.reason != BLOB_OK)
        code = err_set(err, ERR_CORRUPT, "%s is damaged: %s", what, blob_reason_name(reading.reason));
    if (code < 0 || !reading.found) {
        free(reading.matrix);
        reading.matrix = NULL;
    }
    if (code < 0)
        return code;
    *out = reading.matrix;
    return 0;
}

static int generation_load(struct live_generation **out, struct live *live, const char *name, struct err *err)
{
    const uint64_t start = clock_ns();
    struct live_generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return err_set(err, ERR_NOMEM, "no memory for a generation");
    memcpy(generation->name, name, strlen(name) + 1);
    struct manifest *manifest = &generation->manifest;
    int code = manifest_get(manifest, live->link, name, err);
    if (code == -ERR_NOT_FOUND)
        code = err_set(err, ERR_CORRUPT, "the manifest is missing");
    const size_t m = manifest->m, n = manifest->n, d = manifest->d;
    if (code == 0)
        code = read_matrix(
            &generation->score_proj, live->link, name, STORE_SCORE_PROJ, BLOB_SCORE_PROJ, d, d, "W_s", err);
    if (code == 0 && !generation->score_proj)
        code = err_set(err, ERR_CORRUPT, "W_s is missing");
    /* Matrices that were made elsewhere may come without a default user. */
    if (code == 0)
        code = read_matrix(&generation->default_user, live->link, name, STORE_USER, BLOB_USER, m, d,
            "the default user", err);
    if (code == 0)
        code = hot_new(&generation->hot,
            &(struct hot_options){
                .block_bytes = 2 * n * d * sizeof(float),
                .limit_bytes = live->options.memory_bytes,
                .readers = live->options.workers,
            },
            err);
    if (code == 0)
        code = catalogue_new(&generation->catalogue, err);
    if (code < 0) {
        generation_free(generation);
        return code;
    }
    generation->loaded = time(NULL);
    generation->load_seconds = (double)(clock_ns() - start) / 1e9;
    atomic_init(&generation->users, 1);
    *out = generation;
    return 0;
}

/* ---- one look at the store ---- */

static void count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void free_retired(struct live *live)
{
    for (struct live_generation **at = &live->retired; *at;) {
        struct live_generation *generation = *at;
        if (atomic_load_explicit(&generation->users, memory_order_acquire) > 1) {
            at = &generation->next;
            continue;
        }
        *at = generation->next;
        generation_free(generation);
    }
}

static void swap(struct live *live, struct live_generation *fresh)
{
    pthread_mutex_lock(&live->lock);
    struct live_generation *old = live->current;
    live->current = fresh;
    pthread_mutex_unlock(&live->lock);
    if (old) {
        old->next = live->retired;
        live->retired = old;
    }
    count(&live->loads);
    struct log_line line;
    log_begin(&line, live->options.log, LOG_INFO, "generation live");
    log_text(&line, "generation", fresh->name);
    log_text(&line, "before", old ? old->name : "");
    log_int(&line, "users", (int64_t)fresh->manifest.users);
    log_int(&line, "contents", (int64_t)fresh->manifest.contents);
    log_end(&line);
}

static void refuse(struct live *live, const char *name, const struct err *why)
{
    if (strcmp(live->refused, name) != 0) { /* once for each generation, not once for each try */
        count(&live->refusals);
        struct log_line line;
        log_begin(&line, live->options.log, LOG_ERROR, "generation refused");
        log_text(&line, "generation", name);
        log_text(&line, "going_on_with", live->current ? live->current->name : "");
        log_text(&line, "detail", why->message);
        log_end(&line);
    }
    memcpy(live->refused, name, strlen(name) + 1);
    live->refused_ms = clock_ms();
}

/* An outage is logged when it begins and when it ends. */
static void note_store(struct live *live, int code, const struct err *err)
{
    const bool failed = code < 0 && code != -ERR_NOT_FOUND;
    if (failed)
        count(&live->store_errors);
    if (failed && live->last_error != code)
        log_err(live->options.log, LOG_WARN, "store: the live pointer cannot be read", err);
    struct log_line line;
    if (!failed && live->last_error < 0 && live->last_error != -ERR_NOT_FOUND) {
        log_begin(&line, live->options.log, LOG_INFO, "store: answers again");
        log_end(&line);
    }
    if (code == -ERR_NOT_FOUND && live->last_error != code) {
        log_begin(&line, live->options.log, LOG_WARN, "store: no generation is live");
        log_end(&line);
    }
    live->last_error = code;
}

int live_poll(struct live *live, struct err *err)
{
    char name[STORE_GENERATION_MAX];
    struct err why = ERR_INIT;
    free_retired(live);
    int code = store_live(live->link, name, &why);
    struct live_generation *fresh = NULL;
    if (code == 0 && !(live->current && strcmp(live->current->name, name) == 0)) {
        if (strcmp(live->refused, name) == 0 && clock_ms() - live->refused_ms < RETRY_MS)
            return err_set(err, ERR_CORRUPT, "generation %s was refused", name);
        code = generation_load(&fresh, live, name, &why);
        if (code == -ERR_CORRUPT)
            refuse(live, name, &why);
    }
    note_store(live, code == -ERR_CORRUPT ? 0 : code, &why);
    if (code < 0)
        return err_set(err, (enum err_code) - code, "%s", why.message);
    if (fresh) {
        live->refused[0] = '\0';
        swap(live, fresh);
    }
    return 0;
}

/* ---- life ---- */

static void *watch(void *ctx)
{
    struct live *live = ctx;
    const long poll_ms = live->options.poll_ms;
    pthread_mutex_lock(&live->lock);
    while (!live->stopping) {
        pthread_mutex_unlock(&live->lock);
        live_poll(live, NULL);
        struct timespec next;
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_nsec += poll_ms % 1000 * 1000000;
        next.tv_sec += poll_ms / 1000 + next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        pthread_mutex_lock(&live->lock);
        while (!live->stopping && pthread_cond_timedwait(&live->wake, &live->lock, &next) == 0)
            ;
    }
    pthread_mutex_unlock(&live->lock);
    return NULL;
}

int live_new(struct live **out, const struct live_options *options, struct err *err)
{
    struct live *live = calloc(1, sizeof *live);
    if (!live)
        return err_set(err, ERR_NOMEM, "no memory for the live generation");
    live->options = *options;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&live->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&live->lock, NULL);
    const int code = store_connect(&live->link, options->store, err);
    if (code < 0) {
        live_free(live);
        return code;
    }
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

void live_free(struct live *live)
{
    if (!live)
        return;
    if (live->started) {
        pthread_mutex_lock(&live->lock);
        live->stopping = true;
        pthread_cond_signal(&live->wake);
        pthread_mutex_unlock(&live->lock);
        pthread_join(live->thread, NULL);
    }
    generation_free(live->current);
    while (live->retired) {
        struct live_generation *next = live->retired->next;
        generation_free(live->retired);
        live->retired = next;
    }
    store_disconnect(live->link);
    pthread_cond_destroy(&live->wake);
    pthread_mutex_destroy(&live->lock);
    free(live);
}

struct live_generation *live_acquire(struct live *live)
{
    pthread_mutex_lock(&live->lock);
    struct live_generation *generation = live->current;
    if (generation)
        atomic_fetch_add_explicit(&generation->users, 1, memory_order_relaxed);
    pthread_mutex_unlock(&live->lock);
    return generation;
}

void live_release(struct live_generation *generation)
{
    if (generation)
        atomic_fetch_sub_explicit(&generation->users, 1, memory_order_release);
}

void live_stats(struct live *live, struct live_stats *out)
{
    *out = (struct live_stats){
        .loads = atomic_load_explicit(&live->loads, memory_order_relaxed),
        .refusals = atomic_load_explicit(&live->refusals, memory_order_relaxed),
        .store_errors = atomic_load_explicit(&live->store_errors, memory_order_relaxed),
    };
}
